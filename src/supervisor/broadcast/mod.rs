//! Pure: the whole broadcast - one session on air at most, when the next is tried, and when there is none any more.
//!
//! ```text
//! Off --> Waiting <--> Live (+ an Heir: the session that is to take its place, while it still feeds)
//! ```

mod media_loss;
mod outage;
mod proof;
mod session_loss;
mod status;
mod successor;
mod wait;

use std::time::{Duration, Instant};

use crate::status::WaitingFor;
use crate::status::path::PathChange;

use super::backoff::{self, Dice, after};
use super::capture::Capture;
use super::endpoints::Endpoints;
use super::event::{Action, Attempt, SessionEvent};
use super::policy::Policy;
use super::session::Session;
use super::signalling::{Due, Terms};
use super::teardown::Teardown;
use super::trouble::{self, Trouble, Verdict};

pub(super) use outage::Outside;
use successor::Heir;
use wait::Wait;

/// A session that was acknowledged for this long was sound, and the budget of retries is whole again. A minute: a server
/// that takes us and drops us every few seconds uses the budget up, a night of now and then a lost link does not.
const STABLE_SPELL: Duration = Duration::from_secs(60);

/// The machine of the broadcast.
#[derive(Debug)]
pub(super) struct Broadcast {
    state: State,
    /// Only beside a live session.
    heir: Option<Heir>,
    teardown: Teardown,
    endpoints: Endpoints,
    dice: Dice,
    /// Number of the newest session.
    last: Attempt,
    /// Sessions opened on the present budget. The first is free, each further one is a retry.
    tries: u32,
    /// The server refused with `Retry::Once` and has accepted nothing since.
    refused_once: bool,
    /// When a try was last made at once after a failure.
    hurried: Option<Instant>,
    /// Our own session that holds the slot of the next one: once it is closed, nothing is left to wait for.
    in_the_way: Option<Attempt>,
    /// How often in a row there was no token.
    token_failures: u32,
    /// The server said that it will go away, and asked for this wait.
    going_away: Option<Duration>,
    outage: Option<Outage>,
    /// How many gaps viewers have seen, and how long the last one was.
    gaps: (u64, Option<Duration>),
    /// How often media has moved to another path, and the last time that it did.
    moves: (u64, Option<PathChange>),
    /// Since when it has been broadcasting.
    healthy_since: Option<Instant>,
    trouble: Option<Trouble>,
    session_id: Option<String>,
    path: Option<String>,
}

#[derive(Debug)]
enum State {
    Off,
    Waiting(Wait),
    Live(Box<Session>),
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    /// How long it had lasted when the operator was told.
    told: Option<Duration>,
    /// When the far end last acknowledged media; `None`: it never has.
    seen: Option<Instant>,
}

/// What the broadcast must know of the rest of the brain.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) now: Instant,
    pub(super) policy: &'a Policy,
    pub(super) outside: Outside,
    pub(super) capture: &'a Capture,
}

impl Broadcast {
    pub(super) fn new(endpoints: usize, seed: u64) -> Self {
        Self {
            state: State::Off,
            heir: None,
            teardown: Teardown::default(),
            endpoints: Endpoints::new(endpoints),
            dice: Dice::new(seed),
            last: Attempt(0),
            tries: 0,
            refused_once: false,
            hurried: None,
            in_the_way: None,
            token_failures: 0,
            going_away: None,
            outage: None,
            gaps: (0, None),
            moves: (0, None),
            healthy_since: None,
            trouble: None,
            session_id: None,
            path: None,
        }
    }

    /// Goes on air, with a whole budget.
    pub(super) fn start(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        if matches!(self.state, State::Off) {
            self.tries = 0;
            self.refused_once = false;
            self.endpoints.start();
            self.outage = Some(Outage { since: around.now, told: None, seen: None });
            self.try_now(around, orders);
        }
    }

    /// Goes off air.
    pub(super) fn stop(&mut self, now: Instant, orders: &mut Vec<Action>) {
        self.close(now, orders);
        self.outage = None;
        self.healthy_since = None;
        (self.going_away, self.in_the_way) = (None, None);
        self.trouble = None;
        (self.session_id, self.path) = (None, None);
    }

