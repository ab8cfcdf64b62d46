//! Paths die, and media goes on by another within the same session.

use std::time::Duration;

use crate::netlab::Netlab;
use crate::roaming_rig::{Kind, Van, WIFI_FIRST, at_both, two_uplinks};

at_both! {
    wifi_dies_while_modem_is_up,
    wifi_loses_its_carrier_while_modem_is_up,
    path_goes_silent_but_link_stays_up,
    redundant_pair_loses_one_link_and_no_frame,
}

/// More than any move has taken; a restart of the session takes longer.
const MOST: Duration = Duration::from_secs(5);

/// So much of what was sent last is sent once more.
const REPEATED: Duration = Duration::from_secs(1);

/// The Wi-Fi breaks in this way, and media goes on by the modem.
fn wifi_breaks(kind: Kind, what: &str, fault: fn(&Netlab, &str), why: &str) {
    let Some(mut van) = Van::on_air(kind, two_uplinks(), WIFI_FIRST) else { return };
    van.leaves_by("wlan0");
    let mark = van.mark();
    fault(&van.lab, "wlan0");
    let step = van.moves_to(&mark, "wwan0");
    assert_eq!(step["why"], why, "{step}");
    let seen = van.seen(what, &mark);
    assert!(seen.gap < MOST, "{seen:?}");
    // What left in the silence has left once more. (On a machine that stalls, a second of packets is not enough.)
    assert!(seen.lost == 0 || seen.gap > REPEATED, "{seen:?}");
    van.answers_keyframe_wishes();
    van.is_still_the_same_session();
    assert_eq!(van.moves_since(&mark), 1);
}

fn wifi_dies_while_modem_is_up(kind: Kind) {
    wifi_breaks(kind, "wifi_dies_while_modem_is_up (link down)", Netlab::link_down, "addressLost");
}

fn wifi_loses_its_carrier_while_modem_is_up(kind: Kind) {
    wifi_breaks(kind, "wifi_dies_while_modem_is_up (carrier lost)", Netlab::carrier_off, "addressLost");
}

fn path_goes_silent_but_link_stays_up(kind: Kind) {
    wifi_breaks(kind, "path_goes_silent_but_link_stays_up", Netlab::silent_drop, "silent");
}

fn redundant_pair_loses_one_link_and_no_frame(kind: Kind) {
    let network = format!("{WIFI_FIRST}redundancy = \"always\"\n");
    let Some(mut van) = Van::on_air(kind, two_uplinks(), &network) else { return };
    let whole = van.mark();
    for (fault, heal, how) in [
        (Netlab::link_down as fn(&Netlab, &str), Netlab::link_up as fn(&Netlab, &str), "link down"),
        (Netlab::silent_drop, Netlab::heal, "silent"),
    ] {
        let mark = van.mark();
        fault(&van.lab, "wlan0");
        let step = van.moves_to(&mark, "wwan0");
        assert_eq!(step["gapMs"], 0, "the copies have covered it: {step}");
        van.seen(&format!("redundant_pair_loses_one_link_and_no_frame ({how})"), &mark);
        van.answers_keyframe_wishes();
        heal(&van.lab, "wlan0");
        van.moves_to(&mark, "wlan0");
    }
    let seen = van.seen("redundant_pair_loses_one_link_and_no_frame (all)", &whole);
    assert_eq!(seen.lost, 0);
    van.is_still_the_same_session();
}
