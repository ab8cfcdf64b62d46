//! The path in use goes silent, or the far end does: nothing is lost, and RTCP comes again.

use std::time::{Duration, Instant};

use super::tests::{MODEM, WIFI, all_follows, van};
use super::types::{Health, IceState, Redundancy, Why};
use super::world::{World, link, ms, plan};

const ALL: [Redundancy; 3] = [Redundancy::Off, Redundancy::Handover, Redundancy::Always];

/// New media came in the order in which it was made.
#[track_caller]
fn in_order_since(world: &World, moment: Instant) {
    let numbers: Vec<u64> = world.far.media.iter().filter(|(at, _)| *at > moment).map(|(_, number)| *number).collect();
    let wrong = numbers.windows(2).find(|pair| pair[0] > pair[1]);
    assert_eq!(wrong, None, "out of order");
}

#[test]
fn a_silent_death_loses_nothing() {
    for redundancy in ALL {
        for spacing in [ms(10), ms(1)] {
            for phase in 0..10 {
                let mut world = van(redundancy);
                world.spacing = spacing;
                world.agent.set_packet_rate(1.0 / spacing.as_secs_f64());
                world.run(ms(500 + 31 * phase));
                let (cut, lost) = (world.now, world.lost());
                world.silence(WIFI, true);
                world.run(ms(2_000));
                all_follows(&world, MODEM);
                let gone = world.lost() - lost.min(world.lost());
                assert_eq!((gone, world.far.too_late), (0, 0), "{redundancy:?}, {spacing:?}, phase {phase}");
                assert_eq!(world.incomplete, 0);
                in_order_since(&world, cut);
                let gap = world.gap(cut, world.now);
                let limit = [ms(520), ms(320), ms(20)][redundancy as usize];
                assert!(gap <= limit, "{redundancy:?}: {gap:?}");
            }
        }
    }
}

#[test]
fn what_was_in_flight_when_the_address_went_is_sent_again() {
    let mut world = van(Redundancy::Handover);
    let lost = world.lost();
    world.silence(WIFI, true);
    let cut = world.now;
    world.run(ms(60));
    world.set_up(WIFI, false);
    world.run(ms(1_500));
    all_follows(&world, MODEM);
    assert!(world.lost() <= lost, "{} lost", world.lost() - lost);
    in_order_since(&world, cut);
}

#[test]
fn the_refuge_dies_as_well_while_the_old_packets_leave() {
    let links = vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2"), link("eth0", "10.0.3.2")];
    let mut world = World::new(1, plan(Redundancy::Handover), links);
    world.start();
    world.run(ms(3_000));
    let (cut, lost) = (world.now, world.lost());
    world.silence(WIFI, true);
    while world.routes.copies.is_empty() {
        world.run(ms(1));
    }
    assert_eq!(world.link_of(world.routes.copies[0].socket), MODEM);
    world.run(ms(5));
    world.silence(MODEM, true);
    world.run(ms(100));
    world.set_up(MODEM, false);
    world.run(ms(1_500));
    all_follows(&world, 2);
    assert!(world.lost() <= lost, "{} lost", world.lost() - lost);
    in_order_since(&world, cut);
}

#[test]
fn the_path_that_was_moved_to_goes_at_once() {
    for redundancy in ALL {
        let links = vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2"), link("eth0", "10.0.3.2")];
        let mut world = World::new(1, plan(redundancy), links);
        world.start();
        world.run(ms(3_000));
        let lost = world.lost();
        world.silence(WIFI, true);
        while world.selected_link() == Some(WIFI) {
            world.run(ms(1));
        }
        // Nothing of what leaves there now arrives, and the first answer on it is still to come.
        world.silence(MODEM, true);
        world.run(ms(60));
        world.set_up(MODEM, false);
        world.run(ms(1_500));
        all_follows(&world, 2);
        assert!(world.lost() <= lost, "{redundancy:?}: {} lost", world.lost() - lost);
    }
}

#[test]
fn silent_deaths_in_a_row_lose_nothing() {
    for redundancy in ALL {
        let mut world = van(redundancy);
        let lost = world.lost();
        for (dies, lives) in [(WIFI, MODEM), (MODEM, WIFI), (WIFI, MODEM)] {
            world.silence(dies, true);
            world.run(ms(3_000));
            all_follows(&world, lives);
            world.silence(dies, false);
            world.run(ms(3_000));
        }
        assert!(world.lost() <= lost, "{redundancy:?}: {} lost", world.lost() - lost);
        assert_eq!(world.incomplete, 0);
    }
}

