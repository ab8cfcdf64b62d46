//! A refusal over HTTP: a status, and one sentence for the person at the other end.

use axum::http::StatusCode;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use std::time::Duration;

/// When there is no room for another session, one may have ended by then.
pub(super) const ROOM_AFTER: Duration = Duration::from_secs(5);

/// Longer names make ugly URLs.
const NAME_MAX: usize = 64;

/// A refusal: a status, and one sentence for the person at the other end.
#[derive(Debug)]
pub(super) struct Refusal(StatusCode, String, Option<(HeaderName, HeaderValue)>);

impl Refusal {
    pub(super) fn new(status: StatusCode, words: impl Into<String>) -> Self {
        Self(status, words.into(), None)
    }

    pub(super) fn with(self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        Self(self.0, self.1, Some((name, value.into())))
    }

    pub(super) fn no_session() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such session (any more)")
    }

    pub(super) fn no_room() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "there are as many sessions as this ingest has room for")
            .with(header::RETRY_AFTER, ROOM_AFTER.as_secs())
    }

    pub(super) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the ingest is stopping").with(header::RETRY_AFTER, 2)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, words, extra) = self;
        let mut response = (status, format!("{words}\n")).into_response();
        response.headers_mut().extend(extra);
        response
    }
}

/// A name is what needs no escaping anywhere.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if plain && (1..=NAME_MAX).contains(&name.len()) {
        return Ok(());
    }
    let words = format!("a broadcast's name has 1 to {NAME_MAX} letters, digits, `-` and `_`");
    Err(Refusal::new(StatusCode::NOT_FOUND, words))
}
