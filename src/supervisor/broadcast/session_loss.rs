//! Pure: what follows from a loss - of the signalling connection alone, or of the whole session.

use std::time::{Duration, Instant};

use crate::status::{ErrorCode, WaitingFor};

use super::super::endpoints::SLOT_BUSY_WAIT;
use super::super::event::{Action, Failure, Retry};
use super::super::policy::{Policy, Retries};
use super::{Around, Broadcast, Outage, STABLE_SPELL, State, Trouble, after, backoff, trouble};
use crate::supervisor::trouble::Verdict;

/// A goodbye takes no longer (`uplink`: 1.2 s); what holds our slot after that is not in our hands.
const OWN_SLOT_WAIT: Duration = Duration::from_millis(1500);
/// A failure that promises better (another token, a slot that we clear ourselves) may be followed by a try at once, but not
/// more often than this: a server that takes us and throws us out again must not make us spin.
const HURRY_EVERY: Duration = Duration::from_secs(60);
/// No server may send us away for longer than this: a wrong number in a header should not silence a camera for a day.
const GOING_AWAY_MAX: Duration = Duration::from_hours(1);

/// What a failure means for the next try.
pub(super) enum Next {
    /// There is none.
    Final(Verdict),
    /// The budget of retries allows none.
    Exhausted(Verdict),
    /// It comes at `until`.
    Wait { until: Instant, what: WaitingFor },
}

/// The limit of retries, when so many tries go beyond it.
pub(super) fn used_up(policy: &Policy, tries: u32) -> Option<u32> {
    match policy.max_retries {
        Retries::AtMost(max) if tries > max => Some(max),
        Retries::AtMost(_) | Retries::Unlimited => None,
    }
}

/// It is this server that cannot serve us; another one may. Tokens and accounts are the same everywhere.
const fn is_about_the_endpoint(code: ErrorCode) -> bool {
    match code {
        ErrorCode::NotFound
        | ErrorCode::SignallingFailed
        | ErrorCode::TlsUntrusted
        | ErrorCode::BadAnswer
        | ErrorCode::UntrustedRedirect => true,
        ErrorCode::InvalidToken
        | ErrorCode::TokenExpired
        | ErrorCode::ChannelNotAuthorized
        | ErrorCode::ConcurrentLimit
        | ErrorCode::AccountSuspended
        | ErrorCode::AdminDisconnect
        | ErrorCode::AuthFailed
        | ErrorCode::NetworkDisconnect
        | ErrorCode::ReconnectionExhausted
        | ErrorCode::IceConnectionFailed
        | ErrorCode::IceConnectionDisconnected
        | ErrorCode::MediaStalled
        | ErrorCode::CaptureLost
        | ErrorCode::BadConfig
        | ErrorCode::EncoderFailed
        | ErrorCode::TokenProviderFailed
        | ErrorCode::Internal => false,
    }
}

impl Broadcast {
    /// The signalling connection broke (`is_answer`: a Resume failed). Media goes on while it is reopened.
    pub(super) fn signalling_broke(
        &mut self,
        around: Around<'_>,
        is_answer: bool,
        failure: &Failure,
        orders: &mut Vec<Action>,
    ) -> Option<Verdict> {
        let State::Live(session) = &self.state else { return None };
        let media_is_lost = session.ladder.as_ref().map(|ladder| ladder.lost().clone());
        // What comes while a Resume is awaited is its answer; while it waits or has been given up, nothing is news.
        let is_news = session.signalling.is_asked()
            || !is_answer && (session.signalling.is_open() || !session.signalling.was_open());
        if !is_news {
            return None;
        }
        let endpoint = session.endpoint;
        self.heed(around, endpoint, failure);
        let is_final = match failure.retry {
            Retry::Never | Retry::IfProven { .. } => true,
            Retry::Once => self.refused_once,
            Retry::Backoff | Retry::After(_) | Retry::Busy { .. } => false,
        };
        let at_once = self.may_hurry(around.now, failure);
        if let Some(lost) = media_is_lost.filter(|_| !is_final) {
            return Some(self.lose(around, &lost, orders)); // Both planes are.
        }
        let reopens = self
            .reopening(around)
            .is_some_and(|(session, terms)| !is_final && session.signalling.reopens(failure, at_once, terms));
        if reopens {
            self.hurried = if at_once { Some(around.now) } else { self.hurried };
            self.refused_once |= failure.retry == Retry::Once;
            return Some(trouble::passing(failure));
        }
        let verdict = self.lose(around, failure, orders);
        self.trouble = self.trouble.take().map(Trouble::in_signalling);
        Some(verdict)
    }

