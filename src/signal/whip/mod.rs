//! The WHIP client (RFC 9725): POST the offer, PATCH candidates, DELETE the session. Never retries.

pub mod text;

use std::sync::Arc;

use reqwest::Method;
use reqwest::header::{self, HeaderMap, HeaderValue};
use tokio::time::Instant;
use tracing::warn;
use url::Url;

use crate::config::Uplink;
use crate::config::units::Secret;
use crate::sdp;
use crate::signal::failure::{self, Body, Place};
use crate::status::ErrorCode;
use crate::supervisor::event::{Failure, Phase, Retry, RetrySlot};

use super::origin::shown;
use super::token::Tokens;
use super::token::renewal::Renewal;
use super::transport::headers;
use super::transport::http::Timeouts;
use super::transport::redirect::{Asked, Courier, Letter};
use super::{Accepted, Ghost, Memory, Oddities, RestartError, Trickle, Word};
use crate::sdp::LocalCandidate;

/// The client side of one WHIP endpoint, and of the session that the last POST made there.
pub struct Whip {
    uplink: Uplink,
    timeouts: Timeouts,
    endpoint: Endpoint,
    session: Option<Session>,
    /// Given last, to know the next one from it.
    token: Option<Secret>,
    renewal: Renewal,
    /// Has yet to be told.
    slot: Option<RetrySlot>,
    oddities: Oddities,
    /// This server takes `If-Match: *` and not `If-Match: "*"`.
    star_is_bare: bool,
}

impl std::fmt::Debug for Whip {
    /// Neither the token nor the offer, which holds the ICE password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Whip").field("endpoint", &shown(self.endpoint.courier.address())).finish_non_exhaustive()
    }
}

struct Session {
    offer: String,
    /// `None` until it has come.
    answer: Option<String>,
    /// `None`: the server gave no `Location`, so there is nothing to PATCH or DELETE.
    resource: Option<Url>,
    etag: Option<HeaderValue>,
    takes_trickle: bool,
}

impl Whip {
    pub(super) fn new(uplink: &Uplink, tokens: Arc<Tokens>, timeouts: Timeouts) -> Result<Self, Failure> {
        let courier = Courier::new(&uplink.url, uplink, timeouts)?;
        let renewal = Renewal::new(&tokens, None);
        Ok(Self {
            uplink: uplink.clone(),
            timeouts,
            endpoint: Endpoint { courier, tokens },
            session: None,
            token: None,
            renewal,
            slot: None,
            oddities: Oddities::default(),
            star_is_bare: false,
        })
    }

    /// What the answer to the offer said besides; never ends then: WHIP has no connection to speak over. Renews the token
    /// for the next PATCH or DELETE meanwhile.
    pub(super) async fn next(&mut self) -> Word {
        if let Some(slot) = self.slot.take() {
            return Word::RetrySlot(slot);
        }
        loop {
            // Kept by `tokens`, too, where the next request finds it.
            let in_use = self.token.as_ref();
            self.token = Some(self.renewal.next(&self.endpoint.tokens, in_use).await);
        }
    }

