//! Pure: what is shown of the paths that media can take.

use serde::{Deserialize, Serialize};

/// Media has moved to another local address; the `data` of a PathChanged event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathChange {
    /// Interface that media left by before.
    pub from: String,
    /// Its address there.
    pub from_address: String,
    /// Interface that it leaves by now.
    pub to: String,
    /// Its address there.
    pub to_address: String,
    /// Why it moved.
    pub why: PathChangeReason,
    /// From the last proof that the old path worked to the first packet on the new one, ms; 0 when media was on both.
    pub gap_ms: u64,
}

/// `why` of a PathChanged event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathChangeReason {
    /// The address or its interface went away.
    AddressLost,
    /// The path went silent though its link is up.
    Silent,
    /// A path that is preferred has come (back) and has proved good.
    Preferred,
}

/// How a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathState {
    /// No check has been answered yet.
    Unproved,
    /// Answers come.
    Good,
    /// Something is missing; it is being probed.
    Suspect,
    /// It does not answer.
    Dead,
}

/// One path of the session in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathStats {
    /// Interface it leaves by.
    pub interface: String,
    /// Local address.
    pub address: String,
    /// Through a TURN server.
    pub relayed: bool,
    /// How it is.
    pub state: PathState,
    /// Media goes this way.
    pub selected: bool,
    /// Round trip of the last answered check, ms.
    pub rtt_ms: Option<f64>,
    /// Share of recent checks without an answer, 0..=1.
    pub loss: f64,
    /// Bytes that have left this way in this session, copies included.
    pub bytes_sent: u64,
}
