//! What may never happen. The judge hears what the brain hears, sees what it orders and shows, and knows nothing of how
//! it works inside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use roamcast::status::notice::{Notice, notices};
use roamcast::status::{CaptureState, ErrorCode, Message, PlaneState, Status, StopReason, WaitingFor};
use roamcast::supervisor::Supervisor;
use roamcast::supervisor::event::{
    Action, Attempt, Command, Event, Failure, MediaEvent, PathEvent, Retry, SessionEvent, TokenEvent,
};
use roamcast::supervisor::policy::{Policy, Retries};

/// A moment for all worlds.
#[allow(clippy::disallowed_methods, reason = "a world needs some Instant to start from; the value does not matter")]
pub(crate) fn base() -> Instant {
    Instant::now()
}

const STABLE: Duration = Duration::from_secs(60);
const OPENING: Duration = Duration::from_secs(30);
const CONNECTING: Duration = Duration::from_secs(15);
const PROOF: Duration = Duration::from_secs(15);
/// A session that never reported is believed by its consent after this.
const BELIEVED: Duration = Duration::from_secs(5);
/// Silence that is, and is not yet, a stall: while consent is watched, and without.
const STALL_MIN: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(3)];
const STALL_MAX: [Duration; 2] = [Duration::from_secs(40), Duration::from_secs(24)];
const LEAVING: Duration = Duration::from_millis(1500);
const TEARDOWN: Duration = Duration::from_secs(30);
const STUDIO_STOP: Duration = Duration::from_secs(5);
const RESUMING: Duration = Duration::from_secs(30);
const SLOT_BUSY: Duration = Duration::from_secs(30);
const HURRY: Duration = Duration::from_secs(60);
/// An own session that holds the slot is waited for, until it is closed.
const OWN_SLOT: Duration = Duration::from_millis(1500);
const FAILBACK: Duration = Duration::from_secs(300);
const COOL_DOWN: Duration = Duration::from_secs(60);

/// How often each way to stay on air was seen.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Seen {
    pub(super) resumed: u64,
    pub(super) renamed: u64,
    /// An heir took over: proven, after the server had forgotten the old session; as a move back; before it was proven.
    pub(super) replaced: u64,
    pub(super) moved_back: u64,
    pub(super) promoted: u64,
    pub(super) heirs_lost: u64,
    /// A try at once, because the failure promised better; an own session closed because it held the slot.
    pub(super) hurried: u64,
    pub(super) made_way: u64,
    /// Refusals in the name of a proven server that were not final; a slot that a lost session of ours may have had.
    pub(super) shrugged: u64,
    pub(super) own_slots: u64,
}

pub(super) struct Judge {
    pub(super) seen: Seen,
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
    /// The session on air, or on its way there.
    live: Option<Live>,
    /// The session that is to take its place, while it feeds.
    heir: Option<Live>,
    /// Sessions that were ever ordered, and whether they have ended.
    ended: BTreeMap<u64, bool>,
    /// When sessions that have not ended were ordered closed.
    closing: BTreeMap<u64, Instant>,
    stuck_teardowns: usize,
    studio: Option<Studio>,
    network_up: bool,
    /// When a route last appeared, or the policy changed.
    route_since: Instant,
    start: Instant,
    /// By endpoint.
    forbidden_until: BTreeMap<usize, Instant>,
    /// Endpoints that have acknowledged media.
    proven: BTreeSet<usize>,
    /// Endpoints that may hold a session of ours that is no more, and how often their slot was busy since.
    left: BTreeMap<usize, u32>,
    /// Endpoints that refused in a way that no retry mends.
    hopeless: BTreeSet<usize>,
    /// The endpoint of the last proven session, and since when.
    home: Option<(usize, Instant)>,
    dismissed: BTreeMap<usize, Instant>,
    token_failures: u32,
    refused_once: bool,
    /// The last failure that was followed by a try at once for sure; the last one that may have been.
    hurried: Option<Instant>,
    maybe_hurried: Option<Instant>,
    /// An heir found its slot taken in this step, and the live session is an orphan.
    own_slot: Option<usize>,
    /// How long that endpoint is to be left alone if the session does not make way.
    own_wait: Duration,
    /// The orphan that was closed for that, and when.
    made_way: Option<(u64, Instant)>,
    lost: Option<Lost>,
    /// Sessions opened on the present budget, and the largest and smallest budget that was in force meanwhile.
    opened: u32,
    allowed: Retries,
    broadcasting_since: Option<Instant>,
    /// Since when it should be broadcasting and is not.
    outage_since: Option<Instant>,
    told_stuck: bool,
    /// The session whose voice is being heard: its endpoint, and whether it is a move back.
    heard: Option<(usize, bool)>,
    same_instant: u32,
}

/// The session that is live, as far as the brain has been told.
struct Live {
    number: u64,
    endpoint: usize,
    /// Opened to move back to a better server.
    is_failback: bool,
    signalling: Signalling,
    output_broken: bool,
    /// It took the place of one that was lost before it was up.
    takes_over: bool,
    opened: Instant,
    accepted: Option<Instant>,
    connected: Option<Instant>,
    ice_silent: Option<Instant>,
    ice_up: Option<Instant>,
    acknowledged: Option<Instant>,
    /// An acknowledgement has come since a silence was shown.
    proved: bool,
    /// No acknowledgement has ever come, and its consent is believed.
    by_consent: bool,
    /// The present silence of ICE is shown.
    shown: bool,
}

/// The signalling plane of a session, once the server has accepted it.
enum Signalling {
    Up,
    Lost {
        since: Instant,
        asked: Option<Instant>,
        /// Resumes in a row, all of them and those that count.
        ordered: u32,
        spent: u32,
        /// The shortest and longest first wait and cap that were in force; `None`: anything may bring it forward or back.
        plain: bool,
        /// The failure promised that a try at once fares better; the next Resume comes at once for sure.
        promising: bool,
        must_hurry: bool,
    },
    Orphaned,
}

impl Live {
    const fn is_up(&self) -> bool {
        self.accepted.is_some() && self.connected.is_some()
    }

