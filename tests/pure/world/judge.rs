//! What may never happen. The judge hears what the brain hears, sees what it orders and shows, and knows nothing of how
//! it works inside.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use roamcast::status::notice::{Notice, notices};
use roamcast::status::{CaptureState, Message, Status, StopReason, WaitingFor};
use roamcast::supervisor::event::{Action, Attempt, Command, Event, MediaEvent, PathEvent, Retry, SessionEvent};
use roamcast::supervisor::{Policy, Retries, Supervisor};

/// A moment for all worlds.
#[allow(clippy::disallowed_methods, reason = "a world needs some Instant to start from; the value does not matter")]
pub(super) fn base() -> Instant {
    Instant::now()
}

const STABLE: Duration = Duration::from_secs(60);
const OPENING: Duration = Duration::from_secs(30);
const CONNECTING: Duration = Duration::from_secs(15);
const PROOF: Duration = Duration::from_secs(15);
const STALL_MIN: Duration = Duration::from_secs(3);
const STALL_MAX: Duration = Duration::from_secs(16);
const LEAVING: Duration = Duration::from_millis(1500);
const TEARDOWN: Duration = Duration::from_secs(30);
const STUDIO_STOP: Duration = Duration::from_secs(5);

pub(super) struct Judge {
    seed: u64,
    policy: Policy,
    late: Duration,
    now: Instant,
    pub(super) openings: u64,
    pub(super) studios: u64,
    pub(super) steps: u64,
    pub(super) exit: Option<StopReason>,
    /// On air by command: between Start and Stop.
    wanted: bool,
    leaving_since: Option<Instant>,
    hurry: bool,
    live: Option<Live>,
    /// Sessions that were ever ordered, and whether they have ended.
    ended: BTreeMap<u64, bool>,
    /// When sessions that have not ended were ordered closed.
    closing: BTreeMap<u64, Instant>,
    stuck_teardowns: usize,
    studio: Option<Studio>,
    media_known_since: Option<Instant>,
    network_up: bool,
    forbidden_until: Option<Instant>,
    refused_once: bool,
    lost: Option<Lost>,
    /// Sessions opened on the present budget, and the largest and smallest budget that was in force meanwhile.
    opened: u32,
    allowed: Retries,
    broadcasting_since: Option<Instant>,
    /// Since when it should be broadcasting and is not.
    outage_since: Option<Instant>,
    told_stuck: bool,
    same_instant: u32,
}

/// The session that is live, as far as the brain has been told.
struct Live {
    number: u64,
    opened: Instant,
    accepted: Option<Instant>,
    connected: Option<Instant>,
    ice_silent: Option<Instant>,
    ice_up: Option<Instant>,
    acknowledged: Option<Instant>,
    /// An acknowledgement has come since a silence was shown.
    proved: bool,
    /// The present silence of ICE is shown.
    shown: bool,
}

struct Studio {
    number: u64,
    flowing: Option<Instant>,
    stopping: Option<Instant>,
}

/// The last loss, and what was in force since.
struct Lost {
    at: Instant,
    min: Duration,
    max: Duration,
    /// Nothing but our own backoff decides when the next try comes.
    plain: bool,
}

