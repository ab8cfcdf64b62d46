//! Pure: the ICE restart ladder of one session - media is lost, the server still hears us.
//!
//! ```text
//! Waiting -- due --> Asked -- answered --> Waiting ... -- connected --> Resting -- lost again --> Waiting
//!    ^-- route -- Paused (no network)                                    (an acknowledgement ends it)
//! ```
//! Each rung asks the server for new ICE credentials on both sides. Same session, same DTLS, so whoever watches keeps
//! watching.

use std::time::{Duration, Instant};

use super::backoff::{self, Dice, after};
use super::event::Failure;

/// Between the first two rungs; doubles from rung to rung.
const GAP_MIN: Duration = Duration::from_secs(1);
/// The longest gap. 1 + 2 + 4 + 8 + 16 + 30 + 30 + 30 = 121 s from the first rung to the ninth (product.md).
const GAP_MAX: Duration = Duration::from_secs(30);
/// A server that hears us answers within a round trip or two. One that is silent for longer is not there: both planes are
/// lost, and a new session is the quicker way.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// After the answer to the last rung: checks come through within some round trips, or not at all.
const LAST_LOOK: Duration = Duration::from_secs(4);
/// Without a network nothing is asked, and after this the far end has given us up: its consent to our media has run out
/// (RFC 7675).
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The machine of the ladder, from the loss of media to the next acknowledgement.
#[derive(Debug, Clone)]
pub(super) struct Ladder {
    /// Rungs ordered so far.
    made: u32,
    /// When the last one was ordered.
    last: Option<Instant>,
    /// Until then its answer may still come, whatever ICE does meanwhile.
    unanswered: Option<Instant>,
    /// How often ICE came up again and broke before anything was acknowledged.
    vain: u32,
    state: State,
    /// What was lost.
    lost: Failure,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting {
        until: Instant,
    },
    /// There is no network.
    Paused {
        until: Instant,
    },
    /// A rung is on its way.
    Asked {
        until: Instant,
        /// The next one, not before the answer.
        next: Instant,
    },
    /// ICE is up again, and nothing is acknowledged yet.
    Resting {
        next: Instant,
    },
    /// There will be no more rungs: the session is being replaced.
    Over,
}

/// What has come due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Order an ICE restart.
    Rung,
    /// No rung has helped.
    UsedUp,
    /// The server has not answered: it is lost, too.
    NoAnswer,
    /// There has been no network for too long.
    CutOff,
}

impl Ladder {
    /// Media is lost: the first rung is due at once.
    pub(super) fn new(now: Instant, cut_off: bool, lost: Failure) -> Self {
        let mut ladder =
            Self { made: 0, last: None, unanswered: None, vain: 0, state: State::Waiting { until: now }, lost };
        ladder.wait(now, now, cut_off);
        ladder
    }

    /// Rungs ordered so far.
    pub(super) const fn made(&self) -> u32 {
        self.made
    }

    /// What was lost.
    pub(super) const fn lost(&self) -> &Failure {
        &self.lost
    }

    /// Media was lost again before anything was acknowledged: it goes on where it was.
    pub(super) fn lost_again(&mut self, now: Instant, cut_off: bool) {
        if let State::Resting { next } = self.state {
            self.vain = self.vain.saturating_add(1);
            self.wait(now, next.max(now), cut_off);
        }
    }

    /// ICE is up again.
    pub(super) fn connected(&mut self, now: Instant) {
        match self.state {
            State::Waiting { until: next } | State::Asked { next, .. } => self.state = State::Resting { next },
            State::Paused { .. } => self.state = State::Resting { next: now },
            State::Resting { .. } | State::Over => {}
        }
    }

    /// The server answered the rung, with or without success.
    pub(super) fn answered(&mut self, now: Instant, cut_off: bool) {
        if let State::Asked { next, .. } = self.state {
            self.unanswered = None;
            self.wait(now, next.max(now), cut_off);
        }
    }

    /// ICE came up again before this, and broke before anything was acknowledged.
    pub(super) const fn was_in_vain(&self) -> bool {
        self.vain > 0
    }

    /// There will be no more rungs.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// A rung is on its way, so that an answer is an answer.
    pub(super) const fn is_asked(&self) -> bool {
        matches!(self.state, State::Asked { .. })
    }

    /// ICE is up again.
    pub(super) const fn is_resting(&self) -> bool {
        matches!(self.state, State::Resting { .. })
    }

    /// No network: it waits for one.
    pub(super) const fn is_paused(&self) -> bool {
        matches!(self.state, State::Paused { .. })
    }

    /// The session is being replaced.
    pub(super) fn end(&mut self) {
        self.state = State::Over;
    }

    /// Another network: the next rung at once, though not on the heels of the last.
    pub(super) fn route_appeared(&mut self, now: Instant) {
        let soon = self.last.map_or(now, |last| now.max(after(last, GAP_MIN)));
        let soon_if_free = self.unanswered.map_or(soon, |until| soon.max(until));
        match &mut self.state {
            State::Waiting { until } => *until = soon_if_free.min(*until),
            State::Asked { next, .. } => *next = soon.min(*next),
            State::Paused { .. } => self.state = State::Waiting { until: soon_if_free },
            State::Resting { .. } | State::Over => {}
        }
    }

