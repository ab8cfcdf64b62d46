//! What happens to the van.

use std::time::Duration;

use super::words::{Health, IceState, Redundancy, Why};
use super::world::{World, base, link, ms, plan};

/// Wifi is preferred, the modem is there.
fn van(redundancy: Redundancy) -> World {
    let mut world = World::new(1, plan(redundancy), vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2")]);
    world.start();
    world.run(ms(3_000));
    world
}

const WIFI: usize = 0;
const MODEM: usize = 1;

#[track_caller]
fn all_follows(world: &World, link: usize) {
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
    assert!(world.candidates.is_empty(), "nothing is signalled");
    assert_eq!(world.opens, 2);
}

#[test]
fn wifi_dies_while_modem_is_up() {
    let mut world = van(Redundancy::Handover);
    let cut = world.now;
    world.set_up(WIFI, false);
    world.run(ms(2_000));
    all_follows(&world, MODEM);
    assert_eq!(world.moves.len(), 2);
    assert_eq!(world.moves[1].1.why, Why::AddressLost);
    println!("gap {:?} lost {} rtcp {:?}", world.gap(cut, world.now), world.lost(), world.rtcp_after(cut, MODEM));
}

#[test]
fn path_goes_silent_but_link_stays_up() {
    let mut world = van(Redundancy::Handover);
    let cut = world.now;
    world.silence(WIFI, true);
    world.run(ms(2_000));
    all_follows(&world, MODEM);
    assert_eq!(world.moves[1].1.why, Why::Silent);
    println!("moved {:?} gap {:?} lost {}", world.moves[1].0 - cut, world.gap(cut, world.now), world.lost());
    let _ = (Health::Good, Duration::ZERO);
}
