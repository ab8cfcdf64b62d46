//! What a link of the lab does to packets, measured from outside. Generous: other work may share the processors.

use std::time::{Duration, Instant};

use crate::echo::{Asker, Echo};
use crate::netlab::{Link, Netlab, Rate, Shape, Trace};

const MS: Duration = Duration::from_millis(1);

fn lab(link: Link) -> Option<(Netlab, Echo)> {
    let lab = Netlab::builder().uplink("wlan0", link).uplink("wwan0", Link::default()).seed(4).build()?;
    let echo = Echo::start(&lab);
    Some((lab, echo))
}

/// The shortest of several round trips: the one that nothing else delayed.
fn round_trip(asker: &Asker) -> Duration {
    (0..20).map(|_| asker.answer(100).took).min().unwrap()
}

/// Sends so many questions of this size (UDP payload) at once and counts the answers until none comes for a while; the
/// time is that between the first and the last.
fn flood(asker: &Asker, questions: usize, size: usize) -> (usize, Duration) {
    for _question in 0..questions {
        asker.send(size).unwrap();
    }
    asker.socket.set_read_timeout(Some(2000 * MS)).unwrap();
    let mut times = Vec::new();
    while asker.socket.recv(&mut [0; 2048]).is_ok() {
        times.push(Instant::now());
    }
    let took = times.last().zip(times.first()).map(|(last, first)| *last - *first);
    (times.len(), took.unwrap_or_default())
}

#[test]
fn a_delay_is_added_and_taken_away() {
    let Some((lab, _echo)) = lab(Link::with_rtt(100 * MS)) else { return };
    let (wifi, modem) = (Asker::on(&lab, "wlan0"), Asker::on(&lab, "wwan0"));
    let (near, far) = (round_trip(&modem), round_trip(&wifi));
    assert!(far >= 100 * MS && far < 130 * MS, "{far:?} beside {near:?}");
    assert!(near < 30 * MS, "{near:?}");
    lab.shape("wlan0", Link::symmetric(Shape { delay: 10 * MS, jitter: 40 * MS, ..Shape::default() }));
    let times: Vec<Duration> = (0..40).map(|_| wifi.answer(100).took).collect();
    assert!(times.iter().all(|time| *time >= 20 * MS), "{times:?}");
    let spread = *times.iter().max().unwrap() - *times.iter().min().unwrap();
    assert!(spread > 20 * MS, "{times:?}");
    lab.shape("wlan0", Link::default());
    assert!(round_trip(&wifi) < 30 * MS);
}

#[test]
fn losses_are_as_many_as_said_and_in_one_direction() {
    let up = Shape { loss: 0.3, ..Shape::default() };
    let Some((lab, _echo)) = lab(Link { up, down: Shape::default() }) else { return };
    let wifi = Asker::on(&lab, "wlan0");
    let mut answers = 0;
    for _round in 0..10 {
        answers += flood_gently(&wifi, 100);
    }
    // 1000 questions: 700, and more than six standard deviations to each side.
    assert!((600..800).contains(&answers), "{answers} of 1000 with 30 % loss");
    let (stats, lost) = (lab.stats("wlan0"), 1000 - answers);
    // The kernel says a few words of its own (who listens to which group).
    assert!((lost..lost + 20).contains(&stats.up.lost), "{lost} lost, {stats:?}");
    assert_eq!(stats.down.lost, 0, "{stats:?}");
    assert_eq!(flood_gently(&Asker::on(&lab, "wwan0"), 100), 100);
}

/// So many questions, few enough at once that no buffer overflows; how many are answered.
fn flood_gently(asker: &Asker, questions: usize) -> u64 {
    for _question in 0..questions {
        asker.send(100).unwrap();
    }
    asker.socket.set_read_timeout(Some(500 * MS)).unwrap();
    let mut answers = 0;
    while answers < questions as u64 && asker.socket.recv(&mut [0; 2048]).is_ok() {
        answers += 1;
    }
    answers
}

#[test]
fn a_rate_limits_and_a_queue_overflows() {
    // 1028 B with headers at 1 Mb/s: 8.2 ms each; 60 KB hold 58 of them.
    let up = Shape { rate: Rate::Bits(1_000_000), queue_bytes: 60_000, ..Shape::default() };
    let Some((lab, _echo)) = lab(Link { up: up.clone(), down: Shape::default() }) else { return };
    let wifi = Asker::on(&lab, "wlan0");
    wifi.seen();
    let (answers, took) = flood(&wifi, 100, 1000);
    assert!((55..75).contains(&answers), "{answers} of 100 fit into the queue");
    let rate = 1028.0 * 8.0 * (answers - 1) as f64 / took.as_secs_f64();
    assert!((800_000.0..1_100_000.0).contains(&rate), "{rate} b/s");
    assert!(lab.stats("wlan0").up.overflowed >= 100 - answers as u64, "{:?}", lab.stats("wlan0"));
    // Two opportunities of 1504 B every 20 ms: 1.2 Mb/s.
    lab.shape("wlan0", Link { up: Shape { rate: Rate::Trace(Trace::parse("20\n20\n")), ..up }, ..Link::default() });
    let (answers, took) = flood(&wifi, 50, 1000);
    assert_eq!(answers, 50);
    let rate = 1028.0 * 8.0 * (answers - 1) as f64 / took.as_secs_f64();
    assert!((900_000.0..1_400_000.0).contains(&rate), "{rate} b/s");
}

#[test]
fn links_are_punctual() {
    let Some((lab, _echo)) = lab(Link::with_rtt(50 * MS)) else { return };
    let wifi = Asker::on(&lab, "wlan0");
    wifi.seen();
    // About 4 s of a stream of 1000 packets a second in both directions.
    let mut buffer = [0; 2048];
    wifi.socket.set_read_timeout(Some(MS)).unwrap();
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < Duration::from_secs(4) {
        if start.elapsed().as_millis() >= sent {
            wifi.send(1000).unwrap();
            sent += 1;
        }
        // An error: no answer is there yet.
        let _answer = wifi.socket.recv(&mut buffer);
    }
    let stats = lab.stats("wlan0");
    let late = [0.5, 0.99, 0.999, 1.0].map(|part| stats.lateness(part));
    println!("{sent} packets each way: {stats:?}");
    assert!(stats.up.delivered > 1000, "{stats:?}");
    // 1 ms is the aim on a quiet machine; tests may share theirs.
    assert!(late[0] < 5 * MS, "{late:?}");
}
