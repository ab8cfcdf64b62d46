//! On air through a real TURN server (coturn) alone: over UDP, TCP and TLS, and when it says no, or dies.

use std::time::Instant;

use serde_json::Value;

use crate::coturn::{Coturn, TURN_USER};
use crate::place::Place;
use crate::program::{Program, free_port};
use crate::secrets_kept::TURN_PASSWORD;

fn ingest() -> (Program, u16) {
    let port = free_port();
    let mut ingest = Program::with(&["ingest", "--listen", &format!("127.0.0.1:{port}")]);
    ingest.wait_for_line("watch at");
    (ingest, port)
}

fn coturn() -> Option<Coturn> {
    Coturn::start(&Place::loopback())
}

/// Relays only, through these servers; `more` belongs to `[uplink]`.
fn encoder(port: u16, urls: &[String], credential: (&str, &str), more: &str) -> Program {
    let (username, password) = credential;
    let config = format!(
        "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n\
         [reconnect]\nminDelay = \"200ms\"\nmaxDelay = \"500ms\"\nmaxRetries = \"unlimited\"\n\
         [uplink]\nurl = \"http://127.0.0.1:{port}/whip/live\"\niceTransport = \"relay\"\n{more}\
         iceServers = [{{ urls = {urls:?}, username = \"{username}\", credential = \"{password}\" }}]\n"
    );
    // Standard error has a filter of its own.
    Program::encoder_with(&config, |command| {
        command.env("ROAMCAST_LOG", "trace");
    })
}

const GOOD: (&str, &str) = (TURN_USER, TURN_PASSWORD);

/// Media that was acknowledged went through the TURN server, in channels; and the password stayed where it belongs.
fn on_air_through(coturn: &mut Coturn, encoder: &mut Program) {
    encoder.wait_for_message("broadcasting");
    coturn.wait_for_line("CHANNEL_BIND processed, success");
    let logs = encoder.everything();
    assert!(logs.contains("TRACE"), "the log is not loud");
    assert!(!logs.contains(TURN_PASSWORD), "the TURN password is in a log");
    encoder.wait_for("figures", |event| event["event"] == "Stats" && event["data"]["frames"].as_u64() > Some(30));
    assert!(!encoder.messages().contains(&"reconnecting_broadcast".to_owned()), "{:?}", encoder.messages());
}

#[test]
fn on_air_through_a_relay_over_udp_and_the_lease_is_given_back() {
    let Some(mut coturn) = coturn() else { return };
    let (_ingest, port) = ingest();
    let mut encoder = encoder(port, &[coturn.url()], GOOD, "");
    on_air_through(&mut coturn, &mut encoder);
    encoder.signal("TERM");
    assert_eq!(encoder.wait_for_exit(), 0);
    coturn.wait_for_line("refreshed, realm=<roamcast.test>, username=<van>, lifetime=0");
}

#[test]
fn on_air_through_a_relay_over_tcp() {
    let Some(mut coturn) = coturn() else { return };
    let (_ingest, port) = ingest();
    let url = coturn.tcp_url();
    let mut encoder = encoder(port, &[url], GOOD, "");
    coturn.wait_for_line("TCP");
    on_air_through(&mut coturn, &mut encoder);
}

#[test]
fn on_air_through_a_relay_over_tls_with_a_private_certificate() {
    let Some(mut coturn) = coturn() else { return };
    let (_ingest, port) = ingest();
    let (url, ca) = (coturn.tls_url("localhost"), format!("caFile = \"{}\"\n", coturn.ca_file()));
    let mut distrustful = encoder(port, std::slice::from_ref(&url), GOOD, "");
    distrustful.wait_for("an error", |event| event["event"] == "BroadcastError");
    assert!(distrustful.log().contains("signed by nobody we trust"), "{}", distrustful.log());
    drop(distrustful);
    // The pinned host is that of `uplink.url`, and here it speaks no TLS at all.
    let fingerprint = format!("fingerprint = \"{}\"\n", coturn.fingerprint());
    for trust in [ca, fingerprint] {
        let mut encoder = encoder(port, std::slice::from_ref(&url), GOOD, &trust);
        coturn.wait_for_line("TLS");
        on_air_through(&mut coturn, &mut encoder);
    }
}

