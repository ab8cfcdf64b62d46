//! Who may come in over TCP. The unix socket has file permissions instead.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::desk::Refusal;
use crate::server::host::{Hosts, Pages, Stranger};

/// Health is for probes that know no token, and tells nothing.
const OPEN: &[&str] = &["/healthz", "/readyz"];

pub(super) struct Guard {
    /// `control.tokenFile`; without it only this machine gets as far as here.
    token_file: Option<PathBuf>,
}

impl Guard {
    pub(super) const fn new(token_file: Option<PathBuf>) -> Self {
        Self { token_file }
    }

    async fn check(&self, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        // With a token no page gets any further, by whatever name it came. A page elsewhere cannot read our answers, but it
        // could make the browser post.
        let hosts = Hosts::default();
        let judged = match self.token_file {
            None => hosts.check(headers, Pages::Ours),
            Some(_) => hosts.check_origin(headers, Pages::Ours),
        };
        judged.map_err(|stranger| {
            let status = match stranger {
                Stranger::Host => StatusCode::MISDIRECTED_REQUEST,
                Stranger::Origin => StatusCode::FORBIDDEN,
            };
            Refusal::new(status, stranger.to_string())
        })?;
        match &self.token_file {
            Some(file) if !OPEN.contains(&path) => {
                let token = read(file).await?;
                let given = headers
                    .get(AUTHORIZATION)
                    .and_then(|value| value.to_str().ok())
                    .and_then(bearer)
                    .unwrap_or_default();
                if bool::from(given.as_bytes().ct_eq(token.as_bytes())) {
                    return Ok(());
                }
                Err(Refusal::new(StatusCode::UNAUTHORIZED, "the request needs the bearer token of `control.tokenFile`"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The router, with a guard before it.
pub(super) fn around(router: Router, guard: Guard) -> Router {
    router.layer(middleware::from_fn_with_state(Arc::new(guard), stand))
}

async fn stand(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.check(request.uri().path(), request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(refusal) if refusal.status == StatusCode::UNAUTHORIZED => {
            ([(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))], refusal).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Never empty: an empty token would let everyone in.
async fn read(file: &Path) -> Result<String, Refusal> {
    let text = tokio::fs::read_to_string(file).await.unwrap_or_default();
    match text.trim() {
        "" => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "`control.tokenFile` cannot be read, or is empty")),
        token => Ok(token.to_owned()),
    }
}

/// RFC 9110 section 11.1: the scheme's case does not count.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bearer_scheme_is_read_in_any_case() {
        assert_eq!(
            (bearer("Bearer a"), bearer("bearer  a"), bearer("Basic a"), bearer("a")),
            (Some("a"), Some("a"), None, None)
        );
    }
}
