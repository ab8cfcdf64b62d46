//! Pure: every error of signalling and transport -> [`Failure`] { phase, retry, code, words }. One table; may we try again? (law 4)

mod websocket;

use std::time::Duration;

use crate::status::ErrorCode;
use crate::supervisor::event::{Failure, Phase, Retry};

pub use websocket::{Closed, closed, upgrade, wrong_subprotocol};

/// The least wait when the slot is taken (product.md: ">= 30 s between tries").
pub const SLOT_BUSY_WAIT_MIN: Duration = Duration::from_secs(30);

/// Where a request went, for the words: no userinfo, no query values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// The address as `origin::shown` prints it.
    pub url: &'a str,
    /// Was a bearer token sent?
    pub token_sent: bool,
}

/// A request that got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// The host name has no address, or the resolver did not answer.
    Dns,
    /// Nothing listens on that port.
    Refused,
    /// No route to the host, or no network at all.
    Unreachable,
    /// No answer, or no whole answer, within the deadline.
    TimedOut,
    /// The TLS handshake failed.
    Tls(Tls),
    /// The connection broke in the middle.
    Reset,
    /// What came is no HTTP; says what the parser said.
    Protocol(String),
    /// The body is longer than this many bytes.
    TooLong(usize),
    /// A secret would go unencrypted to an address where it must not. `private`: such addresses are allowed.
    InTheClear {
        /// `uplink.allowClearText`
        private: bool,
    },
}

/// Why a TLS handshake failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Signed by nobody we trust (self-signed, private CA, captive portal).
    UnknownIssuer,
    /// Issued for another host name.
    WrongName,
    /// Its time is over (or our clock is ahead).
    Expired,
    /// Its time has not begun (or our clock is behind, as at boot without a battery).
    NotValidYet,
    /// Made for an authority (CA:TRUE), not for a server, and not the one in `uplink.caFile`.
    Authority,
    /// Of X.509 version 1 or 2.
    OldCertificate,
    /// Not the one of `uplink.fingerprint`; carries the fingerprint that it has.
    OtherFingerprint(String),
    /// What came is no TLS.
    NoTls,
    /// The server speaks older versions than 1.2 only.
    OldVersion,
    /// No cipher, curve or signature that both take.
    NothingInCommon,
    /// The server has no certificate for our name of it.
    UnknownName,
    /// The server wants a certificate of ours.
    WantsCertificate,
    /// The server hung up in the middle of the handshake.
    HungUp,
    /// Anything else, in the words of the TLS library.
    Other(String),
}

/// An answer that is not the one we asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// HTTP status code.
    pub status: u16,
    /// `Retry-After`, parsed and clamped.
    pub retry_after: Option<Duration>,
    /// What the body is.
    pub body: Body,
    /// The first words of a plain text or JSON body, without secrets.
    pub said: Option<&'a str>,
}

/// What the body of an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Empty,
    /// Looks like SDP.
    Sdp,
    /// A web page.
    Html,
    /// Something else.
    Other,
}

/// Why a redirect, or the `Location` of a session, was not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// 301, 302, 303, 300: would turn the POST into a GET. Carries the status.
    ChangesMethod(u16),
    /// To an origin that is neither the endpoint's nor in `uplink.trustedOrigins`.
    Foreign,
    /// From https to http.
    Downgrade,
    /// More hops than we follow.
    TooMany(usize),
    /// No `Location`, or one that is no address.
    Nowhere(u16),
}

