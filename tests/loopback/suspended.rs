//! The hands notice that they stood still. What the brain makes of it is in its own tests; a real SIGSTOP in `janus_table.rs`.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use roamcast::app::driver::Driver;
use roamcast::app::publish::{Board, Output};
use roamcast::inbox::Inbox;
use roamcast::media::tracks::{Hatch, Promise, SharedClock, TrackKind};
use roamcast::signal::token::Tokens;
use roamcast::uplink::Line;

use crate::captured::Captured;
use crate::media_kit;

/// In virtual time: whoever has nothing to do for a minute was not suspended; whoever misses three seconds was.
#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_notices_and_an_idle_one_does_not() {
    gst::init().unwrap();
    let (log, _guard) = Captured::start();
    let config = media_kit::config();
    let inbox = Inbox::default();
    let line = Arc::new(Line {
        uplink: config.uplink.clone(),
        video: config.video.clone(),
        promise: Promise::default(),
        stereo: true,
        target: 564_000,
        hatch: Hatch::new(&[TrackKind::Video, TrackKind::Audio]),
        clock: SharedClock::start(),
        network: config.network.clone(),
        addresses: None,
        certificate: None,
        inbox: inbox.clone(),
        ghost: Mutex::new(None),
        remembered: Mutex::new(None),
        sound_refused: AtomicBool::new(false),
        state: None,
        tokens: Arc::new(Tokens::new(&config.uplink, |_| {})),
    });
    let driver = Driver::new(inbox, line, Arc::new(config), Board::new(Output::Json, None));
    let checked = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!log.text().contains("stood still"), "{}", log.text());
        tokio::time::advance(Duration::from_secs(3)).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        log.says_once(&["this process stood still for 3."]);
    };
    tokio::select! {
        reason = driver.run() => panic!("it has ended: {reason:?}"),
        () = checked => {}
    }
}
