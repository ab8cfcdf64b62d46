//! Pure: what a refusal means depends on where it comes from - a server that has taken our media before is there, and takes
//! our token; whoever refuses us in its name stands in between, or passes by.

use std::time::Duration;

use super::super::event::{Attempt, Retry, SessionEvent};
use super::super::session::Session;
use super::{Broadcast, Heir, State};

impl Broadcast {
    /// What an earlier process learned.
    pub(in super::super) fn remember(&mut self, proven: &[usize], session_left: bool) {
        proven.iter().for_each(|endpoint| self.endpoints.was_proven(*endpoint));
        if session_left {
            self.endpoints.all_left();
        }
    }

    /// Turns what only a memory of the server can answer ([`Retry::IfProven`], [`Retry::Busy`]) into an answer. Once a
    /// voice, and before anything else hears it.
    pub(super) fn weigh(&mut self, attempt: Attempt, event: &mut SessionEvent) {
        let Some(failure) = event.failure_mut() else { return };
        let Some(endpoint) = self.endpoint_of(attempt) else { return };
        failure.retry = match failure.retry {
            Retry::IfProven { .. } if !self.endpoints.is_proven(endpoint) => Retry::Never,
            // Not every server has a word for a slot that is taken (400 "already has a host").
            Retry::IfProven { after } if self.is_beside_lost_media(attempt, endpoint) => self.busy(endpoint, after),
            Retry::IfProven { after } => after.map_or(Retry::Backoff, Retry::After),
            Retry::Busy { after } => {
                if self.is_beside_lost_media(attempt, endpoint) || self.is_beside_orphan(attempt, endpoint) {
                    self.endpoints.left(endpoint);
                }
                self.busy(endpoint, after)
            }
            other @ (Retry::Backoff | Retry::After(_) | Retry::Once | Retry::Never) => other,
        };
    }

    /// A session that was accepted ends: the server may believe in it for a while.
    pub(super) fn leave(&mut self, session: &Session) {
        if session.signalling.was_open() {
            self.endpoints.left(session.endpoint);
        }
    }

    fn endpoint_of(&mut self, attempt: Attempt) -> Option<usize> {
        let live = match &mut self.state {
            State::Live(session) => Some(&mut **session),
            State::Off | State::Waiting(_) => None,
        };
        let heir = self.heir.as_mut().and_then(Heir::session);
        [live, heir].into_iter().flatten().find(|session| session.attempt == attempt).map(|session| session.endpoint)
    }

    fn busy(&mut self, endpoint: usize, after: Option<Duration>) -> Retry {
        let own = self.endpoints.slot_busy(endpoint);
        Retry::Busy { after: Some(after.map_or(own, |wait| wait.max(own))) }
    }

    /// It is another session than the live one that was refused, at the same server, which knows the live one no more.
    fn is_beside_orphan(&self, attempt: Attempt, endpoint: usize) -> bool {
        self.is_beside_live(attempt, endpoint).is_some_and(|live| live.signalling.is_orphaned())
    }

    /// The same, and nothing more is done about the media of the live one, which is lost.
    fn is_beside_lost_media(&self, attempt: Attempt, endpoint: usize) -> bool {
        self.is_beside_live(attempt, endpoint).is_some_and(Session::is_given_up)
    }

    fn is_beside_live(&self, attempt: Attempt, endpoint: usize) -> Option<&Session> {
        match &self.state {
            State::Live(live) if live.attempt != attempt && live.endpoint == endpoint => Some(live),
            State::Off | State::Waiting(_) | State::Live(_) => None,
        }
    }
}
