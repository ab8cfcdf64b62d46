//! Pure: the wait before the next try.

use std::time::Instant;

use crate::status::WaitingFor;

use super::super::backoff::{self, after};
use super::Around;

/// What the next try waits for.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) since: Instant,
    /// `None`: until a route appears.
    pub(super) until: Option<Instant>,
    pub(super) what: WaitingFor,
}

impl Wait {
    pub(super) fn new(around: Around<'_>, until: Instant, what: WaitingFor) -> Self {
        let since = around.now;
        if around.is_cut_off() {
            return Self { since, until: None, what: WaitingFor::Network };
        }
        match (what, around.outside.hold) {
            // Our own pauses are for a server that needs them.
            (WaitingFor::Backoff | WaitingFor::Token | WaitingFor::Connectivity, Some(hold)) => {
                Self { since, until: Some(after(since, hold)), what: WaitingFor::Connectivity }
            }
            _ => Self { since, until: Some(until), what },
        }
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Other numbers hold from now on. True: nothing is left to wait for.
    pub(super) fn refit(&mut self, around: Around<'_>) -> bool {
        match (self.what, self.until) {
            (WaitingFor::Network, _) | (_, None) => return !around.is_cut_off(),
            (_, Some(until)) if around.is_cut_off() => *self = Self::new(around, until, self.what),
            (WaitingFor::Backoff | WaitingFor::Token, Some(until)) => {
                let delay = backoff::refit(around.policy, until - self.since);
                self.until = Some(after(self.since, delay).max(around.now));
            }
            (WaitingFor::ServerRetryAfter | WaitingFor::Connectivity, Some(_)) => {}
        }
        false
    }
}
