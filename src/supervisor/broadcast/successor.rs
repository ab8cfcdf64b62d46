//! Pure: make before break - a session is opened beside the live one and takes its place once it is proven.
//!
//! Two causes: the server knows the live session no more (it feeds on as long as it can), or a better server may be back.

use std::time::Instant;

use super::super::event::{Action, Failure, SessionEvent};
use super::super::policy::Retries;
use super::super::session::Session;
use super::super::signalling::Due;
use super::session_loss::{self, Next};
use super::{Around, Broadcast, Policy, STABLE_SPELL, State, Wait, WaitingFor, after, outage, trouble};
use crate::supervisor::trouble::Verdict;

/// The session that is to take the place of the live one.
#[derive(Debug)]
pub(super) struct Heir {
    cause: Cause,
    state: HeirState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The server knows the live session no more: as urgent as any retry, and counted as one.
    Orphaned,
    /// The media of the live session is lost, and no ICE restart helps. As urgent; needless once media is back.
    MediaLost,
    /// A better server may be back. Nothing is lost when it is not.
    Failback,
    /// `forceReconnectAfterDrop`: media healed by itself, and is not trusted. Nothing is lost when the new one fails.
    Renewal,
}

#[derive(Debug)]
enum HeirState {
    Waiting(Wait),
    Open(Box<Session>),
}

impl Cause {
    /// It counts as a retry: without it the broadcast ends.
    const fn is_retry(self) -> bool {
        matches!(self, Self::Orphaned | Self::MediaLost)
    }
}

impl Heir {
    pub(super) const fn is_waiting(&self) -> bool {
        matches!(self.state, HeirState::Waiting(_))
    }

    /// The session, once it is being opened.
    pub(super) fn session(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            HeirState::Waiting(_) => None,
            HeirState::Open(session) => Some(session),
        }
    }

    pub(super) fn network_lost(&mut self, around: Around<'_>) {
        if let HeirState::Waiting(wait) = &mut self.state {
            *wait = Wait::new(around, around.now, WaitingFor::Network);
        }
    }

    /// Other numbers hold from now on. True: nothing is left to wait for.
    pub(super) fn refit(&mut self, around: Around<'_>) -> bool {
        match &mut self.state {
            HeirState::Waiting(wait) => wait.refit(around),
            HeirState::Open(_) => false,
        }
    }

    pub(super) fn deadline(&self, policy: &Policy) -> Option<Instant> {
        match &self.state {
            HeirState::Waiting(wait) => wait.until,
            HeirState::Open(session) => session.deadline(policy),
        }
    }
}

impl Broadcast {
    /// The server is there and knows the live session no more. Media that flows goes on; a new session is opened beside
    /// it, the first time at once.
    pub(super) fn resume_refused(
        &mut self,
        around: Around<'_>,
        failure: &Failure,
        orders: &mut Vec<Action>,
    ) -> Option<Verdict> {
        let State::Live(session) = &mut self.state else { return None };
        if !session.signalling.is_asked() {
            return None; // An answer that is too late.
        }
        if session.last_acknowledged().is_none() {
            return Some(self.lose(around, failure, orders)); // Nothing flows that would be worth keeping.
        }
        session.signalling.orphaned();
        self.restore_budget(around.now);
        Some(self.begin_heir(around, Cause::Orphaned, failure, orders).unwrap_or_else(|| trouble::passing(failure)))
    }

    /// A new session is opened beside the live one, the first time at once. The answer is more than that the failure has to
    /// be told.
    pub(super) fn begin_heir(
        &mut self,
        around: Around<'_>,
        cause: Cause,
        failure: &Failure,
        orders: &mut Vec<Action>,
    ) -> Option<Verdict> {
        let State::Live(session) = &self.state else { return None };
        let endpoint = session.endpoint;
        match self.after_failure(around, endpoint, true, failure) {
            Next::Final(verdict) => return Some(verdict),
            Next::Exhausted(_) if self.heir.is_some() => {} // A move to a better server may save it.
            Next::Exhausted(_) if cause == Cause::MediaLost => return Some(self.lose(around, failure, orders)),
            Next::Exhausted(_) => self.heir_waits_for_budget(around),
            Next::Wait { until, what } => {
                if let Some(heir) = &mut self.heir {
                    if !heir.cause.is_retry() {
                        self.tries = self.tries.saturating_add(1);
                    }
                    heir.cause = cause; // A move to a better server that is under way.
                } else {
                    let is_first = self.tries <= 1 && what == WaitingFor::Backoff;
                    let at_once = is_first && !around.is_our_outage();
                    let wait = Wait::new(around, if at_once { around.now } else { until }, what);
                    self.heir = Some(Heir { cause, state: HeirState::Waiting(wait) });
                    if at_once {
                        self.try_heir(around, orders);
                    }
                }
            }
        }
        None
    }

