//! The encoder is killed and started again over roamcast signalling, with a state directory, while a person watches in a
//! headless Chromium.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::task::block_in_place;

use super::ingest_browser::{WITHIN, pictures_move, plays};
use crate::browser::Browser;
use crate::program::{PATIENCE, Program, free_port};
use crate::stage::ingest;
use crate::viewer::Viewer;

/// How often it is killed, and how long it stays away.
const AWAY: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(1),
];
/// From the start of the process to the picture: 2 s is the goal on a machine with nothing else to do; here tests of others
/// may run, too.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// Each process has a picture size of its own, by which its frames are known.
fn encoder(port: u16, state: &Path, width: u32) -> Program {
    let config = format!(
        "[video]\nwidth = {width}\nheight = 360\nbitrate = \"800k\"\n\
         [uplink]\nprotocol = \"roamcast\"\nurl = \"ws://127.0.0.1:{port}/signal/live\"\n{}",
        crate::stage::QUICK
    );
    Program::encoder_with(&config, |command| {
        command.env("STATE_DIRECTORY", state);
    })
}

/// Milliseconds since 1970, as `Date.now()` gives them.
fn date_now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64() * 1000.0
}

/// Keeps the time of the first picture that is `wanted` pixels wide, after `shown` was set to 0.
const WATCH: &str = "(() => {
    window.first = roamcast.pc;
    window.wanted = window.shown = 0;
    const video = document.querySelector('video');
    const look = (_, frame) => {
        if (frame.width === window.wanted) window.shown ||= Date.now();
        video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
})()";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_viewer_sees_pictures_two_seconds_after_a_killed_encoder_is_started_again() {
    let Some(browser) = Browser::start().await else { return };
    let (port, state) = (free_port(), tempfile::tempdir().unwrap());
    let _ingest = block_in_place(|| ingest(port));
    let mut program = encoder(port, state.path(), 640);
    block_in_place(|| program.wait_for_message("broadcasting"));
    let session = session(&program);
    let viewer = Viewer::of(port).await;
    browser.open(&format!("http://127.0.0.1:{port}/live")).await;
    plays(&browser).await;
    browser.eval(WATCH).await;

    let mut times = Vec::new();
    for (away, width) in AWAY.into_iter().zip([480, 640].into_iter().cycle()) {
        remembered(state.path(), &session).await;
        program.kill();
        tokio::time::sleep(away).await;
        browser.eval(&format!("[window.shown = 0, window.wanted = {width}]")).await;
        let started = date_now();
        program = encoder(port, state.path(), width);
        let shown = browser.wait_until("window.shown", WITHIN).await.as_f64().unwrap();
        times.push(Duration::from_secs_f64((shown - started) / 1000.0));
        block_in_place(|| program.wait_for_message("broadcasting"));
        pictures_move(&browser).await;
        assert_eq!(crate::on_air_resume::session(&program), session, "another session");
        let kept = "window.first === roamcast.pc && roamcast.pc.connectionState === 'connected'";
        assert_eq!(browser.eval(kept).await, true, "the viewer's connection");
    }
    viewer.hears("live").await;
    let told = viewer.told();
    assert!(!told.iter().any(|state| state == "offline"), "{told:?}");
    assert_eq!(viewer.seen().disconnects, 0);
    times.sort();
    println!("kill -9 to a moving picture, from the start of the process: p50 {:.2?}, all {times:.2?}", times[2]);
    assert!(times[AWAY.len() - 1] < BACK_WITHIN, "{times:?}");
    browser.close().await;
}

fn session(program: &Program) -> String {
    let statuses = program.events.iter().rev().filter(|(_, event)| event["event"] == "BroadcastStatus");
    statuses.filter_map(|(_, event)| event["data"]["sessionId"].as_str()).next().expect("a session").to_owned()
}

/// Waits until the state file holds this session.
async fn remembered(state: &Path, session: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !std::fs::read_to_string(state.join("session.json")).unwrap_or_default().contains(session) {
        assert!(tokio::time::Instant::now() < deadline, "the session is not remembered");
        tokio::task::yield_now().await; // Another process writes the file.
    }
}
