//! Pure: which connections stay when there is no room for more.
//!
//! One that does nothing makes way for a new one, so that nobody can lock others out by connecting and saying nothing. It is
//! taken from the address that has the most, and of those it is the one that has been silent the longest.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

/// How many connections there may be at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub total: usize,
    /// From one address; of IPv6, from one /64, which is what one customer of a network has. Less than `total`, or one
    /// address may take it all.
    pub per_address: usize,
}

/// All connections of one server. `H` ends one when it is dropped.
#[derive(Debug)]
pub(super) struct Seats<H> {
    limits: Limits,
    next: u64,
    taken: BTreeMap<u64, Seat<H>>,
}

#[derive(Debug)]
struct Seat<H> {
    from: Option<IpAddr>,
    /// Since when no request is under way on it.
    idle_since: Option<Instant>,
    ends: H,
}

impl<H> Seats<H> {
    pub(super) const fn new(limits: Limits) -> Self {
        Self { limits, next: 0, taken: BTreeMap::new() }
    }

    /// A number for a new connection, and who makes way for it. `None`: nobody can.
    pub(super) fn admit(&mut self, peer: Option<IpAddr>, now: Instant, ends: H) -> Option<(u64, Option<H>)> {
        let from = peer.map(network);
        let out = if from.is_some() && self.count(from) >= self.limits.per_address {
            Some(self.idlest(|seat| seat.from == from)?)
        } else if self.taken.len() >= self.limits.total {
            Some(self.idlest(|_| true)?)
        } else {
            None
        };
        let out = out.and_then(|number| self.leave(number));
        let number = self.next;
        self.next += 1;
        self.taken.insert(number, Seat { from, idle_since: Some(now), ends });
        Some((number, out))
    }

    /// A request is under way.
    pub(super) fn occupy(&mut self, number: u64) {
        if let Some(seat) = self.taken.get_mut(&number) {
            seat.idle_since = None;
        }
    }

    /// It is answered.
    pub(super) fn idle(&mut self, number: u64, now: Instant) {
        if let Some(seat) = self.taken.get_mut(&number) {
            seat.idle_since = Some(now);
        }
    }

    /// The connection is over. Gives what would have ended it, if it was still there.
    pub(super) fn leave(&mut self, number: u64) -> Option<H> {
        self.taken.remove(&number).map(|seat| seat.ends)
    }

    fn count(&self, from: Option<IpAddr>) -> usize {
        self.taken.values().filter(|seat| seat.from == from).count()
    }

    fn idlest(&self, may: impl Fn(&Seat<H>) -> bool) -> Option<u64> {
        let mut of_address: BTreeMap<Option<IpAddr>, usize> = BTreeMap::new();
        for seat in self.taken.values() {
            *of_address.entry(seat.from).or_default() += 1;
        }
        let idle = self.taken.iter().filter(|(_, seat)| may(seat));
        let idle = idle.filter_map(|(number, seat)| Some((number, of_address.get(&seat.from)?, seat.idle_since?)));
        idle.min_by(|(_, many, since), (_, others, later)| others.cmp(many).then(since.cmp(later)))
            .map(|(number, ..)| *number)
    }
}

/// What one customer of a network has.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some Instant to count from")]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { total: 4, per_address: 3 };

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn the_one_that_is_silent_the_longest_makes_way() {
        let t = Instant::now();
        let at = |seconds| t + Duration::from_secs(seconds);
        let mut seats = Seats::new(LIMITS);
        for (number, name) in (0..).zip(["a", "b", "c"]) {
            assert_eq!(seats.admit(ip("192.0.2.1"), at(number), name), Some((number, None)));
        }
        seats.occupy(0);
        assert_eq!(seats.admit(ip("192.0.2.1"), at(3), "d"), Some((3, Some("b"))), "0 is busy");
        seats.idle(0, at(4));
        assert_eq!(seats.admit(ip("192.0.2.1"), at(5), "e"), Some((4, Some("c"))));
        assert_eq!(seats.admit(ip("192.0.2.1"), at(6), "f"), Some((5, Some("d"))), "0 was busy until 4");
    }

    #[test]
    fn the_address_that_has_the_most_makes_way_first_and_the_busy_never() {
        let t = Instant::now();
        let mut seats = Seats::new(LIMITS);
        assert!(seats.admit(ip("192.0.2.9"), t, 0).is_some(), "silent for longer than all others");
        for number in 1..4 {
            assert_eq!(seats.admit(ip("192.0.2.1"), t + Duration::from_secs(1), number), Some((number, None)));
        }
        assert_eq!(seats.admit(ip("192.0.2.2"), t, 4), Some((4, Some(1))));
        (0..=4).for_each(|number| seats.occupy(number));
        assert_eq!(seats.admit(ip("192.0.2.3"), t, 5), None, "all are at work");
        seats.leave(2);
        assert_eq!(seats.admit(ip("192.0.2.3"), t, 6), Some((5, None)));
    }

    #[test]
    fn one_network_is_one_address() {
        let t = Instant::now();
        for (peers, one) in [
            (["2001:db8::1", "2001:db8::ffff:2", "2001:db8::3", "2001:db8:0:0:9::"], true),
            (["2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1"], false),
            (["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"], true),
            (["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"], false),
        ] {
            let mut seats = Seats::new(LIMITS);
            let admitted = peers.map(|peer| seats.admit(ip(peer), t, ()).unwrap().1.is_some());
            assert_eq!(admitted, [false, false, false, one], "{peers:?}");
        }
    }

    #[test]
    fn a_unix_socket_has_no_address_to_count_by() {
        let mut seats = Seats::new(LIMITS);
        let admitted: Vec<_> = (0..5).map(|_| seats.admit(None, Instant::now(), ()).unwrap().1.is_some()).collect();
        assert_eq!(admitted, [false, false, false, false, true]);
    }

    proptest! {
        /// Whatever happens: never more than the limits, and nobody at work is sent away.
        #[test]
        fn the_limits_hold(deeds in proptest::collection::vec((0u8..5, 0u8..4, 0u64..30), 0..200)) {
            let t = Instant::now();
            let mut seats = Seats::new(LIMITS);
            let mut busy = std::collections::BTreeSet::new();
            for (step, (deed, host, number)) in (0..).zip(deeds) {
                let now = t + Duration::from_secs(step);
                match deed {
                    0..=1 => {
                        let out = seats.admit(Some([192, 0, 2, host].into()), now, seats.next).and_then(|(_, out)| out);
                        prop_assert!(out.is_none_or(|out| !busy.contains(&out)));
                    }
                    2 if seats.taken.contains_key(&number) => { seats.occupy(number); busy.insert(number); }
                    2 => seats.occupy(number),
                    3 => { seats.idle(number, now); busy.remove(&number); }
                    _ => { seats.leave(number); busy.remove(&number); }
                }
                prop_assert!(seats.taken.len() <= LIMITS.total);
                for host in 0..4 {
                    prop_assert!(seats.count(Some([192, 0, 2, host].into())) <= LIMITS.per_address);
                }
            }
        }
    }
}
