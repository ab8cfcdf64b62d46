//! Pure: the present session - its two planes, and where it is as a whole.

use std::time::{Duration, Instant};

use crate::status::{ErrorCode, LinkStats, Message, PlaneState};

use super::capture::Capture;
use super::event::{Attempt, Failure, Phase, Retry, SessionEvent};
use super::ice_restart::Ladder;
use super::media::Media;
use super::policy::Policy;
use super::signalling::Signalling;

/// One session, from `Open` to the moment it is lost or replaced.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) attempt: Attempt,
    /// Which server.
    pub(super) endpoint: usize,
    pub(super) link: Option<LinkStats>,
    /// As the server names it; `None` before it has accepted.
    pub(super) id: Option<String>,
    /// How it was named before, if that has changed.
    pub(super) recovered_from: Option<String>,
    /// It takes the place of one that was lost while this one was being opened, and nothing better is known of it yet.
    pub(super) takes_over: bool,
    pub(super) signalling: Signalling,
    /// Media is lost, and this is done about it.
    pub(super) ladder: Option<Ladder>,
    media: Media,
    /// The server says that its onward leg is reconnecting.
    output_broken: bool,
}

impl Session {
    pub(super) fn new(now: Instant, attempt: Attempt, endpoint: usize, capture: &Capture) -> Self {
        Self {
            attempt,
            endpoint,
            link: None,
            id: None,
            recovered_from: None,
            takes_over: false,
            signalling: Signalling::new(now),
            ladder: None,
            media: Media::new(capture.is_flowing()),
            output_broken: false,
        }
    }

    /// The session speaks; the answer is why it is lost, if it is. What the broadcast makes of a lost signalling
    /// connection is not decided here: to the session alone it is a loss.
    pub(super) fn hear(&mut self, now: Instant, event: SessionEvent) -> Option<Failure> {
        match event {
            SessionEvent::Accepted { session_id } => {
                if !self.signalling.was_open() {
                    self.signalling.accepted();
                    self.media.accepted(now);
                    self.id = Some(session_id);
                }
            }
            SessionEvent::Connected => {
                self.takes_over &= self.media.was_connected();
                self.media.connected(now);
                self.ice_is_up(now);
            }
            SessionEvent::Disconnected => self.ice_is_down(now),
            SessionEvent::Acknowledged => {
                self.media.acknowledged(now);
                self.ladder = None;
            }
            SessionEvent::Named => self.media.named(now),
            SessionEvent::Link(link) => {
                self.media.attended(now);
                self.link = Some(link);
            }
            SessionEvent::Output { reconnecting } => self.output_broken = reconnecting,
            SessionEvent::SignallingResumed { session_id, recovered_from } => {
                if self.signalling.resumed() {
                    self.id = Some(session_id);
                    self.recovered_from = recovered_from.or_else(|| self.recovered_from.take());
                }
            }
            SessionEvent::SignallingLost(failure)
            | SessionEvent::ResumeFailed(failure)
            | SessionEvent::ResumeRefused(failure)
            | SessionEvent::Failed(failure) => return Some(failure),
            // What becomes of the ladder is decided by the broadcast.
            SessionEvent::IceFailed
            | SessionEvent::IceRestarted
            | SessionEvent::IceRestartRefused(_)
            | SessionEvent::IceRestartFailed(_)
            | SessionEvent::RetrySlot(_)
            | SessionEvent::GoingAway { .. }
            | SessionEvent::Moved(_) => {}
            SessionEvent::Closed | SessionEvent::TeardownStuck => {
                let words = "the session closed by itself";
                return Some(Failure::new(Phase::Established, Retry::Backoff, ErrorCode::NetworkDisconnect, words));
            }
        }
        None
    }

    /// The server answered an ICE restart.
    pub(super) fn ice_restarted(&mut self, now: Instant) {
        if self.media.restarted(now) {
            self.ice_is_up(now);
        }
    }

    /// ICE itself says that the path is silent.
    pub(super) fn ice_is_down(&mut self, now: Instant) {
        self.media.disconnected(now);
    }

