//! Paths die again and again: a dead one is left each time, and two bad ones are not flapped between.

use std::time::{Duration, Instant};

use super::tests::{MODEM, WIFI, all_follows, van};
use super::types::{Redundancy, Why};
use super::world::{World, link, ms, plan};

const ALL: [Redundancy; 3] = [Redundancy::Off, Redundancy::Handover, Redundancy::Always];
/// Beyond this the path in use is no more suspect but left: `suspect_after` and what asking all paths takes.
const LEFT_WITHIN: Duration = ms(1_000);

/// Media was moved so long after `cut`.
#[track_caller]
fn left_after(world: &World, cut: Instant, to: usize) -> Duration {
    let moved = world.moves.iter().find(|(at, _)| *at >= cut);
    let (at, moved) = moved.unwrap_or_else(|| panic!("never left, moves: {:?}", world.moves));
    assert_eq!((&moved.to, moved.why), (&world.links[to].address, Why::Silent));
    *at - cut
}

/// Every `period` the path in use dies and the other one heals.
fn seesaw(world: &mut World, period: Duration, halves: u32) {
    for half in 0..halves {
        world.silence(WIFI, half % 2 == 0);
        world.silence(MODEM, half % 2 == 1);
        world.run(period);
    }
}

#[test]
fn the_wifi_dies_again_and_again_and_the_modem_takes_over_each_time() {
    for redundancy in ALL {
        let mut world = van(redundancy);
        let mut slowest = Duration::ZERO;
        for death in 0..20 {
            let (dies, lives) = if death % 2 == 0 { (WIFI, MODEM) } else { (MODEM, WIFI) };
            let cut = world.now;
            world.silence(dies, true);
            world.run(ms(1_500));
            let left = left_after(&world, cut, lives);
            assert!(left <= ms(500), "{redundancy:?}, death {death}: left after {left:?}");
            slowest = slowest.max(left);
            world.silence(dies, false);
            world.run(ms(1_500));
            all_follows(&world, lives);
        }
        println!("{redundancy:?}: 20 silent deaths 3 s apart, each left within {slowest:?}");
    }
}

#[test]
fn one_path_comes_back_just_when_the_other_dies_and_is_taken_each_time() {
    for redundancy in ALL {
        let mut world = van(redundancy);
        let mut slowest = Duration::ZERO;
        for death in 0..20 {
            let (dies, lives) = if death % 2 == 0 { (WIFI, MODEM) } else { (MODEM, WIFI) };
            let cut = world.now;
            world.silence(dies, true);
            world.silence(lives, false);
            world.run(ms(3_000));
            let left = left_after(&world, cut, lives);
            assert!(left <= LEFT_WITHIN, "{redundancy:?}, death {death}: left after {left:?}");
            slowest = slowest.max(left);
            all_follows(&world, lives);
        }
        println!("{redundancy:?}: the same in step with the other's return: {slowest:?}");
    }
}

#[test]
fn after_much_unrest_a_path_that_dies_for_good_is_left_soon() {
    for period in [600, 800, 1_000, 1_200, 1_500] {
        let mut world = van(Redundancy::Off);
        seesaw(&mut world, ms(period), 24);
        world.silence(WIFI, false);
        world.silence(MODEM, false);
        world.run(ms(200));
        let (dies, lives) = if world.selected_link() == Some(WIFI) { (WIFI, MODEM) } else { (MODEM, WIFI) };
        let cut = world.now;
        world.silence(dies, true);
        world.run(ms(4_000));
        let left = left_after(&world, cut, lives);
        println!("{period} ms: left after {left:?}");
        assert!(left <= ms(1_900), "{period} ms: left after {left:?}");
        all_follows(&world, lives);
    }
}

#[test]
fn two_paths_that_the_kernel_refuses_in_turn_are_not_flapped_between() {
    let mut world = van(Redundancy::Off);
    let before = world.moves.len();
    for half in 0..60 {
        world.links[WIFI].refuses = half % 2 == 0;
        world.links[MODEM].refuses = half % 2 == 1;
        world.run(ms(1_000));
    }
    let moves = world.moves.len() - before;
    println!("refused in turn: {moves} moves in a minute");
    assert!((4..=16).contains(&moves), "{moves} moves in a minute with 60 refusals");
}

#[test]
fn a_third_path_that_was_never_bad_is_taken_at_once() {
    let links = vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2"), link("eth0", "10.0.3.2")];
    let mut world = World::new(1, plan(Redundancy::Off), links);
    world.links[2].up = false;
    world.start();
    world.run(ms(3_000));
    seesaw(&mut world, ms(1_000), 10);
    world.silence(WIFI, true);
    world.silence(MODEM, true);
    world.run(ms(1_500));
    let plugged_in = world.now;
    world.set_up(2, true);
    world.run(ms(2_000));
    let left = left_after(&world, plugged_in, 2);
    println!("a third path: taken after {left:?}");
    assert!(left <= ms(100), "{left:?}");
    all_follows(&world, 2);
}

#[test]
fn in_whatever_rhythm_two_paths_die_moving_is_never_worse_than_staying() {
    for period in [300, 500, 700, 1_000, 1_200, 1_400, 1_600, 2_000, 3_000] {
        for (redundancy, least) in [(Redundancy::Off, 0.49), (Redundancy::Handover, 0.99)] {
            let mut world = van(redundancy);
            let (moves, media, start) = (world.moves.len(), world.far.media.len(), world.now);
            let halves = u32::try_from(60_000 / period).unwrap() / 2 * 2;
            seesaw(&mut world, ms(period), halves);
            let span = world.now - start;
            let moves = world.moves.len() - moves;
            let came = (world.far.media.len() - media) as f64 * world.spacing.as_secs_f64() / span.as_secs_f64();
            println!("{redundancy:?}, {period} ms: {moves} moves in a minute, {:.1} % of the media came", came * 100.0);
            assert!(came >= least, "{period} ms: {came}");
        }
    }
}

#[test]
fn two_paths_that_lose_most_packets_are_not_flapped_between() {
    for loss in [0.45, 0.6] {
        let (mut moves, mut worst) = (0, 0);
        for seed in 0..4 {
            let links = [("wlan0", "10.0.1.2"), ("wwan0", "10.0.2.2")];
            let links = links.map(|(interface, ip)| link(interface, ip)).to_vec();
            let mut world = World::new(seed, plan(Redundancy::Off), links);
            world.spacing = ms(20);
            world.start();
            world.run(ms(3_000));
            let before = world.moves.len();
            world.links.iter_mut().for_each(|link| link.loss = loss);
            world.run(Duration::from_secs(300));
            moves += world.moves.len() - before;
            worst = worst.max(world.moves.len() - before);
        }
        println!("{loss} lost each way: {moves} moves in 20 min, at most {worst} in 5 min");
        assert!(worst <= 16, "{loss} lost each way: {worst} moves in 5 min");
    }
}
