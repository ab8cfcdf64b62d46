//! The ICE restart ladder in a seeded world in virtual time: a path that dies and heals, a network that comes and goes, a
//! server that answers rungs, refuses them, or is lost.

use std::time::{Duration, Instant};

use roamcast::status::{ErrorCode, Message};
use roamcast::supervisor::Supervisor;
use roamcast::supervisor::event::{
    Action, Attempt, Command, Event, Failure, MediaEvent, PathEvent, Phase, Retry, SessionEvent,
};
use roamcast::supervisor::policy::Policy;

const WORLDS: u64 = 3_000;
const RUNGS: u32 = 9;

struct World {
    seed: u64,
    now: Instant,
    brain: Supervisor,
    network: bool,
    /// Sessions that are open, each with whether its signalling is: the one on air first.
    open: Vec<(u64, bool)>,
    newest: u64,
    rungs: u32,
    last_rung: Option<Instant>,
    is_rung_open: bool,
    counts: [u64; 3],
}

impl World {
    fn new(seed: u64, policy: Policy) -> Self {
        let now = crate::world::base();
        let brain = Supervisor::new(policy, seed, now);
        let mut world = Self {
            seed,
            now,
            brain,
            network: true,
            open: Vec::new(),
            newest: 0,
            rungs: 0,
            last_rung: None,
            is_rung_open: false,
            counts: [0; 3],
        };
        world.tell(Event::Command(Command::Start));
        world.tell(Event::Media(Attempt(1), MediaEvent::Flowing));
        world.come_up();
        world
    }

    fn hold(&self, law: bool, words: &str) {
        assert!(law, "seed {}: {words}", self.seed);
    }

    fn tell(&mut self, event: Event) {
        for order in self.brain.step(self.now, event) {
            match order {
                Action::Open { attempt: Attempt(number), .. } => {
                    self.newest = number;
                    self.open.push((number, false));
                    self.hold(self.open.len() <= 2, "three sessions");
                    self.counts[1] += 1;
                }
                Action::RestartIce(Attempt(number)) => {
                    self.hold(self.open.len() == 1, "a rung while the session is being replaced");
                    self.hold(self.network, "a rung without a network");
                    self.hold(self.open[0] == (number, true), "a rung without signalling");
                    let gap = self.last_rung.map(|last| self.now - last);
                    let is_free = !self.is_rung_open || gap >= Some(Duration::from_secs(5));
                    self.hold(is_free, "a rung before the last was answered");
                    self.hold(gap.is_none_or(|gap| gap >= Duration::from_millis(900)), "rungs too close");
                    self.rungs += 1;
                    self.hold(self.rungs <= RUNGS, "too many rungs without an acknowledgement");
                    (self.last_rung, self.is_rung_open) = (Some(self.now), true);
                    self.counts[0] += 1;
                }
                Action::Close { attempt: Attempt(number), .. } => {
                    if self.open[0].0 == number {
                        (self.rungs, self.last_rung, self.is_rung_open) = (0, None, false);
                    }
                    self.open.retain(|(open, _)| *open != number);
                    self.brain.step(self.now, Event::Session(Attempt(number), SessionEvent::Closed));
                }
                _ => {}
            }
        }
    }

    fn session(&mut self, event: SessionEvent) {
        let is_ack = event == SessionEvent::Acknowledged;
        let Some((number, _)) = self.open.last().copied() else { return };
        self.tell(Event::Session(Attempt(number), event));
        if is_ack {
            (self.rungs, self.last_rung, self.is_rung_open) = (0, None, false);
        }
    }

    fn come_up(&mut self) {
        let Some(newest) = self.open.last_mut() else { return };
        newest.1 = true;
        for event in
            [SessionEvent::Accepted { session_id: "s".into() }, SessionEvent::Connected, SessionEvent::Acknowledged]
        {
            self.session(event);
        }
    }

    fn answer(&mut self, event: SessionEvent) {
        self.is_rung_open = false;
        self.session(event);
    }

    fn on_air(&self) -> bool {
        self.brain.status().broadcast.as_ref().is_some_and(|now| now.message == Message::Broadcasting)
    }

    /// Sees to all that is due within `time`.
    fn pass(&mut self, time: Duration, answers: bool) {
        let end = self.now + time;
        while let Some(due) = self.brain.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.tell(Event::Deadline);
            if answers && self.is_rung_open {
                self.answer(SessionEvent::IceRestarted);
            }
        }
        self.now = end;
    }

    fn fault(&mut self, dice: &mut fastrand::Rng) {
        let lost = |phase| Failure::new(phase, Retry::Backoff, ErrorCode::SignallingFailed, "lost");
        match dice.u8(..9) {
            0 | 1 => self.session(SessionEvent::Disconnected),
            2 => self.session(SessionEvent::IceFailed),
            3 => self.session(SessionEvent::Connected),
            4 => {
                self.network = !self.network;
                let event = if self.network { PathEvent::RouteAppeared } else { PathEvent::AllRoutesLost };
                self.tell(Event::Network(event));
            }
            5 if self.is_rung_open => self.answer(SessionEvent::IceRestartRefused(lost(Phase::Request))),
            6 if self.is_rung_open => self.answer(SessionEvent::IceRestartFailed(lost(Phase::Request))),
            7 if self.open.last().is_some_and(|(_, signalling)| *signalling) => {
                self.open.last_mut().expect("open").1 = false;
                self.session(SessionEvent::SignallingLost(lost(Phase::Established)));
            }
            _ => self.session(SessionEvent::Acknowledged),
        }
    }
}

#[test]
fn whatever_happens_rungs_keep_their_laws_and_a_world_that_heals_is_on_air_again() {
    let mut counts = [0; 3];
    for seed in 0..WORLDS {
        let mut dice = fastrand::Rng::with_seed(seed);
        let policy = Policy {
            max_retries: roamcast::supervisor::policy::Retries::Unlimited,
            ..crate::world::calm_policy(RUNGS)
        };
        let mut world = World::new(seed, policy);
        for _fault in 0..dice.u8(1..14) {
            world.fault(&mut dice);
            let answers = dice.u8(..4) != 0;
            world.pass(Duration::from_millis(dice.u64(50..20_000)), answers);
            if dice.u8(..3) == 0 {
                world.come_up();
            }
        }
        world.network = true;
        world.tell(Event::Network(PathEvent::RouteAppeared));
        // The path stays dead for the session that is, but the server takes another.
        let stuck = world.newest;
        for _second in 0..240 {
            if world.on_air() {
                break;
            }
            world.pass(Duration::from_secs(1), true);
            if world.newest != stuck || !world.open.first().is_some_and(|(_, signalling)| *signalling) {
                world.come_up();
            }
        }
        world.hold(world.on_air(), "never on air again");
        (0..3).for_each(|at| counts[at] += world.counts[at]);
    }
    println!("{WORLDS} worlds: {} rungs, {} sessions", counts[0], counts[1]);
    assert!(counts[0] > WORLDS && counts[1] > WORLDS, "{counts:?}");
}
