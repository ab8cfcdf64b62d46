//! Who is compared, and how each is started.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::place::Place;
use crate::program::Program;

/// Who is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// Our agent; media leaves by one path at a time.
    Roaming,
    /// The same with copies while a path is in doubt: the default.
    Handover,
    /// The same with copies by two paths all the time.
    Always,
    /// Our supervisor over GStreamer's own ICE agent.
    Libnice,
    /// gst-plugins-rs, started again by what does as systemd would.
    Whipclientsink,
}

impl Who {
    pub(crate) const ALL: [Self; 5] =
        [Self::Roaming, Self::Handover, Self::Always, Self::Libnice, Self::Whipclientsink];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Roaming => "roamcast off",
            Self::Handover => "roamcast handover",
            Self::Always => "roamcast always",
            Self::Libnice => "roamcast libnice",
            Self::Whipclientsink => "whipclientsink loop",
        }
    }

    /// Has it our agent, which tells of its paths?
    pub(crate) fn roams(self) -> bool {
        matches!(self, Self::Roaming | Self::Handover | Self::Always)
    }

    /// Lines of a config; `uplink`: how it reaches the server.
    pub(crate) fn config(self, uplink: &str) -> String {
        let redundancy = match self {
            Self::Handover => "handover",
            Self::Always => "always",
            Self::Roaming | Self::Libnice | Self::Whipclientsink => "off",
        };
        let agent = if self == Self::Libnice { "libnice" } else { "roaming" };
        format!(
            "[video]\nwidth = 320\nheight = 180\nframerate = 30\nbitrate = \"400k\"\nkeyframeInterval = \"1m\"\n\
             [reconnect]\nmaxRetries = \"unlimited\"\n[network]\nredundancy = \"{redundancy}\"\n\
             [uplink]\niceAgent = \"{agent}\"\n{uplink}"
        )
    }
}

/// A contender that runs.
pub(crate) enum Sender {
    Ours(Box<Program>),
    Loop(Restarts),
}

impl Sender {
    /// What it has noticed of a loss of media since then, and when.
    pub(crate) fn noticed(&mut self, since: Instant) -> Option<Instant> {
        match self {
            Self::Ours(program) => {
                program.catch_up();
                let late = program.events.iter().filter(|(at, _)| *at >= since);
                let mut telling = late.filter(|(_, event)| tells_of_a_loss(event));
                telling.next().map(|(at, _)| *at)
            }
            Self::Loop(restarts) => restarts.ends().into_iter().find(|at| *at >= since),
        }
    }
}

fn tells_of_a_loss(event: &Value) -> bool {
    let data = &event["data"];
    let state = data["state"].as_str().unwrap_or_default();
    match event["event"].as_str().unwrap_or_default() {
        "PathChanged" => true,
        "BroadcastStatus" => data["message"] == "reconnecting_broadcast",
        "ConnectionState" => data["plane"] == "media" && state != "connected",
        _ => false,
    }
}

/// What `Restart=always` with `RestartSec=100ms` does, without a start limit; ends with the last process when dropped.
pub(crate) struct Restarts {
    over: Arc<AtomicBool>,
    ends: Arc<Mutex<Vec<Instant>>>,
    thread: Option<JoinHandle<()>>,
}

/// `RestartSec`; the default of systemd.
const RESTART_SEC: Duration = Duration::from_millis(100);
/// How often the process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Restarts {
    /// Publishes to this endpoint.
    pub(crate) fn of(place: &Place, url: &str, token: &str) -> Self {
        let (over, ends) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Instant>>>::default());
        let (is_over, ended) = (Arc::clone(&over), Arc::clone(&ends));
        let mut command = Command::new(peer());
        command.args([url, token]);
        let mut command = place.wrap(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let child = command.spawn().expect("the peer starts");
                wait(child, &is_over);
                ended.lock().unwrap().push(Instant::now());
                std::thread::sleep(RESTART_SEC);
            }
        });
        Self { over, ends, thread: Some(thread) }
    }

    /// When processes have ended so far.
    fn ends(&self) -> Vec<Instant> {
        self.ends.lock().unwrap().clone()
    }
}

impl Drop for Restarts {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Until it ends by itself, or is ended because all is over.
fn wait(mut child: Child, over: &AtomicBool) {
    while child.try_wait().expect("our child").is_none() {
        if over.load(Ordering::Relaxed) {
            let _already_gone = child.kill();
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The peer's program; `scripts/peers bench` builds it beside ours.
pub(crate) fn peer() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_roamcast")).with_file_name("whipclientsink-peer")
}
