//! Pure: how long to wait before the next try - seeded, so that many encoders do not come back in one instant and a test
//! can repeat what it saw.

use std::time::{Duration, Instant};

use super::event::RetrySlot;
use super::{Policy, SignallingPolicy};

/// Whatever the config says, tries are never closer than this: below it a loop only heats the CPU.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
/// Longest time that is ever added to a clock, so that an absurd number cannot overflow it.
const LONGEST_WAIT: Duration = Duration::from_hours(365 * 24);
/// Before the cap a wait is lengthened by at most a fifth of itself: it spreads encoders and stays predictable.
const JITTER_DIVISOR: u32 = 5;
/// The first waits at the cap are anything between `minDelay` and `maxDelay`: two of them spread encoders that were lost
/// in one instant evenly over time.
const FULL_JITTERS: u32 = 2;
/// Once spread, encoders stay spread, and then an even wait is better than a random one: none waits for `maxDelay` again,
/// and fewer tries meet by chance. From this share of `maxDelay` in percent ...
const SETTLED_MIN_PERCENT: u32 = 48;
/// ... to this. Of 1 000 encoders 12 come in each 100 ms, and 95 % are served within 8 s (`tests/pure/storm.rs`).
const SETTLED_MAX_PERCENT: u32 = 61;
/// A server's Retry-After is lengthened by at most a tenth of itself (product.md: "+0..10 %").
const SPREAD_DIVISOR: u32 = 10;

/// The brain's dice: splitmix64 (Steele, Lea, Flood 2014), seeded by whoever makes the brain. They roll one number for ever
/// once a server has given us a [`RetrySlot`]: encoders with slots of their own never meet, those with dice do by chance.
#[derive(Debug, Clone)]
pub(super) struct Dice {
    state: u64,
    slot: Option<RetrySlot>,
}

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self { state: seed, slot: None }
    }

    /// From now on this share of every spread is ours.
    pub(super) const fn keep_to(&mut self, slot: RetrySlot) {
        self.slot = Some(slot);
    }

    fn next(&mut self) -> u64 {
        if let Some(RetrySlot(slot)) = self.slot {
            return u64::from(slot) << 48;
        }
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly spread over 0..=`longest`.
    fn up_to(&mut self, longest: Duration) -> Duration {
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        let scaled = (u128::from(self.next()) * (u128::from(nanos) + 1)) >> 64;
        Duration::from_nanos(u64::try_from(scaled).unwrap_or(nanos))
    }
}

/// The wait before retry number `retry` (from 1) of an outage: `minDelay`, doubled each time, a little jitter; when that
/// reaches `maxDelay` twice anything in `minDelay..=maxDelay`, then about half of `maxDelay`. Always within
/// `minDelay..=maxDelay`.
pub(super) fn delay(policy: &Policy, retry: u32, dice: &mut Dice) -> Duration {
    let (min, max) = bounds(policy);
    let doubled = |retry: u32| min.saturating_mul(1_u32.checked_shl(retry.saturating_sub(1)).unwrap_or(u32::MAX));
    let share = |percent: u32| (max / 100).saturating_mul(percent).max(min);
    if doubled(retry) < max {
        let doubled = doubled(retry);
        doubled + dice.up_to((doubled / JITTER_DIVISOR).min(max - doubled))
    } else if retry <= FULL_JITTERS || doubled(retry - FULL_JITTERS) < max {
        min + dice.up_to(max - min)
    } else {
        let shortest = share(SETTLED_MIN_PERCENT);
        shortest + dice.up_to(share(SETTLED_MAX_PERCENT) - shortest)
    }
}

/// The wait before Resume number `number` (from 1) in a row: `minDelay`, doubled up to `maxDelay`, jitter up and down.
pub(super) fn signalling_delay(policy: &SignallingPolicy, number: u32, dice: &mut Dice) -> Duration {
    let min = policy.min_delay.clamp(SHORTEST_WAIT, LONGEST_WAIT);
    let max = policy.max_delay.clamp(min, LONGEST_WAIT);
    let doubled = min.saturating_mul(1_u32.checked_shl(number.saturating_sub(1)).unwrap_or(u32::MAX)).min(max);
    let jitter = (doubled / 100).saturating_mul(policy.jitter_percent.min(100));
    (doubled - jitter + dice.up_to(jitter * 2)).max(SHORTEST_WAIT)
}

/// The longest wait that [`signalling_delay`] can give.
pub(super) fn signalling_cap(policy: &SignallingPolicy) -> Duration {
    let max = policy.max_delay.max(policy.min_delay).clamp(SHORTEST_WAIT, LONGEST_WAIT);
    max + (max / 100).saturating_mul(policy.jitter_percent.min(100))
}

/// The wait when the server named one: never less than it said, and never less than `minDelay`.
pub(super) fn server_delay(policy: &Policy, retry_after: Duration, dice: &mut Dice) -> Duration {
    hinted_delay(retry_after, dice).max(bounds(policy).0)
}

/// This long, give or take a tenth: encoders that lost one server in one instant do not ask it in one.
pub(super) fn about(wait: Duration, dice: &mut Dice) -> Duration {
    let tenth = wait / SPREAD_DIVISOR;
    wait - tenth + dice.up_to(tenth * 2)
}

