//! The process is suspended for a while (SIGSTOP, a machine that is moved): what it has not heard meanwhile is its own fault.

use std::time::{Duration, Instant};

use super::tests::{MODEM, WIFI, all_follows, van};
use super::types::{Health, IceState, Redundancy};
use super::world::{World, link, ms, plan};

const ALL: [Redundancy; 3] = [Redundancy::Off, Redundancy::Handover, Redundancy::Always];
const SLEEPS: [u64; 6] = [1_200, 2_000, 4_950, 5_000, 11_000, 60_000];

/// Every length, what is seen first, and what may be sent twice.
fn sleeps() -> impl Iterator<Item = (Duration, bool, Redundancy)> {
    let both = SLEEPS.into_iter().flat_map(|sleep| [(ms(sleep), true), (ms(sleep), false)]);
    both.flat_map(|(sleep, late_first)| ALL.map(|redundancy| (sleep, late_first, redundancy)))
}

/// Media is there again within this.
#[track_caller]
fn media_within(world: &World, woke: Instant, limit: Duration) {
    let (first, _) = world.far.media.iter().find(|(at, _)| *at > woke).expect("media");
    assert!(*first - woke <= limit, "after {:?}", *first - woke);
}

#[test]
fn a_process_that_slept_goes_on_as_if_nothing_had_been() {
    for (sleep, late_first, redundancy) in sleeps() {
        let what = format!("{sleep:?}, late first: {late_first}, {redundancy:?}");
        let mut world = van(redundancy);
        world.run(ms(3_000));
        let opens = world.opens;
        world.sleep(sleep, late_first);
        let woke = world.now;
        world.run(ms(2_000));
        all_follows(&world, WIFI);
        media_within(&world, woke, ms(60));
        assert!(world.gap(woke, world.now) <= ms(60), "{what}: {:?}", world.gap(woke, world.now));
        assert_eq!((world.moves.len(), world.opens - opens, world.incomplete), (1, 0, 0), "{what}");
        assert_eq!(world.states.len(), 2, "{what}: {:?}", world.states);
        for path in world.agent.paths(world.now) {
            assert_eq!(path.health, Health::Good, "{what}");
            assert!(path.rtt.is_some_and(|rtt| rtt <= ms(55)) && path.loss < 0.05, "{what}: {path:?}");
        }
        let copies = world.far.copies;
        world.run(ms(1_000));
        assert_eq!(world.far.copies - copies >= 95, redundancy == Redundancy::Always, "{what}");
    }
}

#[test]
fn a_path_that_dies_right_after_the_waking_is_left_in_time() {
    for ((sleep, late_first, redundancy), after) in sleeps().flat_map(|one| [(one, 300), (one, 2_000)]) {
        let mut world = van(redundancy);
        world.sleep(sleep, late_first);
        world.run(ms(after));
        let (cut, lost) = (world.now, world.lost());
        world.silence(WIFI, true);
        world.run(ms(2_000));
        all_follows(&world, MODEM);
        let left = world.moves[1].0 - cut;
        assert!(left <= ms(500), "{sleep:?}, late first: {late_first}, {redundancy:?}: {left:?}");
        assert_eq!((world.lost().saturating_sub(lost), world.incomplete), (0, 0), "{sleep:?}, {redundancy:?}");
    }
}

#[test]
fn what_was_lost_before_the_sleep_leaves_again_or_a_new_picture_is_asked_for() {
    for (sleep, late_first, redundancy) in sleeps() {
        let mut world = van(redundancy);
        let lost = world.lost();
        world.silence(WIFI, true);
        world.run(ms(60));
        world.sleep(sleep, late_first);
        world.run(ms(1_500));
        all_follows(&world, MODEM);
        let missing = world.lost() > lost;
        assert_eq!(world.incomplete, u32::from(missing), "{sleep:?}, late first: {late_first}, {redundancy:?}");
    }
}

#[test]
fn the_wifi_dies_while_the_process_sleeps() {
    for (sleep, late_first, redundancy) in sleeps() {
        let what = format!("{sleep:?}, late first: {late_first}, {redundancy:?}");
        let mut world = van(redundancy);
        world.silence(WIFI, true);
        world.sleep(sleep, late_first);
        let woke = world.now;
        world.run(ms(1_500));
        all_follows(&world, MODEM);
        media_within(&world, woke, ms(500));
        assert_eq!((world.moves.len(), world.states.len()), (2, 2), "{what}: {:?} {:?}", world.moves, world.states);
    }
}

#[test]
fn the_address_of_the_wifi_goes_while_the_process_sleeps() {
    for (sleep, late_first, redundancy) in sleeps() {
        let mut world = van(redundancy);
        world.links[WIFI].up = false;
        world.sleep(sleep, late_first);
        let woke = world.now;
        // The lookout wakes a little later.
        world.run(ms(20));
        world.tell_network();
        world.run(ms(1_500));
        all_follows(&world, MODEM);
        media_within(&world, woke, ms(120));
    }
}

#[test]
fn the_nat_forgets_while_the_process_sleeps() {
    for (sleep, late_first, redundancy) in sleeps() {
        let mut world = van(redundancy);
        world.links[WIFI].nat += 1;
        world.links[MODEM].nat += 1;
        world.sleep(sleep, late_first);
        let woke = world.now;
        world.run(ms(1_500));
        all_follows(&world, WIFI);
        media_within(&world, woke, ms(200));
        assert_eq!(world.states.len(), 2, "{:?}", world.states);
    }
}

#[test]
fn a_preferred_path_that_had_just_come_back_died_again_in_the_sleep() {
    for (sleep, late_first, redundancy) in sleeps() {
        let mut world = van(redundancy);
        world.silence(WIFI, true);
        world.run(ms(2_000));
        world.silence(WIFI, false);
        world.run(ms(2_000));
        world.silence(WIFI, true);
        world.sleep(sleep, late_first);
        world.run(ms(3_000));
        all_follows(&world, MODEM);
        assert_eq!(world.moves.len(), 2, "{sleep:?}, late first: {late_first}: {:?}", world.moves);
    }
}

#[test]
fn everything_dies_while_the_process_sleeps_and_that_is_said_in_time() {
    for (sleep, late_first, redundancy) in sleeps() {
        let mut world = van(redundancy);
        world.silence(WIFI, true);
        world.silence(MODEM, true);
        world.sleep(sleep, late_first);
        let woke = world.now;
        world.run(ms(14_000));
        let told: Vec<_> = world.states[2..].iter().map(|(at, state)| (*at - woke, *state)).collect();
        let [(broken, IceState::Disconnected), (failed, IceState::Failed)] = told[..] else { panic!("{told:?}") };
        assert!((ms(800)..=ms(1_300)).contains(&broken) && failed - broken == ms(12_000), "{told:?}");
        world.silence(MODEM, false);
        world.run(ms(1_500));
        all_follows(&world, MODEM);
    }
}

#[test]
fn it_sleeps_again_and_again() {
    for redundancy in ALL {
        let mut world = World::new(1, plan(redundancy), vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2")]);
        world.links.iter_mut().for_each(|link| link.delay = ms(150));
        world.start();
        world.run(ms(1_000));
        let opens = world.opens;
        for round in 0..50 {
            world.run(ms(37 * round));
            world.sleep(ms(1_000 + 731 * round), round % 2 == 0);
        }
        world.run(ms(2_000));
        all_follows(&world, WIFI);
        assert!(world.agent.paths(world.now).iter().all(|path| path.health == Health::Good));
        assert_eq!((world.moves.len(), world.opens), (1, opens), "{redundancy:?}");
    }
}
