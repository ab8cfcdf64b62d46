//! Pure: the Janus part of the table: error codes of the core (`apierror.h`) and of the VideoRoom plugin.

use crate::status::ErrorCode;
use crate::supervisor::event::{Failure, Phase, Retry};

use crate::signal::failure::SLOT_BUSY_WAIT_MIN;

/// Wrong or missing API secret or token; asked of every request, keepalives too.
const UNAUTHORIZED: u32 = 403;
/// No such session: it expired, or was destroyed.
const SESSION_NOT_FOUND: u32 = 458;
/// No such handle.
const HANDLE_NOT_FOUND: u32 = 459;
/// VideoRoom: there is no such room.
const NO_SUCH_ROOM: u32 = 426;
/// VideoRoom: there is such a room already.
pub const ROOM_EXISTS: u32 = 427;

/// An error that Janus answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JanusError {
    /// 403 to 490 of the core, 421 to 499 of the plugin; no number means two things.
    pub code: u32,
    /// Its words, made safe to show; may be empty.
    pub reason: String,
}

impl JanusError {
    /// The session is gone, with all that was in it.
    #[must_use]
    pub const fn is_session_gone(&self) -> bool {
        matches!(self.code, SESSION_NOT_FOUND | HANDLE_NOT_FOUND)
    }

    /// The secret or the token is not valid, or not any more.
    #[must_use]
    pub const fn is_unauthorized(&self) -> bool {
        self.code == UNAUTHORIZED
    }
}

/// Janus refuses a request. `url` as `origin::shown` prints it. `token_sent`: with a token, that may have expired.
#[must_use]
pub fn janus(url: &str, room: u64, token_sent: bool, error: &JanusError) -> Failure {
    use ErrorCode as Code;
    let wants = |what| error.code == 429 && error.reason.contains(what);
    // What a Janus that has taken us lacks just now, it may have again: it restarts, and its rooms are made anew.
    let unproven = Retry::IfProven { after: None };
    let (retry, code, advice) = match error.code {
        UNAUTHORIZED if token_sent => (Retry::Once, Code::InvalidToken, "the token or `uplink.apiSecret` is not valid"),
        UNAUTHORIZED => (Retry::Never, Code::AuthFailed, "it wants an API secret or a token; check `uplink.apiSecret`"),
        405 => (Retry::Never, Code::AuthFailed, "this token may not use the VideoRoom plugin"),
        NO_SUCH_ROOM => (unproven, Code::NotFound, "make the room, or set `uplink.roomCreate = true`"),
        429 if wants("pin") => (Retry::Never, Code::AuthFailed, "the room wants a PIN; set `uplink.roomPin`"),
        429 if wants("admin_key") => (Retry::Never, Code::AuthFailed, "only its administrator may make rooms there"),
        430 => (unproven, Code::BadAnswer, "the room takes no such publisher; check `uplink.room`"),
        431 | 437 | 465 => (unproven, Code::BadAnswer, "it does not take our offer; check `video.codec`"),
        432 | 436 => (Retry::After(SLOT_BUSY_WAIT_MIN), Code::ConcurrentLimit, "somebody is publishing there already"),
        433 => {
            (Retry::Never, Code::AuthFailed, "we may not publish in this room; check `uplink.roomPin` and the token")
        }
        SESSION_NOT_FOUND | HANDLE_NOT_FOUND => (Retry::Backoff, Code::NetworkDisconnect, "our session has expired"),
        460 => (unproven, Code::NotFound, "the VideoRoom plugin is not loaded there; check `uplink.url`"),
        472 => (Retry::Backoff, Code::SignallingFailed, "the server takes no new sessions just now"),
        _ => (Retry::Backoff, Code::SignallingFailed, "a fault on the server's side"),
    };
    let phase = if code == Code::BadAnswer { Phase::Negotiate } else { Phase::Request };
    let said = if error.reason.is_empty() { String::new() } else { format!(" (it says: {})", error.reason) };
    let words = format!("Janus at `{url}`, room {room}, answers with error {}: {advice}{said}", error.code);
    Failure::new(phase, retry, code, words)
}

/// Janus ended the session by itself; `how` is half a sentence.
#[must_use]
pub fn janus_ended(url: &str, room: u64, retry: Retry, code: ErrorCode, how: &str) -> Failure {
    Failure::new(Phase::Established, retry, code, format!("Janus at `{url}`, room {room}: {how}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_error_says_whether_to_try_again() {
        const UNPROVEN: Retry = Retry::IfProven { after: None };
        use ErrorCode as Code;
        let busy = Retry::After(Duration::from_secs(30));
        for (error, reason, retry, code) in [
            (403, "Unauthorized request (wrong or missing secret/token)", Retry::Never, Code::AuthFailed),
            (405, "", Retry::Never, Code::AuthFailed),
            (424, "Invalid request on unconfigured participant", Retry::Backoff, Code::SignallingFailed),
            (426, "No such room (7)", UNPROVEN, Code::NotFound),
            (427, "Room 7 already exists", Retry::Backoff, Code::SignallingFailed),
            (429, "Missing mandatory element (pin)", Retry::Never, Code::AuthFailed),
            (429, "Missing mandatory element (admin_key)", Retry::Never, Code::AuthFailed),
            (429, "Missing mandatory element (ptype)", Retry::Backoff, Code::SignallingFailed),
            (430, "Invalid element type (room should be a string)", UNPROVEN, Code::BadAnswer),
            (432, "Maximum number of publishers (3) already reached", busy, Code::ConcurrentLimit),
            (433, "Unauthorized (wrong pin)", Retry::Never, Code::AuthFailed),
            (436, "User ID 1 already exists", busy, Code::ConcurrentLimit),
            (437, "", UNPROVEN, Code::BadAnswer),
            (458, "No such session 1", Retry::Backoff, Code::NetworkDisconnect),
            (459, "", Retry::Backoff, Code::NetworkDisconnect),
            (460, "No such plugin", UNPROVEN, Code::NotFound),
            (465, "", UNPROVEN, Code::BadAnswer),
            (471, "Still cleaning a previous session", Retry::Backoff, Code::SignallingFailed),
            (472, "", Retry::Backoff, Code::SignallingFailed),
            (490, "", Retry::Backoff, Code::SignallingFailed),
            (499, "", Retry::Backoff, Code::SignallingFailed),
            (u32::MAX, "", Retry::Backoff, Code::SignallingFailed),
        ] {
            let failure = janus("ws://h", 7, false, &JanusError { code: error, reason: reason.into() });
            assert_eq!((failure.retry, failure.code), (retry, code), "{failure}");
            assert!(failure.words.contains(&format!("room 7, answers with error {error}: ")), "{failure}");
            assert!(failure.words.contains(reason), "{failure}");
        }
    }

    #[test]
    fn a_token_that_is_refused_is_fetched_anew_once() {
        let failure = janus("ws://h", 7, true, &JanusError { code: 403, reason: String::new() });
        assert_eq!((failure.retry, failure.code), (Retry::Once, ErrorCode::InvalidToken));
    }
}
