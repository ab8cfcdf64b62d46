//! Pure: encoded frames whose time does not step back.
//!
//! The sender reports of a camera correct its time: rtspsrc then shifts everything that follows, and GStreamer 1.26 was seen to go
//! back by 100 ms in the middle of a stream. RTP times that go back make players drop what they were sent, or end the session.

use std::time::Duration;

/// A longer step back is no correction: the source counts time anew, and its frames are taken at their word.
const STEP_BACK_MAX: Duration = Duration::from_secs(1);
/// Between two frames while the source catches up: more than one tick of the clock of RTP video, and shorter than any frame.
const TICK: Duration = Duration::from_millis(1);

/// The times of one stream without B-frames.
#[derive(Debug, Clone, Default)]
pub(super) struct Rising {
    last: Option<Duration>,
}

impl Rising {
    /// When the frame that says so is to be shown: later than the one before.
    pub(super) fn take(&mut self, at: Duration) -> Duration {
        let behind = self.last.filter(|last| at <= *last && *last - at < STEP_BACK_MAX);
        let time = behind.map_or(at, |last| last + TICK);
        self.last = Some(time);
        time
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(times: &[u64]) -> Vec<u64> {
        let mut rising = Rising::default();
        times.iter().map(|ms| u64::try_from(rising.take(Duration::from_millis(*ms)).as_millis()).unwrap()).collect()
    }

    #[test]
    fn a_correction_is_bridged_and_a_new_count_is_followed() {
        assert_eq!(taken(&[0, 33, 66, 100]), [0, 33, 66, 100]);
        assert_eq!(taken(&[1720, 1622, 1655, 1688, 1722, 1755]), [1720, 1721, 1722, 1723, 1724, 1755]);
        assert_eq!(taken(&[100, 100, 100]), [100, 101, 102]);
        assert_eq!(taken(&[90_000, 0, 33]), [90_000, 0, 33]);
    }

    proptest! {
        #[test]
        fn time_goes_up_however_it_is_corrected(steps in prop::collection::vec((1_u64..50, 0_u64..300), 1..200)) {
            // A source that gives a frame every so often, and is corrected by so much at each.
            let (mut now, mut rising, mut last) = (10_000_u64, Rising::default(), None);
            for (step, correction) in steps {
                now += step;
                let time = rising.take(Duration::from_millis(now - correction));
                prop_assert!(last.is_none_or(|last| time > last));
                last = Some(time);
            }
        }
    }
}
