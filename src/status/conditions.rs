//! Pure: all that can be wrong, one row each: what it is called, what it means, what a person can do about it.
//!
//! `docs/operator.md` shows this table; a test holds them equal (`ROAMCAST_BLESS=1 cargo test --lib conditions` rewrites
//! the file).

use std::time::Duration;

use super::{CaptureState, ErrorCode, Message, PlaneState, Status, StreamWarning, WaitingFor};

/// From so many failures in a row on the provider of tokens is worth an event (product.md: "failing 3x").
pub const TOKEN_FAILURES_TOLD: u32 = 3;

/// Who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// For experts.
    Detail,
    /// Good to know.
    Info,
    /// It mends itself, or may.
    Warning,
    /// A person must act.
    Error,
}

/// One thing that can be wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its name; for errors the same as in a BroadcastError event.
    pub id: &'static str,
    /// What is wrong.
    pub words: &'static str,
    /// What to do.
    pub help: &'static str,
    /// How bad it is. An error that a retry may mend is shown as a warning.
    pub severity: Severity,
    /// It is not worth showing before it has lasted this long.
    pub show_after: Duration,
    /// Ids of conditions that explain this one: while one of them is true, this one is not shown.
    pub hidden_by: &'static [&'static str],
}

const AT_ONCE: Duration = Duration::ZERO;
/// Troubles that often heal at the first retry (`minDelay` and a little).
const SOON: Duration = Duration::from_secs(3);

const fn row(
    id: &'static str,
    severity: Severity,
    show_after: Duration,
    hidden_by: &'static [&'static str],
    words: &'static str,
    help: &'static str,
) -> Condition {
    Condition { id, words, help, severity, show_after, hidden_by }
}

/// The outage has lasted longer than `reconnect.stuckAfter`.
pub const STUCK: Condition = row(
    "RECONNECT_STUCK",
    Severity::Error,
    AT_ONCE,
    &[],
    "the broadcast has been off air for longer than `reconnect.stuckAfter`",
    "Look at the last error; `roamcast reconnect` (or SIGUSR1) tries again at once.",
);

const NO_CONNECTIVITY: Condition = row(
    "NO_CONNECTIVITY",
    Severity::Warning,
    AT_ONCE,
    &[],
    "there is a network, and nothing beyond it answers: it is not the server that is away",
    "Look at the modem or router and its signal; it connects at once when something answers.",
);

const SIGNALLING_LOST: Condition = row(
    "SIGNALLING_LOST",
    Severity::Warning,
    SOON,
    &[],
    "media goes on while the signalling connection is reopened",
    "Nothing; it reconnects. If it stays, check that the server runs.",
);

const SESSION_REPLACED: Condition = row(
    "SESSION_REPLACED",
    Severity::Warning,
    SOON,
    &[],
    "the server has forgotten the session; media goes on while a new one is opened",
    "Nothing; it moves over by itself. If it stays, look at the last error.",
);

const GOING_AWAY: Condition = row(
    "GOING_AWAY",
    Severity::Info,
    AT_ONCE,
    &[],
    "the server will go away soon",
    "Nothing; it reconnects when the server wants it to.",
);

const OUTPUT_RECONNECTING: Condition = row(
    "OUTPUT_RECONNECTING",
    Severity::Warning,
    SOON,
    &[],
    "the server is reconnecting its own onward leg",
    "Nothing here; if it stays, look at the server.",
);

/// On air by consent alone.
pub const MEDIA_UNPROVEN: Condition = row(
    "MEDIA_UNPROVEN",
    Severity::Info,
    AT_ONCE,
    &[],
    "the server sends no reports; media is not proven",
    "Look at what the server shows; here only the loss of its ICE consent can be noticed.",
);

const CAPTURE_STALLED: Condition = row(
    "CAPTURE_STALLED",
    Severity::Warning,
    AT_ONCE,
    &["CAPTURE_FAILED"],
    "no pictures come from the video source",
    "Look at the camera and its cable, or at what else `[video]` names; it is opened again by itself.",
);

const CAPTURE_FAILED: Condition = row(
    "CAPTURE_FAILED",
    Severity::Warning,
    AT_ONCE,
    &[],
    "a source (camera, microphone, screen, file) or the encoder has failed",
    "The last error names it; a camera: look at its cable, and whether another program uses it. It is opened again by itself.",
);

const PROFILE: Condition = row(
    "PROFILE",
    Severity::Warning,
    AT_ONCE,
    &["B_FRAMES"],
    "the source sends H.264 of a profile above constrained baseline, which not every WebRTC player decodes; it goes out as it is",
    "Set the camera to (constrained) baseline profile, or take a pipeline that encodes anew, such as `video.pipeline = \"rtsp\"`.",
);

