//! Pure: the WebSocket part of the table: refused handshakes and close codes.

use std::time::Duration;

use crate::status::ErrorCode;
use crate::supervisor::event::{Failure, Phase, Retry};

use super::{Place, Refusal, SLOT_BUSY_WAIT_MIN, from_page, status};

/// Why a WebSocket is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// The server said so.
    ByServer {
        /// RFC 6455, section 7.4; 1005 when it gave none.
        code: u16,
        /// Its words, without control characters; may be empty.
        reason: String,
    },
    /// Nothing came for this long, not even an answer to our ping: the TCP connection is dead and nobody told us.
    HalfOpen(Duration),
    /// The connection stands, but the server answers nothing that it is asked; for this long.
    Hung(Duration),
    /// The connection broke, or what came was no WebSocket; says how.
    Broken(String),
}

/// A WebSocket ended without our asking. `url` as `origin::shown` prints it.
#[must_use]
pub fn closed(url: &str, why: &Closed) -> Failure {
    match why {
        Closed::ByServer { code, reason } => closed_by_server(url, *code, reason),
        Closed::HalfOpen(silence) => {
            let words = format!("nothing has come from `{url}` for {} s, not even a pong", silence.as_secs());
            Failure::new(Phase::Dial, Retry::Backoff, ErrorCode::SignallingFailed, words)
        }
        Closed::Hung(silence) => {
            let words =
                format!("`{url}` has answered nothing for {} s, though the connection stands", silence.as_secs());
            Failure::new(Phase::Dial, Retry::Backoff, ErrorCode::SignallingFailed, words)
        }
        Closed::Broken(how) => {
            let words = format!("the connection to `{url}` broke: {how}");
            Failure::new(Phase::Dial, Retry::Backoff, ErrorCode::SignallingFailed, words)
        }
    }
}

fn closed_by_server(url: &str, code: u16, reason: &str) -> Failure {
    use ErrorCode as Code;
    let (retry, name, advice) = match code {
        1000 | 1005 => (Retry::Backoff, Code::SignallingFailed, "the server has ended it"),
        1001 | 1012 => (Retry::Backoff, Code::SignallingFailed, "the server goes down or is being restarted"),
        1006 | 1011 | 1014 => (Retry::Backoff, Code::SignallingFailed, "a fault on the server's side"),
        1013 => (Retry::Backoff, Code::SignallingFailed, "the server has too much to do"),
        4001 => (Retry::Never, Code::InvalidToken, "the token is not valid"),
        4002 => (Retry::Once, Code::TokenExpired, "the token has expired"),
        4003 => (Retry::Never, Code::ChannelNotAuthorized, "this token may not publish here"),
        4010 => (Retry::After(SLOT_BUSY_WAIT_MIN), Code::ConcurrentLimit, "the slot is taken"),
        4012 => (Retry::Never, Code::AccountSuspended, "the account is suspended"),
        4020 => (Retry::Never, Code::AdminDisconnect, "an administrator has ended the broadcast"),
        _ => (Retry::Backoff, Code::SignallingFailed, "the server does not say why in words that we know"),
    };
    let said = if reason.is_empty() { String::new() } else { format!(" (it says: {reason})") };
    Failure::new(Phase::Request, retry, name, format!("`{url}` closed the connection with {code}: {advice}{said}"))
}

/// The opening handshake of a WebSocket was answered with a status other than 101.
#[must_use]
pub fn upgrade(place: Place<'_>, refusal: &Refusal<'_>) -> Failure {
    use ErrorCode as Code;
    let after = refusal.retry_after;
    let is_clear = place.url.starts_with("ws:");
    let (retry, code, advice) = match refusal.status {
        // 2xx and the passing redirects are how captive portals catch people, and they go away. Without TLS so does any.
        200..=299 | 302 | 303 | 307 => (
            Retry::Backoff,
            Code::SignallingFailed,
            "no WebSocket answers here; a captive portal, or a wrong `uplink.url`",
        ),
        300..=399 => (
            if is_clear { Retry::Backoff } else { Retry::IfProven { after } },
            Code::SignallingFailed,
            "a WebSocket is not redirected; a captive portal, or correct `uplink.url`",
        ),
        404 | 410 => {
            (Retry::IfProven { after }, Code::NotFound, "there is no such endpoint; check the path in `uplink.url`")
        }
        400 | 405 | 406 | 415 | 422 | 426 => (
            Retry::IfProven { after },
            Code::NotFound,
            "this address takes no such WebSocket; check `uplink.url` and `uplink.protocol`",
        ),
        _ => return status(place, refusal),
    };
    let words = format!("the WebSocket to `{}` was answered with {}: {advice}", place.url, refusal.status);
    from_page(refusal.body, Failure::new(Phase::Request, retry, code, words))
}