    /// Proven: the server has accepted it, ICE is up, and media of ours was acknowledged.
    const fn is_proven(&self) -> bool {
        self.is_up() && (self.proved || self.by_consent)
    }

    fn asked(&self) -> Option<Instant> {
        match self.signalling {
            Signalling::Lost { asked, .. } => asked,
            Signalling::Up | Signalling::Orphaned => None,
        }
    }
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
    /// The failure promised that a try at once fares better.
    promising: bool,
    /// The next try comes at once for sure.
    must_hurry: bool,
}

impl Judge {
    pub(super) fn new(seed: u64, policy: Policy, late: Duration, start: Instant) -> Self {
        Self {
            seen: Seen::default(),
            seed,
            late,
            now: start,
            openings: 0,
            studios: 0,
            steps: 0,
            exit: None,
            wanted: false,
            leaving_since: None,
            hurry: false,
            live: None,
            heir: None,
            ended: BTreeMap::new(),
            closing: BTreeMap::new(),
            stuck_teardowns: 0,
            studio: None,
            network_up: true,
            route_since: start,
            start,
            forbidden_until: BTreeMap::new(),
            proven: BTreeSet::new(),
            left: BTreeMap::new(),
            hopeless: BTreeSet::new(),
            home: None,
            dismissed: BTreeMap::new(),
            token_failures: 0,
            refused_once: false,
            hurried: None,
            maybe_hurried: None,
            own_slot: None,
            own_wait: SLOT_BUSY,
            made_way: None,
            lost: None,
            opened: 0,
            allowed: policy.max_retries,
            policy,
            broadcasting_since: None,
            outage_since: None,
            told_stuck: false,
            heard: None,
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

    pub(super) fn heir_session(&self) -> Option<u64> {
        self.heir.as_ref().map(|heir| heir.number)
    }

    fn find(&self, number: u64) -> Option<&Live> {
        self.live.iter().chain(&self.heir).find(|session| session.number == number)
    }

    fn find_mut(&mut self, number: u64) -> Option<&mut Live> {
        self.live.iter_mut().chain(&mut self.heir).find(|session| session.number == number)
    }

    pub(super) fn is_connected(&self, number: u64) -> bool {
        self.find(number).is_some_and(|session| session.connected.is_some())
    }

    pub(super) fn connected_session(&self) -> Option<u64> {
        self.live.as_ref().filter(|live| live.connected.is_some()).map(|live| live.number)
    }

    /// The live session, when its signalling connection is up.
    pub(super) fn signalling_session(&self) -> Option<u64> {
        let live = self.live.as_ref().filter(|live| live.accepted.is_some());
        live.filter(|live| matches!(live.signalling, Signalling::Up)).map(|live| live.number)
    }

    /// A Resume of this session waits for its answer.
    pub(super) fn is_asked(&self, number: u64) -> bool {
        self.live.as_ref().is_some_and(|live| live.number == number && live.asked().is_some())
    }

    /// `reconnect.maxRetries` is 0.
    pub(super) fn never_reconnects(&self) -> bool {
        self.policy.max_retries == Retries::AtMost(0)
    }

    /// Where the live session is.
    pub(super) fn endpoint(&self) -> Option<usize> {
        self.live.as_ref().map(|live| live.endpoint)
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

    fn of_consent<T: Copy>(&self, [watched, unwatched]: [T; 2]) -> T {
        if self.policy.watches_consent { watched } else { unwatched }
    }

    /// Whoever has never acknowledged anything, and has been up for so long, is believed.
    fn believe(&mut self) {
        let (now, Some(frames)) = (self.now, self.frames_since()) else { return };
        for session in self.live.iter_mut().chain(self.heir.iter_mut()) {
            let lasts = session.ice_up.is_some_and(|up| now >= up.max(frames) + BELIEVED);
            if lasts && session.ice_silent.is_none() && session.acknowledged.is_none() {
                session.by_consent = true;
                session.acknowledged = Some(now);
            }
        }
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
        if let Event::Session(Attempt(number), _) = &event {
            self.heard = self.find(*number).map(|session| (session.endpoint, session.is_failback));
        }
        let told = event;
        let event = if changes_nothing { told.clone() } else { self.weighed(&told) };
        if !changes_nothing {
            self.own_slot = None;
            self.hear(&event);
        }
        let orders = brain.step(now, told);
        if changes_nothing {
            self.hold(orders.is_empty(), "a stale voice caused an order");
            self.hold(*brain.status() == before, "a stale voice changed the status");
            self.hold(brain.deadline() == deadline, "a stale voice moved the deadline");
            return orders;
        }
        for order in &orders {
            self.check_order(order, &event);
        }
        if let (Some(endpoint), Some(_)) = (self.own_slot, &self.live) {
            self.forbid(endpoint, self.own_wait);
        }
        self.check_consequences(&event, brain.status());
        self.check_notices(&before, brain.status());
        self.check_status(brain.status());
        let still_pending = brain.deadline().is_some_and(|deadline| deadline <= now);
        match (&event, brain.deadline()) {
            (Event::Deadline, Some(deadline)) => self.hold(deadline > now, "the deadline did not move on"),
            (Event::Command(Command::Policy(_)), _) | (_, None) => {}
            (_, Some(deadline)) => {
                // A move to another server may have come due while one was under way.
                let was_moving = self.dismissed.values().any(|at| *at == now);
                self.hold(pending || was_moving || deadline >= now, "a deadline in the past");
            }
        }
        if !still_pending {
            self.check_bounds();
        }
        orders
    }

    /// What is told, with the answer to "may we try again?" that the past of its server gives.
    fn weighed(&mut self, event: &Event) -> Event {
        let Event::Session(attempt, said) = event else { return event.clone() };
        let mut said = said.clone();
        let heard = self.find(attempt.0).map(|session| session.endpoint);
        if let (Some(failure), Some(endpoint)) = (said.failure_mut(), heard) {
            failure.retry = match failure.retry {
                Retry::IfProven { .. } if !self.proven.contains(&endpoint) => Retry::Never,
                Retry::IfProven { after } => {
                    self.seen.shrugged += 1;
                    after.map_or(Retry::Backoff, Retry::After)
                }
                Retry::Busy { after } => {
                    let wait = self.slot_wait(attempt.0, endpoint);
                    Retry::Busy { after: Some(after.unwrap_or_default().max(wait)) }
                }
                other => other,
            };
        }
        Event::Session(*attempt, said)
    }

    /// How long a busy slot is left alone at least: 3, 6, 12 s where a session of ours that is no more may have it, else 30 s.
    fn slot_wait(&mut self, number: u64, endpoint: usize) -> Duration {
        let is_orphan = matches!(&self.live, Some(live) if live.number != number && live.endpoint == endpoint
            && matches!(live.signalling, Signalling::Orphaned));
        if is_orphan {
            self.left.entry(endpoint).or_insert(0);
        }
        let Some(times) = self.left.get_mut(&endpoint) else { return SLOT_BUSY };
        *times += 1;
        let seconds = [3, 6, 12].get(*times as usize - 1).copied();
        self.seen.own_slots += u64::from(seconds.is_some());
        seconds.map_or(SLOT_BUSY, Duration::from_secs)
    }

    /// This session is closed; its server may believe in it for a while.
    fn leave(&mut self, accepted: Option<Instant>, endpoint: usize) {
        if accepted.is_some() {
            self.left.entry(endpoint).or_insert(0);
        }
    }

    /// A voice that is none of the present session or studio, or tells what is known.
    fn is_stale(&self, event: &Event) -> bool {
        match event {
            Event::Session(Attempt(number), event) => match (self.find(*number), event) {
                (Some(session), event) => match event {
                    SessionEvent::Connected => session.connected.is_some() && session.ice_silent.is_none(),
                    SessionEvent::Accepted { .. } => session.accepted.is_some(),
                    SessionEvent::ResumeFailed(_) | SessionEvent::ResumeRefused(_) => session.asked().is_none(),
                    SessionEvent::SignallingLost(_) => {
                        !matches!(session.signalling, Signalling::Up) && session.asked().is_none()
                    }
                    _ => false,
                },
                (_, SessionEvent::Closed | SessionEvent::TeardownStuck) => self.ended.get(number) != Some(&false),
                _ => true,
            },
            Event::Media(Attempt(number), event) => match &self.studio {
                Some(studio) if studio.number == *number => match event {
                    MediaEvent::Stopped | MediaEvent::Warnings(_) => false,
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
            Event::Deadline => {
                // A Resume that was never answered has failed.
                let asked = self.live.as_ref().and_then(Live::asked);
                if asked.is_some_and(|asked| asked + RESUMING <= self.now) {
                    self.signalling_breaks(None);
                }
                self.believe();
            }
            // Nobody is suspended in this world: tests of the supervisor and the real program see to that.
            Event::Woke => {}
            // Something answers always here: whose outage it is changes nothing (`outage.rs` has the other worlds).
            Event::Answered(_) => {}
            Event::Token(TokenEvent::Failed(_)) => self.token_failures += 1,
            Event::Token(TokenEvent::Recovered) => self.token_failures = 0,
            Event::Command(command) => self.hear_command(command),
            Event::Network(event) => {
                self.network_up = *event == PathEvent::RouteAppeared;
                self.skip_backoff();
                self.nothing_is_plain();
                self.route_since = self.now;
            }
            Event::Media(_, event) => {
                let Some(studio) = &mut self.studio else { return };
                match event {
                    MediaEvent::Flowing => {
                        studio.flowing = Some(self.now);
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
                    self.hopeless.clear();
                    self.dismissed.clear();
                    self.home = None;
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
                self.nothing_is_plain();
                self.route_since = self.now;
                self.forbidden_until.retain(|endpoint, _| *endpoint < policy.endpoints);
                self.hopeless.retain(|endpoint| *endpoint < policy.endpoints);
                self.dismissed.retain(|endpoint, _| *endpoint < policy.endpoints);
                self.proven.retain(|endpoint| *endpoint < policy.endpoints);
                self.left.retain(|endpoint, _| *endpoint < policy.endpoints);
                if let Some(lost) = &mut self.lost {
                    lost.min = lost.min.min(policy.min_delay);
                    lost.max = lost.max.max(policy.max_delay);
                }
                self.allowed = match (self.allowed, policy.max_retries) {
                    (Retries::AtMost(a), Retries::AtMost(b)) => Retries::AtMost(a.max(b)),
                    _ => Retries::Unlimited,
                };
            }
            Command::Reconnect => self.skip_backoff(),
            Command::Start | Command::Policy(_) => {}
        }
    }

    fn hear_session(&mut self, number: u64, event: &SessionEvent) {
        if matches!(event, SessionEvent::Closed | SessionEvent::TeardownStuck) {
            self.ended.insert(number, true);
            self.closing.remove(&number);
            self.stuck_teardowns += usize::from(*event == SessionEvent::TeardownStuck);
        }
        let (now, is_live) = (self.now, self.live_session() == Some(number));
        let Some(session) = self.find_mut(number) else { return };
        let endpoint = session.endpoint;
        match event {
            SessionEvent::Accepted { .. } => {
                session.accepted = Some(now);
                self.refused_once = false;
                self.left.remove(&endpoint);
            }
            SessionEvent::Connected => {
                session.takes_over &= session.connected.is_some();
                session.connected.get_or_insert(now);
                session.ice_up = Some(now);
                session.ice_silent = None;
            }
            SessionEvent::Disconnected if session.connected.is_some() => {
                session.ice_silent.get_or_insert(now);
            }
            SessionEvent::Acknowledged => {
                session.acknowledged = Some(now);
                session.proved = true;
                session.by_consent = false;
                session.ice_silent = None;
            }
            SessionEvent::Link(_) if session.by_consent && session.ice_silent.is_none() => {
                session.acknowledged = Some(now);
            }
            SessionEvent::Output { reconnecting } => session.output_broken = *reconnecting,
            SessionEvent::GoingAway { retry_after } => {
                self.forbid(endpoint, (*retry_after).min(Duration::from_secs(3600)));
            }
            SessionEvent::SignallingResumed { recovered_from, .. } => {
                session.signalling = Signalling::Up;
                self.refused_once = false;
                self.seen.resumed += 1;
                self.seen.renamed += u64::from(recovered_from.is_some());
            }
            SessionEvent::SignallingLost(failure) | SessionEvent::ResumeFailed(failure) => {
                self.hear_hint(endpoint, failure);
                if is_live {
                    self.signalling_breaks(Some(failure));
                }
            }
            SessionEvent::ResumeRefused(failure) => {
                self.hear_hint(endpoint, failure);
                self.hear_resume_refused();
            }
            SessionEvent::Failed(failure) => self.hear_failure(number, endpoint, failure),
            _ => {}
        }
    }

    /// The server is back and knows the session no more: a new one is opened beside it, while it feeds.
    fn hear_resume_refused(&mut self) {
        if session_feeds(self.live.as_ref()) {
            if self.was_stable() {
                self.opened = if self.is_heir_a_retry() { 2 } else { 1 };
                self.allowed = self.policy.max_retries;
                self.broadcasting_since = Some(self.now);
            }
            if let Some(heir) = &mut self.heir
                && heir.is_failback
                && !matches!(self.allowed, Retries::AtMost(max) if self.opened > max)
            {
                heir.is_failback = false;
                self.opened += 1;
            }
            if let Some(live) = &mut self.live {
                live.signalling = Signalling::Orphaned;
            }
        }
    }

    /// A session failed. An heir whose slot is taken is told apart: it may be our own orphan that has it.
    fn hear_failure(&mut self, number: u64, endpoint: usize, failure: &Failure) {
        let is_heir = self.heir.as_ref().is_some_and(|heir| heir.number == number && !heir.is_failback);
        let is_orphan = matches!(self.live, Some(Live { signalling: Signalling::Orphaned, .. }));
        let asked = match failure.retry {
            Retry::After(time) | Retry::Busy { after: Some(time) } => Some(time),
            _ => None,
        };
        let asks_for_more = asked.is_some_and(|time| time > SLOT_BUSY);
        self.own_wait = asked.filter(|_| matches!(failure.retry, Retry::Busy { .. })).unwrap_or(SLOT_BUSY);
        if is_heir && is_orphan && failure.code == ErrorCode::ConcurrentLimit && !asks_for_more {
            self.own_slot = Some(endpoint);
        } else {
            self.hear_hint(endpoint, failure);
        }
    }

    /// The signalling connection of the live session broke, or a Resume of it failed (`None`: was not answered).
    fn signalling_breaks(&mut self, failure: Option<&Failure>) {
        let is_cut_off = self.is_cut_off();
        let Some(live) = &mut self.live else { return };
        let no_token = failure.is_some_and(|failure| failure.code == ErrorCode::TokenProviderFailed);
        let (ordered, spent) = match live.signalling {
            Signalling::Lost { ordered, spent, .. } => (ordered, spent - u32::from(is_cut_off || no_token).min(spent)),
            Signalling::Up | Signalling::Orphaned => (0, 0),
        };
        let endpoint = live.endpoint;
        let hinted =
            self.forbidden_until.get(&endpoint).is_some_and(|until| *until + Duration::from_secs(3) > self.now);
        let promising = failure.is_some_and(promises_better);
        let plain = !hinted && !is_cut_off;
        let is_rested = self.maybe_hurried.is_none_or(|at| self.now >= at + HURRY);
        let must_hurry = promising && plain && is_rested;
        live.signalling =
            Signalling::Lost { since: self.now, asked: None, ordered, spent, plain, promising, must_hurry };
        if promising {
            self.maybe_hurried = Some(self.now);
        }
    }

    /// Our own backoff counts no more; what a server wants still does, and the try may wait for that alone.
    fn skip_backoff(&mut self) {
        let is_hinted = self.forbidden_until.values().any(|until| *until + Duration::from_secs(4) > self.now);
        if let Some(lost) = &mut self.lost {
            lost.plain = false;
            lost.min = if is_hinted { Duration::ZERO } else { lost.min };
        }
    }

    fn nothing_is_plain(&mut self) {
        if let Some(Live { signalling: Signalling::Lost { plain, must_hurry, .. }, .. }) = &mut self.live {
            (*plain, *must_hurry) = (false, false);
        }
    }

    fn hear_hint(&mut self, endpoint: usize, failure: &Failure) {
        if let Retry::After(time) | Retry::Busy { after: Some(time) } = failure.retry {
            self.forbid(endpoint, time);
        }
        if failure.code == ErrorCode::ConcurrentLimit && !matches!(failure.retry, Retry::Busy { .. }) {
            self.forbid(endpoint, SLOT_BUSY);
        }
    }

    fn forbid(&mut self, endpoint: usize, time: Duration) {
        if endpoint < self.policy.endpoints {
            let until = self.forbidden_until.entry(endpoint).or_insert(self.now);
            *until = (*until).max(self.now + time);
        }
    }

    fn is_heir_a_retry(&self) -> bool {
        self.heir.as_ref().is_some_and(|heir| !heir.is_failback)
    }

    fn check_order(&mut self, order: &Action, event: &Event) {
        self.hold(self.exit.is_none(), "an order after Exit");
        match order {
            Action::Resume(Attempt(number)) => self.check_resume(*number),
            Action::RememberProof { endpoint } => {
                let is_proven = self.live.as_ref().is_some_and(|live| live.endpoint == *endpoint && live.is_proven());
                let is_news = *endpoint >= self.policy.endpoints || self.proven.insert(*endpoint);
                self.hold(is_proven && is_news, "a proof of nothing");
            }
            Action::RestartIce(_) => self.hold(false, "an ICE restart though there are to be none"),
            Action::Open { attempt: Attempt(number), endpoint } => self.check_open(*number, *endpoint, event),
            Action::Close { attempt: Attempt(number), goodbye } => {
                self.hold(*goodbye, "a close without a goodbye");
                if self.heir_session() == Some(*number) {
                    self.check_close_heir(event);
                } else {
                    self.hold(self.live_session() == Some(*number), "closed what was not live");
                    self.check_close_live(event);
                }
                if !self.has_ended(*number) {
                    self.closing.insert(*number, self.now);
                }
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
            Action::Probe { .. } => {
                let is_wanted = self.wanted && self.leaving_since.is_none() && !self.is_cut_off();
                self.hold(is_wanted && *event == Event::Deadline, "a probe that nobody wants");
            }
            Action::Exit(reason) => self.check_exit(*reason),
        }
    }

    fn check_resume(&mut self, number: u64) {
        self.hold(self.live_session() == Some(number), "a Resume of a session that is not live");
        self.hold(!self.is_cut_off(), "a Resume without a network");
        let signalling = self.policy.signalling.clone();
        let Some(live) = &mut self.live else { return };
        let endpoint = live.endpoint;
        let Signalling::Lost { since, asked, ordered, spent, plain, promising, must_hurry } = &mut live.signalling
        else {
            panic!("seed {}: a Resume of a connection that is not lost", self.seed)
        };
        let was_asked = asked.replace(self.now);
        *ordered += 1;
        *spent += 1;
        let doubled = signalling.min_delay.as_secs_f64() * 2_f64.powi(i32::try_from(*ordered).unwrap_or(99) - 1);
        let middle = doubled.min(signalling.max_delay.as_secs_f64());
        let jitter = f64::from(signalling.jitter_percent) / 100.0;
        let waited = (self.now - *since).as_secs_f64();
        let (since, spent, plain, promising, must_hurry) = (*since, *spent, *plain, *promising, *must_hurry);
        let may_hurry = promising && self.is_rested(since);
        let is_early = waited < middle * (1.0 - jitter) - 1e-6;
        let late = self.late.as_secs_f64() + 1e-6;
        self.hold(was_asked.is_none(), "two Resumes at once");
        self.hold(!self.is_forbidden(endpoint), "a Resume inside a hint");
        self.hold(!plain || may_hurry || !is_early, "a Resume too early");
        self.hold(!must_hurry || waited <= late, "a promising Resume that was not made at once");
        self.hold(!plain || waited <= middle * (1.0 + jitter) + late, "a Resume too late");
        let max = signalling.max_attempts;
        self.hold(
            max == Retries::Unlimited || matches!(max, Retries::AtMost(max) if spent <= max) || !plain,
            "more Resumes than maxAttempts",
        );
        if plain && may_hurry && is_early {
            self.hurried = Some(since);
        }
    }

    fn check_close_heir(&mut self, event: &Event) {
        let Some(heir) = self.heir.take() else { return };
        self.leave(heir.accepted, heir.endpoint);
        match event {
            Event::Session(Attempt(number), event) if *number == heir.number => {
                let is_end = matches!(
                    event,
                    SessionEvent::Failed(_)
                        | SessionEvent::Closed
                        | SessionEvent::TeardownStuck
                        | SessionEvent::SignallingLost(_)
                );
                self.hold(is_end, "a healthy heir was closed");
            }
            Event::Session(..) | Event::Media(..) => self.hold(self.live.is_none(), "an heir closed for nothing"),
            Event::Deadline if self.live.is_some() => self.check_cause_of(&heir),
            _ => {}
        }
        self.seen.heirs_lost += u64::from(self.live.is_some());
        self.dismissed.insert(heir.endpoint, self.now);
        if heir.is_failback {
            return;
        }
        let is_free = self.is_cut_off() || is_token_failure(event);
        let by_operator = matches!(event, Event::Command(_));
        if is_free && !by_operator && self.live.is_some() && self.policy.max_retries != Retries::AtMost(0) {
            self.opened -= 1;
        }
        self.note_loss(event);
    }

    fn check_close_live(&mut self, event: &Event) {
        if let Some(live) = &self.live {
            self.leave(live.accepted, live.endpoint);
        }
        if self.heir.as_ref().is_some_and(Live::is_proven) {
            self.live = self.heir.take();
            let moved_back = self.live.as_ref().is_some_and(|live| live.is_failback);
            self.seen.moved_back += u64::from(moved_back);
            self.seen.replaced += u64::from(!moved_back);
            self.lost = None;
            self.broadcasting_since = Some(self.now);
            return;
        }
        self.check_cause(event);
        self.check_signalling_cause(event);
        let makes_way = self.makes_way(event);
        self.count_loss(event);
        let orphan = self.live.take().map(|live| live.number);
        self.note_loss(event);
        if makes_way {
            self.hold(self.is_rested(self.now), "it made way twice in a minute");
            (self.hurried, self.maybe_hurried) = (Some(self.now), Some(self.now));
            self.made_way = orphan.map(|orphan| (orphan, self.now));
            self.seen.made_way += 1;
            if let Some(lost) = &mut self.lost {
                (lost.plain, lost.promising, lost.must_hurry) = (false, false, false);
            }
            return;
        }
        let is_final = matches!(self.allowed, Retries::AtMost(max) if self.opened > max);
        if matches!(event, Event::Command(_))
            || self.is_the_end(event)
            || self.heir.as_ref().is_some_and(|heir| heir.is_failback && is_final)
        {
            return; // It is closed too, in this step.
        }
        if let Some(mut heir) = self.heir.take() {
            self.opened += u32::from(heir.is_failback);
            heir.is_failback = false;
            heir.takes_over = true;
            self.seen.promoted += 1;
            self.lost = None;
            self.live = Some(heir);
        }
    }

    /// The live session is closed because it holds the slot of the heir that has just failed.
    fn makes_way(&self, event: &Event) -> bool {
        self.own_slot.is_some() && self.heir.is_none() && !self.is_the_end(event) && self.stuck_teardowns(TEARDOWN) < 3
    }

    /// What is heard ends the broadcast.
    fn is_the_end(&self, event: &Event) -> bool {
        let Event::Session(_, heard) = event else { return false };
        let (SessionEvent::Failed(failure)
        | SessionEvent::SignallingLost(failure)
        | SessionEvent::ResumeFailed(failure)
        | SessionEvent::ResumeRefused(failure)) = heard
        else {
            return false;
        };
        match failure.retry {
            Retry::Never | Retry::IfProven { .. } => {
                self.heard.is_some_and(|(endpoint, _)| !self.is_elsewhere_better(endpoint, failure))
            }
            Retry::Once => self.refused_once,
            Retry::Backoff | Retry::After(_) | Retry::Busy { .. } => false,
        }
    }

    fn is_elsewhere_better(&self, endpoint: usize, failure: &Failure) -> bool {
        failure.code == ErrorCode::NotFound
            && (0..self.policy.endpoints).any(|other| other != endpoint && !self.hopeless.contains(&other))
    }

    fn note_loss(&mut self, event: &Event) {
        let backoff = !matches!(event, Event::Command(_));
        let asked_to_wait = self.forbidden_until.values().any(|until| *until > self.now);
        let plain = !asked_to_wait && !self.is_cut_off() && self.own_slot.is_none();
        let promising = failure_of(event).is_some_and(promises_better);
        let is_rested = self.maybe_hurried.is_none_or(|at| self.now >= at + HURRY);
        self.lost = backoff.then_some(Lost {
            at: self.now,
            min: self.policy.min_delay,
            max: self.policy.max_delay,
            plain,
            promising,
            must_hurry: promising && is_rested && plain,
        });
        if promising {
            self.maybe_hurried = Some(self.now);
        }
    }

    fn is_forbidden(&self, endpoint: usize) -> bool {
        self.forbidden_until.get(&endpoint).is_some_and(|until| *until > self.now)
    }

    fn check_open(&mut self, number: u64, endpoint: usize, event: &Event) {
        self.hold(number == self.openings + 1, "sessions are numbered one by one");
        self.hold(self.heir.is_none(), "three sessions");
        self.hold(self.wanted && self.leaving_since.is_none(), "a session opened after Stop");
        self.hold(!self.is_cut_off(), "a try without a network");
        self.hold(!self.is_forbidden(endpoint), "a try inside a hint");
        self.hold(endpoint < self.policy.endpoints.max(1), "a server that is none");
        let is_failback = self.live.as_ref().is_some_and(|live| !matches!(live.signalling, Signalling::Orphaned));
        if let Some(live) = self.live.as_ref().filter(|_| is_failback) {
            self.hold(*event == Event::Deadline && endpoint < live.endpoint, "two live sessions");
            self.hold(live.is_proven(), "a move away from what is not proven");
            let settled = self.home.is_some_and(|(home, since)| home == live.endpoint && self.now >= since + FAILBACK);
            self.hold(settled, "moved back too early");
            let dismissed = self.dismissed.get(&endpoint);
            self.hold(dismissed.is_none_or(|at| self.now >= *at + COOL_DOWN), "moved back inside the cool-down");
        }
        self.hold(self.live.is_none() || session_feeds(self.live.as_ref()), "an heir of what never fed");
        let at_once = matches!(event, Event::Network(_) | Event::Command(_));
        if !is_failback && !at_once {
            self.check_not_too_early();
        }
        if let Some(lost) = self.lost.as_ref().filter(|_| !is_failback)
            && !at_once
        {
            let waited = self.now - lost.at;
            // While the old session feeds, a used up budget is waited for.
            let plain = lost.plain && !(self.live.is_some() && waited >= STABLE);
            self.hold(!plain || waited <= lost.max + self.late, "a try later than maxDelay");
        }
        if self.live.is_some() && !is_failback && self.was_stable() {
            self.opened = 1;
            self.allowed = self.policy.max_retries;
            self.broadcasting_since = Some(self.now);
        }
        self.openings += 1;
        self.opened += u32::from(!is_failback);
        if let Retries::AtMost(max) = self.allowed {
            let by_a_person = self.live.is_none() && self.lost.is_none() || at_once || is_failback;
            self.hold(self.opened <= max + 1 || by_a_person, "more retries than maxRetries");
        }
        self.ended.insert(number, false);
        if !is_failback {
            self.lost = None;
            self.made_way = None;
        }
        let session = Live {
            number,
            endpoint,
            is_failback,
            signalling: Signalling::Up,
            output_broken: false,
            takes_over: false,
            opened: self.now,
            accepted: None,
            connected: None,
            ice_silent: None,
            ice_up: None,
            acknowledged: None,
            proved: false,
            by_consent: false,
            shown: false,
        };
        if self.live.is_some() {
            self.heir = Some(session);
        } else {
            self.live = Some(session);
        }
    }

    /// minDelay is kept, except where a failure promised that a try at once fares better.
    fn check_not_too_early(&mut self) {
        let Some(lost) = &self.lost else { return };
        let waited = self.now - lost.at;
        let is_over = |orphan, since| self.has_ended(orphan) || self.now >= since + OWN_SLOT;
        let is_way_free = self.made_way.is_some_and(|(orphan, since)| is_over(orphan, since));
        let may_hurry = lost.promising && self.is_rested(lost.at);
        self.hold(waited >= lost.min || is_way_free || may_hurry, "a try before minDelay");
        self.hold(!lost.must_hurry || waited <= self.late, "a promising try that was not made at once");
        if may_hurry && waited < lost.min {
            self.seen.hurried += 1;
            self.hurried = Some(lost.at);
        }
    }

    /// When it failed at `time`, no failure in the last minute had been followed by a try at once.
    fn is_rested(&self, time: Instant) -> bool {
        self.hurried.is_none_or(|at| time >= at + HURRY)
    }

    /// The live session is being closed by a deadline: was it really dead?
    fn check_cause(&self, event: &Event) {
        if let (Event::Deadline, Some(live)) = (event, &self.live) {
            let is_signalling =
                matches!(live.signalling, Signalling::Lost { since, asked: None, .. } if since == self.now);
            if !is_signalling {
                self.check_cause_of(live);
            }
        }
    }

    fn check_cause_of(&self, live: &Live) {
        let passed = |since: Option<Instant>, time: Duration| since.is_some_and(|since| self.now >= since + time);
        let quiet = live.connected.zip(self.frames_since()).map(|(a, b)| a.max(b).max(live.acknowledged.unwrap_or(a)));
        let cause = (live.accepted.is_none() && passed(Some(live.opened), OPENING))
            || (live.connected.is_none() && passed(live.accepted, CONNECTING))
            || passed(live.ice_silent, self.policy.disconnected_timeout)
            || (live.ice_silent.is_none() && !live.by_consent && passed(quiet, self.of_consent(STALL_MIN)))
            || self.policy.give_up_after.is_some()
            || self.stuck_teardowns(TEARDOWN) >= 3;
        self.hold(cause, "a healthy session was given up");
    }

    /// A lost signalling connection alone never ends what feeds.
    fn check_signalling_cause(&self, event: &Event) {
        let Some(live) = &self.live else { return };
        let (failure, refused) = match event {
            Event::Session(Attempt(number), event) if *number == live.number => match event {
                SessionEvent::SignallingLost(failure) | SessionEvent::ResumeFailed(failure) => (Some(failure), false),
                SessionEvent::ResumeRefused(failure) => (Some(failure), true),
                SessionEvent::Failed(_) | SessionEvent::Closed | SessionEvent::TeardownStuck => return,
                _ => panic!("seed {}, step {}: closed after good news", self.seed, self.steps),
            },
            Event::Deadline if matches!(live.signalling, Signalling::Lost { since, asked: None, .. } if since == self.now) => {
                (None, false)
            }
            Event::Session(..) => {
                let may_close = self.stuck_teardowns(TEARDOWN) >= 3 || self.is_the_end(event) || self.makes_way(event);
                return self.hold(may_close, "closed by another's voice");
            }
            _ => return,
        };
        let is_final = failure.is_some_and(|failure| match failure.retry {
            Retry::Never | Retry::IfProven { .. } => true,
            Retry::Once => self.refused_once,
            Retry::Backoff | Retry::After(_) | Retry::Busy { .. } => false,
        });
        let is_used_up = match (&live.signalling, self.policy.signalling.max_attempts) {
            (Signalling::Lost { spent, .. }, Retries::AtMost(max)) => *spent >= max,
            _ => false,
        };
        let may_close = live.accepted.is_none()
            || (if refused {
                !session_feeds(Some(live))
            } else {
                !self.policy.signalling.keep_media_on_loss || is_used_up
            });
        let by_deadline = *event == Event::Deadline && {
            // Something else came due in this instant.
            live.ice_silent.is_some()
                || live.acknowledged.is_none_or(|last| self.now >= last + self.of_consent(STALL_MIN))
        };
        self.hold(may_close || is_final || by_deadline, "signalling alone ended what feeds");
    }

    fn count_loss(&mut self, event: &Event) {
        let Some(live) = &self.live else { return };
        let no_token = is_token_failure(event);
        let by_operator = matches!(event, Event::Command(_));
        if self.was_stable() {
            self.opened = if self.is_heir_a_retry() { 2 } else { 1 };
            self.allowed = self.policy.max_retries;
        }
        if !by_operator
            && (self.is_cut_off() || no_token)
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
        self.hold(self.live.is_none() && self.heir.is_none(), "Exit with a live session");
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
            let has_let_go = |studio: &Studio| studio.stopping.is_some_and(|since| self.now >= since + STUDIO_STOP);
            let closed = self.studio.as_ref().is_none_or(has_let_go) && !closing;
            self.hold(closed || self.hurry || self.now >= since + LEAVING, "Exit before everything was closed");
        }
    }

    /// What must follow from an event in the same step.
    fn check_consequences(&mut self, event: &Event, status: &Status) {
        let left = status.broadcast.is_none();
        if let Event::Session(Attempt(number), heard) = event {
            match heard {
                SessionEvent::Failed(failure) => {
                    self.hold(self.find(*number).is_none(), "a failed session was not closed");
                    self.check_refusal(*number, failure, left);
                }
                SessionEvent::SignallingLost(failure)
                | SessionEvent::ResumeFailed(failure)
                | SessionEvent::ResumeRefused(failure) => {
                    let may_live = self.policy.signalling.keep_media_on_loss
                        || matches!(heard, SessionEvent::ResumeRefused(_))
                        || self.find(*number).is_none();
                    self.hold(may_live, "it outlives its signalling without keepMediaOnLoss");
                    self.check_refusal(*number, failure, left);
                }
                _ => {}
            }
        }
        self.hold(
            !self.heir.as_ref().is_some_and(Live::is_proven),
            "the old session outlives the proof of the new one",
        );
        if let Some(live) = self.live.as_ref().filter(|live| live.is_proven()) {
            let endpoint = live.endpoint;
            if self.home.is_none_or(|(home, _)| home != endpoint) {
                self.home = Some((endpoint, self.now));
            }
            self.hopeless.remove(&endpoint);
            self.dismissed.remove(&endpoint);
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

    /// What the server said must never be tried again is not.
    fn check_refusal(&mut self, number: u64, failure: &Failure, left: bool) {
        let Some((endpoint, is_failback)) = self.heard.filter(|_| self.openings >= number) else { return };
        if is_failback {
            return; // The old session feeds on; nothing is lost.
        }
        match failure.retry {
            Retry::Never | Retry::IfProven { .. } if self.is_elsewhere_better(endpoint, failure) => {
                if endpoint < self.policy.endpoints {
                    self.hopeless.insert(endpoint);
                }
            }
            Retry::Never | Retry::IfProven { .. } => self.hold(left, "tried again after a final refusal"),
            Retry::Once => {
                self.hold(!self.refused_once || left, "tried again after 401 twice");
                self.refused_once = true;
            }
            Retry::Backoff | Retry::After(_) | Retry::Busy { .. } => {}
        }
    }

    fn check_notices(&mut self, before: &Status, after: &Status) {
        for notice in notices(before, after) {
            match notice {
                Notice::ReconnectStuck(_) => {
                    self.hold(!self.told_stuck, "stuck was told twice in one outage");
                    self.told_stuck = true;
                }
                Notice::Gap(gap) => {
                    let is_long = !is_on_air(before) || gap.seconds > 3.0;
                    self.hold(is_on_air(after) && is_long && gap.seconds > 0.0, "a gap was told that is not over");
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
        let broadcasting = matches!(message, Some(Message::Broadcasting | Message::Reconnecting));
        self.check_planes(status);
        match &mut self.live {
            None => self.hold(message.is_none() || shown, "no session, and not reconnecting"),
            Some(live) => {
                live.proved &= !shown;
                let was_shown = std::mem::replace(&mut live.shown, shown);
                let up = live.accepted.is_some() && live.connected.is_some();
                let silent = live.ice_silent;
                let proved = live.proved || live.by_consent;
                let truth = if live.takes_over && !proved {
                    Message::ReconnectingBroadcast
                } else if !up {
                    Message::Signalling
                } else if proved && live.output_broken {
                    Message::Reconnecting
                } else if proved {
                    Message::Broadcasting
                } else {
                    Message::Connected
                };
                match silent {
                    Some(_) if was_shown && shown => {}
                    Some(since) if shown && (proved || !live.takes_over) => {
                        self.hold(self.now >= since + grace, "a short disturbance was shown")
                    }
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
            if self.broadcasting_since.is_none() {
                let endpoint = self.live.as_ref().map_or(usize::MAX, |live| live.endpoint);
                let is_known = endpoint >= self.policy.endpoints || self.proven.contains(&endpoint);
                self.hold(is_known, "on air, and not written down");
            }
            self.broadcasting_since.get_or_insert(self.now);
            self.told_stuck = false;
        } else {
            if self.live.is_some() && self.was_stable() {
                self.opened = if self.is_heir_a_retry() { 2 } else { 1 };
                self.allowed = self.policy.max_retries;
            }
            self.broadcasting_since = None;
        }
    }

    /// The planes are told apart.
    fn check_planes(&self, status: &Status) {
        let Some(live) = self.live.as_ref().filter(|live| live.accepted.is_some()) else { return };
        let truth = match live.signalling {
            Signalling::Up => PlaneState::Connected,
            Signalling::Lost { .. } => PlaneState::Disconnected,
            Signalling::Orphaned => PlaneState::Failed,
        };
        self.hold(status.signalling.state == truth, "the signalling plane is not the truth");
        self.hold(status.token_failures == self.token_failures, "the failures of the token provider are miscounted");
        let id = status.broadcast.as_ref().and_then(|broadcast| broadcast.session_id.as_deref());
        let number = live.number.to_string();
        self.hold(
            id.is_some_and(|id| id.split('/').nth(2) == Some(&number)),
            "the session shown is not the one on air",
        );
    }

    /// Nothing hangs for longer than it may.
    fn check_bounds(&self) {
        let patience = self.policy.stuck_after + self.late;
        let is_long = self.outage_since.is_some_and(|since| self.now > since + patience);
        self.hold(self.told_stuck || !is_long, "stuck was not told");
        for session in self.live.iter().chain(&self.heir) {
            self.check_bounds_of(session);
        }
        let Some(live) = &self.live else { return };
        let within = |since: Option<Instant>, time| since.is_none_or(|since| self.now <= since + time + self.late);
        self.hold(live.shown || within(live.ice_silent, self.policy.status_grace), "a long disturbance is not shown");
        let Signalling::Lost { since, asked, .. } = live.signalling else { return };
        self.hold(within(asked, RESUMING), "a Resume that hangs");
        let policy = &self.policy.signalling;
        let cap = policy.max_delay.max(policy.min_delay);
        let longest = cap + cap * policy.jitter_percent / 100;
        let hint = self.forbidden_until.get(&live.endpoint).map_or(since, |until| *until + (*until - self.start) / 10);
        let is_due = asked.is_none() && !self.is_cut_off() && self.now > hint + Duration::from_secs(4);
        let waits = Some(since.max(self.route_since)).filter(|_| is_due);
        self.hold(within(waits, longest), "signalling is not reopened");
    }

    fn check_bounds_of(&self, session: &Live) {
        let within =
            |since: Option<Instant>, time: Duration| since.is_none_or(|since| self.now <= since + time + self.late);
        self.hold(session.accepted.is_some() || within(Some(session.opened), OPENING), "an opening that hangs");
        self.hold(session.connected.is_some() || within(session.accepted, CONNECTING), "a connecting that hangs");
        self.hold(within(session.ice_silent, self.policy.disconnected_timeout), "ICE is silent for too long");
        if let (None, Some(up), Some(frames), false) =
            (session.ice_silent, session.ice_up, self.frames_since(), session.by_consent)
        {
            let stall_max = self.of_consent(STALL_MAX);
            let quiet = session.acknowledged.or(session.connected).map(|since| since.max(frames));
            let longest = if session.proved { stall_max } else { PROOF };
            self.hold(within(quiet.map(|since| since.max(up)), longest), "unacknowledged for too long");
            let whatever_ice_says = self.policy.disconnected_timeout + stall_max;
            self.hold(within(quiet, whatever_ice_says), "kept alive by an ICE that flaps");
        }
    }
}

/// It has fed at some time: worth keeping until it fails by itself.
fn session_feeds(live: Option<&Live>) -> bool {
    live.is_some_and(|live| live.acknowledged.is_some())
}

fn is_token_failure(event: &Event) -> bool {
    matches!(event, Event::Session(_, SessionEvent::Failed(failure)) if failure.code == ErrorCode::TokenProviderFailed)
}

/// A try at once may fare better.
fn promises_better(failure: &Failure) -> bool {
    failure.retry == Retry::Once
}

fn failure_of(event: &Event) -> Option<&Failure> {
    match event {
        Event::Session(
            _,
            SessionEvent::Failed(failure)
            | SessionEvent::SignallingLost(failure)
            | SessionEvent::ResumeFailed(failure)
            | SessionEvent::ResumeRefused(failure),
        ) => Some(failure),
        _ => None,
    }
}

fn is_on_air(status: &Status) -> bool {
    let message = status.broadcast.as_ref().map(|broadcast| broadcast.message);
    matches!(message, Some(Message::Broadcasting | Message::Reconnecting))
}
