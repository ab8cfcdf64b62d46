//! Pure: does the far end still talk to us? It may answer every check and yet send its RTCP to a socket that is gone: then
//! media flows, and no wish for a keyframe or a packet ever arrives. A fresh anchor brings it back.
//!
//! How often a far end reports is its own affair (Janus and str0m several times a second, others every five): it is measured
//! against what it did before. One that has never reported is not waited for. Each try doubles the wait for the next.

use std::time::{Duration, Instant};

/// So many times the usual pause is no pause any more, within these bounds.
const PAUSES: u32 = 5;
const SILENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// Reports that must have come before their absence means anything.
const REPORTS_MIN: u32 = 5;
/// Tries in vain.
const TRIES_MAX: u32 = 6;
/// Tries are forgiven when reports have come for so long after the last.
const FORGIVE_AFTER: Duration = Duration::from_secs(30);
/// A pause that was longer than usual is forgotten after so many times its length.
const FADING: u32 = 16;
/// A report that comes so soon after a try comes because of it.
const MENDED_WITHIN: Duration = Duration::from_secs(2);

/// How RTCP comes.
#[derive(Debug, Default)]
pub(super) struct Ears {
    /// When any came last, on any path.
    last: Option<Instant>,
    /// The longest of the recent pauses.
    usual: Duration,
    reports: u32,
    /// When it came last on the path in use, or was not due.
    here: Option<Instant>,
    /// No media leaves: the far end has nothing to report.
    pausing: bool,
    tries: u32,
    tried: Option<Instant>,
}

impl Ears {
    /// RTCP has come; `here`: where media leaves.
    pub(super) fn hear(&mut self, now: Instant, here: bool) {
        let mended = self.tried.is_some_and(|tried| now.saturating_duration_since(tried) < MENDED_WITHIN);
        if let Some(last) = self.last.replace(now).filter(|_| !self.pausing && !mended) {
            let pause = now.saturating_duration_since(last).min(SILENCE.1 / PAUSES);
            self.usual = pause.max(self.usual.saturating_sub(pause / FADING));
        }
        self.reports = self.reports.saturating_add(1);
        if here {
            self.here = Some(now);
            if self.tried.is_some_and(|tried| now.saturating_duration_since(tried) >= FORGIVE_AFTER) {
                (self.tries, self.tried) = (0, None);
            }
        }
    }

    /// Whether media leaves just now.
    pub(super) fn media(&mut self, flows: bool) {
        if self.pausing && flows {
            // The wait begins anew.
            (self.here, self.last) = (None, None);
        }
        self.pausing = !flows;
    }

    /// A fresh anchor was made for its sake.
    pub(super) fn tried(&mut self, now: Instant) {
        self.tries += 1;
        self.tried = Some(now);
    }

    /// The far end has confirmed the path in use at this time, answers there, and yet no RTCP has come for too long.
    pub(super) fn is_deaf(&mut self, now: Instant, confirmed: Option<Instant>) -> bool {
        let Some(confirmed) = confirmed.filter(|_| !self.pausing) else { return false };
        let here = *self.here.get_or_insert(now);
        let waited = now.saturating_duration_since(here.max(confirmed).max(self.tried.unwrap_or(confirmed)));
        let patience = (self.usual * PAUSES).clamp(SILENCE.0, SILENCE.1) * 2_u32.pow(self.tries);
        self.reports >= REPORTS_MIN && self.tries < TRIES_MAX && waited >= patience
    }
}
