//! Pure: the text of roamcast signalling v1 (`docs/signalling.md`): messages, limits, codes. Shared with the ingest.
//!
//! What comes from the other side goes through [`parse`]: unknown fields are skipped, everything has a greatest length, and
//! what cannot be used is one sentence that quotes no value (it could be a secret).

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::units;
use crate::signal::origin::{ICE_SERVERS_MAX, check_ice_url};

/// `Sec-WebSocket-Protocol`.
pub const SUBPROTOCOL: &str = "roamcast.v1";
/// The one version there is.
pub const VERSION: u32 = 1;
/// A message may have this many bytes. An SDP offer of a browser has about 8 KiB.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Any SDP that is honest is shorter.
const SDP_BYTES_MAX: usize = 128 * 1024;
/// As for HTTP, where servers refuse longer headers.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Names of broadcasts and sessions, resume tokens, `mid`s.
const NAME_BYTES_MAX: usize = 256;
/// A candidate attribute has about 150.
const CANDIDATE_BYTES_MAX: usize = 1024;
/// Sentences and addresses.
const TEXT_BYTES_MAX: usize = 2048;
/// What a server says in an error: this much fits into one sentence.
const MESSAGE_CHARS_MAX: usize = 160;
/// Versions, ICE servers, addresses of one ICE server.
const LIST_LEN_MAX: usize = 32;

/// Text that is not for logs (tokens, passwords, SDP with its ICE password): prints as `***`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<&str> for Hidden {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// What the publisher says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ToServer {
    /// The first message of every connection. Answered with `welcome`.
    Hello {
        /// The versions of this protocol that it speaks.
        versions: Vec<u32>,
        /// The bearer token, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Hidden>,
        /// Name of the broadcast.
        name: String,
        /// The session to go on with. Answered with `resumed` or an error, after `welcome`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume: Option<Claim>,
    },
    /// The offer of a new media connection, which takes the place of the session's last one. Answered with `answer`.
    Publish {
        /// Offer.
        sdp: Hidden,
    },
    /// A local candidate.
    Candidate(Candidate),
    /// An offer with new ICE credentials for the media connection that exists. Answered with `answer`.
    IceRestart {
        /// Offer.
        sdp: Hidden,
    },
    /// The same as `resume` in `hello`, later.
    Resume(Claim),
    /// Figures of the sender, at most one a second. Not answered.
    Stats(Stats),
    /// A fresh token, before the last one expires. Answered with `tokenRefreshed`.
    TokenRefresh {
        /// Bearer token.
        token: Hidden,
    },
    /// Answered with `pong`.
    Ping {},
    /// The answer to `ping`.
    Pong {},
    /// The session is to end. The server closes with 1000.
    Bye {},
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ToClient {
    /// The answer to `hello`: this connection has a session now.
    Welcome {
        /// The version to speak.
        version: u32,
        /// Names the session; no secret.
        session_id: String,
        /// Lets its holder go on with the session from another connection.
        resume_token: Hidden,
        /// How long a session without connection and media is kept, in milliseconds.
        resume_window_ms: u64,
        /// STUN and TURN servers to use.
        #[serde(default)]
        ice_servers: Vec<IceServer>,
        /// When the token expires, in milliseconds since 1970-01-01T00:00Z; `None`: not known, or never.
        #[serde(default)]
        token_expires_at: Option<u64>,
        /// The number of this session among all of the server, the lowest free one: when the server is lost, its publishers
        /// spread by it. `None`: they roll dice.
        #[serde(default)]
        retry_slot: Option<u16>,
    },
    /// In place of those of `welcome`, from now on: before time-limited TURN credentials run out.
    IceServers {
        /// STUN and TURN servers to use.
        ice_servers: Vec<IceServer>,
    },
    /// The answer to `publish` or `iceRestart`.
    Answer {
        /// Answer.
        sdp: Hidden,
    },
    /// A candidate of the server that was not in its answer.
    Candidate(Candidate),
    /// The connection speaks for an earlier session now.
    Resumed {
        /// How the session is named now.
        session_id: String,
        /// How it was named before, if that has changed.
        #[serde(default)]
        recovered_session_id: Option<String>,
        /// For the next time.
        resume_token: Hidden,
    },
    /// The server will close with 1012 soon.
    GoingAway {
        /// It does not want to hear from anybody for this long.
        retry_after_ms: u64,
    },
    /// How the server's own onward leg (RTMP and the like) is.
    Output {
        /// Its state.
        state: OutputState,
    },
    /// The token is taken.
    TokenRefreshed {
        /// As in `welcome`.
        #[serde(default)]
        token_expires_at: Option<u64>,
    },
    /// Answered with `pong`.
    Ping {},
    /// The answer to `ping`.
    Pong {},
    /// Something did not work.
    Error(ErrorText),
}

