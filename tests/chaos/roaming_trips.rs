//! Longer trips: one fault after the other.

use std::time::{Duration, Instant};

use crate::netlab::{Families, Netlab};
use crate::program::PATIENCE;
use crate::roaming_rig::{Kind, Van, WIFI_FIRST, at_both, link, two_uplinks};

at_both! {
    four_hops_in_a_row,
    both_die_then_one_returns,
    interface_flaps_ten_times,
    ipv6_only_uplink,
}

/// More than any move has taken; a restart of the session takes longer.
const MOST: Duration = Duration::from_secs(5);

fn four_hops_in_a_row(kind: Kind) {
    let Some(mut van) = Van::on_air(kind, two_uplinks(), WIFI_FIRST) else { return };
    for hop in 1..=4 {
        let from = van.interface();
        let to = if from == "wlan0" { "wwan0" } else { "wlan0" };
        let mark = van.mark();
        van.lab.link_down(&from);
        van.moves_to(&mark, to);
        let seen = van.seen(&format!("four_hops_in_a_row ({hop}: to {to})"), &mark);
        assert!(seen.gap < MOST, "{seen:?}");
        van.answers_keyframe_wishes();
        van.lab.link_up(&from);
        van.is_good(&from);
    }
    van.is_still_the_same_session();
}

fn both_die_then_one_returns(kind: Kind) {
    let Some(mut van) = Van::on_air(kind, two_uplinks(), WIFI_FIRST) else { return };
    let mark = van.mark();
    // The standby first: nothing is left to move to.
    van.lab.link_down("wwan0");
    van.lab.link_down("wlan0");
    van.drives_on(Duration::from_millis(200));
    van.is_silent_for(Duration::from_millis(1800));
    assert_eq!(van.moves_since(&mark), 0);
    let back = Instant::now();
    van.lab.link_up("wwan0");
    van.moves_to(&mark, "wwan0");
    println!("  {kind:?}: media leaves {} ms after the modem is back", back.elapsed().as_millis());
    let seen = van.seen("both_die_then_one_returns (after 2 s)", &mark);
    assert!(seen.gap < MOST, "{seen:?}");
    van.answers_keyframe_wishes();
    van.has_kept_its_session();
}

fn interface_flaps_ten_times(kind: Kind) {
    let Some(mut van) = Van::on_air(kind, two_uplinks(), WIFI_FIRST) else { return };
    let before = van.encoder.files();
    let mark = van.mark();
    for _flap in 0..10 {
        van.lab.link_down("wlan0");
        van.drives_on(Duration::from_millis(500));
        van.lab.link_up("wlan0");
        van.drives_on(Duration::from_millis(500));
    }
    let moves = van.moves_since(&mark);
    let seen = van.seen(&format!("interface_flaps_ten_times ({moves} moves)"), &mark);
    assert_eq!(moves, 1, "to the modem, and not back as long as the Wi-Fi is not good for a while");
    assert!(seen.gap < MOST, "{seen:?}");
    van.answers_keyframe_wishes();
    van.is_still_the_same_session();
    // The last of the old sockets go soon.
    let deadline = Instant::now() + PATIENCE;
    while van.encoder.files() > before + 2 {
        assert!(Instant::now() < deadline, "{:?}, before: {before:?}", van.encoder.files());
        van.drives_on(Duration::from_millis(100));
    }
}

fn ipv6_only_uplink(kind: Kind) {
    let lab = Netlab::builder().uplink_of("wlan0", link(), Families::V6).uplink_of("wwan0", link(), Families::V6);
    let Some(mut van) = Van::on_air_by(kind, lab, WIFI_FIRST, Families::V6) else { return };
    for (fault, to, how) in
        [(Netlab::new_address as fn(&Netlab, &str), "wlan0", "new address"), (Netlab::link_down, "wwan0", "link down")]
    {
        let mark = van.mark();
        fault(&van.lab, "wlan0");
        van.moves_to(&mark, to);
        let seen = van.seen(&format!("ipv6_only_uplink ({how})"), &mark);
        assert!(seen.gap < MOST, "{seen:?}");
        van.answers_keyframe_wishes();
    }
    van.is_still_the_same_session();
}
