//! Pure: how long to wait before the next try - seeded, so that many encoders do not come back in one instant and a test
//! can repeat what it saw.

use std::time::{Duration, Instant};

use super::event::RetrySlot;
use super::policy::{Policy, SignallingPolicy};
use super::slot::{Plain, Slot};

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
/// Who has a slot comes back after this share of `maxDelay` in percent, always: 8.1 s, as [`Slot`] has room for.
const SLOTTED_PERCENT: u32 = 54;
/// A server's Retry-After is lengthened by at most a tenth of itself (product.md: "+0..10 %").
const SPREAD_DIVISOR: u32 = 10;

/// The brain's dice: splitmix64 (Steele, Lea, Flood 2014), seeded by whoever makes the brain. They are laid aside once a
/// server has given us a [`RetrySlot`]: encoders with slots of their own never meet, those with dice do by chance.
#[derive(Debug, Clone)]
pub(super) struct Dice {
    state: u64,
    slot: Option<Slot>,
}

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self { state: seed, slot: None }
    }

    /// From now on this is our number. Whatever is lost next, all lose it in one instant.
    pub(super) fn keep_to(&mut self, slot: RetrySlot) {
        self.slot = Some(Slot::new(slot));
    }

    /// Another session begins: its server says what our number is there, if it has numbers.
    pub(super) fn forget_slot(&mut self) {
        self.slot = None;
    }

    /// When signalling is reopened that the server wants left alone until `from`.
    pub(super) fn not_before(&mut self, from: Instant) -> Instant {
        self.slot.as_mut().map_or(from, |slot| slot.not_before(from))
    }

    fn next(&mut self) -> u64 {
        if let Some(slot) = &self.slot {
            return u64::from(slot.share()) << 48;
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
/// reaches `maxDelay` twice anything in `minDelay..=maxDelay`, then about half of `maxDelay`. With a slot as [`Slot`] has
/// it. Always within `minDelay..=maxDelay`, but for a reopening of signalling that becomes a retry and was due sooner.
pub(super) fn delay(policy: &Policy, retry: u32, now: Instant, dice: &mut Dice) -> Duration {
    let (min, max) = bounds(policy);
    let doubled = |retry: u32| min.saturating_mul(1_u32.checked_shl(retry.saturating_sub(1)).unwrap_or(u32::MAX));
    let share = |percent: u32| (max / 100).saturating_mul(percent).max(min);
    if let Some(slot) = &mut dice.slot {
        return slot.session(now, Plain { min, max, doubled: doubled(retry), settled: share(SLOTTED_PERCENT) });
    }
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

/// The wait before Resume number `number` (from 1) in a row: `minDelay`, doubled up to `maxDelay`, jitter up and down. With
/// a slot as [`Slot`] has it.
pub(super) fn signalling_delay(policy: &SignallingPolicy, number: u32, now: Instant, dice: &mut Dice) -> Duration {
    let min = policy.min_delay.clamp(SHORTEST_WAIT, LONGEST_WAIT);
    let max = policy.max_delay.clamp(min, LONGEST_WAIT);
    let doubled = min.saturating_mul(1_u32.checked_shl(number.saturating_sub(1)).unwrap_or(u32::MAX)).min(max);
    if let Some(slot) = &mut dice.slot {
        return slot.signalling(now, number, Plain { min, max, doubled, settled: signalling_cap(policy) });
    }
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
    use crate::supervisor::tests::{at, policy};

    #[test]
    fn every_delay_lies_between_min_and_max() {
        let mut dice = Dice::new(1);
        for retry in 0..2000 {
            let delay = delay(&policy(), retry, at(0.0), &mut dice);
            assert!((policy().min_delay..=policy().max_delay).contains(&delay), "retry {retry}: {delay:?}");
        }
    }

    #[test]
    fn it_doubles_until_the_cap_is_spread_evenly_there_and_settles_in_the_middle() {
        let mut dice = Dice::new(2);
        for (retry, at_least, at_most) in [(1, 2.0, 2.4), (2, 4.0, 4.8), (3, 8.0, 9.6)] {
            let delay = delay(&policy(), retry, at(0.0), &mut dice).as_secs_f64();
            assert!((at_least..=at_most).contains(&delay), "retry {retry}: {delay}");
        }
        for retry in [4, 5] {
            let capped: Vec<f64> =
                (0..1000).map(|_| delay(&policy(), retry, at(0.0), &mut dice).as_secs_f64()).collect();
            let mean = capped.iter().sum::<f64>() / 1000.0;
            assert!((8.0..9.0).contains(&mean), "full jitter over 2..15 has its middle at 8.5: {mean}");
            assert!(capped.iter().any(|d| *d < 3.0) && capped.iter().any(|d| *d > 14.0), "it reaches both ends");
        }
        for retry in 6..1000 {
            let settled = delay(&policy(), retry, at(0.0), &mut dice).as_secs_f64();
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
        assert!(
            signalling_delay(&silly(Duration::ZERO, Duration::ZERO, u32::MAX), 1, at(0.0), &mut dice) >= SHORTEST_WAIT
        );
        assert!(
            signalling_delay(&silly(Duration::MAX, Duration::MAX, 900), u32::MAX, at(0.0), &mut dice)
                <= LONGEST_WAIT * 2
        );
        assert!(signalling_cap(&silly(Duration::MAX, Duration::ZERO, 20)) >= LONGEST_WAIT);
    }

    #[test]
    fn absurd_numbers_neither_panic_nor_spin() {
        let mut dice = Dice::new(4);
        let silly = |min, max| Policy { min_delay: min, max_delay: max, ..policy() };
        assert!(delay(&silly(Duration::ZERO, Duration::ZERO), 1, at(0.0), &mut dice) >= SHORTEST_WAIT);
        assert!(delay(&silly(Duration::MAX, Duration::ZERO), u32::MAX, at(0.0), &mut dice) <= LONGEST_WAIT);
        assert!(delay(&silly(Duration::ZERO, Duration::MAX), u32::MAX, at(0.0), &mut dice) <= LONGEST_WAIT);
        assert!(server_delay(&policy(), Duration::MAX, &mut dice) >= LONGEST_WAIT);
    }

    fn slotted(number: u16) -> Dice {
        let mut dice = Dice::new(7);
        dice.keep_to(RetrySlot(number));
        dice
    }

    /// Waits of tries that fail at once, in seconds.
    fn session_waits(dice: &mut Dice, from: f64, first: u32) -> Vec<f64> {
        let mut now = at(from);
        let wait = |retry| {
            let wait = delay(&policy(), retry, now, dice);
            now += wait;
            wait.as_secs_f64()
        };
        (first..first + 19).map(wait).collect()
    }

    #[test]
    fn the_first_encoder_of_a_server_waits_as_if_it_were_alone_and_so_do_few_others_after_their_offset() {
        let waits = |number| session_waits(&mut slotted(number), 0.0, 1);
        assert_eq!(waits(0)[..5], [2.0, 4.0, 8.0, 8.1, 8.1]);
        assert_eq!(waits(20)[..5], [4.0, 4.0, 8.0, 8.1, 8.1]);
        assert_eq!(waits(80)[..5], [10.0, 8.0, 8.0, 8.1, 8.1]);
    }

    #[test]
    fn many_encoders_keep_to_their_moment_and_to_all_bounds() {
        for number in [81, 400, 999, u16::MAX] {
            let waits = session_waits(&mut slotted(number), 0.0, 1);
            assert!((2.0..10.1).contains(&waits[0]), "{number}: {waits:?}");
            assert!(waits[1..].iter().all(|wait| (wait - 8.1).abs() < 1e-6), "{number}: {waits:?}");
        }
        let mut dice = slotted(81);
        let first = delay(&policy(), 1, at(0.0), &mut dice);
        assert_eq!(first, Duration::from_millis(2050));
        // The server does not answer, for 5 s: it is asked again when it would have been.
        assert_eq!(delay(&policy(), 2, at(7.05), &mut dice), Duration::from_millis(3100));
        let tight = Policy { min_delay: Duration::from_secs(3), max_delay: Duration::from_secs(3), ..policy() };
        assert!((1..9).all(|retry| delay(&tight, retry, at(f64::from(retry)), &mut slotted(999)) == tight.max_delay));
    }

    #[test]
    fn signalling_of_one_is_as_quick_as_ever_and_of_many_takes_turns_within_the_window_of_the_server() {
        let waits = |number| {
            let (mut dice, mut now) = (slotted(number), at(0.0));
            let wait = |number| {
                let wait = signalling_delay(&SignallingPolicy::default(), number, now, &mut dice);
                now += wait;
                wait.as_secs_f64()
            };
            (1..=8).map(wait).collect::<Vec<_>>()
        };
        assert_eq!(waits(0), [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        assert_eq!(waits(10)[..3], [1.5, 1.0, 2.0]);
        assert_eq!(waits(40)[..6], [4.5, 4.0, 4.0, 4.0, 8.0, 16.0]);
        for number in [81, 500, u16::MAX] {
            let waits = waits(number);
            assert!((0.5..8.6).contains(&waits[0]), "{number}: {waits:?}");
            let rounds = waits[1..].iter().map(|wait| (wait / 8.1 * 1e6).round() / 1e6);
            assert_eq!(rounds.collect::<Vec<_>>(), [1.0, 1.0, 1.0, 1.0, 2.0, 4.0, 4.0], "{number}: {waits:?}");
        }
    }

    /// Both planes are lost, a few seconds apart, by each at another moment: what signalling began goes on.
    #[test]
    fn a_new_session_is_tried_when_signalling_would_have_been() {
        let (number, policy) = (161, policy());
        let mut dice = slotted(number);
        let reopening = signalling_delay(&policy.signalling, 1, at(0.0), &mut dice);
        assert_eq!(reopening, Duration::from_millis(8550));
        let due = |now: f64, dice: &mut Dice| at(now) + delay(&policy, 1, at(now), dice);
        for (lost, due_at) in [(5.1, 8.55), (6.0, 8.55), (7.9, 8.55), (8.6, 16.65)] {
            assert_eq!(due(lost, &mut dice.clone()), at(due_at), "{lost}");
        }
        let few =
            [(0, 0.5, 0.2, 2.2), (5, 1.0, 0.2, 2.7), (10, 1.5, 5.0, 8.0), (30, 3.5, 3.0, 3.5), (70, 7.5, 5.0, 7.5)];
        for (number, reopens, lost, tries) in few {
            let mut dice = slotted(number);
            assert_eq!(at(0.0) + signalling_delay(&policy.signalling, 1, at(0.0), &mut dice), at(reopens));
            assert_eq!(due(lost, &mut dice), at(tries), "{number}");
        }
        // It wanted to wait for much longer, because media did not need it.
        let long = signalling_delay(&policy.signalling, 7, at(8.55), &mut dice);
        assert!(long > Duration::from_secs(30), "{long:?}");
        assert_eq!(due(10.0, &mut dice), at(16.65));
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let waits = |seed| {
            let mut dice = Dice::new(seed);
            (1..20).map(|retry| delay(&policy(), retry, at(0.0), &mut dice)).collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }
}
