//! Pure: what the TOML may say. The docs of the fields are the descriptions in `docs/config.schema.json`; the ranges and
//! defaults here are the ones that `document.rs` holds the text against.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::units::Secret;
use super::{DtlsCertificate, IceAgent, LogFormat, Protocol, Redundancy, VideoCodec};

/// The config of roamcast. An empty file is a valid config: the test picture to a `roamcast ingest` on this machine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct File {
    /// The broadcast itself.
    pub broadcast: Broadcast,
    /// The picture.
    pub video: Video,
    /// The sound.
    pub audio: Audio,
    /// Where to, and how.
    pub uplink: Uplink,
    /// How to get back on air.
    pub reconnect: Reconnect,
    /// How to get the signalling connection back while media goes on.
    pub signalling: Signalling,
    /// When media counts as lost.
    pub media_plane: MediaPlane,
    /// Which networks to use, and how.
    pub network: Network,
    /// What happens when the camera is lost.
    pub fallback: Fallback,
    /// How to talk to the running encoder.
    pub control: Control,
    /// The log.
    pub log: Log,
}

/// The broadcast itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Broadcast {
    /// Shown in status, log and page titles.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
}

/// The picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Video {
    /// Name of a pipeline (see `pipelines/README.md`), or a path to a `.launch` file of your own.
    #[schemars(length(min = 1))]
    pub pipeline: String,
    /// Device of the pipeline, such as `/dev/video0`.
    #[schemars(length(min = 1))]
    pub device: Option<String>,
    /// URI or file path of the pipelines `file` and `rtsp`.
    #[schemars(length(min = 1))]
    pub uri: Option<String>,
    /// Play a file again when it ends.
    pub repeat: bool,
    /// Pixels; an even number.
    #[schemars(range(min = 16, max = 7680))]
    pub width: u32,
    /// Pixels; an even number.
    #[schemars(range(min = 16, max = 7680))]
    pub height: u32,
    /// Frames a second.
    #[schemars(range(min = 1, max = 120))]
    pub framerate: u32,
    /// What goes on the wire.
    pub codec: VideoCodec,
    /// `auto`, or the name of an encoder (`roamcast devices` lists them).
    #[schemars(length(min = 1))]
    pub encoder: String,
    /// Target, 50k to 100M. A plain number is bits per second.
    #[schemars(schema_with = "bitrate")]
    pub bitrate: Quantity,
    /// Longest time between keyframes, 100ms to 1m.
    #[schemars(schema_with = "duration")]
    pub keyframe_interval: Quantity,
}

/// The sound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Audio {
    /// `false` sends no sound at all.
    pub enabled: bool,
    /// Name of a pipeline, or a path to a `.launch` file of your own.
    #[schemars(length(min = 1))]
    pub pipeline: String,
    /// Device of the pipeline, such as `hw:1,0`.
    #[schemars(length(min = 1))]
    pub device: Option<String>,
    /// What goes on the wire.
    pub codec: AudioCodec,
    /// Target, 6k to 510k. A plain number is bits per second.
    #[schemars(schema_with = "bitrate")]
    pub bitrate: Quantity,
    /// 1 is mono, 2 is stereo.
    #[schemars(range(min = 1, max = 2))]
    pub channels: u32,
}

/// Audio codecs on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AudioCodec {
    /// RFC 6716, 48 kHz.
    Opus,
}

/// Where to, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Uplink {
    /// How to talk to the server.
    pub protocol: Protocol,
    /// The server. WHIP: `https://` or `http://` (`whips://` and `whip://` mean the same); Janus and roamcast: `wss://` or `ws://`.
    pub url: String,
    /// Servers to turn to, in this order, when the one of `url` is away; each as in `url`.
    pub fallback_urls: Vec<String>,
    /// Janus: number of the room of the VideoRoom plugin.
    #[schemars(range(min = 1))]
    pub room: Option<u64>,
    /// Janus: make the room when there is none.
    pub room_create: bool,
    /// Janus: what the room asks of those who join.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<String>", length(min = 1))]
    pub room_pin: Option<Secret>,
    /// Janus: what the server asks of every request.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<String>", length(min = 1))]
    pub api_secret: Option<Secret>,
    /// Janus: name of the publisher in the room. Without it `broadcast.name`.
    #[schemars(length(min = 1, max = 200))]
    pub display: Option<String>,
    /// The bearer token. Better in a file of its own: `tokenFile`.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<String>", length(min = 1))]
    pub token: Option<Secret>,
    /// A file that holds the bearer token; read anew for each attempt.
    #[schemars(length(min = 1))]
    pub token_file: Option<String>,
    /// A shell command that prints the bearer token; run for each attempt.
    #[schemars(length(min = 1))]
    pub token_command: Option<String>,
    /// An `https://` address that answers a POST with the bearer token; asked for each attempt.
    #[schemars(length(min = 1))]
    pub token_url: Option<String>,
    /// The systemd credential (`LoadCredential=`) that holds the bearer token; read anew for each attempt.
    #[schemars(length(min = 1))]
    pub token_credential: Option<String>,
    /// PEM, trusted besides the authorities of the system: a private CA, or the server's own certificate.
    #[schemars(length(min = 1))]
    pub ca_file: Option<String>,
    /// SHA-256 of the server's certificate, 64 hex digits, or an array of them. Nothing else of that certificate is looked at,
    /// and the servers of `url` and `fallbackUrls` may show no other.
    #[schemars(schema_with = "one_or_many")]
    pub fingerprint: Option<OneOrMany>,
    /// Lets the token and passwords go over http or ws to private addresses and VPNs (RFC 1918, ULA, link-local, 100.64/10);
    /// never to others.
    pub allow_clear_text: bool,
    /// STUN and TURN servers, besides those that the server names.
    pub ice_servers: Vec<IceServer>,
    /// `relay` lets media out through a TURN server only.
    pub ice_transport: IceTransport,
    /// Key type of the DTLS certificate.
    pub dtls_certificate: DtlsCertificate,
    /// `roaming` follows the network as it changes; `libnice` is the agent of GStreamer, for comparison.
    pub ice_agent: IceAgent,
    /// Origins (`https://host[:port]`, `https://*.domain`) besides that of `url` that a redirect or Location may name; the token
    /// goes there too.
    pub trusted_origins: Vec<String>,
}

