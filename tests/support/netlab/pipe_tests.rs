//! The arithmetic of a link, in virtual time.

use std::time::{Duration, Instant};

use super::link::{Rate, Shape, Trace};
use super::pipe::Pipe;

const MS: Duration = Duration::from_millis(1);

/// An IPv4 frame whose IP packet has this size.
fn frame(size: usize, mark: u8) -> Vec<u8> {
    let mut frame = vec![mark; size + 14];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame
}

/// Everything that comes out of it by this time after `start`, with its time in milliseconds and its mark.
fn arrivals(pipe: &mut Pipe, start: Instant, within: Duration) -> Vec<(u128, u8)> {
    let mut seen = Vec::new();
    while let Some(now) = pipe.deadline().filter(|now| *now <= start + within) {
        while let Some(flying) = pipe.pop(now) {
            seen.push(((flying.due - start).as_millis(), flying.frame[14]));
        }
    }
    seen
}

#[test]
fn a_rate_spaces_packets_and_a_full_queue_drops_them() {
    let start = Instant::now();
    // 1000 B at 800 kb/s: 10 ms each.
    let shape = Shape { rate: Rate::Bits(800_000), delay: 50 * MS, queue_bytes: 3000, ..Shape::default() };
    let mut pipe = Pipe::new(shape, start, 1);
    (0..5).for_each(|mark| pipe.push(frame(1000, mark), start));
    assert_eq!(arrivals(&mut pipe, start, Duration::from_secs(1)), [(60, 0), (70, 1), (80, 2)]);
    assert_eq!((pipe.counts.overflowed, pipe.counts.delivered), (2, 3));
    // An idle link saves nothing up.
    let later = start + Duration::from_secs(2);
    (0..2).for_each(|mark| pipe.push(frame(1000, mark), later));
    assert_eq!(arrivals(&mut pipe, later, Duration::from_secs(1)), [(60, 0), (70, 1)]);
}

#[test]
fn a_new_rate_holds_for_what_waits() {
    let start = Instant::now();
    let mut pipe = Pipe::new(Shape { rate: Rate::Bits(8_000), ..Shape::default() }, start, 1);
    (0..3).for_each(|mark| pipe.push(frame(1000, mark), start));
    pipe.reshape(Shape { rate: Rate::Bits(800_000), ..Shape::default() }, start + 5 * MS);
    assert_eq!(arrivals(&mut pipe, start, Duration::from_secs(9)), [(15, 0), (25, 1), (35, 2)]);
}

#[test]
fn a_trace_lets_packets_leave_at_its_moments() {
    let start = Instant::now();
    let trace = Trace::parse("10\n20\n100\n");
    let mut pipe = Pipe::new(Shape { rate: Rate::Trace(trace), ..Shape::default() }, start, 1);
    // 752 B: two fit into one opportunity.
    (0..8).for_each(|mark| pipe.push(frame(752, mark), start));
    let expected = [(10, 0), (10, 1), (20, 2), (20, 3), (100, 4), (100, 5), (110, 6), (110, 7)];
    assert_eq!(arrivals(&mut pipe, start, Duration::from_secs(1)), expected);
}

#[test]
fn jitter_keeps_the_order_unless_told_otherwise() {
    let start = Instant::now();
    for reorder in [false, true] {
        let mut pipe = Pipe::new(Shape { jitter: 100 * MS, reorder, ..Shape::default() }, start, 1);
        (0..100).for_each(|mark| pipe.push(frame(100, mark), start));
        let seen = arrivals(&mut pipe, start, Duration::from_secs(1));
        assert_eq!(seen.len(), 100);
        assert_eq!(seen.iter().map(|(_, mark)| mark).is_sorted(), !reorder, "{seen:?}");
        assert!(seen.iter().all(|(at, _)| *at <= 100) && seen.iter().any(|(at, _)| *at > 50), "{seen:?}");
    }
}

#[test]
fn bursts_lose_as_many_packets_but_in_a_row() {
    let start = Instant::now();
    let mut rows = Vec::new();
    for burst in [1.0, 20.0] {
        let mut pipe = Pipe::new(Shape { loss: 0.1, burst, ..Shape::default() }, start, 7);
        let mut losses = Vec::new();
        for _packet in 0..50_000 {
            let before = pipe.counts.lost;
            pipe.push(frame(100, 0), start);
            losses.push(pipe.counts.lost > before);
        }
        let lost = losses.iter().filter(|lost| **lost).count();
        assert!((4_000..6_000).contains(&lost), "{lost} of 50000 with bursts of {burst}");
        rows.push(losses.chunk_by(|one, next| one == next).filter(|row| row[0]).count());
    }
    assert!(rows[0] > 10 * rows[1], "rows of losses: {rows:?}");
}

#[test]
fn copies_and_holes_are_counted() {
    let start = Instant::now();
    let shape = Shape { duplicates: 1.0, mtu_hole: Some(1200), ..Shape::default() };
    let mut pipe = Pipe::new(shape, start, 1);
    pipe.push(frame(1200, 1), start);
    pipe.push(frame(1201, 2), start);
    assert_eq!(arrivals(&mut pipe, start, MS), [(0, 1), (0, 1)]);
    assert_eq!((pipe.counts.offered, pipe.counts.too_big), (2, 1));
}

#[test]
fn the_search_for_neighbours_is_neither_slow_nor_lossy() {
    let start = Instant::now();
    let shape = Shape { loss: 1.0, delay: 500 * MS, ..Shape::default() };
    let mut pipe = Pipe::new(shape, start, 1);
    let mut arp = frame(28, 0);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut solicitation = frame(72, 0);
    solicitation[12..14].copy_from_slice(&[0x86, 0xdd]);
    (solicitation[20], solicitation[54]) = (58, 135);
    let mut echo = solicitation.clone();
    echo[54] = 128;
    for packet in [arp, solicitation, echo] {
        pipe.push(packet, start);
    }
    assert_eq!(arrivals(&mut pipe, start, Duration::from_secs(1)).len(), 2);
    assert_eq!(pipe.counts.lost, 1);
}