const B_FRAMES: Condition = row(
    "B_FRAMES",
    Severity::Warning,
    AT_ONCE,
    &[],
    "the source sends B-frames, which WebRTC cannot carry; those that can be left out are, so the picture moves less smoothly",
    "Switch B-frames off in the camera (baseline profile has none), or take a pipeline that encodes anew, such as `video.pipeline = \"rtsp\"`.",
);

const INTERLACED: Condition = row(
    "INTERLACED",
    Severity::Warning,
    AT_ONCE,
    &[],
    "the source sends interlaced pictures, which WebRTC players show with combed edges or not at all",
    "Set the camera to progressive pictures, or take a pipeline that encodes anew, such as `video.pipeline = \"rtsp\"`.",
);

const ANSWERED_PROFILE: Condition = row(
    "ANSWERED_PROFILE",
    Severity::Warning,
    AT_ONCE,
    &[],
    "the server has answered with another H.264 profile than is sent; it may not be able to play the picture",
    "If viewers see nothing, set the camera to (constrained) baseline profile, or take a pipeline that encodes anew.",
);

/// The row of a warning about the stream.
#[must_use]
pub const fn of_stream(warning: StreamWarning) -> &'static Condition {
    match warning {
        StreamWarning::Profile => &PROFILE,
        StreamWarning::BFrames => &B_FRAMES,
        StreamWarning::Interlaced => &INTERLACED,
        StreamWarning::AnsweredProfile => &ANSWERED_PROFILE,
    }
}

/// The row of a capture state, if that state is wrong at all.
#[must_use]
pub const fn of_capture(state: CaptureState) -> Option<&'static Condition> {
    match state {
        CaptureState::Stalled => Some(&CAPTURE_STALLED),
        CaptureState::Failed => Some(&CAPTURE_FAILED),
        CaptureState::Stopped | CaptureState::Starting | CaptureState::Flowing | CaptureState::Ended => None,
    }
}

/// Media flows, and signalling does not.
fn of_signalling(status: &Status) -> Option<&'static Condition> {
    match status.signalling.state {
        PlaneState::Disconnected => Some(&SIGNALLING_LOST),
        PlaneState::Failed if status.media.state == PlaneState::Connected => Some(&SESSION_REPLACED),
        PlaneState::Closed | PlaneState::Connecting | PlaneState::Connected | PlaneState::Failed => None,
    }
}

/// It is our own path that is down, as far as anybody can tell.
fn of_connectivity(status: &Status) -> Option<&'static Condition> {
    let is_held = status.broadcast.as_ref().is_some_and(|it| it.waiting_for == Some(WaitingFor::Connectivity));
    is_held.then_some(&NO_CONNECTIVITY)
}

fn of_output(status: &Status) -> Option<&'static Condition> {
    let is_broken = status.broadcast.as_ref().is_some_and(|broadcast| broadcast.message == Message::Reconnecting);
    is_broken.then_some(&OUTPUT_RECONNECTING)
}

fn of_proof(status: &Status) -> Option<&'static Condition> {
    let is_unproven = status.broadcast.as_ref().is_some_and(|broadcast| broadcast.unproven);
    is_unproven.then_some(&MEDIA_UNPROVEN)
}

macro_rules! errors {
    ($($code:ident $id:literal $severity:ident $show_after:ident [$($hidden_by:literal),*] $words:literal $help:literal;)*) => {
        /// The row of an error.
        #[must_use]
        pub const fn of(code: ErrorCode) -> &'static Condition {
            match code {
                $(ErrorCode::$code => {
                    const ROW: Condition = row($id, Severity::$severity, $show_after, &[$($hidden_by),*], $words, $help);
                    &ROW
                })*
            }
        }

        /// Every error there is.
        pub const CODES: &[ErrorCode] = &[$(ErrorCode::$code),*];
    };
}

