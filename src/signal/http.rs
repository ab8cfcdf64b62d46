//! One HTTP request with limits: connect, whole-answer and body size; redirects are given back, not followed.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;
use reqwest::{Client, Request};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use url::{Host, Url};

use crate::config::Uplink;
use crate::supervisor::event::{Failure, Phase};
use crate::uplink::failure::{self, Tls, Transport};

use super::dns::{NoSuchName, Resolver};
use super::whip_text::{is_near, is_near_ip};

/// An SDP answer has some kilobytes; more than this is an attack or a film.
pub(super) const BODY_BYTES_MAX: usize = 256 * 1024;

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
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// The address that answered is on this machine or a private network.
    pub(super) near: bool,
}

/// The client for this endpoint, with the CA of the uplink.
///
/// # Errors
/// `uplink.caFile` cannot be used.
pub(super) fn client(endpoint: &Url, uplink: &Uplink, timeouts: Timeouts) -> Result<Client, Failure> {
    let trusts_https = uplink.trusted_origins.iter().any(|origin| origin.ascii_serialization().starts_with("https:"));
    let mut tls = tls(uplink, endpoint.scheme() == "https" || trusts_https)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Resolver::system())
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(timeouts.connect)
        .user_agent(concat!("roamcast/", env!("CARGO_PKG_VERSION")));
    if host(endpoint).is_some_and(|host| is_near(&host)) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|err| broken(&err))
}

fn broken(why: &dyn Error) -> Failure {
    failure::internal(Phase::Dial, format!("the HTTP client cannot be set up: {why}"))
}

/// TLS for this uplink, without ALPN. `system_roots`: reading them takes milliseconds, so not where no TLS is possible.
///
/// # Errors
/// `uplink.caFile` cannot be used.
pub(crate) fn tls(uplink: &Uplink, system_roots: bool) -> Result<ClientConfig, Failure> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions();
    let builder = builder.map_err(|err| broken(&err))?;
    Ok(builder.with_root_certificates(roots(uplink, system_roots)?).with_no_client_auth())
}

/// The host in a form that outlives the address.
fn host(url: &Url) -> Option<Host<String>> {
    url.host().map(|host| host.to_owned())
}

/// The roots of this system, if wanted, and `uplink.caFile`.
fn roots(uplink: &Uplink, system: bool) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    if system {
        let system = rustls_native_certs::load_native_certs();
        // Single broken certificates of the system are skipped; with none at all the handshake says so.
        let _counts = roots.add_parsable_certificates(system.certs);
    }
    if let Some(path) = &uplink.ca_file {
        add_ca_file(&mut roots, path)?;
    }
    Ok(roots)
}

fn add_ca_file(roots: &mut RootCertStore, path: &Path) -> Result<(), Failure> {
    let bad = |why: String| failure::bad_ca_file(format!("`uplink.caFile`: `{}` {why}", path.display()));
    let pem = std::fs::read(path).map_err(|err| bad(format!("cannot be read: {}", err.kind())))?;
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certs = certs.map_err(|_| bad("is not a PEM file".to_owned()))?;
    if certs.is_empty() {
        return Err(bad("holds no certificate; a PEM file with `BEGIN CERTIFICATE` was expected".to_owned()));
    }
    for cert in certs {
        roots.add(cert).map_err(|err| bad(format!("holds a certificate that cannot be used: {err}")))?;
    }
    Ok(())
}

/// Sends the request and reads the answer, not more than [`BODY_BYTES_MAX`].
pub(super) async fn send(client: &Client, request: Request) -> Result<Reply, Transport> {
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
    known_cause(error).unwrap_or_else(|innermost| match error {
        error if error.is_timeout() => Transport::TimedOut,
        error if error.is_connect() => Transport::Unreachable,
        _ => Transport::Protocol(innermost),
    })
}

/// Looks through the causes for one that we know.
///
/// # Errors
/// There is none; gives the words of the innermost.
pub(super) fn known_cause(error: &(dyn Error + 'static)) -> Result<Transport, String> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut innermost = String::new();
    while let Some(this) = cause {
        if this.is::<NoSuchName>() {
            return Ok(Transport::Dns);
        }
        if let Some(tls) = this.downcast_ref::<rustls::Error>() {
            return Ok(Transport::Tls(classify_tls(tls)));
        }
        cause = this.source();
        if let Some(io) = this.downcast_ref::<io::Error>() {
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
pub(super) fn classify_io(kind: io::ErrorKind) -> Option<Transport> {
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

#[allow(clippy::wildcard_enum_match_arm, reason = "enums of other crates, open-ended")]
fn classify_tls(error: &rustls::Error) -> Tls {
    match error {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer => Tls::UnknownIssuer,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Tls::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Tls::NotValidYet,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Tls::WrongName,
            other => Tls::Other(other.to_string()),
        },
        other => Tls::Other(other.to_string()),
    }
}

#[allow(clippy::disallowed_methods, reason = "a Retry-After date is wall-clock time")]
pub(super) fn wall_clock() -> SystemTime {
    SystemTime::now()
}