/// The session that somebody wants to go on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Its name.
    pub session_id: String,
    /// The proof that it is theirs.
    pub resume_token: Hidden,
}

/// W3C RTCIceCandidateInit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The attribute without `a=`; empty: there will be no more.
    pub candidate: String,
    /// `a=mid` of its m-line.
    #[serde(default)]
    pub sdp_mid: Option<String>,
    /// Number of its m-line.
    #[serde(default, rename = "sdpMLineIndex")]
    pub sdp_mline_index: Option<u32>,
}

/// W3C RTCIceServer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    /// `stun:`, `turn:` or `turns:` addresses.
    pub urls: Vec<String>,
    /// TURN user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// TURN password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Hidden>,
}

/// Figures of the sender; each may be missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Bits sent in the last second.
    pub bitrate: Option<u64>,
    /// Milliseconds.
    pub rtt_ms: Option<f64>,
    /// Share of packets lost, 0 ..= 1.
    pub loss: Option<f64>,
    /// Frames sent in the last second.
    pub fps: Option<f64>,
}

/// `state` of `output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OutputState {
    /// It is down and being brought up again.
    Reconnecting,
    /// It is up.
    Ok,
}

/// `error`, as it comes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorText {
    /// See [`ErrorName::code`]. The one of the close that follows, if the error ends the connection.
    pub code: u16,
    /// See [`ErrorName`]; others may come with later versions.
    pub name: String,
    /// One sentence for people.
    pub message: String,
}

impl ErrorText {
    /// An error of this name.
    pub fn new(name: ErrorName, message: impl Into<String>) -> Self {
        Self { code: name.code(), name: name.text().to_owned(), message: message.into() }
    }

    /// `None`: a name of a later version.
    #[must_use]
    pub fn known(&self) -> Option<ErrorName> {
        ErrorName::ALL.into_iter().find(|name| name.text() == self.name)
    }

    /// Does a close follow?
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        let closes = [ErrorName::VersionUnsupported, ErrorName::Evicted, ErrorName::TakenOver];
        self.code >= 4000 || self.known().is_some_and(|name| closes.contains(&name))
    }
}

/// The errors of version 1. Those from 4000 on end the connection with their code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorName {
    /// The message cannot be read; it is ignored.
    Malformed,
    /// The type is not known; the message is ignored.
    UnknownType,
    /// Not now: `hello` must come first and once, `publish` before `candidate` and `iceRestart`. The message is ignored.
    OutOfOrder,
    /// The server does not know the session (any more): go on with the one of `welcome`.
    ResumeRefused,
    /// The offer cannot be answered.
    BadOffer,
    /// None of the versions is spoken here. Closes with 1002.
    VersionUnsupported,
    /// The session was ended because nothing was heard of it. Closes with 1000.
    Evicted,
    /// Another connection goes on with the session. Closes with 1000.
    TakenOver,
    /// A fault on the server's side.
    Internal,
    /// 4001.
    InvalidToken,
    /// 4002.
    TokenExpired,
    /// 4003.
    ChannelNotAuthorized,
    /// 4010.
    ConcurrentLimit,
    /// 4012.
    AccountSuspended,
    /// 4020.
    AdminDisconnect,
}

