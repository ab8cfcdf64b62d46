//! Pure: how the connection stands, as webrtcbin and the brain are told.

use std::time::{Duration, Instant};

use crate::ice::types::IceState;

/// With `suspect_after`: the time that probing every path takes before the connection is called broken.
const PROBING: Duration = Duration::from_millis(500);
/// A broken connection has failed after this. Long enough for a tunnel, short enough for the ladder behind it.
const FAILED_AFTER: Duration = Duration::from_secs(12);
/// When checking has found nothing.
const FOUND_NOTHING_AFTER: Duration = Duration::from_secs(15);

/// What the standing is judged by.
#[derive(Debug, Clone, Copy)]
pub(in crate::ice) struct Facts {
    /// Both sides know each other's credentials, and we have begun to look.
    pub(in crate::ice) checking: bool,
    /// Media has a route.
    pub(in crate::ice) routed: bool,
    /// When the far end was last heard on any path.
    pub(in crate::ice) last_sign: Option<Instant>,
    /// The far end cannot be made to follow any more.
    pub(in crate::ice) exhausted: bool,
}

#[derive(Debug)]
pub(in crate::ice) struct Standing {
    state: IceState,
    /// Since when it is the state.
    since: Option<Instant>,
    /// Longer silence on every path is no connection.
    silence_max: Duration,
}

impl Standing {
    pub(in crate::ice) fn new(suspect_after: Duration) -> Self {
        Self { state: IceState::New, since: None, silence_max: suspect_after + PROBING }
    }

    /// The new state, if it is one.
    pub(in crate::ice) fn look(&mut self, now: Instant, facts: Facts) -> Option<IceState> {
        let heard = facts.last_sign.is_some_and(|sign| now.saturating_duration_since(sign) < self.silence_max);
        let works = facts.routed && heard && !facts.exhausted;
        let lasted = |time: Duration| self.since.is_some_and(|since| now.saturating_duration_since(since) >= time);
        let state = match self.state {
            _ if works => IceState::Connected,
            IceState::New if facts.checking => IceState::Checking,
            IceState::Checking if lasted(FOUND_NOTHING_AFTER) => IceState::Failed,
            IceState::Connected if facts.exhausted => IceState::Failed,
            IceState::Connected if !heard => IceState::Disconnected,
            IceState::Disconnected if lasted(FAILED_AFTER) => IceState::Failed,
            state @ (IceState::New
            | IceState::Checking
            | IceState::Connected
            | IceState::Disconnected
            | IceState::Failed) => state,
        };
        self.enter(now, state)
    }

    /// New credentials give a failed connection another try.
    pub(in crate::ice) fn restart(&mut self, now: Instant) -> Option<IceState> {
        if self.state == IceState::Failed { self.enter(now, IceState::Checking) } else { None }
    }

    fn enter(&mut self, now: Instant, state: IceState) -> Option<IceState> {
        if state == self.state {
            return None;
        }
        self.state = state;
        self.since = Some(now);
        Some(state)
    }

    /// When silence alone will change the state.
    pub(in crate::ice) fn deadline(&self, last_sign: Option<Instant>) -> Option<Instant> {
        match self.state {
            IceState::New | IceState::Failed => None,
            IceState::Checking => Some(self.since? + FOUND_NOTHING_AFTER),
            IceState::Connected => Some(last_sign? + self.silence_max),
            IceState::Disconnected => Some(self.since? + FAILED_AFTER),
        }
    }
}