/// A STUN or TURN server, as in W3C WebRTC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IceServer {
    /// `stun:host[:port]`, `turn:host[:port][?transport=udp|tcp]`, or `turns:` for TLS.
    #[schemars(length(min = 1))]
    pub urls: Vec<String>,
    /// TURN user name.
    #[serde(default)]
    pub username: Option<String>,
    /// TURN password.
    #[serde(default, skip_serializing)]
    #[schemars(with = "Option<String>")]
    pub credential: Option<Secret>,
}

/// Which ICE candidates are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IceTransport {
    /// Every kind.
    All,
    /// Relayed ones only: this machine's addresses stay hidden.
    Relay,
}

/// How to get back on air.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Reconnect {
    /// Shortest wait between two tries, 100ms to 1h.
    #[schemars(schema_with = "duration")]
    pub min_delay: Quantity,
    /// Longest wait between two tries, 100ms to 24h; a server's Retry-After may ask for more.
    #[schemars(schema_with = "duration")]
    pub max_delay: Quantity,
    /// Tries in a row before roamcast gives up; 0 turns reconnecting off; `"unlimited"` never gives up.
    #[schemars(schema_with = "retries")]
    pub max_retries: Quantity,
    /// Give up when an outage lasts this long, 1s and more. Without it only `maxRetries` counts.
    #[schemars(schema_with = "duration")]
    pub give_up_after: Option<Quantity>,
    /// Tell the operator when an outage lasts this long, 1s to 24h.
    #[schemars(schema_with = "duration")]
    pub stuck_after: Quantity,
}

/// How to get the signalling connection back while media goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Signalling {
    /// `false` ends the session when its signalling connection is lost.
    pub keep_media_on_loss: bool,
    /// First wait before the connection is opened again, 100ms to 1h; doubles from try to try.
    #[schemars(schema_with = "duration")]
    pub min_delay: Quantity,
    /// Longest wait between two tries, 100ms to 24h; a server's hint may ask for more.
    #[schemars(schema_with = "duration")]
    pub max_delay: Quantity,
    /// Share by which each wait is made longer or shorter at random.
    #[schemars(range(min = 0, max = 1))]
    pub jitter: f64,
    /// Tries in a row before the session counts as lost; `"unlimited"` never gives up.
    #[schemars(schema_with = "retries")]
    pub max_attempts: Quantity,
    /// A server that answers nothing this long over a connection that stands has hung, and the connection is opened again;
    /// 1s to 1h. (A connection that is dead is found within 10 s, whatever this says.)
    #[schemars(schema_with = "duration")]
    pub inactivity_timeout: Quantity,
}

/// When media counts as lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MediaPlane {
    /// Half of this without a sign of life makes the path in use suspect: every path is probed. 100ms to 500ms.
    #[schemars(schema_with = "duration")]
    pub suspect_after: Quantity,
    /// ICE may be `disconnected` this long before the session counts as lost, 100ms to 5m.
    #[schemars(schema_with = "duration")]
    pub disconnected_timeout: Quantity,
    /// ICE restarts before the session is replaced, 0 to 100: 9 take two minutes; 0 = none. `uplink.iceAgent = "libnice"` has
    /// none.
    #[schemars(range(min = 0, max = 100))]
    pub ice_restart_attempts: u32,
    /// Replace a session whose media was interrupted, even when it has healed by itself.
    pub force_reconnect_after_drop: bool,
    /// A disturbance shorter than this does not change the BroadcastStatus, 0 to 1m.
    #[schemars(schema_with = "duration")]
    pub status_grace: Quantity,
}

