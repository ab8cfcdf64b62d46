//! The messengers - they carry words, decide nothing, never retry (law 6).

mod courier;
mod dns;
mod http;
pub mod state;
pub mod token;
pub mod whip;
pub mod whip_text;
mod ws;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::units::IceServer;
use crate::config::{Protocol, Uplink};
use crate::supervisor::event::Failure;

pub use http::Timeouts;
use token::Tokens;

/// What the server said to our offer.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// SDP answer, as it came; `uplink::sdp` checks it.
    pub answer: String,
    /// ICE servers that the server named and that passed the rules of `whip_text`.
    pub ice_servers: Vec<IceServer>,
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
    /// The server's own onward leg.
    Output {
        /// True while it is reconnecting.
        reconnecting: bool,
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

/// What has to be remembered of a session to find it again, or to bury it, after this process has died. Goes into the
/// state file and nowhere else: holds the resume token.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
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
    /// The session as something to bury, for protocols that cannot find it again.
    #[must_use]
    pub fn ghost(&self) -> Option<Ghost> {
        match self {
            Self::Whip { resource } => Some(Ghost { resource: resource.parse().ok()? }),
            Self::Janus { .. } | Self::Roamcast { .. } => None,
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory(***)")
    }
}

/// One local ICE candidate on its way to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCandidate {
    /// `a=mid` of its m-line.
    pub mid: String,
    /// Number of its m-line.
    pub mline: u32,
    /// The candidate attribute without the leading `a=`.
    pub candidate: String,
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
#[derive(Clone, PartialEq, Eq)]
pub struct Ghost {
    resource: Url,
}

impl fmt::Debug for Ghost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ghost({})", whip_text::shown(&self.resource))
    }
}

/// The messenger for the configured protocol; the same few verbs for all.
///
/// Made new for each session or used for one after the other: every `publish` asks for the token anew.
#[derive(Debug)]
pub enum Signaller {
    /// RFC 9725.
    Whip(whip::Whip),
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
            Protocol::Whip => whip::Whip::new(uplink, tokens, timeouts).map(Self::Whip),
        }
    }

    /// Sends the offer; a session exists at the server once this is `Ok` (and may exist when it is not: say
    /// [`goodbye`](Self::goodbye) either way).
    ///
    /// # Errors
    /// The table of `uplink::failure`.
    pub async fn publish(&mut self, offer: &str) -> Result<Accepted, Failure> {
        match self {
            Self::Whip(whip) => whip.publish(offer).await,
        }
    }

    /// Sends local candidates after the offer, with the ICE credentials of that offer.
    ///
    /// # Errors
    /// The table of `uplink::failure`; that the server takes no trickle is not one.
    pub async fn candidates(&mut self, parts: &[LocalCandidate], end_of_candidates: bool) -> Result<Trickle, Failure> {
        match self {
            Self::Whip(whip) => whip.candidates(parts, end_of_candidates).await,
        }
    }

    /// Ends the session at the server; nothing happens when there is none. A session that is gone already counts as
    /// ended.
    ///
    /// # Errors
    /// The table of `uplink::failure`. The session is forgotten all the same.
    pub async fn goodbye(&mut self) -> Result<(), Failure> {
        match self {
            Self::Whip(whip) => whip.goodbye().await,
        }
    }

    /// The next thing that the server says unasked; keeps the connection alive meanwhile (pings, keepalives). Never ends
    /// for a protocol without a connection of its own (WHIP). May be dropped at any await.
    pub async fn next(&mut self) -> Word {
        match self {
            Self::Whip(_) => std::future::pending().await,
        }
    }

    /// Opens the signalling connection anew, with a fresh token, and re-attaches to the session of the last `publish`.
    ///
    /// # Errors
    /// [`ResumeError`].
    pub async fn resume(&mut self) -> Result<Resumed, ResumeError> {
        match self {
            Self::Whip(_) => Err(ResumeError::Refused(crate::uplink::failure::internal(
                crate::supervisor::event::Phase::Request,
                "WHIP has no connection to resume",
            ))),
        }
    }

    /// What to remember of the session of the last `publish`.
    #[must_use]
    pub fn memory(&self) -> Option<Memory> {
        match self {
            Self::Whip(whip) => whip.ghost().map(|ghost| Memory::Whip { resource: ghost.resource.to_string() }),
        }
    }

    /// The session that the last `publish` made, to be buried when it is left without a goodbye.
    #[must_use]
    pub fn ghost(&self) -> Option<Ghost> {
        match self {
            Self::Whip(whip) => whip.ghost(),
        }
    }

    /// Ends a session that was left behind. The future borrows nothing: run it beside the new `publish`.
    ///
    /// # Errors
    /// The table of `uplink::failure`.
    pub fn bury(&self, ghost: Ghost) -> impl Future<Output = Result<(), Failure>> + Send + use<> {
        match self {
            Self::Whip(whip) => whip.bury(ghost),
        }
    }
}