/// The server accepted the WebSocket, but not to speak our protocol over it.
#[must_use]
pub fn wrong_subprotocol(url: &str, subprotocol: &str) -> Failure {
    let words = format!("`{url}` does not speak `{subprotocol}`; check `uplink.url` and `uplink.protocol`");
    Failure::new(Phase::Request, Retry::IfProven { after: None }, ErrorCode::SignallingFailed, words)
}

#[cfg(test)]
mod tests {
    use super::super::Body;
    use super::*;

    const URL: &str = "wss://h.example/x";

    #[test]
    fn every_close_code_says_whether_to_try_again() {
        use ErrorCode as Code;
        for (code, retry, name) in [
            (1000, Retry::Backoff, Code::SignallingFailed),
            (1001, Retry::Backoff, Code::SignallingFailed),
            (1006, Retry::Backoff, Code::SignallingFailed),
            (1008, Retry::Backoff, Code::SignallingFailed),
            (1011, Retry::Backoff, Code::SignallingFailed),
            (1012, Retry::Backoff, Code::SignallingFailed),
            (1013, Retry::Backoff, Code::SignallingFailed),
            (4001, Retry::Never, Code::InvalidToken),
            (4002, Retry::Once, Code::TokenExpired),
            (4003, Retry::Never, Code::ChannelNotAuthorized),
            (4010, Retry::After(Duration::from_secs(30)), Code::ConcurrentLimit),
            (4012, Retry::Never, Code::AccountSuspended),
            (4020, Retry::Never, Code::AdminDisconnect),
            (4999, Retry::Backoff, Code::SignallingFailed),
            (0, Retry::Backoff, Code::SignallingFailed),
        ] {
            let failure = closed(URL, &Closed::ByServer { code, reason: "because".into() });
            assert_eq!((failure.retry, failure.code), (retry, name), "{code}");
            assert!(failure.words.contains(&format!("with {code}: ")), "{failure}");
            assert!(failure.words.contains(URL) && failure.words.ends_with("(it says: because)"), "{failure}");
        }
    }

    #[test]
    fn a_connection_that_dies_without_a_word_is_tried_again() {
        for why in [
            Closed::HalfOpen(Duration::from_secs(10)),
            Closed::Hung(Duration::from_secs(60)),
            Closed::Broken("reset".into()),
        ] {
            let failure = closed(URL, &why);
            assert_eq!((failure.phase, failure.retry), (Phase::Dial, Retry::Backoff));
            assert!(failure.words.contains(URL), "{failure}");
        }
    }

    #[test]
    fn every_refused_handshake_says_whether_to_try_again() {
        use ErrorCode as Code;
        let place = Place { method: "GET", url: URL, token_sent: true };
        let unproven = Retry::IfProven { after: Some(Duration::from_secs(40)) };
        for (status, retry, code) in [
            (200, Retry::Backoff, Code::SignallingFailed),
            (301, unproven, Code::SignallingFailed),
            (302, Retry::Backoff, Code::SignallingFailed),
            (308, unproven, Code::SignallingFailed),
            (400, unproven, Code::NotFound),
            (401, Retry::Once, Code::InvalidToken),
            (403, unproven, Code::AuthFailed),
            (404, unproven, Code::NotFound),
            (426, unproven, Code::NotFound),
            (429, Retry::After(Duration::from_secs(40)), Code::ConcurrentLimit),
            (500, Retry::Backoff, Code::SignallingFailed),
            (503, Retry::After(Duration::from_secs(40)), Code::SignallingFailed),
        ] {
            let retry_after = Some(Duration::from_secs(40));
            let failure = upgrade(place, &Refusal { status, retry_after, body: Body::Empty, said: None });
            assert_eq!((failure.retry, failure.code), (retry, code), "{failure}");
            assert!(!failure.words.contains("WHIP") && failure.words.contains(URL), "{failure}");
        }
    }
}