    fn ice_is_up(&mut self, now: Instant) {
        if self.media.is_by_consent() {
            self.ladder = None;
        }
        if let Some(ladder) = &mut self.ladder {
            ladder.connected(now);
        }
    }

    /// The camera began (`true`) or ceased to deliver.
    pub(super) fn frames(&mut self, now: Instant, flowing: bool) {
        self.media.frames(now, flowing);
    }

    /// This process stood still for a while.
    pub(super) fn woke_up(&mut self, now: Instant) {
        self.media.woke_up(now);
    }

    pub(super) fn deadline(&self, policy: &Policy) -> Option<Instant> {
        let ladder = self.ladder.as_ref().and_then(Ladder::deadline);
        [self.signalling.deadline(), self.media.deadline(policy), ladder].into_iter().flatten().min()
    }

    /// What is wrong with media at `now`, if anything.
    pub(super) fn media_due(&mut self, now: Instant, policy: &Policy) -> Option<Failure> {
        self.media.due(now, policy)
    }

    /// Media is lost and the server still hears us: the ladder begins, or goes on where it was.
    pub(super) fn climb(&mut self, now: Instant, cut_off: bool, failure: &Failure) {
        self.media.lost(now, failure.code == ErrorCode::MediaStalled);
        match &mut self.ladder {
            Some(ladder) => ladder.lost_again(now, cut_off),
            None => self.ladder = Some(Ladder::new(now, cut_off, failure.clone())),
        }
    }

    /// Nothing more is done about its media: another session is to take its place.
    pub(super) fn give_up_media(&mut self, now: Instant, failure: &Failure) {
        self.climb(now, false, failure);
        if let Some(ladder) = &mut self.ladder {
            ladder.end();
        }
    }

    /// Media is lost for good: another session is to take its place.
    pub(super) fn is_given_up(&self) -> bool {
        self.ladder.as_ref().is_some_and(Ladder::is_over)
    }

    /// ICE has been restarted and is up again, but nothing has been acknowledged since.
    pub(super) fn is_unproved_again(&self) -> bool {
        self.ladder.as_ref().is_some_and(Ladder::is_resting)
    }

    /// That was so once before, and it broke again.
    pub(super) fn was_unproved_before(&self) -> bool {
        self.ladder.as_ref().is_some_and(Ladder::was_in_vain)
    }

    /// Media is interrupted just now.
    pub(super) const fn is_down(&self) -> bool {
        self.media.is_down()
    }

    /// ICE has been up.
    pub(super) const fn was_connected(&self) -> bool {
        self.media.was_connected()
    }

    /// Where it is. `broadcasting` only when accepted, connected and acknowledged (law 5), or where the server sends no
    /// reports, when its consent has been fresh for a while.
    pub(super) const fn message(&self) -> Message {
        if self.media.is_disturbed() || self.takes_over && !self.media.is_believed() {
            Message::ReconnectingBroadcast
        } else if !self.signalling.was_open() || !self.media.is_connected() {
            Message::Signalling
        } else if !self.media.is_believed() {
            Message::Connected
        } else if self.output_broken {
            Message::Reconnecting
        } else {
            Message::Broadcasting
        }
    }

    /// Our media arrives, whatever the server does with it.
    pub(super) const fn is_healthy(&self) -> bool {
        matches!(self.message(), Message::Broadcasting | Message::Reconnecting)
    }

    /// It is on air, and no RTCP proves it.
    pub(super) const fn is_unproven(&self) -> bool {
        self.is_healthy() && self.media.is_unproven()
    }

    /// It was up and its path has been silent for longer than `statusGrace`.
    pub(super) const fn is_disturbed(&self) -> bool {
        self.media.is_disturbed()
    }

    /// What viewers have missed when media is acknowledged at `now`.
    pub(super) fn missed(&self, now: Instant, policy: &Policy) -> Option<Duration> {
        self.media.missed(now, policy)
    }

    /// When the far end last acknowledged media, or where it sends no reports, consented to it; `None`: it never has.
    pub(super) fn last_acknowledged(&self) -> Option<Instant> {
        self.media.last_acknowledged()
    }

    pub(super) const fn media_state(&self) -> PlaneState {
        self.media.state()
    }
}
