//! One contender on air in a lab of its own, and what the receiver sees of it.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::contender::{Restarts, Sender, Who};
use crate::ingest::RemoteIngest;
use crate::netlab::{Families, Link, Netlab, Shape};
use crate::program::Program;
use crate::viewer::Viewer;

/// 25 ms each way, and nothing else.
pub(crate) const RTT: Duration = Duration::from_millis(50);
/// The uplinks of a lab that has both; the first is preferred by its metric.
pub(crate) const UPLINKS: [&str; 2] = ["wlan0", "wwan0"];
/// RTP time from one frame to the next.
const FRAME_TICKS: u64 = 3000;
/// How often figures are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The stream flows again when a second has passed without a longer gap than this: it tells a stutter of a busy machine
/// from an outage.
const STEADY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(200));
/// Moves that follow each other within 10 s are damped, so that media does not flap between two bad paths; what is measured
/// is one fault, not the twentieth in a minute.
const REST: Duration = Duration::from_secs(11);
/// How long a contender may take to be well again before another one is started in its place.
const WELL_WITHIN: Duration = Duration::from_secs(40);
/// Over which packets are counted to see which uplink is in use.
const COUNT_FOR: Duration = Duration::from_millis(300);

/// How the encoder and the server talk besides the media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    Whip,
    /// Roamcast signalling where the contender has it.
    Socket,
}

/// All of it, in the order in which it goes.
pub(crate) struct Rig {
    pub(crate) who: Who,
    pub(crate) sender: Sender,
    /// Goes before the runtime that it lives in.
    viewer: Viewer,
    runtime: Runtime,
    pub(crate) ingest: RemoteIngest,
    pub(crate) lab: Netlab,
    uplinks: usize,
}

/// The moment before something happens.
pub(crate) struct Mark {
    pub(crate) at: Instant,
    received: Option<[u64; 2]>,
}

/// What the receiver saw since some moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// The longest time from one decodable frame to the next.
    pub(crate) gap: Duration,
    /// Frames that never came, by their RTP time; over a new session, by the time that has passed. Frames that were never
    /// sent, as where a busy machine keeps the encoder from its work, are not lost: then no packet is missing.
    pub(crate) lost: u64,
    /// It flows again.
    pub(crate) is_back: bool,
}

impl Rig {
    /// On air and watched, by the first so many of [`UPLINKS`].
    pub(crate) fn on_air(who: Who, uplinks: usize, words: Words) -> Self {
        let builder = UPLINKS[..uplinks]
            .iter()
            .fold(Netlab::builder(), |builder, name| builder.uplink_of(name, Link::with_rtt(RTT), Families::V4));
        let lab = builder.build().expect("main has looked for what labs need");
        let ingest = RemoteIngest::start(lab.server());
        let door = ingest.door();
        let sender = if who == Who::Whipclientsink {
            let url = format!("http://{}/whip/live", door.address);
            Sender::Loop(Restarts::of(lab.encoder(), &url, door.token))
        } else {
            let uplink = if words == Words::Socket { ingest.uplink_by_signalling() } else { ingest.uplink() };
            let program = Program::encoder_with(&who.config(&uplink), |command| *command = lab.encoder().wrap(command));
            Sender::Ours(Box::new(program))
        };
        let runtime = lab.server().runtime();
        let viewer = runtime.block_on(runtime.spawn(Viewer::at(door))).expect("a picture comes");
        Self { who, sender, viewer, runtime, ingest, lab, uplinks }
    }

    /// Waits until everything is as good as it can be.
    pub(crate) fn is_well(&mut self) {
        let since = Instant::now();
        assert!(self.flows_again(since, STEADY.0, WELL_WITHIN), "{}: no steady stream", self.who.name());
        if self.who.roams() {
            let (uplinks, Sender::Ours(program)) = (self.uplinks, &mut self.sender) else { return };
            program.catch_up();
            let good = |event: &Value, name: &str| {
                paths(event).iter().any(|path| path["state"] == "good" && path["interface"] == name)
            };
            program
                .wait_for("a good path on each link", |event| UPLINKS[..uplinks].iter().all(|name| good(event, name)));
            let moved = program.events.iter().rfind(|(_, event)| event["event"] == "PathChanged");
            if let Some(rest) = moved.map(|(at, _)| REST.saturating_sub(at.elapsed())) {
                std::thread::sleep(rest);
            }
        }
    }

