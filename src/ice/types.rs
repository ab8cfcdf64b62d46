//! Pure: the words that the rooms of the agent speak to each other - sockets, packets, orders, moves.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::supervisor::event::LocalAddress;

pub(crate) use crate::config::Redundancy;

/// One socket of the agent: a UDP socket of ours, or an address that a TURN server lends us. Never used twice in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SocketId(pub(crate) u32);

/// From one of our sockets to an address of the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Route {
    pub(crate) socket: SocketId,
    pub(crate) to: SocketAddr,
}

/// Where the next packet of webrtcbin goes. The hands look here for every packet and ask nobody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Routes {
    /// DTLS and RTCP go here and nowhere else; RTP too. `None`: nothing can be sent.
    pub(crate) selected: Option<Route>,
    /// Validated routes that get a copy of every RTP packet; the far end drops what comes twice (SRTP replay protection).
    pub(crate) copies: Vec<Route>,
    /// What the far end may have missed.
    pub(crate) again: Option<Again>,
}

/// RTP to be sent once more: the path that it took may have been dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Again {
    /// One of the routes beside this: nothing newer goes there before.
    pub(crate) to: Route,
    /// All that has left since then.
    pub(crate) since: Instant,
}

/// What the session is told of its ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Moved(Move),
    /// Packets are missing at the far end, and nothing but a whole picture helps.
    Incomplete,
}

/// State of ICE as webrtcbin and the brain know it (W3C `RTCIceConnectionState`, less `closed`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IceState {
    New,
    Checking,
    Connected,
    /// No path is known to work; may heal by itself.
    Disconnected,
    /// No path has worked for so long that somebody has to do something (ICE restart).
    Failed,
}

/// What the agent wants done. Carried out in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Order {
    /// Bind a UDP socket to this address, and to this interface alone; answer with `opened` or `not_opened`.
    Open { socket: SocketId, address: LocalAddress },
    /// Close it; nothing is said about it any more.
    Close(SocketId),
    /// Send this STUN packet.
    Send { route: Route, packet: Vec<u8> },
    /// From now on media goes this way.
    Routes(Routes),
    /// Tell webrtcbin.
    State(IceState),
    /// There will be no more candidates.
    Gathered,
    /// Media has moved: tell the brain.
    Moved(Move),
}

/// Why media moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// The first path of the session.
    First,
    /// The address or its interface went away.
    AddressLost,
    /// The path went silent though its link is up.
    Silent,
    /// A path that is preferred has come (back) and has proved good.
    Preferred,
}

/// Media has moved from one local address to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) from: Option<LocalAddress>,
    pub(crate) to: LocalAddress,
    pub(crate) why: Why,
    /// From the last proof that the old path worked to the first packet on the new one; zero when both carried the media.
    pub(crate) gap: Duration,
}

/// How a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Health {
    /// No check has been answered yet.
    Unproved,
    /// Answers come.
    Good,
    /// Something is missing; it is being probed.
    Suspect,
    /// It does not answer.
    Dead,
}

/// One path in figures.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PathFigures {
    /// Where it begins; for a relay the address that its server is reached from.
    pub(crate) address: LocalAddress,
    /// Through a TURN server.
    pub(crate) relayed: bool,
    pub(crate) health: Health,
    /// Media goes this way.
    pub(crate) selected: bool,
    /// Last measured by a STUN check.
    pub(crate) rtt: Option<Duration>,
    /// Share of recent checks without an answer, 0..=1.
    pub(crate) loss: f64,
}

/// One candidate, for the statistics of webrtcbin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CandidateFacts {
    pub(crate) address: SocketAddr,
    pub(crate) kind: CandidateType,
    pub(crate) priority: u32,
}

/// `typ` of a candidate (RFC 8839, 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CandidateType {
    Host,
    ServerReflexive,
    PeerReflexive,
    Relayed,
}

/// How the agent is to behave, for the life of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) redundancy: Redundancy,
    /// After this long without a sign of life the path in use is suspect (at most 0.5 s are obeyed).
    pub(crate) suspect_after: Duration,
    /// Only relayed candidates may be used.
    pub(crate) relay_only: bool,
    /// Addresses of the loopback interface may be used too (tests, and a server on the same machine).
    pub(crate) loopback: bool,
}