#[test]
fn both_die_for_half_a_second_and_nothing_is_lost() {
    for redundancy in ALL {
        let mut world = van(redundancy);
        let lost = world.lost();
        world.silence(WIFI, true);
        world.silence(MODEM, true);
        world.run(ms(500));
        world.silence(MODEM, false);
        world.run(ms(2_500));
        all_follows(&world, MODEM);
        assert_eq!((world.lost().saturating_sub(lost), world.incomplete), (0, 0), "{redundancy:?}");
    }
}

#[test]
fn after_a_long_outage_a_new_picture_is_asked_for_instead_of_old_packets() {
    for redundancy in ALL {
        let mut world = van(redundancy);
        let copies = world.far.copies;
        world.set_up(WIFI, false);
        world.set_up(MODEM, false);
        world.run(ms(3_000));
        assert_eq!(world.incomplete, 0, "nobody could see it");
        world.set_up(MODEM, true);
        let healed = world.now;
        world.run(ms(100));
        assert_eq!(world.incomplete, 1, "{redundancy:?}: once, and at once");
        let first = world.far.media.iter().find(|(at, _)| *at > healed).expect("media").1;
        world.run(ms(2_000));
        assert_eq!(world.incomplete, 1);
        assert!(world.lost() >= 250 && first > 500, "no old packets: {} lost, first {first}", world.lost());
        assert!(world.far.copies - copies <= 5 || redundancy == Redundancy::Always);
    }
}

#[test]
fn a_path_that_is_silent_for_a_moment_is_not_left_and_nothing_is_lost() {
    let mut world = van(Redundancy::Handover);
    let (lost, before) = (world.lost(), world.now);
    world.silence(WIFI, true);
    while world.routes.copies.is_empty() {
        world.run(ms(1));
    }
    world.run(ms(10));
    world.silence(WIFI, false);
    world.run(ms(3_000));
    all_follows(&world, WIFI);
    assert_eq!((world.moves.len(), world.lost().saturating_sub(lost), world.incomplete), (1, 0, 0));
    assert!(world.gap(before, world.now) <= ms(360), "{:?}", world.gap(before, world.now));
    assert!(world.routes.copies.is_empty());
}

// The far end goes silent.

#[test]
fn rtcp_goes_to_a_dead_pair_though_checks_are_answered() {
    for (reports_every, within) in [(None, ms(2_600)), (Some(ms(1_000)), ms(6_600))] {
        let mut world = van(Redundancy::Handover);
        world.far.reports_every = reports_every;
        world.run(ms(10_000));
        let (lost, opens) = (world.now, world.opens);
        world.far.misdirect();
        assert_eq!(world.followed_link(), None);
        world.run(within);
        all_follows(&world, WIFI);
        assert!(world.rtcp_after(lost + ms(100), WIFI).is_some());
        assert_eq!((world.opens - opens, world.moves.len()), (1, 1), "one socket, no move");
        assert!(world.gap(lost, world.now) <= ms(20));
        // It happens again and again.
        for _ in 0..3 {
            world.run(ms(40_000));
            world.far.misdirect();
            world.run(within);
            all_follows(&world, WIFI);
        }
        assert_eq!((world.opens - opens, world.open_sockets().len()), (4, 2));
    }
}

#[test]
fn a_far_end_that_stops_reporting_for_good_costs_few_sockets() {
    let mut world = van(Redundancy::Handover);
    let opens = world.opens;
    world.rtcp_on = false;
    world.spacing = ms(50);
    world.run(Duration::from_secs(1_800));
    let more = world.opens - opens;
    assert!((2..=6).contains(&more), "{more} sockets");
    assert_eq!((world.moves.len(), world.open_sockets().len()), (1, 2));
    assert_eq!(world.state(), IceState::Connected);
}

