//! The WHIP client (RFC 9725): POST the offer, PATCH candidates, DELETE the session. Never retries.

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Request};
use tracing::warn;
use url::{Origin, Url};

use crate::config::units::Secret;
use crate::config::{TokenSource, Uplink};
use crate::supervisor::event::{Failure, Phase};
use crate::uplink::failure::{self, Body, Place, Redirect, Refusal, Transport};

use super::http::{self, Reply, Timeouts};
use super::whip_text::{self as text, Distrust, shown};
use super::{Accepted, Ghost, LocalCandidate, Memory, Trickle, token};

/// Enough for a load balancer that sends us to a region and from there to a node.
const REDIRECTS_MAX: usize = 5;

/// The client side of one WHIP endpoint, and of the session that the last POST made there.
pub struct Whip {
    courier: Courier,
    session: Option<Session>,
}

impl std::fmt::Debug for Whip {
    /// Neither the token nor the offer, which holds the ICE password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Whip").field("endpoint", &shown(&self.courier.endpoint)).finish_non_exhaustive()
    }
}

struct Session {
    offer: String,
    /// `None`: the server gave no `Location`, so there is nothing to PATCH or DELETE.
    resource: Option<Url>,
    etag: Option<HeaderValue>,
    takes_trickle: bool,
}

impl Whip {
    pub(super) fn new(uplink: &Uplink, timeouts: Timeouts) -> Result<Self, Failure> {
        let mut endpoint = uplink.url.clone();
        // It would go on the wire in the clear (`:authority` of HTTP/2); WHIP knows bearer tokens only.
        text::without_userinfo(&mut endpoint);
        let courier = Courier {
            client: http::client(uplink, timeouts)?,
            endpoint,
            trusted: uplink.trusted_origins.clone(),
            token: uplink.token.clone(),
            timeouts,
        };
        Ok(Self { courier, session: None })
    }

    pub(super) async fn publish(&mut self, offer: &str) -> Result<Accepted, Failure> {
        self.session = None;
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/sdp")),
            (header::ACCEPT, HeaderValue::from_static("application/sdp")),
        ];
        let endpoint = self.courier.endpoint.clone();
        let asked = self.courier.ask(Method::POST, endpoint, HeaderMap::from_iter(headers), offer.to_owned()).await?;
        let url = shown(&asked.url);
        let place = asked.place(&url);
        // Some servers say 200 instead of 201; with an SDP answer there is no doubt what they mean.
        let accepted = asked.reply.status == 201 || (asked.reply.status == 200 && asked.body() == Body::Sdp);
        if !accepted {
            return Err(asked.refusal(&place));
        }
        let resource = self.courier.resource(&asked, place)?;
        // Kept from here on, so that `goodbye` finds the session even when its answer is of no use.
        self.session = Some(Session {
            offer: offer.to_owned(),
            takes_trickle: resource.is_some(),
            etag: asked.reply.headers.get(header::ETAG).cloned(),
            resource: resource.clone(),
        });
        let answer = String::from_utf8(asked.reply.body.clone()).ok().filter(|_| asked.body() == Body::Sdp);
        let answer = answer.ok_or_else(|| failure::not_sdp(place, asked.body()))?;
        let links = asked.reply.headers.get_all(header::LINK);
        let (ice_servers, left_out) =
            text::ice_servers(links.iter().filter_map(|link| link.to_str().ok()), asked.reply.near);
        left_out.iter().for_each(|sentence| warn!("{sentence}"));
        let session_id = resource.as_ref().unwrap_or(&asked.url).path().to_owned();
        Ok(Accepted { answer, ice_servers, session_id })
    }

    pub(super) async fn candidates(&mut self, parts: &[LocalCandidate], end: bool) -> Result<Trickle, Failure> {
        let Some(Session { offer, resource: Some(resource), etag, takes_trickle: true }) = &self.session else {
            return Ok(Trickle::Unsupported);
        };
        let frag = text::sdpfrag(offer, parts, end);
        let content_type = HeaderValue::from_static("application/trickle-ice-sdpfrag");
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
        if let Some(etag) = etag {
            headers.insert(header::IF_MATCH, etag.clone());
        }
        let asked = self.courier.ask(Method::PATCH, resource.clone(), headers, frag).await?;
        match asked.reply.status {
            200..=299 => Ok(Trickle::Taken),
            408 | 425 | 429 => Err(asked.refusal(&asked.place(&shown(&asked.url)))),
            400..=499 | 501 => {
                if let Some(session) = &mut self.session {
                    session.takes_trickle = false;
                }
                Ok(Trickle::Unsupported)
            }
            _ => Err(asked.refusal(&asked.place(&shown(&asked.url)))),
        }
    }

    pub(super) async fn goodbye(&mut self) -> Result<(), Failure> {
        match self.session.take().and_then(|session| session.resource) {
            Some(resource) => self.courier.delete(resource).await,
            None => Ok(()),
        }
    }

    pub(super) fn memory(&self) -> Option<Memory> {
        self.session.as_ref()?.resource.as_ref().map(|resource| Memory::Whip { resource: resource.to_string() })
    }

    pub(super) fn bury(&self, ghost: Ghost) -> impl Future<Output = Result<(), Failure>> + Send + use<> {
        let courier = self.courier.clone();
        async move {
            let resource = match ghost.0 {
                Memory::Whip { resource } => resource.parse().ok(),
                Memory::Janus { .. } | Memory::Roamcast { .. } => None,
            };
            match resource {
                Some(resource) => courier.delete(resource).await,
                None => Err(failure::internal(Phase::Request, "the session left behind is none of WHIP")),
            }
        }
    }
}