    /// No network is left.
    pub(super) fn routes_lost(&mut self, now: Instant) {
        if let State::Waiting { until } = self.state {
            self.wait(now, until, true);
        }
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } | State::Paused { until } | State::Asked { until, .. } => Some(until),
            State::Resting { .. } | State::Over => None,
        }
    }

    /// Sees to what has come due; `rungs` is how many there are.
    pub(super) fn due(&mut self, now: Instant, cut_off: bool, rungs: u32, dice: &mut Dice) -> Option<Step> {
        self.deadline().filter(|deadline| *deadline <= now)?;
        match self.state {
            State::Waiting { .. } if self.made >= rungs => Some(Step::UsedUp),
            State::Waiting { .. } => {
                self.made += 1;
                self.last = Some(now);
                self.unanswered = Some(now + ANSWER_TIMEOUT);
                let gap = if self.made >= rungs { LAST_LOOK } else { gap(self.made, dice) };
                self.state = State::Asked { until: now + ANSWER_TIMEOUT, next: after(now, gap) };
                Some(Step::Rung)
            }
            // The network went away meanwhile: no wonder.
            State::Asked { next, .. } if cut_off => {
                self.wait(now, next, true);
                None
            }
            State::Asked { .. } => Some(Step::NoAnswer),
            State::Paused { .. } => Some(Step::CutOff),
            State::Resting { .. } | State::Over => None,
        }
    }

    fn wait(&mut self, now: Instant, until: Instant, cut_off: bool) {
        let until = self.unanswered.map_or(until, |unanswered| until.max(unanswered));
        self.state = if cut_off { State::Paused { until: now + PAUSE_MAX } } else { State::Waiting { until } };
    }
}

/// The gap after rung number `made` (from 1).
fn gap(made: u32, dice: &mut Dice) -> Duration {
    let doubled = GAP_MIN.saturating_mul(1_u32.checked_shl(made.saturating_sub(1)).unwrap_or(u32::MAX));
    backoff::about(doubled.min(GAP_MAX), dice)
}

#[cfg(test)]
mod tests {
    use super::super::event::{Phase, Retry};
    use super::super::tests::at;
    use super::*;
    use crate::status::ErrorCode;

    fn ladder() -> Ladder {
        let lost = Failure::new(Phase::Established, Retry::Backoff, ErrorCode::IceConnectionDisconnected, "silent");
        Ladder::new(at(0.0), false, lost)
    }

    /// Climbs to the end; each rung is answered at once. When each rung came, and the end.
    fn climbed(rungs: u32, seed: u64) -> Vec<f64> {
        let (mut ladder, mut dice, mut times) = (ladder(), Dice::new(seed), Vec::new());
        loop {
            let now = ladder.deadline().expect("it goes on");
            times.push((now - at(0.0)).as_secs_f64());
            match ladder.due(now, false, rungs, &mut dice).expect("due") {
                Step::Rung => ladder.answered(now, false),
                Step::UsedUp => return times,
                other @ (Step::NoAnswer | Step::CutOff) => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn nine_rungs_over_two_minutes_the_first_at_once() {
        let spans: Vec<f64> = (0..200).map(|seed| climbed(9, seed)[8]).collect();
        assert!(spans.iter().all(|span| (121.0 * 0.9..=121.0 * 1.1).contains(span)), "{spans:?}");
        let mean = spans.iter().sum::<f64>() / 200.0;
        assert!((mean - 121.0).abs() < 1.5, "{mean}");
        let times = climbed(9, 7);
        assert_eq!((times.len(), times[0]), (10, 0.0));
        for (gap, wanted) in times.windows(2).zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]) {
            let gap = gap[1] - gap[0];
            assert!((wanted * 0.9 - 0.01..=wanted * 1.1 + 0.01).contains(&gap), "{gap} instead of {wanted}");
        }
    }

    #[test]
    fn a_single_rung_has_its_time_too() {
        assert_eq!(climbed(1, 1), [0.0, LAST_LOOK.as_secs_f64()]);
    }

    #[test]
    fn the_next_rung_waits_for_the_answer_and_a_server_that_gives_none_is_lost() {
        let (mut ladder, mut dice) = (ladder(), Dice::new(1));
        assert_eq!(ladder.due(at(0.0), false, 9, &mut dice), Some(Step::Rung));
        assert_eq!(ladder.due(at(4.0), false, 9, &mut dice), None);
        assert_eq!(ladder.due(at(5.0), false, 9, &mut dice), Some(Step::NoAnswer));
    }

    #[test]
    fn without_a_network_no_rung_is_made_and_a_route_brings_the_next_at_once() {
        let (mut ladder, mut dice) = (ladder(), Dice::new(1));
        assert_eq!(ladder.due(at(0.0), false, 9, &mut dice), Some(Step::Rung));
        ladder.routes_lost(at(0.1));
        ladder.answered(at(0.2), true);
        assert_eq!(ladder.due(at(20.0), true, 9, &mut dice), None);
        ladder.route_appeared(at(20.0));
        assert_eq!(ladder.due(at(20.0), false, 9, &mut dice), Some(Step::Rung));
        ladder.answered(at(20.1), false);
        // A flapping interface does not use the rungs up.
        ladder.route_appeared(at(20.2));
        assert_eq!(ladder.due(at(20.9), false, 9, &mut dice), None);
        assert_eq!(ladder.due(at(21.0), false, 9, &mut dice), Some(Step::Rung));
        ladder.answered(at(21.0), true);
        assert_eq!(ladder.due(at(51.0), true, 9, &mut dice), Some(Step::CutOff));
    }

    #[test]
    fn an_ice_that_comes_up_and_breaks_again_gets_no_new_rungs() {
        let (mut ladder, mut dice, mut rungs, mut now) = (ladder(), Dice::new(1), 0, at(0.0));
        let mut made = |ladder: &mut Ladder| {
            now = now.max(ladder.deadline().expect("waits"));
            let step = ladder.due(now, false, 9, &mut dice);
            ladder.answered(now, false);
            ladder.connected(now);
            ladder.lost_again(now, false);
            step
        };
        while made(&mut ladder) == Some(Step::Rung) {
            rungs += 1;
        }
        assert_eq!(rungs, 9);
    }
}