    /// `forceReconnectAfterDrop`: a new session, though the live one has healed.
    pub(super) fn renew(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        let State::Live(session) = &self.state else { return };
        let endpoint = session.endpoint;
        if self.heir.is_some() || around.is_cut_off() || self.endpoints.not_before(endpoint, around.now).is_some() {
            return;
        }
        let state = HeirState::Open(self.open(around, endpoint, orders));
        self.heir = Some(Heir { cause: Cause::Renewal, state });
    }

    /// The same when an heir is on its way already, because media was lost: it is wanted now that media is back, too.
    pub(super) fn renew_by_heir(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        if let Some(Heir { cause, state: HeirState::Open(_) }) = &mut self.heir {
            *cause = Cause::Renewal;
            return;
        }
        self.close_heir(around.now, orders);
        self.renew(around, orders);
    }

    /// The heir is there because the media of the live session was lost.
    pub(super) fn is_heir_for_lost_media(&self) -> bool {
        self.heir.as_ref().is_some_and(|heir| heir.cause == Cause::MediaLost)
    }

    /// Which retry is to replace a session whose media was lost, and what that waits for.
    pub(super) fn replacing(&self) -> Option<(u32, Option<&Wait>)> {
        match self.heir.as_ref().filter(|heir| heir.cause == Cause::MediaLost)? {
            Heir { state: HeirState::Waiting(wait), .. } => Some((self.tries, Some(wait))),
            Heir { state: HeirState::Open(_), .. } => Some((self.tries.saturating_sub(1), None)),
        }
    }

    /// No retry is left, but the live session feeds on: if it does so for a stable spell, the budget is whole again.
    fn heir_waits_for_budget(&mut self, around: Around<'_>) {
        let may_retry = around.policy.max_retries != Retries::AtMost(0);
        self.heir = may_retry.then(|| Heir {
            cause: Cause::Orphaned,
            state: HeirState::Waiting(Wait::new(around, after(around.now, STABLE_SPELL), WaitingFor::Backoff)),
        });
    }

    /// Opens the heir that waits, or waits for what forbids it.
    pub(super) fn try_heir(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        self.restore_budget(around.now);
        if session_loss::used_up(around.policy, self.tries).is_some() {
            return self.heir_waits_for_budget(around);
        }
        let cause = self.heir.as_ref().map_or(Cause::Orphaned, |heir| heir.cause);
        let endpoint = self.endpoints.choose(around.now);
        let state = match self.endpoints.not_before(endpoint, around.now) {
            Some(until) => HeirState::Waiting(Wait::new(around, until, WaitingFor::ServerRetryAfter)),
            None if around.is_cut_off() => HeirState::Waiting(Wait::new(around, around.now, WaitingFor::Network)),
            None => {
                self.tries = self.tries.saturating_add(1);
                HeirState::Open(self.open(around, endpoint, orders))
            }
        };
        self.heir = Some(Heir { cause, state });
    }

    /// When we may move to a better server, and to which.
    pub(super) fn failback(&self) -> Option<(usize, Instant)> {
        match &self.state {
            State::Live(session) if self.heir.is_none() && session.is_healthy() && session.signalling.is_open() => {
                self.endpoints.failback(session.endpoint)
            }
            State::Off | State::Waiting(_) | State::Live(_) => None,
        }
    }

    /// Moves to a better server when it is time.
    pub(super) fn fail_back(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        let Some((endpoint, _)) = self.failback().filter(|(_, when)| *when <= around.now) else { return };
        if around.is_cut_off() {
            self.endpoints.postpone(endpoint, around.now);
            return;
        }
        let state = HeirState::Open(self.open(around, endpoint, orders));
        self.heir = Some(Heir { cause: Cause::Failback, state });
    }

    /// The heir speaks.
    pub(super) fn hear_heir(
        &mut self,
        around: Around<'_>,
        event: SessionEvent,
        orders: &mut Vec<Action>,
    ) -> Option<Verdict> {
        let session = self.heir.as_mut().and_then(Heir::session)?;
        if let SessionEvent::RetrySlot(slot) = event {
            self.dice.keep_to(slot);
            return None;
        }
        if let SessionEvent::GoingAway { retry_after } = event {
            let endpoint = session.endpoint;
            self.server_goes_away(around, endpoint, retry_after);
            return None;
        }
        if matches!(event, SessionEvent::Accepted { .. }) {
            self.endpoints.accepted(session.endpoint);
            self.refused_once = false; // Our token is good, whatever comes then.
            self.dice.forget_slot();
        }
        if let Some(failure) = session.hear(around.now, event) {
            return Some(self.lose_heir(around, &failure, orders));
        }
        if session.is_healthy() && session.signalling.is_open() {
            self.succeed(around, orders);
        }
        None
    }

    pub(super) fn heir_due(&mut self, around: Around<'_>, orders: &mut Vec<Action>) -> Option<Verdict> {
        let failure = match &mut self.heir.as_mut()?.state {
            HeirState::Waiting(wait) => {
                if wait.is_over(around.now) {
                    self.heir_wait_is_over(around, orders);
                }
                return None;
            }
            HeirState::Open(session) => match session.signalling.due(around.now) {
                Some(Due::Lost(failure) | Due::NoAnswer(failure)) => failure,
                Some(Due::Resume) | None => match session.media_due(around.now, around.policy) {
                    Some(failure) => failure,
                    None => {
                        // Its consent may be believed from now on.
                        if session.is_healthy() && session.signalling.is_open() {
                            self.succeed(around, orders);
                        }
                        return None;
                    }
                },
            },
        };
        Some(self.lose_heir(around, &failure, orders))
    }