impl ErrorName {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Malformed,
        Self::UnknownType,
        Self::OutOfOrder,
        Self::ResumeRefused,
        Self::BadOffer,
        Self::VersionUnsupported,
        Self::Evicted,
        Self::TakenOver,
        Self::Internal,
        Self::InvalidToken,
        Self::TokenExpired,
        Self::ChannelNotAuthorized,
        Self::ConcurrentLimit,
        Self::AccountSuspended,
        Self::AdminDisconnect,
    ];

    /// Its number: like HTTP below 1000, a close code from 4000 on.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Malformed | Self::UnknownType => 400,
            Self::OutOfOrder | Self::TakenOver => 409,
            Self::ResumeRefused => 410,
            Self::BadOffer => 422,
            Self::VersionUnsupported => 426,
            Self::Evicted => 408,
            Self::Internal => 500,
            Self::InvalidToken => 4001,
            Self::TokenExpired => 4002,
            Self::ChannelNotAuthorized => 4003,
            Self::ConcurrentLimit => 4010,
            Self::AccountSuspended => 4012,
            Self::AdminDisconnect => 4020,
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownType => "unknownType",
            Self::OutOfOrder => "outOfOrder",
            Self::ResumeRefused => "resumeRefused",
            Self::BadOffer => "badOffer",
            Self::VersionUnsupported => "versionUnsupported",
            Self::Evicted => "evicted",
            Self::TakenOver => "takenOver",
            Self::Internal => "internal",
            Self::InvalidToken => "invalidToken",
            Self::TokenExpired => "tokenExpired",
            Self::ChannelNotAuthorized => "channelNotAuthorized",
            Self::ConcurrentLimit => "concurrentLimit",
            Self::AccountSuspended => "accountSuspended",
            Self::AdminDisconnect => "adminDisconnect",
        }
    }

    /// The error that goes with a close code.
    #[must_use]
    pub fn of_close(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.code() == code && code >= 4000)
    }
}

/// Why a message cannot be used. Quotes nothing of it but the name of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The whole message.
    #[error("the message has more than {MESSAGE_BYTES_MAX} bytes")]
    Huge,
    /// Or no object with a `type`.
    #[error("the message is no JSON object with a `type` (line {0}, column {1})")]
    NotJson(usize, usize),
    /// Of a later version, or misspelt.
    #[error("a message of the type `{0}` is not known")]
    UnknownType(String),
    /// A field is missing, comes twice or has the wrong type.
    #[error("a `{0}` message is not well-formed: {1}")]
    Fields(String, String),
    /// A field is too long.
    #[error("the `{0}` of the message is longer than {1}")]
    TooLong(&'static str, usize),
}

/// Reads a message.
///
/// # Errors
/// [`ParseError`].
pub fn parse<M: Message>(text: &str) -> Result<M, ParseError> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
    }
    if text.len() > MESSAGE_BYTES_MAX {
        return Err(ParseError::Huge);
    }
    let head: Head<'_> =
        serde_json::from_str(text).map_err(|error| ParseError::NotJson(error.line(), error.column()))?;
    if !M::TYPES.contains(&head.kind.as_ref()) {
        return Err(ParseError::UnknownType(printable(&head.kind)));
    }
    let mut message: M = serde_json::from_str(text).map_err(|error| {
        // Other messages of serde quote values.
        let words = error.to_string();
        let safe = ["missing field", "duplicate field"].iter().any(|start| words.starts_with(start));
        let why = if safe { words } else { "a field is not of the right type".to_owned() };
        ParseError::Fields(head.kind.clone().into_owned(), why)
    })?;
    for (name, length, limit) in message.lengths() {
        if length > limit {
            return Err(ParseError::TooLong(name, limit));
        }
    }
    message.clean();
    Ok(message)
}

/// How long to stay away, clamped to 1 s ..= 10 min: neither a busy loop nor the end of the broadcast.
#[must_use]
pub fn retry_after(ms: u64) -> Duration {
    Duration::from_millis(ms).clamp(Duration::from_secs(1), Duration::from_secs(600))
}

