//! The brain in a seeded world in virtual time: a server, a network, a camera and an operator that all misbehave.
//!
//! Everything is made from the seed; `WORLD_SEED=n cargo test --test pure world` runs that one world and prints it.
//! [`judge`] says what may never happen, whatever the world does.
//!
//! Each of these mutations of `src/supervisor` was made by hand and was caught, by the assertion named here:
//!
//! | mutation | caught by |
//! |---|---|
//! | a lost session is not ordered closed | a failed session was not closed |
//! | backoff half as long | a try before minDelay |
//! | jitter over the cap | a try later than maxDelay |
//! | Retry-After shortened; forgotten on Reconnect, on a route, on Stop and Start | a try inside Retry-After |
//! | tries without a network; a route does not wake a waiting try | waits for the wrong thing |
//! | one retry too many; any success clears the count | more retries than maxRetries |
//! | one retry too few; tries that the network was taken from are spent | gave up with retries left |
//! | 401 for ever | tried again after 401 twice |
//! | `Never` is tried again | tried again after a final refusal |
//! | connected counts as broadcasting | the message is not the truth |
//! | old studio's voices heard | a stale voice caused an order |
//! | old session's voices heard; Connected twice restarts the stall clock | a stale voice moved the deadline |
//! | no stall clock | unacknowledged for too long |
//! | the stall clock runs while the camera is still | a healthy session was given up |
//! | no bound for an ICE that flaps | kept alive by an ICE that flaps |
//! | `statusGrace` ignored | a short disturbance was shown |
//! | Disconnected twice lengthens it | a long disturbance is not shown |
//! | a replaced session is not shown as lost | a loss was not shown |
//! | an opening may hang; a broken camera is not opened again | nothing will ever happen again |
//! | stuck is never told | the deadline did not move on |
//! | an outage is never over | stuck and on air |
//! | stuck teardowns do not count | went on after three stuck teardowns |
//! | Exit without waiting | Exit before everything was closed |
//! | leaving has no deadline | it does not exit in time |
//! | Stop keeps the session | stopped and on air |
//! | the next studio before the old one is gone | two studios at once |

mod judge;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use roamcast::status::{ErrorCode, LinkStats, StopReason};
use roamcast::supervisor::event::{
    Action, Attempt, Command, Event, Failure, MediaEvent, PathEvent, Phase, Retry, SessionEvent,
};
use roamcast::supervisor::{Policy, Retries, Supervisor};

use judge::Judge;

/// What happens in the world, besides what the brain is told at once.
#[derive(Debug, Clone)]
enum Happening {
    /// A session or studio speaks.
    Session(u64, SessionEvent),
    Media(u64, MediaEvent),
    /// The far end of a session may send a report.
    Report(u64),
    Fault(Fault),
    /// From here on everything works.
    Heal,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Server(Mood),
    NetworkLost,
    NetworkBack,
    /// ICE goes silent for this many ms.
    IceSilent(u64),
    /// The live session fails.
    Die,
    Camera,
    Operator,
    StaleVoice,
    DuplicateVoice,
}

/// How the server treats whoever comes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Kind,
    Unreachable,
    Busy,
    Unauthorized,
    Final,
    Hangs,
    NoIce,
    /// Accepts and connects, never acknowledges; takes effect on established sessions too.
    Mute,
}

struct FakeSession {
    /// When it was opened and waits for the format of the first frame.
    waits_for_media: bool,
    report_ms: u64,
    dead: bool,
}

