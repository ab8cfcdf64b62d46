//! A whole session into a real Janus VideoRoom: pictures and sound arrive there, and reports come back.

use std::sync::{Arc, Mutex};

use roamcast::config::{JanusRoom, Protocol};
use roamcast::inbox::Inbox;
use roamcast::media::Studio;
use roamcast::media::handover::{Hatch, SharedClock, TrackKind};
use roamcast::supervisor::event::{Attempt, Event, SessionEvent};
use roamcast::uplink::certificate::Certificate;
use roamcast::uplink::{Line, Session};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_and_sound_arrive_at_a_real_janus() {
    gst::init().unwrap();
    let janus = Janus::start();
    let mut config = media_kit::config();
    let room = JanusRoom { room: ROOM, create: false, pin: None, api_secret: None, display: "van".into() };
    config.uplink.protocol = Protocol::Janus;
    config.uplink.url = janus.url();
    config.uplink.janus = Some(room);
    let hatch = Hatch::new(&[TrackKind::Video, TrackKind::Audio]);
    let (clock, inbox) = (SharedClock::start(), Inbox::default());
    let _studio = Studio::start(Attempt(1), &config, &hatch, &clock, inbox.clone()).unwrap();
    let line = Arc::new(Line {
        uplink: config.uplink.clone(),
        video: config.video.clone(),
        target: 564_000,
        hatch,
        clock,
        network: config.network.clone(),
        addresses: None,
        certificate: Some(Certificate::generate().unwrap()),
        inbox: inbox.clone(),
        ghost: Mutex::new(None),
        remembered: Mutex::new(None),
        state: None,
        tokens: Arc::new(roamcast::signal::token::Tokens::new(&config.uplink, |_| {})),
    });
    let session = Session::open(&line, Attempt(1), 0, std::time::Duration::from_secs(60));
    heard(&inbox, "answer", |event| matches!(event, SessionEvent::Accepted { .. })).await;
    heard(&inbox, "connection", |event| matches!(event, SessionEvent::Connected)).await;
    for _report in 0..2 {
        heard(&inbox, "acknowledgement", |event| matches!(event, SessionEvent::Acknowledged)).await;
    }
    let received = |mid: &str| {
        let handles = janus.handles();
        handles[0]["webrtc"]["media"][mid]["stats"]["in"]["packets"].as_u64().unwrap_or_default()
    };
    assert!(received("video0") > 0 && received("audio1") > 0, "{:#?}", janus.handles());
    session.close(roamcast::uplink::Parting::Goodbye);
    heard(&inbox, "end", |event| matches!(event, SessionEvent::Closed)).await;
    assert_eq!(janus.sessions(), [0_u64; 0]);
}
