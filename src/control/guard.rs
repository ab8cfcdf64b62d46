//! Who may come in over TCP. The unix socket has file permissions instead.

use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::desk::Refusal;

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
        let host = text(headers, &HOST).unwrap_or_default();
        // DNS rebinding: a page's own name that suddenly means this machine. With a token no page gets any further.
        if self.token_file.is_none() && !is_this_machine(host) {
            let words = "the `Host` of the request must be `localhost` or an address, not a name that anyone may own";
            return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, words));
        }
        // A page elsewhere cannot read our answers, but it could make the browser post.
        if headers.contains_key(ORIGIN) && text(headers, &ORIGIN) != Some(&format!("http://{host}")) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "requests of a web page from elsewhere are not taken"));
        }
        match &self.token_file {
            Some(file) if !OPEN.contains(&path) => {
                let token = read(file).await?;
                let given = text(headers, &AUTHORIZATION).and_then(bearer).unwrap_or_default();
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

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// RFC 9110 section 11.1: the scheme's case does not count.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// `127.0.0.1:8470`, `[::1]`, `localhost:8470`
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        Some(_) | None => host,
    };
    let six =
        name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).map(|name| name.parse::<Ipv6Addr>().is_ok());
    six.unwrap_or_else(|| name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_this_machine() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8470", "192.168.1.5:1", "[::1]", "[::1]:8470"]
        {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8470",
            "localhost.evil.example",
            "::1",
            "127.0.0.1.evil.example",
            ":1",
            "[x]:1",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn the_bearer_scheme_is_read_in_any_case() {
        assert_eq!(
            (bearer("Bearer a"), bearer("bearer  a"), bearer("Basic a"), bearer("a")),
            (Some("a"), Some("a"), None, None)
        );
    }
}
