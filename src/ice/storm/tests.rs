//! Thousands of seeded networks that do what they like, and what must be true in all of them. Figures are printed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::agent::pacing;
use super::types::{Health, IceState, Plan, Redundancy};
use super::world::{Dice, Link, World, link, ms, plan};

/// Seeds of a usual run. A long one, on all cores: `make storm`, or
/// `ROAMCAST_SEEDS=10000 cargo test --lib the_rules_hold_in_every_storm`; one seed alone: `ROAMCAST_SEED=4711 ROAMCAST_SEEDS=1`.
const SEEDS: u64 = 300;
/// With one path that works, media is on a path that works, and RTCP comes, within this.
const HEALED_WITHIN: Duration = ms(4_000);
/// A far end of the crate `is` follows only where its own check was answered, which it repeats every 3 s after an outage.
const FULL_CHECKS_AGAIN_WITHIN: Duration = ms(3_500);

/// With another one that works, media is on a dead path no longer: 16 open questions, 100 ms apart, and some patience.
const KEPT_MAX: Duration = ms(2_000);
/// The longest that was seen, in milliseconds.
static KEPT: AtomicU64 = AtomicU64::new(0);
/// Most checks that left within a second.
static CHECKS: AtomicU64 = AtomicU64::new(0);

fn seeds() -> u64 {
    std::env::var("ROAMCAST_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

fn links(dice: &mut Dice) -> Vec<Link> {
    let links = [link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2"), link("eth0", "10.0.3.2")];
    let count = 1 + dice.below(3) as usize;
    let mut wild = |link: Link| Link {
        delay: ms(2 + dice.below(150)),
        jitter: ms(dice.below(31)),
        loss: dice.below(11) as f64 / 100.0,
        ..link
    };
    links.into_iter().take(count).map(&mut wild).collect()
}

/// Something happens to a link. True: the far end may be out of reach now though it was not.
fn strike(world: &mut World, dice: &mut Dice, restarts: &mut u32) {
    let at = dice.below(world.links.len() as u64) as usize;
    let what = dice.below(13);
    if world.told {
        println!("strike {what} at {at}");
    }
    match what {
        0..=2 => world.set_up(at, !world.links[at].up),
        3..=5 => {
            let silent = world.links[at].out_dead;
            world.silence(at, !silent);
        }
        6 => world.links[at].out_dead = !world.links[at].out_dead,
        7 => world.links[at].nat += 1,
        8 => {
            world.ranking.rotate_left(1);
            world.tell_network();
        }
        9 => world.links[at].refuses = !world.links[at].refuses,
        10 => world.links[at].delay = ms(2 + dice.below(200)),
        11 => world.sleep(ms(200 + dice.below(60_000)), dice.chance(0.5)),
        _ => {
            *restarts += 1;
            world.restart(*restarts, ms(dice.below(200)));
        }
    }
}

fn storm(seed: u64) {
    let mut dice = Dice::new(seed);
    let redundancy = [Redundancy::Off, Redundancy::Handover, Redundancy::Always][dice.below(3) as usize];
    let links = links(&mut dice);
    let full = dice.chance(0.2);
    let plan = Plan { suspect_after: ms(200 + dice.below(400)), ..plan(redundancy) };
    let mut world = if full { World::full(seed, plan, links) } else { World::new(seed, plan, links) };
    world.spacing = ms(20);
    world.start();
    let mut restarts = 0;
    let strikes = 2 + dice.below(8);
    let mut watch = Watch::new(&world);
    for _ in 0..strikes {
        world.run(ms(50 + dice.below(900)));
        watch.look(&world);
        let before = (restarts, world.now);
        strike(&mut world, &mut dice, &mut restarts);
        watch.after_strike(&world, before != (restarts, world.now));
    }
    blackout(&mut world, &mut dice);
    heal(&mut world, &mut dice, full);
    let moves = world.moves.len() as u64;
    assert!(moves <= 2 * strikes + 6, "{moves} moves after {strikes} strikes: {:?}", world.moves);
    let priorities: Vec<u32> = world.far.followed.iter().map(|(_, priority)| *priority).collect();
    CHECKS.fetch_max(world.busiest.0 as u64, Ordering::Relaxed);
    assert!(world.busiest.1 <= pacing::SECOND_MAX, "{} checks in a second to nobody that is known", world.busiest.1);
    assert_eq!(world.strays, 0, "packets left from an address that was gone");
    assert!(full || restarts > 0 || priorities.windows(2).all(|pair| pair[0] < pair[1]), "{priorities:?}");
}

/// Nobody stays on a dead path while another one works.
struct Watch {
    /// Since when each link is as it is.
    since: Vec<(bool, Instant)>,
    /// Nothing is expected of what was before this.
    begin: Instant,
}

impl Watch {
    fn new(world: &World) -> Self {
        Self { since: world.links.iter().map(|link| (link.works(), world.now)).collect(), begin: world.now }
    }

    /// `anew`: new credentials, or a sleep.
    fn after_strike(&mut self, world: &World, anew: bool) {
        for (since, link) in self.since.iter_mut().zip(&world.links) {
            if since.0 != link.works() {
                *since = (link.works(), world.now);
            }
        }
        if anew {
            self.begin = world.now;
        }
    }

    fn look(&self, world: &World) {
        let Some((false, dead)) = world.selected_link().map(|link| self.since[link]) else { return };
        let Some(works) = self.since.iter().filter(|(works, _)| *works).map(|(_, since)| *since).min() else { return };
        let moved = world.moves.last().map_or(self.begin, |(at, _)| *at);
        let kept = world.now - dead.max(works).max(moved).max(self.begin).min(world.now);
        KEPT.fetch_max(kept.as_millis() as u64, Ordering::Relaxed);
        assert!(kept <= KEPT_MAX, "media was kept on a dead path for {kept:?}: {:?}", world.links);
    }
}

/// Sometimes nothing works for a while, and then nobody may say that it does.
fn blackout(world: &mut World, dice: &mut Dice) {
    if dice.chance(0.2) {
        for at in 0..world.links.len() {
            world.silence(at, true);
        }
        world.run(ms(1_600));
        assert!(!matches!(world.state(), IceState::Connected), "{:?}", world.states);
    }
}

fn heal(world: &mut World, dice: &mut Dice, full: bool) {
    let good = dice.below(world.links.len() as u64) as usize;
    let others = dice.chance(0.5);
    for at in 0..world.links.len() {
        let link = &mut world.links[at];
        link.refuses = false;
        if at == good || others {
            (link.out_dead, link.in_dead) = (false, false);
            // A full agent that has lost two checks in a row is 6 s behind: that would be no fault of ours.
            link.loss = if full { 0.0 } else { link.loss.min(0.05) };
        }
    }
    world.set_up(good, true);
    world.run(if full { HEALED_WITHIN + FULL_CHECKS_AGAIN_WITHIN } else { HEALED_WITHIN });
    for _ in 0..world.links.len() {
        if world.moves.last().is_some_and(|(at, _)| world.now - *at < ms(1_500)) {
            // Not in the middle of a move back to a preferred path.
            world.run(ms(1_500));
        }
    }
    let now = world.now;
    assert_eq!(world.state(), IceState::Connected, "{:?}", world.states);
    let selected = world.selected_link().expect("a route");
    assert!(world.links[selected].works(), "media on a dead path: {:?}", world.links);
    let (media, _) = world.far.media.last().expect("media");
    assert!(now - *media < ms(600), "the last media came {:?} ago", now - *media);
    let followed = world.followed_link();
    assert_eq!(followed, Some(selected), "RTCP goes elsewhere: {:?}", world.far.followed);
    let (rtcp, _) = world.rtcp.last().expect("RTCP");
    assert!(now - *rtcp < ms(1_800), "the last RTCP came {:?} ago", now - *rtcp);
    // Each address that is there has one socket, and at most one more that is on its way in or out.
    let open = world.open_sockets();
    for at in 0..world.links.len() {
        let count = open.iter().filter(|link| **link == at).count();
        let range = if world.links[at].up { 1..=2 } else { 0..=0 };
        assert!(range.contains(&count), "{count} sockets at link {at}, up: {}", world.links[at].up);
    }
}

#[test]
fn the_rules_hold_in_every_storm() {
    let first: u64 = std::env::var("ROAMCAST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let seeds_wanted = seeds();
    let next = AtomicU64::new(first);
    let some = || {
        let seeds = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let ours = seeds.take_while(|seed| *seed < first + seeds_wanted);
        ours.filter(|seed| std::panic::catch_unwind(|| storm(*seed)).is_err()).collect::<Vec<_>>()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    println!("longest on a dead path while another one worked: {} ms", KEPT.load(Ordering::Relaxed));
    println!("most checks within a second: {}", CHECKS.load(Ordering::Relaxed));
    assert!(failed.is_empty(), "{} of {} seeds: {failed:?}", failed.len(), seeds_wanted);
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() - 1) * percent / 100]
}

/// A van with a selected wifi and a modem, 50 ms round trip.
fn van(seed: u64, redundancy: Redundancy, change: impl Fn(&mut Link)) -> World {
    let mut links = vec![link("wlan0", "10.0.1.2"), link("wwan0", "10.0.2.2")];
    links.iter_mut().for_each(change);
    let mut world = World::new(seed, plan(redundancy), links);
    world.start();
    world.run(ms(2_000 + seed * 37 % 500));
    world
}

#[test]
fn an_hour_of_loss_and_jitter_moves_nothing() {
    for rtcp in [true, false] {
        let mut world = van(11, Redundancy::Handover, |link| {
            link.loss = 0.05;
            link.jitter = ms(30);
        });
        world.media_on = false;
        world.rtcp_on = rtcp;
        world.spacing = ms(50);
        let before = world.moves.len();
        let stun = world.stun_out;
        world.run(Duration::from_secs(3_600));
        println!(
            "1 h, 5 % loss each way, 30 ms jitter, RTCP {rtcp}: {} moves, {} STUN packets a second, {} sockets, {:?}",
            world.moves.len() - before,
            (world.stun_out - stun) / 3_600,
            world.opens,
            world.agent.paths(world.now).iter().map(|path| (path.rtt, path.loss)).collect::<Vec<_>>(),
        );
        assert_eq!(world.moves.len(), before, "{:?}", world.moves);
        assert_eq!(world.states.len(), 2, "{:?}", world.states);
        // RTCP that came at first and then never again is worth a few fresh sockets; RTCP that is lost now and then is not.
        let tries = if rtcp { 0 } else { 6 };
        assert!(world.opens <= 2 + tries, "{} sockets", world.opens);
    }
}

/// From the death to: suspect, moved.
fn silent_death(seed: u64, redundancy: Redundancy, jitter: u64, loss: f64) -> (Duration, Duration, World, Instant) {
    let mut world = van(seed, redundancy, |link| {
        link.jitter = ms(jitter);
        link.loss = loss;
    });
    let cut = world.now;
    world.silence(0, true);
    let mut suspect = None;
    while world.selected_link() == Some(0) && world.now - cut < ms(3_000) {
        world.run(ms(5));
        let health = world.agent.paths(world.now)[0].health;
        if health != Health::Good && suspect.is_none() {
            suspect = Some(world.now - cut);
        }
    }
    let moved = world.now - cut;
    world.run(ms(1_500));
    (suspect.unwrap_or(moved), moved, world, cut)
}

#[test]
fn a_silent_death_is_detected_in_time() {
    for (jitter, loss) in [(0, 0.0), (30, 0.0), (30, 0.05)] {
        let (mut suspects, mut moves) = (Vec::new(), Vec::new());
        for seed in 0..200 {
            let (suspect, moved, ..) = silent_death(seed, Redundancy::Handover, jitter, loss);
            suspects.push(suspect);
            moves.push(moved);
        }
        let (s50, s95) = (percentile(&mut suspects, 50), percentile(&mut suspects, 95));
        let (m50, m95) = (percentile(&mut moves, 50), percentile(&mut moves, 95));
        println!(
            "silent death, RTT 50 ms + {jitter} ms jitter, {loss} loss: suspect p50 {s50:?} p95 {s95:?}, moved p50 {m50:?} p95 {m95:?}"
        );
        assert!(s95 <= ms(400) && m95 <= ms(500), "suspect {s95:?}, moved {m95:?}");
    }
}

#[test]
fn gaps_at_a_round_trip_of_50_ms() {
    for redundancy in [Redundancy::Off, Redundancy::Handover, Redundancy::Always] {
        let (mut down, mut silent, mut feedback) = (Vec::new(), Vec::new(), Vec::new());
        for seed in 0..60 {
            let mut world = van(seed, redundancy, |_| ());
            let cut = world.now;
            world.set_up(0, false);
            world.run(ms(1_500));
            down.push(world.gap(cut, world.now));
            let (_, _, world, cut) = silent_death(seed, redundancy, 0, 0.0);
            silent.push(world.gap(cut, world.now));
            feedback.push(world.rtcp_after(cut, 1).expect("RTCP follows"));
        }
        let both = |times: &mut [Duration]| (percentile(times, 50), percentile(times, 95));
        println!(
            "{redundancy:?}: gap p50/p95 link down {:?}, silent {:?}; RTCP on the new path after silent {:?}",
            both(&mut down),
            both(&mut silent),
            both(&mut feedback)
        );
        let limit = match redundancy {
            Redundancy::Off => ms(520),
            Redundancy::Handover => ms(350),
            Redundancy::Always => ms(30),
        };
        assert!(percentile(&mut silent, 95) <= limit && percentile(&mut down, 95) <= ms(40));
        assert!(percentile(&mut feedback, 95) <= ms(800));
    }
}
