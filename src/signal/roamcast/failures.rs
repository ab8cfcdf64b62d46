//! Pure: the part of the table for roamcast signalling (`docs/signalling.md`): its errors and closes.

use crate::signal::roamcast::text::{ErrorName, ErrorText};
use crate::status::ErrorCode;
use crate::supervisor::event::{Failure, Phase, Retry};

use crate::sdp::unfit_answer;
use crate::signal::failure::{Closed, closed};

/// A request was answered with an error that leaves the connection as it is. `url` as `origin::shown` prints it.
#[must_use]
pub fn roamcast(url: &str, error: &ErrorText) -> Failure {
    let ErrorText { name, message: said, .. } = error;
    if error.known() == Some(ErrorName::BadOffer) {
        return unfit_answer(format!("`{url}` does not take our offer; check `video.codec` (it says: {said})"));
    }
    let words = format!("`{url}` answers with the error `{name}` (it says: {said})");
    Failure::new(Phase::Request, Retry::Backoff, ErrorCode::SignallingFailed, words)
}

/// A connection ended without our asking; `error` is the one that came just before.
#[must_use]
pub fn roamcast_closed(url: &str, why: &Closed, error: Option<&ErrorText>) -> Failure {
    let (Closed::ByServer { code, reason }, Some(error)) = (why, error) else { return closed(url, why) };
    let reason = if reason.is_empty() { error.message.clone() } else { reason.clone() };
    let failure = closed(url, &Closed::ByServer { code: *code, reason });
    match error.known() {
        Some(ErrorName::Evicted) => Failure { code: ErrorCode::NetworkDisconnect, ..failure },
        Some(ErrorName::VersionUnsupported) => Failure { retry: Retry::Never, ..failure },
        Some(_) | None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_more_than_the_close_that_follows() {
        let closed = |code, name| {
            let error = ErrorText::new(name, "so there");
            roamcast_closed("ws://h/x", &Closed::ByServer { code, reason: String::new() }, Some(&error))
        };
        let evicted = closed(1000, ErrorName::Evicted);
        assert_eq!((evicted.code, evicted.retry), (ErrorCode::NetworkDisconnect, Retry::Backoff));
        let version = closed(1002, ErrorName::VersionUnsupported);
        assert_eq!((version.code, version.retry), (ErrorCode::SignallingFailed, Retry::Never));
        let kicked = closed(4020, ErrorName::AdminDisconnect);
        assert_eq!((kicked.code, kicked.retry), (ErrorCode::AdminDisconnect, Retry::Never));
        assert!(kicked.words.ends_with("(it says: so there)"), "{kicked}");
    }

    #[test]
    fn only_a_bad_offer_may_be_final() {
        for name in [ErrorName::BadOffer, ErrorName::Internal, ErrorName::OutOfOrder, ErrorName::Malformed] {
            let failure = roamcast("ws://h/x", &ErrorText::new(name, "so there"));
            assert_eq!(failure.retry == Retry::IfProven { after: None }, name == ErrorName::BadOffer, "{failure}");
        }
    }
}
