//! The hands: the one loop, the one place that reads the clock.
//!
//! Wait for (inbox | deadline) -> `now` -> `brain.step(now, event)` -> carry out each action -> publish the status.
//! Opening and closing run as tasks that send their result back into the inbox with their number.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::{sleep_until, timeout};
use tracing::{error, info};

use crate::config::Config;
use crate::inbox::Inbox;
use crate::media::tracks::TrackKind;
use crate::media::{self, Studio};
use crate::probe::Prober;
use crate::status::{CaptureState, ErrorCode, StopReason};
use crate::supervisor::Supervisor;
use crate::supervisor::event::{Action, Attempt, Command, Event, Failure, MediaEvent, Phase, Retry};
use crate::systemd;
use crate::uplink::{Line, Parting, Session};

use crate::app::publish::Board;

/// A camera that does not let go in this time is left behind; the brain may open it again.
const STUDIO_DEADLINE: Duration = Duration::from_secs(4);

/// The loop goes round at least this often, so that it notices when it could not.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// A round that takes this long was no round: the process was suspended. More than a busy machine lets us wait; short
/// enough that a shorter one, with the usual second between two receiver reports, is no stall yet (3 s).
const SUSPENDED_MIN: Duration = Duration::from_secs(2);

/// All that the hands hold.
pub struct Driver {
    brain: Supervisor,
    inbox: Inbox,
    line: Arc<Line>,
    config: Arc<Config>,
    board: Board,
    /// `None`: no probes are sent.
    prober: Option<Prober>,
    /// The line that systemd shows.
    told: String,
    sessions: HashMap<Attempt, Session>,
    /// Dropping the sender is the order to stop.
    studios: HashMap<Attempt, oneshot::Sender<()>>,
}

impl Driver {
    /// Hands with nothing in them yet.
    #[must_use]
    pub fn new(inbox: Inbox, line: Arc<Line>, config: Arc<Config>, board: Board) -> Self {
        let proven = line.state.as_ref().map(|state| state.proven(&line.uplink)).unwrap_or_default();
        let session_left = line.remembered.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let brain = Supervisor::new(config.policy.clone(), fastrand::u64(..), now())
            .with_source(media::source(&config))
            .with_memory(&proven, session_left);
        Self {
            brain,
            inbox,
            line,
            config,
            board,
            prober: None,
            told: String::new(),
            sessions: HashMap::new(),
            studios: HashMap::new(),
        }
    }

    /// The same hands, which can send probes.
    #[must_use]
    pub fn with_prober(mut self, prober: Prober) -> Self {
        self.brain = self.brain.with_witnesses(prober.witnesses());
        self.prober = Some(prober);
        self
    }

    /// Runs until the brain says that it is over.
    pub async fn run(mut self) -> StopReason {
        let mut feeding = Feeding::new(systemd::watchdog_interval());
        let mut seen = now();
        loop {
            let next = self.wait(feeding.due, seen + HEARTBEAT).await;
            let stood_still = now().saturating_duration_since(seen);
            seen = now();
            let mut ended = None;
            if stood_still >= SUSPENDED_MIN {
                info!("this process stood still for {:.1} s", stood_still.as_secs_f64());
                ended = self.step(Event::Woke);
            }
            match next {
                Next::Event(event) => ended = ended.or_else(|| self.step(event)),
                Next::Feeding => self.feed(&mut feeding),
                Next::Heartbeat => {}
            }
            if let Some(reason) = ended {
                systemd::stopping();
                return reason;
            }
        }
    }

    /// One step of the brain, and what it orders. `Some`: it is over.
    fn step(&mut self, event: Event) -> Option<StopReason> {
        let before = self.brain.status().clone();
        let is_policy = matches!(event, Event::Command(Command::Policy(_)));
        let actions = self.brain.step(now(), event);
        self.board.publish(&before, self.brain.status());
        self.tell_systemd();
        if is_policy {
            let patience = self.brain.policy().signalling.inactivity_timeout;
            self.sessions.values().for_each(|session| session.set_inactivity(patience));
        }
        actions.into_iter().find_map(|action| self.carry_out(action))
    }

    /// `STATUS=` when it has changed; most steps change figures only.
    fn tell_systemd(&mut self) {
        let line = self.brain.status().line();
        if line != self.told {
            systemd::status(&line);
            self.told = line;
        }
    }