    /// The uplink that media leaves by.
    pub(crate) fn in_use(&mut self) -> &'static str {
        if let (true, Sender::Ours(program)) = (self.who.roams(), &mut self.sender) {
            program.catch_up();
            let selected = |path: &&Value| path["selected"] == true;
            let (_, stats) =
                program.wait_for("a selected path", |event| paths(event).iter().any(|path| selected(&path)));
            let path = paths(&stats).iter().find(selected).expect("just seen");
            return UPLINKS.into_iter().find(|name| path["interface"] == *name).expect("one of ours");
        }
        let count = || UPLINKS.map(|name| self.lab.stats(name).up.delivered);
        let before = count();
        std::thread::sleep(COUNT_FOR);
        let after = count();
        if after[1] - before[1] > after[0] - before[0] { UPLINKS[1] } else { UPLINKS[0] }
    }

    /// Nothing passes this uplink any more, and nobody is told. At once, so that times can be counted from here.
    pub(crate) fn silence(&self, name: &str) {
        let nothing = Shape { delay: RTT / 2, loss: 1.0, ..Shape::default() };
        self.lab.shape(name, Link::symmetric(nothing));
    }

    /// Ends [`Rig::silence`], at once.
    pub(crate) fn heal(&self, name: &str) {
        self.lab.shape(name, Link::with_rtt(RTT));
    }

    /// Something is about to happen.
    pub(crate) fn mark(&self) -> Mark {
        let received = self.received();
        Mark { at: Instant::now(), received }
    }

    /// Waits until the stream flows again: not before `least` has passed since the mark, not longer than `most`.
    pub(crate) fn seen(&self, mark: &Mark, least: Duration, most: Duration) -> Seen {
        let is_back = self.flows_again(mark.at, least, most);
        let frames = self.viewer.frames_around(mark.at);
        let steps = || frames.windows(2).map(|pair| (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1));
        let whole = |ticks: u64| (ticks + FRAME_TICKS / 2) / FRAME_TICKS;
        // What has not come back is counted until now.
        let silent = frames.last().map_or_else(|| mark.at.elapsed(), |(at, _)| at.elapsed());
        let still = if is_back { Duration::ZERO } else { silent };
        let gap = steps().map(|(time, _)| time).max().unwrap_or_default().max(still);
        let missing: u64 = steps().map(|(_, ticks)| whole(ticks).saturating_sub(1)).sum();
        let missing = missing + still.as_millis() as u64 * 30 / 1000;
        let lost = if is_back && self.is_whole(mark) { 0 } else { missing };
        Seen { gap, lost, is_back }
    }

    /// One media connection since then, of which every packet has come.
    fn is_whole(&self, mark: &Mark) -> bool {
        let Some(([frames, lost], [frames_now, lost_now])) = mark.received.zip(self.received()) else { return false };
        frames_now >= frames && lost_now == lost
    }

    /// `[frames, lost packets]` of the present media connection; `None` where there is none.
    fn received(&self) -> Option<[u64; 2]> {
        let door = self.ingest.door();
        self.runtime.block_on(self.runtime.spawn(async move { door.received_of_publisher().await })).ok().flatten()
    }

    /// By how much the links of the lab were late for one packet in a hundred: what the machine's load does to the figures.
    pub(crate) fn lateness(&self) -> Duration {
        UPLINKS[..self.uplinks].iter().map(|name| self.lab.stats(name).lateness(0.99)).max().unwrap_or_default()
    }

    /// When the first decodable frame came after this moment.
    pub(crate) fn first_frame_after(&self, since: Instant) -> Option<Instant> {
        self.viewer.frames_around(since).into_iter().map(|(at, _)| at).find(|at| *at > since)
    }

    fn flows_again(&self, since: Instant, least: Duration, most: Duration) -> bool {
        loop {
            std::thread::sleep(LOOK_EVERY);
            let now = Instant::now();
            let from = (now - STEADY.0).max(since);
            let is_steady = now - since >= STEADY.0 && self.longest_wait(from, now) <= STEADY.1;
            if is_steady && now - since >= least {
                return true;
            }
            if now - since >= most {
                return false;
            }
        }
    }

    /// The longest time without a new frame between two moments.
    fn longest_wait(&self, from: Instant, to: Instant) -> Duration {
        let frames = self.viewer.frames_around(from).into_iter().map(|(at, _)| at.clamp(from, to));
        let moments: Vec<Instant> = std::iter::once(from).chain(frames).chain([to]).collect();
        moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

/// The paths in `Stats`.
fn paths(event: &Value) -> &[Value] {
    let is_stats = event["event"] == "Stats";
    event["data"]["paths"].as_array().filter(|_| is_stats).map_or(&[], Vec::as_slice)
}