/// No answer came.
#[must_use]
pub fn transport(place: Place<'_>, why: &Transport) -> Failure {
    let url = place.url;
    let (phase, code, words) = match why {
        Transport::Dns => (
            Phase::Dial,
            ErrorCode::SignallingFailed,
            format!("the host name of `{url}` does not resolve; check the name and the DNS server of this machine"),
        ),
        Transport::Refused => (
            Phase::Dial,
            ErrorCode::SignallingFailed,
            format!("nothing listens at `{url}`; start the server or correct the port"),
        ),
        Transport::Unreachable => {
            (Phase::Dial, ErrorCode::SignallingFailed, format!("there is no way to reach `{url}` from this network"))
        }
        Transport::TimedOut => (
            Phase::Dial,
            ErrorCode::SignallingFailed,
            format!("no whole answer to {} `{url}` came in time; the server or the network is too slow", place.method),
        ),
        Transport::Tls(why) => (Phase::Dial, ErrorCode::TlsUntrusted, tls(url, why)),
        Transport::Reset => (
            Phase::Dial,
            ErrorCode::SignallingFailed,
            format!("the connection to `{url}` broke before the answer was there"),
        ),
        Transport::Protocol(what) => (
            Phase::Request,
            ErrorCode::SignallingFailed,
            format!("what came from `{url}` is no valid HTTP answer: {what}{}", if_encrypted(url)),
        ),
        Transport::InTheClear { private } => (
            Phase::Dial,
            ErrorCode::SignallingFailed,
            format!("no secret goes to `{url}` in the clear: {}", in_the_clear(*private)),
        ),
        Transport::TooLong(limit) => (
            Phase::Request,
            ErrorCode::BadAnswer,
            format!("the answer to {} `{url}` is longer than {limit} bytes; an SDP answer is not", place.method),
        ),
    };
    Failure::new(phase, Retry::Backoff, code, words)
}

/// One sentence. Clocks get set and certificates get renewed, so all of these are worth another try.
#[must_use]
pub fn tls(url: &str, why: &Tls) -> String {
    match why {
        Tls::UnknownIssuer => format!(
            "the certificate of `{url}` is signed by nobody we trust; name its CA in `uplink.caFile`, or look for a \
             captive portal in between"
        ),
        Tls::WrongName => format!("the certificate of `{url}` is issued for another host name; correct `uplink.url`"),
        Tls::Expired => {
            format!("the certificate of `{url}` has expired; renew it, or set the clock of this machine")
        }
        Tls::NotValidYet => {
            format!("the certificate of `{url}` is not valid yet; set the clock of this machine")
        }
        Tls::Authority => format!(
            "the certificate of `{url}` is one for an authority (CA:TRUE), not for a server; put that very certificate into \
             `uplink.caFile`, or its fingerprint into `uplink.fingerprint`"
        ),
        Tls::OldCertificate => {
            format!("the certificate of `{url}` has an outdated form (not X.509 version 3); make a new one")
        }
        Tls::OtherFingerprint(fingerprint) => format!(
            "the certificate of `{url}` is not the one of `uplink.fingerprint`, but has the fingerprint {fingerprint}; if the \
             server has a new one, ask whoever runs it, and correct the key"
        ),
        Tls::NoTls => format!("what answers at `{url}` speaks no TLS; correct the port, or {}", plainly(url)),
        Tls::OldVersion => {
            format!("`{url}` speaks old versions of TLS only; update the server to TLS 1.2 or newer")
        }
        Tls::NothingInCommon => format!(
            "`{url}` has no cipher or key in common with us; let the server take TLS 1.3, or 1.2 with ECDHE and AES-GCM or \
             ChaCha20"
        ),
        Tls::UnknownName => {
            format!("`{url}` has no certificate for that host name; correct `uplink.url`, or the server")
        }
        Tls::WantsCertificate => {
            format!(
                "`{url}` wants a certificate from its clients, which roamcast has none of; turn that off for this endpoint"
            )
        }
        Tls::HungUp => format!(
            "`{url}` hung up in the middle of the TLS handshake; see that the server speaks TLS 1.2 or newer on that port"
        ),
        Tls::Other(what) => format!("the TLS handshake with `{url}` failed: {what}"),
    }
}

/// How to do without TLS.
fn plainly(url: &str) -> &'static str {
    match url.split_once(':') {
        Some(("wss", _)) => "write ws instead of wss",
        Some(("turns", _)) => "write turn instead of turns",
        Some(_) | None => "write http instead of https",
    }
}

/// What a server that speaks TLS says to an unencrypted request is nothing that anyone could read.
fn if_encrypted(url: &str) -> &'static str {
    match url.split_once(':') {
        Some(("http", _)) => "; if the server speaks TLS there, write https",
        Some(("ws", _)) => "; if the server speaks TLS there, write wss",
        Some(_) | None => "",
    }
}

