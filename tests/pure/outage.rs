//! Whose outage is it? The brain in virtual time, behind a modem: our link, the modem's uplink, the server and everything
//! else may each be silent, and probes find out which it is.
//!
//! `OUTAGE_SEED=n cargo test --test pure outage` runs that one world and prints it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use roamcast::status::{ErrorCode, Message, StopReason, WaitingFor};
use roamcast::supervisor::Supervisor;
use roamcast::supervisor::event::{
    Action, Attempt, Command, Event, Failure, MediaEvent, PathEvent, Phase, ProbeTarget, Retry, SessionEvent,
};
use roamcast::supervisor::policy::{Policy, Retries};

use crate::world::{base, calm_policy};

const RTT: u64 = 50;
/// The server forgets a session of which it has heard nothing for so long.
const FORGETS_AFTER: Duration = Duration::from_secs(12);
/// A try that hears nothing fails after this.
const DIAL: u64 = 5_000;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How the server treats whoever reaches it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Server {
    Well,
    /// Its machine or its network is dead.
    Silent,
    /// Nothing listens.
    Refuses,
    /// It listens, and wants nobody.
    Busy,
}

/// What passes and what does not.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Net {
    /// From here to the gateway.
    link: bool,
    /// From the gateway to everything else.
    uplink: bool,
    server: Server,
    gateway_answers: bool,
    witnesses_answer: bool,
    /// Connects of probes are answered by whoever is there; behind an HTTP proxy they are not.
    probes_pass: bool,
}

const WELL: Net = Net {
    link: true,
    uplink: true,
    server: Server::Well,
    gateway_answers: true,
    witnesses_answer: true,
    probes_pass: true,
};
/// Nothing reaches the modem.
const TUNNEL: Net = Net { link: false, ..WELL };
/// The modem answers, and reaches nobody.
const MODEM_ALONE: Net = Net { uplink: false, ..WELL };

impl Net {
    fn reaches_out(self) -> bool {
        self.link && self.uplink
    }

    fn reaches_server(self) -> bool {
        self.reaches_out() && self.server != Server::Silent
    }

    fn answers(self, target: ProbeTarget) -> bool {
        self.probes_pass
            && match target {
                ProbeTarget::Gateway => self.link && self.gateway_answers,
                ProbeTarget::Witness(_) => self.reaches_out() && self.witnesses_answer,
                ProbeTarget::Server(_) => self.reaches_server(),
            }
    }
}

#[derive(Debug, Clone)]
enum Happening {
    Net(Net),
    Tell(Event),
    /// The server decides about this session.
    Asked(u64),
    /// The media of this session is heard, or not.
    Media(u64),
    /// The process was suspended until now.
    Woke,
}

/// The present session.
struct Fake {
    is_up: bool,
    ice_is_silent: bool,
    last_heard: Instant,
}

struct World {
    brain: Supervisor,
    start: Instant,
    now: Instant,
    net: Net,
    plans: std::collections::BinaryHeap<Reverse<(Instant, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    planned: u64,
    live: Option<(u64, Fake)>,
    opens: Vec<Duration>,
    probes: Vec<(Duration, ProbeTarget)>,
    exit: Option<StopReason>,
    /// When it began to wait for connectivity, each time.
    held: Vec<Duration>,
    verbose: bool,
}

impl World {
    /// On air for ten seconds. `witnesses`: `None` where no probes can be sent.
    fn on_air(policy: Policy, witnesses: Option<usize>, net: Net) -> Self {
        let start = base();
        let brain = Supervisor::new(policy, 7, start);
        let brain = match witnesses {
            Some(witnesses) => brain.with_witnesses(witnesses),
            None => brain,
        };
        let mut world = Self {
            brain,
            start,
            now: start,
            net,
            plans: Default::default(),
            happenings: BTreeMap::new(),
            planned: 0,
            live: None,
            opens: Vec::new(),
            probes: Vec::new(),
            exit: None,
            held: Vec::new(),
            verbose: std::env::var_os("OUTAGE_SEED").is_some(),
        };
        world.tell(Event::Command(Command::Start));
        world.tell(Event::Media(Attempt(1), MediaEvent::Flowing));
        world.run(10_000);
        assert!(world.is_on_air());
        (world.opens, world.probes) = (Vec::new(), Vec::new());
        world
    }

    fn is_on_air(&self) -> bool {
        self.message() == Some(Message::Broadcasting)
    }