/// Does the session end with a connection that the server closes with this code?
#[must_use]
pub const fn ends_session(code: u16) -> bool {
    code == 1000 || (code >= 4000 && code != ErrorName::TokenExpired.code())
}

/// Writes a message.
#[must_use]
pub fn format(message: &impl Message) -> String {
    // Cannot fail: no map with keys that are no strings, no writer that fails.
    serde_json::to_string(message).unwrap_or_default()
}

/// A name as it may stand in a log line.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(40).collect()
}

/// [`ToServer`] or [`ToClient`].
pub trait Message: Serialize + DeserializeOwned {
    /// The values that `type` may have.
    const TYPES: &'static [&'static str];

    /// Field, length, greatest length.
    fn lengths(&self) -> Vec<(&'static str, usize, usize)>;

    /// Makes fit for log lines what goes there.
    fn clean(&mut self) {}
}

impl Message for ToServer {
    const TYPES: &'static [&'static str] =
        &["hello", "publish", "candidate", "iceRestart", "resume", "stats", "tokenRefresh", "ping", "pong", "bye"];

    fn lengths(&self) -> Vec<(&'static str, usize, usize)> {
        match self {
            Self::Hello { versions, token, name, resume } => {
                let mut lengths = resume.as_ref().map(Claim::lengths).unwrap_or_default();
                lengths.extend([("versions", versions.len(), LIST_LEN_MAX), ("name", name.len(), NAME_BYTES_MAX)]);
                lengths.extend(token.iter().map(|token| ("token", token.0.len(), TOKEN_BYTES_MAX)));
                lengths
            }
            Self::Publish { sdp } | Self::IceRestart { sdp } => vec![("sdp", sdp.0.len(), SDP_BYTES_MAX)],
            Self::Candidate(candidate) => candidate.lengths(),
            Self::Resume(claim) => claim.lengths(),
            Self::TokenRefresh { token } => vec![("token", token.0.len(), TOKEN_BYTES_MAX)],
            Self::Stats(_) | Self::Ping {} | Self::Pong {} | Self::Bye {} => vec![],
        }
    }
}

impl Message for ToClient {
    const TYPES: &'static [&'static str] = &[
        "welcome",
        "iceServers",
        "answer",
        "candidate",
        "resumed",
        "goingAway",
        "output",
        "tokenRefreshed",
        "ping",
        "pong",
        "error",
    ];

    fn lengths(&self) -> Vec<(&'static str, usize, usize)> {
        match self {
            Self::Welcome { session_id, resume_token, ice_servers, .. } => {
                [session_lengths(session_id, resume_token), server_lengths(ice_servers)].concat()
            }
            Self::IceServers { ice_servers } => server_lengths(ice_servers),
            Self::Resumed { session_id, recovered_session_id, resume_token } => {
                let mut lengths = session_lengths(session_id, resume_token);
                lengths.extend(recovered_session_id.iter().map(|id| ("recoveredSessionId", id.len(), NAME_BYTES_MAX)));
                lengths
            }
            Self::Answer { sdp } => vec![("sdp", sdp.0.len(), SDP_BYTES_MAX)],
            Self::Candidate(candidate) => candidate.lengths(),
            Self::Error(error) => {
                vec![("name", error.name.len(), NAME_BYTES_MAX), ("message", error.message.len(), TEXT_BYTES_MAX)]
            }
            Self::GoingAway { .. }
            | Self::Output { .. }
            | Self::TokenRefreshed { .. }
            | Self::Ping {}
            | Self::Pong {} => vec![],
        }
    }

    fn clean(&mut self) {
        if let Self::Error(error) = self {
            error.name = printable(&error.name);
            error.message = error.message.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect();
        }
    }
}

fn server_lengths(ice_servers: &[IceServer]) -> Vec<(&'static str, usize, usize)> {
    let urls = || ice_servers.iter().map(|server| &server.urls);
    let (most, longest) = (urls().map(Vec::len).max(), urls().flatten().map(String::len).max());
    let of_urls = [("urls", most.unwrap_or(0), LIST_LEN_MAX), ("urls", longest.unwrap_or(0), TEXT_BYTES_MAX)];
    [("iceServers", ice_servers.len(), LIST_LEN_MAX)].into_iter().chain(of_urls).collect()
}

