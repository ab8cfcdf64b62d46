//! Pure: the media plane of one session - is ICE up, and does the far end acknowledge what we send?
//!
//! "Connected is not healthy" (law 5): two things are watched apart, what ICE says and what RTCP proves.

use std::time::{Duration, Instant};

use crate::status::{ErrorCode, PlaneState};

use super::acknowledgements::Acks;
use super::backoff::after;
use super::event::{Failure, Phase, Retry};
use super::policy::Policy;

/// From the answer to ICE and DTLS up: five STUN retransmissions and two DTLS flights on a bad link fit, a dead path
/// does not hold us for longer.
const CONNECTING_TIMEOUT: Duration = Duration::from_secs(15);

/// The machine of the media plane.
#[derive(Debug, Clone)]
pub(super) struct Media {
    ice: Ice,
    acks: Acks,
}

#[derive(Debug, Clone, Copy)]
enum Ice {
    /// No answer yet.
    New,
    Connecting {
        until: Instant,
    },
    Connected,
    Disconnected {
        since: Instant,
        /// It has lasted longer than `statusGrace`: the outside knows.
        shown: bool,
        /// It has been called a loss: somebody works on it, and time alone means nothing any more.
        lost: bool,
        /// ICE itself says so. Otherwise only acknowledgements are missing.
        silent: bool,
    },
}

impl Media {
    /// `frames`: the camera delivers just now.
    pub(super) const fn new(frames: bool) -> Self {
        Self { ice: Ice::New, acks: Acks::new(frames) }
    }

    /// The answer is there: ICE may begin.
    pub(super) fn accepted(&mut self, now: Instant) {
        if matches!(self.ice, Ice::New) {
            self.ice = Ice::Connecting { until: now + CONNECTING_TIMEOUT };
        }
    }

    /// ICE and DTLS are up (again).
    pub(super) fn connected(&mut self, now: Instant) {
        if !matches!(self.ice, Ice::Connected) {
            self.acks.ice_up(now, matches!(self.ice, Ice::Disconnected { lost: true, .. }));
            self.ice = Ice::Connected;
        }
    }

    /// ICE says that the path is silent. Means something only when it was up.
    pub(super) fn disconnected(&mut self, now: Instant) {
        self.acks.interrupt();
        match &mut self.ice {
            Ice::New | Ice::Connecting { .. } => {}
            Ice::Connected => self.ice = Ice::Disconnected { since: now, shown: false, lost: false, silent: true },
            Ice::Disconnected { silent, .. } => *silent = true,
        }
    }

    /// The server answered an ICE restart. An ICE that was never down goes on with the new credentials, and does not say once
    /// more that it is up. True: it is.
    pub(super) fn restarted(&mut self, now: Instant) -> bool {
        let is_up = matches!(self.ice, Ice::Disconnected { silent: false, .. });
        if is_up {
            self.connected(now);
        }
        is_up
    }

    /// Media is lost, and something is done about it: nothing is due until ICE is up again or media is acknowledged.
    /// `is_stall`: it has been missed for so long that the outside is told at once.
    pub(super) fn lost(&mut self, now: Instant, is_stall: bool) {
        if matches!(self.ice, Ice::Connected) {
            if is_stall {
                self.ice = Ice::Disconnected { since: now, shown: true, lost: true, silent: false };
            } else {
                self.disconnected(now);
            }
        }
        if let Ice::Disconnected { lost, shown, .. } = &mut self.ice {
            *lost = true;
            *shown |= is_stall;
            if *shown {
                self.acks.doubt();
            }
        }
    }

    /// Media is interrupted, as far as ICE or the acknowledgements tell.
    pub(super) const fn is_down(&self) -> bool {
        matches!(self.ice, Ice::Disconnected { .. })
    }

    /// New media of ours arrived over there, so the path works whatever ICE says.
    pub(super) fn acknowledged(&mut self, now: Instant) {
        if matches!(self.ice, Ice::Disconnected { .. }) {
            self.ice = Ice::Connected;
        }
        self.acks.reported(now);
    }

    /// RTCP of the far end names our media, and is no report.
    pub(super) fn named(&mut self, now: Instant) {
        self.acks.named(now, matches!(self.ice, Ice::Connected));
    }

    /// The session is looked after: nothing has been heard against ICE.
    pub(super) fn attended(&mut self, now: Instant) {
        if matches!(self.ice, Ice::Connected) {
            self.acks.consented(now);
        }
    }

