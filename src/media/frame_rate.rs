//! Pure: which raw frames are encoded, by their own timestamps, and which frame rate the encoder is told.
//!
//! GStreamer's `videorate` did this before. It asserts, and so ends the process, on frames without duration when the source
//! tells no frame rate (IP cameras without VUI timing, VP8 over RTSP, screens, stills), and it believes a rate that is
//! told too low (2 of 60 frames are left of a source that says 1 a second and gives 30).

use std::time::Duration;

/// A frame rate in caps: numerator and denominator, frames per second.
pub type Framerate = (i32, i32);

/// The frame rate that the encoder is told: that of the source, where it is one to believe, at most `max` a second.
///
/// Encoders share the bitrate out by it. `None` (not told), 0/1 (variable) and less than one frame a second (a mistake of
/// the driver, or a source that only sends what changes) give `max`.
#[must_use]
pub fn announced(told: Option<Framerate>, max: u32) -> Framerate {
    let max = i32::try_from(max).unwrap_or(i32::MAX).max(1);
    match told {
        Some((numerator, denominator))
            if denominator > 0
                && numerator >= denominator
                && i64::from(numerator) <= i64::from(max) * i64::from(denominator) =>
        {
            (numerator, denominator)
        }
        Some(_) | None => (max, 1),
    }
}

/// Passes at most so many frames a second on, and only such as are later than the one before.
#[derive(Debug)]
pub struct Limiter {
    interval: Duration,
    last: Option<Duration>,
    due: Duration,
}

impl Limiter {
    /// At most `max` frames a second; 0 counts as 1.
    #[must_use]
    pub fn new(max: u32) -> Self {
        Self { interval: Duration::from_secs(1) / max.max(1), last: None, due: Duration::ZERO }
    }

    /// The time from one frame to the next at the highest rate.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// Whether the frame of this time (running time or timestamp, any one clock) is encoded.
    pub fn passes(&mut self, time: Duration) -> bool {
        // Cameras and networks shift frames by some milliseconds: a frame that comes a quarter of an interval early is
        // that of the next slot, not one too many.
        let tolerance = self.interval / 4;
        let Some(last) = self.last else {
            return self.pass(time, time);
        };
        if time <= last || time + tolerance < self.due {
            return false;
        }
        // A source that is slower than the limit, or pauses, saves up no slots for a burst.
        let slot = if time > self.due + self.interval { time } else { self.due };
        self.pass(time, slot)
    }

    fn pass(&mut self, time: Duration, slot: Duration) -> bool {
        self.last = Some(time);
        self.due = slot + self.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_to_believe_is_announced_and_any_other_replaced_by_the_highest() {
        for (told, announced_rate) in [
            (Some((25, 1)), (25, 1)),
            (Some((30_000, 1001)), (30_000, 1001)),
            (Some((1, 1)), (1, 1)),
            (Some((30, 1)), (30, 1)),
            (Some((60, 1)), (30, 1)),
            (Some((i32::MAX, 1)), (30, 1)),
            (Some((1, 2)), (30, 1)),
            (Some((1, i32::MAX)), (30, 1)),
            (Some((0, 1)), (30, 1)),
            (Some((-25, 1)), (30, 1)),
            (Some((25, 0)), (30, 1)),
            (None, (30, 1)),
        ] {
            assert_eq!(announced(told, 30), announced_rate, "{told:?}");
        }
        assert_eq!(announced(None, 0), (1, 1));
        assert_eq!(announced(Some((60, 1)), u32::MAX), (60, 1));
    }

    /// How many of the frames at these microseconds pass.
    fn passed(max: u32, times_us: impl IntoIterator<Item = u64>) -> usize {
        let mut limiter = Limiter::new(max);
        times_us.into_iter().filter(|&us| limiter.passes(Duration::from_micros(us))).count()
    }

    #[test]
    fn a_faster_source_is_thinned_out_evenly_and_a_slower_one_left_alone() {
        for (gives, of_300) in [(15, 300), (24, 300), (25, 300), (30, 300), (60, 150), (120, 75), (240, 38)] {
            assert_eq!(passed(30, (0..300).map(|n| n * 1_000_000 / gives)), of_300, "{gives} a second");
        }
        let passed = passed(30, (0..500).map(|n| n * 20_000));
        assert!((299..=301).contains(&passed), "50 -> 30: {passed} frames in 10 s");
    }

    #[test]
    fn a_pause_saves_up_no_frames_for_a_burst() {
        let burst = (0..200).map(|n| 10_000_000 + n * 1_000);
        let passed = passed(30, std::iter::once(0).chain(burst));
        assert!((7..=8).contains(&passed), "{passed} frames of a burst of 0.2 s");
    }

    proptest! {
        #[test]
        fn whatever_the_times_are_frames_only_go_up_and_never_exceed_the_rate(
            max in 0_u32..400,
            times_us in prop::collection::vec(0_u64..5_000_000, 1..400),
        ) {
            let mut limiter = Limiter::new(max);
            let times: Vec<_> = times_us.into_iter().map(Duration::from_micros).collect();
            let passed: Vec<_> = times.into_iter().filter(|&time| limiter.passes(time)).collect();
            prop_assert!(!passed.is_empty());
            prop_assert!(passed.is_sorted_by(|a, b| a < b));
            let span = passed[passed.len() - 1] - passed[0];
            let slots = span.as_nanos() / limiter.interval().as_nanos();
            prop_assert!((passed.len() as u128) <= slots + 2, "{} frames in {span:?}", passed.len());
        }

        #[test]
        fn jitter_of_a_fifth_of_an_interval_costs_no_frame(jitters in prop::collection::vec(-6_000_i64..6_000, 300)) {
            let mut limiter = Limiter::new(30);
            let mut at = 1_000_000_i64;
            let passed = jitters.iter().filter(|&&jitter| {
                at += 33_334;
                limiter.passes(Duration::from_micros((at + jitter).unsigned_abs()))
            });
            // A late frame moves its slot, so the frame after it may look early once.
            prop_assert!(passed.count() >= 285);
        }
    }
}
