//! The messengers - they carry words, decide nothing, never retry (law 6).

use crate::config::units::IceServer;
use crate::supervisor::event::Failure;

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
