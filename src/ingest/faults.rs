//! Faults on demand (`roamcast ingest --faults`), as docs/signalling.md lists them: `POST /faults/<name>`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::header::{self};
use axum::http::{HeaderValue, StatusCode};

use crate::signal::roamcast::text::IceServer;

use super::media;
use super::refusal::Refusal;

/// The faults that happen before the media loop.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Ordered>);

#[derive(Debug, Default)]
pub(super) struct Ordered {
    pub(super) refused: BTreeMap<String, Refused>,
    pub(super) refused_patch: BTreeMap<String, StatusCode>,
    pub(super) ice_servers: BTreeMap<String, Vec<IceServer>>,
    /// A token, and the name that it is good for.
    pub(super) added: Vec<(String, String)>,
    /// A token, and when it expires.
    pub(super) expiring: BTreeMap<String, Instant>,
}

#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<u32>,
    pub(super) times: u32,
}

impl Faults {
    pub(super) fn lock(&self) -> MutexGuard<'_, Ordered> {
        // Whoever panicked with it left no half-done change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is this request one to be refused?
    pub(super) fn refuse(&self, name: &str) -> Result<(), Refusal> {
        let mut ordered = self.lock();
        let Some(refused) = ordered.refused.get_mut(name).filter(|refused| refused.times > 0) else { return Ok(()) };
        refused.times -= 1;
        let refusal = Refusal::new(refused.status, "a fault that was asked for");
        Err(match refused.retry_after {
            Some(seconds) => refusal.with(header::RETRY_AFTER, HeaderValue::from(seconds)),
            None => refusal,
        })
    }

    /// Is a PATCH to be refused?
    pub(super) fn refuse_patch(&self, name: &str) -> Result<(), Refusal> {
        let status = self.lock().refused_patch.get(name).copied();
        status.map_or(Ok(()), |status| Err(Refusal::new(status, "a fault that was asked for")))
    }

    /// The STUN and TURN servers to name to the publisher of this name.
    pub(super) fn ice_servers(&self, name: &str) -> Vec<IceServer> {
        self.lock().ice_servers.get(name).cloned().unwrap_or_default()
    }

    /// The name that this token was added for.
    pub(super) fn added_for(&self, token: &str) -> Option<String> {
        self.lock().added.iter().find(|(added, _)| added == token).map(|(_, name)| name.clone())
    }

    /// When this token expires, if ever.
    pub(super) fn expires(&self, token: &str) -> Option<Instant> {
        self.lock().expiring.get(token).copied()
    }

    /// Lets a token expire. Gives when.
    pub(super) fn expire(&self, token: &str, after: Duration) -> Instant {
        let at = media::now() + after;
        self.lock().expiring.insert(token.to_owned(), at);
        at
    }
}