#[test]
fn rtcp_that_comes_and_goes_does_not_cost_a_socket_each_time() {
    let mut world = van(Redundancy::Handover);
    let opens = world.opens;
    for _ in 0..60 {
        world.rtcp_on = false;
        world.run(ms(5_000));
        world.rtcp_on = true;
        world.run(ms(5_000));
    }
    assert!(world.opens - opens <= 4, "{} sockets in 10 minutes", world.opens - opens);
}

#[test]
fn a_far_end_that_reports_seldom_or_never_is_let_be() {
    for reports in [None, Some(ms(5_000)), Some(ms(7_500))] {
        let mut world =
            World::new(1, plan(Redundancy::Handover), vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2")]);
        world.rtcp_on = reports.is_some();
        world.far.reports_every = reports;
        world.spacing = ms(50);
        world.start();
        world.run(Duration::from_secs(600));
        assert_eq!((world.opens, world.moves.len()), (2, 1), "{reports:?}");
    }
}

#[test]
fn a_camera_that_pauses_is_no_silence_of_the_far_end() {
    let mut world = van(Redundancy::Handover);
    let opens = world.opens;
    world.media_on = false;
    world.rtcp_on = false;
    world.agent.set_packet_rate(0.0);
    world.run(ms(60_000));
    world.media_on = true;
    world.agent.set_packet_rate(100.0);
    world.run(ms(1_500));
    world.rtcp_on = true;
    world.run(ms(10_000));
    all_follows(&world, WIFI);
    assert_eq!(world.opens, opens);
}

// Addresses.

#[test]
fn preferences_that_have_run_out_ask_for_a_restart_and_media_flows_on() {
    let mut world = van(Redundancy::Handover);
    world.agent.spend(65_535 - 1_000);
    let cut = world.now;
    world.set_up(WIFI, false);
    world.run(ms(2_000));
    assert_eq!(world.selected_link(), Some(MODEM));
    assert_eq!(world.state(), IceState::Failed, "the far end can not be made to follow: {:?}", world.states);
    assert!(world.gap(cut, world.now) <= ms(30), "media does not wait for that");
    assert_eq!(world.open_sockets(), [MODEM]);
}

#[test]
fn an_address_that_is_removed_sends_nothing_more() {
    let four = [("wlan0", "10.0.1.2"), ("wwan0", "10.0.2.2")];
    let six = [("wlan0", "2001:db8:1::2"), ("wwan0", "2001:db8:2::2")];
    for addresses in [four, six] {
        for redundancy in ALL {
            let links = addresses.map(|(interface, ip)| link(interface, ip)).to_vec();
            let mut world = World::new(1, plan(redundancy), links);
            world.start();
            world.run(ms(3_000));
            all_follows(&world, WIFI);
            for gone in [WIFI, MODEM, WIFI] {
                world.set_up(gone, false);
                world.run(ms(3_000));
                all_follows(&world, 1 - gone);
                assert_eq!(world.open_sockets(), [1 - gone]);
                world.set_up(gone, true);
                world.run(ms(300));
            }
            assert_eq!(world.strays, 0, "{addresses:?}");
        }
    }
}

#[test]
fn a_preferred_interface_appears_with_no_way_behind_it() {
    let mut world = World::new(1, plan(Redundancy::Always), vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2")]);
    world.links[WIFI].up = false;
    world.start();
    world.run(ms(2_000));
    all_follows(&world, MODEM);
    // Bound to it, packets leave without an error and reach nobody.
    world.links[WIFI].out_dead = true;
    world.set_up(WIFI, true);
    let (appeared, opens) = (world.now, world.opens);
    world.run(ms(60_000));
    all_follows(&world, MODEM);
    assert_eq!((world.moves.len(), world.agent.paths(world.now)[WIFI].health), (1, Health::Unproved));
    assert!(world.gap(appeared, world.now) <= ms(20));
    assert!(world.routes.copies.is_empty(), "no copies to nowhere");
    assert!(world.opens - opens <= 6, "{} sockets", world.opens - opens);
    world.links[WIFI].out_dead = false;
    world.run(ms(8_000));
    all_follows(&world, WIFI);
    // The way behind it goes while the address stays: the gateway is off, say.
    world.links[WIFI].out_dead = true;
    world.run(ms(2_000));
    all_follows(&world, MODEM);
    assert_eq!(world.moves.last().unwrap().1.why, Why::Silent);
    assert_eq!(world.agent.paths(world.now)[WIFI].health, Health::Dead);
}