    fn message(&self) -> Option<Message> {
        self.brain.status().broadcast.as_ref().map(|broadcast| broadcast.message)
    }

    fn waits_for(&self) -> Option<WaitingFor> {
        self.brain.status().broadcast.as_ref().and_then(|broadcast| broadcast.waiting_for)
    }

    fn plan(&mut self, in_ms: u64, happening: Happening) {
        self.planned += 1;
        self.plans.push(Reverse((self.now + ms(in_ms), self.planned)));
        self.happenings.insert(self.planned, happening);
    }

    /// Lets so much time pass.
    fn run(&mut self, time_ms: u64) {
        let end = self.now + ms(time_ms);
        while self.exit.is_none() {
            let due = self.brain.deadline().map(|due| due.max(self.now));
            let planned = self.plans.peek().map(|Reverse((time, _))| *time);
            match (due, planned) {
                (Some(due), planned) if due <= end && planned.is_none_or(|planned| due <= planned) => {
                    self.now = due;
                    self.tell(Event::Deadline);
                }
                (_, Some(planned)) if planned <= end => self.happen(),
                _ => break,
            }
        }
        self.now = end;
    }

    /// From now on the net is like this, for so long.
    fn spend(&mut self, net: Net, time_ms: u64) {
        self.net = net;
        self.run(time_ms);
    }

    fn happen(&mut self) {
        let Some(Reverse((time, number))) = self.plans.pop() else { return };
        self.now = time;
        match self.happenings.remove(&number) {
            Some(Happening::Net(net)) => self.net = net,
            Some(Happening::Tell(event)) => self.tell(event),
            Some(Happening::Asked(number)) => self.asked(number),
            Some(Happening::Media(number)) => self.media(number),
            Some(Happening::Woke) => self.tell(Event::Woke),
            None => {}
        }
    }

    fn since(&self) -> Duration {
        self.now - self.start
    }

    fn tell(&mut self, event: Event) {
        if self.verbose {
            println!("{:>9.3} {event:?} {:?}", self.since().as_secs_f64(), self.net);
        }
        let was_held = self.waits_for() == Some(WaitingFor::Connectivity);
        let orders = self.brain.step(self.now, event);
        if !was_held && self.waits_for() == Some(WaitingFor::Connectivity) {
            self.held.push(self.since());
        }
        for order in orders {
            if self.verbose {
                println!("          -> {order:?}");
            }
            self.carry_out(order);
        }
    }

    fn carry_out(&mut self, order: Action) {
        match order {
            Action::Open { attempt: Attempt(number), .. } => {
                self.opens.push(self.since());
                self.live = Some((number, Fake { is_up: false, ice_is_silent: false, last_heard: self.now }));
                match self.net.server {
                    Server::Refuses if self.net.reaches_out() => self.fails(RTT, number, Phase::Dial, Retry::Backoff),
                    Server::Busy if self.net.reaches_out() => {
                        self.fails(3 * RTT, number, Phase::Request, Retry::After(ms(4_000)));
                    }
                    _ if self.net.reaches_server() => self.plan(4 * RTT, Happening::Asked(number)),
                    _ => self.fails(DIAL, number, Phase::Dial, Retry::Backoff),
                }
            }
            Action::Close { attempt: Attempt(number), .. } => {
                if self.live.as_ref().is_some_and(|(live, _)| *live == number) {
                    self.live = None;
                }
                self.plan(20, Happening::Tell(Event::Session(Attempt(number), SessionEvent::Closed)));
            }
            Action::Probe { target, .. } => {
                self.probes.push((self.since(), target));
                if self.net.answers(target) {
                    self.plan(RTT, Happening::Tell(Event::Answered(target)));
                }
            }
            Action::RestartIce(attempt) => {
                let why = failure(Phase::Dial, Retry::Backoff);
                let event = Event::Session(attempt, SessionEvent::IceRestartFailed(why));
                // A little less than the ladder waits for.
                self.plan(if self.net.reaches_server() { 2 * RTT } else { DIAL - 100 }, Happening::Tell(event));
            }
            Action::Exit(reason) => self.exit = Some(reason),
            Action::Resume(_) | Action::RememberProof { .. } | Action::StartCapture(_) | Action::StopCapture(_) => {}
        }
    }

    fn fails(&mut self, in_ms: u64, number: u64, phase: Phase, retry: Retry) {
        let event = SessionEvent::Failed(failure(phase, retry));
        self.plan(in_ms, Happening::Tell(Event::Session(Attempt(number), event)));
    }