    pub(super) async fn publish(&mut self, offer: &str) -> Result<Accepted, Failure> {
        (self.session, self.slot) = (None, None);
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/sdp")),
            (header::ACCEPT, HeaderValue::from_static("application/sdp")),
        ];
        let url = self.endpoint.courier.address().clone();
        let token = self.endpoint.tokens.fresh().await?;
        (self.token, self.renewal) = (token.clone(), Renewal::new(&self.endpoint.tokens, None));
        let headers = HeaderMap::from_iter(headers);
        let letter = Letter { method: Method::POST, url, headers, body: offer.to_owned(), token };
        let asked = self.endpoint.ask(letter).await?;
        let url = shown(asked.url());
        let place = asked.place(&url);
        // Some servers say 200 or 202 instead of 201; with an SDP answer there is no doubt what they mean.
        let is_success = (200..300).contains(&asked.reply.status);
        let accepted = asked.reply.status == 201 || (is_success && asked.body() == Body::Sdp);
        if !accepted {
            return Err(asked.refusal(&place));
        }
        let resource = self.resource_of(&asked, place);
        // Kept from here on, so that `goodbye` finds the session even when its answer is of no use.
        self.session = Some(Session {
            offer: offer.to_owned(),
            answer: None,
            takes_trickle: resource.is_some(),
            etag: asked.reply.headers.get(header::ETAG).cloned(),
            resource: resource.clone(),
        });
        if asked.body() != Body::Sdp {
            return Err(failure::not_sdp(place, asked.body()));
        }
        let answer = sdp::decode(&asked.reply.body);
        if let Some(session) = &mut self.session {
            session.answer = Some(answer.clone());
        }
        let links = asked.reply.headers.get_all(header::LINK);
        let (ice_servers, left_out) =
            text::ice_servers(links.iter().filter_map(|link| link.to_str().ok()), asked.reply.near);
        left_out.iter().for_each(|sentence| warn!("{sentence}"));
        self.slot = self.slot_of(&asked);
        let session_id = resource.as_ref().unwrap_or(asked.url()).path().to_owned();
        Ok(Accepted { answer, ice_servers, near: asked.reply.near, session_id })
    }

    /// The session's own address out of a 201. One that may not be used costs the goodbye (and trickle, and ICE restarts), not
    /// the broadcast: no request goes there. Behind a proxy that ends TLS, servers are wont to name `http://`.
    fn resource_of(&mut self, asked: &Asked, place: Place<'_>) -> Option<Url> {
        let named = asked.header(header::LOCATION).and_then(|value| headers::location(asked.url(), value));
        let (resource, why) = match named {
            None => (None, "names no usable `Location` for the session".to_owned()),
            Some(resource) => match self.endpoint.courier.trust(place, asked.url(), &resource) {
                Ok(()) => (Some(resource), String::new()),
                Err(_) => {
                    (None, format!("names `{}` for the session, {}", shown(&resource), elsewhere(asked, &resource)))
                }
            },
        };
        if resource.is_none() && self.oddities.is_news(&why) {
            warn!("`{}` {why}: the session can be ended by the server's own timeout only", place.url);
        }
        resource
    }

    /// A slot that is of no use costs nothing: the brain has dice.
    fn slot_of(&mut self, asked: &Asked) -> Option<RetrySlot> {
        let value = asked.reply.headers.get(text::RETRY_SLOT)?;
        let slot = value.to_str().ok().and_then(text::retry_slot);
        if slot.is_none() && self.oddities.is_news(text::RETRY_SLOT) {
            warn!("`{}` names a `{}` that is no number from 0 to 65535: ignored", shown(asked.url()), text::RETRY_SLOT);
        }
        slot.map(RetrySlot)
    }

    pub(super) async fn candidates(&mut self, parts: &[LocalCandidate], end: bool) -> Result<Trickle, Failure> {
        let Some(Session { offer, resource: Some(resource), etag, takes_trickle: true, .. }) = &self.session else {
            return Ok(Trickle::Unsupported);
        };
        let body = text::sdpfrag(offer, parts, end);
        let content_type = HeaderValue::from_static("application/trickle-ice-sdpfrag");
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
        if let Some(etag) = etag {
            headers.insert(header::IF_MATCH, etag.clone());
        }
        let token = self.endpoint.tokens.present().await?;
        let letter = Letter { method: Method::PATCH, url: resource.clone(), headers, body, token };
        let asked = match self.endpoint.ask(letter).await {
            // To where the token must not go: it will say so again.
            Err(failure) if failure.code == ErrorCode::UntrustedRedirect => return Ok(self.no_trickle()),
            asked => asked?,
        };
        match asked.reply.status {
            200..=299 => Ok(Trickle::Taken),
            408 | 425 | 429 => Err(asked.refusal(&asked.place(&shown(asked.url())))),
            400..=499 | 501 => Ok(self.no_trickle()),
            _ => Err(asked.refusal(&asked.place(&shown(asked.url())))),
        }
    }

    fn no_trickle(&mut self) -> Trickle {
        if let Some(session) = &mut self.session {
            session.takes_trickle = false;
        }
        Trickle::Unsupported
    }

    /// RFC 9725, section 4.3.3: the new credentials go out in a PATCH, the server's come back with a new ETag. What has no
    /// place in such a fragment (codecs, fingerprint) stays as it was answered first.
    pub(super) async fn restart(&mut self, offer: &str) -> Result<Accepted, RestartError> {
        let Some(Session { resource: Some(resource), answer: Some(known), .. }) = &self.session else {
            let words = "the server named no usable `Location` for the session, so there is nothing to PATCH";
            return Err(RestartError::Refused(failure::internal(Phase::Request, words)));
        };
        let (resource, known) = (resource.clone(), known.clone());
        let asked = self.ask_for_restart(&resource, offer).await?;
        let url = shown(asked.url());
        let refusal = || asked.refusal(&asked.place(&url));
        match asked.reply.status {
            200..=299 => {}
            408 | 425 | 429 => return Err(RestartError::Failed(refusal())),
            400..=499 | 501 => return Err(RestartError::Refused(refusal())),
            _ => return Err(RestartError::Failed(refusal())),
        }
        // An answer without credentials is one to a trickle: the server knows no restart.
        let fragment = sdp::decode(&asked.reply.body);
        let Some(answer) = sdp::restarted(&known, &fragment) else {
            return Err(RestartError::Refused(failure::not_sdp(asked.place(&url), asked.body())));
        };
        if let Some(session) = &mut self.session {
            session.offer = offer.to_owned();
            session.answer = Some(answer.clone());
            session.etag = asked.reply.headers.get(header::ETAG).cloned();
        }
        Ok(Accepted { answer, ice_servers: Vec::new(), near: false, session_id: resource.path().to_owned() })
    }

    /// Any ICE session, for this begins another: the RFC quotes the star, and so do most servers that look at it; the others
    /// (LiveKit) take it bare, as HTTP has it (RFC 9110, section 13.1.1). The form that is refused first is not asked again.
    async fn ask_for_restart(&mut self, resource: &Url, offer: &str) -> Result<Asked, RestartError> {
        let body = text::restart_frag(offer);
        let forms = if self.star_is_bare { ["*", "\"*\""] } else { ["\"*\"", "*"] };
        let mut asked = self.patch_restart(resource, &body, forms[0]).await?;
        if matches!(asked.reply.status, 412 | 422) {
            let other = self.patch_restart(resource, &body, forms[1]).await?;
            if (200..300).contains(&other.reply.status) {
                self.star_is_bare = !self.star_is_bare;
                asked = other;
            }
        }
        Ok(asked)
    }

    async fn patch_restart(&self, resource: &Url, body: &str, star: &'static str) -> Result<Asked, RestartError> {
        let headers = HeaderMap::from_iter([
            (header::CONTENT_TYPE, HeaderValue::from_static("application/trickle-ice-sdpfrag")),
            (header::IF_MATCH, HeaderValue::from_static(star)),
        ]);
        let token = self.endpoint.tokens.present().await.map_err(RestartError::Failed)?;
        let letter = Letter { method: Method::PATCH, url: resource.clone(), headers, body: body.to_owned(), token };
        let began = Instant::now();
        self.endpoint.ask(letter).await.map_err(|failure| {
            let unheard = failure.phase == Phase::Dial && began.elapsed() >= self.timeouts.connect;
            if failure.code == ErrorCode::UntrustedRedirect {
                // To where the token must not go: it will say so again.
                RestartError::Refused(failure)
            } else if unheard {
                RestartError::Silence
            } else {
                RestartError::Failed(failure)
            }
        })
    }

    pub(super) async fn goodbye(&mut self) -> Result<(), Failure> {
        match self.session.take().and_then(|session| session.resource) {
            Some(resource) => self.endpoint.delete(resource).await,
            None => Ok(()),
        }
    }

    pub(super) fn memory(&self) -> Option<Memory> {
        self.session.as_ref()?.resource.as_ref().map(|resource| Memory::Whip { resource: resource.to_string() })
    }

    pub(super) fn bury(&self, ghost: Ghost) -> impl Future<Output = Result<(), Failure>> + Send + use<> {
        let resource = match ghost.0 {
            Memory::Whip { resource } => resource.parse::<Url>().ok(),
            Memory::Janus { .. } | Memory::Roamcast { .. } => None,
        };
        // It may be of another of our servers than the one that this session is for.
        let home = resource.as_ref().and_then(|resource| self.uplink.home_of(resource));
        let courier = home.map(|home| Courier::new(home, &self.uplink, self.timeouts));
        let mut endpoint = self.endpoint.clone();
        async move {
            if let Some(courier) = courier {
                endpoint.courier = courier?;
            }
            match resource {
                Some(resource) => endpoint.delete(resource).await,
                None => Err(failure::internal(Phase::Request, "the session left behind is none of WHIP")),
            }
        }
    }
}

