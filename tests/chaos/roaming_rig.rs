//! A van on air: the real encoder behind two uplinks, the real server far away, and a viewer beside the server who counts
//! what came after decryption.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::forward::Forward;
use crate::ingest::RemoteIngest;
use crate::janus::{Janus, ROOM};
use crate::netlab::{Builder, Families, Link, Netlab, SERVER_6};
use crate::program::{PATIENCE, Program, is_message};
use crate::viewer::{Door, Viewer};

/// Frames a second of the test picture.
const FRAMERATE: u64 = 30;
/// How often figures are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A keyframe that was asked for and did not come is asked for again.
const KEYFRAME_WITHIN: Duration = Duration::from_secs(3);

/// Who receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ingest,
    Janus,
}

/// Makes a test at each receiver of each of these functions.
macro_rules! at_both {
    ($($name:ident),+ $(,)?) => {
        mod ingest {
            $(#[test] fn $name() { super::$name($crate::roaming_rig::Kind::Ingest); })+
        }
        mod janus {
            $(#[test] fn $name() { super::$name($crate::roaming_rig::Kind::Janus); })+
        }
    };
}
pub(crate) use at_both;

enum Server {
    /// The viewer goes before the runtime that it lives in.
    Ingest {
        viewer: Viewer,
        ingest: RemoteIngest,
        runtime: Runtime,
    },
    Janus {
        viewers: Forward,
        janus: Janus,
    },
}

/// What the receiver saw of an event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// The longest time between two frames. At the ingest viewers wait for a whole picture after a loss; at Janus it is
    /// the bare stream.
    pub(crate) gap: Duration,
    /// RTP packets of the picture that never came.
    pub(crate) lost: u64,
}

/// The beginning of an event.
pub(crate) struct Mark {
    at: Instant,
    received: [u64; 2],
    moves: usize,
}

/// All of it, in the order in which it goes.
pub(crate) struct Van {
    pub(crate) encoder: Program,
    server: Server,
    kind: Kind,
    session: String,
    pub(crate) lab: Netlab,
}

/// Lines of the encoder's config.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lines<'a> {
    /// Of the section `network`.
    pub(crate) network: &'a str,
    /// Of the section `uplink`.
    pub(crate) uplink: &'a str,
    /// Whole sections.
    pub(crate) more: &'a str,
}

/// For the section `network`: Wi-Fi is preferred.
pub(crate) const WIFI_FIRST: &str = "interfaces = [\"wlan0\", \"wwan0\"]\n";

/// 25 ms each way, and nothing else.
pub(crate) fn link() -> Link {
    Link::with_rtt(Duration::from_millis(50))
}

/// Wi-Fi and modem.
pub(crate) fn two_uplinks() -> Builder {
    Netlab::builder().uplink("wlan0", link()).uplink("wwan0", link())
}

impl Van {
    /// On air and watched; `network`: lines of that section.
    pub(crate) fn on_air(kind: Kind, lab: Builder, network: &str) -> Option<Self> {
        Self::on_air_by(kind, lab, network, Families::Both)
    }

    /// The same, with a server that is reached by these addresses.
    pub(crate) fn on_air_by(kind: Kind, lab: Builder, network: &str, families: Families) -> Option<Self> {
        Self::in_lab(kind, lab.build()?, families, Lines { network, ..Lines::default() })
    }

    /// The same in a lab that is there already, and with more in the config.
    pub(crate) fn in_lab(kind: Kind, lab: Netlab, families: Families, lines: Lines<'_>) -> Option<Self> {
        let (uplink, starting) = Starting::new(kind, &lab, families)?;
        let Lines { network, uplink: more_uplink, more } = lines;
        let config = format!(
            "[video]\nwidth = 320\nheight = 180\nframerate = {FRAMERATE}\nbitrate = \"400k\"\nkeyframeInterval = \"1m\"\n\
             [network]\n{network}[uplink]\n{uplink}{more_uplink}{more}"
        );
        let mut encoder = Program::encoder_with(&config, |command| *command = lab.encoder().wrap(command));
        encoder.wait_for_message("broadcasting");
        let server = starting.watched(&lab);
        let session = session(&encoder);
        let mut van = Self { encoder, server, kind, session, lab };
        // The first pictures are past, and nothing of them is missing.
        van.goes_on();
        van.answers_keyframe_wishes();
        Some(van)
    }

