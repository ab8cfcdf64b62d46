//! A minute without the server, and a minute without the encoder, with the defaults of `stuckAfter` and for real. Side by
//! side, since it is waiting.

use std::time::Duration;

use serde_json::Value;
use tokio::task::block_in_place;

use crate::stage::{QUICK, Stage, ingest};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_minute_without_the_server_and_a_minute_of_suspend_are_survived() {
    let mut all = tokio::task::JoinSet::new();
    all.spawn(long_drop());
    all.spawn(suspend_and_resume());
    all.spawn(short_suspend());
    all.join_all().await;
}

/// Long drop: one stuck notice after 30 s, then a clean recovery.
async fn long_drop() {
    let mut stage = Stage::on_air(QUICK).await;
    let (port, session) = (stage.port, stage.session());
    block_in_place(|| stage.ingest.kill());
    let lost = stage.message("reconnecting_broadcast");
    tokio::time::sleep(MINUTE).await;
    let (stuck, notice) =
        block_in_place(|| stage.encoder.wait_for("stuck notice", |event| event["event"] == "ReconnectStuck"));
    assert!(stuck - lost >= Duration::from_secs(29) && stuck - lost < Duration::from_secs(45), "{:?}", stuck - lost);
    assert!(notice["data"]["since"].as_f64().unwrap() >= 30.0, "{notice}");
    let back = std::time::Instant::now();
    stage.ingest = block_in_place(|| ingest(port));
    let on_air = stage.message("broadcasting");
    let gap = stage.gap();
    println!("long drop: on air {:.1?} after the server, gap told {gap:.1} s", on_air.saturating_duration_since(back));
    assert!(gap >= 60.0, "{gap}");
    assert_ne!(stage.session(), session, "the new server cannot know it");
    assert_eq!((stage.told("ReconnectStuck"), stage.told("Gap"), stage.told("BroadcastStopped")), (1, 1, 0));
    let news = stage.encoder.events.iter().filter(|(at, event)| *at > on_air && event["event"] == "BroadcastStatus");
    assert_eq!(news.count(), 0, "the recovery is clean");
}

/// The process is suspended (SIGSTOP) and goes on (SIGCONT): back in the same broadcast by itself.
async fn suspend_and_resume() {
    let mut stage = Stage::on_air(QUICK).await;
    stage.encoder.signal("STOP");
    stage.viewer.hears("interrupted").await;
    tokio::time::sleep(MINUTE).await;
    stage.viewer.hears("offline").await;
    stage.encoder.signal("CONT");
    let back = std::time::Instant::now();
    stage.viewer.hears("live").await;
    println!("suspend: viewers see it {:.1?} after it goes on", back.elapsed());
    stage.viewer.sees(15).await;
    let gap = stage.gap();
    println!("suspend: gap told {gap:.1} s");
    assert!(gap >= 60.0, "{gap}");
    let on_air = |event: &Value| crate::program::is_message(event, "broadcasting");
    let newest = stage.encoder.events.iter().rev().find(|(_, event)| event["event"] == "BroadcastStatus");
    assert!(newest.is_some_and(|(_, event)| on_air(event)), "{:?}", stage.encoder.messages());
    assert_eq!(stage.viewer.told(), ["live", "interrupted", "offline", "live"]);
    assert_eq!(stage.viewer.seen().disconnects, 0, "the viewer was thrown out");
}

/// A suspend that the connection survives: no outage to the encoder, which slept, and the viewers' gap is told all the same.
async fn short_suspend() {
    let mut stage = Stage::on_air(QUICK).await;
    let session = stage.session();
    stage.encoder.signal("STOP");
    stage.viewer.hears("interrupted").await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    stage.encoder.signal("CONT");
    stage.viewer.hears("live").await;
    let gap = stage.gap();
    println!("short suspend: gap told {gap:.1} s");
    assert!(gap >= 6.0, "{gap}");
    stage.viewer.sees(15).await;
    assert_eq!(stage.session(), session);
    assert_eq!(stage.viewer.told(), ["live", "interrupted", "live"]);
}