struct World {
    seed: u64,
    dice: fastrand::Rng,
    start: Instant,
    now: Instant,
    brain: Supervisor,
    judge: Judge,
    plans: BinaryHeap<Reverse<(Instant, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    planned: u64,
    mood: Mood,
    network_up: bool,
    healed: Option<Instant>,
    sessions: BTreeMap<u64, FakeSession>,
    media_known: bool,
    /// The event loop of this world is late by up to this.
    late_ms: u64,
    /// 1 in this many teardowns hangs.
    hung_teardowns: u64,
    verbose: bool,
}

/// What a world was, for the totals.
#[derive(Default)]
struct Totals {
    worlds: u64,
    openings: u64,
    steps: u64,
    virtual_time: Duration,
    healed: u64,
    exits: BTreeMap<String, u64>,
}

/// Longest time from "everything works again" to `broadcasting`: the rest of a hang in opening (30 s), a stalled camera
/// (30 s start + 5 s stop + 15 s wait), the longest backoff (15 s) or Retry-After (22 s), an unacknowledged session (20 s).
const HEALED_WITHIN: Duration = Duration::from_secs(140);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl World {
    fn new(seed: u64, start: Instant) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let policy = some_policy(&mut dice);
        let brain = Supervisor::new(policy.clone(), dice.u64(..), start);
        let late_ms = if dice.u8(..4) == 0 { 50 } else { 0 };
        let hung_teardowns = if dice.u8(..4) == 0 { 3 } else { 200 };
        let mut world = Self {
            seed,
            start,
            now: start,
            brain,
            judge: Judge::new(seed, policy, ms(late_ms)),
            plans: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            planned: 0,
            mood: Mood::Kind,
            network_up: true,
            healed: None,
            sessions: BTreeMap::new(),
            media_known: false,
            late_ms,
            hung_teardowns,
            verbose: std::env::var_os("WORLD_SEED").is_some(),
            dice,
        };
        world.plan_chaos();
        world
    }

    fn plan_chaos(&mut self) {
        let chaos_ms = self.dice.u64(5_000..150_000);
        for _ in 0..self.dice.u64(..14) {
            let at_ms = self.dice.u64(..chaos_ms);
            let fault = self.some_fault();
            self.plan(at_ms, Happening::Fault(fault));
        }
        self.plan(chaos_ms, Happening::Heal);
    }

    fn some_fault(&mut self) -> Fault {
        let moods = [
            Mood::Kind,
            Mood::Kind,
            Mood::Unreachable,
            Mood::Unreachable,
            Mood::Busy,
            Mood::Unauthorized,
            Mood::Hangs,
            Mood::NoIce,
            Mood::Mute,
        ];
        match self.dice.u8(..24) {
            0..=5 => Fault::Server(moods[self.dice.usize(..moods.len())]),
            6 if self.dice.u8(..4) == 0 => Fault::Server(Mood::Final),
            6..=8 => Fault::NetworkLost,
            9..=11 => Fault::NetworkBack,
            12 | 13 => Fault::IceSilent(self.dice.u64(100..9_000)),
            14..=16 => Fault::Die,
            17 | 18 => Fault::Camera,
            19 | 20 => Fault::Operator,
            21 | 22 => Fault::StaleVoice,
            _ => Fault::DuplicateVoice,
        }
    }

    fn plan(&mut self, in_ms: u64, happening: Happening) {
        self.planned += 1;
        self.plans.push(Reverse((self.now + ms(in_ms), self.planned)));
        self.happenings.insert(self.planned, happening);
    }

    /// Runs until it has been on air for a while after the healing, or the process has ended.
    fn run(mut self, totals: &mut Totals) {
        self.tell(Event::Command(Command::Start));
        while !self.judge.is_over() {
            let next = self.plans.peek().map(|Reverse((time, _))| *time);
            let late = ms(self.dice.u64(..=self.late_ms));
            let due = self.brain.deadline().map(|deadline| (deadline + late).max(self.now));
            match (next, due) {
                (Some(next), Some(due)) if due <= next => self.deadline(due),
                (None, Some(due)) => self.deadline(due),
                (Some(_), _) => self.happen(),
                (None, None) => panic!("seed {}: nothing will ever happen again", self.seed),
            }
            if self.is_done() {
                totals.healed += 1;
                break;
            }
        }
        self.after_the_end(totals);
    }

    fn is_done(&self) -> bool {
        let Some(healed) = self.healed else { return false };
        if self.judge.on_air_since().is_some_and(|since| self.now > since.max(healed) + Duration::from_secs(20)) {
            return true;
        }
        let in_time = self.now <= healed + HEALED_WITHIN || self.judge.on_air_since().is_some();
        assert!(in_time, "seed {}: everything works for {HEALED_WITHIN:?}, and it is not on air", self.seed);
        false
    }

    fn after_the_end(&mut self, totals: &mut Totals) {
        totals.worlds += 1;
        totals.openings += self.judge.openings;
        totals.steps += self.judge.steps;
        totals.virtual_time += self.now - self.start;
        if let Some(reason) = self.judge.exit {
            *totals.exits.entry(format!("{reason:?}")).or_default() += 1;
            for event in [Event::Deadline, Event::Command(Command::Start), Event::Network(PathEvent::RouteAppeared)] {
                self.tell(event);
            }
        }
    }