/// Carries one request to where the token may go, and no further.
#[derive(Clone)]
struct Courier {
    client: Client,
    endpoint: Url,
    trusted: Vec<Origin>,
    token: Option<TokenSource>,
    timeouts: Timeouts,
}

/// A reply, and what was asked.
struct Asked {
    method: Method,
    /// The address that answered, after all redirects.
    url: Url,
    token: Option<Secret>,
    reply: Reply,
}

impl Asked {
    fn place<'a>(&'a self, url: &'a str) -> Place<'a> {
        Place { method: self.method.as_str(), url, token_sent: self.token.is_some() }
    }

    fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.reply.headers.get(name)?.to_str().ok()
    }

    fn body(&self) -> Body {
        text::body_kind(self.header(header::CONTENT_TYPE).unwrap_or_default(), &self.reply.body)
    }

    fn refusal(&self, place: &Place<'_>) -> Failure {
        let content_type = self.header(header::CONTENT_TYPE).unwrap_or_default();
        // Servers like to quote the request, and some carry a stream key in the query.
        let in_query: Vec<_> = self.url.query_pairs().map(|(_, value)| value).collect();
        let token = self.token.as_ref().map(Secret::expose);
        let secrets: Vec<&str> = in_query.iter().map(AsRef::as_ref).chain(token).collect();
        let said = text::excerpt(content_type, &self.reply.body, &secrets);
        let retry_after =
            self.header(header::RETRY_AFTER).and_then(|value| text::retry_after(value, http::wall_clock()));
        let refusal = Refusal { status: self.reply.status, retry_after, body: self.body(), said: said.as_deref() };
        failure::status(*place, &refusal)
    }
}

impl Courier {
    /// One request, redirects included, within the time it may take. Statuses are given back as they are, except
    /// redirects that are not followed.
    async fn ask(&self, method: Method, url: Url, headers: HeaderMap, body: String) -> Result<Asked, Failure> {
        let token = match &self.token {
            Some(source) => Some(token::read(source).await?),
            None => None,
        };
        let start = shown(&url);
        let place = Place { method: method.as_str(), url: &start, token_sent: token.is_some() };
        let exchange = self.follow(method.clone(), url, &headers, &body, token.clone());
        match tokio::time::timeout(self.timeouts.request, exchange).await {
            Ok(asked) => asked,
            Err(_elapsed) => Err(failure::transport(place, &Transport::TimedOut)),
        }
    }

