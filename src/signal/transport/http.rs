//! One HTTP request with limits: connect, whole-answer and body size; redirects are given back, not followed.

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;
use reqwest::{Client, Request};
use url::{Host, Url};

use crate::config::Uplink;
use crate::config::clear_text::ClearText;
use crate::signal::failure::{self, Tls, Transport};
use crate::supervisor::event::{Failure, Phase};

use super::dns::{NoSuchName, Resolver};
use super::guarded::Guarded;
use super::tls::{self, tls};
use super::unencrypted::InTheClear;
use crate::signal::origin::{is_near, is_near_ip};

/// An SDP answer has some kilobytes; more than this is an attack or a film.
pub(in crate::signal) const BODY_BYTES_MAX: usize = 256 * 1024;

/// What tokio-rustls says when the other end hangs up in the middle of a handshake; the kind alone says that of any stream.
const HANDSHAKE_EOF: &str = "tls handshake eof";

/// How long one request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// DNS, TCP and TLS of one address.
    pub connect: Duration,
    /// The whole exchange with all its redirects, to the last byte of the body.
    pub request: Duration,
    /// `signalling.inactivityTimeout`: a server that says nothing over an open connection for this long, though it is
    /// asked, has hung.
    pub inactivity: Duration,
}

impl Default for Timeouts {
    /// Three SYN retransmissions fit into 5 s; a server that needs more than 10 s for an answer is not well.
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), request: Duration::from_secs(10), inactivity: Duration::from_secs(60) }
    }
}

/// What came back.
pub(in crate::signal) struct Reply {
    pub(in crate::signal) status: u16,
    pub(in crate::signal) headers: HeaderMap,
    pub(in crate::signal) body: Vec<u8>,
    /// The address that answered is on this machine or a private network.
    pub(in crate::signal) near: bool,
}

/// The client for this endpoint, with the CA of the uplink.
///
/// # Errors
/// `uplink.caFile` cannot be used.
pub(in crate::signal) fn client(endpoint: &Url, uplink: &Uplink, timeouts: Timeouts) -> Result<Client, Failure> {
    let trusts_https = uplink.trusted_origins.iter().any(|origin| origin.scheme() == "https");
    let mut tls = tls(uplink, endpoint.scheme() == "https" || trusts_https)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Guarded::new(Resolver::system(), endpoint, uplink))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(timeouts.connect)
        .user_agent(concat!("roamcast/", env!("CARGO_PKG_VERSION")));
    // A proxy would see the secret, and would look for the address itself.
    let in_the_clear = endpoint.scheme() == "http" && uplink.clear_text() != ClearText::Anywhere;
    if in_the_clear || host(endpoint).is_some_and(|host| is_near(&host)) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|err| broken(&err))
}

fn broken(why: &dyn Error) -> Failure {
    failure::internal(Phase::Dial, format!("the HTTP client cannot be set up: {why}"))
}

/// The host in a form that outlives the address.
fn host(url: &Url) -> Option<Host<String>> {
    url.host().map(|host| host.to_owned())
}

/// Sends the request and reads the answer, not more than [`BODY_BYTES_MAX`].
pub(in crate::signal) async fn send(client: &Client, request: Request) -> Result<Reply, Transport> {
    let mut response = client.execute(request).await.map_err(|err| classify(&err))?;
    // Behind a proxy this is the proxy's address: then a LAN proxy makes its servers count as near.
    let by_address = response.remote_addr().is_some_and(|addr| is_near_ip(addr.ip()));
    let near = by_address || host(response.url()).is_some_and(|host| is_near(&host));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|err| classify(&err))? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(Transport::TooLong(BODY_BYTES_MAX));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { status: response.status().as_u16(), headers: response.headers().clone(), body, near })
}

fn classify(error: &reqwest::Error) -> Transport {
    let is_handshake = error.is_connect() && error.url().is_some_and(|url| url.scheme() == "https");
    match known_cause(error) {
        Ok(Transport::Reset) if is_handshake => return Transport::Tls(Tls::HungUp),
        cause => cause,
    }
    .unwrap_or_else(|innermost| match error {
        error if error.is_timeout() => Transport::TimedOut,
        error if error.is_connect() => Transport::Unreachable,
        _ => Transport::Protocol(innermost),
    })
}

/// Looks through the causes for one that we know.
///
/// # Errors
/// There is none; gives the words of the innermost.
pub(in crate::signal) fn known_cause(error: &(dyn Error + 'static)) -> Result<Transport, String> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut innermost = String::new();
    while let Some(this) = cause {
        if this.is::<NoSuchName>() {
            return Ok(Transport::Dns);
        }
        if let Some(InTheClear { private }) = this.downcast_ref() {
            return Ok(Transport::InTheClear { private: *private });
        }
        if let Some(error) = this.downcast_ref::<rustls::Error>() {
            return Ok(Transport::Tls(tls::classify(error)));
        }
        cause = this.source();
        if let Some(io) = this.downcast_ref::<io::Error>() {
            if io.kind() == io::ErrorKind::UnexpectedEof && io.to_string() == HANDSHAKE_EOF {
                return Ok(Transport::Tls(Tls::HungUp));
            }
            match (io.get_ref(), classify_io(io.kind())) {
                // `source()` of an io::Error skips the error that it wraps.
                (Some(wrapped), _) => cause = Some(wrapped),
                (None, Some(known)) => return Ok(known),
                (None, None) => {}
            }
        }
        innermost = this.to_string();
    }
    Err(innermost)
}

#[allow(clippy::wildcard_enum_match_arm, reason = "enums of other crates, open-ended")]
pub(in crate::signal) fn classify_io(kind: io::ErrorKind) -> Option<Transport> {
    use io::ErrorKind as Kind;
    match kind {
        Kind::ConnectionRefused => Some(Transport::Refused),
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::AddrNotAvailable | Kind::NetworkDown => {
            Some(Transport::Unreachable)
        }
        Kind::TimedOut => Some(Transport::TimedOut),
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => {
            Some(Transport::Reset)
        }
        _ => None,
    }
}

#[allow(clippy::disallowed_methods, reason = "a Retry-After date is wall-clock time")]
pub(in crate::signal) fn wall_clock() -> SystemTime {
    SystemTime::now()
}