    fn deadline(&mut self, due: Instant) {
        self.now = due;
        self.tell(Event::Deadline);
    }

    fn happen(&mut self) {
        let Some(Reverse((time, number))) = self.plans.pop() else { return };
        let Some(happening) = self.happenings.remove(&number) else { return };
        self.now = self.now.max(time);
        match happening {
            Happening::Session(number, event) => self.session_speaks(number, event),
            Happening::Media(number, event) => self.studio_speaks(number, event),
            Happening::Report(number) => self.report(number),
            Happening::Fault(fault) => self.fault(fault),
            Happening::Heal => self.heal(),
        }
    }

    fn heal(&mut self) {
        self.mood = Mood::Kind;
        self.hung_teardowns = u64::MAX;
        self.healed = Some(self.now);
        self.network(PathEvent::RouteAppeared);
        if self.judge.is_off_air() && !self.judge.is_over() {
            self.tell(Event::Command(Command::Start));
        }
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Server(mood) => self.mood = mood,
            Fault::NetworkLost => self.network(PathEvent::AllRoutesLost),
            Fault::NetworkBack => self.network(PathEvent::RouteAppeared),
            Fault::IceSilent(for_ms) => {
                if let Some(number) = self.judge.connected_session() {
                    self.session_speaks(number, SessionEvent::Disconnected);
                    self.plan(for_ms, Happening::Session(number, SessionEvent::Connected));
                }
            }
            Fault::Die => {
                if let Some(number) = self.judge.live_session() {
                    let event = match self.dice.u8(..4) {
                        0 => SessionEvent::Closed,
                        1 => SessionEvent::Failed(failure(
                            Phase::Established,
                            Retry::Backoff,
                            ErrorCode::IceConnectionFailed,
                        )),
                        _ => SessionEvent::Failed(failure(
                            Phase::Established,
                            Retry::Backoff,
                            ErrorCode::NetworkDisconnect,
                        )),
                    };
                    self.session_speaks(number, event);
                }
            }
            Fault::Camera => {
                if let Some(number) = self.judge.open_studio() {
                    let event = match self.dice.u8(..24) {
                        0 => MediaEvent::Ended,
                        1..=10 => MediaEvent::Stalled,
                        11 => MediaEvent::Stopped,
                        _ => MediaEvent::Failed(failure(Phase::Capture, Retry::Backoff, ErrorCode::CaptureLost)),
                    };
                    self.studio_speaks(number, event);
                }
            }
            Fault::Operator => self.operator(),
            Fault::StaleVoice => self.stale_voice(),
            Fault::DuplicateVoice => self.duplicate_voice(),
        }
    }

    fn operator(&mut self) {
        let command = match self.dice.u8(..16) {
            0..=3 => Command::Stop,
            4..=7 => Command::Start,
            8..=11 => Command::Reconnect,
            12 => Command::Shutdown(StopReason::Requested),
            _ => Command::Policy(Box::new(some_policy(&mut self.dice))),
        };
        self.tell(Event::Command(command));
    }

    fn network(&mut self, event: PathEvent) {
        self.network_up = event == PathEvent::RouteAppeared;
        self.tell(Event::Network(event));
        if let Some(number) = self.judge.connected_session() {
            let voice = if self.network_up { SessionEvent::Connected } else { SessionEvent::Disconnected };
            let in_ms = self.dice.u64(100..3_000);
            self.plan(in_ms, Happening::Session(number, voice));
        }
    }

    /// A session that lives speaks; what one says after it was ordered closed must change nothing.
    fn session_speaks(&mut self, number: u64, event: SessionEvent) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let is_end = matches!(event, SessionEvent::Closed | SessionEvent::TeardownStuck);
        if session.dead && !is_end {
            return;
        }
        session.dead |= is_end || matches!(event, SessionEvent::Failed(_));
        match event {
            SessionEvent::Accepted { .. } if self.mood != Mood::NoIce => {
                let in_ms = self.dice.u64(30..900);
                self.plan(in_ms, Happening::Session(number, SessionEvent::Connected));
            }
            SessionEvent::Connected => {
                let in_ms = self.dice.u64(..1_000);
                self.plan(in_ms, Happening::Report(number));
            }
            _ => {}
        }
        self.tell(Event::Session(Attempt(number), event));
    }

    fn report(&mut self, number: u64) {
        let Some(session) = self.sessions.get(&number) else { return };
        if session.dead || !self.judge.is_ordered(number) || self.judge.connected_session() != Some(number) {
            return;
        }
        let report_ms = session.report_ms;
        let in_ms = self.dice.u64(report_ms / 2..=report_ms * 3 / 2);
        self.plan(in_ms, Happening::Report(number));
        if self.network_up && self.mood != Mood::Mute && self.judge.frames_flow() {
            self.tell(Event::Session(Attempt(number), SessionEvent::Acknowledged));
            let link = LinkStats { frames: self.judge.steps, path: Some("eth0".into()), ..LinkStats::default() };
            self.tell(Event::Session(Attempt(number), SessionEvent::Link(link)));
        }
    }

    fn studio_speaks(&mut self, number: u64, event: MediaEvent) {
        let first_frame = event == MediaEvent::Flowing && !self.media_known && self.judge.open_studio() == Some(number);
        self.tell(Event::Media(Attempt(number), event));
        if first_frame {
            self.media_known = true;
            let waiting: Vec<u64> = self.sessions.iter().filter(|(_, s)| s.waits_for_media).map(|(n, _)| *n).collect();
            waiting.into_iter().for_each(|number| self.ask_server(number));
        }
    }

    /// A voice that is not of the present session or studio.
    fn stale_voice(&mut self) {
        let failure = failure(Phase::Established, Retry::Never, ErrorCode::Internal);
        if self.dice.bool() {
            let number = self.dice.u64(..self.judge.openings + 3);
            let voices = [
                SessionEvent::Accepted { session_id: "/stale".into() },
                SessionEvent::Connected,
                SessionEvent::Disconnected,
                SessionEvent::Acknowledged,
                SessionEvent::Link(LinkStats { path: Some("stale".into()), ..LinkStats::default() }),
                SessionEvent::Failed(failure),
                SessionEvent::Closed,
                SessionEvent::TeardownStuck,
            ];
            let voice = voices[self.dice.usize(..voices.len())].clone();
            let is_end = matches!(voice, SessionEvent::Closed | SessionEvent::TeardownStuck);
            if self.judge.live_session() != Some(number) && !(is_end && self.judge.is_ordered(number)) {
                self.tell(Event::Session(Attempt(number), voice));
            }
        } else {
            let number = self.dice.u64(..self.judge.studios + 3);
            let voices = [
                MediaEvent::Flowing,
                MediaEvent::Stalled,
                MediaEvent::Failed(failure),
                MediaEvent::Ended,
                MediaEvent::Stopped,
            ];
            let voice = voices[self.dice.usize(..voices.len())].clone();
            if number != self.judge.studios {
                self.tell(Event::Media(Attempt(number), voice));
            }
        }
    }

    /// The live session says again what it has said.
    fn duplicate_voice(&mut self) {
        if let (Some(number), None) = (self.judge.connected_session(), self.judge.ice_silent_since()) {
            self.tell(Event::Session(Attempt(number), SessionEvent::Connected));
            let session_id = format!("/whip/{number}");
            self.tell(Event::Session(Attempt(number), SessionEvent::Accepted { session_id }));
        }
    }

    /// Tells the brain, asks the judge, carries out the orders.
    fn tell(&mut self, event: Event) {
        if self.verbose {
            println!("{:>9.3} {event:?}", (self.now - self.start).as_secs_f64());
        }
        let orders = self.judge.step(&mut self.brain, self.now, event);
        for order in orders {
            if self.verbose {
                println!("          -> {order:?}");
            }
            self.carry_out(&order);
        }
    }

    fn carry_out(&mut self, order: &Action) {
        match order {
            Action::Open { attempt: Attempt(number), .. } => {
                let report_ms = self.dice.u64(300..5_000);
                let waits_for_media = !self.media_known;
                self.sessions.insert(*number, FakeSession { waits_for_media, report_ms, dead: false });
                if !waits_for_media {
                    self.ask_server(*number);
                }
            }
            Action::Close { attempt: Attempt(number), .. } => self.close(*number),
            Action::StartCapture(Attempt(number)) => self.start_studio(*number),
            Action::StopCapture(Attempt(number)) => {
                // 1 in 20 never lets go.
                if self.dice.u8(..20) != 0 {
                    let in_ms = self.dice.u64(..800);
                    self.plan(in_ms, Happening::Media(*number, MediaEvent::Stopped));
                }
            }
            Action::Exit(_) | Action::Resume(_) => {}
        }
    }

    fn ask_server(&mut self, number: u64) {
        if let Some(session) = self.sessions.get_mut(&number) {
            session.waits_for_media = false;
        }
        let mood = if self.network_up { self.mood } else { Mood::Unreachable };
        let accepted = SessionEvent::Accepted { session_id: format!("/whip/{number}") };
        let failed = |phase, retry, code| SessionEvent::Failed(failure(phase, retry, code));
        let answer = match mood {
            Mood::Kind | Mood::NoIce | Mood::Mute => accepted,
            Mood::Unreachable => failed(Phase::Dial, Retry::Backoff, ErrorCode::SignallingFailed),
            Mood::Busy => {
                let wait = ms(self.dice.u64(..20_000));
                failed(Phase::Request, Retry::After(wait), ErrorCode::SignallingFailed)
            }
            Mood::Unauthorized => failed(Phase::Request, Retry::Once, ErrorCode::AuthFailed),
            Mood::Final => failed(Phase::Request, Retry::Never, ErrorCode::NotFound),
            Mood::Hangs => return,
        };
        let in_ms = self.dice.u64(5..1_500);
        self.plan(in_ms, Happening::Session(number, answer));
    }

    fn close(&mut self, number: u64) {
        if self.judge.has_ended(number) {
            return; // It closed by itself before.
        }
        let in_ms = self.dice.u64(..1_200);
        if self.dice.u64(..self.hung_teardowns) == 0 {
            // It is reported stuck, or not even that.
            if self.dice.bool() {
                self.plan(in_ms + 2_000, Happening::Session(number, SessionEvent::TeardownStuck));
            }
        } else {
            self.plan(in_ms, Happening::Session(number, SessionEvent::Closed));
        }
    }

    fn start_studio(&mut self, number: u64) {
        let healed = self.healed.is_some();
        let fate = self.dice.u8(..40);
        let in_ms = self.dice.u64(20..1_500);
        let event = match fate {
            0 if !healed => return, // Hangs.
            1 if !healed && number == 1 => {
                MediaEvent::Failed(failure(Phase::Capture, Retry::Never, ErrorCode::EncoderFailed))
            }
            2..=6 if !healed => MediaEvent::Failed(failure(Phase::Capture, Retry::Backoff, ErrorCode::CaptureLost)),
            _ => MediaEvent::Flowing,
        };
        self.plan(in_ms, Happening::Media(number, event));
    }
}

