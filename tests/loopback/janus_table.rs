//! The classic reconnect tests against a real Janus, as far as it can make the fault.
//!
//! | row | how it is made here |
//! |---|---|
//! | brief drop, 5 s | a relay resets the WebSocket |
//! | long drop, 60 s | Janus is killed and started again a minute later |
//! | server-initiated close (4020) | Janus has no close codes: `kick`, and what its administrator can take down |
//! | token expiry | tokens signed for 3 s (`token_auth_secret`) |
//! | token revocation (4001) | stored tokens (`remove_token`): the next request, a keepalive, is answered with 403 |
//! | concurrent cap (4010) | a room for one publisher: error 432 |
//! | suspend and resume, 60 s | SIGSTOP and SIGCONT |
//! | server deploy with `goingAway` | not made: Janus has no message for it and gives no hint how long it will be away. |
//!
//! What a Janus does that is just restarted is in `janus_restarts.rs`; the row itself is in `reconnect_table.rs`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::forward::Forward;
use crate::janus::{Janus, ROOM};
use crate::janus_rig::{QUICK, Rig, codes, config, session, signalling, wait_for_another};
use crate::program::{PATIENCE, Program, is_message};
use crate::relay::Relay;

const ON_AIR: [&str; 3] = ["signalling", "connected", "broadcasting"];
/// As long as the table says.
const LONG: Duration = Duration::from_secs(60);
/// Less than the 30 s after which ICE must cease to send.
const BRIEF_SUSPEND: Duration = Duration::from_secs(20);
/// A room for one publisher.
const ONE_SLOT: u64 = 77;

/// On air at this Janus.
fn on_air(janus: &Janus, room: u64, more: &str) -> Program {
    let mut encoder = Program::encoder(&config(janus.url().as_str(), room, more));
    encoder.wait_for_message("broadcasting");
    encoder
}