errors! {
    InvalidToken "INVALID_TOKEN" Error AT_ONCE [] "the server does not accept the token" "Set a valid `uplink.token` or `uplink.tokenFile`.";
    TokenExpired "TOKEN_EXPIRED" Error AT_ONCE [] "the token has expired" "Put a fresh token into `uplink.tokenFile`; the file is read anew for each try.";
    ChannelNotAuthorized "CHANNEL_NOT_AUTHORIZED" Error AT_ONCE [] "the token may not publish here" "Ask whoever runs the server for the right to publish to this `uplink.url`.";
    ConcurrentLimit "CONCURRENT_LIMIT" Warning SOON [] "somebody else has the slot, perhaps our own lost session" "Wait: a lost session ends by itself; otherwise stop the other encoder.";
    AccountSuspended "ACCOUNT_SUSPENDED" Error AT_ONCE [] "the account is suspended" "Ask whoever runs the server.";
    AdminDisconnect "ADMIN_DISCONNECT" Error AT_ONCE [] "an administrator of the server ended the broadcast" "Ask whoever runs the server, then start again.";
    AuthFailed "AUTH_FAILED" Error AT_ONCE [] "the server wants other credentials" "Check `uplink.token` or `uplink.tokenFile`, and that `uplink.url` is the one the token belongs to.";
    NotFound "NOT_FOUND" Error AT_ONCE [] "the server knows no such endpoint" "Check the path of `uplink.url`.";
    NetworkDisconnect "NETWORK_DISCONNECT" Warning SOON [] "the server gave our session up" "Nothing; it reconnects. If it happens often, look at the network.";
    ReconnectionExhausted "RECONNECTION_EXHAUSTED" Error AT_ONCE [] "`reconnect.maxRetries` or `reconnect.giveUpAfter` is used up" "Mend what the message names, then start again; `reconnect.maxRetries = \"unlimited\"` never gives up.";
    SignallingFailed "SIGNALLING_FAILED" Warning SOON ["NO_CONNECTIVITY"] "the server was not reached or answered with a fault" "Check `uplink.url`, that the server runs, and the network.";
    IceConnectionFailed "ICE_CONNECTION_FAILED" Warning SOON [] "the media connection does not come up" "A firewall may block UDP: allow it, or set a TURN server in `uplink.iceServers`.";
    IceConnectionDisconnected "ICE_CONNECTION_DISCONNECTED" Warning SOON ["NO_CONNECTIVITY"] "the media connection was lost" "Nothing; it reconnects. If it happens often, look at the network.";
    MediaStalled "MEDIA_STALLED" Warning SOON ["CAPTURE_FAILED", "CAPTURE_STALLED", "NO_CONNECTIVITY"] "the server acknowledges no media" "Nothing; it reconnects. If it happens often, look at the server and at the network.";
    TlsUntrusted "TLS_UNTRUSTED" Error AT_ONCE [] "the server cannot be trusted, or speaks no TLS that we do" "Do what the message says. Often it is the clock of this machine or the host in `uplink.url`; a private CA goes into `uplink.caFile`, a certificate of the server's own into `uplink.fingerprint`.";
    BadAnswer "BAD_ANSWER" Error AT_ONCE [] "the server's answer cannot be used" "Check that `uplink.url` is a WHIP endpoint and that the server takes the codecs in `video.codec` and Opus.";
    UntrustedRedirect "UNTRUSTED_REDIRECT" Error AT_ONCE [] "the server sends us to another origin" "If that origin is yours, add it to `uplink.trustedOrigins`; the token goes nowhere else.";
    CaptureLost "CAPTURE_LOST" Warning AT_ONCE ["CAPTURE_FAILED", "CAPTURE_STALLED"] "a source (camera, microphone, screen, file) is gone" "The message names it; a camera: look at its cable, and whether another program uses it.";
    BadConfig "BAD_CONFIG" Error AT_ONCE [] "a pipeline or source in the config cannot be used" "Mend what the message names; `roamcast check` tells all that is wrong with the config.";
    EncoderFailed "ENCODER_FAILED" Error AT_ONCE [] "the encoder failed or is missing" "Set `video.encoder` to another one; the message names the package that is missing.";
    TokenProviderFailed "TOKEN_PROVIDER_FAILED" Warning AT_ONCE ["NO_CONNECTIVITY"] "the token could not be read" "Check that `uplink.tokenFile` exists and may be read by the user that roamcast runs as.";
    Internal "INTERNAL" Error AT_ONCE [] "something inside roamcast is broken" "Please report it with the log; the service starts afresh.";
}

