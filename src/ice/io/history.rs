//! Pure: the RTP that left lately, and what of it leaves once more because the path it took was silent.
//!
//! A path that dies in silence takes with it what was sent until somebody noticed, and the far end asks for it (NACK) where
//! nobody hears. So as soon as another path is used, all that left since the last proof of the old one goes there, in its
//! old order and before anything new: the far end takes what it lacks and drops what it has (the same bytes, SRTP replay
//! protection). Faster than it was recorded, but not all at once: a modem that carries the stream has no room for a
//! burst of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Older packets are of no use: after that long a viewer wants a new picture, not the old ones.
const KEPT_FOR: Duration = Duration::from_secs(1);
/// 16 Mb/s for that long.
const KEPT_BYTES: usize = 2_000_000;
/// So much leaves at once: a keyframe, which any path must take that carries the stream.
const AT_ONCE: usize = 48_000;
/// The rest leaves so many times faster than it did at first.
const SPEED: u32 = 5;
/// A packet waits for the next one no longer than this, however few there were.
const GAP_MAX: Duration = Duration::from_millis(5);

/// Some packet, twice or thrice in use.
type Packet = Arc<[u8]>;

/// The packets of one session.
#[derive(Debug, Default)]
pub(in crate::ice) struct Encore {
    kept: VecDeque<(Instant, Packet)>,
    bytes: usize,
    /// When the newest of those left that are not kept any more.
    forgotten: Option<Instant>,
    waiting: VecDeque<Packet>,
    at_once: usize,
    gap: Duration,
    next: Option<Instant>,
}

impl Encore {
    /// This RTP packet leaves now. True: on the way of the encore it must not, as its turn comes later.
    pub(in crate::ice) fn left(&mut self, now: Instant, packet: &[u8]) -> bool {
        let packet: Packet = packet.into();
        self.bytes += packet.len();
        self.kept.push_back((now, Arc::clone(&packet)));
        let old = |at: Instant| now.saturating_duration_since(at) > KEPT_FOR;
        while let Some((at, _)) = self.kept.front().filter(|(at, _)| old(*at) || self.bytes > KEPT_BYTES) {
            self.forgotten = Some(*at);
            self.bytes -= self.kept.pop_front().map_or(0, |(_, packet)| packet.len());
        }
        let waits = self.is_on();
        if waits {
            self.waiting.push_back(packet);
        }
        waits
    }

    /// All that left since then is to leave once more. False: some of it is not there any more, so nothing will; the far
    /// end cannot go on without a whole picture anyway.
    pub(in crate::ice) fn begin(&mut self, now: Instant, since: Instant) -> bool {
        let whole = self.forgotten.is_none_or(|forgotten| forgotten < since);
        let packets = self.kept.iter().filter(|(at, _)| whole && *at >= since).map(|(_, packet)| Arc::clone(packet));
        self.waiting = packets.collect();
        let count = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX).max(1);
        self.gap = (now.saturating_duration_since(since) / count / SPEED).min(GAP_MAX);
        self.next = Some(now);
        self.at_once = AT_ONCE;
        whole
    }

    /// There is nowhere for it to go.
    pub(in crate::ice) fn stop(&mut self) {
        self.waiting.clear();
    }

    /// Something waits for its turn.
    pub(in crate::ice) fn is_on(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When [`Encore::due`] is to be asked next.
    pub(in crate::ice) fn deadline(&self) -> Option<Instant> {
        self.next.filter(|_| self.is_on())
    }

    /// The next packet, if its turn has come.
    pub(in crate::ice) fn due(&mut self, now: Instant) -> Option<Packet> {
        let next = self.next.filter(|next| *next <= now)?;
        let packet = self.waiting.pop_front()?;
        let more = self.at_once.checked_sub(packet.len());
        self.at_once = more.unwrap_or(0);
        self.next = Some(if more.is_some() { next } else { next + self.gap });
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[allow(clippy::disallowed_methods, reason = "a test needs some Instant to start from; the value does not matter")]
    fn start() -> Instant {
        Instant::now()
    }

    fn number(packet: &[u8]) -> u32 {
        u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]])
    }

    /// 1000 bytes each, one in two milliseconds: 4 Mb/s.
    fn stream(encore: &mut Encore, start: Instant, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let mut packet = vec![0; 1_000];
            packet[..4].copy_from_slice(&number.to_be_bytes());
            encore.left(start + ms(2) * number, &packet);
        }
    }

    /// What leaves until then, and when each did.
    fn play(encore: &mut Encore, until: Instant) -> Vec<(Instant, u32)> {
        let mut played = Vec::new();
        while let Some(at) = encore.deadline().filter(|at| *at <= until) {
            let packet = encore.due(at).expect("its time has come");
            played.push((at, number(&packet)));
        }
        played
    }

    #[test]
    fn what_left_since_then_leaves_again_in_order_and_new_packets_wait_for_their_turn() {
        let (start, mut encore) = (start(), Encore::default());
        stream(&mut encore, start, 0..200);
        assert!(!encore.is_on());
        assert!(encore.begin(start + ms(400), start + ms(100)));
        let mut played = play(&mut encore, start + ms(405));
        assert!(encore.left(start + ms(405), &200_u32.to_be_bytes()), "it waits");
        played.extend(play(&mut encore, start + ms(600)));
        let numbers: Vec<u32> = played.iter().map(|(_, number)| *number).collect();
        assert_eq!(numbers, (50..=200).collect::<Vec<_>>());
        assert!(!encore.left(start + ms(600), &201_u32.to_be_bytes()), "nothing is before it any more");
    }

    #[test]
    fn a_thin_modem_gets_no_more_than_a_keyframe_at_once() {
        let (start, mut encore) = (start(), Encore::default());
        stream(&mut encore, start, 0..300);
        let now = start + ms(600);
        assert!(encore.begin(now, start + ms(100)));
        let played = play(&mut encore, now + ms(1_000));
        assert_eq!(played.len(), 250);
        let by = |after: u64| played.iter().filter(|(at, _)| *at <= now + ms(after)).count();
        assert!((48..=50).contains(&by(0)), "{} at once", by(0));
        assert!(by(40) <= by(0) + 101, "five times as fast as at first: {} in 40 ms", by(40) - by(0));
        assert_eq!(by(100), 250, "but soon over");
    }

    #[test]
    fn what_is_too_old_or_too_much_is_forgotten_and_then_nothing_leaves_again() {
        let (start, mut encore) = (start(), Encore::default());
        stream(&mut encore, start, 0..1_000);
        assert!(encore.begin(start + ms(2_000), start + ms(1_002)));
        assert!(!encore.begin(start + ms(2_000), start + ms(900)), "a second is over");
        assert!(!encore.is_on() && encore.deadline().is_none());
        let big = vec![0; 100_000];
        for at in 0..30 {
            encore.left(start + ms(2_000 + at), &big);
        }
        assert!(!encore.begin(start + ms(2_030), start + ms(2_005)), "more than is kept");
        assert!(encore.begin(start + ms(2_030), start + ms(2_012)));
    }
}