/// A WHIP endpoint and what it takes to speak to it.
#[derive(Clone)]
struct Endpoint {
    courier: Courier,
    tokens: Arc<Tokens>,
}

impl Endpoint {
    /// Gives every status back, except 401.
    async fn ask(&self, letter: Letter) -> Result<Asked, Failure> {
        let token = letter.token.clone();
        let asked = self.courier.exchange(letter).await?;
        if asked.reply.status != 401 {
            return Ok(asked);
        }
        let failure = asked.refusal(&asked.place(&shown(asked.url())));
        Err(self.tokens.blamed(token.as_ref(), failure))
    }

    async fn delete(&self, resource: Url) -> Result<(), Failure> {
        // A ghost may come from a state file that is older than the config.
        let here = shown(self.courier.address());
        let place = Place { method: "DELETE", url: &here, token_sent: false };
        let trusted = self.courier.trust(place, self.courier.address(), &resource);
        // Nobody has sent us there: it is an address that we remember, and no time will make it ours.
        trusted.map_err(|failure| Failure { retry: Retry::Never, ..failure })?;
        let token = self.tokens.present().await?;
        let (headers, body) = (HeaderMap::new(), String::new());
        let asked = self.ask(Letter { method: Method::DELETE, url: resource, headers, body, token }).await?;
        match asked.reply.status {
            // 404 and 410: gone already, which is what we want.
            200..=299 | 404 | 410 => Ok(()),
            _ => Err(asked.refusal(&asked.place(&shown(asked.url())))),
        }
    }
}

/// What is wrong with a `Location` that the token must not go to.
fn elsewhere(asked: &Asked, resource: &Url) -> &'static str {
    let lost_tls = asked.url().scheme() == "https" && resource.scheme() == "http";
    if lost_tls && asked.url().host() == resource.host() {
        "which is not encrypted (let its proxy pass on that the client uses https)"
    } else if lost_tls {
        "which is not encrypted"
    } else {
        "another origin, which `uplink.trustedOrigins` does not name"
    }
}
