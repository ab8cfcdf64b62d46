//! Pure: a line in the log for what strangers can make happen as often as they like.

use std::time::{Duration, Instant};

/// The log may have one line about the same thing in this time: enough to see an attack, not enough to fill a disk.
const EVERY: Duration = Duration::from_secs(10);

/// Counts how often something happens, and says when it is time for a line.
#[derive(Debug, Default, Clone, Copy)]
pub struct Seldom {
    told: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// One for which there was no line yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { told: None, untold: 0 }
    }

    /// It happens again. When there may be a line: how often it has happened since the last one.
    pub fn again(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        let due = self.told.is_none_or(|told| now >= told + EVERY);
        due.then(|| {
            self.told = Some(now);
            std::mem::take(&mut self.untold)
        })
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some Instant to count from")]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_together() {
        let t = Instant::now();
        let mut seldom = Seldom::new();
        assert_eq!(seldom.again(t), Some(1));
        let untold = (0..500).filter_map(|ms| seldom.again(t + Duration::from_millis(ms))).count();
        assert_eq!(untold, 0);
        assert_eq!(seldom.again(t + EVERY), Some(501));
        assert_eq!(seldom.again(t + EVERY), None);
        assert_eq!(seldom.again(t + 3 * EVERY), Some(2));
    }
}