fn session_lengths(id: &str, token: &Hidden) -> Vec<(&'static str, usize, usize)> {
    vec![("sessionId", id.len(), NAME_BYTES_MAX), ("resumeToken", token.0.len(), NAME_BYTES_MAX)]
}

impl Claim {
    fn lengths(&self) -> Vec<(&'static str, usize, usize)> {
        session_lengths(&self.session_id, &self.resume_token)
    }
}

impl Candidate {
    /// There will be no more.
    #[must_use]
    pub fn end() -> Self {
        Self { candidate: String::new(), sdp_mid: None, sdp_mline_index: None }
    }

    fn lengths(&self) -> Vec<(&'static str, usize, usize)> {
        let mid = self.sdp_mid.as_ref().map_or(0, String::len);
        vec![("candidate", self.candidate.len(), CANDIDATE_BYTES_MAX), ("sdpMid", mid, NAME_BYTES_MAX)]
    }
}

/// The servers that may be used, by the rules of [`origin`](crate::signal::origin) (`near`: the server itself is on this machine or a private
/// network), and why the others may not.
#[must_use]
pub fn usable(named: Vec<IceServer>, near: bool) -> (Vec<units::IceServer>, Vec<String>) {
    let (mut servers, mut left_out) = (Vec::new(), Vec::new());
    for IceServer { mut urls, username, credential } in named.into_iter().take(ICE_SERVERS_MAX) {
        urls.retain(|url| check_ice_url(url, near).map_err(|why| left_out.push(why)).is_ok());
        if !urls.is_empty() {
            let credential = credential.map(|text| units::Secret::new(text.0));
            servers.push(units::IceServer { urls, username, credential });
        }
    }
    (servers, left_out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOCS: &str = include_str!("../../../docs/signalling.md");

    /// The examples of the documentation: whether the publisher says it, and the line.
    fn examples() -> Vec<(bool, &'static str)> {
        let said = |line: &'static str| {
            let publisher = line.strip_prefix("-> ").map(|text| (true, text));
            publisher.or_else(|| line.strip_prefix("<- ").map(|text| (false, text)))
        };
        DOCS.lines().filter_map(said).filter(|(_, text)| text.starts_with('{')).collect()
    }

    #[test]
    fn the_examples_of_the_documentation_are_all_types_and_are_read() {
        let mut seen = std::collections::BTreeSet::new();
        for (publisher, text) in examples() {
            let again = if publisher {
                format(&parse::<ToServer>(text).unwrap_or_else(|error| panic!("{error}: {text}")))
            } else {
                format(&parse::<ToClient>(text).unwrap_or_else(|error| panic!("{error}: {text}")))
            };
            let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(value(&again), value(text), "an example shows every field, and no other");
            seen.insert((publisher, value(text)["type"].as_str().unwrap().to_owned()));
        }
        for (publisher, types) in [(true, ToServer::TYPES), (false, ToClient::TYPES)] {
            for kind in types {
                assert!(seen.contains(&(publisher, (*kind).to_owned())), "no example of `{kind}` ({publisher})");
            }
        }
    }

    #[test]
    fn the_documentation_lists_every_error_and_close_code() {
        for name in ErrorName::ALL {
            let row = format!("| {} | `{}` |", name.code(), name.text());
            assert!(DOCS.contains(&row), "docs/signalling.md lacks `{row}`");
        }
        for code in [1000, 1001, 1011, 1012, 1013, 4001, 4002, 4003, 4010, 4012, 4020] {
            assert!(DOCS.contains(&format!("\n| {code} | ")), "{code}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_one_sentence_without_values() {
        let huge = format!(r#"{{"type":"bye","x":"{}"}}"#, "x".repeat(MESSAGE_BYTES_MAX));
        let long = format!(r#"{{"type":"publish","sdp":"{}"}}"#, "v".repeat(SDP_BYTES_MAX + 1));
        for (text, words) in [
            ("", "the message is no JSON object with a `type` (line 1, column 0)"),
            ("[]", "the message is no JSON object with a `type` (line 1, column 2)"),
            (r#"{"type":5}"#, "the message is no JSON object with a `type` (line 1, column 9)"),
            (r#"{"sdp":"hush"}"#, "the message is no JSON object with a `type` (line 1, column 14)"),
            ("{\"type\":\"fly\\u0007 away\"}", "a message of the type `flyaway` is not known"),
            (r#"{"type":"welcome"}"#, "a message of the type `welcome` is not known"),
            (r#"{"type":"publish"}"#, "a `publish` message is not well-formed: missing field `sdp`"),
            (
                r#"{"type":"publish","sdp":"a","sdp":"b"}"#,
                "a `publish` message is not well-formed: duplicate field `sdp`",
            ),
            (
                r#"{"type":"hello","name":"live","versions":"hush"}"#,
                "a `hello` message is not well-formed: a field is not of the right type",
            ),
            (long.as_str(), "the `sdp` of the message is longer than 131072"),
            (huge.as_str(), "the message has more than 262144 bytes"),
        ] {
            assert_eq!(parse::<ToServer>(text).unwrap_err().to_string(), words, "{text:.60}");
        }
    }

    #[test]
    fn unknown_fields_are_skipped() {
        assert_eq!(parse(r#"{"mood":{"good":[1]},"type":"ping"}"#), Ok(ToServer::Ping {}));
        let text = r#"{"type":"hello","versions":[1,9],"name":"live","later":true}"#;
        let hello = ToServer::Hello { versions: vec![1, 9], token: None, name: "live".into(), resume: None };
        assert_eq!(parse(text), Ok(hello));
    }

    #[test]
    fn secrets_do_not_print() {
        let claim = Claim { session_id: "s".into(), resume_token: "hush".into() };
        let message =
            ToServer::Hello { versions: vec![1], token: Some("hush".into()), name: "n".into(), resume: Some(claim) };
        assert!(!format!("{message:?}").contains("hush"));
    }

    /// JSON that is nearly a message.
    fn nearly() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            Just("null".to_owned()),
            Just("[[1]]".to_owned()),
            any::<i64>().prop_map(|n| n.to_string()),
            "[a-z]{0,9}".prop_map(|text| format!("\"{text}\"")),
            Just(r#"{"sessionId":"a","resumeToken":"b"}"#.to_owned()),
        ];
        let key = prop_oneof![
            Just("sdp"),
            Just("token"),
            Just("versions"),
            Just("name"),
            Just("resume"),
            Just("sessionId"),
            Just("candidate"),
            Just("retryAfterMs"),
            Just("type")
        ];
        let types: Vec<_> = ToServer::TYPES.iter().chain(ToClient::TYPES).copied().collect();
        (proptest::sample::select(types), proptest::collection::vec((key, value), 0..6)).prop_map(|(kind, fields)| {
            let fields: String = fields.iter().map(|(key, value)| format!(",\"{key}\":{value}")).collect();
            format!("{{\"type\":\"{kind}\"{fields}}}")
        })
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = (parse::<ToServer>(&text), parse::<ToClient>(&text));
        }

        #[test]
        fn what_is_read_is_written_and_read_again(text in nearly()) {
            if let Ok(message) = parse::<ToServer>(&text) {
                prop_assert_eq!(parse(&format(&message)), Ok(message));
            }
            if let Ok(message) = parse::<ToClient>(&text) {
                prop_assert_eq!(parse(&format(&message)), Ok(message));
            }
        }

        #[test]
        fn cut_messages_are_refused(at in 0usize..1000, which in 0usize..100) {
            let examples = examples();
            let (_, text) = examples[which % examples.len()];
            let cut = &text[..text.floor_char_boundary(at % text.len())];
            prop_assert!(parse::<ToServer>(cut).is_err() && parse::<ToClient>(cut).is_err());
        }
    }
}
