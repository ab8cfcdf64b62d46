//! The messengers - they carry words, decide nothing, never retry (law 6).

pub mod failure;
pub mod janus;
pub mod origin;
pub mod roamcast;
pub mod state;
pub mod token;
pub mod transport;
pub mod whip;

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::units::IceServer;
use crate::config::{Protocol, Uplink};
use crate::sdp::LocalCandidate;
use crate::status::LinkStats;
use crate::supervisor::event::{Failure, Phase, Retry, RetrySlot};

use failure::{Place, Redirect};
use origin::{may_carry_token, shown};
use token::Tokens;
pub(crate) use transport::dns::Resolver;
pub use transport::http::Timeouts;
pub(crate) use transport::tls::{tls, trouble as tls_trouble};
pub use transport::unencrypted::is_own_address;

/// What the server said to our offer.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// SDP answer, as it came; `sdp` checks it.
    pub answer: String,
    /// ICE servers that the server named and that passed the rules of [`origin`].
    pub ice_servers: Vec<IceServer>,
    /// The server that named them lies on this machine or a private network, and may name others there.
    pub near: bool,
    /// How the server names the session (for WHIP: the path of the resource). Safe to show.
    pub session_id: String,
}

/// What the server says unasked.
#[derive(Debug, Clone, PartialEq)]
pub enum Word {
    /// The signalling connection broke; the session may be alive. [`Signaller::resume`] is the way back.
    Lost(Failure),
    /// The server goes away soon; not before this long from now it wants to hear from us again.
    GoingAway(Duration),
    /// Our number among all sessions of the server, for the time when it is lost.
    RetrySlot(RetrySlot),
    /// The server's own onward leg.
    Output {
        /// True while it is reconnecting.
        reconnecting: bool,
    },
    /// Other STUN and TURN servers than it named before, or other credentials for them.
    IceServers {
        /// As in [`Accepted::ice_servers`].
        servers: Vec<IceServer>,
        /// As in [`Accepted::near`].
        near: bool,
    },
    /// The server ended the session: closed, kicked, timed out, evicted.
    Ended(Failure),
    /// A candidate of the server that was not in its answer.
    Candidate {
        /// Number of its m-line.
        mline: u32,
        /// The attribute without `a=`.
        candidate: String,
    },
}

/// The session that [`Signaller::resume`] found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// As the server names it now.
    pub session_id: String,
    /// How it was named before, when that has changed.
    pub recovered_from: Option<String>,
}

/// Why a session was not found again.
#[derive(Debug, Clone, PartialEq)]
pub enum ResumeError {
    /// The server was not reached, or is busy: the failure says whether and when to try again.
    Failed(Failure),
    /// The server does not know the session any more.
    Refused(Failure),
}

/// Why ICE was not restarted.
#[derive(Debug, Clone, PartialEq)]
pub enum RestartError {
    /// The server was not reached, or is busy: another restart may do.
    Failed(Failure),
    /// The server does not do that, or not for this session.
    Refused(Failure),
    /// Nobody has been heard for all the time that a connection may take. Whoever wanted the restart knows how long to wait
    /// for an answer, and what to do without one.
    Silence,
}

/// What has to be remembered of a session to find it again, or to bury it, after this process has died. Goes into the
/// state file and nowhere else: holds the resume token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "protocol")]
pub enum Memory {
    /// RFC 9725.
    #[serde(rename_all = "camelCase")]
    Whip {
        /// URL of the session.
        resource: String,
    },
    /// Janus VideoRoom.
    #[serde(rename_all = "camelCase")]
    Janus {
        /// WebSocket URL.
        url: String,
        /// Janus session.
        session_id: u64,
        /// Handle of the VideoRoom plugin.
        handle_id: u64,
    },
    /// roamcast signalling v1.
    #[serde(rename_all = "camelCase")]
    Roamcast {
        /// WebSocket URL.
        url: String,
        /// Name of the session.
        session_id: String,
        /// Lets its holder take the session over.
        resume_token: String,
    },
}

impl Memory {
    /// Where the session is; `None` when that is no address.
    #[must_use]
    pub fn address(&self) -> Option<Url> {
        match self {
            Self::Whip { resource } => resource.parse().ok(),
            Self::Janus { url, .. } | Self::Roamcast { url, .. } => url.parse().ok(),
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory(***)")
    }
}

/// What became of local candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trickle {
    /// The server has them.
    Taken,
    /// This server takes no trickle; it will not be asked again in this session. The offer has to carry them all.
    Unsupported,
}

