//! Pure: the notice board - [`Status`], the one truth that log, events, systemd, metrics and pages all show (law 7).

pub mod conditions;
pub mod notice;
pub mod path;
pub mod text;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use path::{PathChange, PathStats};

/// What is true just now: the one value that everything shown outside is made of.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The broadcast; `None` while off air.
    pub broadcast: Option<Broadcast>,
    /// The signalling plane.
    pub signalling: Plane,
    /// The media plane.
    pub media: Plane,
    /// The camera, or what else brings the pictures.
    pub capture: CaptureState,
    /// What that is.
    pub source: Source,
    /// What the operator should know of the stream that it gives; stays while it is gone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub warnings: BTreeSet<StreamWarning>,
    /// The last thing that went wrong; stays when it is mended.
    pub error: Option<BroadcastError>,
    /// Things that went wrong since the process started. Tells two equal errors in a row apart.
    pub errors: u64,
    /// Seconds of outage after which the operator was told that it is stuck; `None` when it is not.
    pub stuck: Option<f64>,
    /// The server will go away (deploy) and asks for so many ms of patience; `None` when it has not said so, or is back.
    pub going_away: Option<u64>,
    /// Interruptions that viewers have seen since the process started, those that are over.
    pub gaps: u64,
    /// Seconds of the last one: from the last acknowledged media to the next; `None`: there was none.
    pub gap: Option<f64>,
    /// The last time that media moved to another path of this session; `None`: it never did.
    pub path_change: Option<PathChange>,
    /// How often it moved since the process started.
    pub path_changes: u64,
    /// How often in a row the provider of tokens gave none.
    pub token_failures: u32,
    /// Why the broadcast has ended; `None` while on air and before the first start.
    pub stopped: Option<StopReason>,
    /// Figures of the session in use.
    pub link: Option<LinkStats>,
}

/// The broadcast, on air or on its way there; the `data` of a BroadcastStatus event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Broadcast {
    /// Where it is.
    pub message: Message,
    /// Why it is reconnecting; stays until it is broadcasting again.
    pub reason: Option<Reason>,
    /// Number of the retry that is under way or awaited; 0 when none is.
    pub attempt: u32,
    /// `reconnect.maxRetries`; `None` = unlimited.
    pub max_retries: Option<u32>,
    /// Seconds from when this was told to the next try; `None` when none is awaited, or its time is not known.
    pub retry_in: Option<f64>,
    /// What the next try waits for.
    pub waiting_for: Option<WaitingFor>,
    /// Where the trouble is.
    pub layer: Option<Layer>,
    /// ICE restarts of the present ladder so far (`mediaPlane.iceRestartAttempts`); they are not counted in `attempt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ice_restart: Option<u32>,
    /// On air by ICE consent alone: the server has sent no RTCP that names our media.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproven: bool,
    /// Local address in use, where known.
    pub path: Option<String>,
    /// The session, or the one that was lost, as the server names it.
    pub session_id: Option<String>,
    /// The session that this one carries on, where the server gave it another name.
    pub recovered_session_id: Option<String>,
}

#[cfg(test)]
impl Broadcast {
    /// One that is on air, for tests to change.
    pub(crate) fn on_air() -> Self {
        Self {
            message: Message::Broadcasting,
            reason: None,
            attempt: 0,
            max_retries: Some(10),
            retry_in: None,
            waiting_for: None,
            layer: None,
            ice_restart: None,
            unproven: false,
            path: None,
            session_id: Some("/whip/1".into()),
            recovered_session_id: None,
        }
    }
}

/// One plane of the present session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plane {
    /// Where it is.
    pub state: PlaneState,
    /// Why, when it is not where it should be.
    pub reason: Option<Reason>,
}

/// `state` of a ConnectionState event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PlaneState {
    /// Not in use.
    #[default]
    Closed,
    /// Being set up.
    Connecting,
    /// Up.
    Connected,
    /// Was up, is silent, may come back by itself.
    Disconnected,
    /// This is what broke; a new one is on its way.
    Failed,
}

/// One thing that went wrong; the `data` of a BroadcastError event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BroadcastError {
    /// Its name.
    pub code: ErrorCode,
    /// May we try again?
    pub retry: RetryAdvice,
    /// One clear sentence.
    pub words: String,
}

/// `retry` of a BroadcastError event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryAdvice {
    /// Yes, after our own backoff.
    Backoff,
    /// Yes, when the server said.
    After,
    /// Yes, once.
    Once,
    /// No: the broadcast ends.
    Never,
}

/// `data.message` of a BroadcastStatus event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// A connection is being established.
    Signalling,
    /// Accepted by the server; ICE and DTLS are up.
    Connected,
    /// The far end acknowledges media (any RTCP that names it), not merely "connected". Where it sends none at all, its ICE
    /// consent has been fresh for 5 s.
    Broadcasting,
    /// Connection lost, recovery under way.
    ReconnectingBroadcast,
    /// The server says that its own onward leg is reconnecting.
    Reconnecting,
}

/// Why the broadcast is reconnecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// The server could not be reached, or answered with a fault.
    ConnectFailed,
    /// The server refused, but trying again may help (busy, 503, token expired).
    ServerRefused,
    /// ICE or DTLS never came up, or ICE was lost.
    IceFailed,
    /// ICE says fine, but the far end acknowledges nothing.
    MediaStalled,
    /// The network under us changed or went away.
    NetworkChange,
    /// The server ended the session.
    ServerClosed,
    /// An operator asked for it.
    Operator,
}

