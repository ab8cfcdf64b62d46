//! Pure: the brain. `step(now, event) -> actions`; it reads no clock, opens nothing, rolls no dice it was not given.
//!
//! ```text
//! Supervisor --- Capture                      one studio at a time
//!            |-- Reachability                     whose outage is it?
//!            \-- Broadcast --- Session --- Signalling   has the server accepted us, does it still listen?
//!                         |            |- Media        does the far end acknowledge us?
//!                         |            \- Ladder       it does not: ICE restarts
//!                         |--- Heir                    a session that is to take its place
//!                         |--- Endpoints               which server next
//!                          \-- Teardown                sessions that are being closed
//! ```

mod acknowledgements;
mod backoff;
mod broadcast;
mod capture;
mod endpoints;
pub mod event;
mod ice_restart;
mod media;
pub mod policy;
mod reachability;
mod session;
mod signalling;
mod slot;
mod teardown;
#[cfg(test)]
mod tests;
mod trouble;

use std::time::{Duration, Instant};

use crate::status::{BroadcastError, ErrorCode, Source, Status, StopReason};

use broadcast::{Around, Broadcast, Outside};
use capture::{Capture, Heard};
use event::{Action, Attempt, Command, Event, MediaEvent, PathEvent, ProbeTarget, TokenEvent};
use policy::Policy;
use reachability::{News, Plight, Reachability};
use trouble::Verdict;

/// A goodbye and a teardown get this long when the process ends; a person at the keyboard waits 2 s at most.
const LEAVING_TIMEOUT: Duration = Duration::from_millis(1500);

/// The brain: all decisions, no deeds.
#[derive(Debug)]
pub struct Supervisor {
    policy: Policy,
    stage: Stage,
    /// The latest time heard of. A clock that steps back stands still for us.
    now: Instant,
    /// Taken for granted until the lookout says otherwise: an encoder without a lookout must work too.
    network_up: bool,
    reachability: Reachability,
    capture: Capture,
    broadcast: Broadcast,
    status: Status,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Running,
    /// Everything is being closed.
    Leaving {
        reason: StopReason,
        until: Instant,
    },
    /// `Exit` has been ordered.
    Over,
}

impl Supervisor {
    /// A brain that does nothing until `Command::Start`. `seed` decides its jitter.
    #[must_use]
    pub fn new(policy: Policy, seed: u64, now: Instant) -> Self {
        let broadcast = Broadcast::new(policy.endpoints, seed);
        Self {
            policy,
            stage: Stage::Running,
            now,
            network_up: true,
            reachability: Reachability::new(seed),
            capture: Capture::new(),
            broadcast,
            status: Status::default(),
        }
    }

    /// The same brain, which calls what brings the pictures by its name.
    #[must_use]
    pub fn with_source(mut self, source: Source) -> Self {
        self.status.source = source;
        self
    }

    /// The same brain, which knows what an earlier process learned: these servers (numbered as in [`Action::Open`]) have
    /// acknowledged media of ours, and, with `session_left`, one of them may hold a session of ours still.
    #[must_use]
    pub fn with_memory(mut self, proven: &[usize], session_left: bool) -> Self {
        self.broadcast.remember(proven, session_left);
        self
    }

    /// The same brain, which may order probes: at the gateway, the servers, and so many possible witnesses besides.
    #[must_use]
    pub fn with_witnesses(mut self, witnesses: usize) -> Self {
        self.reachability.with_witnesses(witnesses);
        self
    }