    /// An event begins.
    pub(crate) fn mark(&mut self) -> Mark {
        if let Server::Ingest { viewer, .. } = &self.server {
            viewer.count_anew();
        }
        let (received, moves) = (self.received(), self.steps().len());
        Mark { at: Instant::now(), received, moves }
    }

    /// Waits until media has moved to this interface since the mark, and gives what was told of it.
    pub(crate) fn moves_to(&mut self, mark: &Mark, interface: &str) -> Value {
        self.moves(mark, interface, |step| step["to"] == interface)
    }

    /// The same for one of these addresses.
    pub(crate) fn moves_to_address(&mut self, mark: &Mark, addresses: &[IpAddr]) -> Value {
        let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        let fits = |step: &Value| addresses.iter().any(|address| step["toAddress"] == *address);
        self.moves(mark, &format!("{addresses:?}"), fits)
    }

    fn moves(&mut self, mark: &Mark, to: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let steps = self.steps();
            if let Some((at, step)) = steps.iter().skip(mark.moves).find(|(_, step)| fits(step)) {
                println!("  {:?} after {} ms: {step}", self.kind, at.saturating_duration_since(mark.at).as_millis());
                return step.clone();
            }
            assert!(Instant::now() < deadline, "media has not moved to {to}\n{}", self.said());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The interface that media leaves by.
    pub(crate) fn interface(&mut self) -> String {
        let paths = self.paths(|paths| paths.iter().any(|path| path["selected"] == true));
        let selected = paths.iter().find(|path| path["selected"] == true).unwrap();
        selected["interface"].as_str().unwrap().to_owned()
    }

    /// Waits until media leaves by a relay (or by none), and gives the interface.
    pub(crate) fn is_relayed(&mut self, relayed: bool) -> String {
        let fits = |path: &Value| path["selected"] == true && path["relayed"] == relayed;
        let paths = self.paths(|paths| paths.iter().any(fits));
        paths.iter().find(|path| fits(path)).and_then(|path| path["interface"].as_str()).unwrap().to_owned()
    }

    /// Waits until media leaves by this interface: right after the start it may be another that was quicker.
    pub(crate) fn leaves_by(&mut self, interface: &str) {
        self.paths(|paths| paths.iter().any(|path| path["selected"] == true && path["interface"] == interface));
    }

    /// Waits until this interface has a path that is good.
    pub(crate) fn is_good(&mut self, interface: &str) {
        self.paths(|paths| paths.iter().any(|path| path["interface"] == interface && path["state"] == "good"));
    }

    /// Waits for Stats whose paths fit.
    fn paths(&mut self, fits: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let of = |event: &Value| event["data"]["paths"].as_array().cloned().unwrap_or_default();
        let (_, stats) = self.encoder.wait_for("fitting paths", |event| event["event"] == "Stats" && fits(&of(event)));
        of(&stats)
    }

    /// How often media has moved since the mark.
    pub(crate) fn moves_since(&mut self, mark: &Mark) -> usize {
        self.steps().len() - mark.moves
    }

    /// Nothing comes for so long.
    pub(crate) fn is_silent_for(&self, time: Duration) {
        let before = self.received()[0];
        self.drives_on(time);
        let came = self.received()[0] - before;
        assert!(came <= 3, "{came} frames came where none could");
    }

    /// Waits until a second of pictures has come from now on.
    pub(crate) fn goes_on(&mut self) {
        let since = Instant::now();
        let goal = self.received()[0] + FRAMERATE;
        match &self.server {
            Server::Janus { viewers, .. } => {
                let goal = usize::try_from(FRAMERATE).unwrap();
                self.wait_until("frames", |_| viewers.frames_since(since) >= goal);
            }
            Server::Ingest { viewer, runtime, .. } => {
                self.wait_until("frames", |van| van.received()[0] >= goal);
                let watching = async { tokio::time::timeout(PATIENCE, viewer.sees(FRAMERATE)).await };
                runtime.block_on(watching).expect("the viewer sees more");
            }
        }
    }

    /// The port of the server that takes the media of this session and of no other, if it has one.
    pub(crate) fn media_port(&self) -> Option<u16> {
        match &self.server {
            Server::Janus { janus, .. } => Some(janus.media_port()),
            Server::Ingest { .. } => None,
        }
    }

    /// Waits until a picture comes from now on.
    pub(crate) fn sees_anything(&self) {
        let since = Instant::now();
        match &self.server {
            Server::Janus { viewers, .. } => viewers.wait_for_frames(1, since),
            Server::Ingest { viewer, runtime, .. } => runtime.block_on(viewer.sees(1)),
        }
    }

    /// The longest time between two frames since the mark.
    pub(crate) fn longest_gap(&mut self, mark: &Mark) -> Duration {
        self.goes_on();
        match &self.server {
            Server::Janus { viewers, .. } => viewers.longest_gap(mark.at),
            Server::Ingest { viewer, .. } => viewer.seen().longest_gap,
        }
    }

    /// The event is over: says and gives back what the receiver saw of it.
    pub(crate) fn seen(&mut self, what: &str, mark: &Mark) -> Seen {
        let gap = self.longest_gap(mark);
        let [frames, lost] = self.received();
        assert!(
            frames >= mark.received[0],
            "another media connection counts: {frames} frames after {:?}",
            mark.received
        );
        let lost = lost - mark.received[1].min(lost);
        println!("FIGURE {what} {:?}: longest gap {} ms, {lost} packets lost", self.kind, gap.as_millis());
        Seen { gap, lost }
    }

    /// RTCP passes: a wish for a keyframe (of a further viewer, or of Janus itself) is answered, and the encoder has heard it.
    pub(crate) fn answers_keyframe_wishes(&mut self) {
        let began = Instant::now();
        let before = self.keyframe_requests();
        let mut tries = 0;
        let came = loop {
            tries += 1;
            assert!(began.elapsed() < PATIENCE, "no wish for a keyframe is answered\n{}", self.said());
            let came = match &self.server {
                Server::Janus { viewers, janus } => viewers.keyframe_wish(&janus.overseer, ROOM, KEYFRAME_WITHIN),
                Server::Ingest { ingest, runtime, .. } => {
                    let (door, asked) = (ingest.door(), Instant::now());
                    let watched = runtime.block_on(runtime.spawn(Viewer::at(door)));
                    watched.ok().map(|_viewer| asked.elapsed())
                }
            };
            if let Some(came) = came {
                break came;
            }
        };
        println!("  {:?}: a keyframe {} ms after its wish ({tries} tries)", self.kind, came.as_millis());
        let heard = |event: &Value| {
            event["event"] == "Stats" && event["data"]["keyframeRequests"].as_u64().is_some_and(|count| count > before)
        };
        self.encoder.wait_for("wish for a keyframe in the Stats", heard);
    }

    /// Nobody but the agent has noticed: one session, on air all the time, the same at the server.
    pub(crate) fn is_still_the_same_session(&mut self) {
        self.has_kept_its_session();
        let messages = self.encoder.messages();
        let on_air = messages.iter().position(|message| message == "broadcasting").unwrap();
        assert_eq!(messages[on_air..], ["broadcasting"], "{}", self.said());
    }

    /// The same, though an outage may have been told.
    pub(crate) fn has_kept_its_session(&mut self) {
        self.encoder.wait_for("Stats", |event| event["event"] == "Stats");
        self.encoder.catch_up();
        assert_eq!(session(&self.encoder), self.session, "{}", self.said());
        assert_eq!(self.encoder.messages().last().unwrap(), "broadcasting", "{}", self.said());
        // A WebSocket does not survive a new address; it is opened again, and the session claimed.
        let errors = self.encoder.events.iter().filter(|(_, event)| event["event"] == "BroadcastError");
        let errors: Vec<&Value> = errors.map(|(_, event)| &event["data"]).collect();
        println!("  {:?}: {} packets went astray; errors: {errors:?}", self.kind, self.lab.strays());
        let of_media = errors.iter().filter(|error| error["code"] != "SIGNALLING_FAILED").count();
        assert_eq!(of_media, 0, "{errors:?}\n{}", self.said());
        if let Server::Janus { viewers, janus } = &self.server {
            let live: Vec<String> = janus.publishers(ROOM).iter().map(|id| format!("{ROOM}/{id}")).collect();
            assert_eq!(live, std::slice::from_ref(&self.session));
            assert_eq!(viewers.most_publishers().0, 1);
        }
    }

    /// Waits until another session than the first is on air, and until the server knows that one alone.
    pub(crate) fn has_replaced_its_session(&mut self) {
        let before = self.session.clone();
        let is_another = |event: &Value| is_message(event, "broadcasting") && event["data"]["sessionId"] != *before;
        if session(&self.encoder) == before {
            self.encoder.wait_for("another session on air", is_another);
        }
        self.session = session(&self.encoder);
        let now = [self.session.clone()];
        self.wait_until("end of the old session", |van| match &van.server {
            Server::Janus { janus, .. } => {
                let live: Vec<String> = janus.publishers(ROOM).iter().map(|id| format!("{ROOM}/{id}")).collect();
                live == now && janus.sessions().len() == 1
            }
            Server::Ingest { ingest, runtime, .. } => {
                let is_there = |path: &str| {
                    let asking = ingest.door().knows(path.to_owned());
                    runtime.block_on(runtime.spawn(asking)).unwrap()
                };
                is_there(&van.session) && !is_there(&before)
            }
        });
    }

    /// Does this in the place of the embedded ingest.
    pub(crate) fn beside<R: Send + 'static>(&self, work: impl Future<Output = R> + Send + 'static) -> R {
        let Server::Ingest { runtime, .. } = &self.server else { panic!("Janus has no pages") };
        runtime.block_on(runtime.spawn(work)).unwrap()
    }