/// What the next try is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WaitingFor {
    /// There is no network at all; the next try comes when a route appears.
    Network,
    /// There is a network, and nothing beyond it answers, the server or anything else: the next try comes as soon as
    /// something does.
    Connectivity,
    /// Our own backoff.
    Backoff,
    /// The server named a time.
    ServerRetryAfter,
    /// A fresh token.
    Token,
}

/// The planes that break separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Layer {
    /// WebSocket or HTTP.
    Signalling,
    /// ICE, DTLS, RTP.
    Media,
}

/// The names that errors have outside (product.md, "Error codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// 4001: the token is not valid.
    InvalidToken,
    /// 4002: the token was valid once.
    TokenExpired,
    /// 4003: this token may not publish here.
    ChannelNotAuthorized,
    /// 4010: somebody (perhaps our own ghost) has the slot.
    ConcurrentLimit,
    /// 4012.
    AccountSuspended,
    /// 4020: an administrator ended the broadcast.
    AdminDisconnect,
    /// The server wants other credentials (401 twice, 403).
    AuthFailed,
    /// 404, 410: no such endpoint.
    NotFound,
    /// The server threw us out for being silent.
    NetworkDisconnect,
    /// `maxRetries` or `giveUpAfter` is used up.
    ReconnectionExhausted,
    /// The server was not reached or answered with a fault; says nothing about media.
    SignallingFailed,
    /// ICE or DTLS did not come up.
    IceConnectionFailed,
    /// ICE was up and was lost.
    IceConnectionDisconnected,
    /// The far end stopped acknowledging media.
    MediaStalled,
    /// TLS: the certificate is not one we trust.
    TlsUntrusted,
    /// The answer cannot be used.
    BadAnswer,
    /// A redirect, Location or Link that would take the token to a stranger.
    UntrustedRedirect,
    /// The camera or another source is gone.
    CaptureLost,
    /// A pipeline or source of the config cannot be used, and trying again does not help.
    BadConfig,
    /// The encoder failed or is missing.
    EncoderFailed,
    /// The token could not be read.
    TokenProviderFailed,
    /// Something inside roamcast is broken.
    Internal,
}

/// Why the broadcast has ended. Decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StopReason {
    /// An operator, SIGTERM or Ctrl-C.
    Requested,
    /// A source that is not looped has played to its end.
    EndOfMedia,
    /// `maxRetries` or `giveUpAfter` is used up.
    ReconnectionExhausted,
    /// The server refused for good (token, channel, account, kicked).
    Refused,
    /// The config asks for what this machine cannot do (missing plugin, no such file, a pipeline that is none).
    BadConfig,
    /// Something inside roamcast is broken (teardowns that never came back).
    Internal,
}

impl StopReason {
    /// The exit code of sysexits(3) as product.md lists them.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Requested | Self::EndOfMedia => 0,
            Self::ReconnectionExhausted => 69,
            Self::Internal => 70,
            Self::Refused => 77,
            Self::BadConfig => 78,
        }
    }
}

/// Does the camera deliver?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub enum CaptureState {
    /// Not opened, or closed on request.
    #[default]
    Stopped,
    /// Being opened.
    Starting,
    /// Encoded frames come out.
    Flowing,
    /// Open, but no frame comes.
    Stalled,
    /// Broken; it will be opened again.
    Failed,
    /// Played to its end.
    Ended,
}

/// What brings the pictures: `# kind:` of the video pipeline's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A camera or a grabber.
    #[default]
    Camera,
    /// A media file.
    File,
    /// The screen of a computer.
    Screen,
    /// Made here.
    TestPicture,
}

impl Source {
    /// By the `# kind:` line of the pipeline's file.
    #[must_use]
    pub fn of_kind(kind: Option<&str>) -> Self {
        match kind {
            Some("file") => Self::File,
            Some("screen") => Self::Screen,
            Some("test") => Self::TestPicture,
            Some(_) | None => Self::Camera,
        }
    }
}

/// What is odd about the stream that is sent: it goes out, but not everybody can play it as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StreamWarning {
    /// H.264 of a profile above constrained baseline.
    Profile,
    /// H.264 with B-frames, which WebRTC does not carry.
    BFrames,
    /// Interlaced pictures that nobody deinterlaces here.
    Interlaced,
    /// The server has answered with another H.264 profile than is sent.
    AnsweredProfile,
}

/// Figures of the link in use, once a second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkStats {
    /// Sent media, bits per second over the last interval.
    pub bitrate: u64,
    /// What the encoder was told to aim for, video and audio together, bits per second.
    pub target: u64,
    /// Round-trip time as RTCP measured it, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Share of packets the far end reported lost in its last report, 0..=1.
    pub loss: Option<f64>,
    /// Encoded video frames a second over the last interval.
    pub fps: f64,
    /// Encoded video frames since the process started; goes on counting through every reconnect.
    pub frames: u64,
    /// Packets sent in this session.
    pub packets_sent: u64,
    /// Keyframes the far end asked for in this session (PLI and FIR).
    pub keyframe_requests: u64,
    /// Local address in use, where known.
    pub path: Option<String>,
    /// Every path that this session could take; empty without the roaming agent.
    #[serde(default)]
    pub paths: Vec<PathStats>,
}
