//! Pure: the whole broadcast - one live session at most, when the next is tried, and when there is none any more.

use std::time::{Duration, Instant};

use crate::status::{self, BroadcastError, Message, Plane, StopReason, WaitingFor};

use super::backoff::{self, Dice, after};
use super::capture::Capture;
use super::event::{Action, Attempt, Failure, Retry, SessionEvent};
use super::session::Session;
use super::teardown::Teardown;
use super::trouble::{self, Trouble};
use super::{Policy, Retries};

/// A session that was acknowledged for this long was sound, and the budget of retries is whole again. A minute: a server
/// that takes us and drops us every few seconds uses the budget up, a night of now and then a lost link does not.
const STABLE_SPELL: Duration = Duration::from_secs(60);

/// The machine of the broadcast.
#[derive(Debug)]
pub(super) struct Broadcast {
    state: State,
    teardown: Teardown,
    dice: Dice,
    /// Number of the newest session.
    last: Attempt,
    /// Sessions opened on the present budget. The first is free, each further one is a retry.
    tries: u32,
    /// The server refused with [`Retry::Once`] and has accepted nothing since.
    refused_once: bool,
    /// The server forbade tries before this time. Holds whatever happens, even a stop and a start.
    not_before: Option<Instant>,
    outage: Option<Outage>,
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
struct Wait {
    since: Instant,
    /// `None`: until a route appears.
    until: Option<Instant>,
    what: WaitingFor,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    /// How long it had lasted when the operator was told.
    told: Option<Duration>,
}

/// What the broadcast must know of the rest of the brain.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) now: Instant,
    pub(super) policy: &'a Policy,
    pub(super) network_up: bool,
    pub(super) capture: &'a Capture,
}

impl Around<'_> {
    /// No try can succeed: there is no network, and the server is not this machine.
    const fn is_cut_off(&self) -> bool {
        self.policy.needs_network && !self.network_up
    }
}

/// Something went wrong; with `halt` it was the last thing.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) error: BroadcastError,
    pub(super) halt: Option<StopReason>,
}