fn in_the_clear(private: bool) -> &'static str {
    match private {
        true => "its address is a public one, and `uplink.allowClearText` holds for private ones only; use TLS",
        false => {
            "its address is not one of this machine (any more); use TLS, or set `uplink.allowClearText = true` if the \
             network in between is private or a VPN"
        }
    }
}

/// An answer came, and its status is not the one we asked for.
#[must_use]
pub fn status(place: Place<'_>, refusal: &Refusal<'_>) -> Failure {
    let (retry, code, advice) = meaning(place, refusal);
    let phase = if code == ErrorCode::BadAnswer { Phase::Negotiate } else { Phase::Request };
    let said = refusal.said.map(|said| format!(" (it says: {said})")).unwrap_or_default();
    let words = format!("{} `{}` was answered with {}: {advice}{said}", place.method, place.url, refusal.status);
    from_page(refusal.body, Failure::new(phase, retry, code, words))
}

/// The table of statuses: may we try again, what is it called, what is to be done.
fn meaning(place: Place<'_>, refusal: &Refusal<'_>) -> (Retry, ErrorCode, &'static str) {
    use ErrorCode as Code;
    let after = refusal.retry_after;
    let busy = Retry::Busy { after };
    let rate = Retry::After(after.map_or(SLOT_BUSY_WAIT_MIN, |wait| wait.max(SLOT_BUSY_WAIT_MIN)));
    let hinted = after.map_or(Retry::Backoff, Retry::After);
    let unproven = Retry::IfProven { after };
    match refusal.status {
        200..=299 => (Retry::Backoff, Code::SignallingFailed, "a WHIP endpoint answers 201; check `uplink.url`"),
        // MediaMTX says 400 when somebody publishes to the path already; that passes, a bad offer does not.
        400 if says_slot_is_busy(refusal.said) => (busy, Code::ConcurrentLimit, "somebody is publishing there already"),
        400 | 406 | 415 | 422 => {
            (unproven, Code::BadAnswer, "the server does not take our offer; check `video.codec` and `uplink.url`")
        }
        401 if place.token_sent => (Retry::Once, Code::InvalidToken, "the token is not valid or not valid any more"),
        401 => (Retry::Once, Code::InvalidToken, "the server wants a token; set `uplink.token` or `uplink.tokenFile`"),
        402 => (unproven, Code::AccountSuspended, "the account must be paid or renewed first"),
        403 => (unproven, Code::AuthFailed, "this token may not publish here"),
        404 | 410 => (unproven, Code::NotFound, "there is no WHIP endpoint; check the path in `uplink.url`"),
        405 => (unproven, Code::NotFound, "this address takes no such request; check the path in `uplink.url`"),
        407 | 511 => (Retry::Backoff, Code::SignallingFailed, "a proxy or captive portal wants a login first"),
        409 => (busy, Code::ConcurrentLimit, "the slot is taken"),
        429 => (rate, Code::ConcurrentLimit, "the slot is taken or the server is asked too often"),
        503 => (hinted, Code::SignallingFailed, "the server is busy or being restarted"),
        408 | 425 | 500 | 502 | 504 => (Retry::Backoff, Code::SignallingFailed, "a fault on the server's side"),
        400..=499 => (unproven, Code::SignallingFailed, "the server refuses the request; check `uplink.url`"),
        _ => (hinted, Code::SignallingFailed, "a fault on the server's side"),
    }
}

/// A web page where a media server was expected comes from something in between, and goes away with it: it is never final,
/// says nothing about our token, and its words name who it may be. Pages that only dress up a fault of the server, or say
/// that our slot is taken, change nothing.
fn from_page(body: Body, failure: Failure) -> Failure {
    let passes = matches!(failure.retry, Retry::After(_) | Retry::Busy { .. });
    if body != Body::Html || passes {
        return failure;
    }
    let retry = match failure.retry {
        Retry::IfProven { after: Some(wait) } => Retry::After(wait),
        Retry::IfProven { after: None } | Retry::Once | Retry::Never | Retry::Backoff => Retry::Backoff,
        Retry::After(_) | Retry::Busy { .. } => failure.retry,
    };
    let words = format!(
        "something between you and the server answers with a web page (captive portal or proxy): {}",
        failure.words
    );
    Failure { phase: Phase::Request, retry, code: ErrorCode::SignallingFailed, words }
}

