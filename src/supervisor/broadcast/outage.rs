//! Pure: what follows from it that nothing answers, and that something answers again ([`super::super::reachability`]).
//!
//! While nothing answers the next try is held back: it would hang just when the path is back. What is tried already then,
//! has hung, and is begun anew.

use std::time::{Duration, Instant};

use crate::status::WaitingFor;

use super::super::event::Action;
use super::super::reachability::Plight;
use super::super::session::Session;
use super::{Around, Broadcast, State, Wait};

/// How far packets get, as far as is known.
#[derive(Clone, Copy)]
pub(in super::super) struct Outside {
    /// There is a network.
    pub(in super::super) network_up: bool,
    /// Nothing beyond it answers: tries are held back until something does, or for so long.
    pub(in super::super) hold: Option<Duration>,
}

/// A try that is younger than this when something answers again has not hung: its first packets may be on their way.
const HUNG_AFTER: Duration = Duration::from_millis(300);

impl Broadcast {
    /// What probes could find out.
    pub(in super::super) fn plight(&self) -> Plight {
        match &self.state {
            State::Off => Plight::Other,
            State::Waiting(wait) => plight_of(wait),
            State::Live(session) if session.is_healthy() => Plight::Healthy,
            State::Live(session) if is_silent(session) => Plight::Silent,
            State::Live(_) => Plight::Other,
        }
    }

    /// The server that the next session is for, or the present one.
    pub(in super::super) fn next_endpoint(&self, now: Instant) -> usize {
        match &self.state {
            State::Live(session) => session.endpoint,
            State::Off | State::Waiting(_) => self.endpoints.choose(now),
        }
    }

    /// Nothing answers from now on: what waits for a moment of our own choice waits for an answer instead.
    pub(in super::super) fn connectivity_lost(&mut self, around: Around<'_>) {
        if let State::Waiting(wait) = &mut self.state {
            hold(wait, around);
        }
        if let Some(wait) = self.heir_wait() {
            hold(wait, around);
        }
    }

    /// Something answers again: the next session at once.
    pub(in super::super) fn connectivity_back(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        match &self.state {
            State::Off => {}
            State::Waiting(wait) => {
                if wait.what == WaitingFor::Connectivity {
                    self.try_now(around, orders);
                }
            }
            State::Live(session) if has_hung(session, around.now) => {
                self.close_live(around.now, orders);
                self.tries = self.tries.saturating_sub(1);
                self.try_now(around, orders);
            }
            State::Live(_) => {
                if let Some((session, terms)) = self.reopening(around) {
                    session.signalling.route_appeared(&terms);
                }
                self.heir_hears_of_connectivity(around, orders);
            }
        }
    }

    /// A person wants the next session now, and waits for nobody's answer.
    pub(super) fn wait_for_operator(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        if around.outside.hold.is_some() {
            self.try_now(around, orders);
        } else {
            self.wait(around, around.now, WaitingFor::Backoff);
        }
    }

    /// The time of the present wait has passed.
    pub(super) fn wait_is_over(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        match &self.state {
            State::Waiting(wait) if around.outside.hold.is_some() && wait.what != WaitingFor::Connectivity => {
                self.wait(around, around.now, WaitingFor::Backoff);
            }
            State::Off | State::Waiting(_) | State::Live(_) => self.try_now(around, orders),
        }
    }
}

/// What a server asked for is waited for, whatever answers.
fn plight_of(wait: &Wait) -> Plight {
    match wait.what {
        WaitingFor::Backoff | WaitingFor::Token | WaitingFor::Connectivity => Plight::Silent,
        WaitingFor::Network | WaitingFor::ServerRetryAfter => Plight::Other,
    }
}

/// It is being opened, and no answer has come; or it was up, and its path is silent.
fn is_silent(session: &Session) -> bool {
    !session.signalling.was_open() || session.is_disturbed()
}

/// It is being opened, and nothing has come of it for too long.
pub(super) fn has_hung(session: &Session, now: Instant) -> bool {
    session.signalling.opening_since().is_some_and(|since| now >= since + HUNG_AFTER)
}

fn hold(wait: &mut Wait, around: Around<'_>) {
    if let Some(until) = wait.until {
        *wait = Wait::new(around, until, wait.what);
    }
}

impl Around<'_> {
    /// No try can succeed: there is no network, and the server is not this machine.
    pub(super) const fn is_cut_off(&self) -> bool {
        self.policy.needs_network && !self.outside.network_up
    }

    /// It is our own path that is down: no server is to blame, and no try is spent.
    pub(super) const fn is_our_outage(&self) -> bool {
        self.is_cut_off() || self.outside.hold.is_some()
    }
}
