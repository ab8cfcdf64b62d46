//! The network changes without breaking, and media follows.

use std::time::Duration;

use crate::netlab::{Families, Netlab};
use crate::roaming_rig::{Kind, Van, at_both, link, two_uplinks};

at_both! {
    modem_appears_and_is_preferred,
    dhcp_gives_a_new_address,
    nat_rebinds,
    default_route_swaps,
}

/// More than any move has taken; a restart of the session takes longer.
const MOST: Duration = Duration::from_secs(5);

fn modem_appears_and_is_preferred(kind: Kind) {
    let wifi = Netlab::builder().uplink("wlan0", link());
    let Some(mut van) = Van::on_air(kind, wifi, "interfaces = [\"wwan0\", \"wlan0\"]\n") else { return };
    let mark = van.mark();
    van.lab.plug_in("wwan0", link(), Families::Both);
    let step = van.moves_to(&mark, "wwan0");
    assert_eq!(step["why"], "preferred", "{step}");
    let seen = van.seen("modem_appears_and_is_preferred", &mark);
    assert_eq!(seen.lost, 0, "both paths work");
    van.answers_keyframe_wishes();
    van.is_still_the_same_session();
    assert_eq!(van.moves_since(&mark), 1);
}

fn dhcp_gives_a_new_address(kind: Kind) {
    let Some(mut van) = Van::on_air(kind, Netlab::builder().uplink("wlan0", link()), "") else { return };
    for _lease in 0..2 {
        let mark = van.mark();
        van.lab.new_address("wlan0");
        let own = [van.lab.address("wlan0").into(), van.lab.address_6("wlan0").into()];
        van.moves_to_address(&mark, &own);
        let seen = van.seen("dhcp_gives_a_new_address", &mark);
        assert!(seen.gap < MOST, "{seen:?}");
        van.answers_keyframe_wishes();
        // The lease takes IPv4 and IPv6 one after the other; media may have tried the one on its way from the other.
        assert!(van.moves_since(&mark) <= 2);
    }
    van.is_still_the_same_session();
}

fn nat_rebinds(kind: Kind) {
    let Some(mut van) = Van::on_air(kind, Netlab::builder().uplink("wlan0", link()), "") else { return };
    for (rebind, how) in [
        (Netlab::rebind_nat_port as fn(&Netlab, &str), "another port"),
        (Netlab::rebind_nat_address, "another address"),
    ] {
        let mark = van.mark();
        rebind(&van.lab, "wlan0");
        let seen = van.seen(&format!("nat_rebinds ({how})"), &mark);
        assert!(seen.gap < MOST, "{seen:?}");
        van.answers_keyframe_wishes();
    }
    van.is_still_the_same_session();
}

fn default_route_swaps(kind: Kind) {
    let Some(mut van) = Van::on_air(kind, two_uplinks(), "") else { return };
    for to in ["wwan0", "wlan0"] {
        let mark = van.mark();
        van.lab.swap_metrics("wlan0", "wwan0");
        let step = van.moves_to(&mark, to);
        assert_eq!(step["why"], "preferred", "{step}");
        let seen = van.seen("default_route_swaps", &mark);
        assert_eq!(seen.lost, 0, "both paths work");
        van.answers_keyframe_wishes();
        assert_eq!(van.moves_since(&mark), 1);
    }
    van.is_still_the_same_session();
}