    /// The page of the embedded ingest for viewers in its place.
    pub(crate) fn page(&self) -> String {
        let Server::Ingest { ingest, .. } = &self.server else { panic!("Janus has no pages") };
        let Door { address, token } = ingest.door();
        format!("http://{address}/live#token={token}")
    }

    /// Waits for so long for what needs its time.
    pub(crate) fn drives_on(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// `[frames, lost packets]` of the picture so far.
    pub(crate) fn received(&self) -> [u64; 2] {
        match &self.server {
            Server::Janus { viewers, .. } => {
                let (lost, _) = viewers.lost();
                [viewers.frames(), u64::try_from(lost).unwrap()]
            }
            Server::Ingest { ingest, runtime, .. } => {
                let door = ingest.door();
                runtime.block_on(runtime.spawn(door.received())).unwrap()
            }
        }
    }

    /// The moves that the encoder has told so far.
    fn steps(&mut self) -> Vec<(Instant, Value)> {
        self.encoder.catch_up();
        let told = self.encoder.events.iter().filter(|(_, event)| event["event"] == "PathChanged");
        told.map(|(at, event)| (*at, event["data"].clone())).collect()
    }

    fn keyframe_requests(&mut self) -> u64 {
        let (_, stats) = self.encoder.wait_for("Stats", |event| event["event"] == "Stats");
        stats["data"]["keyframeRequests"].as_u64().unwrap()
    }

    fn wait_until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is(self) {
            assert!(Instant::now() < deadline, "no {what}\n{}", self.said());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// For panics.
    fn said(&self) -> String {
        format!("messages: {:?}\nlog:\n{}", self.encoder.messages(), self.encoder.log())
    }
}

/// A server without viewers: before the encoder is there is nothing to be seen.
enum Starting {
    Ingest(RemoteIngest),
    Janus(Janus),
}

impl Starting {
    /// With lines for the encoder's section `uplink`.
    fn new(kind: Kind, lab: &Netlab, families: Families) -> Option<(String, Self)> {
        Some(match kind {
            Kind::Ingest => {
                let ingest = match families {
                    Families::V6 => RemoteIngest::start_at(lab.server(), SERVER_6.into()),
                    Families::Both | Families::V4 => RemoteIngest::start(lab.server()),
                };
                (ingest.uplink(), Self::Ingest(ingest))
            }
            Kind::Janus => {
                let janus = Janus::start_at(lab.server(), "session_timeout = 60")?;
                let mut url = janus.url();
                if families == Families::V6 {
                    url.set_host(Some(&format!("[{SERVER_6}]"))).unwrap();
                }
                (format!("protocol = \"janus\"\nurl = \"{url}\"\nroom = {ROOM}\n"), Self::Janus(janus))
            }
        })
    }

    /// Viewers come.
    fn watched(self, lab: &Netlab) -> Server {
        match self {
            Self::Ingest(ingest) => {
                let runtime = lab.server().runtime();
                let viewer = runtime.block_on(runtime.spawn(Viewer::at(ingest.door()))).unwrap();
                Server::Ingest { viewer, ingest, runtime }
            }
            Self::Janus(janus) => Server::Janus { viewers: Forward::of(janus.overseer.clone(), ROOM), janus },
        }
    }
}

/// The session that the encoder named last.
fn session(encoder: &Program) -> String {
    let mut newest = encoder.events.iter().rev().filter(|(_, event)| event["event"] == "BroadcastStatus");
    newest.find_map(|(_, event)| event["data"]["sessionId"].as_str()).unwrap_or_default().to_owned()
}