/// The session that is on air is the one publisher, in the one session that Janus has.
fn assert_alone(janus: &Janus, encoder: &Program, room: u64) {
    let live: Vec<String> = janus.publishers(room).iter().map(|id| format!("{room}/{id}")).collect();
    assert_eq!((live, janus.sessions().len()), (vec![session(encoder)], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn brief_drop_of_five_seconds_is_no_outage() {
    let Some(mut rig) = Rig::on_air("session_timeout = 60\nreclaim_session_timeout = 60", "").await else { return };
    let before = (session(&rig.encoder), rig.janus.sessions());
    rig.cut_for(Duration::from_secs(5));
    rig.viewers.wait_for_frames(10, Instant::now());
    assert_eq!(rig.encoder.messages(), ON_AIR, "the status flickered");
    assert_eq!((session(&rig.encoder), rig.janus.sessions()), before);
    rig.assert_one_publisher();
    assert_eq!(rig.viewers.lost().0, 0);
}

/// The rows that take a minute, at the same time, each with a Janus of its own.
#[test]
fn a_minute_long_drop_a_suspended_process_and_a_taken_slot() {
    std::thread::scope(|scope| {
        scope.spawn(long_drop);
        scope.spawn(suspended_beyond_the_session);
        scope.spawn(suspended_while_the_session_is_kept);
        scope.spawn(suspended_briefly);
        scope.spawn(slot_busy);
    });
}

fn long_drop() {
    let Some(mut janus) = Janus::start() else { return };
    let mut encoder = on_air(&janus, ROOM, "[reconnect]\nmaxRetries = \"unlimited\"\n");
    let before = session(&encoder);
    let killed = Instant::now();
    janus.kill();
    let (_, stuck) = encoder.wait_for("stuck notice", |event| event["event"] == "ReconnectStuck");
    assert!(stuck["data"]["since"].as_f64().unwrap() >= 30.0, "{stuck}");
    std::thread::sleep(LONG.saturating_sub(killed.elapsed()));
    janus.restart();
    let up = Instant::now();
    let back = wait_for_another(&mut encoder, &before);
    println!("long drop: on air {:?} after Janus was up", back - up);
    let notices = encoder.events.iter().filter(|(_, event)| event["event"] == "ReconnectStuck");
    assert_eq!(notices.count(), 1);
    assert!(encoder.messages().ends_with(&ON_AIR.map(str::to_owned)), "{:?}", encoder.messages());
    assert_alone(&janus, &encoder, ROOM);
}

fn suspended_beyond_the_session() {
    let Some(janus) = Janus::start_with("session_timeout = 20\nreclaim_session_timeout = 20") else { return };
    let mut encoder = on_air(&janus, ROOM, QUICK);
    let before = session(&encoder);
    encoder.signal("STOP");
    std::thread::sleep(LONG);
    assert_eq!(janus.sessions(), [0_u64; 0]);
    let resumed = Instant::now();
    encoder.signal("CONT");
    let back = wait_for_another(&mut encoder, &before);
    println!("suspended beyond the session: on air {:?} after SIGCONT", back - resumed);
    // Both planes are gone; whichever is seen first is told.
    let told = codes(&encoder);
    assert!(matches!(told[..], ["NETWORK_DISCONNECT" | "ICE_CONNECTION_DISCONNECTED"]), "{told:?}");
    assert_alone(&janus, &encoder, ROOM);
}

/// Janus has the session still, and our own agent does not hold our own silence against the path: the same session goes on.
fn suspended_while_the_session_is_kept() {
    let Some(janus) = Janus::start_with("session_timeout = 120\nreclaim_session_timeout = 120") else { return };
    let viewers = Forward::of(janus.overseer.clone(), ROOM);
    let encoder = on_air(&janus, ROOM, QUICK);
    let before = session(&encoder);
    encoder.signal("STOP");
    std::thread::sleep(LONG);
    assert_eq!(janus.publishers(ROOM).len(), 1);
    let resumed = Instant::now();
    encoder.signal("CONT");
    viewers.wait_for_frames(10, resumed);
    println!("suspended while the session is kept: ten frames {:?} after SIGCONT", resumed.elapsed());
    assert_eq!((session(&encoder), encoder.messages()), (before, ON_AIR.map(str::to_owned).to_vec()));
    assert_alone(&janus, &encoder, ROOM);
}

/// Shorter than any limit of the far end: our own silence is not held against it.
fn suspended_briefly() {
    let Some(janus) = Janus::start() else { return };
    let viewers = Forward::of(janus.overseer.clone(), ROOM);
    let mut encoder = on_air(&janus, ROOM, QUICK);
    viewers.wait_for_frames(10, Instant::now());
    encoder.signal("STOP");
    std::thread::sleep(BRIEF_SUSPEND);
    let resumed = Instant::now();
    encoder.signal("CONT");
    viewers.wait_for_frames(10, resumed);
    println!("suspended briefly: ten frames {:?} after SIGCONT", resumed.elapsed());
    // Longer than the far end may be silent. (The camera's late frames come in one burst, so that time is counted.)
    viewers.wait_for_frames(10, resumed + Duration::from_secs(8));
    encoder.signal("TERM");
    assert_eq!(encoder.wait_for_exit(), 0);
    assert_eq!(encoder.messages(), ON_AIR);
    assert_eq!(codes(&encoder), [""; 0]);
    assert_eq!((viewers.gaps(), viewers.lost().0), (Vec::new(), 0), "another session, or holes in this one");
}

fn make_room_for_one(janus: &Janus) {
    let room = json!({ "request": "create", "room": ONE_SLOT, "publishers": 1, "videocodec": "h264" });
    assert_eq!(janus.room(room)["videoroom"], "created");
}

/// Waits for this code, and gives its moment.
fn wait_for_code(encoder: &mut Program, code: &str) -> Instant {
    let is_it = |event: &Value| event["event"] == "BroadcastError" && event["data"]["code"] == code;
    encoder.wait_for(code, is_it).0
}

fn slot_busy() {
    let Some(janus) = Janus::start() else { return };
    make_room_for_one(&janus);
    let mut first = on_air(&janus, ONE_SLOT, QUICK);
    let mut second = Program::encoder(&config(janus.url().as_str(), ONE_SLOT, QUICK));
    let refused = wait_for_code(&mut second, "CONCURRENT_LIMIT");
    // Free from now on; who was refused does not know, and is not to ask all the time.
    first.signal("TERM");
    assert_eq!(first.wait_for_exit(), 0);
    let is_next = |event: &Value| is_message(event, "signalling") && event["data"]["attempt"] == 1;
    let (tried, _) = second.wait_for("the next try", is_next);
    assert!(tried - refused >= Duration::from_secs(30), "tried again after {:?}", tried - refused);
    second.wait_for_message("broadcasting");
    assert_alone(&janus, &second, ONE_SLOT);
}

/// After a kill -9 the slot is taken by nobody but our own ghost: that is ended first, and half a minute off air spared.
#[test]
fn our_own_ghost_does_not_keep_us_out_of_a_room_for_one() {
    let Some(janus) = Janus::start() else { return };
    make_room_for_one(&janus);
    let state = tempfile::tempdir().unwrap();
    let start = || {
        Program::encoder_with(&config(janus.url().as_str(), ONE_SLOT, QUICK), |command| {
            command.env("STATE_DIRECTORY", state.path());
        })
    };
    let mut encoder = start();
    encoder.wait_for_message("broadcasting");
    for _kill in 0..5 {
        // The file follows a moment later.
        encoder.wait_for("Stats", |event| event["event"] == "Stats");
        encoder.kill();
        assert_eq!(janus.publishers(ONE_SLOT).len(), 1, "the ghost holds the slot");
        let started = Instant::now();
        encoder = start();
        encoder.wait_for_message("broadcasting");
        let (waited, told) = (started.elapsed(), codes(&encoder));
        println!("on air {waited:?} after the start; {told:?}");
        assert_eq!(told, [""; 0]);
        assert!(waited < Duration::from_secs(30), "it has waited for the slot: {waited:?}");
        assert_alone(&janus, &encoder, ONE_SLOT);
    }
}

/// The same, and the ghost is buried only when the publish has been refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_ghost_that_holds_the_room_for_longer_costs_not_even_one_refusal() {
    let Some(janus) = Janus::start() else { return };
    make_room_for_one(&janus);
    let state = tempfile::tempdir().unwrap();
    let (to_ghost, to_room) = (Relay::to_address(janus.address).await, Relay::to_address(janus.address).await);
    let url = |relay: &Relay| format!("ws://{}:{}/", janus.address.ip(), relay.port);
    let start = |url: &str, more: &str| {
        Program::encoder_with(&config(url, ONE_SLOT, &format!("{more}{QUICK}")), |command| {
            command.env("STATE_DIRECTORY", state.path());
        })
    };
    let mut killed = start(&url(&to_ghost), "");
    killed.wait_for("Stats", |event| event["event"] == "Stats");
    killed.kill();
    to_ghost.silence();
    let mut encoder = start(&url(&to_room), &format!("fallbackUrls = [\"{}\"]\n", url(&to_ghost)));
    let deadline = Instant::now() + PATIENCE;
    while !to_room.texts().iter().any(|text| text.contains("Maximum number of publishers")) {
        assert!(Instant::now() < deadline, "not refused: {:#?}", to_room.texts());
        tokio::task::yield_now().await; // Another process is refused.
    }
    to_ghost.heal();
    encoder.wait_for_message("broadcasting");
    assert_eq!((codes(&encoder), encoder.messages()), (Vec::new(), ON_AIR.map(str::to_owned).to_vec()));
    assert_alone(&janus, &encoder, ONE_SLOT);
}

#[test]
fn what_an_administrator_takes_down_comes_back_and_who_is_kicked_stays_out() {
    let Some(janus) = Janus::start() else { return };
    let viewers = Forward::of(janus.overseer.clone(), ROOM);
    let mut encoder = on_air(&janus, ROOM, QUICK);
    for (how, expected) in [
        ("hangup_webrtc", &["ICE_CONNECTION_DISCONNECTED"][..]),
        // Janus closes the media, and says so, before it tells of the handle.
        ("detach_handle", &["NETWORK_DISCONNECT"]),
        // Not told: the next keepalive is refused, or the silence of the far end is noticed before that.
        ("destroy_session", &["NETWORK_DISCONNECT", "MEDIA_STALLED"]),
    ] {
        let (before, told) = (session(&encoder), codes(&encoder).len());
        let handle = janus.handles()[0].clone();
        let mut request = json!({ "janus": how, "session_id": handle["session_id"] });
        if how != "destroy_session" {
            request["handle_id"] = handle["handle_id"].clone();
        }
        let begin = Instant::now();
        assert_eq!(janus.admin(request)["janus"], "success", "{how}");
        let back = wait_for_another(&mut encoder, &before);
        println!("{how}: on air again after {:?}", back - begin);
        let codes = &codes(&encoder)[told..];
        assert!(codes.len() == 1 && expected.contains(&codes[0]), "{how}: {codes:?}");
        assert_alone(&janus, &encoder, ROOM);
    }
    assert_eq!(viewers.most_publishers().0, 1);
    let id = janus.publishers(ROOM)[0];
    assert_eq!(janus.room(json!({ "request": "kick", "room": ROOM, "id": id }))["videoroom"], "success");
    let messages = encoder.messages();
    assert_eq!(encoder.wait_for_exit(), 77);
    assert_eq!(codes(&encoder).last(), Some(&"ADMIN_DISCONNECT"));
    assert_eq!(encoder.messages(), messages, "it was tried again");
    assert_eq!(janus.sessions(), [0_u64; 0]);
}

/// A Janus that speaks TLS, and the `[uplink]` lines to trust it.
fn secure(general: &str, files: &tempfile::TempDir) -> Option<(Janus, String)> {
    let name = crate::place::Place::here().address().to_string();
    let made = rcgen::generate_simple_self_signed(vec![name]).unwrap();
    let file = files.path().join("ca.pem");
    std::fs::write(&file, made.cert.pem()).unwrap();
    let janus = Janus::start_secure(general, &made.cert.pem(), &made.signing_key.serialize_pem())?;
    Some((janus, format!("caFile = '{}'\n", file.display())))
}

#[test]
fn a_revoked_token_is_noticed_at_the_next_request_and_replaced_or_final() {
    let files = tempfile::tempdir().unwrap();
    let Some((janus, trust)) = secure("session_timeout = 60\nreclaim_session_timeout = 60\ntoken_auth = true", &files)
    else {
        return;
    };
    let token = files.path().join("token");
    let stored = |verb: &str, token: &str| {
        assert_eq!(janus.admin(json!({ "janus": verb, "token": token }))["janus"], "success");
    };
    stored("add_token", "first-token");
    std::fs::write(&token, "first-token").unwrap();
    let viewers = Forward::of(janus.overseer.clone(), ROOM);
    let mut encoder = on_air(&janus, ROOM, &format!("{trust}tokenFile = '{}'\n{QUICK}", token.display()));
    viewers.wait_for_frames(10, Instant::now());
    let before = (session(&encoder), janus.sessions());

    // There is another one: the same session goes on.
    stored("add_token", "second-token");
    std::fs::write(&token, "second-token").unwrap();
    let revoked = Instant::now();
    stored("remove_token", "first-token");
    wait_for_code(&mut encoder, "INVALID_TOKEN");
    signalling(&mut encoder, "connected");
    println!("replaced {:?} after it was revoked", revoked.elapsed());
    viewers.wait_for_frames(10, Instant::now());
    assert_eq!(encoder.messages(), ON_AIR, "the status flickered");
    assert_eq!((session(&encoder), janus.sessions(), viewers.lost().0), (before.0, before.1, 0));

    // There is no other one.
    stored("remove_token", "second-token");
    assert_eq!(encoder.wait_for_exit(), 77);
    let told = ["INVALID_TOKEN", "INVALID_TOKEN", "TOKEN_PROVIDER_FAILED", "INVALID_TOKEN"];
    assert_eq!(codes(&encoder), told, "asked for another once, given the same, then final");
    assert_eq!(encoder.messages(), ON_AIR, "it was tried again");
    assert!(!format!("{}{:?}", encoder.log(), encoder.events).contains("-token"), "a token is shown");
}

/// Each token is good for 3 s, so the one of every connection has expired when the next keepalive is due.
#[test]
fn expired_tokens_are_replaced_again_and_again_while_media_goes_on() {
    let files = tempfile::tempdir().unwrap();
    let general =
        "session_timeout = 60\nreclaim_session_timeout = 60\ntoken_auth = true\ntoken_auth_secret = \"s3cret\"";
    let Some((janus, trust)) = secure(general, &files) else { return };
    let command = "t=$(($(date +%s)+3)),janus,janus.plugin.videoroom; \
        echo $t:$(printf %s $t | openssl dgst -sha1 -hmac s3cret -binary | base64)";
    let viewers = Forward::of(janus.overseer.clone(), ROOM);
    let mut encoder = on_air(&janus, ROOM, &format!("{trust}tokenCommand = '{command}'\n{QUICK}"));
    viewers.wait_for_frames(10, Instant::now());
    let before = (session(&encoder), janus.sessions());
    for _expiry in 0..3 {
        wait_for_code(&mut encoder, "INVALID_TOKEN");
        signalling(&mut encoder, "connected");
    }
    viewers.wait_for_frames(10, Instant::now());
    assert_eq!(encoder.messages(), ON_AIR, "the status flickered");
    assert_eq!((session(&encoder), janus.sessions(), viewers.lost().0), (before.0, before.1, 0));
    assert!(!format!("{}{:?}", encoder.log(), encoder.events).contains("janus.plugin"), "a token is shown");
}
