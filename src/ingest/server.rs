//! What all handlers of the ingest share: who may, what the media loop is asked, how a new connection joins it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use str0m::config::DtlsCert;
use subtle::ConstantTimeEq;
use tokio::sync::{mpsc, oneshot, watch};

use crate::server::host::Hosts;
use crate::signal::roamcast::text::IceServer;

use super::addresses::MediaAddress;
use super::faults::Faults;
use super::media::{self, Address, Board, Denied, Request};
use super::peer::{OfferError, Peer, Role};
use super::pulse::Pulse;
use super::refusal::Refusal;

/// What all handlers share.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) board: watch::Receiver<Board>,
    pub(super) certificate: DtlsCert,
    pub(super) media: MediaAddress,
    pub(super) token: Option<SecretString>,
    pub(super) status_feed: Option<watch::Receiver<String>>,
    /// Names by which we are reached, besides addresses.
    pub(super) hosts: Hosts,
    /// How the media loop is.
    pub(super) pulse: Arc<Pulse>,
    /// What tests have asked for, with `--faults` only.
    pub(super) faults: Option<Arc<Faults>>,
    /// Changes when the server is to stop.
    pub(super) stopped: watch::Receiver<()>,
}

/// Who has been let in.
pub(super) struct Joined {
    pub(super) answer: String,
    /// Of a publisher.
    pub(super) slot: Option<u16>,
}

impl Server {
    /// Checks the Bearer token, in constant time.
    pub(super) fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let (scheme, given) = given.split_at_checked("Bearer ".len()).unwrap_or_default();
        let right: bool = given.trim_ascii().ct_eq(token.expose_secret().as_bytes()).into();
        if right && scheme.eq_ignore_ascii_case(b"Bearer ") {
            return Ok(());
        }
        let words = "this needs the ingest's token: `Authorization: Bearer <token>`";
        Err(Refusal::new(StatusCode::UNAUTHORIZED, words)
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"roamcast\"")))
    }

    pub(super) async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| Refusal::stopping())?;
        answer.await.map_err(|_| Refusal::stopping())
    }

    /// Negotiates on this task: a peculiar offer must not stop the media of others. Gives the answer as well.
    pub(super) fn negotiate(&self, offer: &str, role: Role, reached: SocketAddr) -> Result<(Peer, String), OfferError> {
        let candidates = self.media.candidates(reached.ip());
        Peer::accept(offer, role, candidates, self.certificate.clone(), media::now())
    }

    pub(super) async fn join(
        &self,
        at: &Address,
        offer: &str,
        reached: SocketAddr,
    ) -> Result<Result<Joined, Denied>, Refusal> {
        let (peer, answer) = self
            .negotiate(offer, at.role, reached)
            .map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
        let joined = self.ask(|reply| Request::Join { at: at.clone(), peer: Box::new(peer), reply }).await?;
        Ok(joined.map(|slot| Joined { answer, slot }))
    }
}

impl Server {
    /// The STUN and TURN servers of this publisher, when a test has asked for some.
    pub(super) fn ice_servers(&self, name: &str) -> Vec<IceServer> {
        self.faults.as_ref().map(|faults| faults.ice_servers(name)).unwrap_or_default()
    }

    /// The same as `Link`s (RFC 9725, section 4.6).
    pub(super) fn links(&self, at: &Address) -> Vec<(HeaderName, String)> {
        let servers = if at.role == Role::Publisher { self.ice_servers(&at.name) } else { Vec::new() };
        let link = |url: &String, server: &IceServer| {
            let (user, password) = (server.username.as_deref(), server.credential.as_ref().map(|text| text.0.as_str()));
            let (user, password) = (user.unwrap_or_default(), password.unwrap_or_default());
            let link = format!("<{url}>; rel=\"ice-server\"; username=\"{user}\"; credential=\"{password}\"");
            (header::LINK, format!("{link}; credential-type=\"password\""))
        };
        servers.iter().flat_map(|server| server.urls.iter().map(|url| link(url, server))).collect()
    }
}

/// 128 random bits: who knows the URL of a session may change and end it.
pub(super) fn random_key() -> Result<String, Refusal> {
    let mut bytes = [0; 16];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "no randomness"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
