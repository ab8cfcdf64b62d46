//! The signalling connection to a real Janus breaks while media flows, inside and beyond the window in which Janus keeps
//! the session. What viewers get is what Janus has received and decrypted.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::janus::ROOM;
use crate::janus_rig::{QUICK, Rig, codes, session, wait_for_another};

/// Nobody has noticed: same session, same publisher, nothing lost, nothing told but the signalling plane.
fn assert_unnoticed(rig: &Rig, before: &(String, Vec<u64>)) {
    let messages = rig.encoder.messages();
    assert_eq!(messages, ["signalling", "connected", "broadcasting"], "the status flickered");
    assert_eq!((session(&rig.encoder), rig.janus.sessions()), *before);
    rig.assert_one_publisher();
    let (lost, came) = rig.viewers.lost();
    println!("{lost} of {came} packets lost");
    assert_eq!(lost, 0, "of {came} packets");
}

/// As an administrator of the room.
fn kick(rig: &Rig) {
    let id = rig.janus.publishers(ROOM)[0];
    let request = json!({ "request": "kick", "room": ROOM, "id": id });
    assert_eq!(rig.janus.room(request)["videoroom"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_of_3_12_and_16_seconds_lose_no_packet_and_no_session() {
    // The encoder asks again each second, so a cut of 16 s is inside 20 s from the last request on.
    let Some(mut rig) = Rig::on_air("session_timeout = 60\nreclaim_session_timeout = 20", QUICK).await else { return };
    let before = (session(&rig.encoder), rig.janus.sessions());
    for seconds in [3, 12, 16] {
        let cut = Instant::now();
        rig.cut_for(Duration::from_secs(seconds));
        let frames = rig.viewers.frames_since(cut);
        println!("cut for {seconds} s: back after {:?}, {frames} frames meanwhile", cut.elapsed());
        // 15 a second; a third of them is enough on a busy machine to show that they never ceased.
        assert!(frames >= usize::try_from(seconds).unwrap() * 5, "{frames} frames in {seconds} s");
    }
    rig.viewers.wait_for_frames(10, Instant::now());
    assert_unnoticed(&rig, &before);
    // Keepalives alone would do so far. That the session was claimed shows when Janus has something to say.
    kick(&rig);
    assert_eq!(rig.encoder.wait_for_exit(), 77);
    assert_eq!(codes(&rig.encoder).last(), Some(&"ADMIN_DISCONNECT"));
    assert_eq!(rig.janus.sessions(), [0_u64; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_goes_silent_is_found_by_ping_and_the_session_claimed_over_another() {
    let Some(mut rig) = Rig::on_air("session_timeout = 60\nreclaim_session_timeout = 60", QUICK).await else { return };
    let before = (session(&rig.encoder), rig.janus.sessions());
    let silent = Instant::now();
    rig.relay.silence();
    rig.signalling("disconnected");
    let found = silent.elapsed();
    println!("found after {found:?}");
    assert!(found < Duration::from_secs(20), "10 s, and what a busy machine adds: {found:?}");
    rig.relay.heal();
    rig.signalling("connected");
    rig.viewers.wait_for_frames(10, Instant::now());
    assert_unnoticed(&rig, &before);
    kick(&rig);
    assert_eq!(rig.encoder.wait_for_exit(), 77);
}

/// Beyond the window Janus ends the session with all its media, so nothing is left to feed the viewers: a new session as
/// soon as there is a connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_beyond_the_window_is_told_and_a_new_session_takes_over() {
    let Some(mut rig) = Rig::on_air("session_timeout = 60\nreclaim_session_timeout = 3", QUICK).await else { return };
    let before = session(&rig.encoder);
    rig.relay.cut();
    rig.signalling("disconnected");
    // Janus: 3 s from the last request on, and two rounds of its watchdog.
    let (_, told) = rig.encoder.wait_for_message("reconnecting_broadcast");
    assert_eq!(rig.janus.sessions(), [0_u64; 0]);
    assert_eq!(told["data"]["sessionId"], before.as_str());
    let healed = Instant::now();
    rig.relay.heal();
    let back = wait_for_another(&mut rig.encoder, &before);
    rig.viewers.wait_for_frames(10, Instant::now());
    rig.assert_one_publisher();
    assert_eq!(rig.janus.sessions().len(), 1, "the old session was not left behind");
    let gaps = rig.viewers.gaps();
    println!("viewers' gap {gaps:?}; on air {:?} after the heal", back - healed);
    assert_eq!((gaps.len(), rig.viewers.lost().0), (1, 0), "one change of streams, and within each nothing lost");
}

/// A Janus as it comes: `reclaim_session_timeout` is 0, and the session ends with its connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_janus_that_keeps_no_sessions_refuses_the_claim_and_gets_a_new_one_at_once() {
    let Some(mut rig) = Rig::on_air("session_timeout = 60", QUICK).await else { return };
    for _cut in 0..2 {
        let before = session(&rig.encoder);
        rig.relay.cut();
        rig.signalling("disconnected");
        rig.relay.heal();
        wait_for_another(&mut rig.encoder, &before);
        rig.viewers.wait_for_frames(10, Instant::now());
        rig.assert_one_publisher();
        assert_eq!(rig.janus.sessions().len(), 1);
    }
    let gaps = rig.viewers.gaps();
    println!("viewers' gaps {gaps:?}");
    assert_eq!((gaps.len(), rig.viewers.lost().0), (2, 0));
    let longest = gaps.into_iter().max().unwrap();
    assert!(longest < Duration::from_secs(10), "{longest:?}");
}
