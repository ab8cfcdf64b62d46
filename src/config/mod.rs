//! Pure: the front door - nothing unchecked gets past. [`Config`] is checked; it is made by [`load`] alone.
//!
//! ```text
//! text, environment --document--> file::File --check--> Config
//!                       |  (schema: made of the types in file)  |
//!                       +---------> complaints <---------------+
//! ```

pub mod address;
mod changes;
mod check;
pub mod clear_text;
mod complaint;
mod document;
pub mod file;
pub mod fingerprint;
pub mod mask;
pub mod origin;
mod schema;
#[cfg(test)]
mod tests;
pub mod units;
mod words;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::supervisor::policy::Policy;
pub use changes::changed_keys;
use clear_text::ClearText;
pub use complaint::{Complaint, Complaints, Place};
use fingerprint::Fingerprint;
use origin::TrustedOrigin;
pub use schema::schema;
use units::{Bitrate, IceServer, Secret};
pub use words::is_same_key;
pub(crate) use words::nearest;

/// The prefix of variables that override keys.
pub const ENV_PREFIX: &str = "ROAMCAST__";

/// Text -> [`Config`]. `name` names the text in complaints; of `env` only `ROAMCAST__SECTION__KEY` is looked at, and wins
/// over the text. No address but loopback counts as one of this machine.
///
/// # Errors
/// Every complaint at once.
pub fn load(text: &str, name: &str, env: impl Iterator<Item = (String, String)>) -> Result<Config, Complaints> {
    load_with(text, name, env, &BTreeMap::new(), |_| false).map(|loaded| loaded.config)
}

/// A config and what it was made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Checked.
    pub config: Config,
    /// Every key as it was set, or its default: [`changed_keys`] compares two of them.
    pub file: file::File,
}

/// As [`load`]; `set` holds keys (`reconnect.maxRetries`) and their values, and wins over text and environment. `is_own`:
/// does this address belong to this machine just now? (What goes there gets on no wire.)
///
/// # Errors
/// Every complaint at once.
pub fn load_with(
    text: &str,
    name: &str,
    env: impl Iterator<Item = (String, String)>,
    set: &BTreeMap<String, String>,
    is_own: impl Fn(IpAddr) -> bool,
) -> Result<Loaded, Complaints> {
    let (mut document, file) = document::Document::read(text, env, set);
    // What a broken text would have said is not known: rules that join keys would complain about defaults.
    let config = if document.is_clean("") { check::check(&mut document, &file, &is_own) } else { None };
    let complaints = document.into_complaints();
    match config {
        Some(config) if complaints.is_empty() => Ok(Loaded { config, file }),
        Some(_) | None => Err(Complaints::new(name, complaints)),
    }
}

/// The whole config, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `broadcast.name`: shown in status, log and page titles.
    pub name: String,
    /// The picture.
    pub video: Video,
    /// The sound; `None` when `audio.enabled = false`.
    pub audio: Option<Audio>,
    /// Where to, and how.
    pub uplink: Uplink,
    /// The numbers of the brain (`[reconnect]`, `[signalling]`, `[mediaPlane]`, parts of `[fallback]`).
    pub policy: Policy,
    /// `[network]`, `mediaPlane.suspectAfter` and `uplink.iceAgent`.
    pub network: Network,
    /// `fallback.captureTimeout`: no encoded frame for this long means the camera has stalled.
    pub capture_timeout: Duration,
    /// `[control]`.
    pub control: Control,
    /// `[log]`.
    pub log: Log,
}

/// `[video]`
#[derive(Debug, Clone, PartialEq)]
pub struct Video {
    /// Name of a file in the pipelines folder without `.launch`, or a path to one.
    pub pipeline: String,
    /// Device path, for pipelines that have one.
    pub device: Option<String>,
    /// URI or file path, for pipelines that have one.
    pub uri: Option<String>,
    /// Play a file again when it ends.
    pub repeat: bool,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames a second.
    pub framerate: u32,
    /// What goes on the wire.
    pub codec: VideoCodec,
    /// Name of an encoder file in the pipelines folder; `None` = auto.
    pub encoder: Option<String>,
    /// Target.
    pub bitrate: Bitrate,
    /// Longest time between keyframes.
    pub keyframe_interval: Duration,
}

/// Video codecs on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VideoCodec {
    /// Constrained baseline.
    H264,
    /// VP8.
    Vp8,
    /// VP9, profile 0.
    Vp9,
}

/// `[audio]`: always Opus.
#[derive(Debug, Clone, PartialEq)]
pub struct Audio {
    /// Name of a file in the pipelines folder without `.launch`, or a path to one.
    pub pipeline: String,
    /// Device, for pipelines that have one.
    pub device: Option<String>,
    /// Target.
    pub bitrate: Bitrate,
    /// 1 or 2.
    pub channels: u32,
}

