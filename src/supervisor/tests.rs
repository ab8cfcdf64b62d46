//! Golden traces of the whole brain, and what its machines' tests share.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::{Policy, Retries};

/// One moment for all tests; times are seconds from it.
#[allow(clippy::disallowed_methods, reason = "a test needs some Instant to start from; the value does not matter")]
pub(super) fn base() -> Instant {
    static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);
    *BASE
}

pub(super) fn at(seconds: f64) -> Instant {
    base() + Duration::from_millis((seconds * 1000.0).round() as u64)
}

/// The defaults of product.md.
pub(super) fn policy() -> Policy {
    Policy {
        min_delay: Duration::from_secs(2),
        max_delay: Duration::from_secs(15),
        max_retries: Retries::AtMost(10),
        give_up_after: None,
        stuck_after: Duration::from_secs(30),
        disconnected_timeout: Duration::from_secs(4),
        status_grace: Duration::from_secs(1),
        capture_retry_delay: Duration::from_secs(2),
        needs_network: true,
    }
}
