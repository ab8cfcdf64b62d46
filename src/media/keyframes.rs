//! Pure: keyframe wishes -> keyframes, not too many. Wishes are merged and deferred, never dropped: a dropped wish is a
//! viewer who stays frozen until the next interval.

use std::time::Duration;

/// At most one forced keyframe in this time. A keyframe costs 5 to 10 ordinary frames; two viewers who join together,
/// or a PLI repeated each RTT, must not starve the picture. Half a second is also libwebrtc's order of magnitude.
pub const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// Decides when a wish is granted. Times are on any one monotonic clock.
#[derive(Debug, Default)]
pub struct Limiter {
    last: Option<Duration>,
    due: Option<Duration>,
}

impl Limiter {
    /// Somebody wishes for a keyframe. True: force it now. False: it will be [`due`](Self::due).
    pub fn wish(&mut self, now: Duration) -> bool {
        let earliest = self.last.map_or(now, |last| last + MIN_INTERVAL);
        if now >= earliest {
            self.last = Some(now);
            self.due = None;
            return true;
        }
        self.due = Some(earliest);
        false
    }

    /// When the deferred wish comes due, if there is one.
    #[must_use]
    pub const fn due(&self) -> Option<Duration> {
        self.due
    }

    /// True, once, when a deferred wish has come due: force it now.
    pub fn take_due(&mut self, now: Duration) -> bool {
        self.due.is_some_and(|due| now >= due) && self.wish(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn first_wish_is_granted_at_once() {
        assert!(Limiter::default().wish(ms(7)));
    }

    #[test]
    fn wishes_within_the_interval_are_merged_into_one_at_its_end() {
        let mut limiter = Limiter::default();
        assert!(limiter.wish(ms(0)));
        assert!(!limiter.wish(ms(100)));
        assert!(!limiter.wish(ms(499)));
        assert_eq!(limiter.due(), Some(ms(500)));
        assert!(!limiter.take_due(ms(499)));
        assert!(limiter.take_due(ms(503)));
        assert!(!limiter.take_due(ms(504)), "granted once");
        assert_eq!(limiter.due(), None);
        assert!(!limiter.wish(ms(900)), "the interval counts from the deferred keyframe");
    }

    #[test]
    fn no_wish_is_lost_and_no_two_keyframes_are_close_whatever_the_times() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut limiter = Limiter::default();
        let (mut now, mut last_forced, mut last_wish) = (ms(0), None::<Duration>, None::<Duration>);
        for _ in 0..10_000 {
            now += ms(rng.u64(0..200));
            let wished = rng.bool();
            let forced = if wished { limiter.wish(now) } else { limiter.take_due(now) };
            if wished {
                last_wish = Some(now);
            }
            if forced {
                assert!(last_forced.is_none_or(|last| now - last >= MIN_INTERVAL));
                last_forced = Some(now);
            }
            assert!(last_wish <= last_forced || limiter.due().is_some_and(|due| due <= now + MIN_INTERVAL));
        }
    }
}
