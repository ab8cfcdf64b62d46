//! One direction of a link: packets in, the same packets out later, or never. Knows no clock and no device.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use super::link::{Rate, Shape, Trace};

/// What happened to the packets of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Came to the link.
    pub(crate) offered: u64,
    /// Lost at random.
    pub(crate) lost: u64,
    /// Found the queue full.
    pub(crate) overflowed: u64,
    /// Larger than the MTU hole lets through.
    pub(crate) too_big: u64,
    /// Left the link, copies included.
    pub(crate) delivered: u64,
}

/// A packet on its way, ordered by its arrival.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flying {
    pub(super) due: Instant,
    /// Keeps the order of packets that are due at once.
    number: u64,
    pub(super) frame: Vec<u8>,
}

/// One direction of a link.
#[derive(Debug)]
pub(super) struct Pipe {
    shape: Shape,
    /// Wait for their transmission, with the time of their coming and the bytes that are still to be sent.
    waiting: VecDeque<(Instant, usize, Vec<u8>)>,
    waiting_bytes: usize,
    /// When the sender has been or will be done with what has left `waiting`.
    free_at: Instant,
    /// When the present trace began, and its next opportunity.
    trace: (Instant, usize),
    flying: BinaryHeap<Reverse<Flying>>,
    last_due: Instant,
    numbered: u64,
    in_a_burst: bool,
    dice: fastrand::Rng,
    pub(super) counts: Counts,
}

impl Pipe {
    /// The same seed and the same packets lose the same ones.
    pub(super) fn new(shape: Shape, now: Instant, seed: u64) -> Self {
        Self {
            shape,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            free_at: now,
            trace: (now, 0),
            flying: BinaryHeap::new(),
            last_due: now,
            numbered: 0,
            in_a_burst: false,
            dice: fastrand::Rng::with_seed(seed),
            counts: Counts::default(),
        }
    }

    /// Packets that have left the sender keep their time of arrival, those that wait leave at the new rate.
    pub(super) fn reshape(&mut self, shape: Shape, now: Instant) {
        self.transmit(now);
        self.shape = shape;
        (self.free_at, self.trace) = (now, (now, 0));
    }

    /// An Ethernet frame comes to the link.
    pub(super) fn push(&mut self, frame: Vec<u8>, now: Instant) {
        // The neighbour is not at the far end of a country: finding it is neither slow nor lossy.
        if finds_neighbours(&frame) {
            self.fly(frame, now, Duration::ZERO);
            return;
        }
        self.transmit(now);
        let size = frame.len().saturating_sub(ETHERNET_HEADER);
        self.counts.offered += 1;
        if self.shape.mtu_hole.is_some_and(|most| size > most) {
            self.counts.too_big += 1;
        } else if self.loses() {
            self.counts.lost += 1;
        } else if self.waiting_bytes + size > self.shape.queue_bytes {
            self.counts.overflowed += 1;
        } else {
            self.waiting_bytes += size;
            self.waiting.push_back((now, size, frame));
            self.transmit(now);
        }
    }

    /// The next packet that has arrived by now.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Flying> {
        self.transmit(now);
        if self.flying.peek()?.0.due > now {
            return None;
        }
        let Reverse(flying) = self.flying.pop()?;
        self.counts.delivered += 1;
        Some(flying)
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let arrival = self.flying.peek().map(|Reverse(flying)| flying.due);
        let departure = self.waiting.front().and_then(|(came, size, _)| self.departure(*came, *size));
        arrival.into_iter().chain(departure).min()
    }

    /// When the sender is done with the first that waits, or has its next opportunity.
    fn departure(&self, came: Instant, size: usize) -> Option<Instant> {
        match &self.shape.rate {
            Rate::Unlimited => Some(came),
            Rate::Bits(0) => None,
            Rate::Bits(rate) => {
                let bits = u64::try_from(size).ok()? * 8;
                Some(self.free_at.max(came) + Duration::from_nanos(bits * 1_000_000_000 / rate))
            }
            Rate::Trace(trace) => Some(self.trace.0 + trace.moment(self.trace.1)),
        }
    }

    /// Lets fly what the sender is done with by now.
    fn transmit(&mut self, now: Instant) {
        if let Rate::Trace(trace) = self.shape.rate.clone() {
            self.use_opportunities(&trace, now);
            return;
        }
        while let Some((came, size, _)) = self.waiting.front() {
            let Some(done) = self.departure(*came, *size).filter(|done| *done <= now) else { return };
            self.free_at = done;
            self.depart(done);
        }
    }

    fn use_opportunities(&mut self, trace: &Trace, now: Instant) {
        loop {
            let moment = self.trace.0 + trace.moment(self.trace.1);
            if moment > now {
                return;
            }
            self.trace.1 += 1;
            let mut credit = Trace::BYTES;
            while let Some((came, left, _)) = self.waiting.front_mut().filter(|(came, ..)| *came <= moment) {
                debug_assert!(*came <= moment);
                let used = (*left).min(credit);
                *left -= used;
                credit -= used;
                if *left > 0 {
                    break;
                }
                self.depart(moment);
            }
        }
    }

    /// The first that waits leaves the sender at this moment.
    fn depart(&mut self, done: Instant) {
        let Some((_, _, frame)) = self.waiting.pop_front() else { return };
        self.waiting_bytes -= frame.len().saturating_sub(ETHERNET_HEADER);
        let jitter = self.shape.jitter.mul_f64(self.dice.f64());
        let delay = self.shape.delay + jitter;
        if self.shape.duplicates > 0.0 && self.dice.f64() < self.shape.duplicates {
            self.fly(frame.clone(), done, delay);
        }
        self.fly(frame, done, delay);
    }

    fn fly(&mut self, frame: Vec<u8>, from: Instant, delay: Duration) {
        let mut due = from + delay;
        if !self.shape.reorder && !finds_neighbours(&frame) {
            due = due.max(self.last_due);
            self.last_due = due;
        }
        self.numbered += 1;
        self.flying.push(Reverse(Flying { due, number: self.numbered, frame }));
    }

    /// Throws the dice; with bursts, by the two states of Gilbert's model.
    fn loses(&mut self) -> bool {
        let loss = self.shape.loss;
        if loss <= 0.0 {
            return false;
        }
        if self.shape.burst <= 1.0 || loss >= 1.0 {
            return self.dice.f64() < loss;
        }
        let leaves = 1.0 / self.shape.burst;
        let chance = self.dice.f64();
        self.in_a_burst = if self.in_a_burst { chance >= leaves } else { chance < loss * leaves / (1.0 - loss) };
        self.in_a_burst
    }
}

/// Bytes before the IP packet.
const ETHERNET_HEADER: usize = 14;

/// ARP, or ICMPv6 of neighbour and router discovery (types 133 to 137).
fn finds_neighbours(frame: &[u8]) -> bool {
    const ICMPV6: u8 = 58;
    match frame.get(12..14) {
        Some([0x08, 0x06]) => true,
        Some([0x86, 0xdd]) => {
            frame.get(20) == Some(&ICMPV6) && frame.get(54).is_some_and(|kind| (133..=137).contains(kind))
        }
        _ => false,
    }
}