    /// Hears one event and answers with what is to be done about it, in this order.
    ///
    /// Whatever is due is seen to at `Event::Deadline` alone. So that good news that waits in the inbox is not overtaken
    /// by a deadline, the caller empties the inbox first.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        let now = self.now;
        let mut orders = Vec::new();
        let mut time_is_up = false;
        match self.stage {
            Stage::Running => self.hear(now, event, &mut orders),
            Stage::Leaving { until, .. } => match event {
                Event::Deadline => time_is_up = until <= now,
                // Who asks twice does not want to wait.
                Event::Command(Command::Shutdown(_)) => time_is_up = true,
                Event::Media(..) | Event::Session(..) => self.hear(now, event, &mut orders),
                Event::Woke | Event::Network(_) | Event::Command(_) | Event::Token(_) | Event::Answered(_) => {}
            },
            Stage::Over => return orders,
        }
        if self.stage == Stage::Running && self.broadcast.teardown().is_hopeless() {
            self.judge(now, trouble::hopeless_teardowns(), &mut orders);
        }
        let plight = self.plight();
        self.reachability.observe(now, plight);
        self.finish(time_is_up, &mut orders);
        self.publish();
        orders
    }

    /// When `Event::Deadline` is wanted; `None`: not before something else happens. May have passed already when the
    /// caller is late.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let broadcast = self.broadcast.deadline(&self.policy);
        match self.stage {
            Stage::Running => {
                [broadcast, self.capture.deadline(), self.reachability.deadline()].into_iter().flatten().min()
            }
            Stage::Leaving { until, .. } => Some(until),
            Stage::Over => None,
        }
    }

    /// The numbers it lives by just now.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What is true just now.
    #[must_use]
    pub const fn status(&self) -> &Status {
        &self.status
    }

    fn hear(&mut self, now: Instant, event: Event, orders: &mut Vec<Action>) {
        match event {
            Event::Deadline => {
                self.capture.due(now, &self.policy, orders);
                let around = around(now, &self.policy, self.outside(), &self.capture);
                for verdict in self.broadcast.due(around, orders) {
                    self.judge(now, verdict, orders);
                }
                self.probe(now, orders);
            }
            Event::Woke => {
                self.reachability.woke_up(now);
                self.broadcast.woke_up(now);
            }
            Event::Answered(target) => self.hear_answer(now, target, orders),
            Event::Command(command) => self.obey(now, command, orders),
            Event::Network(event) => self.hear_network(now, event, orders),
            Event::Token(event) => self.hear_token(event),
            Event::Media(attempt, event) => self.hear_media(now, attempt, event, orders),
            Event::Session(attempt, event) => {
                let around = around(now, &self.policy, self.outside(), &self.capture);
                if let Some(verdict) = self.broadcast.hear(around, attempt, event, orders) {
                    self.judge(now, verdict, orders);
                }
            }
        }
    }

    fn obey(&mut self, now: Instant, command: Command, orders: &mut Vec<Action>) {
        match command {
            Command::Start => {
                self.status.stopped = None;
                self.capture.start(now, orders);
                self.broadcast.start(around(now, &self.policy, self.outside(), &self.capture), orders);
            }
            Command::Stop => self.go_off_air(now, StopReason::Requested, orders),
            Command::Shutdown(reason) => self.leave(now, reason, orders),
            Command::Reconnect => {
                self.broadcast.reconnect(around(now, &self.policy, self.outside(), &self.capture), orders);
            }
            Command::Policy(policy) => {
                self.policy = *policy;
                let around = around(now, &self.policy, self.outside(), &self.capture);
                if let Some(verdict) = self.broadcast.policy_changed(around, orders) {
                    self.judge(now, verdict, orders);
                }
            }
        }
    }

    fn hear_network(&mut self, now: Instant, event: PathEvent, orders: &mut Vec<Action>) {
        self.network_up = event == PathEvent::RouteAppeared;
        self.reachability.network_changed();
        let around = around(now, &self.policy, self.outside(), &self.capture);
        match event {
            PathEvent::RouteAppeared => self.broadcast.route_appeared(around, orders),
            PathEvent::AllRoutesLost => self.broadcast.routes_lost(around),
        }
    }

    /// Sends the probe that is due, if any.
    fn probe(&mut self, now: Instant, orders: &mut Vec<Action>) {
        let endpoint = self.broadcast.next_endpoint(now);
        let (target, news) = self.reachability.due(now, endpoint);
        orders.extend(target.map(|target| Action::Probe { target, endpoint }));
        if news == Some(News::Lost) {
            self.broadcast.connectivity_lost(around(now, &self.policy, self.outside(), &self.capture));
        }
    }

    fn hear_answer(&mut self, now: Instant, target: ProbeTarget, orders: &mut Vec<Action>) {
        if self.reachability.answered(now, target) == Some(News::Back) {
            self.broadcast.connectivity_back(around(now, &self.policy, self.outside(), &self.capture), orders);
        }
    }

    /// How far packets get, as far as is known.
    const fn outside(&self) -> Outside {
        Outside { network_up: self.network_up, hold: self.reachability.hold() }
    }

    /// What probes could find out now.
    fn plight(&self) -> Plight {
        if self.stage == Stage::Running && self.network_up && self.policy.needs_network {
            self.broadcast.plight()
        } else {
            Plight::Other
        }
    }

    fn hear_media(&mut self, now: Instant, attempt: Attempt, event: MediaEvent, orders: &mut Vec<Action>) {
        match self.capture.hear(now, attempt, event, &self.policy, orders) {
            Heard::Fine => {}
            Heard::Flows => self.broadcast.frames(now, true),
            Heard::Broken(failure) => {
                self.broadcast.frames(now, false);
                if let Some(failure) = failure {
                    self.judge(now, trouble::passing(&failure), orders);
                }
            }
            Heard::Hopeless(failure) => self.judge(now, trouble::terminal(&failure), orders),
            Heard::Ended => self.leave(now, StopReason::EndOfMedia, orders),
            Heard::Warnings(warnings) => self.status.warnings = warnings,
        }
    }

    /// No token is no reason to leave the air: what needs one fails by itself, and waits.
    fn hear_token(&mut self, event: TokenEvent) {
        match event {
            TokenEvent::Failed(failure) => {
                let error = trouble::told(&failure);
                if self.status.token_failures == 0 || self.status.error.as_ref() != Some(&error) {
                    self.tell(error);
                }
                self.status.token_failures = self.status.token_failures.saturating_add(1);
            }
            TokenEvent::Recovered => self.status.token_failures = 0,
        }
        self.broadcast.token_failures(self.status.token_failures);
    }

    /// Something went wrong: tells it, and leaves when it was the last thing.
    fn judge(&mut self, now: Instant, verdict: Verdict, orders: &mut Vec<Action>) {
        let is_told = verdict.error.code == ErrorCode::TokenProviderFailed && self.status.token_failures > 0;
        if !is_told || verdict.halt.is_some() {
            self.tell(verdict.error);
        }
        if let Some(reason) = verdict.halt {
            self.leave(now, reason, orders);
        }
    }

    fn tell(&mut self, error: BroadcastError) {
        self.status.error = Some(error);
        self.status.errors += 1;
    }

    fn go_off_air(&mut self, now: Instant, reason: StopReason, orders: &mut Vec<Action>) {
        self.broadcast.stop(now, orders);
        self.capture.stop(now, orders);
        self.status.stopped.get_or_insert(reason);
    }

    fn leave(&mut self, now: Instant, reason: StopReason, orders: &mut Vec<Action>) {
        if self.stage == Stage::Running {
            self.go_off_air(now, reason, orders);
            self.stage = Stage::Leaving { reason, until: now + LEAVING_TIMEOUT };
        }
    }

    /// Ends the process when everything is closed or has had its time.
    fn finish(&mut self, time_is_up: bool, orders: &mut Vec<Action>) {
        if let Stage::Leaving { reason, .. } = self.stage
            && (time_is_up || self.broadcast.teardown().is_done() && self.capture.is_closed())
        {
            self.stage = Stage::Over;
            orders.push(Action::Exit(reason));
        }
    }

    fn publish(&mut self) {
        let (signalling, media) = self.broadcast.planes();
        self.status.broadcast = self.broadcast.status(&self.policy, self.reachability.hold().is_some());
        self.status.signalling = signalling;
        self.status.media = media;
        self.status.capture = self.capture.state();
        self.status.stuck = self.broadcast.stuck();
        self.status.going_away = self.broadcast.going_away();
        (self.status.gaps, self.status.gap) = self.broadcast.gaps();
        let (moves, last) = self.broadcast.moves();
        if self.status.path_changes != moves {
            (self.status.path_changes, self.status.path_change) = (moves, last.cloned());
        }
        self.status.link = self.broadcast.link().cloned();
    }
}

/// A function and no method, so that `capture` is borrowed apart from `broadcast`.
const fn around<'a>(now: Instant, policy: &'a Policy, outside: Outside, capture: &'a Capture) -> Around<'a> {
    Around { now, policy, outside, capture }
}