    /// A person wants a new session now. One that replaces a working session begins a whole budget; any other spends
    /// what is left. The server's Retry-After is kept even so: it would only refuse again, for longer.
    pub(super) fn reconnect(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        match &self.state {
            State::Off => {}
            State::Waiting(_) => self.try_now(around, orders),
            State::Live(session) => {
                let was_proved = session.last_acknowledged().is_some();
                self.begin_outage(around.now);
                if was_proved {
                    self.tries = 0;
                }
                self.trouble = Some(Trouble::operator());
                self.close(around.now, orders);
                self.wait_for_operator(around, orders);
            }
        }
    }

    /// A network is there, or another one: a waiting try need not wait longer.
    pub(super) fn route_appeared(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        match &self.state {
            State::Off => {}
            State::Waiting(_) => self.try_now(around, orders),
            State::Live(_) => {
                if let Some((session, terms)) = self.reopening(around) {
                    session.signalling.route_appeared(&terms);
                }
                self.ladder_hears(around, true);
                if self.heir.as_ref().is_some_and(Heir::is_waiting) {
                    self.try_heir(around, orders);
                }
            }
        }
    }

    /// No network is left. A live session stays: the network may be back before ICE gives up.
    pub(super) fn routes_lost(&mut self, around: Around<'_>) {
        if !around.is_cut_off() {
            return;
        }
        if matches!(self.state, State::Waiting(_)) {
            self.wait(around, around.now, WaitingFor::Network);
        }
        if let Some((session, terms)) = self.reopening(around) {
            session.signalling.refit(&terms);
        }
        self.ladder_hears(around, false);
        if let Some(heir) = &mut self.heir {
            heir.network_lost(around);
        }
    }

    /// Other numbers hold from now on, for a wait under way too.
    pub(super) fn policy_changed(&mut self, around: Around<'_>, orders: &mut Vec<Action>) -> Option<Verdict> {
        self.endpoints.resize(around.policy.endpoints);
        match &mut self.state {
            State::Off => {}
            State::Waiting(wait) => {
                if let Some(max) = session_loss::used_up(around.policy, self.tries) {
                    return Some(trouble::retries_used_up(max, self.trouble.as_ref()));
                }
                if wait.refit(around) {
                    self.try_now(around, orders);
                }
            }
            State::Live(_) => {
                if let Some((session, terms)) = self.reopening(around) {
                    session.signalling.refit(&terms);
                }
                if self.heir.as_mut().is_some_and(|heir| heir.refit(around)) {
                    self.try_heir(around, orders);
                }
            }
        }
        None
    }

    /// The camera began (`true`) or ceased to deliver.
    pub(super) fn frames(&mut self, now: Instant, flowing: bool) {
        if let State::Live(session) = &mut self.state {
            session.frames(now, flowing);
        }
        if let Some(session) = self.heir.as_mut().and_then(Heir::session) {
            session.frames(now, flowing);
        }
    }

    /// This process stood still for a while. What was waited for from the servers is waited for no longer: they had the time.
    pub(super) fn woke_up(&mut self, now: Instant) {
        if let State::Live(session) = &mut self.state {
            session.woke_up(now);
        }
        if let Some(session) = self.heir.as_mut().and_then(Heir::session) {
            session.woke_up(now);
        }
    }

    /// There was no token this often in a row; 0: there is one again.
    pub(super) fn token_failures(&mut self, in_a_row: u32) {
        self.token_failures = in_a_row;
    }

