//! Pure: which settings may change while media flows, and which need a restart.

use std::collections::BTreeMap;

use crate::config::file::File;
use crate::config::{Config, Loaded, changed_keys};
use crate::supervisor::policy::Policy;

/// Sections and keys whose values live in the brain, or in the log, and nowhere else.
const LIVE: &[&str] = &["reconnect.", "signalling.", "mediaPlane.", "fallback.retryDelay", "log.level"];

/// What the encoder runs with just now.
// No `Debug`: the text may hold a token.
pub(super) struct Settings {
    /// The text of the config, as it was last taken.
    pub(super) text: String,
    /// What operators have set since then.
    pub(super) set: BTreeMap<String, String>,
    /// Every key of both.
    pub(super) file: File,
    /// The numbers of the brain.
    pub(super) policy: Policy,
}

/// What follows from new settings that were taken.
#[derive(Debug, PartialEq)]
pub(super) struct Change {
    /// Every key that has another value now.
    pub(super) keys: Vec<String>,
    /// New numbers for the brain.
    pub(super) policy: Option<Policy>,
    /// A new `log.level`.
    pub(super) log_level: Option<String>,
}

impl Settings {
    /// Takes other settings whole, or not at all.
    ///
    /// # Errors
    /// One sentence that names the keys that need a restart.
    pub(super) fn take(&mut self, text: String, set: BTreeMap<String, String>, new: Loaded) -> Result<Change, String> {
        let keys = changed_keys(&self.file, &new.file);
        let is_live = |key: &&String| LIVE.iter().any(|live| key.starts_with(live));
        let frozen: Vec<String> = keys.iter().filter(|key| !is_live(key)).map(|key| format!("`{key}`")).collect();
        if !frozen.is_empty() {
            return Err(format!(
                "{} cannot change while the encoder runs: restart it; nothing was changed",
                frozen.join(", ")
            ));
        }
        let Config { policy, log, .. } = new.config;
        // These two follow from the uplink, which has not changed; the demo has a server of its own.
        let Policy { watches_consent, needs_network, endpoints, .. } = self.policy;
        let policy = Policy { watches_consent, needs_network, endpoints, ..policy };
        let change = Change {
            policy: Some(policy.clone()).filter(|policy| *policy != self.policy),
            log_level: keys.iter().any(|key| key == "log.level").then_some(log.level),
            keys,
        };
        *self = Self { text, set, file: new.file, policy };
        Ok(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_with;
    use crate::supervisor::policy::Retries;

    fn loaded(text: &str) -> Loaded {
        load_with(text, "", std::iter::empty(), &BTreeMap::new(), |_| false).unwrap()
    }

    fn settings(text: &str) -> Settings {
        let Loaded { config, file } = loaded(text);
        Settings { text: text.into(), set: BTreeMap::new(), file, policy: config.policy }
    }

    fn take(settings: &mut Settings, text: &str) -> Result<Change, String> {
        settings.take(text.into(), BTreeMap::new(), loaded(text))
    }

    #[test]
    fn numbers_of_the_brain_change_at_once() {
        let mut settings = settings("");
        let change = take(&mut settings, "[reconnect]\nmaxRetries = 20\n[signalling]\njitter = 0\n").unwrap();
        assert_eq!(change.keys, ["reconnect.maxRetries", "signalling.jitter"]);
        assert_eq!(change.policy.unwrap().max_retries, Retries::AtMost(20));
        assert_eq!(change.log_level, None);
        let again = take(&mut settings, "[reconnect]\nmaxRetries = 20\n[signalling]\njitter = 0\n").unwrap();
        assert_eq!(again, Change { keys: Vec::new(), policy: None, log_level: None });
    }

    #[test]
    fn what_needs_a_restart_is_named_and_nothing_else_is_taken() {
        let mut settings = settings("");
        let refused =
            take(&mut settings, "[video]\nwidth = 640\n[reconnect]\nmaxRetries = 20\n[uplink]\ntoken = \"t\"");
        let words =
            "`uplink.token`, `video.width` cannot change while the encoder runs: restart it; nothing was changed";
        assert_eq!(refused, Err(words.into()));
        assert_eq!((settings.policy.max_retries, settings.text.as_str()), (Retries::AtMost(10), ""));
    }

    #[test]
    fn the_log_level_is_for_the_log_alone() {
        let change = take(&mut settings(""), "[log]\nlevel = \"debug\"").unwrap();
        assert_eq!((change.policy, change.log_level.as_deref()), (None, Some("debug")));
    }

    #[test]
    fn what_follows_from_the_server_in_use_stays() {
        let mut settings = settings("");
        settings.policy.needs_network = true;
        let change = take(&mut settings, "[mediaPlane]\nstatusGrace = 2").unwrap();
        assert!(change.policy.unwrap().needs_network);
    }

    /// A key that is called live but is not in the policy would be taken and do nothing.
    #[test]
    fn every_live_key_reaches_the_brain_or_the_log() {
        for line in [
            "[reconnect]\nminDelay = 1",
            "[reconnect]\nmaxDelay = 16",
            "[reconnect]\nmaxRetries = 11",
            "[reconnect]\ngiveUpAfter = 60",
            "[reconnect]\nstuckAfter = 31",
            "[signalling]\nkeepMediaOnLoss = false",
            "[signalling]\nminDelay = 1",
            "[signalling]\nmaxDelay = 31",
            "[signalling]\njitter = 0.3",
            "[signalling]\nmaxAttempts = 101",
            "[signalling]\ninactivityTimeout = 61",
            "[mediaPlane]\ndisconnectedTimeout = 5",
            "[mediaPlane]\nstatusGrace = 2",
            "[fallback]\nretryDelay = 3",
        ] {
            assert!(take(&mut settings(""), line).unwrap().policy.is_some(), "{line}");
        }
    }
}