    async fn follow(
        &self,
        method: Method,
        mut url: Url,
        headers: &HeaderMap,
        body: &str,
        token: Option<Secret>,
    ) -> Result<Asked, Failure> {
        for _hop in 0..=REDIRECTS_MAX {
            let here = shown(&url);
            let place = Place { method: method.as_str(), url: &here, token_sent: token.is_some() };
            let request = request(&method, &url, headers, body, token.as_ref())?;
            let reply = http::send(&self.client, request).await.map_err(|why| failure::transport(place, &why))?;
            if !(300..400).contains(&reply.status) {
                return Ok(Asked { method, url, token, reply });
            }
            url = self.next_hop(place, &url, &reply)?;
        }
        let here = shown(&url);
        let place = Place { method: method.as_str(), url: &here, token_sent: token.is_some() };
        Err(failure::redirect(place, None, &Redirect::TooMany(REDIRECTS_MAX)))
    }

    fn next_hop(&self, place: Place<'_>, from: &Url, reply: &Reply) -> Result<Url, Failure> {
        let target = reply.headers.get(header::LOCATION).and_then(|value| text::location(from, value.to_str().ok()?));
        let to = target.as_ref().map(shown);
        let refuse = |why: &Redirect| failure::redirect(place, to.as_deref(), why);
        if !matches!(reply.status, 307 | 308) {
            return Err(refuse(&Redirect::ChangesMethod(reply.status)));
        }
        let Some(target) = target else { return Err(refuse(&Redirect::Nowhere(reply.status))) };
        self.trust(place, from, &target)?;
        Ok(target)
    }

    /// May the token, sent to `from` so far, go to `target`?
    fn trust(&self, place: Place<'_>, from: &Url, target: &Url) -> Result<(), Failure> {
        let why = match text::may_carry_token(&self.endpoint, &self.trusted, from, target) {
            Ok(()) => return Ok(()),
            Err(Distrust::Foreign) => Redirect::Foreign,
            Err(Distrust::Downgrade) => Redirect::Downgrade,
        };
        Err(failure::redirect(place, Some(&shown(target)), &why))
    }

    /// The session's own address out of a 201.
    fn resource(&self, asked: &Asked, place: Place<'_>) -> Result<Option<Url>, Failure> {
        let resource = asked.header(header::LOCATION).and_then(|value| text::location(&asked.url, value));
        let Some(resource) = resource else {
            warn!("`{}` names no usable `Location` for the session, so it cannot be ended by us", place.url);
            return Ok(None);
        };
        self.trust(place, &asked.url, &resource)?;
        Ok(Some(resource))
    }

    async fn delete(&self, resource: Url) -> Result<(), Failure> {
        // A ghost may come from a state file that is older than the config.
        let here = shown(&self.endpoint);
        self.trust(Place { method: "DELETE", url: &here, token_sent: false }, &self.endpoint, &resource)?;
        let asked = self.ask(Method::DELETE, resource, HeaderMap::new(), String::new()).await?;
        match asked.reply.status {
            // 404 and 410: gone already, which is what we want.
            200..=299 | 404 | 410 => Ok(()),
            _ => Err(asked.refusal(&asked.place(&shown(&asked.url)))),
        }
    }
}

fn request(
    method: &Method,
    url: &Url,
    headers: &HeaderMap,
    body: &str,
    token: Option<&Secret>,
) -> Result<Request, Failure> {
    let mut request = Request::new(method.clone(), url.clone());
    *request.headers_mut() = headers.clone();
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| {
            failure::internal(Phase::Request, "the token passed its check but fits into no HTTP header")
        })?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    if !body.is_empty() {
        *request.body_mut() = Some(body.to_owned().into());
    }
    Ok(request)
}