    /// The wait of the heir, while it waits.
    pub(super) fn heir_wait(&mut self) -> Option<&mut Wait> {
        match &mut self.heir.as_mut()?.state {
            HeirState::Waiting(wait) => Some(wait),
            HeirState::Open(_) => None,
        }
    }

    fn heir_wait_is_over(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        match self.heir_wait() {
            Some(wait) if around.outside.hold.is_some() && wait.what != WaitingFor::Connectivity => {
                *wait = Wait::new(around, around.now, WaitingFor::Backoff);
            }
            Some(_) | None => self.try_heir(around, orders),
        }
    }

    /// Something answers again: an heir that waits for that is opened, one that has hung meanwhile is begun anew.
    pub(super) fn heir_hears_of_connectivity(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        let Some(Heir { cause, state }) = &self.heir else { return };
        match state {
            HeirState::Waiting(wait) if wait.what == WaitingFor::Connectivity => self.try_heir(around, orders),
            HeirState::Open(session) if cause.is_retry() && outage::has_hung(session, around.now) => {
                let (attempt, cause) = (session.attempt, *cause);
                self.teardown.close(around.now, attempt, orders);
                self.tries = self.tries.saturating_sub(1);
                let wait = Wait::new(around, around.now, WaitingFor::Backoff);
                self.heir = Some(Heir { cause, state: HeirState::Waiting(wait) });
                self.try_heir(around, orders);
            }
            HeirState::Waiting(_) | HeirState::Open(_) => {}
        }
    }

    /// The heir failed; the live session feeds on.
    fn lose_heir(&mut self, around: Around<'_>, failure: &Failure, orders: &mut Vec<Action>) -> Verdict {
        let Some(Heir { cause, state: HeirState::Open(session) }) = self.heir.take() else {
            return trouble::passing(failure);
        };
        self.leave(&session);
        self.teardown.close(around.now, session.attempt, orders);
        if !cause.is_retry() {
            self.heed(around, session.endpoint, failure);
            if cause == Cause::Failback {
                self.endpoints.dismiss(session.endpoint, around.now, false);
            }
            if matches!(&self.state, State::Live(live) if live.signalling.is_orphaned()) {
                self.heir_waits_for_budget(around);
            }
            return trouble::passing(failure);
        }
        if self.is_in_our_own_way(around.now, failure) && session_loss::used_up(around.policy, self.tries).is_none() {
            self.clear_the_way(around, failure, orders);
            return trouble::passing(failure);
        }
        match self.after_failure(around, session.endpoint, false, failure) {
            Next::Final(verdict) => return verdict,
            Next::Exhausted(_) if cause == Cause::MediaLost => return self.lose(around, failure, orders),
            Next::Exhausted(_) => self.heir_waits_for_budget(around),
            Next::Wait { until, what } => {
                let state = HeirState::Waiting(Wait::new(around, until, what));
                self.heir = Some(Heir { cause, state });
            }
        }
        trouble::passing(failure)
    }

    /// The heir is proven: it is on air, and the old session is closed.
    fn succeed(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        let Some(Heir { state: HeirState::Open(session), .. }) = self.heir.take() else { return };
        self.close_live(around.now, orders);
        self.going_away = None;
        self.healthy_since = None; // Its spell begins now.
        self.take_over(session);
    }

    /// The live session is gone; the heir that is being opened takes its place. False: there is none that may.
    pub(super) fn promote_heir(&mut self, is_used_up: bool) -> bool {
        match self.heir.take() {
            Some(Heir { cause, state: HeirState::Open(mut session) }) if cause.is_retry() || !is_used_up => {
                if !cause.is_retry() {
                    self.tries = self.tries.saturating_add(1); // From now on it is a retry.
                }
                session.takes_over = true;
                self.take_over(session);
                true
            }
            other => {
                self.heir = other;
                false
            }
        }
    }

    fn take_over(&mut self, session: Box<Session>) {
        self.session_id = session.id.clone().or_else(|| self.session_id.take());
        self.path = session.link.as_ref().map_or_else(|| self.path.take(), |link| link.path.clone());
        self.state = State::Live(session);
    }

    /// An heir is being opened on the budget of retries.
    pub(super) fn is_heir_a_retry(&self) -> bool {
        matches!(self.heir, Some(Heir { cause, state: HeirState::Open(_) }) if cause.is_retry())
    }

    /// Orders the heir closed, if there is one; there is none afterwards.
    pub(super) fn close_heir(&mut self, now: Instant, orders: &mut Vec<Action>) {
        if let Some(Heir { state: HeirState::Open(session), .. }) = self.heir.take() {
            self.leave(&session);
            self.teardown.close(now, session.attempt, orders);
        }
    }
}