/// Which networks to use, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Network {
    /// Interfaces in order of preference, such as `["eth0", "wlan0", "wwan0"]`; those not named follow by route metric.
    pub interfaces: Vec<String>,
    /// Interfaces that are never used; a name that ends with `*` stands for all that begin so.
    pub exclude: Vec<String>,
    /// Media over two paths at once: `off`, `handover` (while a path is suspect or being changed), `always` (doubles the data).
    pub redundancy: Redundancy,
}

/// What happens when the camera is lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Fallback {
    /// No frame for this long means that the camera has stalled, 500ms to 5m.
    #[schemars(schema_with = "duration")]
    pub capture_timeout: Quantity,
    /// Wait before the camera is opened again, 100ms to 1h.
    #[schemars(schema_with = "duration")]
    pub retry_delay: Quantity,
}

/// How to talk to the running encoder.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Control {
    /// Path of the unix socket; `""` turns it off. Without it `$RUNTIME_DIRECTORY/control.sock`, else `/run/roamcast/control.sock`.
    #[schemars(length(max = 107))]
    pub socket: Option<String>,
    /// `address:port` for HTTP over TCP besides it: loopback only unless `tokenFile` is set.
    #[schemars(length(min = 1))]
    pub listen: Option<String>,
    /// A file that holds the bearer token that TCP asks for; read anew for each request.
    #[schemars(length(min = 1))]
    pub token_file: Option<String>,
}

/// The log, on stderr.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, `off`, or a filter such as `info,roamcast::signal=debug`.
    #[schemars(length(min = 1))]
    pub level: String,
    /// Form of the lines.
    pub format: LogFormat,
}

/// A text, or an array of texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// `"a"`
    One(String),
    /// `["a", "b"]`
    Many(Vec<String>),
}

/// A number, or text with a unit; the key says which units it takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    /// `2`
    Whole(u64),
    /// `0.5`
    Fraction(f64),
    /// `"500ms"`
    Text(String),
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(number) => write!(f, "{number}"),
            Self::Fraction(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<u64> for Quantity {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["number", "string"], "minimum": 0, "pattern": r"^\s*[0-9.]+\s*(ms|s|m|min|h)?\s*$" })
}

fn bitrate(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["number", "string"], "minimum": 0, "pattern": r"^\s*[0-9.]+\s*[kKmM]?(b(it)?s?(/s|ps)?)?\s*$" })
}

fn one_or_many(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "array"], "items": { "type": "string" } })
}

fn retries(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "string"], "minimum": 0, "maximum": u32::MAX, "pattern": "^unlimited$" })
}

impl Default for Broadcast {
    fn default() -> Self {
        Self { name: "roamcast".into() }
    }
}

impl Default for Video {
    fn default() -> Self {
        Self {
            pipeline: "test".into(),
            device: None,
            uri: None,
            repeat: true,
            width: 1280,
            height: 720,
            framerate: 30,
            codec: VideoCodec::H264,
            encoder: "auto".into(),
            bitrate: "2.5M".into(),
            keyframe_interval: "2s".into(),
        }
    }
}

impl Default for Audio {
    fn default() -> Self {
        Self {
            enabled: true,
            pipeline: "test".into(),
            device: None,
            codec: AudioCodec::Opus,
            bitrate: "96k".into(),
            channels: 2,
        }
    }
}

impl Default for Uplink {
    fn default() -> Self {
        Self {
            protocol: Protocol::Whip,
            // Where `roamcast ingest` listens unless it is told otherwise.
            url: "http://127.0.0.1:8080/whip/live".into(),
            fallback_urls: Vec::new(),
            room: None,
            room_create: false,
            room_pin: None,
            api_secret: None,
            display: None,
            token: None,
            token_file: None,
            token_command: None,
            token_url: None,
            token_credential: None,
            ca_file: None,
            fingerprint: None,
            allow_clear_text: false,
            ice_servers: Vec::new(),
            ice_transport: IceTransport::All,
            dtls_certificate: DtlsCertificate::Ecdsa,
            ice_agent: IceAgent::Roaming,
            trusted_origins: Vec::new(),
        }
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            min_delay: 2.into(),
            max_delay: 15.into(),
            max_retries: 10.into(),
            give_up_after: None,
            stuck_after: 30.into(),
        }
    }
}

impl Default for Signalling {
    fn default() -> Self {
        Self {
            keep_media_on_loss: true,
            min_delay: Quantity::Fraction(0.5),
            max_delay: 30.into(),
            jitter: 0.2,
            max_attempts: 100.into(),
            inactivity_timeout: 60.into(),
        }
    }
}

impl Default for MediaPlane {
    fn default() -> Self {
        Self {
            suspect_after: "400ms".into(),
            disconnected_timeout: 4.into(),
            ice_restart_attempts: 9,
            force_reconnect_after_drop: false,
            status_grace: 1.into(),
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self { interfaces: Vec::new(), exclude: Vec::new(), redundancy: Redundancy::Handover }
    }
}

impl Default for Fallback {
    fn default() -> Self {
        Self { capture_timeout: "5s".into(), retry_delay: "2s".into() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}