/// `[uplink]`
#[derive(Debug, Clone, PartialEq)]
pub struct Uplink {
    /// How to talk to the server.
    pub protocol: Protocol,
    /// WHIP: always http or https here (`whip://` and `whips://` are aliases); the others: always ws or wss.
    pub url: Url,
    /// Servers to turn to when the one of `url` is away, in this order; their schemes are as for `url`.
    pub fallback_urls: Vec<Url>,
    /// `Some` when and only when the protocol is [`Protocol::Janus`].
    pub janus: Option<JanusRoom>,
    /// Where the bearer token comes from.
    pub token: Option<TokenSource>,
    /// PEM: private CAs, and certificates of servers that are to be trusted as they are.
    pub ca_file: Option<PathBuf>,
    /// The servers of `url` and `fallback_urls` show a certificate with one of these, or none is trusted; other servers (of
    /// tokens, TURN) may. Empty: as the authorities say.
    pub fingerprints: Vec<Fingerprint>,
    /// Secrets may go unencrypted to private addresses.
    pub allow_clear_text: bool,
    /// STUN and TURN servers, besides those that the server names.
    pub ice_servers: Vec<IceServer>,
    /// `relay`: TURN only.
    pub relay_only: bool,
    /// Key type of the DTLS certificate.
    pub dtls_certificate: DtlsCertificate,
    /// Origins besides the one of `url` that redirects, Location and the token may go to.
    pub trusted_origins: Vec<TrustedOrigin>,
}

impl Uplink {
    /// All servers: `url`, then `fallbackUrls` in their order. Their places are the `endpoint` numbers of the brain.
    pub fn urls(&self) -> impl Iterator<Item = &Url> {
        std::iter::once(&self.url).chain(&self.fallback_urls)
    }

    /// The same with the server of this number as `url`, and all others as `fallback_urls`; one that is not there is the
    /// first.
    #[must_use]
    pub fn at(&self, endpoint: usize) -> Self {
        let mut urls: Vec<Url> = self.urls().cloned().collect();
        let url = if endpoint < urls.len() { urls.remove(endpoint) } else { urls.remove(0) };
        Self { url, fallback_urls: urls, ..self.clone() }
    }

    /// Where the secrets of this uplink may go unencrypted.
    #[must_use]
    pub fn clear_text(&self) -> ClearText {
        let of_janus = self.janus.as_ref().is_some_and(|room| room.pin.is_some() || room.api_secret.is_some());
        match (self.token.is_some() || of_janus, self.allow_clear_text) {
            (false, _) => ClearText::Anywhere,
            (true, false) => ClearText::ThisMachine,
            (true, true) => ClearText::PrivateNetworks,
        }
    }

    /// The configured server that this address belongs to: the one of the same origin.
    #[must_use]
    pub fn home_of(&self, address: &Url) -> Option<&Url> {
        self.urls().find(|url| url.origin() == address.origin())
    }
}

/// Signalling protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9725.
    Whip,
    /// The VideoRoom plugin of Janus, over its WebSocket transport.
    Janus,
    /// roamcast signalling v1 (`docs/signalling.md`).
    Roamcast,
}

/// The room to publish into, of the VideoRoom plugin of Janus.
#[derive(Debug, Clone, PartialEq)]
pub struct JanusRoom {
    /// Number of the room.
    pub room: u64,
    /// Make the room when there is none.
    pub create: bool,
    /// What the room asks of those who join.
    pub pin: Option<Secret>,
    /// What the server asks of every request (`api_secret` in `janus.jcfg`).
    pub api_secret: Option<Secret>,
    /// Name of the publisher in the room.
    pub display: String,
}

/// Where the bearer token comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenSource {
    /// In the config.
    Value(Secret),
    /// A file, read anew for each attempt.
    File(PathBuf),
    /// A shell command that prints it.
    Command(String),
    /// An HTTPS address that answers a POST with it.
    Url(Url),
    /// The name of a systemd credential (`LoadCredential=`), read anew for each attempt.
    Credential(String),
}

/// `[control]`
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// The unix socket.
    pub socket: ControlSocket,
    /// TCP besides it.
    pub listen: Option<SocketAddr>,
    /// The bearer token of TCP; read anew for each request.
    pub token_file: Option<PathBuf>,
}

/// The unix socket that the running encoder listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlSocket {
    /// None at all.
    Off,
    /// `$RUNTIME_DIRECTORY/control.sock`, or `/run/roamcast/control.sock`; the broadcast goes on without it where it
    /// cannot be made.
    Default,
    /// This one, or no start.
    At(PathBuf),
}

/// Who finds the paths of the media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IceAgent {
    /// Our own: follows the network as it changes.
    Roaming,
    /// The one of GStreamer, for comparison.
    Libnice,
}

/// Whether media goes over two paths at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Redundancy {
    /// Never.
    Off,
    /// While the path in use is suspect or being changed.
    Handover,
    /// Whenever a second path works.
    Always,
}

/// `[network]` and the rest of what the roaming agent lives by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Interfaces in order of preference; those not named follow by route metric.
    pub interfaces: Vec<String>,
    /// Interfaces that are never used; a trailing `*` stands for any ending.
    pub exclude: Vec<String>,
    /// Whether media goes over two paths at once.
    pub redundancy: Redundancy,
    /// `mediaPlane.suspectAfter`: after half of this without a sign of life every path is probed. Up to 500 ms: later, viewers
    /// have seen the picture stand still.
    pub suspect_after: Duration,
    /// `uplink.iceAgent`.
    pub agent: IceAgent,
}

impl Default for Network {
    /// As with an empty config file.
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            exclude: Vec::new(),
            redundancy: Redundancy::Handover,
            suspect_after: Duration::from_millis(400),
            agent: IceAgent::Roaming,
        }
    }
}

/// Key type of the DTLS certificate (webrtcbin alone makes RSA-2048; ECDSA-only peers refuse that).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DtlsCertificate {
    /// P-256.
    Ecdsa,
    /// RSA-2048, as webrtcbin makes it.
    Rsa,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// A tracing filter, such as `info` or `roamcast=debug`.
    pub level: String,
    /// Form of the lines.
    pub format: LogFormat,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
    /// For journald, with fields.
    Journald,
}