    fn asked(&mut self, number: u64) {
        if !self.net.reaches_server() {
            return self.fails(DIAL, number, Phase::Request, Retry::Backoff);
        }
        let (now, Some((_, fake))) = (self.now, self.live.as_mut().filter(|(live, _)| *live == number)) else { return };
        (fake.is_up, fake.last_heard) = (true, now);
        let session_id = format!("/whip/{number}");
        self.tell(Event::Session(Attempt(number), SessionEvent::Accepted { session_id }));
        self.tell(Event::Session(Attempt(number), SessionEvent::Connected));
        self.plan(RTT, Happening::Media(number));
    }

    /// Five times a second.
    fn media(&mut self, number: u64) {
        let (now, reaches) = (self.now, self.net.reaches_server());
        let Some((_, fake)) = self.live.as_mut().filter(|(live, fake)| *live == number && fake.is_up) else { return };
        let is_known = now < fake.last_heard + FORGETS_AFTER;
        let mut voices = Vec::new();
        if reaches && is_known {
            fake.last_heard = now;
            if std::mem::take(&mut fake.ice_is_silent) {
                voices.push(SessionEvent::Connected);
            }
            voices.push(SessionEvent::Acknowledged);
        } else if now >= fake.last_heard + ms(1_000) && !std::mem::replace(&mut fake.ice_is_silent, true) {
            voices.push(SessionEvent::Disconnected);
        }
        for voice in voices {
            self.tell(Event::Session(Attempt(number), voice));
        }
        self.plan(200, Happening::Media(number));
    }

    fn probes_since(&self, from: Duration) -> impl Iterator<Item = ProbeTarget> {
        self.probes.iter().filter(move |(at, _)| *at >= from).map(|(_, target)| *target)
    }