impl Judge {
    pub(super) fn new(seed: u64, policy: Policy, late: Duration) -> Self {
        Self {
            seed,
            late,
            now: base(),
            openings: 0,
            studios: 0,
            steps: 0,
            exit: None,
            wanted: false,
            leaving_since: None,
            hurry: false,
            live: None,
            ended: BTreeMap::new(),
            closing: BTreeMap::new(),
            stuck_teardowns: 0,
            studio: None,
            media_known_since: None,
            network_up: true,
            forbidden_until: None,
            refused_once: false,
            lost: None,
            opened: 0,
            allowed: policy.max_retries,
            policy,
            broadcasting_since: None,
            outage_since: None,
            told_stuck: false,
            same_instant: 0,
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.exit.is_some()
    }

    pub(super) const fn is_off_air(&self) -> bool {
        !self.wanted
    }

    pub(super) const fn on_air_since(&self) -> Option<Instant> {
        self.broadcasting_since
    }

    pub(super) fn live_session(&self) -> Option<u64> {
        self.live.as_ref().map(|live| live.number)
    }

    pub(super) fn connected_session(&self) -> Option<u64> {
        self.live.as_ref().filter(|live| live.connected.is_some()).map(|live| live.number)
    }

    pub(super) fn ice_silent_since(&self) -> Option<Instant> {
        self.live.as_ref().and_then(|live| live.ice_silent)
    }

    pub(super) fn is_ordered(&self, number: u64) -> bool {
        self.ended.contains_key(&number)
    }

    pub(super) fn has_ended(&self, number: u64) -> bool {
        self.ended.get(&number) == Some(&true)
    }

    pub(super) fn open_studio(&self) -> Option<u64> {
        self.studio.as_ref().filter(|studio| studio.stopping.is_none()).map(|studio| studio.number)
    }

    pub(super) fn frames_flow(&self) -> bool {
        self.frames_since().is_some()
    }

    fn frames_since(&self) -> Option<Instant> {
        self.studio.as_ref().filter(|studio| studio.stopping.is_none()).and_then(|studio| studio.flowing)
    }

    fn is_cut_off(&self) -> bool {
        self.policy.needs_network && !self.network_up
    }

    #[track_caller]
    fn hold(&self, law: bool, words: &str) {
        assert!(law, "seed {}, step {}: {words}", self.seed, self.steps);
    }

    /// One step of the brain, watched.
    pub(super) fn step(&mut self, brain: &mut Supervisor, now: Instant, event: Event) -> Vec<Action> {
        self.steps += 1;
        let before = brain.status().clone();
        let deadline = brain.deadline();
        let pending = deadline.is_some_and(|deadline| deadline <= now);
        self.same_instant = if now == self.now && event == Event::Deadline { self.same_instant + 1 } else { 0 };
        self.hold(self.same_instant < 5, "livelock: deadlines do not move on");
        self.now = now;
        let changes_nothing = self.exit.is_some() || self.is_stale(&event);
        if !changes_nothing {
            self.hear(&event);
        }
        let orders = brain.step(now, event.clone());
        if changes_nothing {
            self.hold(orders.is_empty(), "a stale voice caused an order");
            self.hold(*brain.status() == before, "a stale voice changed the status");
            self.hold(brain.deadline() == deadline, "a stale voice moved the deadline");
            return orders;
        }
        for order in &orders {
            self.check_order(order, &event);
        }
        self.check_consequences(&event, brain.status());
        self.check_notices(&before, brain.status());
        self.check_status(brain.status());
        let still_pending = brain.deadline().is_some_and(|deadline| deadline <= now);
        match (&event, brain.deadline()) {
            (Event::Deadline, Some(deadline)) => self.hold(deadline > now, "the deadline did not move on"),
            (Event::Command(Command::Policy(_)), _) | (_, None) => {}
            (_, Some(deadline)) => self.hold(pending || deadline >= now, "a deadline in the past"),
        }
        if !still_pending {
            self.check_bounds();
        }
        orders
    }

    /// A voice that is none of the present session or studio, or tells what is known.
    fn is_stale(&self, event: &Event) -> bool {
        match event {
            Event::Session(Attempt(number), event) => match (&self.live, event) {
                (Some(live), event) if live.number == *number => match event {
                    SessionEvent::Connected => live.connected.is_some() && live.ice_silent.is_none(),
                    SessionEvent::Accepted { .. } => live.accepted.is_some(),
                    _ => false,
                },
                (_, SessionEvent::Closed | SessionEvent::TeardownStuck) => self.ended.get(number) != Some(&false),
                _ => true,
            },
            Event::Media(Attempt(number), event) => match &self.studio {
                Some(studio) if studio.number == *number => match event {
                    MediaEvent::Stopped => false,
                    MediaEvent::Flowing => studio.stopping.is_some() || studio.flowing.is_some(),
                    _ => studio.stopping.is_some(),
                },
                _ => true,
            },
            _ => false,
        }
    }

    fn hear(&mut self, event: &Event) {
        match event {
            Event::Deadline | Event::Token(_) => {}
            Event::Command(command) => self.hear_command(command),
            Event::Network(event) => {
                self.network_up = *event == PathEvent::RouteAppeared;
                self.lost.iter_mut().for_each(|lost| lost.plain = false);
            }
            Event::Media(_, event) => {
                let Some(studio) = &mut self.studio else { return };
                match event {
                    MediaEvent::Flowing => {
                        studio.flowing = Some(self.now);
                        self.media_known_since.get_or_insert(self.now);
                    }
                    MediaEvent::Stopped if studio.stopping.is_some() => self.studio = None,
                    _ => {}
                }
            }
            Event::Session(Attempt(number), event) => self.hear_session(*number, event),
        }
    }

    fn hear_command(&mut self, command: &Command) {
        match command {
            Command::Start if self.leaving_since.is_none() => {
                if !self.wanted {
                    self.opened = 0;
                    self.allowed = self.policy.max_retries;
                    self.refused_once = false;
                    self.lost = None;
                    self.told_stuck = false;
                }
                self.wanted = true;
            }
            Command::Stop => self.wanted = false,
            Command::Shutdown(_) => {
                self.wanted = false;
                self.hurry |= self.leaving_since.is_some();
                self.leaving_since.get_or_insert(self.now);
            }
            Command::Policy(policy) if self.leaving_since.is_none() => {
                self.policy = (**policy).clone();
                if let Some(lost) = &mut self.lost {
                    lost.min = lost.min.min(policy.min_delay);
                    lost.max = lost.max.max(policy.max_delay);
                }
                self.allowed = match (self.allowed, policy.max_retries) {
                    (Retries::AtMost(a), Retries::AtMost(b)) => Retries::AtMost(a.max(b)),
                    _ => Retries::Unlimited,
                };
            }
            Command::Start | Command::Reconnect | Command::Policy(_) => {}
        }
    }

    fn hear_session(&mut self, number: u64, event: &SessionEvent) {
        if matches!(event, SessionEvent::Closed | SessionEvent::TeardownStuck) {
            self.ended.insert(number, true);
            self.closing.remove(&number);
            self.stuck_teardowns += usize::from(*event == SessionEvent::TeardownStuck);
        }
        let Some(live) = self.live.as_mut().filter(|live| live.number == number) else { return };
        match event {
            SessionEvent::Accepted { .. } => {
                live.accepted = Some(self.now);
                self.refused_once = false;
            }
            SessionEvent::Connected => {
                live.connected.get_or_insert(self.now);
                live.ice_up = Some(self.now);
                live.ice_silent = None;
            }
            SessionEvent::Disconnected if live.connected.is_some() => {
                live.ice_silent.get_or_insert(self.now);
            }
            SessionEvent::Acknowledged => {
                live.acknowledged = Some(self.now);
                live.proved = true;
                live.ice_silent = None;
            }
            SessionEvent::Failed(failure) => {
                if let Retry::After(time) = failure.retry {
                    self.forbidden_until = Some(self.now + time);
                }
            }
            _ => {}
        }
    }

    fn check_order(&mut self, order: &Action, event: &Event) {
        self.hold(self.exit.is_none(), "an order after Exit");
        match order {
            Action::Resume(_) => {}
            Action::Open { attempt: Attempt(number), .. } => self.check_open(*number, event),
            Action::Close { attempt: Attempt(number), goodbye } => {
                self.hold(*goodbye, "a close without a goodbye");
                self.hold(self.live_session() == Some(*number), "closed what was not live");
                self.check_cause(event);
                self.count_loss(event);
                self.live = None;
                if !self.has_ended(*number) {
                    self.closing.insert(*number, self.now);
                }
                let backoff = !matches!(event, Event::Command(_));
                let asked_to_wait = self.forbidden_until.is_some_and(|until| until > self.now);
                self.lost = backoff.then_some(Lost {
                    at: self.now,
                    min: self.policy.min_delay,
                    max: self.policy.max_delay,
                    plain: !asked_to_wait && !self.is_cut_off(),
                });
            }
            Action::StartCapture(Attempt(number)) => {
                self.hold(*number == self.studios + 1, "studios are numbered one by one");
                self.hold(self.wanted && self.leaving_since.is_none(), "a studio opened off air");
                let free = self
                    .studio
                    .as_ref()
                    .is_none_or(|studio| studio.stopping.is_some_and(|since| self.now >= since + STUDIO_STOP));
                self.hold(free, "two studios at once");
                self.studios += 1;
                self.studio = Some(Studio { number: *number, flowing: None, stopping: None });
            }
            Action::StopCapture(Attempt(number)) => {
                self.hold(self.open_studio() == Some(*number), "stopped a studio that was not open");
                if let Some(studio) = &mut self.studio {
                    studio.stopping = Some(self.now);
                }
                if *event == Event::Media(Attempt(*number), MediaEvent::Stopped) {
                    self.studio = None; // It had let go by itself.
                }
            }
            Action::Exit(reason) => self.check_exit(*reason),
        }
    }

    fn check_open(&mut self, number: u64, event: &Event) {
        self.hold(number == self.openings + 1, "sessions are numbered one by one");
        self.hold(self.live.is_none(), "two live sessions");
        self.hold(self.wanted && self.leaving_since.is_none(), "a session opened after Stop");
        self.hold(!self.is_cut_off(), "a try without a network");
        self.hold(self.forbidden_until.is_none_or(|until| until <= self.now), "a try inside Retry-After");
        let at_once = matches!(event, Event::Network(_) | Event::Command(_));
        if let Some(lost) = &self.lost
            && !at_once
        {
            let waited = self.now - lost.at;
            self.hold(waited >= lost.min, "a try before minDelay");
            self.hold(!lost.plain || waited <= lost.max + self.late, "a try later than maxDelay");
        }
        self.openings += 1;
        self.opened += 1;
        if let Retries::AtMost(max) = self.allowed {
            let by_a_person = self.lost.is_none() || at_once;
            self.hold(self.opened <= max + 1 || by_a_person, "more retries than maxRetries");
        }
        self.ended.insert(number, false);
        self.lost = None;
        self.live = Some(Live {
            number,
            opened: self.now,
            accepted: None,
            connected: None,
            ice_silent: None,
            ice_up: None,
            acknowledged: None,
            proved: false,
            shown: false,
        });
    }

    /// The live session is being closed by a deadline: was it really dead?
    fn check_cause(&self, event: &Event) {
        let (Event::Deadline, Some(live)) = (event, &self.live) else { return };
        let passed = |since: Option<Instant>, time: Duration| since.is_some_and(|since| self.now >= since + time);
        let asked = self.media_known_since.map(|known| known.max(live.opened));
        let quiet = live.connected.zip(self.frames_since()).map(|(a, b)| a.max(b).max(live.acknowledged.unwrap_or(a)));
        let cause = (live.accepted.is_none() && passed(asked, OPENING))
            || (live.connected.is_none() && passed(live.accepted, CONNECTING))
            || passed(live.ice_silent, self.policy.disconnected_timeout)
            || (live.ice_silent.is_none() && passed(quiet, STALL_MIN))
            || self.policy.give_up_after.is_some()
            || self.stuck_teardowns(TEARDOWN) >= 3;
        self.hold(cause, "a healthy session was given up");
    }

    fn count_loss(&mut self, event: &Event) {
        let Some(live) = &self.live else { return };
        let by_operator = matches!(event, Event::Command(_));
        if self.was_stable() {
            self.opened = 1;
            self.allowed = self.policy.max_retries;
        } else if !by_operator
            && self.is_cut_off()
            && live.acknowledged.is_none()
            && self.policy.max_retries != Retries::AtMost(0)
        {
            self.opened -= 1;
        }
        if by_operator && live.acknowledged.is_some() {
            self.opened = 0;
            self.allowed = self.policy.max_retries;
        }
    }

    fn was_stable(&self) -> bool {
        let last = self.live.as_ref().and_then(|live| live.acknowledged);
        last.zip(self.broadcasting_since).is_some_and(|(last, since)| last >= since + STABLE)
    }

    /// Teardowns that were reported stuck, or have said nothing for `patience`.
    fn stuck_teardowns(&self, patience: Duration) -> usize {
        let silent = self.closing.values().filter(|since| self.now >= **since + patience).count();
        self.stuck_teardowns + silent
    }

    fn check_exit(&mut self, reason: StopReason) {
        self.hold(self.exit.is_none(), "Exit twice");
        self.hold(self.live.is_none(), "Exit with a live session");
        self.exit = Some(reason);
        if reason == StopReason::ReconnectionExhausted && self.policy.give_up_after.is_none() {
            let Retries::AtMost(max) = self.policy.max_retries else {
                panic!("seed {}: no limit to exhaust", self.seed)
            };
            self.hold(self.opened > max, "gave up with retries left");
        }
        if reason == StopReason::Internal {
            self.hold(self.stuck_teardowns(TEARDOWN) >= 3, "an internal fault that was none");
        }
        if let Some(since) = self.leaving_since {
            let closing = self.closing.values().any(|since| self.now < *since + TEARDOWN);
            let closed = self.studio.is_none() && !closing;
            self.hold(closed || self.hurry || self.now >= since + LEAVING, "Exit before everything was closed");
        }
    }

    /// What must follow from an event in the same step.
    fn check_consequences(&mut self, event: &Event, status: &Status) {
        let left = status.broadcast.is_none();
        if let Event::Session(_, SessionEvent::Failed(failure)) = event {
            self.hold(self.live.is_none(), "a failed session was not closed");
            match failure.retry {
                Retry::Never => self.hold(left, "tried again after a final refusal"),
                Retry::Once => {
                    self.hold(!self.refused_once || left, "tried again after 401 twice");
                    self.refused_once = true;
                }
                Retry::Backoff | Retry::After(_) => {}
            }
        }
        if self.stuck_teardowns(TEARDOWN + self.late + Duration::from_millis(1)) >= 3 {
            self.hold(left, "went on after three stuck teardowns");
        }
        if left && self.wanted {
            // It ends for a reason of its own.
            self.wanted = false;
            self.leaving_since.get_or_insert(self.now);
        }
        if let (Some(since), None) = (self.leaving_since, self.exit) {
            self.hold(self.now <= since + LEAVING + self.late, "it does not exit in time");
        }
    }

    fn check_notices(&mut self, before: &Status, after: &Status) {
        for notice in notices(before, after) {
            match notice {
                Notice::ReconnectStuck(_) => {
                    self.hold(!self.told_stuck, "stuck was told twice in one outage");
                    self.told_stuck = true;
                }
                Notice::BroadcastStopped(_) => self.hold(after.broadcast.is_none(), "stopped and on air"),
                _ => {}
            }
        }
        let message = |status: &Status| status.broadcast.as_ref().map(|broadcast| broadcast.message);
        let skipped = matches!(
            (message(before), message(after)),
            (Some(Message::Broadcasting | Message::Connected), Some(Message::Signalling))
                | (Some(Message::Broadcasting), Some(Message::Connected))
        );
        self.hold(!skipped, "a loss was not shown");
    }

    /// Status and reality agree.
    fn check_status(&mut self, status: &Status) {
        let message = status.broadcast.as_ref().map(|broadcast| broadcast.message);
        self.hold(message.is_some() == self.wanted, "on air and off air are mixed up");
        self.hold((status.capture == CaptureState::Flowing) == self.frames_flow(), "the camera's state is wrong");
        if let Some(broadcast) = &status.broadcast {
            self.hold(broadcast.waiting_for.is_some() == self.live.is_none(), "waits, and has a session");
            let for_network = broadcast.waiting_for == Some(WaitingFor::Network);
            self.hold(for_network == (self.live.is_none() && self.is_cut_off()), "waits for the wrong thing");
        }
        let grace = self.policy.status_grace;
        let shown = message == Some(Message::ReconnectingBroadcast);
        let broadcasting = message == Some(Message::Broadcasting);
        match &mut self.live {
            None => self.hold(message.is_none() || shown, "no session, and not reconnecting"),
            Some(live) => {
                live.proved &= !shown;
                let was_shown = std::mem::replace(&mut live.shown, shown);
                let up = live.accepted.is_some() && live.connected.is_some();
                let silent = live.ice_silent;
                let proved = live.proved;
                let truth = if !up {
                    Message::Signalling
                } else if proved {
                    Message::Broadcasting
                } else {
                    Message::Connected
                };
                match silent {
                    Some(_) if was_shown && shown => {}
                    Some(since) if shown => self.hold(self.now >= since + grace, "a short disturbance was shown"),
                    Some(_) | None => self.hold(message == Some(truth), "the message is not the truth"),
                }
            }
        }
        self.hold(status.stuck.is_none() || !broadcasting, "stuck and on air");
        if broadcasting || !self.wanted {
            self.outage_since = None;
        } else {
            self.outage_since.get_or_insert(self.now);
        }
        if broadcasting {
            self.broadcasting_since.get_or_insert(self.now);
            self.told_stuck = false;
        } else {
            if self.live.is_some() && self.was_stable() {
                self.opened = 1;
                self.allowed = self.policy.max_retries;
            }
            self.broadcasting_since = None;
        }
    }

    /// Nothing hangs for longer than it may.
    fn check_bounds(&self) {
        let patience = self.policy.stuck_after + self.late;
        let is_long = self.outage_since.is_some_and(|since| self.now > since + patience);
        self.hold(self.told_stuck || !is_long, "stuck was not told");
        let Some(live) = &self.live else {
            return;
        };
        let within =
            |since: Option<Instant>, time: Duration| since.is_none_or(|since| self.now <= since + time + self.late);
        let asked = self.media_known_since.map(|known| known.max(live.opened));
        self.hold(live.accepted.is_some() || within(asked, OPENING), "an opening that hangs");
        self.hold(live.connected.is_some() || within(live.accepted, CONNECTING), "a connecting that hangs");
        self.hold(within(live.ice_silent, self.policy.disconnected_timeout), "ICE is silent for too long");
        self.hold(live.shown || within(live.ice_silent, self.policy.status_grace), "a long disturbance is not shown");
        if let (None, Some(up), Some(frames)) = (live.ice_silent, live.ice_up, self.frames_since()) {
            let quiet = live.acknowledged.or(live.connected).map(|since| since.max(frames));
            let longest = if live.proved { STALL_MAX } else { PROOF };
            self.hold(within(quiet.map(|since| since.max(up)), longest), "unacknowledged for too long");
            let whatever_ice_says = self.policy.disconnected_timeout + STALL_MAX;
            self.hold(within(quiet, whatever_ice_says), "kept alive by an ICE that flaps");
        }
    }
}