/// What is wrong just now and worth showing: the cause, not its consequences.
#[must_use]
pub fn active(status: &Status) -> Vec<&'static Condition> {
    let off_air = match &status.broadcast {
        Some(broadcast) => broadcast.message == Message::ReconnectingBroadcast,
        None => status.stopped.is_some_and(|reason| reason.exit_code() != 0),
    };
    let error = status.error.as_ref().filter(|_| off_air).map(|error| error.code);
    let no_token = (status.token_failures >= TOKEN_FAILURES_TOLD).then_some(ErrorCode::TokenProviderFailed);
    let stuck = status.stuck.map(|_| &STUCK);
    let going_away = status.going_away.map(|_| &GOING_AWAY);
    let all = [
        stuck,
        error.map(of),
        no_token.filter(|code| error != Some(*code)).map(of),
        of_signalling(status),
        of_connectivity(status),
        going_away,
        of_output(status),
        of_proof(status),
        of_capture(status.capture),
    ];
    // A stream that is gone is wrong in another way.
    let is_flowing = status.capture == CaptureState::Flowing;
    let stream = status.warnings.iter().filter(|_| is_flowing).map(|warning| of_stream(*warning));
    let all: Vec<_> = all.into_iter().flatten().chain(stream).collect();
    let hidden = |condition: &Condition| all.iter().any(|other| condition.hidden_by.contains(&other.id));
    all.iter().filter(|condition| !hidden(condition)).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use super::*;
    use crate::status::{Broadcast, BroadcastError, RetryAdvice};

    const STATES: [CaptureState; 6] = [
        CaptureState::Stopped,
        CaptureState::Starting,
        CaptureState::Flowing,
        CaptureState::Stalled,
        CaptureState::Failed,
        CaptureState::Ended,
    ];

    const STREAM: [StreamWarning; 4] =
        [StreamWarning::Profile, StreamWarning::BFrames, StreamWarning::Interlaced, StreamWarning::AnsweredProfile];

    fn all() -> Vec<&'static Condition> {
        let captures = STATES.into_iter().filter_map(of_capture);
        let planes =
            [&NO_CONNECTIVITY, &SIGNALLING_LOST, &SESSION_REPLACED, &GOING_AWAY, &OUTPUT_RECONNECTING, &MEDIA_UNPROVEN];
        let stream = STREAM.into_iter().map(of_stream);
        CODES.iter().map(|code| of(*code)).chain(captures).chain(planes).chain([&STUCK]).chain(stream).collect()
    }

    #[test]
    fn every_error_code_has_its_row_under_the_name_the_outside_knows() {
        // `of` is exhaustive by itself; this holds the names, and that the list holds each code once.
        for code in CODES {
            assert_eq!(serde_json::to_value(code).expect("json"), of(*code).id);
        }
        for warning in STREAM {
            assert_eq!(serde_json::to_value(warning).expect("json"), of_stream(warning).id);
        }
        let mut ids: Vec<_> = all().iter().map(|condition| condition.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all().len(), "an id stands for one row");
        for condition in all() {
            assert!(condition.help.ends_with('.') && !condition.words.ends_with('.'), "{}", condition.id);
            for other in condition.hidden_by {
                assert!(ids.contains(other), "{}: hidden by `{other}`, which is no row", condition.id);
            }
        }
    }

    #[test]
    fn the_operators_table_shows_every_row() {
        let mut table = String::from(
            "# What can be wrong, and what to do\n\n\
             Made from `src/status/conditions.rs`; do not edit here.\n\n\
             | name | how bad | shown after | what it means | what to do |\n|---|---|---|---|---|\n",
        );
        for condition in all() {
            let Condition { id, words, help, severity, show_after, .. } = condition;
            let severity = format!("{severity:?}").to_lowercase();
            writeln!(table, "| {id} | {severity} | {} s | {words} | {help} |", show_after.as_secs()).expect("writes");
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operator.md");
        if std::env::var_os("ROAMCAST_BLESS").is_some() {
            std::fs::write(path, &table).expect("docs/operator.md can be written");
        }
        assert_eq!(std::fs::read_to_string(path).expect("docs/operator.md"), table);
    }

    #[test]
    fn the_cause_is_shown_and_not_its_consequence() {
        let error = BroadcastError { code: ErrorCode::CaptureLost, retry: RetryAdvice::Never, words: String::new() };
        let stopped = Some(crate::status::StopReason::BadConfig);
        let mut status = Status { error: Some(error), stopped, capture: CaptureState::Failed, ..Status::default() };
        assert_eq!(active(&status), [&CAPTURE_FAILED]);
        status.capture = CaptureState::Stopped;
        assert_eq!(active(&status), [of(ErrorCode::CaptureLost)]);
        assert_eq!(active(&Status::default()), Vec::<&Condition>::new());
        let warnings = BTreeSet::from([StreamWarning::Profile, StreamWarning::BFrames]);
        status = Status { warnings, capture: CaptureState::Flowing, ..Status::default() };
        assert_eq!(active(&status), [&B_FRAMES], "B-frames are why the profile matters");
        status.capture = CaptureState::Failed;
        assert_eq!(active(&status), [&CAPTURE_FAILED], "there is no stream to warn of");
        let broadcast = Broadcast {
            message: Message::ReconnectingBroadcast,
            waiting_for: Some(WaitingFor::Connectivity),
            ..Broadcast::on_air()
        };
        for code in [ErrorCode::SignallingFailed, ErrorCode::IceConnectionDisconnected, ErrorCode::MediaStalled] {
            let error = Some(BroadcastError { code, retry: RetryAdvice::Backoff, words: String::new() });
            let status = Status { broadcast: Some(broadcast.clone()), error, ..Status::default() };
            assert_eq!(active(&status), [&NO_CONNECTIVITY], "{code:?}");
        }
    }
}
