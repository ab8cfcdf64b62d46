//! Pure: what is shown of the broadcast.

use std::time::Duration;

use crate::status::path::PathChange;
use crate::status::{self, Message, Plane};

use super::super::ice_restart::Ladder;
use super::super::policy::Retries;
use super::{Broadcast, Policy, State, trouble};

impl Broadcast {
    /// `nothing_answers`: neither the server nor anything else.
    pub(in crate::supervisor) fn status(&self, policy: &Policy, nothing_answers: bool) -> Option<status::Broadcast> {
        let (message, attempt, wait) = match &self.state {
            State::Off => return None,
            State::Waiting(wait) => (Message::ReconnectingBroadcast, self.tries, Some(wait)),
            State::Live(session) if session.last_acknowledged().is_some() => match self.replacing() {
                Some((retry, wait)) if session.is_disturbed() => (session.message(), retry, wait),
                Some(_) | None => (session.message(), 0, None),
            },
            State::Live(session) => (session.message(), self.tries.saturating_sub(1), None),
        };
        let max_retries = match policy.max_retries {
            Retries::AtMost(max) => Some(max),
            Retries::Unlimited => None,
        };
        let recovered_session_id = match &self.state {
            State::Live(session) => session.recovered_from.clone(),
            State::Off | State::Waiting(_) => None,
        };
        let ice_restart = match &self.state {
            State::Live(session) => session.ladder.as_ref().map(Ladder::made).filter(|rung| *rung > 0),
            State::Off | State::Waiting(_) => None,
        };
        let ice_restart = ice_restart.filter(|_| message == Message::ReconnectingBroadcast);
        let waiting_for = match &self.state {
            State::Live(session)
                if session.is_disturbed() && session.ladder.as_ref().is_some_and(Ladder::is_paused) =>
            {
                Some(status::WaitingFor::Network)
            }
            State::Live(session) if session.is_disturbed() && nothing_answers => Some(status::WaitingFor::Connectivity),
            State::Off | State::Waiting(_) | State::Live(_) => wait.map(|wait| wait.what),
        };
        Some(status::Broadcast {
            message,
            reason: self.trouble.as_ref().map(|trouble| trouble.reason),
            attempt,
            max_retries,
            retry_in: wait.and_then(|wait| wait.until.map(|until| seconds(until - wait.since))),
            waiting_for,
            ice_restart,
            layer: self.trouble.as_ref().and_then(|trouble| trouble.layer),
            unproven: matches!(&self.state, State::Live(session) if session.is_unproven()),
            path: self.path.clone(),
            session_id: self.session_id.clone(),
            recovered_session_id,
        })
    }

    /// Signalling and media.
    pub(in crate::supervisor) fn planes(&self) -> (Plane, Plane) {
        match &self.state {
            State::Off => (Plane::default(), Plane::default()),
            State::Waiting(_) => trouble::failed_planes(self.trouble.as_ref()),
            State::Live(session) => {
                let reason = self.trouble.as_ref().map(|trouble| trouble.reason).filter(|_| session.is_disturbed());
                (session.signalling.plane(), Plane { state: session.media_state(), reason })
            }
        }
    }

    pub(in crate::supervisor) fn link(&self) -> Option<&status::LinkStats> {
        match &self.state {
            State::Live(session) => session.link.as_ref(),
            State::Off | State::Waiting(_) => None,
        }
    }

    /// Seconds of outage after which the operator was told.
    pub(in crate::supervisor) fn stuck(&self) -> Option<f64> {
        self.outage.as_ref().and_then(|outage| outage.told).map(seconds)
    }

    /// How many gaps viewers have seen, and the seconds of the last one.
    pub(in crate::supervisor) fn gaps(&self) -> (u64, Option<f64>) {
        (self.gaps.0, self.gaps.1.map(seconds))
    }

    /// How often media has moved to another path, and the last time that it did.
    pub(in crate::supervisor) const fn moves(&self) -> (u64, Option<&PathChange>) {
        (self.moves.0, self.moves.1.as_ref())
    }

    /// The wait in ms that the server asked for when it said that it will go away.
    pub(in crate::supervisor) fn going_away(&self) -> Option<u64> {
        self.going_away.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Whole milliseconds: nobody outside wants more digits.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
