//! Pure: the picture comes again after an outage - nothing that is missing is worth waiting for.
//!
//! str0m holds frames back behind a hole so that retransmissions can fill it, up to `VIDEO_REORDERING`. After an outage that
//! was longer than this the whole hole is too old for live by the same measure. Waited for all the same, a keyframe that has
//! long been there is shown half a second late: whenever the hole ends in the middle of a frame, as it mostly does.

use std::time::{Duration, Instant};

/// Frames that may be taken out of turn in one outage. The first may be a torn one, which makes the next wait as well; a link
/// that tears more of them has other troubles.
const FRAMES_MAX: u8 = 4;

/// Tells an outage from a loss, and when a frame that waits behind it is whole.
#[derive(Debug)]
pub(super) struct Outage {
    /// Longer silence is an outage: what it has swallowed is too old.
    too_old: Duration,
    /// The newest RTP time, and when its last packet came.
    newest: Option<(u64, Instant)>,
    /// So many frames need not wait any more.
    frames: u8,
    /// One of them is whole, as far as it will ever be.
    due: bool,
}

impl Outage {
    /// Frames that are missing for `too_old` are given up in any case.
    pub(super) fn new(too_old: Duration) -> Self {
        Self { too_old, newest: None, frames: 0, due: false }
    }

    /// A genuine packet of the picture has come, of this (extended) RTP time; `ends_frame`: it is the last of its frame.
    pub(super) fn packet(&mut self, now: Instant, time: u64, ends_frame: bool) {
        let before = self.newest.filter(|(newest, _)| *newest <= time);
        if before.is_none() && self.newest.is_some() {
            return; // Sent once more, and late.
        }
        if before.is_some_and(|(_, at)| now.saturating_duration_since(at) >= self.too_old) {
            self.frames = FRAMES_MAX;
        }
        self.newest = Some((time, now));
        self.due |= ends_frame && self.frames > 0;
    }

    /// A frame has been put out: whatever follows it need not wait.
    pub(super) fn frame(&mut self) {
        (self.frames, self.due) = (0, false);
    }

    /// True, once for each frame that need not wait.
    pub(super) fn take_due(&mut self) -> bool {
        let due = std::mem::take(&mut self.due);
        self.frames -= u8::from(due);
        due
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some Instant to count from")]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const FRAME: u64 = 3000;

    /// On air for ten frames; the time of the last.
    fn on_air(start: Instant) -> (Outage, Instant) {
        let mut outage = Outage::new(500 * MS);
        for n in 0..10 {
            outage.packet(start + 33 * MS * n, u64::from(n) * FRAME, true);
            assert!(!outage.take_due(), "frame {n}");
            outage.frame();
        }
        (outage, start + 33 * MS * 9)
    }

    #[test]
    fn a_loss_is_waited_for() {
        let (mut outage, last) = on_air(Instant::now());
        outage.packet(last + 499 * MS, 25 * FRAME, true);
        assert!(!outage.take_due(), "a retransmission may fill that");
    }

    #[test]
    fn after_an_outage_each_whole_frame_is_due_until_one_is_out() {
        let (mut outage, last) = on_air(Instant::now());
        outage.packet(last + 500 * MS, 25 * FRAME, false);
        assert!(!outage.take_due(), "the rest of it is on its way");
        outage.packet(last + 501 * MS, 25 * FRAME, true);
        assert!(outage.take_due() && !outage.take_due());
        // It was torn.
        outage.packet(last + 533 * MS, 26 * FRAME, false);
        outage.packet(last + 534 * MS, 12 * FRAME, true);
        assert!(!outage.take_due(), "a late one ends nothing");
        outage.packet(last + 535 * MS, 26 * FRAME, true);
        assert!(outage.take_due());
        outage.frame();
        outage.packet(last + 566 * MS, 27 * FRAME, true);
        assert!(!outage.take_due());
    }

    #[test]
    fn a_link_that_tears_every_frame_is_not_hurried_for_ever() {
        let (mut outage, last) = on_air(Instant::now());
        let due = (0..100u32).filter(|n| {
            outage.packet(last + 600 * MS + 33 * MS * *n, u64::from(30 + n) * FRAME, true);
            outage.take_due()
        });
        assert_eq!(due.count(), usize::from(FRAMES_MAX));
    }
}
