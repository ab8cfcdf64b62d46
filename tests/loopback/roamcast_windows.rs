//! Everything is gone for a while, WebSocket and media: the three windows, as OpenVidu names them. Viewers stay connected
//! in all of them, are told `interrupted` and never `offline`, and the encoder reports what they missed.

use std::time::Duration;

use crate::stage::{QUICK, Stage};

/// Both planes are lost for so many seconds, and it is on air again. Gives the session before and after.
async fn both_lost(seconds: u64, is_cut: bool) -> [String; 2] {
    let mut stage = Stage::on_air(QUICK).await;
    let before = stage.session();
    match is_cut {
        true => stage.relay.cut(),
        false => stage.relay.silence(),
    }
    stage.black_hole(seconds).await;
    stage.viewer.hears("interrupted").await;
    stage.message("reconnecting_broadcast");
    let outage = Duration::from_secs(seconds);
    tokio::time::sleep(outage.saturating_sub(stage.viewer.silent_for())).await;
    stage.relay.heal();
    stage.message("broadcasting");
    let gap = stage.gap();
    stage.viewer.hears("live").await;
    stage.viewer.sees(15).await;
    let seen = stage.viewer.seen();
    println!("both lost for {seconds} s: gap told {gap:.1} s, seen {:.1?}", seen.longest_gap);
    assert_eq!(stage.viewer.told(), ["live", "interrupted", "live"]);
    assert_eq!(seen.disconnects, 0, "the viewer was thrown out");
    assert!(seen.longest_gap >= Duration::from_secs(seconds - 1), "nothing was broken: {:?}", seen.longest_gap);
    assert!(gap >= (seconds - 1) as f64 && stage.told("Gap") == 1, "the viewers' gap: {gap}");
    [before, stage.session()]
}

/// 0 to 7 s: nobody but the viewers' freeze tells of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn five_seconds_without_anything_are_an_interruption_of_the_same_session() {
    let [before, after] = both_lost(5, true).await;
    assert_eq!(before, after);
}

/// 7 to 12 s: the session is taken up again; here the TCP connection stays half open, as when a modem loses its cell.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nine_seconds_without_anything_are_resumed() {
    let [before, after] = both_lost(9, false).await;
    assert_eq!(before, after);
}

/// More than 12 s: the session is gone, and a new one takes its place before viewers are told `offline` (20 s).
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thirteen_seconds_without_anything_are_a_new_session() {
    let [before, after] = both_lost(13, true).await;
    assert_ne!(before, after);
}

/// The network dies in two steps: first the WebSocket falls silent, and while the encoder tries to resume, which hangs,
/// media dies too. What was tried last must not cost the session: no other one is begun, and our own slot is not found
/// taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn media_that_dies_while_a_resume_hangs_does_not_cost_the_session() {
    let mut stage = Stage::on_air(QUICK).await;
    let before = stage.session();
    stage.relay.silence();
    stage.signalling("disconnected");
    stage.black_hole(7).await;
    stage.message("reconnecting_broadcast");
    // The next session is being opened.
    stage.message("signalling");
    stage.relay.heal();
    stage.message("broadcasting");
    println!("two steps: gap {:.1} s", stage.gap());
    stage.viewer.sees(15).await;
    assert_eq!(stage.session(), before);
    let errors = stage.encoder.events.iter().filter_map(|(_, event)| event["data"]["code"].as_str());
    assert!(!errors.clone().any(|code| code == "CONCURRENT_LIMIT"), "{:?}", errors.collect::<Vec<_>>());
    assert_eq!(stage.viewer.told(), ["live", "interrupted", "live"]);
}
