//! Pure: the media plane of one session - is ICE up, and does the far end acknowledge what we send?
//!
//! "Connected is not healthy" (law 5): two things are watched apart, what ICE says and what RTCP proves.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::status::{ErrorCode, PlaneState};

use super::Policy;
use super::backoff::after;
use super::event::{Failure, Phase, Retry};

/// From the answer to ICE and DTLS up: five STUN retransmissions and two DTLS flights on a bad link fit, a dead path
/// does not hold us for longer.
const CONNECTING_TIMEOUT: Duration = Duration::from_secs(15);
/// The first acknowledgement: receivers may report only every 5 s +-50 % (RFC 3550, 6.2), so two reports have room.
const PROOF_TIMEOUT: Duration = Duration::from_secs(15);
/// Silence shorter than this is never a stall: one lost report a second apart is common.
const STALL_MIN: Duration = Duration::from_secs(3);
/// Silence longer than this always is one: two reports of the slowest receiver (7.5 s) and a little.
const STALL_MAX: Duration = Duration::from_secs(16);
/// A stall is this many times the longest recent interval: two reports in a row may be lost.
const STALL_FACTOR: u32 = 3;
/// How many intervals are recent.
const RECENT: usize = 8;

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
    },
}

/// The clock of acknowledgements. It runs while ICE is connected and frames are being sent.
#[derive(Debug, Clone)]
struct Acks {
    /// Frames are being sent; without them there is nothing to acknowledge.
    frames: bool,
    /// The far end has acknowledged media since ICE was last shown as lost.
    proved: bool,
    /// When the clock was last started afresh: at an acknowledgement, when ICE came up, when frames came back.
    started: Option<Instant>,
    /// The same, without what ICE says: an ICE that flaps cannot keep a dead session for ever.
    silent_since: Option<Instant>,
    /// The last acknowledgement.
    last: Option<Instant>,
    /// The next interval would span an interruption: it says nothing about the receiver's habit.
    interrupted: bool,
    recent: VecDeque<Duration>,
}