    fn has_probed_server(&self) -> bool {
        self.probes_since(Duration::ZERO).any(|target| matches!(target, ProbeTarget::Server(_)))
    }
}

fn failure(phase: Phase, retry: Retry) -> Failure {
    Failure::new(phase, retry, ErrorCode::SignallingFailed, "made by the world")
}

fn endless() -> Policy {
    Policy { max_retries: Retries::Unlimited, ..calm_policy(9) }
}

/// How many witnesses there are, and the net before and while it is out.
const OURS: [(&str, usize, Net, Net); 4] = [
    ("a tunnel", 2, WELL, TUNNEL),
    ("the modem answers, and its uplink is dead", 2, WELL, MODEM_ALONE),
    ("the gateway alone is known, and silent", 0, WELL, TUNNEL),
    (
        "a gateway that never answers",
        1,
        Net { gateway_answers: false, ..WELL },
        Net { gateway_answers: false, ..MODEM_ALONE },
    ),
];

#[test]
fn after_an_outage_of_our_own_the_next_session_is_opened_at_once() {
    for (name, witnesses, before, during) in OURS {
        for seconds in [15, 25, 40, 90, 600] {
            let mut world = World::on_air(endless(), Some(witnesses), before);
            world.spend(during, seconds * 1_000);
            assert!(!world.held.is_empty(), "{name}, {seconds} s");
            let healed = world.since();
            let slow = seconds > 120;
            world.spend(before, 10_000);
            assert!(world.is_on_air(), "{name}, {seconds} s");
            let opened = world.opens.iter().find(|at| **at >= healed).map(|at| *at - healed);
            let most = if slow { 2_200 + RTT } else { 275 + RTT };
            assert!(opened.is_some_and(|after| after <= ms(most)), "{name}, {seconds} s: {opened:?}");
        }
    }
}

/// Server, then how many witnesses, and what was known: what comes of it is what would come without any probe.
const THEIRS: [(&str, usize, Net, Net); 5] = [
    ("it is silent, witnesses answer", 2, WELL, Net { server: Server::Silent, ..WELL }),
    ("it is silent, and the gateway alone is known", 0, WELL, Net { server: Server::Silent, ..WELL }),
    ("the modem's uplink is dead, and nobody can tell", 0, WELL, MODEM_ALONE),
    ("it refuses", 2, WELL, Net { server: Server::Refuses, ..WELL }),
    (
        "nobody has ever answered",
        2,
        Net { gateway_answers: false, witnesses_answer: false, ..WELL },
        Net { gateway_answers: false, witnesses_answer: false, ..TUNNEL },
    ),
];

#[test]
fn an_outage_of_the_server_is_waited_for_as_ever_and_nobody_probes_it() {
    for (name, witnesses, before, during) in THEIRS {
        for seconds in [3, 12, 25, 60, 300] {
            let run = |witnesses: Option<usize>| {
                let mut world = World::on_air(endless(), witnesses, before);
                world.spend(during, seconds * 1_000);
                world.spend(before, 60_000);
                assert!(world.is_on_air(), "{name}, {seconds} s");
                world
            };
            let (with, without) = (run(Some(witnesses)), run(None));
            assert_eq!(with.opens, without.opens, "{name}, {seconds} s");
            assert!(!with.has_probed_server() && with.held.is_empty(), "{name}, {seconds} s");
            assert!(without.probes.is_empty());
            // Once in three seconds, and no more than that.
            let asked = with.probes.len() as u64;
            assert!(asked <= seconds / 2 + 60, "{name}, {seconds} s: {asked} probes");
        }
    }
}

#[test]
fn probes_and_tries_while_nothing_answers_cost_no_attempt() {
    for (name, witnesses, before, during) in OURS {
        // One is spent before anybody knows whose outage it is, or none.
        let mut world =
            World::on_air(Policy { max_retries: Retries::AtMost(1), ..calm_policy(9) }, Some(witnesses), before);
        world.spend(during, 3_600_000);
        assert_eq!(world.exit, None, "{name}");
        assert!(world.opens.len() > 60, "it is tried now and then all the same: {}", world.opens.len());
        world.spend(before, 10_000);
        assert!(world.is_on_air(), "{name}");
    }
}

#[test]
fn probes_are_bounded_and_end_with_the_outage() {
    for (name, witnesses, before, during) in OURS {
        let mut world = World::on_air(endless(), Some(witnesses), before);
        let from = world.since();
        world.spend(during, 120_000);
        let first = world.probes_since(from).count();
        // The server and at most two more, four times a second.
        assert!((240..=3 * 4 * 122).contains(&first), "{name}: {first} in the first two minutes");
        let from = world.since() + Duration::from_secs(30);
        world.run(24 * 3_600_000);
        let day = world.probes_since(from).count();
        assert!(day <= 3 * 24 * 1_800 * 11 / 10, "{name}: {day} in a day");
        world.spend(before, 20_000);
        assert!(world.is_on_air());
        // Learning again: each three times at most; then nothing for ten minutes.
        let from = world.since();
        world.run(500_000);
        assert_eq!(world.probes_since(from).count(), 0, "{name}");
        for event in [Event::Command(Command::Stop), Event::Command(Command::Start)] {
            world.spend(during, 20_000);
            world.tell(event);
        }
        world.tell(Event::Command(Command::Stop));
        let from = world.since();
        world.run(600_000);
        assert_eq!(world.probes_since(from).count(), 0, "{name}: after a stop");
    }
}

#[test]
fn without_any_network_nobody_is_probed_and_a_route_is_used_at_once() {
    let mut world = World::on_air(endless(), Some(2), WELL);
    world.spend(TUNNEL, 15_000);
    assert_eq!(world.waits_for(), Some(WaitingFor::Connectivity));
    world.tell(Event::Network(PathEvent::AllRoutesLost));
    assert_eq!(world.waits_for(), Some(WaitingFor::Network));
    let from = world.since();
    world.run(60_000);
    assert_eq!(world.probes_since(from).count(), 0);
    world.net = WELL;
    let tries = world.opens.len();
    world.tell(Event::Network(PathEvent::RouteAppeared));
    assert_eq!(world.opens.len(), tries + 1);
    // Another network that is dead, too: its gateway was never heard, the witnesses were.
    world.tell(Event::Network(PathEvent::AllRoutesLost));
    world.net = TUNNEL;
    world.tell(Event::Network(PathEvent::RouteAppeared));
    world.run(20_000);
    assert_eq!(world.waits_for(), Some(WaitingFor::Connectivity));
}

#[test]
fn a_server_that_listens_and_refuses_is_not_asked_again_and_again() {
    let mut world = World::on_air(endless(), Some(1), WELL);
    world.spend(TUNNEL, 25_000);
    let tries = world.opens.len();
    world.spend(Net { server: Server::Busy, witnesses_answer: false, ..WELL }, 60_000);
    let tries = world.opens.len() - tries;
    assert!((2..=16).contains(&tries), "as it asks, every 4 s or so: {tries}");
    assert_eq!(world.waits_for(), Some(WaitingFor::ServerRetryAfter));
}

#[test]
fn where_probes_are_blocked_and_a_session_is_not_it_is_tried_all_the_same() {
    let mut world = World::on_air(endless(), Some(2), WELL);
    world.spend(TUNNEL, 15_000);
    world.spend(Net { probes_pass: false, ..WELL }, 40_000);
    assert!(world.is_on_air());
}

#[test]
fn whoever_slept_through_the_outage_asks_anew() {
    let mut world = World::on_air(endless(), Some(2), WELL);
    world.spend(TUNNEL, 15_000);
    let asleep = world.brain.deadline().expect("it probes");
    world.now = asleep + Duration::from_secs(3_600);
    world.net = WELL;
    world.plans.clear();
    let tries = world.opens.len();
    world.plan(0, Happening::Woke);
    world.run(1_000);
    assert!(world.opens.len() > tries && world.is_on_air());
}

#[test]
fn an_operator_who_wants_it_now_is_not_held_up() {
    let mut world = World::on_air(endless(), Some(2), WELL);
    world.spend(TUNNEL, 15_000);
    let tries = world.opens.len();
    world.tell(Event::Command(Command::Reconnect));
    assert_eq!(world.opens.len(), tries + 1);
    // That try hangs when the path is back, and is begun anew.
    world.run(1_000);
    world.spend(WELL, 1_000);
    assert_eq!(world.opens.len(), tries + 2);
    assert!(world.is_on_air());
}

fn some_net(dice: &mut fastrand::Rng) -> Net {
    let servers = [Server::Well, Server::Well, Server::Silent, Server::Refuses, Server::Busy];
    Net {
        link: dice.u8(..3) != 0,
        uplink: dice.u8(..3) != 0,
        server: servers[dice.usize(..servers.len())],
        gateway_answers: dice.u8(..4) != 0,
        witnesses_answer: dice.u8(..4) != 0,
        probes_pass: true,
    }
}

/// What may never happen, whatever the net does.
fn play(seed: u64) -> (usize, usize) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let policy = Policy { endpoints: dice.usize(1..3), ..endless() };
    let mut world = World::on_air(policy, Some(dice.usize(..4)), WELL);
    for _ in 0..dice.u8(1..12) {
        let (in_ms, net) = (dice.u64(..90_000), some_net(&mut dice));
        world.plan(in_ms, Happening::Net(net));
    }
    for event in [PathEvent::AllRoutesLost, PathEvent::RouteAppeared] {
        if dice.u8(..3) == 0 {
            let in_ms = dice.u64(..60_000);
            world.plan(in_ms, Happening::Tell(Event::Network(event)));
        }
    }
    if dice.u8(..4) == 0 {
        let in_ms = dice.u64(..60_000);
        world.plan(in_ms, Happening::Woke);
    }
    world.run(90_000);
    world.tell(Event::Network(PathEvent::RouteAppeared));
    world.spend(WELL, 60_000);
    assert!(world.is_on_air(), "seed {seed}: everything works, and it is not on air");
    let mut by_target: BTreeMap<ProbeTarget, Vec<Duration>> = BTreeMap::new();
    for (at, target) in &world.probes {
        by_target.entry(*target).or_default().push(*at);
    }
    for (target, times) in by_target {
        // Asking and probing may follow each other closely once.
        let is_much = times.windows(8).any(|few| few[7] - few[0] < ms(1_000));
        assert!(!is_much, "seed {seed}: {target:?} is probed more often than 4 times a second");
    }
    // The server is probed only after at least four probes at others.
    let mut others = 0;
    for (_, target) in &world.probes {
        match target {
            ProbeTarget::Server(_) => assert!(others >= 4, "seed {seed}: the server was probed too early"),
            ProbeTarget::Gateway | ProbeTarget::Witness(_) => others += 1,
        }
    }
    (world.held.len(), world.opens.len())
}

/// A second or two of them.
const SEEDS: u64 = 500;

#[test]
fn whatever_the_net_does_probes_are_few_and_it_comes_back() {
    if let Ok(seed) = std::env::var("OUTAGE_SEED") {
        play(seed.parse().expect("OUTAGE_SEED is a number"));
        return;
    }
    let (held, opens) = (0..SEEDS).map(play).fold((0, 0), |(held, opens), (h, o)| (held + h, opens + o));
    println!("{SEEDS} worlds: held back {held} times, {opens} sessions opened");
    assert!(held > 50 && opens > 500, "{held}, {opens}");
}
