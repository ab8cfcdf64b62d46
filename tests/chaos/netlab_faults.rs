//! Each fault of the lab does what it says, and nothing else.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use crate::echo::{Asker, Echo, seen_by_tcp};
use crate::netlab::{Families, Link, Netlab, SERVER, SERVER_6};

const SMALL: usize = 64;

/// Wi-Fi and modem, both perfect.
fn lab() -> Option<(Netlab, Echo)> {
    let lab = Netlab::builder().uplink("wlan0", Link::default()).uplink("wwan0", Link::default()).build()?;
    let echo = Echo::start(&lab);
    Some((lab, echo))
}

/// The encoder's address for whatever does not choose its uplink.
fn best_source(lab: &Netlab, server: IpAddr) -> IpAddr {
    lab.in_encoder(|| {
        let any: IpAddr = if server.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.connect((server, 7)).unwrap();
        socket.local_addr().unwrap().ip()
    })
}

/// What `ip` in the encoder says.
fn ip(lab: &Netlab, arguments: &str) -> String {
    let output = lab.encoder().command("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_uplink_has_its_own_nat_and_ipv6_has_none() {
    let Some((lab, _echo)) = lab() else { return };
    for uplink in ["wlan0", "wwan0"] {
        let asker = Asker::on(&lab, uplink);
        let port = asker.socket.local_addr().unwrap().port();
        assert_eq!(asker.seen(), (lab.public_address(uplink), port).into());
        assert_eq!(Asker::on_6(&lab, uplink).seen().ip(), lab.address_6(uplink));
    }
    assert_ne!(lab.public_address("wlan0"), lab.public_address("wwan0"));
    assert_eq!(seen_by_tcp(&lab, SERVER.into()).ip(), lab.public_address("wlan0"), "the best metric");
    assert_eq!(seen_by_tcp(&lab, SERVER_6.into()).ip(), lab.address_6("wlan0"));
    assert_eq!(lab.strays(), 0);
}

#[test]
fn nobody_comes_in_uninvited() {
    let Some((lab, _echo)) = lab() else { return };
    let asker = Asker::on(&lab, "wlan0");
    let invited = asker.seen();
    let stranger = lab.in_server(|| UdpSocket::bind((SERVER, 4000)).unwrap());
    let private = (lab.address("wlan0"), invited.port()).into();
    for to in [invited, private] {
        stranger.send_to(b"hello", to).unwrap();
    }
    asker.hears_nothing_unasked();
    let asker = Asker::on_6(&lab, "wlan0");
    let stranger = lab.in_server(|| UdpSocket::bind((SERVER_6, 4000)).unwrap());
    stranger.send_to(b"hello", asker.seen()).unwrap();
    asker.hears_nothing_unasked();
}

#[test]
fn a_link_goes_down_and_comes_up() {
    let Some((lab, _echo)) = lab() else { return };
    let (wifi, wifi_6, modem) = (Asker::on(&lab, "wlan0"), Asker::on_6(&lab, "wlan0"), Asker::on(&lab, "wwan0"));
    let before = (wifi.seen(), wifi_6.seen(), modem.seen());
    lab.link_down("wlan0");
    wifi.cannot_send();
    wifi_6.cannot_send();
    assert_eq!(modem.seen(), before.2);
    assert_eq!(best_source(&lab, SERVER.into()), lab.address("wwan0"));
    assert_eq!(best_source(&lab, SERVER_6.into()), lab.address_6("wwan0"));
    lab.link_up("wlan0");
    assert_eq!((wifi.seen(), wifi_6.seen(), modem.seen()), before);
    assert_eq!(best_source(&lab, SERVER.into()), lab.address("wlan0"));
    assert_eq!(best_source(&lab, SERVER_6.into()), lab.address_6("wlan0"));
}

#[test]
fn the_carrier_is_lost_and_the_address_stays() {
    let Some((lab, _echo)) = lab() else { return };
    let wifi = Asker::on(&lab, "wlan0");
    let seen = wifi.seen();
    lab.carrier_off("wlan0");
    assert!(ip(&lab, "link show wlan0").contains("NO-CARRIER"), "{}", ip(&lab, "link show wlan0"));
    let own = lab.address("wlan0").to_string();
    assert!(ip(&lab, "addr show wlan0").contains(&own));
    let said = wifi.ask(SMALL, Duration::from_millis(500));
    assert!(!matches!(said, Ok(Some(_))), "{said:?}");
    assert_eq!(Asker::on(&lab, "wwan0").seen().ip(), lab.public_address("wwan0"));
    lab.carrier_on("wlan0");
    assert_eq!(wifi.seen(), seen);
}

#[test]
fn a_path_goes_silent_while_its_link_looks_up() {
    let Some((lab, _echo)) = lab() else { return };
    let (wifi, wifi_6, modem) = (Asker::on(&lab, "wlan0"), Asker::on_6(&lab, "wlan0"), Asker::on(&lab, "wwan0"));
    let before = (wifi.seen(), wifi_6.seen());
    let (link, routes) = (ip(&lab, "link show wlan0"), ip(&lab, "route"));
    lab.silent_drop("wlan0");
    wifi.hears_nothing(SMALL);
    wifi_6.hears_nothing(SMALL);
    assert_eq!((ip(&lab, "link show wlan0"), ip(&lab, "route")), (link, routes));
    assert_eq!(modem.seen().ip(), lab.public_address("wwan0"));
    lab.heal("wlan0");
    assert_eq!((wifi.seen(), wifi_6.seen()), before, "the NAT has forgotten nothing");
}

#[test]
fn dhcp_gives_a_new_address() {
    let Some((lab, _echo)) = lab() else { return };
    let (old, old_6) = (lab.address("wlan0"), lab.address_6("wlan0"));
    let bound = Asker::bound(&lab, Some("wlan0"), old.into());
    let bound_6 = Asker::bound(&lab, Some("wlan0"), old_6.into());
    let free = Asker::on(&lab, "wlan0");
    bound.seen();
    bound_6.seen();
    let public = free.seen();
    lab.new_address("wlan0");
    assert_ne!((lab.address("wlan0"), lab.address_6("wlan0")), (old, old_6));
    bound.cannot_send();
    // The kernel lets an IPv6 socket send from an address that is gone.
    bound_6.hears_nothing(SMALL);
    assert_eq!(lab.strays(), 3);
    assert_eq!(free.seen().ip(), public.ip(), "the same NAT");
    assert_eq!(Asker::on_6(&lab, "wlan0").seen().ip(), lab.address_6("wlan0"));
    assert_eq!(best_source(&lab, SERVER.into()), lab.address("wlan0"));
    assert_eq!(best_source(&lab, SERVER_6.into()), lab.address_6("wlan0"));
    let addresses = ip(&lab, "addr show wlan0");
    assert!(!addresses.contains(&old.to_string()) && !addresses.contains(&old_6.to_string()), "{addresses}");
    assert_eq!(ip(&lab, "route show default dev wlan0").lines().count(), 1);
}

#[test]
fn a_nat_rebinds_to_another_address() {
    let Some((lab, _echo)) = lab() else { return };
    let (wifi, wifi_6, modem) = (Asker::on(&lab, "wlan0"), Asker::on_6(&lab, "wlan0"), Asker::on(&lab, "wwan0"));
    let before = (wifi.seen(), wifi_6.seen(), modem.seen());
    lab.rebind_nat_address("wlan0");
    let after = wifi.seen();
    assert_eq!(after.ip(), lab.public_address("wlan0"));
    assert_ne!(after.ip(), before.0.ip());
    assert_eq!((wifi_6.seen(), modem.seen()), (before.1, before.2));
    assert_eq!(wifi.seen(), after, "once and for all");
}

#[test]
fn a_nat_rebinds_to_other_ports_again_and_again() {
    let Some((lab, _echo)) = lab() else { return };
    let wifi = Asker::on(&lab, "wlan0");
    let mut seen = vec![wifi.seen()];
    for _time in 0..3 {
        lab.rebind_nat_port("wlan0");
        let now = wifi.seen();
        assert_eq!(now.ip(), seen[0].ip());
        assert!(!seen.contains(&now), "{now} again: {seen:?}");
        assert_eq!(wifi.seen(), now, "a flow keeps its port");
        seen.push(now);
    }
}

#[test]
fn the_default_route_swaps() {
    let Some((lab, _echo)) = lab() else { return };
    let (wifi, modem) = (Asker::on(&lab, "wlan0"), Asker::on(&lab, "wwan0"));
    let before = (wifi.seen(), modem.seen());
    let best = |uplink| {
        assert_eq!(best_source(&lab, SERVER.into()), lab.address(uplink));
        assert_eq!(best_source(&lab, SERVER_6.into()), lab.address_6(uplink));
        assert_eq!(seen_by_tcp(&lab, SERVER.into()).ip(), lab.public_address(uplink));
    };
    best("wlan0");
    lab.swap_metrics("wlan0", "wwan0");
    best("wwan0");
    assert_eq!((wifi.seen(), modem.seen()), before, "who is bound to a device does not care");
    lab.set_metric("wlan0", 50);
    best("wlan0");
    assert_eq!(ip(&lab, "route show default").lines().count(), 2);
    assert_eq!(ip(&lab, "-6 route show default").lines().count(), 2);
}

#[test]
fn large_packets_fall_into_the_hole() {
    let Some((lab, _echo)) = lab() else { return };
    for wifi in [Asker::on(&lab, "wlan0"), Asker::on_6(&lab, "wlan0")] {
        wifi.answer(1300);
        lab.mtu_hole("wlan0", Some(1280));
        wifi.hears_nothing(1300);
        wifi.answer(1200);
        Asker::on(&lab, "wwan0").answer(1300);
        lab.mtu_hole("wlan0", None);
        wifi.answer(1300);
    }
    assert!(lab.stats("wlan0").up.too_big >= 6, "{:?}", lab.stats("wlan0").up);
}

#[test]
fn udp_is_blocked_and_tcp_passes() {
    let Some((lab, _echo)) = lab() else { return };
    let (wifi, wifi_6) = (Asker::on(&lab, "wlan0"), Asker::on_6(&lab, "wlan0"));
    wifi.seen();
    wifi_6.seen();
    lab.block_udp("wlan0");
    wifi.hears_nothing(SMALL);
    wifi_6.hears_nothing(SMALL);
    assert_eq!(seen_by_tcp(&lab, SERVER.into()).ip(), lab.public_address("wlan0"));
    assert_eq!(seen_by_tcp(&lab, SERVER_6.into()).ip(), lab.address_6("wlan0"));
    Asker::on(&lab, "wwan0").seen();
    lab.heal("wlan0");
    wifi.seen();
}

#[test]
fn a_socket_that_is_bound_to_no_device_strays_and_gets_nowhere() {
    let Some((lab, _echo)) = lab() else { return };
    let loose = Asker::bound(&lab, None, lab.address("wlan0").into());
    assert_eq!(loose.seen().ip(), lab.public_address("wlan0"));
    assert_eq!(lab.strays(), 0);
    lab.link_down("wlan0");
    // The address stays with the kernel, and the packets leave by the modem.
    loose.hears_nothing(SMALL);
    assert_eq!(lab.strays(), 3);
    lab.silent_drop("wwan0");
    assert_eq!(lab.strays(), 3, "the counter survives other faults");
}

#[test]
fn a_modem_is_plugged_in_and_pulled_out() {
    let Some(lab) = Netlab::builder().uplink("wlan0", Link::default()).build() else { return };
    let _echo = Echo::start(&lab);
    lab.plug_in("eth0", Link::default(), Families::Both);
    let wire = Asker::on(&lab, "eth0");
    assert_eq!(wire.seen().ip(), lab.public_address("eth0"));
    assert_eq!(best_source(&lab, SERVER.into()), lab.address("eth0"), "wires are preferred");
    lab.unplug("eth0");
    assert!(!ip(&lab, "-brief link").contains("eth0"), "{}", ip(&lab, "link"));
    wire.cannot_send();
    assert_eq!(seen_by_tcp(&lab, SERVER.into()).ip(), lab.public_address("wlan0"));
    lab.plug_in("eth0", Link::default(), Families::Both);
    assert_eq!(Asker::on(&lab, "eth0").seen().ip(), lab.public_address("eth0"));
}

#[test]
fn an_uplink_may_have_one_address_family_only() {
    let builder = Netlab::builder().uplink_of("wwan0", Link::default(), Families::V6);
    let Some(lab) = builder.uplink_of("wlan0", Link::default(), Families::V4).build() else { return };
    let _echo = Echo::start(&lab);
    assert_eq!(Asker::on_6(&lab, "wwan0").seen().ip(), lab.address_6("wwan0"));
    assert_eq!(Asker::on(&lab, "wlan0").seen().ip(), lab.public_address("wlan0"));
    // Without a route the kernel looks for the server on the link itself, sooner or later in vain.
    for none in [Asker::on(&lab, "wwan0"), Asker::on_6(&lab, "wlan0")] {
        let said = none.ask(SMALL, Duration::from_millis(500));
        assert!(!matches!(said, Ok(Some(_))), "{none:?}: {said:?}");
    }
    assert_eq!(seen_by_tcp(&lab, SERVER_6.into()).ip(), lab.address_6("wwan0"));
    lab.new_address("wwan0");
    assert_eq!(Asker::on_6(&lab, "wwan0").seen().ip(), lab.address_6("wwan0"));
}