    /// The session of this number speaks.
    pub(super) fn hear(
        &mut self,
        around: Around<'_>,
        attempt: Attempt,
        mut event: SessionEvent,
        orders: &mut Vec<Action>,
    ) -> Option<Verdict> {
        self.weigh(attempt, &mut event);
        self.teardown.hear(attempt, &event);
        let is_end = matches!(event, SessionEvent::Closed | SessionEvent::TeardownStuck);
        if is_end && self.in_the_way.take_if(|closing| *closing == attempt).is_some() {
            self.slot_is_free(around, orders);
        }
        let end = is_end.then(|| event.clone());
        let is_live = matches!(&self.state, State::Live(session) if session.attempt == attempt);
        let verdict = if is_live {
            self.hear_live(around, event, orders)
        } else if self.heir.as_mut().and_then(Heir::session).is_some_and(|session| session.attempt == attempt) {
            self.hear_heir(around, event, orders)
        } else {
            return None; // Law 2: a voice from an old attempt.
        };
        if let Some(end) = end {
            // It has closed without an order; there is no teardown to wait for.
            self.teardown.hear(attempt, &end);
        }
        self.settle(around, orders);
        verdict
    }

    fn hear_live(&mut self, around: Around<'_>, event: SessionEvent, orders: &mut Vec<Action>) -> Option<Verdict> {
        let State::Live(session) = &mut self.state else { return None };
        match event {
            SessionEvent::SignallingLost(failure) => return self.signalling_broke(around, false, &failure, orders),
            SessionEvent::ResumeFailed(failure) => return self.signalling_broke(around, true, &failure, orders),
            SessionEvent::ResumeRefused(failure) => return self.resume_refused(around, &failure, orders),
            SessionEvent::IceFailed => return self.ice_failed(around, orders),
            SessionEvent::IceRestarted | SessionEvent::IceRestartRefused(_) | SessionEvent::IceRestartFailed(_) => {
                return self.rung_answered(around, &event, orders);
            }
            SessionEvent::GoingAway { retry_after } => {
                let endpoint = session.endpoint;
                self.server_goes_away(around, endpoint, retry_after);
                return None;
            }
            SessionEvent::RetrySlot(slot) => {
                self.dice.keep_to(slot);
                return None;
            }
            SessionEvent::Moved(change) => {
                self.path = Some(change.to.clone());
                self.moves = (self.moves.0 + 1, Some(change));
                return None;
            }
            SessionEvent::Acknowledged if self.outage.is_none() => {
                if let Some(missed) = session.missed(around.now, around.policy) {
                    self.gap_is_over(missed);
                }
            }
            SessionEvent::Accepted { .. } if !session.signalling.was_open() => {
                self.endpoints.accepted(session.endpoint);
                self.server_is_back();
                self.dice.forget_slot();
            }
            SessionEvent::SignallingResumed { .. } if session.signalling.is_away() => self.server_is_back(),
            SessionEvent::Accepted { .. }
            | SessionEvent::SignallingResumed { .. }
            | SessionEvent::Connected
            | SessionEvent::Disconnected
            | SessionEvent::Acknowledged
            | SessionEvent::Named
            | SessionEvent::Link(_)
            | SessionEvent::Output { .. }
            | SessionEvent::Failed(_)
            | SessionEvent::Closed
            | SessionEvent::TeardownStuck => {}
        }
        let State::Live(session) = &mut self.state else { return None };
        let was_down = session.is_down();
        let lost = session.hear(around.now, event);
        self.path = session.link.as_ref().map_or_else(|| self.path.take(), |link| link.path.clone());
        self.session_id = session.id.clone().or_else(|| self.session_id.take());
        if let Some(failure) = lost {
            return Some(self.lose(around, &failure, orders));
        }
        self.after_voice(around, was_down, orders);
        None
    }

    /// It took us or our token, and has not gone away.
    fn server_is_back(&mut self) {
        self.refused_once = false;
        self.going_away = None;
    }

    /// Sees to what has come due.
    pub(super) fn due(&mut self, around: Around<'_>, orders: &mut Vec<Action>) -> Vec<Verdict> {
        let Around { now, policy, .. } = around;
        self.teardown.due(now);
        if let Some(outage) = &mut self.outage {
            if let Some(limit) = policy.give_up_after
                && after(outage.since, limit) <= now
            {
                return vec![trouble::time_used_up(limit, self.trouble.as_ref())];
            }
            if outage.told.is_none() && after(outage.since, policy.stuck_after) <= now {
                outage.told = Some(now.saturating_duration_since(outage.since));
            }
        }
        let mut verdicts = Vec::new();
        match &self.state {
            State::Off => {}
            State::Waiting(wait) => {
                if wait.is_over(now) {
                    self.wait_is_over(around, orders);
                }
            }
            State::Live(_) => {
                verdicts.extend(self.signalling_due(around, orders));
                verdicts.extend(self.heir_due(around, orders));
                verdicts.extend(self.media_due(around, orders));
                self.settle(around, orders);
                self.fail_back(around, orders);
            }
        }
        verdicts
    }

