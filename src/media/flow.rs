//! Pure: the count of encoded frames -> flowing / stalled.

use std::time::Duration;

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Frames come (first time, or again after a stall).
    Flowing,
    /// No frame for the whole timeout.
    Stalled,
}

/// Watches one counter. Times are on any one monotonic clock.
#[derive(Debug)]
pub struct Flow {
    timeout: Duration,
    frames: u64,
    /// When the last frame was seen, or the watch began.
    since: Duration,
    /// The last change told.
    told: Option<Change>,
}

impl Flow {
    /// Begins to watch at `now`, with the counter at `frames`.
    #[must_use]
    pub const fn new(timeout: Duration, frames: u64, now: Duration) -> Self {
        Self { timeout, frames, since: now, told: None }
    }

    /// Looks at the counter.
    pub fn look(&mut self, frames: u64, now: Duration) -> Option<Change> {
        let change = if frames != self.frames {
            self.frames = frames;
            self.since = now;
            Change::Flowing
        } else if now.saturating_sub(self.since) >= self.timeout {
            Change::Stalled
        } else {
            return None;
        };
        (self.told.replace(change) != Some(change)).then_some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn flowing_is_told_once_at_the_first_frame() {
        let mut flow = Flow::new(ms(1000), 40, ms(0));
        assert_eq!(flow.look(40, ms(100)), None);
        assert_eq!(flow.look(41, ms(200)), Some(Change::Flowing));
        assert_eq!(flow.look(45, ms(300)), None);
    }

    #[test]
    fn silence_of_the_timeout_is_a_stall_told_once_and_a_new_frame_ends_it() {
        let mut flow = Flow::new(ms(1000), 0, ms(0));
        assert_eq!(flow.look(1, ms(10)), Some(Change::Flowing));
        assert_eq!(flow.look(1, ms(1009)), None);
        assert_eq!(flow.look(1, ms(1010)), Some(Change::Stalled));
        assert_eq!(flow.look(1, ms(5000)), None);
        assert_eq!(flow.look(2, ms(5001)), Some(Change::Flowing));
    }

    #[test]
    fn a_source_that_never_starts_is_a_stall_too() {
        let mut flow = Flow::new(ms(1000), 0, ms(500));
        assert_eq!(flow.look(0, ms(1499)), None);
        assert_eq!(flow.look(0, ms(1500)), Some(Change::Stalled));
    }
}
