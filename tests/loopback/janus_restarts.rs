//! A hundred abrupt deaths of a real Janus, and one encoder.

use std::time::{Duration, Instant};

use crate::forward::Forward;
use crate::janus::{Janus, ROOM};
use crate::janus_rig::{QUICK, config, session, wait_for_another};
use crate::program::{Program, Usage};

const RESTARTS: usize = 100;
/// Sessions until caches and thread pools have their size.
const WARM_UP: usize = 20;

#[test]
fn a_hundred_abrupt_restarts_of_janus_leave_one_publisher_each_and_leak_nothing() {
    let mut janus = Janus::start();
    let mut encoder = Program::encoder(&config(janus.url().as_str(), ROOM, QUICK));
    encoder.wait_for_message("broadcasting");
    let viewers = Forward::of(janus.overseer.clone(), ROOM);
    let (mut usage, mut times) = (Vec::new(), Vec::new());
    for restart in 1..=RESTARTS {
        let before = session(&encoder);
        let killed = Instant::now();
        janus.restart();
        let up = killed.elapsed();
        let back = wait_for_another(&mut encoder, &before) - killed;
        times.push((up, back));
        let live: Vec<String> = janus.publishers(ROOM).iter().map(|id| format!("{ROOM}/{id}")).collect();
        assert_eq!(live, [session(&encoder)], "after restart {restart}");
        assert_eq!(janus.sessions().len(), 1, "after restart {restart}");
        usage.push(encoder.usage());
    }
    report(&times);
    let (most, looks) = viewers.most_publishers();
    assert!(most == 1 && looks > RESTARTS, "{most} publishers at once, in {looks} looks");
    assert_eq!(viewers.lost().0, 0, "a stream has holes");
    let (warm, end) = (usage[WARM_UP], usage[RESTARTS - 1]);
    let slope = (end.rss_kb as f64 - warm.rss_kb as f64) / (RESTARTS - WARM_UP) as f64;
    println!("{warm:?} after {WARM_UP} restarts, {end:?} after {RESTARTS}: {slope:.1} kB each; {looks} looks");
    // A session that is just being closed may still be counted, and pools have a thread more or less from moment to moment:
    // the fewest at the end are held against the most after the warm-up. What leaks is there 80 times.
    for (name, of) in [("threads", (|u| u.threads) as fn(&Usage) -> usize), ("files", |u| u.files)] {
        let early = usage[WARM_UP - 10..WARM_UP].iter().map(of).max();
        let late = usage[RESTARTS - 10..].iter().map(of).min();
        assert!(late <= early, "{name}: {early:?} early, {late:?} late");
    }
}

/// How long Janus took to come up, and the encoder to be on air again, both from the kill on.
fn report(times: &[(Duration, Duration)]) {
    let (mut up, mut back): (Vec<_>, Vec<_>) = times.iter().copied().unzip();
    up.sort();
    back.sort();
    let [middle, late] = [times.len() / 2, times.len() * 95 / 100];
    println!("Janus is up after {:?} (p50), {:?} (p95), {:?} (max)", up[middle], up[late], up[times.len() - 1]);
    println!("on air after {:?} (p50), {:?} (p95), {:?} (max)", back[middle], back[late], back[times.len() - 1]);
}