    fn signalling_due(&mut self, around: Around<'_>, orders: &mut Vec<Action>) -> Option<Verdict> {
        let State::Live(session) = &mut self.state else { return None };
        match session.signalling.due(around.now)? {
            Due::Resume => {
                orders.push(Action::Resume(session.attempt));
                None
            }
            Due::NoAnswer(failure) => self.signalling_broke(around, true, &failure, orders),
            Due::Lost(failure) => Some(self.lose(around, &failure, orders)),
        }
    }

    pub(super) fn deadline(&self, policy: &Policy) -> Option<Instant> {
        let state = match &self.state {
            State::Off => None,
            State::Waiting(wait) => wait.until,
            State::Live(session) => session.deadline(policy),
        };
        let heir = self.heir.as_ref().and_then(|heir| heir.deadline(policy));
        let failback = self.failback().map(|(_, when)| when);
        let outage = self.outage.as_ref();
        let stuck = outage.filter(|outage| outage.told.is_none()).map(|outage| after(outage.since, policy.stuck_after));
        let give_up = outage.and_then(|outage| policy.give_up_after.map(|limit| after(outage.since, limit)));
        [state, heir, failback, stuck, give_up, self.teardown.deadline()].into_iter().flatten().min()
    }

    /// Sessions that have been ordered closed.
    pub(super) const fn teardown(&self) -> &Teardown {
        &self.teardown
    }

    /// Opens the next session, or waits for what forbids it.
    fn try_now(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        self.in_the_way = None;
        let endpoint = self.endpoints.choose(around.now);
        match self.endpoints.not_before(endpoint, around.now) {
            Some(until) => self.wait(around, until, WaitingFor::ServerRetryAfter),
            None if around.is_cut_off() => self.wait(around, around.now, WaitingFor::Network),
            None => {
                self.tries = self.tries.saturating_add(1);
                self.state = State::Live(self.open(around, endpoint, orders));
            }
        }
    }

    fn open(&mut self, around: Around<'_>, endpoint: usize, orders: &mut Vec<Action>) -> Box<Session> {
        self.last = self.last.next();
        orders.push(Action::Open { attempt: self.last, endpoint });
        Box::new(Session::new(around.now, self.last, endpoint, around.capture))
    }

    fn wait(&mut self, around: Around<'_>, until: Instant, what: WaitingFor) {
        let next = Wait::new(around, until, what);
        if let State::Waiting(wait) = &self.state
            && wait.until == next.until
            && wait.what == next.what
        {
            return; // The wait goes on.
        }
        self.state = State::Waiting(next);
    }

    /// Orders all sessions closed; there is none afterwards.
    fn close(&mut self, now: Instant, orders: &mut Vec<Action>) {
        self.close_live(now, orders);
        self.close_heir(now, orders);
    }

    fn close_live(&mut self, now: Instant, orders: &mut Vec<Action>) {
        if let State::Live(session) = std::mem::replace(&mut self.state, State::Off) {
            self.leave(&session);
            self.teardown.close(now, session.attempt, orders);
        }
    }

    /// The live session, and what its signalling plane must know to be reopened.
    fn reopening<'a>(&'a mut self, around: Around<'a>) -> Option<(&'a mut Session, Terms<'a>)> {
        let State::Live(session) = &mut self.state else { return None };
        let terms = Terms {
            now: around.now,
            policy: &around.policy.signalling,
            cut_off: around.is_cut_off(),
            not_before: self.endpoints.not_before(session.endpoint, around.now),
            dice: &mut self.dice,
        };
        Some((session, terms))
    }
}
