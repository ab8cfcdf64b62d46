//! Pure: the signalling plane of one session - has the server accepted us?

use std::time::{Duration, Instant};

use crate::status::{ErrorCode, PlaneState};

use super::event::{Failure, Phase, Retry};

/// A backstop, not a tuning knob: the messenger has deadlines of its own for each request (10 s or so) and may follow a
/// redirect; an attempt that is silent for longer than this hangs.
const OPENING_TIMEOUT: Duration = Duration::from_secs(30);

/// The machine of the signalling plane.
#[derive(Debug, Clone)]
pub(super) enum Signalling {
    /// The line waits for the format of the first frame; no offer can be made, so nothing can time out.
    WaitingForMedia,
    /// The offer is on its way.
    Opening {
        /// When it counts as hung.
        until: Instant,
    },
    /// The server accepted.
    Open,
}

impl Signalling {
    /// An attempt that starts now. `media_known`: frames have come at some time, so their format is known.
    pub(super) fn new(now: Instant, media_known: bool) -> Self {
        let mut signalling = Self::WaitingForMedia;
        if media_known {
            signalling.media_known(now);
        }
        signalling
    }

    /// The first frame came.
    pub(super) fn media_known(&mut self, now: Instant) {
        if matches!(self, Self::WaitingForMedia) {
            *self = Self::Opening { until: now + OPENING_TIMEOUT };
        }
    }

    pub(super) fn accepted(&mut self) {
        *self = Self::Open;
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    pub(super) const fn state(&self) -> PlaneState {
        match self {
            Self::WaitingForMedia | Self::Opening { .. } => PlaneState::Connecting,
            Self::Open => PlaneState::Connected,
        }
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Opening { until } => Some(*until),
            Self::WaitingForMedia | Self::Open => None,
        }
    }

    /// What is wrong at `now`, if anything.
    pub(super) fn due(&self, now: Instant) -> Option<Failure> {
        self.deadline().filter(|until| *until <= now)?;
        let words = format!("the server did not answer the offer within {} s", OPENING_TIMEOUT.as_secs());
        Some(Failure::new(Phase::Request, Retry::Backoff, ErrorCode::SignallingFailed, words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tests::base;

    #[test]
    fn an_attempt_that_hangs_fails_after_its_time() {
        let signalling = Signalling::new(base(), true);
        let until = signalling.deadline().expect("has a deadline");
        assert!(signalling.due(until - Duration::from_millis(1)).is_none());
        assert_eq!(signalling.due(until).expect("is due").code, ErrorCode::SignallingFailed);
    }

    #[test]
    fn a_camera_that_has_never_delivered_does_not_time_out_the_server() {
        let mut signalling = Signalling::new(base(), false);
        assert_eq!(signalling.deadline(), None);
        signalling.media_known(base());
        assert!(signalling.deadline().is_some());
        signalling.accepted();
        signalling.media_known(base());
        assert!(signalling.is_open() && signalling.deadline().is_none());
    }
}
