//! The clock of the agent's hands.

use std::time::Instant;

#[allow(clippy::disallowed_methods, reason = "the clock of the agent is read here and nowhere else")]
pub(super) fn now() -> Instant {
    Instant::now()
}
