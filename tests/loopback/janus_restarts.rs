//! A hundred abrupt deaths of a real Janus, and one encoder.

use std::time::{Duration, Instant};

use crate::forward::Forward;
use crate::janus::{Janus, ROOM};
use crate::janus_rig::{QUICK, config, session, wait_for_another};
use crate::program::Program;

const RESTARTS: usize = 100;
/// Sessions until caches have their size.
const WARM_UP: usize = 20;

#[test]
fn a_hundred_abrupt_restarts_of_janus_leave_one_publisher_each_and_leak_nothing() {
    let mut janus = Janus::start();
    let mut encoder = Program::encoder(&config(janus.url().as_str(), ROOM, QUICK));
    encoder.wait_for_message("broadcasting");
    let viewers = Forward::of(janus.overseer.clone(), ROOM);
    let (mut warm, mut rss_kb, mut times) = (None, Vec::new(), Vec::new());
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
        rss_kb.push(encoder.rss_kb());
        if restart == WARM_UP {
            warm = Some(encoder.at_rest());
        }
    }
    report(&times);
    let (most, looks) = viewers.most_publishers();
    assert!(most == 1 && looks > RESTARTS, "{most} publishers at once, in {looks} looks");
    assert_eq!(viewers.lost().0, 0, "a stream has holes");
    let slope = (rss_kb[RESTARTS - 1] - rss_kb[WARM_UP]) / (RESTARTS - WARM_UP) as f64;
    println!("{slope:.1} kB each after the first {WARM_UP}; {looks} looks");
    assert_eq!(Some(encoder.at_rest()), warm, "after all, and after {WARM_UP} restarts");
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