impl Broadcast {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            state: State::Off,
            teardown: Teardown::default(),
            dice: Dice::new(seed),
            last: Attempt(0),
            tries: 0,
            refused_once: false,
            not_before: None,
            outage: None,
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
            self.outage = Some(Outage { since: around.now, told: None });
            self.try_now(around, orders);
        }
    }

    /// Goes off air.
    pub(super) fn stop(&mut self, now: Instant, orders: &mut Vec<Action>) {
        self.close(now, orders);
        self.outage = None;
        self.healthy_since = None;
        self.trouble = None;
        self.session_id = None;
        self.path = None;
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
                self.wait(around, around.now, WaitingFor::Backoff);
            }
        }
    }

    /// A network is there, or another one: a waiting try need not wait longer.
    pub(super) fn route_appeared(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        if matches!(self.state, State::Waiting(_)) {
            self.try_now(around, orders);
        }
    }

    /// No network is left. A live session stays: the network may be back before ICE gives up.
    pub(super) fn routes_lost(&mut self, around: Around<'_>) {
        if matches!(self.state, State::Waiting(_)) && around.is_cut_off() {
            self.wait(around, around.now, WaitingFor::Network);
        }
    }

    /// Other numbers hold from now on, for a wait under way too.
    pub(super) fn policy_changed(&mut self, around: Around<'_>, orders: &mut Vec<Action>) -> Option<Verdict> {
        let State::Waiting(wait) = &mut self.state else { return None };
        if let Retries::AtMost(max) = around.policy.max_retries
            && self.tries > max
        {
            return Some(trouble::retries_used_up(max, self.trouble.as_ref()));
        }
        match (wait.what, wait.until) {
            (WaitingFor::Network, _) | (_, None) => self.try_now(around, orders),
            (_, Some(until)) if around.is_cut_off() => self.wait(around, until, WaitingFor::Network),
            (WaitingFor::Backoff | WaitingFor::Token, Some(until)) => {
                let delay = backoff::refit(around.policy, until - wait.since);
                wait.until = Some(after(wait.since, delay).max(around.now));
            }
            (WaitingFor::ServerRetryAfter, Some(_)) => {}
        }
        None
    }

    /// The camera began (`true`) or ceased to deliver.
    pub(super) fn frames(&mut self, now: Instant, flowing: bool) {
        if let State::Live(session) = &mut self.state {
            session.frames(now, flowing);
        }
    }

    /// The session of this number speaks.
    pub(super) fn hear(
        &mut self,
        around: Around<'_>,
        attempt: Attempt,
        event: SessionEvent,
        orders: &mut Vec<Action>,
    ) -> Option<Verdict> {
        self.teardown.hear(attempt, &event);
        let State::Live(session) = &mut self.state else { return None };
        if session.attempt != attempt {
            return None; // Law 2: a voice from an old attempt.
        }
        match &event {
            SessionEvent::Accepted { session_id } => {
                self.refused_once = false;
                self.session_id = Some(session_id.clone());
            }
            SessionEvent::Link(link) => self.path.clone_from(&link.path),
            SessionEvent::Connected
            | SessionEvent::Disconnected
            | SessionEvent::Acknowledged
            | SessionEvent::SignallingLost(_)
            | SessionEvent::SignallingResumed { .. }
            | SessionEvent::ResumeFailed(_)
            | SessionEvent::ResumeRefused(_)
            | SessionEvent::GoingAway { .. }
            | SessionEvent::Output { .. }
            | SessionEvent::Failed(_)
            | SessionEvent::Closed
            | SessionEvent::TeardownStuck => {}
        }
        let verdict = session.hear(around.now, event.clone()).map(|failure| self.lose(around, &failure, orders));
        // It may have closed without an order; then there is no teardown to wait for.
        self.teardown.hear(attempt, &event);
        self.settle(around);
        verdict
    }

    /// Sees to what has come due.
    pub(super) fn due(&mut self, around: Around<'_>, orders: &mut Vec<Action>) -> Option<Verdict> {
        let Around { now, policy, .. } = around;
        self.teardown.due(now);
        if let Some(outage) = &mut self.outage {
            if let Some(limit) = policy.give_up_after
                && after(outage.since, limit) <= now
            {
                return Some(trouble::time_used_up(limit, self.trouble.as_ref()));
            }
            if outage.told.is_none() && after(outage.since, policy.stuck_after) <= now {
                outage.told = Some(now.saturating_duration_since(outage.since));
            }
        }
        match &mut self.state {
            State::Off => {}
            State::Waiting(wait) => {
                if wait.until.is_some_and(|until| until <= now) {
                    self.try_now(around, orders);
                }
            }
            State::Live(session) => {
                let lost = session.due(now, policy);
                self.settle(around);
                return lost.map(|failure| self.lose(around, &failure, orders));
            }
        }
        None
    }

    pub(super) fn deadline(&self, policy: &Policy) -> Option<Instant> {
        let state = match &self.state {
            State::Off => None,
            State::Waiting(wait) => wait.until,
            State::Live(session) => session.deadline(policy),
        };
        let outage = self.outage.as_ref();
        let stuck = outage.filter(|outage| outage.told.is_none()).map(|outage| after(outage.since, policy.stuck_after));
        let give_up = outage.and_then(|outage| policy.give_up_after.map(|limit| after(outage.since, limit)));
        [state, stuck, give_up, self.teardown.deadline()].into_iter().flatten().min()
    }

    /// Sessions that have been ordered closed.
    pub(super) const fn teardown(&self) -> &Teardown {
        &self.teardown
    }

    /// Opens the next session, or waits for what forbids it.
    fn try_now(&mut self, around: Around<'_>, orders: &mut Vec<Action>) {
        match self.not_before.filter(|until| *until > around.now) {
            Some(until) => self.wait(around, until, WaitingFor::ServerRetryAfter),
            None if around.is_cut_off() => self.wait(around, around.now, WaitingFor::Network),
            None => {
                self.last = self.last.next();
                self.tries = self.tries.saturating_add(1);
                self.state = State::Live(Box::new(Session::new(around.now, self.last, around.capture)));
                orders.push(Action::Open { attempt: self.last, endpoint: 0 });
            }
        }
    }

    fn wait(&mut self, around: Around<'_>, until: Instant, what: WaitingFor) {
        let (until, what) = if around.is_cut_off() { (None, WaitingFor::Network) } else { (Some(until), what) };
        if let State::Waiting(wait) = &self.state
            && wait.until == until
            && wait.what == what
        {
            return; // The wait goes on.
        }
        self.state = State::Waiting(Wait { since: around.now, until, what });
    }

    /// Orders the live session closed, if there is one; there is none afterwards.
    fn close(&mut self, now: Instant, orders: &mut Vec<Action>) {
        if let State::Live(session) = std::mem::replace(&mut self.state, State::Off) {
            self.teardown.close(now, session.attempt, orders);
        }
    }

    /// The live session is lost: closes it, and decides whether and when the next is tried.
    fn lose(&mut self, around: Around<'_>, failure: &Failure, orders: &mut Vec<Action>) -> Verdict {
        let Around { now, policy, .. } = around;
        let was_proved = matches!(&self.state, State::Live(session) if session.last_acknowledged().is_some());
        self.begin_outage(now);
        self.close(now, orders);
        self.trouble = Some(Trouble::new(failure, around.is_cut_off()));
        if around.is_cut_off() && !was_proved && policy.max_retries != Retries::AtMost(0) {
            self.tries = self.tries.saturating_sub(1); // No try is spent while there is no network.
        }
        let (delay, what) = match failure.retry {
            Retry::Never => return trouble::terminal(failure),
            Retry::Once if self.refused_once => return trouble::terminal(failure),
            Retry::Once => {
                self.refused_once = true;
                (backoff::delay(policy, self.tries, &mut self.dice), WaitingFor::Token)
            }
            Retry::After(time) => {
                let delay = backoff::server_delay(policy, time, &mut self.dice);
                self.not_before = Some(after(now, delay));
                (delay, WaitingFor::ServerRetryAfter)
            }
            Retry::Backoff => (backoff::delay(policy, self.tries, &mut self.dice), WaitingFor::Backoff),
        };
        if let Retries::AtMost(max) = policy.max_retries
            && self.tries > max
        {
            return trouble::retries_used_up(max, self.trouble.as_ref());
        }
        self.wait(around, after(now, delay), what);
        trouble::passing(failure)
    }

    /// Notes that the session became healthy or ceased to be.
    fn settle(&mut self, around: Around<'_>) {
        let State::Live(session) = &self.state else { return };
        match (session.message() == Message::Broadcasting, self.healthy_since) {
            (true, None) => {
                self.healthy_since = Some(around.now);
                self.outage = None;
                self.trouble = None;
            }
            (false, Some(_)) => {
                self.trouble = Some(Trouble::disturbed(around.is_cut_off()));
                self.begin_outage(around.now);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// From now on it is not broadcasting. After a stable spell the budget is whole again.
    fn begin_outage(&mut self, now: Instant) {
        if let (Some(since), State::Live(session)) = (self.healthy_since.take(), &self.state)
            && session.last_acknowledged().is_some_and(|last| last >= since + STABLE_SPELL)
        {
            self.tries = 1;
        }
        self.outage.get_or_insert(Outage { since: now, told: None });
    }
}

/// What is shown of it.
impl Broadcast {
    pub(super) fn status(&self, policy: &Policy) -> Option<status::Broadcast> {
        let (message, attempt, wait) = match &self.state {
            State::Off => return None,
            State::Waiting(wait) => (Message::ReconnectingBroadcast, self.tries, Some(wait)),
            State::Live(session) if session.last_acknowledged().is_some() => (session.message(), 0, None),
            State::Live(session) => (session.message(), self.tries.saturating_sub(1), None),
        };
        let max_retries = match policy.max_retries {
            Retries::AtMost(max) => Some(max),
            Retries::Unlimited => None,
        };
        Some(status::Broadcast {
            message,
            reason: self.trouble.as_ref().map(|trouble| trouble.reason),
            attempt,
            max_retries,
            retry_in: wait.and_then(|wait| wait.until.map(|until| seconds(until - wait.since))),
            waiting_for: wait.map(|wait| wait.what),
            layer: self.trouble.as_ref().and_then(|trouble| trouble.layer),
            path: self.path.clone(),
            session_id: self.session_id.clone(),
            recovered_session_id: None,
        })
    }

    /// Signalling and media.
    pub(super) fn planes(&self) -> (Plane, Plane) {
        match &self.state {
            State::Off => (Plane::default(), Plane::default()),
            State::Waiting(_) => trouble::failed_planes(self.trouble.as_ref()),
            State::Live(session) => {
                let (signalling, media) = session.planes();
                let reason = self.trouble.as_ref().map(|trouble| trouble.reason).filter(|_| session.is_disturbed());
                (Plane { state: signalling, reason: None }, Plane { state: media, reason })
            }
        }
    }

    pub(super) fn link(&self) -> Option<&status::LinkStats> {
        match &self.state {
            State::Live(session) => session.link.as_ref(),
            State::Off | State::Waiting(_) => None,
        }
    }

    /// Seconds of outage after which the operator was told.
    pub(super) fn stuck(&self) -> Option<f64> {
        self.outage.as_ref().and_then(|outage| outage.told).map(seconds)
    }
}

/// Whole milliseconds: nobody outside wants more digits.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