/// What the server named, and up to a tenth more.
pub(super) fn hinted_delay(hint: Duration, dice: &mut Dice) -> Duration {
    let hint = hint.min(LONGEST_WAIT);
    hint + dice.up_to(hint / SPREAD_DIVISOR)
}

/// A wait chosen under an older policy, as the new one would have it.
pub(super) fn refit(policy: &Policy, delay: Duration) -> Duration {
    let (min, max) = bounds(policy);
    delay.clamp(min, max)
}

/// `now` + `wait`, which cannot overflow.
pub(super) fn after(now: Instant, wait: Duration) -> Instant {
    now + wait.min(LONGEST_WAIT)
}

fn bounds(policy: &Policy) -> (Duration, Duration) {
    let min = policy.min_delay.clamp(SHORTEST_WAIT, LONGEST_WAIT);
    (min, policy.max_delay.clamp(min, LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tests::policy;

    #[test]
    fn every_delay_lies_between_min_and_max() {
        let mut dice = Dice::new(1);
        for retry in 0..2000 {
            let delay = delay(&policy(), retry, &mut dice);
            assert!((policy().min_delay..=policy().max_delay).contains(&delay), "retry {retry}: {delay:?}");
        }
    }

    #[test]
    fn it_doubles_until_the_cap_is_spread_evenly_there_and_settles_in_the_middle() {
        let mut dice = Dice::new(2);
        for (retry, at_least, at_most) in [(1, 2.0, 2.4), (2, 4.0, 4.8), (3, 8.0, 9.6)] {
            let delay = delay(&policy(), retry, &mut dice).as_secs_f64();
            assert!((at_least..=at_most).contains(&delay), "retry {retry}: {delay}");
        }
        for retry in [4, 5] {
            let capped: Vec<f64> = (0..1000).map(|_| delay(&policy(), retry, &mut dice).as_secs_f64()).collect();
            let mean = capped.iter().sum::<f64>() / 1000.0;
            assert!((8.0..9.0).contains(&mean), "full jitter over 2..15 has its middle at 8.5: {mean}");
            assert!(capped.iter().any(|d| *d < 3.0) && capped.iter().any(|d| *d > 14.0), "it reaches both ends");
        }
        for retry in 6..1000 {
            let settled = delay(&policy(), retry, &mut dice).as_secs_f64();
            assert!((7.2..=9.15).contains(&settled), "retry {retry}: {settled}");
        }
    }

    #[test]
    fn a_servers_time_is_kept_and_lengthened_by_a_tenth_at_most() {
        let mut dice = Dice::new(3);
        for _ in 0..1000 {
            let delay = server_delay(&policy(), Duration::from_secs(40), &mut dice).as_secs_f64();
            assert!((40.0..=44.0).contains(&delay), "{delay}");
        }
        assert_eq!(server_delay(&policy(), Duration::ZERO, &mut dice), policy().min_delay);
    }

    #[test]
    fn absurd_signalling_numbers_neither_panic_nor_spin() {
        let mut dice = Dice::new(5);
        let silly = |min_delay, max_delay, jitter_percent| SignallingPolicy {
            min_delay,
            max_delay,
            jitter_percent,
            ..SignallingPolicy::default()
        };
        assert!(signalling_delay(&silly(Duration::ZERO, Duration::ZERO, u32::MAX), 1, &mut dice) >= SHORTEST_WAIT);
        assert!(signalling_delay(&silly(Duration::MAX, Duration::MAX, 900), u32::MAX, &mut dice) <= LONGEST_WAIT * 2);
        assert!(signalling_cap(&silly(Duration::MAX, Duration::ZERO, 20)) >= LONGEST_WAIT);
    }

    #[test]
    fn absurd_numbers_neither_panic_nor_spin() {
        let mut dice = Dice::new(4);
        let silly = |min, max| Policy { min_delay: min, max_delay: max, ..policy() };
        assert!(delay(&silly(Duration::ZERO, Duration::ZERO), 1, &mut dice) >= SHORTEST_WAIT);
        assert!(delay(&silly(Duration::MAX, Duration::ZERO), u32::MAX, &mut dice) <= LONGEST_WAIT);
        assert!(delay(&silly(Duration::ZERO, Duration::MAX), u32::MAX, &mut dice) <= LONGEST_WAIT);
        assert!(server_delay(&policy(), Duration::MAX, &mut dice) >= LONGEST_WAIT);
    }

    #[test]
    fn who_has_a_slot_keeps_to_it_and_to_all_bounds() {
        let waits = |slot| {
            let mut dice = Dice::new(7);
            dice.keep_to(RetrySlot(slot));
            (1..20).map(|retry| delay(&policy(), retry, &mut dice).as_secs_f64()).collect::<Vec<_>>()
        };
        let (first, middle, last) = (waits(0), waits(u16::MAX / 2), waits(u16::MAX));
        assert_eq!((first[0], first[3], first[10]), (2.0, 2.0, 7.2), "the earliest of each spread");
        assert!(middle.iter().zip(&last).zip(&first).all(|((middle, last), first)| first < middle && middle < last));
        assert!(last.iter().all(|wait| *wait <= 15.0) && last[0] > 2.39, "{last:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let waits = |seed| {
            let mut dice = Dice::new(seed);
            (1..20).map(|retry| delay(&policy(), retry, &mut dice)).collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }
}