/// A session of ours at the server that nobody uses any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ghost(pub Memory);

/// The messenger for the configured protocol; the same few verbs for all.
///
/// Made new for each session or used for one after the other: every `publish` asks for the token anew.
#[derive(Debug)]
pub enum Signaller {
    /// RFC 9725.
    Whip(Box<whip::Whip>),
    /// Janus VideoRoom.
    Janus(Box<janus::Janus>),
    /// roamcast signalling v1.
    Roamcast(Box<roamcast::Roamcast>),
}

impl Signaller {
    /// A messenger that has not spoken yet.
    ///
    /// # Errors
    /// `uplink.caFile` cannot be used.
    pub fn new(uplink: &Uplink, tokens: Arc<Tokens>) -> Result<Self, Failure> {
        Self::with_timeouts(uplink, tokens, Timeouts::default())
    }

    /// Like [`Signaller::new`] with other limits of time.
    ///
    /// # Errors
    /// `uplink.caFile` cannot be used.
    pub fn with_timeouts(uplink: &Uplink, tokens: Arc<Tokens>, timeouts: Timeouts) -> Result<Self, Failure> {
        match uplink.protocol {
            Protocol::Whip => whip::Whip::new(uplink, tokens, timeouts).map(|whip| Self::Whip(Box::new(whip))),
            Protocol::Janus => janus::Janus::new(uplink, tokens, timeouts).map(|janus| Self::Janus(Box::new(janus))),
            Protocol::Roamcast => Ok(Self::Roamcast(Box::new(roamcast::Roamcast::new(uplink, tokens, timeouts)))),
        }
    }

    /// Sends the offer; a session exists at the server once this is `Ok` (and may exist when it is not: say
    /// [`goodbye`](Self::goodbye) either way).
    ///
    /// # Errors
    /// The table of [`failure`].
    pub async fn publish(&mut self, offer: &str) -> Result<Accepted, Failure> {
        match self {
            Self::Whip(whip) => whip.publish(offer).await,
            Self::Janus(janus) => janus.publish(offer).await,
            Self::Roamcast(roamcast) => roamcast.publish(offer).await,
        }
    }

    /// Sends local candidates after the offer, with the ICE credentials of that offer.
    ///
    /// # Errors
    /// The table of [`failure`]; that the server takes no trickle is not one.
    pub async fn candidates(&mut self, parts: &[LocalCandidate], end_of_candidates: bool) -> Result<Trickle, Failure> {
        match self {
            Self::Whip(whip) => whip.candidates(parts, end_of_candidates).await,
            Self::Janus(janus) => janus.candidates(parts, end_of_candidates).await,
            Self::Roamcast(roamcast) => roamcast.candidates(parts, end_of_candidates).await,
        }
    }

    /// Ends the session at the server; nothing happens when there is none. A session that is gone already counts as
    /// ended.
    ///
    /// # Errors
    /// The table of [`failure`]. The session is forgotten all the same.
    pub async fn goodbye(&mut self) -> Result<(), Failure> {
        match self {
            Self::Whip(whip) => whip.goodbye().await,
            Self::Janus(janus) => janus.goodbye().await,
            Self::Roamcast(roamcast) => roamcast.goodbye().await,
        }
    }

    /// Before another `publish` beside the one before, whose answer was of no use: sees to it that the server holds no session
    /// of ours that would be in the way. Janus and roamcast signalling replace it with the next `publish`.
    ///
    /// # Errors
    /// The table of [`failure`].
    pub async fn withdraw(&mut self) -> Result<(), Failure> {
        match self {
            Self::Whip(whip) => whip.goodbye().await,
            Self::Janus(_) | Self::Roamcast(_) => Ok(()),
        }
    }

    /// The next thing that the server says unasked; keeps the connection alive meanwhile (pings, keepalives) and renews the
    /// token before it expires. Never ends for a protocol without a connection of its own (WHIP). May be dropped at any await.
    pub async fn next(&mut self) -> Word {
        match self {
            Self::Whip(whip) => whip.next().await,
            Self::Janus(janus) => janus.next().await,
            Self::Roamcast(roamcast) => roamcast.next().await,
        }
    }

    /// Tells the server our figures, where the protocol has words for that.
    pub async fn stats(&mut self, link: &LinkStats) {
        if let Self::Roamcast(roamcast) = self {
            let (bitrate, fps) = (Some(link.bitrate), Some(link.fps));
            roamcast.stats(roamcast::text::Stats { bitrate, rtt_ms: link.rtt_ms, loss: link.loss, fps }).await;
        }
    }

