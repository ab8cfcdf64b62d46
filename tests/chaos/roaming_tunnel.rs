//! Every path is silent for longer than the session lives: whose outage is it, and what does the next session wait for?

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ingest::RemoteIngest;
use crate::netlab::{Families, Link, Netlab, Shape};
use crate::program::{Program, is_message};
use crate::roaming_rig::link;

/// The ingest has forgotten the session by then (12 s), and our backoff has grown.
const TUNNEL: Duration = Duration::from_secs(25);
const MODEM: &str = "wwan0";

/// On air by one uplink, and for long enough to know who answers otherwise (in this lab: the gateway).
fn on_air() -> Option<(Program, RemoteIngest, Netlab)> {
    let lab = Netlab::builder().uplink_of(MODEM, link(), Families::V4).build()?;
    let ingest = RemoteIngest::start(lab.server());
    let config = format!(
        "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n[reconnect]\nmaxRetries = 2\n[uplink]\n{}",
        ingest.uplink()
    );
    let mut encoder = Program::encoder_with(&config, |command| *command = lab.encoder().wrap(command));
    encoder.wait_for_message("broadcasting");
    for _second in 0..5 {
        encoder.wait_for("Stats", |event| event["event"] == "Stats");
    }
    Some((encoder, ingest, lab))
}

/// What its statuses said it waited for, from `first` on.
fn waits(encoder: &Program, first: usize) -> Vec<Value> {
    let events = encoder.events.iter().skip(first).map(|(_, event)| event);
    let waits = events.filter(|event| event["event"] == "BroadcastStatus").map(|event| &event["data"]["waitingFor"]);
    waits.filter(|what| !what.is_null()).cloned().collect()
}

/// The link is dead up to the gateway, which alone is known: it is our outage.
#[test]
fn tunnel_of_25_seconds_ends_with_a_session_and_not_with_a_wait() {
    let Some((mut encoder, _ingest, lab)) = on_air() else { return };
    let (began, first) = (Instant::now(), encoder.events.len());
    lab.shape(MODEM, Link::symmetric(Shape { loss: 1.0, ..Shape::default() }));
    encoder.wait_for("that nothing answers", |event| event["data"]["waitingFor"] == "connectivity");
    std::thread::sleep(TUNNEL.saturating_sub(began.elapsed()));
    encoder.catch_up();
    assert!(waits(&encoder, first).iter().all(|what| what == "connectivity"), "{:?}", waits(&encoder, first));
    let healed = encoder.events.len();
    lab.shape(MODEM, link());
    let (_, status) = encoder.wait_for("a picture that arrives", |event| is_message(event, "broadcasting"));
    assert_eq!(waits(&encoder, healed), [0_u8; 0], "it was tried because something answered");
    // `maxRetries` is 2: what was tried in the tunnel has cost nothing.
    assert_eq!(status["data"]["attempt"], 0);
    println!("FIGURE tunnel_of_25_seconds: on air {} ms after the heal", (began.elapsed() - TUNNEL).as_millis());
}

/// The gateway answers, and nothing beyond it is known but the server: it may be the server's outage.
#[test]
fn a_server_that_is_silent_behind_a_gateway_that_answers_is_waited_for_by_our_backoff() {
    let Some((mut encoder, _ingest, lab)) = on_air() else { return };
    let first = encoder.events.len();
    lab.silent_drop(MODEM);
    encoder.wait_for("a wait", |event| event["event"] == "BroadcastStatus" && event["data"]["waitingFor"].is_string());
    lab.heal(MODEM);
    encoder.wait_for_message("broadcasting");
    assert!(waits(&encoder, first).iter().all(|what| what == "backoff"), "{:?}", waits(&encoder, first));
}
