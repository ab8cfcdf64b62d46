//! What happens to the van.

use std::time::Duration;

use super::types::{CandidateType, Health, IceState, Plan, Redundancy, SocketId, Why};
use super::world::{Dice, FAR, World, base, link, ms, plan};
use crate::rtp::packet::Kind;

/// Wifi is preferred, the modem is there.
pub(super) fn van(redundancy: Redundancy) -> World {
    let mut world = World::new(1, plan(redundancy), vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2")]);
    world.start();
    world.run(ms(3_000));
    world
}

pub(super) const WIFI: usize = 0;
pub(super) const MODEM: usize = 1;

#[track_caller]
pub(super) fn all_follows(world: &World, link: usize) {
    assert_eq!(world.state(), IceState::Connected, "{:?}", world.states);
    assert_eq!(world.selected_link(), Some(link), "moves: {:?}", world.moves);
    assert_eq!(world.followed_link(), Some(link), "RTCP must follow");
    let (at, on) = world.rtcp.last().expect("RTCP");
    assert!(*on == link && world.now - *at < ms(1_100), "last RTCP {:?} ago on {on}", world.now - *at);
    let (at, _) = world.far.media.last().expect("media");
    assert!(world.now - *at < ms(300), "media stopped {:?} ago", world.now - *at);
}

#[test]
fn a_session_begins_on_the_preferred_path() {
    let world = van(Redundancy::Handover);
    all_follows(&world, WIFI);
    assert_eq!(
        world.states.iter().map(|(_, state)| *state).collect::<Vec<_>>(),
        [IceState::Checking, IceState::Connected]
    );
    let connected = world.states[1].0 - base();
    assert!(connected <= ms(60), "one round trip of 50 ms and a few ms: {connected:?}");
    assert_eq!(world.moves.len(), 1);
    assert_eq!(world.moves[0].1.why, Why::First);
    assert_eq!(world.opens, 2);
}

#[test]
fn wifi_dies_while_modem_is_up() {
    for redundancy in [Redundancy::Off, Redundancy::Handover, Redundancy::Always] {
        let mut world = van(redundancy);
        let cut = world.now;
        world.set_up(WIFI, false);
        world.run(ms(2_000));
        all_follows(&world, MODEM);
        assert_eq!(world.moves.len(), 2);
        assert_eq!(world.moves[1].1.why, Why::AddressLost);
        assert_eq!(world.moves[1].0, cut, "at once");
        assert!(world.gap(cut, world.now) <= ms(30), "{:?}", world.gap(cut, world.now));
        assert!(world.rtcp_after(cut, MODEM).unwrap() <= ms(300));
        assert_eq!(world.open_sockets(), [MODEM]);
    }
}

#[test]
fn path_goes_silent_but_link_stays_up() {
    let mut world = van(Redundancy::Handover);
    let cut = world.now;
    world.silence(WIFI, true);
    world.run(ms(2_000));
    all_follows(&world, MODEM);
    let (at, moved) = &world.moves[1];
    assert_eq!(moved.why, Why::Silent);
    assert!(*at - cut <= ms(500), "{:?}", *at - cut);
    let gap = world.gap(cut, world.now);
    assert!(gap <= ms(320), "copies go on after 250 ms: {gap:?}");
    assert!(moved.gap + ms(60) >= gap && moved.gap <= gap + ms(100), "told {:?}, was {gap:?}", moved.gap);
    assert_eq!(world.agent.paths(world.now)[WIFI].health, Health::Dead);
    assert_eq!(world.agent.paths(world.now)[MODEM].health, Health::Good);
}

#[test]
fn with_copies_always_a_silent_death_loses_nothing() {
    let mut world = van(Redundancy::Always);
    let (cut, lost) = (world.now, world.lost());
    world.silence(WIFI, true);
    world.run(ms(2_000));
    all_follows(&world, MODEM);
    assert!(world.gap(cut, world.now) <= ms(20), "{:?}", world.gap(cut, world.now));
    assert_eq!(world.moves[1].1.gap, Duration::ZERO);
    assert_eq!(world.lost(), lost, "only what is in flight");
}

#[test]
fn an_interface_with_two_addresses_dies_and_the_copies_were_on_the_other_interface() {
    let links = vec![link("wlan0", "10.0.1.2"), link("wlan0", "10.0.3.2"), link("wwan0", "10.0.2.2")];
    let mut world = World::new(1, plan(Redundancy::Always), links);
    world.start();
    world.run(ms(3_000));
    let (cut, lost) = (world.now, world.lost());
    world.silence(0, true);
    world.silence(1, true);
    world.run(ms(2_000));
    all_follows(&world, 2);
    assert!(world.gap(cut, world.now) <= ms(20), "{:?}", world.gap(cut, world.now));
    assert_eq!(world.lost(), lost, "only what is in flight");
}

#[test]
fn without_redundancy_only_what_may_be_lost_is_sent_twice() {
    let mut world = van(Redundancy::Off);
    world.silence(WIFI, true);
    world.run(ms(3_000));
    world.silence(WIFI, false);
    assert!(world.far.copies <= 20, "what left since the last answered check: {}", world.far.copies);
    let copies = world.far.copies;
    world.run(ms(9_000));
    all_follows(&world, WIFI);
    assert_eq!(world.far.copies, copies, "a path that is left for a better one has lost nothing");
}

#[test]
fn the_way_out_dies_though_rtcp_still_comes() {
    let mut world = van(Redundancy::Handover);
    world.rtcp_on = false;
    world.run(ms(1_000));
    world.links[WIFI].out_dead = true;
    let cut = world.now;
    // A far end that goes on talking, whatever it gets.
    for _ in 0..30 {
        world.run(ms(100));
        world.hear(WIFI);
    }
    world.rtcp_on = true;
    world.run(ms(1_000));
    all_follows(&world, MODEM);
    assert!(world.moves[1].0 - cut <= ms(2_500), "{:?}", world.moves[1].0 - cut);
}

#[test]
fn the_kernel_refuses_before_the_lookout_has_seen_anything() {
    let mut world = van(Redundancy::Handover);
    world.links[WIFI].refuses = true;
    let cut = world.now;
    world.run(ms(1_000));
    all_follows(&world, MODEM);
    assert_eq!(world.moves[1].1.why, Why::AddressLost);
    assert!(world.moves[1].0 - cut <= ms(60), "{:?}", world.moves[1].0 - cut);
}

#[test]
fn one_refused_packet_moves_nothing() {
    let mut world = van(Redundancy::Handover);
    world.links[WIFI].refuses = true;
    world.run(ms(10));
    world.links[WIFI].refuses = false;
    world.run(ms(2_000));
    all_follows(&world, WIFI);
    assert_eq!(world.moves.len(), 1);
}

#[test]
fn modem_appears_and_is_preferred() {
    let mut world =
        World::new(1, plan(Redundancy::Handover), vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2")]);
    world.ranking = vec![MODEM, WIFI];
    world.links[MODEM].up = false;
    world.start();
    world.run(ms(2_000));
    all_follows(&world, WIFI);
    let appeared = world.now;
    world.set_up(MODEM, true);
    world.run(ms(4_900));
    all_follows(&world, WIFI);
    assert!(world.rtcp.iter().all(|(_, link)| *link == WIFI), "a standby is not followed");
    world.run(ms(1_500));
    all_follows(&world, MODEM);
    let (at, moved) = &world.moves[1];
    assert_eq!(moved.why, Why::Preferred);
    assert_eq!(moved.gap, Duration::ZERO);
    assert!(*at - appeared >= ms(5_000));
    assert!(world.gap(appeared, world.now) <= ms(20));
}

#[test]
fn default_route_swaps() {
    let mut world = van(Redundancy::Handover);
    world.run(ms(5_000));
    let swapped = world.now;
    world.ranking = vec![MODEM, WIFI];
    world.tell_network();
    world.run(ms(2_000));
    all_follows(&world, MODEM);
    assert_eq!(world.moves[1].0, swapped, "it has been good for long enough");
    assert!(world.gap(swapped, world.now) <= ms(20));
}

#[test]
fn four_hops_in_a_row() {
    let mut world = van(Redundancy::Handover);
    for (hop, to) in [(1, MODEM), (2, WIFI), (3, MODEM), (4, WIFI)] {
        let from = 1 - to;
        world.set_up(to, true);
        world.run(ms(600));
        let cut = world.now;
        world.set_up(from, false);
        world.run(ms(1_500));
        all_follows(&world, to);
        assert_eq!(world.moves.len(), hop + 1);
        assert!(world.gap(cut, world.now) <= ms(30), "hop {hop}: {:?}", world.gap(cut, world.now));
    }
    let priorities: Vec<u32> = world.far.followed.iter().map(|(_, priority)| *priority).collect();
    assert!(priorities.windows(2).all(|pair| pair[0] < pair[1]), "{priorities:?}");
}

#[test]
fn four_silent_hops_in_a_row() {
    let mut world = van(Redundancy::Handover);
    for to in [MODEM, WIFI, MODEM, WIFI] {
        world.silence(to, false);
        world.run(ms(2_000));
        world.silence(1 - to, true);
        world.run(ms(6_000));
        all_follows(&world, to);
    }
}

#[test]
fn interface_flaps_ten_times() {
    let mut world = van(Redundancy::Handover);
    for _ in 0..10 {
        world.set_up(WIFI, false);
        world.run(ms(500));
        world.set_up(WIFI, true);
        world.run(ms(500));
    }
    all_follows(&world, MODEM);
    assert_eq!(world.moves.len(), 2, "{:?}", world.moves);
    world.run(ms(50_000));
    assert_eq!(world.moves.len(), 2, "a path that has flapped so often is not trusted yet");
    world.run(ms(15_000));
    all_follows(&world, WIFI);
    assert_eq!(world.moves.len(), 3);
    assert_eq!(world.open_sockets().len(), 2);
}

#[test]
fn wifi_is_gone_back_to_when_it_has_been_good_for_a_while() {
    let mut world = van(Redundancy::Handover);
    world.silence(WIFI, true);
    world.run(ms(3_000));
    all_follows(&world, MODEM);
    world.silence(WIFI, false);
    let healed = world.now;
    world.run(ms(8_000));
    all_follows(&world, WIFI);
    let (at, moved) = world.moves.last().unwrap();
    assert_eq!(moved.why, Why::Preferred);
    assert!(*at - healed >= ms(5_000) && *at - healed <= ms(6_500), "{:?}", *at - healed);
    // The second time it takes longer.
    world.silence(WIFI, true);
    world.run(ms(3_000));
    world.silence(WIFI, false);
    let healed = world.now;
    world.run(ms(9_000));
    all_follows(&world, MODEM);
    world.run(ms(4_000));
    all_follows(&world, WIFI);
    assert!(world.moves.last().unwrap().0 - healed >= ms(10_000));
}

#[test]
fn both_die_then_one_returns() {
    let mut world = van(Redundancy::Handover);
    world.silence(WIFI, true);
    world.silence(MODEM, true);
    let cut = world.now;
    world.run(ms(900));
    assert_eq!(world.state(), IceState::Connected, "not yet");
    world.run(ms(300));
    assert_eq!(world.state(), IceState::Disconnected);
    assert_eq!(world.moves.len(), 1, "to nowhere better");
    world.run(ms(4_000));
    world.silence(MODEM, false);
    let healed = world.now;
    world.run(ms(1_500));
    all_follows(&world, MODEM);
    assert!(world.gap(cut, world.now) <= healed - cut + ms(700), "{:?}", world.gap(cut, world.now));
    assert_eq!(world.states.last().unwrap().1, IceState::Connected);
}

#[test]
fn both_die_for_long_and_the_state_says_so() {
    let mut world = van(Redundancy::Handover);
    world.set_up(MODEM, false);
    world.set_up(WIFI, false);
    assert_eq!(world.routes.selected, None);
    let cut = world.now;
    world.run(ms(60_000));
    let states: Vec<(u128, IceState)> = world.states[2..].iter().map(|(at, s)| ((*at - cut).as_millis(), *s)).collect();
    let [(broken, IceState::Disconnected), (failed, IceState::Failed)] = states[..] else { panic!("{states:?}") };
    assert!((800..=1_100).contains(&broken) && (failed - broken) == 12_000, "{states:?}");
    assert!(world.open_sockets().is_empty());
    world.set_up(WIFI, true);
    let healed = world.now;
    world.run(ms(500));
    all_follows(&world, WIFI);
    assert!(world.states.last().unwrap().0 - healed <= ms(60), "one round trip");
    assert_eq!(world.moves.len(), 1, "it is where it was");
}

#[test]
fn the_only_path_dies_for_half_a_minute_and_its_nat_forgets() {
    let mut world = World::new(1, plan(Redundancy::Handover), vec![link("wlan0", "10.0.1.2")]);
    world.start();
    world.run(ms(2_000));
    world.silence(WIFI, true);
    world.run(ms(30_000));
    world.links[WIFI].nat += 1;
    world.silence(WIFI, false);
    world.run(ms(1_500));
    all_follows(&world, WIFI);
    world.run(ms(1_000));
    assert_eq!(world.open_sockets().len(), 1);
}

#[test]
fn dhcp_gives_a_new_address() {
    let mut world = World::new(1, plan(Redundancy::Handover), vec![link("wlan0", "10.0.1.2")]);
    world.start();
    world.run(ms(2_000));
    let cut = world.now;
    world.links[WIFI].address = super::world::address("wlan0", "10.0.1.99");
    world.tell_network();
    world.run(ms(1_000));
    all_follows(&world, WIFI);
    assert_eq!(world.moves[1].1.why, Why::AddressLost);
    assert!(world.gap(cut, world.now) <= ms(100), "a round trip: {:?}", world.gap(cut, world.now));
    assert!(world.states.len() == 2, "no flicker: {:?}", world.states);
}

#[test]
fn nat_rebinds() {
    let mut world = van(Redundancy::Handover);
    let cut = world.now;
    world.links[WIFI].nat += 1;
    world.run(ms(1_000));
    all_follows(&world, WIFI);
    assert_eq!(world.moves.len(), 1, "no other path is needed");
    assert!(world.gap(cut, world.now) <= ms(140), "one check: {:?}", world.gap(cut, world.now));
    assert!(world.rtcp_after(cut + ms(60), WIFI).unwrap() <= ms(400));
}

#[test]
fn two_bad_paths_are_not_flapped_between() {
    let mut world = van(Redundancy::Off);
    let start = world.moves.len();
    for half in 0..60 {
        world.silence(WIFI, half % 2 == 0);
        world.silence(MODEM, half % 2 == 1);
        world.run(ms(1_000));
    }
    let moves = world.moves.len() - start;
    assert!(moves <= 16, "{moves} moves in a minute with 60 outages");
    assert!(moves >= 4, "but it is not given up either: {moves}");
}

#[test]
fn a_path_that_loses_much_is_not_gone_back_to() {
    let mut world = van(Redundancy::Handover);
    world.silence(WIFI, true);
    world.run(ms(3_000));
    world.silence(WIFI, false);
    world.links[WIFI].loss = 0.25;
    world.run(ms(30_000));
    all_follows(&world, MODEM);
}

#[test]
fn nobody_answers() {
    let mut world = World::new(1, plan(Redundancy::Handover), vec![link("wlan0", "10.0.1.2")]);
    world.far.mute = true;
    world.start();
    world.run(ms(14_900));
    assert_eq!(world.state(), IceState::Checking);
    world.run(ms(200));
    assert_eq!(world.state(), IceState::Failed);
    world.far.mute = false;
    world.run(ms(1_000));
    all_follows(&world, WIFI);
}

#[test]
fn the_preferred_path_does_not_work_from_the_start_and_heals_later() {
    let mut world =
        World::new(1, plan(Redundancy::Handover), vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2")]);
    world.silence(WIFI, true);
    world.start();
    world.run(ms(1_000));
    all_follows(&world, MODEM);
    assert!(world.states[1].0 - base() <= ms(200), "{:?}", world.states[1].0 - base());
    world.run(ms(30_000));
    world.silence(WIFI, false);
    world.run(ms(4_000));
    all_follows(&world, MODEM);
    world.run(ms(4_000));
    all_follows(&world, WIFI);
}

#[test]
fn the_preferred_path_is_a_little_slower_at_the_start() {
    let mut world =
        World::new(1, plan(Redundancy::Handover), vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2")]);
    world.links[WIFI].delay = ms(60);
    world.start();
    world.run(ms(2_000));
    all_follows(&world, WIFI);
    assert_eq!(world.moves.len(), 1, "the modem was not used for a blink: {:?}", world.moves);
}

#[test]
fn ice_restarts_while_media_flows() {
    for full in [false, true] {
        let links = vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2")];
        let plan = plan(Redundancy::Handover);
        let mut world = if full { World::full(1, plan, links) } else { World::new(1, plan, links) };
        world.start();
        world.run(ms(3_000));
        let cut = world.now;
        for generation in 1..=3 {
            world.restart(generation, ms(40));
            world.run(ms(2_000));
            all_follows(&world, WIFI);
        }
        assert!(world.gap(cut, world.now) <= ms(20), "{:?}", world.gap(cut, world.now));
        assert_eq!(world.states.len(), 2, "{:?}", world.states);
        world.set_up(WIFI, false);
        world.run(ms(2_000));
        all_follows(&world, MODEM);
    }
}

#[test]
fn a_full_agent_at_the_far_end_follows_too() {
    let mut world =
        World::full(1, plan(Redundancy::Handover), vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2")]);
    world.start();
    world.run(ms(3_000));
    all_follows(&world, WIFI);
    world.silence(WIFI, true);
    world.run(ms(3_000));
    all_follows(&world, MODEM);
    world.silence(WIFI, false);
    world.run(ms(8_000));
    all_follows(&world, WIFI);
    world.set_up(WIFI, false);
    world.run(ms(2_000));
    all_follows(&world, MODEM);
}

#[test]
fn only_relays_are_used_when_that_is_wanted_and_a_turn_node_dies() {
    let links = vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2")];
    let mut world = World::new(1, Plan { relay_only: true, ..plan(Redundancy::Handover) }, links);
    world.turn = true;
    world.start();
    world.run(ms(3_000));
    all_follows(&world, WIFI);
    let relay = world.routes.selected.unwrap().socket;
    assert!(relay.0 >= 1 << 31);
    assert!(world.agent.paths(world.now).iter().any(|path| path.relayed && path.selected));
    world.set_up(WIFI, false);
    world.run(ms(2_000));
    all_follows(&world, MODEM);
    let relay = world.routes.selected.unwrap().socket;
    world.set_up(WIFI, true);
    world.run(ms(1_000));
    world.take_back(relay);
    world.run(ms(2_000));
    all_follows(&world, WIFI);
}

#[test]
fn direct_is_preferred_to_a_relay() {
    let mut world = World::new(1, plan(Redundancy::Handover), vec![link("wlan0", "10.0.1.2")]);
    world.turn = true;
    world.start();
    world.run(ms(2_000));
    assert!(world.routes.selected.unwrap().socket.0 < 1 << 31);
    assert_eq!(world.moves.len(), 1);
}

#[test]
fn a_copy_that_would_come_too_late_is_not_made() {
    let mut world = van(Redundancy::Always);
    assert!(world.far.copies > 100);
    world.links[MODEM].delay = ms(400);
    world.run(ms(20_000));
    let copies = world.far.copies;
    world.run(ms(2_000));
    assert_eq!(world.far.copies, copies);
    world.agent.set_packet_rate(100.0);
    world.run(ms(2_000));
    assert!(world.far.copies > copies + 100);
}

#[test]
fn a_socket_that_cannot_be_opened_is_tried_again() {
    let mut world = World::new(1, plan(Redundancy::Handover), vec![link("wlan0", "10.0.1.2")]);
    world.full_house = true;
    world.start();
    world.run(ms(10_000));
    assert!((4..=12).contains(&world.opens), "{}", world.opens);
    world.full_house = false;
    world.run(ms(12_000));
    all_follows(&world, WIFI);
}

#[test]
fn a_port_that_was_used_before_is_not_used_again() {
    let mut world = van(Redundancy::Handover);
    world.set_up(WIFI, false);
    world.run(ms(1_000));
    world.reuse_port = Some(10_001);
    world.set_up(WIFI, true);
    world.run(ms(1_000));
    assert!(!world.open_ports().contains(&10_001), "{:?}", world.open_ports());
    assert!(world.open_sockets().contains(&WIFI));
}

#[test]
fn any_bytes_may_come() {
    let mut world = van(Redundancy::Handover);
    let mut dice = Dice::new(7);
    let socket = world.routes.selected.unwrap().socket;
    let from = FAR.parse().unwrap();
    let samples = world.kept.clone();
    assert!(samples.len() > 20);
    for round in 0..20_000 {
        let mut packet = samples[dice.below(samples.len() as u64) as usize].clone();
        for _ in 0..dice.below(4) {
            let at = dice.below(packet.len() as u64) as usize;
            packet[at] = dice.next() as u8;
        }
        packet.truncate(dice.below(packet.len() as u64 + 40) as usize);
        let socket = if round % 7 == 0 { SocketId(dice.below(9) as u32) } else { socket };
        world.agent.stun(world.now, socket, from, &packet);
        world.drain();
        let text: String = packet.iter().map(|byte| char::from(*byte)).collect();
        world.agent.remote_candidate(world.now, &text);
        let mut text =
            "a=candidate:1 1 udp 2015364095 198.51.100.1 5000 typ host raddr 1.2.3.4 rport 5".to_owned().into_bytes();
        for _ in 0..dice.below(6) {
            let at = dice.below(text.len() as u64) as usize;
            text[at] = dice.below(127) as u8;
        }
        world.agent.remote_candidate(world.now, &String::from_utf8_lossy(&text));
    }
    assert!(world.agent.candidates(false).len() <= 40);
}

#[test]
fn packets_of_strangers_are_no_sign_of_life() {
    let mut world = van(Redundancy::Handover);
    let socket = world.routes.selected.unwrap().socket;
    let stranger = "192.0.2.66:1".parse().unwrap();
    assert!(world.agent.accepts(socket, FAR.parse().unwrap()));
    assert!(!world.agent.accepts(socket, stranger));
    world.silence(WIFI, true);
    world.silence(MODEM, true);
    for _ in 0..30 {
        world.run(ms(50));
        world.agent.heard(world.now, socket, stranger, Kind::Rtcp);
        world.drain();
    }
    assert_eq!(world.state(), IceState::Disconnected);
}

#[test]
fn answers_that_come_from_elsewhere_prove_nothing() {
    let mut world = van(Redundancy::Handover);
    let elsewhere = "192.0.2.66:1".parse().unwrap();
    world.disguise = Some(elsewhere);
    world.run(ms(2_000));
    assert_eq!(world.state(), IceState::Disconnected);
    assert!(!world.agent.accepts(world.routes.selected.unwrap().socket, elsewhere));
}

#[test]
fn the_modem_is_pulled_while_wifi_is_about_to_be_given_up() {
    let mut world = van(Redundancy::Handover);
    world.links[WIFI].refuses = true;
    world.run(ms(250));
    assert_eq!((world.selected_link(), world.followed_link()), (Some(MODEM), Some(MODEM)));
    world.links[WIFI].refuses = false;
    let opens = world.opens;
    world.set_up(MODEM, false);
    world.run(ms(1_500));
    all_follows(&world, WIFI);
    assert_eq!(world.opens, opens + 1, "the anchor, and no standby for an address that has a socket");
}

/// The line that media flees to was about to be closed, and no later one is there yet.
#[test]
fn the_modem_is_pulled_before_the_slow_wifi_has_got_its_next_socket() {
    for (restarted, pulled) in (250..500).step_by(50).flat_map(|at| [(at, 0), (at, 60), (at, 150)]) {
        let mut world =
            World::new(1, plan(Redundancy::Handover), vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2")]);
        world.links[WIFI].delay = ms(150);
        world.start();
        world.run(ms(restarted));
        assert_eq!(world.selected_link(), Some(MODEM));
        // New credentials: every line has to be confirmed anew.
        world.restart(1, ms(10));
        world.run(ms(pulled));
        world.set_up(MODEM, false);
        world.run(ms(4_000));
        all_follows(&world, WIFI);
        assert!(world.opens <= 6, "{} sockets", world.opens);
    }
}

#[test]
fn a_path_that_died_before_the_far_end_has_followed_does_not_collect_sockets() {
    let mut world = van(Redundancy::Handover);
    world.silence(WIFI, true);
    while world.opens < 3 {
        world.run(ms(1));
    }
    let standby = world.routes.selected;
    while world.routes.selected == standby {
        world.run(ms(1));
    }
    // The anchor is in use, and nothing has been heard of its nomination.
    world.restart(1, ms(5));
    world.silence(MODEM, true);
    // The new credentials work, but that was all.
    world.silence(WIFI, false);
    let healed = world.now;
    while world.agent.paths(world.now)[WIFI].health == Health::Dead {
        world.run(ms(1));
        assert!(world.now - healed < ms(2_000));
    }
    world.silence(WIFI, true);
    world.run(ms(6_000));
    let count = world.open_sockets().iter().filter(|link| **link == MODEM).count();
    assert!(world.opens > 3 && count <= 2, "{count} sockets of {}", world.opens);
    world.silence(MODEM, false);
    world.run(ms(4_000));
    all_follows(&world, MODEM);
}

#[test]
fn statistics_tell_what_is() {
    let world = van(Redundancy::Handover);
    let (ours, theirs) = world.agent.selected().unwrap();
    assert_eq!((ours.kind, ours.address.ip().to_string()), (CandidateType::Host, "10.0.1.2".to_owned()));
    assert_eq!((theirs.kind, theirs.address), (CandidateType::Host, FAR.parse().unwrap()));
    let kinds: Vec<CandidateType> = world.agent.candidates(true).iter().map(|facts| facts.kind).collect();
    assert_eq!(
        kinds,
        [CandidateType::Host, CandidateType::PeerReflexive, CandidateType::Host, CandidateType::PeerReflexive]
    );
    let paths = world.agent.paths(world.now);
    assert_eq!(paths.len(), 2);
    assert!(paths[WIFI].selected && !paths[MODEM].selected);
    assert_eq!(paths[WIFI].rtt, Some(ms(50)));
}
