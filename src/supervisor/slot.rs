//! Pure: when an encoder comes back that knows its number among all those of its server ([`RetrySlot`]).
//!
//! A thousand encoders that lose one server in one instant and roll dice meet by chance. With numbers they need not meet, and
//! since the lowest numbers are given first, a number tells how many others there may be: the first of all waits no longer
//! than if it were alone, the thousandth gives way to a thousand. Each adds an offset to its first wait after a loss:
//!
//! ```text
//! number     0     1     2  ...   80 | 81 ... 161  | 162 ... 242 | 243 ...      (a round: 81 places in 8.1 s)
//! offset     0   0.1   0.2  ...  8.0 | 0.05 ...    | 0.025 ...   | 0.075 ...    rounds lie between each other: van der Corput
//! ```
//! In the first round they are so few that they may double their waits as if there were nobody else, but none asks again
//! sooner than after its offset. All others keep to their moment of each round from then on, over both planes: a new session
//! is tried when signalling would have been. So none asks more often than once in 8.1 s, and they never meet
//! (`tests/pure/storm.rs`).

use std::time::{Duration, Instant};

use super::event::RetrySlot;

/// So far apart are the places of one round.
const GAP: Duration = Duration::from_millis(100);
/// Encoders that were lost in one instant spread over at most this long. 95 % of those that wait for a server that is back
/// wait for less than 7.7 s (goal: 8 s), and 1 000 are 12.3 in each 100 ms (goal: 20). With the first wait of signalling
/// it is less than the 12 s after which our ingest forgets a session.
const ROUND: Duration = Duration::from_millis(8100);

/// A number, and what has become of it since the server gave it.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    number: u16,
    /// The last moment that was chosen.
    beat: Option<Beat>,
    /// No session has been waited for.
    is_first: bool,
}

#[derive(Debug, Clone, Copy)]
struct Beat {
    at: Instant,
    /// It is signalling that was to be reopened then.
    is_reopening: bool,
}

/// What the backoff would do without numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plain {
    pub(super) min: Duration,
    pub(super) max: Duration,
    /// `min`, doubled from try to try; may be longer than `max`.
    pub(super) doubled: Duration,
    /// From try to try in the long run.
    pub(super) settled: Duration,
}

impl Slot {
    pub(super) const fn new(RetrySlot(number): RetrySlot) -> Self {
        Self { number, beat: None, is_first: true }
    }

    /// Our share of a spread, in 1/65536: of any number of encoders those are spread evenly.
    pub(super) const fn share(&self) -> u16 {
        self.number.reverse_bits()
    }

    /// The wait before the next session: within `min..=max`, or shorter when signalling would have been reopened sooner.
    pub(super) fn session(&mut self, now: Instant, plain: Plain) -> Duration {
        let Plain { min, max, doubled, settled } = plain;
        let span = ROUND.min(settled).min(max - min);
        let (offset, is_few) = place(self.number, span);
        let first = doubled.min(max - span) + offset;
        let is_first = std::mem::replace(&mut self.is_first, false);
        let reopening = self.beat.filter(|beat| beat.is_reopening && beat.at >= now).map(|beat| beat.at - now);
        let wait = match (reopening, self.beat) {
            // It has waited since signalling was lost.
            (Some(soon), _) if is_few && is_first && soon.max(offset) >= min => soon.min(first),
            _ if is_few && is_first => first,
            _ if is_few && doubled < max => doubled.max(offset),
            _ if is_few => settled,
            (Some(soon), _) if soon < min => soon,
            (_, Some(beat)) => next(beat.at, settled, now + min).saturating_duration_since(now).min(max),
            (_, None) => first,
        };
        self.beat = Some(Beat { at: now + wait, is_reopening: false });
        wait
    }

    /// The wait before signalling is reopened for the `number`th time (from 1) in a row. `plain.settled` is the longest.
    pub(super) fn signalling(&mut self, now: Instant, number: u32, plain: Plain) -> Duration {
        let Plain { min, max, doubled, settled: longest } = plain;
        let span = ROUND.min(max - min);
        let (offset, is_few) = place(self.number, span);
        let wait = match self.beat {
            _ if number <= 1 => min + offset,
            _ if is_few => doubled.max(offset),
            Some(Beat { at, .. }) => next(at, span, now + doubled).saturating_duration_since(now),
            None => doubled.max(span),
        };
        let wait = wait.min(longest);
        self.beat = Some(Beat { at: now + wait, is_reopening: true });
        wait
    }

    /// When signalling is reopened that must be left alone until `from`: for all in one instant, perhaps.
    pub(super) fn not_before(&mut self, from: Instant) -> Instant {
        let (offset, is_few) = place(self.number, ROUND);
        let at = match self.beat {
            Some(beat) if !is_few => next(beat.at, ROUND, from),
            Some(_) | None => from + offset,
        };
        self.beat = Some(Beat { at, is_reopening: true });
        at
    }
}

/// The offset of this number when all are spread over `span`; true in the first round.
fn place(number: u16, span: Duration) -> (Duration, bool) {
    let places = u16::try_from(span.as_nanos() / GAP.as_nanos()).unwrap_or(u16::MAX).max(1);
    let gap = span / u32::from(places);
    let (round, place) = (number / places, number % places);
    (gap * u32::from(place) + gap * u32::from(round.reverse_bits()) / 65_536, round == 0)
}

/// The first of the moments a whole number of `period`s before or after `beat` that is not before `earliest`.
fn next(beat: Instant, period: Duration, earliest: Instant) -> Instant {
    let rest = |longer: Duration| {
        let rest = longer.as_nanos() % period.as_nanos().max(1);
        Duration::from_nanos(u64::try_from(rest).unwrap_or_default())
    };
    match earliest.checked_duration_since(beat).map(rest) {
        None => earliest + rest(beat - earliest),
        Some(Duration::ZERO) => earliest,
        Some(late) => earliest + period.saturating_sub(late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tests::at;

    fn offsets(encoders: u16) -> Vec<f64> {
        let mut offsets: Vec<f64> = (0..encoders).map(|number| place(number, ROUND).0.as_secs_f64()).collect();
        offsets.sort_by(f64::total_cmp);
        offsets
    }

    #[test]
    fn the_first_waits_for_nobody_and_any_number_is_spread_evenly() {
        assert_eq!(place(0, ROUND), (Duration::ZERO, true));
        assert_eq!(place(80, ROUND), (Duration::from_secs(8), true));
        assert_eq!(place(81, ROUND), (Duration::from_millis(50), false));
        assert_eq!(place(162, ROUND), (Duration::from_millis(25), false));
        for encoders in [10_u16, 100, 1000, 3000] {
            let offsets = offsets(encoders);
            assert!(offsets.iter().all(|offset| (0.0..8.1).contains(offset)));
            let most =
                offsets.iter().map(|from| offsets.iter().filter(|at| (*from..from + 0.0999).contains(at)).count());
            let most = most.max().unwrap_or_default();
            assert!(most <= usize::from(encoders) / 81 + 2, "{encoders}: {most}");
        }
        assert!(place(u16::MAX, ROUND).0 < ROUND);
        assert_eq!(place(7, Duration::ZERO), (Duration::ZERO, false), "there is no room");
    }

    #[test]
    fn a_moment_comes_again_every_period() {
        let second = Duration::from_secs(1);
        assert_eq!(next(at(10.25), second, at(12.0)), at(12.25));
        assert_eq!(next(at(10.25), second, at(12.25)), at(12.25));
        assert_eq!(next(at(10.25), second, at(9.0)), at(9.25));
    }
}