impl Media {
    /// `frames`: the camera delivers just now.
    pub(super) const fn new(frames: bool) -> Self {
        let acks = Acks {
            frames,
            proved: false,
            started: None,
            silent_since: None,
            last: None,
            interrupted: false,
            recent: VecDeque::new(),
        };
        Self { ice: Ice::New, acks }
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
            if matches!(self.ice, Ice::Disconnected { lost: true, .. }) {
                // What was done about it gets as long to prove itself as a new session.
                self.acks.silent_since = Some(now);
            }
            self.ice = Ice::Connected;
            self.acks.started = Some(now);
            self.acks.silent_since.get_or_insert(now);
        }
    }

    /// ICE says that the path is silent. Means something only when it was up.
    pub(super) fn disconnected(&mut self, now: Instant) {
        if matches!(self.ice, Ice::Connected) {
            self.ice = Ice::Disconnected { since: now, shown: false, lost: false };
            self.acks.interrupted = true;
        }
    }

    /// Media is lost, and something is done about it: nothing is due until ICE is up again or media is acknowledged.
    /// `is_stall`: it has been missed for so long that the outside is told at once.
    pub(super) fn lost(&mut self, now: Instant, is_stall: bool) {
        self.disconnected(now);
        if let Ice::Disconnected { lost, shown, .. } = &mut self.ice {
            *lost = true;
            *shown |= is_stall;
            self.acks.proved &= !*shown;
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
        self.acks.acknowledged(now);
    }

    /// The camera began (`true`) or ceased to deliver.
    pub(super) fn frames(&mut self, now: Instant, flowing: bool) {
        self.acks.frames = flowing;
        self.acks.interrupted = true;
        self.acks.started = self.acks.started.map(|_| now);
        self.acks.silent_since = self.acks.silent_since.map(|_| now);
    }

    /// ICE is up as far as the outside knows.
    pub(super) const fn is_connected(&self) -> bool {
        matches!(self.ice, Ice::Connected | Ice::Disconnected { shown: false, .. })
    }

    /// ICE and DTLS have been up at some time.
    pub(super) const fn was_connected(&self) -> bool {
        self.acks.silent_since.is_some()
    }

    /// ICE was up and has been silent for longer than `statusGrace`.
    pub(super) const fn is_disturbed(&self) -> bool {
        matches!(self.ice, Ice::Disconnected { shown: true, .. })
    }

    /// The far end acknowledges media.
    pub(super) const fn is_proved(&self) -> bool {
        self.acks.proved
    }

    /// What viewers have missed when media is acknowledged at `now`, if it is more than a report or two that were late: this
    /// process or the camera stood still, and nobody had the time to call it a loss.
    pub(super) fn missed(&self, now: Instant) -> Option<Duration> {
        let silence = now.saturating_duration_since(self.acks.last?);
        (self.acks.proved && silence > self.acks.limit()).then_some(silence)
    }

    pub(super) const fn last_acknowledged(&self) -> Option<Instant> {
        self.acks.last
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
            Ice::Connected => {
                let silence =
                    self.acks.silent_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
                let words = format!("the far end has acknowledged no media for {:.0} s", silence.as_secs_f64());
                Some(Failure::new(Phase::Established, Retry::Backoff, ErrorCode::MediaStalled, words))
            }
            Ice::Disconnected { since, shown, lost } => {
                if *lost || after(*since, policy.disconnected_timeout) > now {
                    *shown = true;
                    self.acks.proved = false;
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
        self.acks.interrupted = true;
        self.acks.started = self.acks.started.map(|_| now);
        self.acks.silent_since = self.acks.silent_since.map(|_| now);
    }
}

impl Acks {
    fn acknowledged(&mut self, now: Instant) {
        if let Some(last) = self.last
            && !self.interrupted
        {
            self.recent.push_back(now.saturating_duration_since(last));
            if self.recent.len() > RECENT {
                self.recent.pop_front();
            }
        }
        self.proved = true;
        self.interrupted = false;
        self.last = Some(now);
        self.started = Some(now);
        self.silent_since = Some(now);
    }

    fn deadline(&self, policy: &Policy) -> Option<Instant> {
        if !self.frames {
            return None;
        }
        let whatever_ice_says = after(self.silent_since?, policy.disconnected_timeout.saturating_add(STALL_MAX));
        let started = self.started?;
        Some((started + self.limit()).min(whatever_ice_says).max(started))
    }

    /// How long the far end may be silent.
    fn limit(&self) -> Duration {
        if !self.proved {
            return PROOF_TIMEOUT;
        }
        let longest = self.recent.iter().max();
        longest.map_or(STALL_MAX, |longest| longest.saturating_mul(STALL_FACTOR).clamp(STALL_MIN, STALL_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tests::{at, policy};

    fn connected(seconds: f64) -> Media {
        let mut media = Media::new(true);
        media.accepted(at(0.0));
        media.connected(at(seconds));
        media
    }

    fn acknowledged_every(interval: f64, times: u32) -> (Media, f64) {
        let mut media = connected(0.0);
        (1..=times).for_each(|n| media.acknowledged(at(f64::from(n) * interval)));
        (media, f64::from(times) * interval)
    }

    #[test]
    fn a_fast_receiver_is_missed_after_three_seconds_a_slow_one_after_three_of_its_intervals() {
        for (interval, patience) in [(0.2, 3.0), (1.0, 3.0), (2.5, 7.5), (5.0, 15.0), (7.5, 16.0)] {
            let (media, last) = acknowledged_every(interval, 10);
            assert_eq!(media.deadline(&policy()), Some(at(last + patience)), "interval {interval} s");
        }
    }

    #[test]
    fn only_recent_intervals_count() {
        let (mut media, last) = acknowledged_every(5.0, 5);
        (1..=9).for_each(|n| media.acknowledged(at(last + f64::from(n))));
        assert_eq!(media.deadline(&policy()), Some(at(last + 9.0 + 3.0)));
    }

    #[test]
    fn a_still_camera_is_not_a_stall_and_the_clock_starts_afresh_when_it_is_back() {
        let (mut media, last) = acknowledged_every(1.0, 4);
        media.frames(at(last + 1.0), false);
        assert_eq!(media.deadline(&policy()), None);
        media.frames(at(last + 100.0), true);
        assert_eq!(media.deadline(&policy()), Some(at(last + 103.0)));
        media.acknowledged(at(last + 101.0));
        assert_eq!(media.deadline(&policy()), Some(at(last + 104.0)), "the gap was no interval of the receiver");
    }

    #[test]
    fn a_short_disturbance_is_not_shown_a_longer_one_is_and_then_needs_new_proof() {
        let (mut media, last) = acknowledged_every(1.0, 4);
        media.disconnected(at(last + 0.5));
        assert!(media.due(at(last + 1.0), &policy()).is_none());
        assert!(!media.is_disturbed() && media.is_connected());
        media.connected(at(last + 1.2));
        assert!(media.is_connected() && media.is_proved());

        media.disconnected(at(last + 2.0));
        assert_eq!(media.deadline(&policy()), Some(at(last + 3.0)), "statusGrace");
        assert!(media.due(at(last + 3.0), &policy()).is_none());
        assert!(media.is_disturbed());
        media.connected(at(last + 4.0));
        assert!(media.is_connected() && !media.is_proved());
        media.acknowledged(at(last + 4.5));
        assert!(media.is_proved());
    }

    #[test]
    fn a_disturbance_that_does_not_heal_is_a_loss() {
        let (mut media, last) = acknowledged_every(1.0, 4);
        media.disconnected(at(last));
        assert!(media.due(at(last + 1.0), &policy()).is_none());
        media.disconnected(at(last + 3.0));
        assert_eq!(media.deadline(&policy()), Some(at(last + 4.0)), "hearing it twice does not lengthen it");
        let failure = media.due(at(last + 4.0), &policy()).expect("lost");
        assert_eq!(failure.code, ErrorCode::IceConnectionDisconnected);
    }

    #[test]
    fn an_acknowledgement_heals_whatever_ice_says() {
        let (mut media, last) = acknowledged_every(1.0, 4);
        media.disconnected(at(last));
        media.due(at(last + 1.0), &policy());
        media.acknowledged(at(last + 2.0));
        assert!(media.is_connected() && media.is_proved());
    }

    #[test]
    fn a_process_that_was_suspended_does_not_blame_the_far_end_for_its_own_silence() {
        let (mut media, last) = acknowledged_every(1.0, 4);
        media.woke_up(at(last + 60.0));
        assert!(media.due(at(last + 60.0), &policy()).is_none());
        assert_eq!(media.deadline(&policy()), Some(at(last + 63.0)));
        assert_eq!(media.due(at(last + 63.0), &policy()).expect("lost").code, ErrorCode::MediaStalled);
        media.acknowledged(at(last + 60.9));
        assert_eq!(media.deadline(&policy()), Some(at(last + 63.9)), "a minute of ours is no habit of the far end");

        let (mut media, last) = acknowledged_every(1.0, 4);
        media.disconnected(at(last));
        media.woke_up(at(last + 60.0));
        assert!(media.due(at(last + 60.0), &policy()).is_none());
        assert_eq!(media.deadline(&policy()), Some(at(last + 61.0)), "statusGrace begins anew");

        let mut media = Media::new(true);
        media.accepted(at(0.0));
        media.woke_up(at(60.0));
        assert!(media.due(at(60.0), &policy()).is_none());
        assert_eq!(media.deadline(&policy()), Some(at(75.0)));
    }

    #[test]
    fn an_ice_that_flaps_without_any_acknowledgement_is_lost_in_the_end() {
        let (mut media, last) = acknowledged_every(1.0, 4);
        let mut lost = None;
        for second in 1..60 {
            let now = at(last + f64::from(second));
            if second % 2 == 1 {
                media.disconnected(now)
            } else {
                media.connected(now)
            }
            lost = lost.or_else(|| media.due(now, &policy()).map(|failure| (second, failure.code)));
        }
        let (second, code) = lost.expect("lost");
        assert_eq!(code, ErrorCode::MediaStalled);
        assert!(second <= 21, "disconnectedTimeout + 16 s: {second}");
    }

    #[test]
    fn connected_but_never_acknowledged_is_a_stall_unless_no_frame_was_sent() {
        let mut media = connected(2.0);
        assert_eq!(media.deadline(&policy()), Some(at(17.0)));
        assert_eq!(media.due(at(17.0), &policy()).expect("lost").code, ErrorCode::MediaStalled);
        media.frames(at(5.0), false);
        assert_eq!(media.deadline(&policy()), None);
    }

    #[test]
    fn late_reports_are_nothing_missed_and_a_long_silence_is() {
        let (media, last) = acknowledged_every(1.0, 4);
        assert_eq!(media.missed(at(last + 3.0)), None);
        assert_eq!(media.missed(at(last + 8.0)), Some(Duration::from_secs(8)));
        assert_eq!(connected(0.0).missed(at(99.0)), None, "nobody has seen anything yet");
    }

    #[test]
    fn ice_that_never_comes_up_fails() {
        let mut media = Media::new(true);
        assert_eq!(media.deadline(&policy()), None);
        media.accepted(at(1.0));
        assert_eq!(media.due(at(16.0), &policy()).expect("lost").code, ErrorCode::IceConnectionFailed);
    }
}