#[test]
fn time_limited_credentials_are_taken_and_old_ones_are_told_from_wrong_ones() {
    // What any REST service makes of the secret: base64(HMAC-SHA1(secret, user name)); 2038 (coturn reads no more) and 2001.
    let secret = "use-auth-secret\nstatic-auth-secret=s3cret-of-the-relay\n";
    let Some(mut coturn) = Coturn::start_with(&Place::loopback(), secret) else { return };
    let (_ingest, port) = ingest();
    let url = coturn.url();
    let mut good = encoder(port, std::slice::from_ref(&url), ("2147483647:van", REST_PASSWORD), "");
    good.wait_for_message("broadcasting");
    coturn.wait_for_line("CHANNEL_BIND processed, success");
    good.signal("TERM");
    assert_eq!(good.wait_for_exit(), 0);
    let mut old = encoder(port, &[url], ("1000000000:van", REST_PASSWORD), "");
    let (_, error) = old.wait_for("an error", |event| event["event"] == "BroadcastError");
    let words = error["data"]["words"].as_str().unwrap();
    assert!(words.contains("their time is over"), "{words}");
}

/// For `2147483647:van`.
const REST_PASSWORD: &str = "TE6xJc2m8/FlOmyZOHw0xb+2hxw=";

#[test]
fn a_wrong_turn_password_is_one_clear_sentence() {
    let Some(coturn) = coturn() else { return };
    let (_ingest, port) = ingest();
    let url = coturn.url();
    let mut encoder = encoder(port, std::slice::from_ref(&url), (TURN_USER, "wrong-turn-passw0rd"), "");
    let (_, error) = encoder.wait_for("an error", |event| event["event"] == "BroadcastError");
    let words = error["data"]["words"].as_str().unwrap();
    let wanted =
        format!("no path between us and the server: the TURN server `{url}` refuses our user name or password (401)");
    assert_eq!(words, wanted);
    assert_eq!(error["data"]["code"], "ICE_CONNECTION_FAILED");
}

/// Two nodes; the first dies in this way. The broadcast goes on by the second, in the same session.
fn a_node_dies(die: impl FnOnce(&mut Coturn)) {
    let (Some(mut first), Some(mut second)) = (coturn(), coturn()) else { return };
    let (_ingest, port) = ingest();
    let urls = [&first, &second].map(|node| node.url());
    let mut encoder = encoder(port, &urls, GOOD, "");
    on_air_through(&mut first, &mut encoder);
    die(&mut first);
    second.wait_for_line("CHANNEL_BIND processed, success");
    // What was acknowledged by then came by the first node.
    acknowledged_anew(&mut encoder);
    let sessions = encoder.messages().iter().filter(|message| *message == "signalling").count();
    assert_eq!(sessions, 1, "{:?}", encoder.messages());
}

/// Waits until the far end has acknowledged media that left from now on.
pub(crate) fn acknowledged_anew(encoder: &mut Program) {
    let taken_over = Instant::now();
    let round_trip = |event: &Value| event["data"]["rttMs"].as_f64();
    let (mut at, mut event) = encoder.wait_for("figures", |event| round_trip(event).is_some());
    let mut old = round_trip(&event);
    while at < taken_over || round_trip(&event) == old {
        if at < taken_over {
            old = round_trip(&event);
        }
        (at, event) = encoder.wait_for("fresh figures", |event| round_trip(event).is_some());
    }
}

#[test]
fn a_turn_node_is_killed_and_the_other_takes_over_in_the_same_session() {
    a_node_dies(Coturn::kill);
}

#[test]
fn a_turn_node_falls_silent_and_the_other_takes_over_in_the_same_session() {
    a_node_dies(|node| node.signal("STOP"));
}
