//! Media is lost on every path while the server can still be asked: ICE restarts, and then another peer connection.

use std::time::{Duration, Instant};

use crate::netlab::{Families, Netlab};
use crate::roaming_rig::{Kind, Lines, Van, WIFI_FIRST, at_both, link};

at_both! {
    ladder_then_replace,
    ladder_then_replace_is_forced_after_a_drop,
}

/// Two rungs, and retries that do not take longer than the fault.
const QUICK: &str = "[reconnect]\nminDelay = \"300ms\"\nmaxDelay = \"1s\"\nmaxRetries = \"unlimited\"\n\
    [mediaPlane]\ndisconnectedTimeout = \"500ms\"\niceRestartAttempts = 2\n";
/// Longer than the ingest keeps a publisher without media: 12 s. (Janus keeps it.)
const GIVEN_UP: Duration = Duration::from_secs(14);
/// More than the last steps from one session to the next have taken.
const MOST: Duration = Duration::from_secs(3);

/// IPv4 alone: Janus has a port for each family.
fn van(kind: Kind, more: &str) -> Option<Van> {
    let lab = Netlab::builder().uplink_of("wlan0", link(), Families::V4).uplink_of("wwan0", link(), Families::V4);
    let lines = Lines { network: WIFI_FIRST, more, ..Lines::default() };
    Van::in_lab(kind, lab.build()?, Families::V4, lines)
}

/// On every uplink; the TCP connections of signalling go on.
fn on_every_uplink(van: &Van, change: fn(&Netlab, &str)) {
    ["wlan0", "wwan0"].iter().for_each(|uplink| change(&van.lab, uplink));
}

/// At Janus, where each session has a port of its own, that is closed for good. The ingest has one for all: there UDP is
/// blocked until the server has given the old session up, or that would heal.
fn ladder_then_replace(kind: Kind) {
    let Some(mut van) = van(kind, QUICK) else { return };
    let (mark, began, port) = (van.mark(), Instant::now(), van.media_port());
    match port {
        Some(port) => van.lab.block_udp_port(port),
        None => on_every_uplink(&van, Netlab::block_udp),
    }
    van.encoder.wait_for("the second ICE restart", |event| event["data"]["iceRestart"] == 2);
    van.encoder.wait_for("the end of the ladder", |event| event["event"] == "BroadcastError");
    if port.is_none() {
        van.drives_on(GIVEN_UP.saturating_sub(began.elapsed()));
        on_every_uplink(&van, Netlab::heal);
    }
    let way = Instant::now();
    van.has_replaced_its_session();
    println!("  {kind:?}: the new session is alone {} ms after there was a way for it", way.elapsed().as_millis());
    van.goes_on();
    van.answers_keyframe_wishes();
    assert_eq!(van.moves_since(&mark), 0, "a new session is no move");
}

/// The old session carries the picture from the moment at which it has healed until the new one is proven.
fn ladder_then_replace_is_forced_after_a_drop(kind: Kind) {
    let Some(mut van) = van(kind, &format!("{QUICK}forceReconnectAfterDrop = true\n")) else { return };
    on_every_uplink(&van, Netlab::block_udp);
    van.encoder.wait_for_message("reconnecting_broadcast");
    on_every_uplink(&van, Netlab::heal);
    van.sees_anything();
    let mark = van.mark();
    van.has_replaced_its_session();
    let gap = van.longest_gap(&mark);
    println!("FIGURE ladder_then_replace_is_forced_after_a_drop {kind:?}: longest gap {} ms", gap.as_millis());
    assert!(gap < MOST, "{gap:?}");
    van.answers_keyframe_wishes();
}
