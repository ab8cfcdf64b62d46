//! Pure: the signalling plane of one session - has the server accepted us, and does it still listen?
//!
//! ```text
//! Opening -- accepted --> Open -- lost --> Away { Waiting -- due --> Asked } -- resumed --> Open
//!                                                 ^-- failed, no answer --'  \-- refused --> Orphaned
//! ```
//! Media goes on all the while.

use std::time::{Duration, Instant};

use crate::status::{ErrorCode, Plane, PlaneState, Reason};

use super::backoff::{self, Dice, after};
use super::event::{Failure, Phase, Retry};
use super::policy::{Retries, SignallingPolicy};
use super::trouble;

/// A backstop, not a tuning knob: the messenger has deadlines of its own for each request (10 s or so), and may follow a
/// redirect or publish twice (when the ghost that it buries held the slot); an attempt that is silent for longer than this
/// hangs.
const OPENING_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for an order to resume.
const RESUMING_TIMEOUT: Duration = Duration::from_secs(30);

/// The machine of the signalling plane.
#[derive(Debug, Clone)]
pub(super) enum Signalling {
    /// The offer is on its way.
    Opening {
        /// When it counts as hung.
        until: Instant,
    },
    /// The server accepted.
    Open,
    /// The connection broke; it will be reopened.
    Away(Away),
    /// The server does not know the session any more.
    Orphaned,
}

/// A connection that is to be reopened.
#[derive(Debug, Clone)]
pub(super) struct Away {
    reason: Reason,
    /// Resumes ordered in a row; decides how long to wait.
    ordered: u32,
    /// Those that count against `maxAttempts`.
    spent: u32,
    next: Next,
}

#[derive(Debug, Clone)]
enum Next {
    /// `until: None`: until a route appears.
    Waiting { since: Instant, until: Option<Instant> },
    /// A Resume is on its way.
    Asked { until: Instant },
}

/// What the machine must know of the rest of the brain.
pub(super) struct Terms<'a> {
    pub(super) now: Instant,
    pub(super) policy: &'a SignallingPolicy,
    /// There is no network, and the server is not this machine.
    pub(super) cut_off: bool,
    /// The server forbids anything before this time.
    pub(super) not_before: Option<Instant>,
    pub(super) dice: &'a mut Dice,
}

/// What has come due.
#[derive(Debug, PartialEq)]
pub(super) enum Due {
    /// Order a Resume.
    Resume,
    /// A Resume was not answered: it failed.
    NoAnswer(Failure),
    /// The session is lost.
    Lost(Failure),
}

impl Signalling {
    /// An attempt that starts now.
    pub(super) fn new(now: Instant) -> Self {
        Self::Opening { until: now + OPENING_TIMEOUT }
    }

    pub(super) fn accepted(&mut self) {
        if matches!(self, Self::Opening { .. }) {
            *self = Self::Open;
        }
    }

    /// The connection is back. Good news is taken even when it is late; an orphan has been replaced already. False: no
    /// news.
    pub(super) fn resumed(&mut self) -> bool {
        let is_away = self.is_away();
        if is_away {
            *self = Self::Open;
        }
        is_away
    }

    /// From now on the server knows the session no more.
    pub(super) fn orphaned(&mut self) {
        *self = Self::Orphaned;
    }

    /// The server has accepted the session at some time.
    pub(super) const fn was_open(&self) -> bool {
        !matches!(self, Self::Opening { .. })
    }

    /// Since when the offer is on its way; `None`: the server has accepted it.
    pub(super) fn opening_since(&self) -> Option<Instant> {
        match self {
            Self::Opening { until } => until.checked_sub(OPENING_TIMEOUT),
            Self::Open | Self::Away(_) | Self::Orphaned => None,
        }
    }

    /// The server knows the session no more.
    pub(super) const fn is_orphaned(&self) -> bool {
        matches!(self, Self::Orphaned)
    }