    /// The server will go away, and asks for a wait.
    pub(super) fn server_goes_away(&mut self, around: Around<'_>, endpoint: usize, retry_after: Duration) {
        let retry_after = retry_after.min(GOING_AWAY_MAX);
        self.going_away = Some(retry_after);
        let wait = backoff::hinted_delay(retry_after, &mut self.dice);
        self.endpoints.forbid(endpoint, after(around.now, wait));
    }

    /// Keeps in mind until when the server forbids tries.
    pub(super) fn heed(&mut self, around: Around<'_>, endpoint: usize, failure: &Failure) {
        if let Retry::After(time) | Retry::Busy { after: Some(time) } = failure.retry {
            let wait = backoff::server_delay(around.policy, time, &mut self.dice);
            self.endpoints.forbid(endpoint, after(around.now, wait));
        }
        if failure.code == ErrorCode::ConcurrentLimit && !matches!(failure.retry, Retry::Busy { .. }) {
            let wait = backoff::hinted_delay(SLOT_BUSY_WAIT, &mut self.dice);
            self.endpoints.forbid(endpoint, after(around.now, wait));
        }
    }

    /// The failure promises that a try at once fares better, and there was no such try lately.
    fn may_hurry(&self, now: Instant, failure: &Failure) -> bool {
        failure.retry == Retry::Once && self.is_rested(now)
    }

    fn is_rested(&self, now: Instant) -> bool {
        self.hurried.is_none_or(|at| now >= after(at, HURRY_EVERY))
    }

    /// The heir found its slot taken, and the server knows the live session no more: it is that session of ours that holds
    /// the slot.
    pub(super) fn is_in_our_own_way(&self, now: Instant, failure: &Failure) -> bool {
        let is_asked_to_wait = matches!(
            failure.retry,
            Retry::After(time) | Retry::Busy { after: Some(time) } if time > SLOT_BUSY_WAIT
        );
        let is_orphan =
            matches!(&self.state, State::Live(session) if session.signalling.is_orphaned() || session.is_given_up());
        let is_taken = failure.code == ErrorCode::ConcurrentLimit || matches!(failure.retry, Retry::Busy { .. });
        is_taken && is_orphan && !is_asked_to_wait && self.is_rested(now)
    }

    /// Closes our own session that holds the slot. The next try comes as soon as it is closed.
    pub(super) fn clear_the_way(&mut self, around: Around<'_>, failure: &Failure, orders: &mut Vec<Action>) {
        let State::Live(session) = &self.state else { return };
        let attempt = session.attempt;
        self.hurried = Some(around.now);
        self.begin_outage(around.now);
        self.close_live(around.now, orders);
        self.trouble = Some(Trouble::new(failure, around.is_our_outage()));
        self.in_the_way = Some(attempt);
        self.wait(around, after(around.now, OWN_SLOT_WAIT), WaitingFor::Backoff);
    }

    /// Our own session that held the slot is closed.
    pub(super) fn slot_is_free(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        if matches!(self.state, State::Waiting(_)) {
            self.try_now(around, orders);
        }
    }

    /// The live session is lost: closes it, and decides whether and when the next is tried. An heir that is being opened
    /// is the next.
    pub(super) fn lose(&mut self, around: Around<'_>, failure: &Failure, orders: &mut Vec<Action>) -> Verdict {
        let State::Live(session) = &self.state else { return trouble::passing(failure) };
        let (endpoint, was_proved) = (session.endpoint, session.last_acknowledged().is_some());
        self.begin_outage(around.now);
        self.close_live(around.now, orders);
        self.trouble = Some(Trouble::new(failure, around.is_our_outage()));
        match self.after_failure(around, endpoint, was_proved, failure) {
            Next::Final(verdict) => verdict,
            Next::Exhausted(verdict) => {
                if self.promote_heir(true) {
                    trouble::passing(failure)
                } else {
                    verdict
                }
            }
            Next::Wait { until, what } => {
                if !self.promote_heir(false) {
                    self.close_heir(around.now, orders);
                    self.wait(around, until, what);
                }
                trouble::passing(failure)
            }
        }
    }