fn says_slot_is_busy(said: Option<&str>) -> bool {
    said.is_some_and(|said| said.to_ascii_lowercase().contains("already publishing"))
}

/// A redirect or a session's `Location` came that we do not follow. `to` as `origin::shown` prints it, if it is an address.
#[must_use]
pub fn redirect(place: Place<'_>, to: Option<&str>, why: &Redirect) -> Failure {
    let Place { url, method, .. } = place;
    let to = to.unwrap_or("nowhere");
    // Without TLS anybody on the way can send us anywhere; with it, it was the server.
    let is_clear = url.starts_with("http:") || url.starts_with("ws:");
    let somebody = if is_clear { Retry::Backoff } else { Retry::IfProven { after: None } };
    let (retry, code, words) = match why {
        Redirect::ChangesMethod(status) => (
            // 301 is somebody's configuration; the others are how captive portals catch people, and they go away.
            if *status == 301 { somebody } else { Retry::Backoff },
            ErrorCode::SignallingFailed,
            format!(
                "{method} `{url}` was answered with {status} to `{to}`, which would turn it into a GET; if that is the \
                 server and no captive portal, set `uplink.url` to it"
            ),
        ),
        Redirect::Foreign => (
            somebody,
            ErrorCode::UntrustedRedirect,
            format!(
                "`{url}` sends us on to `{to}`, another origin, where the token must not go (is it a captive portal or a \
                 proxy?); if it is trusted, add it to `uplink.trustedOrigins`"
            ),
        ),
        Redirect::Downgrade => (
            somebody,
            ErrorCode::UntrustedRedirect,
            format!("`{url}` sends us on to `{to}`, from https to http, where the token would be readable"),
        ),
        Redirect::TooMany(hops) => (
            Retry::Backoff,
            ErrorCode::SignallingFailed,
            format!("{method} `{url}` was redirected more than {hops} times; the server sends us in a circle"),
        ),
        Redirect::Nowhere(status) => (
            Retry::Backoff,
            ErrorCode::SignallingFailed,
            format!("{method} `{url}` was answered with {status} and no usable `Location`"),
        ),
    };
    Failure::new(Phase::Request, retry, code, words)
}

/// The same for the answer to a request, whose body tells more: a login page comes from something in between.
#[must_use]
pub fn redirected(place: Place<'_>, to: Option<&str>, why: &Redirect, body: Body) -> Failure {
    let failure = redirect(place, to, why);
    let code = failure.code;
    Failure { code, ..from_page(body, failure) }
}

/// The answer came with the right status, but is not SDP at all. May be a proxy, so it is worth another try.
#[must_use]
pub fn not_sdp(place: Place<'_>, body: Body) -> Failure {
    let what = match body {
        Body::Empty => "is empty",
        Body::Sdp => "is cut off",
        Body::Html => "is a web page",
        Body::Other => "is no SDP",
    };
    let words = format!("the answer to {} `{}` {what}; an SDP answer was expected", place.method, place.url);
    let failure = Failure::new(Phase::Negotiate, Retry::Backoff, ErrorCode::BadAnswer, words);
    Failure { phase: Phase::Negotiate, code: ErrorCode::BadAnswer, ..from_page(body, failure) }
}

/// The far end has closed the media connection.
#[must_use]
pub fn hung_up() -> Failure {
    let words = "the server has ended the session (it closed the DTLS connection)";
    Failure::new(Phase::Established, Retry::Backoff, ErrorCode::NetworkDisconnect, words)
}

/// The token could not be had; the provider may come back.
#[must_use]
pub fn no_token(words: impl Into<String>) -> Failure {
    Failure::new(Phase::Request, Retry::Backoff, ErrorCode::TokenProviderFailed, words)
}

/// `uplink.caFile` cannot be used.
#[must_use]
pub fn bad_ca_file(words: impl Into<String>) -> Failure {
    Failure::new(Phase::Dial, Retry::Never, ErrorCode::TlsUntrusted, words)
}

/// Something of our own is broken.
#[must_use]
pub fn internal(phase: Phase, words: impl Into<String>) -> Failure {
    Failure::new(phase, Retry::Backoff, ErrorCode::Internal, words)
}