    /// `signalling.inactivityTimeout` is another one from now on.
    pub fn set_inactivity(&mut self, patience: Duration) {
        match self {
            Self::Whip(_) => {}
            Self::Janus(janus) => janus.set_inactivity(patience),
            Self::Roamcast(roamcast) => roamcast.set_inactivity(patience),
        }
    }

    /// Sends an offer with new ICE credentials for the session of the last `publish`, which goes on meanwhile.
    ///
    /// # Errors
    /// [`RestartError`].
    pub async fn restart(&mut self, offer: &str) -> Result<Accepted, RestartError> {
        match self {
            Self::Whip(whip) => whip.restart(offer).await,
            Self::Janus(janus) => janus.restart(offer).await,
            Self::Roamcast(roamcast) => roamcast.restart(offer).await,
        }
    }

    /// Opens the signalling connection anew, with a fresh token, and re-attaches to the session of the last `publish`.
    ///
    /// # Errors
    /// [`ResumeError`].
    pub async fn resume(&mut self) -> Result<Resumed, ResumeError> {
        match self {
            Self::Whip(_) => {
                Err(ResumeError::Refused(failure::internal(Phase::Request, "WHIP has no connection to resume")))
            }
            Self::Janus(janus) => janus.resume().await,
            Self::Roamcast(roamcast) => roamcast.resume().await,
        }
    }

    /// Before `publish`: go on with this session, of an earlier process or of the session that is to be replaced. Gives
    /// it back as a ghost to be buried where that cannot be done (protocol without that notion, another server).
    pub fn recall(&mut self, memory: Memory) -> Option<Ghost> {
        match self {
            Self::Whip(_) | Self::Janus(_) => Some(Ghost(memory)),
            Self::Roamcast(roamcast) => roamcast.recall(memory),
        }
    }

    /// What to remember of the session of the last `publish`; after a refused [`resume`](Self::resume), of the one that
    /// may replace it.
    #[must_use]
    pub fn memory(&self) -> Option<Memory> {
        match self {
            Self::Whip(whip) => whip.memory(),
            Self::Janus(janus) => janus.memory(),
            Self::Roamcast(roamcast) => roamcast.memory(),
        }
    }

    /// The session that the last `publish` made, to be buried when it is left without a goodbye.
    #[must_use]
    pub fn ghost(&self) -> Option<Ghost> {
        self.memory().map(Ghost)
    }

    /// Ends a session that was left behind. The future borrows nothing: run it beside the new `publish`.
    ///
    /// # Errors
    /// The table of [`failure`].
    pub fn bury(&self, ghost: Ghost) -> impl Future<Output = Result<(), Failure>> + Send + use<> {
        type Burial = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;
        let burial: Burial = match self {
            Self::Whip(whip) => Box::pin(whip.bury(ghost)),
            Self::Janus(janus) => Box::pin(janus.bury(ghost)),
            Self::Roamcast(roamcast) => Box::pin(roamcast.bury(ghost)),
        };
        burial
    }
}

/// The address of a session that was left behind. The memory may be older than the config: secrets go to servers of the
/// config only.
fn address_of_ghost(address: &str, method: &'static str, uplink: &Uplink) -> Result<Url, Failure> {
    let Ok(url) = address.parse::<Url>() else {
        return Err(failure::internal(Phase::Request, "the session left behind is nowhere"));
    };
    let home = uplink.home_of(&url).unwrap_or(&uplink.url);
    if may_carry_token(home, &uplink.trusted_origins, home, &url).is_err() {
        let here = shown(home);
        let place = Place { method, url: &here, token_sent: false };
        let foreign = failure::redirect(place, Some(&shown(&url)), &Redirect::Foreign);
        return Err(Failure { retry: Retry::Never, ..foreign });
    }
    Ok(url)
}

/// A server that says more kinds of nonsense than this is not worth more lines in the log.
const ODDITIES_MAX: usize = 32;

/// What a server says that cannot be used.
#[derive(Default)]
struct Oddities(BTreeSet<String>);

impl Oddities {
    /// Is this one to be told? Each kind is, once.
    fn is_news(&mut self, what: &str) -> bool {
        self.0.len() < ODDITIES_MAX && self.0.insert(what.to_owned())
    }
}