    /// Nothing is wrong with it.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// It broke and is to be reopened.
    pub(super) const fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }

    /// A Resume is on its way, so that an answer is an answer.
    pub(super) const fn is_asked(&self) -> bool {
        matches!(self, Self::Away(Away { next: Next::Asked { .. }, .. }))
    }

    pub(super) const fn plane(&self) -> Plane {
        match self {
            Self::Opening { .. } => Plane { state: PlaneState::Connecting, reason: None },
            Self::Open => Plane { state: PlaneState::Connected, reason: None },
            Self::Away(away) => Plane { state: PlaneState::Disconnected, reason: Some(away.reason) },
            Self::Orphaned => Plane { state: PlaneState::Failed, reason: Some(Reason::ServerRefused) },
        }
    }

    /// The connection broke, or a Resume failed. Waits for the next one (`at_once`: no longer than the server wants);
    /// false: the session counts as lost.
    pub(super) fn reopens(&mut self, failure: &Failure, at_once: bool, terms: Terms<'_>) -> bool {
        let (ordered, spent) = match self {
            Self::Open => (0, 0),
            Self::Away(away) => {
                // The try was not to blame, so it costs nothing.
                let is_free = terms.cut_off || failure.code == ErrorCode::TokenProviderFailed;
                (away.ordered, if is_free { away.spent.saturating_sub(1) } else { away.spent })
            }
            Self::Opening { .. } | Self::Orphaned => return false,
        };
        let is_used_up = matches!(terms.policy.max_attempts, Retries::AtMost(max) if spent >= max);
        if !terms.policy.keep_media_on_loss || is_used_up {
            return false;
        }
        let reason = if terms.cut_off { Reason::NetworkChange } else { trouble::reason(failure) };
        let next = wait(ordered + 1, at_once, terms);
        *self = Self::Away(Away { reason, ordered, spent, next });
        true
    }

    /// Another network: no need to wait any longer.
    pub(super) fn route_appeared(&mut self, terms: &Terms<'_>) {
        if let Self::Away(Away { next: Next::Waiting { until, .. }, .. }) = self {
            *until = (!terms.cut_off).then(|| terms.now.max(terms.not_before.unwrap_or(terms.now)));
        }
    }

    /// The network went away, or the policy is another one.
    pub(super) fn refit(&mut self, terms: &Terms<'_>) {
        if let Self::Away(Away { next: Next::Waiting { since, until }, .. }) = self {
            let cap = after(*since, backoff::signalling_cap(terms.policy)).max(terms.now);
            *until = match *until {
                Some(_) | None if terms.cut_off => None,
                Some(until) => Some(until.min(cap).max(terms.not_before.unwrap_or(terms.now)).min(until)),
                None => Some(terms.now.max(terms.not_before.unwrap_or(terms.now))),
            };
        }
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Opening { until } | Self::Away(Away { next: Next::Asked { until }, .. }) => Some(*until),
            Self::Away(Away { next: Next::Waiting { until, .. }, .. }) => *until,
            Self::Open | Self::Orphaned => None,
        }
    }

    /// What is to be done at `now`, if anything.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        self.deadline().filter(|until| *until <= now)?;
        let no_answer = |what, limit: Duration| {
            let words = format!("the server did not answer {what} within {} s", limit.as_secs());
            Failure::new(Phase::Request, Retry::Backoff, ErrorCode::SignallingFailed, words)
        };
        match self {
            Self::Opening { .. } => Some(Due::Lost(no_answer("the offer", OPENING_TIMEOUT))),
            Self::Away(Away { next: Next::Asked { .. }, .. }) => {
                Some(Due::NoAnswer(no_answer("the attempt to resume the session", RESUMING_TIMEOUT)))
            }
            Self::Away(away) => {
                away.ordered = away.ordered.saturating_add(1);
                away.spent = away.spent.saturating_add(1);
                away.next = Next::Asked { until: now + RESUMING_TIMEOUT };
                Some(Due::Resume)
            }
            Self::Open | Self::Orphaned => None,
        }
    }
}

