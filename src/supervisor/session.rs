//! Pure: the present session - its two planes, and where it is as a whole.

use std::time::Instant;

use crate::status::{ErrorCode, LinkStats, Message, PlaneState};

use super::Policy;
use super::capture::Capture;
use super::event::{Attempt, Failure, Phase, Retry, SessionEvent};
use super::media::Media;
use super::signalling::Signalling;

/// One session, from `Open` to the moment it is lost or replaced.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) attempt: Attempt,
    pub(super) link: Option<LinkStats>,
    signalling: Signalling,
    media: Media,
}

impl Session {
    pub(super) fn new(now: Instant, attempt: Attempt, capture: &Capture) -> Self {
        Self {
            attempt,
            link: None,
            signalling: Signalling::new(now, capture.has_flowed()),
            media: Media::new(capture.is_flowing()),
        }
    }

    /// The session speaks; the answer is why it is lost, if it is.
    pub(super) fn hear(&mut self, now: Instant, event: SessionEvent) -> Option<Failure> {
        match event {
            SessionEvent::Accepted { .. } => {
                self.signalling.accepted();
                self.media.accepted(now);
            }
            SessionEvent::Connected => self.media.connected(now),
            SessionEvent::Disconnected => self.media.disconnected(now),
            SessionEvent::Acknowledged => self.media.acknowledged(now),
            SessionEvent::Link(link) => self.link = Some(link),
            SessionEvent::SignallingLost(failure)
            | SessionEvent::ResumeFailed(failure)
            | SessionEvent::ResumeRefused(failure)
            | SessionEvent::Failed(failure) => return Some(failure),
            SessionEvent::SignallingResumed { .. } | SessionEvent::GoingAway { .. } | SessionEvent::Output { .. } => {}
            SessionEvent::Closed | SessionEvent::TeardownStuck => {
                let words = "the session closed by itself";
                return Some(Failure::new(Phase::Established, Retry::Backoff, ErrorCode::NetworkDisconnect, words));
            }
        }
        None
    }

    /// The camera began (`true`) or ceased to deliver.
    pub(super) fn frames(&mut self, now: Instant, flowing: bool) {
        if flowing {
            self.signalling.media_known(now);
        }
        self.media.frames(now, flowing);
    }

    pub(super) fn deadline(&self, policy: &Policy) -> Option<Instant> {
        self.signalling.deadline().into_iter().chain(self.media.deadline(policy)).min()
    }

    /// What is lost at `now`, if anything.
    pub(super) fn due(&mut self, now: Instant, policy: &Policy) -> Option<Failure> {
        self.signalling.due(now).or_else(|| self.media.due(now, policy))
    }

    /// Where it is. `broadcasting` only when accepted, connected and acknowledged (law 5).
    pub(super) const fn message(&self) -> Message {
        if self.media.is_disturbed() {
            Message::ReconnectingBroadcast
        } else if !self.signalling.is_open() || !self.media.is_connected() {
            Message::Signalling
        } else if self.media.is_proved() {
            Message::Broadcasting
        } else {
            Message::Connected
        }
    }

    /// It was up and its path has been silent for longer than `statusGrace`.
    pub(super) const fn is_disturbed(&self) -> bool {
        self.media.is_disturbed()
    }

    /// When the far end last acknowledged media; `None`: it never has.
    pub(super) const fn last_acknowledged(&self) -> Option<Instant> {
        self.media.last_acknowledged()
    }

    /// Signalling and media.
    pub(super) const fn planes(&self) -> (PlaneState, PlaneState) {
        (self.signalling.state(), self.media.state())
    }
}