    /// The camera began (`true`) or ceased to deliver.
    pub(super) fn frames(&mut self, now: Instant, flowing: bool) {
        self.acks.frames(now, flowing);
    }

    /// ICE is up as far as the outside knows.
    pub(super) const fn is_connected(&self) -> bool {
        matches!(self.ice, Ice::Connected | Ice::Disconnected { shown: false, .. })
    }

    /// ICE and DTLS have been up at some time.
    pub(super) const fn was_connected(&self) -> bool {
        self.acks.has_begun()
    }

    /// ICE was up and has been silent for longer than `statusGrace`.
    pub(super) const fn is_disturbed(&self) -> bool {
        matches!(self.ice, Ice::Disconnected { shown: true, .. })
    }

    /// Media arrives over there, as far as the far end can be made to tell.
    pub(super) const fn is_believed(&self) -> bool {
        self.acks.is_believed()
    }

    /// Consent alone speaks for that.
    pub(super) const fn is_unproven(&self) -> bool {
        self.acks.is_unproven()
    }

    /// The far end sends no reports, so that nothing more is to be waited for once ICE is up.
    pub(super) const fn is_by_consent(&self) -> bool {
        self.acks.is_by_consent()
    }

    /// What viewers have missed when media is acknowledged at `now`, if it is more than a report or two that were late: this
    /// process or the camera stood still, and nobody had the time to call it a loss.
    pub(super) fn missed(&self, now: Instant, policy: &Policy) -> Option<Duration> {
        self.acks.missed(now, policy)
    }

    /// When media was last known to arrive over there; `None`: it never was.
    pub(super) fn last_acknowledged(&self) -> Option<Instant> {
        self.acks.last()
    }

    pub(super) const fn state(&self) -> PlaneState {
        match self.ice {
            Ice::New => PlaneState::Closed,
            Ice::Connecting { .. } => PlaneState::Connecting,
            Ice::Connected | Ice::Disconnected { shown: false, .. } => PlaneState::Connected,
            Ice::Disconnected { shown: true, .. } => PlaneState::Disconnected,
        }
    }

    pub(super) fn deadline(&self, policy: &Policy) -> Option<Instant> {
        match self.ice {
            Ice::New => None,
            Ice::Connecting { until } => Some(until),
            Ice::Connected => self.acks.deadline(policy),
            Ice::Disconnected { shown: true, lost: true, .. } => None,
            Ice::Disconnected { since, lost: true, .. } => Some(after(since, policy.status_grace)),
            Ice::Disconnected { since, shown, .. } => {
                let lost = after(since, policy.disconnected_timeout);
                Some(if shown { lost } else { lost.min(after(since, policy.status_grace)) })
            }
        }
    }

    /// What is lost at `now`, if anything; also notes that a disturbance has outlived its grace.
    pub(super) fn due(&mut self, now: Instant, policy: &Policy) -> Option<Failure> {
        self.deadline(policy).filter(|deadline| *deadline <= now)?;
        match &mut self.ice {
            Ice::New => None,
            Ice::Connecting { .. } => {
                let words = format!("ICE and DTLS did not come up within {} s", CONNECTING_TIMEOUT.as_secs());
                Some(Failure::new(Phase::Connect, Retry::Backoff, ErrorCode::IceConnectionFailed, words))
            }
            Ice::Connected if !self.acks.is_stalled(now) => None,
            Ice::Connected => {
                let silence = self.acks.silence(now).as_secs_f64();
                let words = format!("the far end has acknowledged no media for {silence:.0} s");
                Some(Failure::new(Phase::Established, Retry::Backoff, ErrorCode::MediaStalled, words))
            }
            Ice::Disconnected { since, shown, lost, .. } => {
                if *lost || after(*since, policy.disconnected_timeout) > now {
                    *shown = true;
                    self.acks.doubt();
                    return None;
                }
                let silence = now.saturating_duration_since(*since).as_secs_f64();
                let words = format!("the network path to the server has been silent for {silence:.0} s");
                Some(Failure::new(Phase::Established, Retry::Backoff, ErrorCode::IceConnectionDisconnected, words))
            }
        }
    }
}

impl Media {
    /// The silence was ours: all clocks start afresh, and what is broken will be so for as long again.
    pub(super) fn woke_up(&mut self, now: Instant) {
        match &mut self.ice {
            Ice::New | Ice::Connected => {}
            Ice::Connecting { until } => *until = now + CONNECTING_TIMEOUT,
            Ice::Disconnected { since, .. } => *since = now,
        }
        self.acks.restart(now);
    }
}

#[cfg(test)]
mod tests;
