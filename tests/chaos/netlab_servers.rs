//! Real servers in the lab: coturn and Janus.

use std::net::SocketAddr;
use std::process::Output;

use serde_json::json;

use crate::coturn::{Coturn, TURN_USER};
use crate::janus::{Janus, ROOM};
use crate::netlab::{Link, Netlab, SERVER_6};
use crate::secrets_kept::TURN_PASSWORD;

fn lab() -> Option<Netlab> {
    Netlab::builder().uplink("wlan0", Link::default()).build()
}

/// Seconds for what will not come.
const IN_VAIN: &str = "5";
/// Seconds for what will.
const LONG: &str = "60";

/// Two clients of coturn's own tools in the encoder, which send each other five messages through two allocations.
fn through_turn(lab: &Netlab, turn: SocketAddr, password: &str, seconds: &str, more: &[&str]) -> Output {
    let mut command = lab.encoder().command("timeout");
    // -c: no RTCP beside; -y: client to client.
    command.args([seconds, "turnutils_uclient", "-c", "-y", "-n", "5", "-m", "1", "-u", TURN_USER, "-w", password]);
    command.args(more).args(["-p", &turn.port().to_string(), &turn.ip().to_string()]);
    command.output().unwrap()
}

/// Nothing was lost on the way.
fn is_complete(output: &Output) -> bool {
    let said = String::from_utf8_lossy(&output.stdout);
    output.status.success() && said.contains("Total lost packets 0 (0.000000%)")
}

#[test]
fn a_real_turn_server_relays_for_those_who_know_the_password() {
    let Some(lab) = lab() else { return };
    let Some(mut coturn) = Coturn::start(lab.server()) else { return };
    let turn = coturn.address();
    let said = through_turn(&lab, turn, TURN_PASSWORD, LONG, &[]);
    assert!(is_complete(&said), "{said:?}\n{}", coturn.log());
    let said = through_turn(&lab, (SERVER_6, turn.port()).into(), TURN_PASSWORD, LONG, &[]);
    assert!(is_complete(&said), "IPv6: {said:?}\n{}", coturn.log());
    let said = through_turn(&lab, turn, "wrong", IN_VAIN, &[]);
    assert!(!is_complete(&said), "{said:?}");
    assert!(coturn.log().contains("401: Unauthorized"), "{}", coturn.log());
}

#[test]
fn turn_over_tcp_passes_where_udp_is_blocked() {
    let Some(lab) = lab() else { return };
    let Some(mut coturn) = Coturn::start(lab.server()) else { return };
    lab.block_udp("wlan0");
    assert!(!is_complete(&through_turn(&lab, coturn.address(), TURN_PASSWORD, IN_VAIN, &[])));
    let said = through_turn(&lab, coturn.address(), TURN_PASSWORD, LONG, &["-t"]);
    assert!(is_complete(&said), "{said:?}\n{}", coturn.log());
}

#[test]
fn a_turn_server_dies_and_is_started_again() {
    let Some(lab) = lab() else { return };
    let Some(mut coturn) = Coturn::start(lab.server()) else { return };
    coturn.kill();
    assert!(!is_complete(&through_turn(&lab, coturn.address(), TURN_PASSWORD, IN_VAIN, &["-t"])));
    coturn.restart();
    let said = through_turn(&lab, coturn.address(), TURN_PASSWORD, LONG, &[]);
    assert!(is_complete(&said), "{said:?}\n{}", coturn.log());
}

#[test]
fn a_real_janus_serves_the_encoder_by_both_address_families() {
    let Some(lab) = lab() else { return };
    let Some(mut janus) = Janus::start_at(lab.server(), "session_timeout = 60") else { return };
    let port = janus.address.port();
    for address in lab.server().addresses().to_vec() {
        let connected = lab.in_encoder(|| std::net::TcpStream::connect((address, port)));
        connected.unwrap_or_else(|error| panic!("{address}: {error}"));
    }
    let exists = json!({ "request": "exists", "room": ROOM });
    assert_eq!(janus.room(exists.clone())["exists"], true);
    janus.restart();
    assert_eq!(janus.room(exists)["exists"], true);
}
