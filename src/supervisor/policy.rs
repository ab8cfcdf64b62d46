//! Pure: the numbers that the brain lives by, as the config gives them.

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
    /// `mediaPlane.iceRestartAttempts`: rungs of the ladder before the session is replaced; 0 where ICE cannot be restarted.
    pub ice_restart_attempts: u32,
    /// `mediaPlane.forceReconnectAfterDrop`: a session whose media was interrupted is replaced, healed or not.
    pub force_reconnect_after_drop: bool,
    /// `mediaPlane.statusGrace`: a disturbance shorter than this does not change the BroadcastStatus.
    pub status_grace: Duration,
    /// `fallback.retryDelay`: wait this long before the camera is opened again.
    pub capture_retry_delay: Duration,
    /// The ICE agent tells within a second or two when consent to our media is gone (RFC 7675); true with
    /// `uplink.iceAgent = "roaming"`. Otherwise missing acknowledgements alone tell of a dead path.
    pub watches_consent: bool,
    /// False when the server is this machine itself: then a missing network does not hold back tries.
    pub needs_network: bool,
    /// `[signalling]`.
    pub signalling: SignallingPolicy,
    /// How many servers there are: 1 + `uplink.fallbackUrls`.
    pub endpoints: usize,
}

/// How a lost signalling connection is reopened while media goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignallingPolicy {
    /// `keepMediaOnLoss`: false ends the session with its signalling connection.
    pub keep_media_on_loss: bool,
    /// `minDelay`: the first wait; doubles from try to try.
    pub min_delay: Duration,
    /// `maxDelay`: the cap.
    pub max_delay: Duration,
    /// `jitter` in percent, up and down.
    pub jitter_percent: u32,
    /// `maxAttempts` in a row, then the session counts as lost.
    pub max_attempts: Retries,
    /// `inactivityTimeout`: a server that says nothing for this long has hung. For the messengers, not the brain.
    pub inactivity_timeout: Duration,
}

impl Default for SignallingPolicy {
    /// product.md, `[signalling]`.
    fn default() -> Self {
        Self {
            keep_media_on_loss: true,
            min_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
            jitter_percent: 20,
            max_attempts: Retries::AtMost(100),
            inactivity_timeout: Duration::from_secs(60),
        }
    }
}
