//! Pure: the brain. `step(now, event) -> actions`; it reads no clock, opens nothing, rolls no dice it was not given.

pub mod event;

use std::time::Duration;

/// How many times the brain may try to get back on air before it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retries {
    /// At most this many tries in a row; 0 turns reconnecting off.
    AtMost(u32),
    /// For ever.
    Unlimited,
}

/// The numbers the brain lives by. Filled by the config door; may change while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `reconnect.minDelay`: never less between two tries.
    pub min_delay: Duration,
    /// `reconnect.maxDelay`: the cap of the backoff (a server's Retry-After may be longer).
    pub max_delay: Duration,
    /// `reconnect.maxRetries`.
    pub max_retries: Retries,
    /// `reconnect.giveUpAfter`: the whole outage may not last longer than this.
    pub give_up_after: Option<Duration>,
    /// `reconnect.stuckAfter`: tell the operator after an outage of this length.
    pub stuck_after: Duration,
    /// `mediaPlane.disconnectedTimeout`: ICE may be `disconnected` this long before the session counts as lost.
    pub disconnected_timeout: Duration,
    /// `mediaPlane.statusGrace`: a disturbance shorter than this does not change the BroadcastStatus.
    pub status_grace: Duration,
    /// `fallback.retryDelay`: wait this long before the camera is opened again.
    pub capture_retry_delay: Duration,
    /// False when the server is this machine itself: then a missing network does not hold back tries.
    pub needs_network: bool,
}
