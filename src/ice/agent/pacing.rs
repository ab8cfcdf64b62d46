//! Pure: how soon the next connectivity check may leave (RFC 8445, 14.2). A far end names up to 32 candidates, any addresses of
//! the internet among them, and each is checked from each of our interfaces: without a limit in all, an answer made for it turns
//! a broadcast into a flood for somebody else.

use std::time::{Duration, Instant};

/// Time between two checks while few have left: the least that RFC 8445 (14.2) allows.
pub(in crate::ice) const INTERVAL_MIN: Duration = Duration::from_millis(5);
/// So many may leave at once: three interfaces and four candidates, less what never pairs (IPv4 with IPv6).
const BURST: f64 = 10.0;
/// And so many a second after that. With the burst, and with what validated paths are asked (ten times a second the one in use,
/// twice each standby), an agent of three interfaces sends 50 in a second at most; only while the path in use is in doubt, for
/// 160 ms, those that have answered before are asked more often.
const PER_SECOND: f64 = 26.0;
/// What comes of both at most.
#[cfg(test)]
pub(in crate::ice) const SECOND_MAX: usize = 36;

/// A token bucket for all checks of one agent that look for a path, whoever may be at the other end.
///
/// Those of validated paths are not in it: they go where somebody has agreed to be asked (RFC 7675), at a rate of their own.
#[derive(Debug)]
pub(in crate::ice) struct Pacing {
    tokens: f64,
    counted: Option<Instant>,
}

impl Default for Pacing {
    fn default() -> Self {
        Self { tokens: BURST, counted: None }
    }
}

impl Pacing {
    /// A check leaves.
    pub(in crate::ice) fn sent(&mut self, now: Instant) {
        self.fill(now);
        self.tokens -= 1.0;
    }

    /// The least time from the last check to the next.
    pub(in crate::ice) fn interval(&self) -> Duration {
        if self.tokens >= 1.0 { INTERVAL_MIN } else { Duration::from_secs_f64((1.0 - self.tokens) / PER_SECOND) }
    }

    fn fill(&mut self, now: Instant) {
        let since = self.counted.map_or(Duration::ZERO, |counted| now.saturating_duration_since(counted));
        self.tokens = (self.tokens + since.as_secs_f64() * PER_SECOND).min(BURST);
        self.counted = Some(now);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests need some Instant to start from; the value does not matter")]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn no_second_has_more_checks_than_was_said_however_many_wait() {
        let (begin, mut pacing) = (Instant::now(), Pacing::default());
        let (mut now, mut sent) = (begin, Vec::new());
        while now < begin + 10 * SECOND {
            pacing.sent(now);
            sent.push(now);
            now += pacing.interval();
        }
        let within = |from: Instant| sent.iter().filter(|at| (from..from + SECOND).contains(*at)).count();
        let most = sent.iter().map(|from| within(*from)).max().unwrap();
        assert!((SECOND_MAX - 1..=SECOND_MAX).contains(&most), "{most}");
        assert!((268..=270).contains(&sent.len()), "{}", sent.len());
    }

    #[test]
    fn the_first_ones_leave_5_ms_apart_also_after_a_while() {
        let (begin, mut pacing) = (Instant::now(), Pacing::default());
        for from in [begin, begin + SECOND] {
            for number in 0..9 {
                pacing.sent(from + number * INTERVAL_MIN);
                assert_eq!(pacing.interval(), INTERVAL_MIN, "{number}");
            }
        }
    }
}
