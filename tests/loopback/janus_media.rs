//! A whole session into a real Janus VideoRoom: pictures and sound arrive there, and reports come back.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use glib::translate::IntoGlib;
use roamcast::config::{JanusRoom, Protocol};
use roamcast::inbox::Inbox;
use roamcast::media::Studio;
use roamcast::media::tracks::{Hatch, Promise, SharedClock, TrackKind};
use roamcast::signal::token::Tokens;
use roamcast::status::LinkStats;
use roamcast::supervisor::event::{Attempt, Event, LocalAddress, SessionEvent};
use roamcast::uplink::certificate::Certificate;
use roamcast::uplink::{Line, Parting, Session};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::janus::{Janus, ROOM};
use crate::media_kit;
use crate::program::PATIENCE;

/// Reads what the session says until it fits.
async fn heard(inbox: &Inbox, what: &str, fits: impl Fn(&SessionEvent) -> bool) {
    let hearing = async {
        loop {
            match inbox.next().await {
                Event::Session(_, event) if fits(&event) => return,
                Event::Session(_, SessionEvent::Failed(failure)) => panic!("no {what}: {failure}"),
                _ => {}
            }
        }
    };
    timeout(PATIENCE, hearing).await.unwrap_or_else(|_| panic!("no {what}"));
}

/// A broadcast of this very process into [`ROOM`].
struct Air {
    janus: Janus,
    inbox: Inbox,
    line: Arc<Line>,
    _studio: Studio,
}

impl Air {
    /// With the roaming agent, or with libnice.
    fn start(is_roaming: bool) -> Option<Self> {
        gst::init().unwrap();
        let janus = Janus::start()?;
        let mut config = media_kit::config();
        let room = JanusRoom { room: ROOM, create: false, pin: None, api_secret: None, display: "van".into() };
        config.uplink.protocol = Protocol::Janus;
        config.uplink.url = janus.url();
        config.uplink.janus = Some(room);
        let hatch = Hatch::new(&[TrackKind::Video, TrackKind::Audio]);
        let (clock, inbox) = (SharedClock::start(), Inbox::default());
        let studio = Studio::start(Attempt(1), &config, &hatch, &clock, inbox.clone()).unwrap();
        let here = LocalAddress { interface: "eth0".into(), ip: janus.address.ip() };
        let line = Line {
            uplink: config.uplink.clone(),
            video: config.video.clone(),
            promise: Promise::default(),
            stereo: true,
            target: 564_000,
            hatch,
            clock,
            network: config.network.clone(),
            addresses: is_roaming.then(|| watch::channel(vec![here]).1),
            certificate: Some(Certificate::generate().unwrap()),
            inbox: inbox.clone(),
            ghost: Mutex::new(None),
            remembered: Mutex::new(None),
            sound_refused: AtomicBool::new(false),
            state: None,
            tokens: Arc::new(Tokens::new(&config.uplink, |_| {})),
        };
        Some(Self { janus, inbox, line: Arc::new(line), _studio: studio })
    }

    /// A session with all there is to say of it, from its beginning to its end.
    async fn session(&self) {
        let session = Session::open(&self.line, Attempt(1), 0, PATIENCE);
        let here = self.janus.address.ip().to_string();
        heard(&self.inbox, "full report", |event| {
            let SessionEvent::Link(link) = event else { return false };
            let LinkStats { packets_sent, bitrate, rtt_ms, loss, path, .. } = link;
            let is_sane = rtt_ms.is_some_and(|ms| ms < 1000.0) && loss.is_some_and(|part| part < 0.5);
            *packets_sent > 0 && *bitrate > 0 && is_sane && path.as_ref() == Some(&here)
        })
        .await;
        session.close(Parting::Goodbye);
        heard(&self.inbox, "end", |event| matches!(event, SessionEvent::Closed)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_and_sound_arrive_at_a_real_janus() {
    let Some(air) = Air::start(false) else { return };
    let Air { janus, inbox, line, .. } = &air;
    let session = Session::open(line, Attempt(1), 0, PATIENCE);
    heard(inbox, "answer", |event| matches!(event, SessionEvent::Accepted { .. })).await;
    heard(inbox, "connection", |event| matches!(event, SessionEvent::Connected)).await;
    for _report in 0..2 {
        heard(inbox, "acknowledgement", |event| matches!(event, SessionEvent::Acknowledged)).await;
    }
    let received = |mid: &str| {
        let handles = janus.handles();
        handles[0]["webrtc"]["media"][mid]["stats"]["in"]["packets"].as_u64().unwrap_or_default()
    };
    assert!(received("video0") > 0 && received("audio1") > 0, "{:#?}", janus.handles());
    session.close(Parting::Goodbye);
    heard(inbox, "end", |event| matches!(event, SessionEvent::Closed)).await;
    assert_eq!(janus.sessions(), [0_u64; 0]);
    // With this agent too, every second, whoever tells them.
    air.session().await;
}

/// How many names GLib has been given so far, and keeps for ever.
fn names_kept() -> u32 {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let fresh = format!("name number {} of janus_media", ASKED.fetch_add(1, Ordering::Relaxed));
    glib::Quark::from_str(fresh).into_glib()
}

/// An encoder makes sessions for months. (RSS shows this in a thousand of them: see `many_sessions`.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_leaves_hardly_a_name_behind() {
    let Some(air) = Air::start(true) else { return };
    // The first one registers types.
    air.session().await;
    let mut left = Vec::new();
    for _another in 0..3 {
        let before = names_kept();
        air.session().await;
        // Without the one that was made to count.
        left.push(names_kept() - before - 1);
    }
    // webrtcbin's own: the SSRC of the video, and a field for each SSRC in the answer of Janus. The least counts, because
    // another test of this process may be making names of its own.
    println!("FIGURE names left behind by each session: {left:?}");
    assert!(left.iter().min() <= Some(&3), "{left:?}");
}
