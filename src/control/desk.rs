//! The desk behind the windows: every wish of an operator, whoever brings it - the API or a signal.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;
use tracing::info;

use super::feed::{Report, View};
use super::settings::Settings;
use crate::config::file::File;
use crate::config::{self, Complaint, Complaints, Config};
use crate::inbox::Inbox;
use crate::supervisor::event::{Command, Event};

/// Reads the text of the config; one sentence when it cannot.
pub type Read = Box<dyn Fn() -> Result<String, String> + Send + Sync>;
/// Gives the log another `log.level`.
pub type LogLevel = Box<dyn Fn(&str) + Send + Sync>;

/// Where the config comes from, so that it can be read again.
pub struct Origin {
    /// Shown in complaints and in the status: usually the path.
    pub name: String,
    /// The text as it was read at the start.
    pub text: String,
    /// Every key of it and of the environment.
    pub file: File,
    /// The environment at the start.
    pub env: Vec<(String, String)>,
    /// For a reload.
    pub read: Read,
    /// Does this address belong to this machine just now?
    pub is_own: fn(IpAddr) -> bool,
    /// For a change of `log.level`.
    pub log_level: LogLevel,
}

/// Why a wish is not fulfilled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// As HTTP puts it.
    pub status: StatusCode,
    /// One sentence.
    pub words: String,
    /// Complaints as `roamcast check` draws them.
    pub details: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, words: impl Into<String>) -> Self {
        Self { status, words: words.into(), details: None }
    }
}

/// Takes wishes; the deeds are the brain's.
pub struct Desk {
    pub(super) view: View,
    inbox: Inbox,
    /// `broadcast.name`.
    title: String,
    /// Name of the config.
    name: String,
    env: Vec<(String, String)>,
    read: Read,
    is_own: fn(IpAddr) -> bool,
    log_level: LogLevel,
    settings: Mutex<Settings>,
}

impl Desk {
    /// A desk for a broadcast that runs with `config`, made of what `origin` says.
    #[must_use]
    pub fn new(config: &Config, origin: Origin, inbox: Inbox, view: View) -> Self {
        let Origin { name, text, file, env, read, is_own, log_level } = origin;
        let settings = Settings { text, set: BTreeMap::new(), file, policy: config.policy.clone() };
        let title = config.name.clone();
        Self { view, inbox, title, name, env, read, is_own, log_level, settings: Mutex::new(settings) }
    }

    /// What is true just now.
    #[must_use]
    pub fn report(&self) -> Report {
        self.view.report(&self.title, &self.name)
    }

    /// Goes on air.
    pub fn start(&self) {
        self.wish("start", Command::Start);
    }

    /// Leaves the air; the process stays.
    pub fn stop(&self) {
        self.wish("stop", Command::Stop);
    }

    /// Tries again now, or replaces a live session.
    ///
    /// # Errors
    /// There is nothing to reconnect.
    pub fn reconnect(&self) -> Result<(), Refusal> {
        if self.view.status().broadcast.is_none() {
            let words = "there is nothing to reconnect: the broadcast is off air; `roamcast start` goes on air";
            return Err(Refusal::new(StatusCode::CONFLICT, words));
        }
        self.wish("reconnect", Command::Reconnect);
        Ok(())
    }

    fn wish(&self, name: &str, command: Command) {
        info!("an operator wants: {name}");
        self.inbox.post(Event::Command(command));
    }

    /// Gives one key another value until the next reload or restart. Names the keys that have changed.
    ///
    /// # Errors
    /// The complaints of the front door, or that the key needs a restart. Nothing has changed then.
    pub fn set(&self, key: &str, value: &str) -> Result<Vec<String>, Refusal> {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut set = settings.set.clone();
        set.retain(|other, _| !config::is_same_key(other, key));
        set.insert(key.to_owned(), value.to_owned());
        let text = settings.text.clone();
        self.take(&mut settings, text, set)
    }

    /// Reads the config again; what was set by [`Desk::set`] is forgotten. Names the keys that have changed. Reads a file:
    /// may block.
    ///
    /// # Errors
    /// As for [`Desk::set`].
    pub fn reload(&self) -> Result<Vec<String>, Refusal> {
        let text = (self.read)()
            .map_err(|words| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{words}; nothing was changed")))?;
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        self.take(&mut settings, text, BTreeMap::new())
    }

    fn take(
        &self,
        settings: &mut Settings,
        text: String,
        set: BTreeMap<String, String>,
    ) -> Result<Vec<String>, Refusal> {
        let loaded = config::load_with(&text, &self.name, self.env.iter().cloned(), &set, self.is_own)
            .map_err(|all| refused(&all))?;
        let change = settings.take(text, set, loaded).map_err(|words| Refusal::new(StatusCode::CONFLICT, words))?;
        if let Some(policy) = change.policy {
            self.inbox.post(Event::Command(Command::Policy(Box::new(policy))));
        }
        if let Some(level) = change.log_level {
            (self.log_level)(&level);
        }
        if !change.keys.is_empty() {
            info!("an operator has changed {}", change.keys.join(", "));
        }
        Ok(change.keys)
    }
}

/// The same words as `roamcast check` has.
fn refused(complaints: &Complaints) -> Refusal {
    let sentence = |one: &Complaint| match &one.help {
        Some(help) => format!("{} ({help})", one.words),
        None => one.words.clone(),
    };
    let first = complaints.iter().next().map(sentence).unwrap_or_default();
    let words = match complaints.iter().len() {
        0 | 1 => first,
        count => format!("{first}, and {} more complaints; nothing was changed", count - 1),
    };
    Refusal { details: Some(complaints.to_string()), ..Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, words) }
}