    /// What a failure of a session means for the next.
    pub(super) fn after_failure(
        &mut self,
        around: Around<'_>,
        endpoint: usize,
        was_proved: bool,
        failure: &Failure,
    ) -> Next {
        let Around { now, policy, .. } = around;
        let no_token = failure.code == ErrorCode::TokenProviderFailed;
        if (around.is_our_outage() || no_token) && !was_proved && policy.max_retries != Retries::AtMost(0) {
            self.tries = self.tries.saturating_sub(1); // No try is spent while nothing can be reached, or without a token.
        }
        self.heed(around, endpoint, failure);
        match failure.retry {
            Retry::Never | Retry::IfProven { .. }
                if is_about_the_endpoint(failure.code) && self.endpoints.has_others(endpoint) =>
            {
                self.endpoints.dismiss(endpoint, now, true);
            }
            Retry::Never | Retry::IfProven { .. } => return Next::Final(trouble::terminal(failure)),
            Retry::Once if self.refused_once => return Next::Final(trouble::terminal(failure)),
            Retry::Once => self.refused_once = true,
            Retry::Backoff | Retry::After(_) | Retry::Busy { .. }
                if was_proved || around.is_our_outage() || no_token => {}
            Retry::Backoff | Retry::After(_) | Retry::Busy { .. } => self.endpoints.failed(endpoint, now),
        }
        if let Some(max) = used_up(policy, self.tries) {
            let last = Trouble::new(failure, around.is_our_outage());
            return Next::Exhausted(trouble::retries_used_up(max, Some(&last)));
        }
        self.next_try(around, endpoint, was_proved, failure)
    }

    fn next_try(&mut self, around: Around<'_>, endpoint: usize, was_proved: bool, failure: &Failure) -> Next {
        // Who was on air and is thrown out may be back soon; the budget is spent all the same.
        let is_evicted = was_proved && failure.code == ErrorCode::NetworkDisconnect;
        let number = if is_evicted { 1 } else { self.tries.max(self.token_failures) };
        let mut own = after(around.now, backoff::delay(around.policy, number, around.now, &mut self.dice));
        if self.may_hurry(around.now, failure) {
            (own, self.hurried) = (around.now, Some(around.now));
        }
        let next = self.endpoints.choose(around.now);
        match (failure.retry, self.endpoints.not_before(next, around.now)) {
            (Retry::After(_) | Retry::Busy { .. }, Some(until)) if next == endpoint => {
                Next::Wait { until, what: WaitingFor::ServerRetryAfter }
            }
            (_, Some(until)) if until > own => Next::Wait { until, what: WaitingFor::ServerRetryAfter },
            (Retry::Once, _) => Next::Wait { until: own, what: WaitingFor::Token },
            (Retry::Backoff | Retry::After(_) | Retry::Busy { .. } | Retry::IfProven { .. } | Retry::Never, _) => {
                let no_token = failure.code == ErrorCode::TokenProviderFailed;
                Next::Wait { until: own, what: if no_token { WaitingFor::Token } else { WaitingFor::Backoff } }
            }
        }
    }

    /// From now on it is not broadcasting.
    pub(super) fn begin_outage(&mut self, now: Instant) {
        self.restore_budget(now);
        self.healthy_since = None;
        let seen = match &self.state {
            State::Live(session) => session.last_acknowledged(),
            State::Off | State::Waiting(_) => None,
        };
        self.outage.get_or_insert(Outage { since: now, told: None, seen });
    }

    /// After a stable spell the budget is whole again, and a new spell begins.
    pub(super) fn restore_budget(&mut self, now: Instant) {
        if let (Some(since), State::Live(session)) = (self.healthy_since, &self.state)
            && session.last_acknowledged().is_some_and(|last| last >= since + STABLE_SPELL)
        {
            // A retry that is under way stays one.
            self.tries = if self.is_heir_a_retry() { 2 } else { 1 };
            self.healthy_since = Some(now);
            self.endpoints.sound(session.endpoint);
        }
    }

    /// Viewers see pictures again, after so long.
    pub(super) fn gap_is_over(&mut self, missed: Duration) {
        self.gaps = (self.gaps.0 + 1, Some(missed));
    }

    /// Notes that the session became healthy or ceased to be.
    pub(super) fn settle(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        let State::Live(session) = &self.state else { return };
        match (session.is_healthy(), self.healthy_since) {
            (true, None) => {
                self.healthy_since = Some(around.now);
                if self.endpoints.proven(session.endpoint, around.now) {
                    orders.push(Action::RememberProof { endpoint: session.endpoint });
                }
                if let Some(seen) = self.outage.take().and_then(|outage| outage.seen) {
                    self.gap_is_over(around.now.saturating_duration_since(seen));
                }
                self.trouble = None;
            }
            (false, Some(_)) => {
                self.trouble = Some(Trouble::disturbed(around.is_cut_off()));
                self.begin_outage(around.now);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
}