/// The wait before Resume number `number`.
fn wait(number: u32, at_once: bool, terms: Terms<'_>) -> Next {
    let Terms { now, policy, cut_off, not_before, dice } = terms;
    let due = if at_once { now } else { after(now, backoff::signalling_delay(policy, number, now, dice)) };
    let due = not_before.filter(|from| *from > due).map_or(due, |from| dice.not_before(from));
    Next::Waiting { since: now, until: (!cut_off).then_some(due) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tests::{at, base};

    struct Reopening {
        signalling: Signalling,
        dice: Dice,
        policy: SignallingPolicy,
        cut_off: bool,
        not_before: Option<Instant>,
    }

    impl Reopening {
        fn open() -> Self {
            let mut signalling = Signalling::new(base());
            signalling.accepted();
            let (dice, policy) = (Dice::new(5), SignallingPolicy::default());
            Self { signalling, dice, policy, cut_off: false, not_before: None }
        }
        fn terms(&mut self, now: Instant) -> (&mut Signalling, Terms<'_>) {
            let (cut_off, not_before) = (self.cut_off, self.not_before);
            (&mut self.signalling, Terms { now, policy: &self.policy, cut_off, not_before, dice: &mut self.dice })
        }
        fn breaks(&mut self, now: Instant) -> bool {
            let failure = Failure::new(Phase::Dial, Retry::Backoff, ErrorCode::SignallingFailed, "no");
            let (signalling, terms) = self.terms(now);
            signalling.reopens(&failure, false, terms)
        }
        /// Waits for the Resume to be ordered; the answer is when.
        fn resumes(&mut self) -> Instant {
            let deadline = self.signalling.deadline().expect("waits");
            assert_eq!(self.signalling.due(deadline), Some(Due::Resume));
            deadline
        }
    }

    #[test]
    fn an_attempt_that_hangs_fails_after_its_time() {
        let mut signalling = Signalling::new(base());
        let until = signalling.deadline().expect("has a deadline");
        assert_eq!(signalling.due(until - Duration::from_millis(1)), None);
        assert!(matches!(signalling.due(until), Some(Due::Lost(_))));
    }

    #[test]
    fn it_is_reopened_after_half_a_second_doubled_up_to_thirty_a_fifth_up_and_down() {
        let mut plane = Reopening::open();
        let mut now = base();
        for wait in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] {
            assert!(plane.breaks(now));
            let due = plane.resumes();
            let waited = (due - now).as_secs_f64();
            assert!((wait * 0.8..=wait * 1.2).contains(&waited), "{wait}: {waited}");
            now = due;
        }
        plane.signalling.resumed();
        assert!(plane.breaks(now));
        assert!(plane.resumes() - now < Duration::from_secs(1), "begins anew");
    }

    #[test]
    fn after_max_attempts_in_a_row_it_is_lost_but_tries_without_a_network_are_free() {
        let mut plane = Reopening::open();
        plane.policy.max_attempts = Retries::AtMost(2);
        assert!(plane.breaks(base()));
        for _ in 0..5 {
            let now = plane.resumes();
            plane.cut_off = true;
            assert!(plane.breaks(now));
            assert_eq!(plane.signalling.deadline(), None, "no try without a network");
            plane.cut_off = false;
            let (signalling, terms) = plane.terms(now);
            signalling.route_appeared(&terms);
            assert_eq!(plane.signalling.deadline(), Some(now), "a route is used at once");
        }
        let now = plane.resumes();
        assert!(plane.breaks(now));
        let now = plane.resumes();
        assert!(!plane.breaks(now));
    }

    #[test]
    fn what_the_server_forbids_is_kept_even_when_a_route_appears() {
        let mut plane = Reopening::open();
        plane.not_before = Some(at(20.0));
        assert!(plane.breaks(base()));
        let (signalling, terms) = plane.terms(at(1.0));
        signalling.route_appeared(&terms);
        assert_eq!(plane.resumes(), at(20.0));
    }

    #[test]
    fn a_resume_that_is_never_answered_counts_as_failed() {
        let mut plane = Reopening::open();
        plane.breaks(base());
        let asked = plane.resumes();
        assert!(plane.signalling.is_asked());
        let until = plane.signalling.deadline().expect("a backstop");
        assert_eq!(until, asked + RESUMING_TIMEOUT);
        assert!(matches!(plane.signalling.due(until), Some(Due::NoAnswer(_))));
    }

    #[test]
    fn without_keep_media_on_loss_the_session_ends_with_its_connection() {
        let mut plane = Reopening::open();
        plane.policy.keep_media_on_loss = false;
        assert!(!plane.breaks(base()));
    }

    #[test]
    fn a_shorter_cap_holds_for_the_wait_under_way() {
        let mut plane = Reopening::open();
        plane.policy.min_delay = Duration::from_secs(25);
        plane.breaks(base());
        plane.policy = SignallingPolicy { max_delay: Duration::from_secs(5), ..SignallingPolicy::default() };
        let (signalling, terms) = plane.terms(at(1.0));
        signalling.refit(&terms);
        assert_eq!(plane.signalling.deadline(), Some(at(6.0)), "5 s and a fifth");
    }
}
