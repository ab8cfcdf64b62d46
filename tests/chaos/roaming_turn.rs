//! Networks that let no media out by themselves: the detour over real TURN servers (coturn) in the lab.

use std::time::Duration;

use crate::coturn::{Coturn, TURN_USER};
use crate::netlab::{Families, Netlab, SERVER_6};
use crate::roaming_rig::{Kind, Lines, Van, WIFI_FIRST, at_both, link, two_uplinks};
use crate::secrets_kept::TURN_PASSWORD;

at_both! {
    turn_relay_when_udp_is_blocked,
    turn_node_dies,
}

/// A lease is known to be gone after 2.6 s of silence, and the next needs four round trips.
const MOST: Duration = Duration::from_secs(10);

/// Lines of the section `uplink`.
fn servers(urls: &[String]) -> String {
    format!("iceServers = [{{ urls = {urls:?}, username = \"{TURN_USER}\", credential = \"{TURN_PASSWORD}\" }}]\n")
}

/// All UDP, on every uplink.
fn block_udp(lab: &Netlab) {
    ["wlan0", "wwan0"].iter().for_each(|uplink| lab.block_udp(uplink));
}

/// On air where only TCP gets out (TLS at Janus); the modem's relay takes over; UDP is let through, and blocked again.
fn turn_relay_when_udp_is_blocked(kind: Kind) {
    let Some(lab) = two_uplinks().build() else { return };
    let Some(coturn) = Coturn::start(lab.server()) else { return };
    block_udp(&lab);
    let uplink = match kind {
        // The ingest has a private authority of its own, and there is room for one.
        Kind::Ingest => servers(&[coturn.tcp_url()]),
        Kind::Janus => {
            let url = coturn.tls_url(&lab.server().address().to_string());
            format!("caFile = \"{}\"\n{}", coturn.ca_file(), servers(&[url]))
        }
    };
    let lines = Lines { network: WIFI_FIRST, uplink: &uplink, ..Lines::default() };
    let Some(mut van) = Van::in_lab(kind, lab, Families::Both, lines) else { return };
    assert_eq!(van.is_relayed(true), "wlan0");
    van.is_good("wwan0");

    let mark = van.mark();
    van.lab.link_down("wlan0");
    van.moves_to(&mark, "wwan0");
    van.seen("turn_relay_when_udp_is_blocked (Wi-Fi dies)", &mark);
    assert_eq!(van.is_relayed(true), "wwan0");
    van.answers_keyframe_wishes();

    let mark = van.mark();
    van.lab.heal("wwan0");
    van.is_relayed(false);
    van.seen("turn_relay_when_udp_is_blocked (UDP is let through)", &mark);
    van.answers_keyframe_wishes();

    let mark = van.mark();
    van.lab.block_udp("wwan0");
    van.is_relayed(true);
    let seen = van.seen("turn_relay_when_udp_is_blocked (UDP is blocked again)", &mark);
    assert!(seen.gap < MOST, "{seen:?}");
    van.answers_keyframe_wishes();
    van.is_still_the_same_session();
}

/// Two nodes, and no other way (over IPv6 alone at Janus). The one in use is killed.
fn turn_node_dies(kind: Kind) {
    let families = if kind == Kind::Janus { Families::V6 } else { Families::Both };
    let lab = Netlab::builder().uplink_of("wlan0", link(), families).uplink_of("wwan0", link(), families);
    let Some(lab) = lab.build() else { return };
    let [Some(mut first), Some(mut second)] = [0, 1].map(|_| Coturn::start(lab.server())) else { return };
    let url = |node: &Coturn| if families == Families::V6 { node.url_at(SERVER_6) } else { node.url() };
    let uplink = format!("iceTransport = \"relay\"\n{}", servers(&[url(&first), url(&second)]));
    let lines = Lines { network: WIFI_FIRST, uplink: &uplink, ..Lines::default() };
    let Some(mut van) = Van::in_lab(kind, lab, families, lines) else { return };
    van.is_relayed(true);
    van.is_good("wwan0");
    assert!(!second.log().contains("ALLOCATE processed, success"), "the second node is in use: {}", second.log());

    let mark = van.mark();
    first.kill();
    second.wait_for_line("CHANNEL_BIND processed, success");
    let seen = van.seen("turn_node_dies", &mark);
    assert!(seen.gap < MOST, "{seen:?}");
    van.answers_keyframe_wishes();
    van.has_kept_its_session();
}