fn failure(phase: Phase, retry: Retry, code: ErrorCode) -> Failure {
    Failure::new(phase, retry, code, "made by the world")
}

fn some_policy(dice: &mut fastrand::Rng) -> Policy {
    let min_ms = dice.u64(100..4_000);
    let max_retries = match dice.u8(..10) {
        0 => Retries::AtMost(0),
        1..=3 => Retries::AtMost(dice.u32(1..6)),
        _ => Retries::Unlimited,
    };
    Policy {
        min_delay: ms(min_ms),
        max_delay: ms(min_ms + dice.u64(..11_000)),
        max_retries,
        give_up_after: (dice.u8(..8) == 0).then(|| ms(dice.u64(20_000..60_000))),
        stuck_after: ms(dice.u64(5_000..30_000)),
        disconnected_timeout: ms(dice.u64(1_500..8_000)),
        status_grace: ms(dice.u64(..2_000)),
        capture_retry_delay: ms(dice.u64(200..3_000)),
        needs_network: dice.u8(..4) != 0,
        signalling: roamcast::supervisor::SignallingPolicy::default(),
        endpoints: 1,
    }
}

#[test]
fn whatever_happens_it_keeps_the_laws_and_comes_back_on_air() {
    let start = judge::base();
    let mut totals = Totals::default();
    let seeds = match std::env::var("WORLD_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("WORLD_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..20_000,
    };
    for seed in seeds {
        World::new(seed, start).run(&mut totals);
    }
    let hours = totals.virtual_time.as_secs() / 3600;
    println!(
        "{} worlds, {} openings, {} steps, {hours} virtual hours; {} came back on air; ended: {:?}",
        totals.worlds, totals.openings, totals.steps, totals.healed, totals.exits
    );
    if totals.worlds > 1 {
        assert!(totals.healed > totals.worlds / 2, "most worlds must live to the healing: {}", totals.healed);
        assert_eq!(totals.exits.len(), 6, "every way to end must be seen: {:?}", totals.exits);
    }
}