    /// What comes next.
    async fn wait(&self, feeding_due: Option<Instant>, heartbeat: Instant) -> Next {
        let at = |due: Option<Instant>| async move {
            match due {
                #[allow(clippy::disallowed_methods, reason = "the deadline of the brain: the one sleep of the house")]
                Some(due) => sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = at(feeding_due) => Next::Feeding,
            event = self.inbox.next() => Next::Event(event),
            () = at(self.brain.deadline()) => Next::Event(Event::Deadline),
            () = at(Some(heartbeat)) => Next::Heartbeat,
        }
    }

    fn carry_out(&mut self, action: Action) -> Option<StopReason> {
        match action {
            Action::StartCapture(attempt) => self.start_capture(attempt),
            Action::StopCapture(attempt) => drop(self.studios.remove(&attempt)),
            Action::Open { attempt, endpoint } => {
                let inactivity = self.brain.policy().signalling.inactivity_timeout;
                self.sessions.insert(attempt, Session::open(&self.line, attempt, endpoint, inactivity));
            }
            Action::Close { attempt, goodbye } => {
                if let Some(session) = self.sessions.remove(&attempt) {
                    session.close(self.parting(goodbye));
                }
            }
            Action::Resume(attempt) => {
                if let Some(session) = self.sessions.get(&attempt) {
                    session.resume();
                }
            }
            Action::RestartIce(attempt) => {
                if let Some(session) = self.sessions.get(&attempt) {
                    session.restart_ice();
                }
            }
            Action::RememberProof { endpoint } => self.remember_proof(endpoint),
            Action::Probe { target, endpoint } => {
                if let Some(prober) = &self.prober {
                    prober.send(target, endpoint);
                }
            }
            Action::Exit(reason) => return Some(reason),
        }
        None
    }

    /// Nobody waits for the disk.
    fn remember_proof(&self, endpoint: usize) {
        if let Some(state) = self.line.state.clone() {
            let uplink = self.line.uplink.at(endpoint);
            let _detached = tokio::task::spawn_blocking(move || state.remember_proof(&uplink));
        }
    }

    /// Off air, nothing follows.
    fn parting(&self, goodbye: bool) -> Parting {
        match (goodbye, &self.brain.status().broadcast) {
            (false, _) => Parting::Silent,
            (true, None) => Parting::Goodbye,
            (true, Some(_)) => Parting::Replaced,
        }
    }

    fn start_capture(&mut self, attempt: Attempt) {
        let (order, ordered) = oneshot::channel();
        self.studios.insert(attempt, order);
        tokio::spawn(keep_studio(attempt, Arc::clone(&self.config), Arc::clone(&self.line), ordered));
    }

    /// The watchdog is fed while frames move, or while the brain knows that they do not and works on it. So a hung loop
    /// and a silently dead encoder both end in a restart by systemd.
    fn feed(&mut self, feeding: &mut Feeding) {
        let frames = self.line.hatch.track(TrackKind::Video).map_or(0, |track| track.frames());
        let aware = match self.brain.status().capture {
            CaptureState::Flowing => false,
            CaptureState::Stopped
            | CaptureState::Starting
            | CaptureState::Stalled
            | CaptureState::Failed
            | CaptureState::Ended => true,
        };
        if aware || frames != feeding.frames {
            systemd::feed_watchdog();
        }
        feeding.frames = frames;
        feeding.due = feeding.interval.map(|interval| now() + interval);
    }
}

/// What the loop goes on with.
enum Next {
    Event(Event),
    /// The watchdog is due.
    Feeding,
    /// Nothing, but we are here.
    Heartbeat,
}

struct Feeding {
    interval: Option<Duration>,
    due: Option<Instant>,
    frames: u64,
}

impl Feeding {
    fn new(interval: Option<Duration>) -> Self {
        Self { interval, due: interval.map(|interval| now() + interval), frames: 0 }
    }
}

/// One studio from its opening to its end, as a task: devices block, so both run on blocking threads.
async fn keep_studio(attempt: Attempt, config: Arc<Config>, line: Arc<Line>, ordered: oneshot::Receiver<()>) {
    let voice = |event| line.inbox.post(Event::Media(attempt, event));
    let opening = {
        let line = Arc::clone(&line);
        tokio::task::spawn_blocking(move || {
            Studio::start(attempt, &config, &line.hatch, &line.clock, line.inbox.clone())
        })
    };
    match opening.await {
        Ok(Ok(studio)) => {
            let _order_or_driver_gone = ordered.await;
            let closing = tokio::task::spawn_blocking(move || studio.stop());
            // It tells `Stopped` by itself.
            if timeout(STUDIO_DEADLINE, closing).await.is_err() {
                error!("the capture pipeline does not stop: it is left behind");
            }
            return;
        }
        Ok(Err(failure)) => {
            voice(MediaEvent::Failed(failure));
            let _order_or_driver_gone = ordered.await;
        }
        Err(_) => {
            let words = "opening the capture pipeline panicked";
            voice(MediaEvent::Failed(Failure::new(Phase::Capture, Retry::Backoff, ErrorCode::Internal, words)));
            let _order_or_driver_gone = ordered.await;
        }
    }
    voice(MediaEvent::Stopped);
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
