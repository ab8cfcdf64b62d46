//! Carries one HTTP request to where the token may go, and no further. Redirects are followed by hand.

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Request};
use url::Url;

use crate::config::Uplink;
use crate::config::units::Secret;
use crate::supervisor::event::{Failure, Phase};
use crate::uplink::failure::{self, Body, Place, Redirect, Refusal, Transport};

use super::http::{self, Reply, Timeouts};
use super::unencrypted::{InTheClear, check_literal, rule_for};
use super::whip_text::{self as text, Distrust, shown};

/// Enough for a load balancer that sends us to a region and from there to a node.
const REDIRECTS_MAX: usize = 5;

/// The way to one endpoint.
#[derive(Clone)]
pub(super) struct Courier {
    client: Client,
    endpoint: Url,
    uplink: Uplink,
    timeouts: Timeouts,
}

/// What is asked.
#[derive(Clone)]
pub(super) struct Letter {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
    pub(super) token: Option<Secret>,
}

/// A reply, and what was asked.
pub(super) struct Asked {
    /// Its address is the one that answered, after all redirects.
    letter: Letter,
    pub(super) reply: Reply,
}

impl Letter {
    fn place<'a>(&'a self, url: &'a str) -> Place<'a> {
        Place { method: self.method.as_str(), url, token_sent: self.token.is_some() }
    }

    fn request(&self) -> Result<Request, Failure> {
        let mut request = Request::new(self.method.clone(), self.url.clone());
        *request.headers_mut() = self.headers.clone();
        if let Some(token) = &self.token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| {
                failure::internal(Phase::Request, "the token passed its check but fits into no HTTP header")
            })?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        if !self.body.is_empty() {
            *request.body_mut() = Some(self.body.clone().into());
        }
        Ok(request)
    }
}

impl Asked {
    pub(super) const fn url(&self) -> &Url {
        &self.letter.url
    }

    pub(super) fn place<'a>(&'a self, url: &'a str) -> Place<'a> {
        self.letter.place(url)
    }

    pub(super) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.reply.headers.get(name)?.to_str().ok()
    }

    pub(super) fn body(&self) -> Body {
        text::body_kind(self.header(header::CONTENT_TYPE).unwrap_or_default(), &self.reply.body)
    }

    /// The first words of a plain text or JSON body, without secrets.
    pub(super) fn said(&self) -> Option<String> {
        let content_type = self.header(header::CONTENT_TYPE).unwrap_or_default();
        // Servers like to quote the request, and some carry a stream key in the query.
        let in_query: Vec<_> = self.url().query_pairs().map(|(_, value)| value).collect();
        let token = self.letter.token.as_ref().map(Secret::expose);
        let secrets: Vec<&str> = in_query.iter().map(AsRef::as_ref).chain(token).collect();
        text::excerpt(content_type, &self.reply.body, &secrets)
    }

    pub(super) fn refusal(&self, place: &Place<'_>) -> Failure {
        let said = self.said();
        let retry_after =
            self.header(header::RETRY_AFTER).and_then(|value| text::retry_after(value, http::wall_clock()));
        let refusal = Refusal { status: self.reply.status, retry_after, body: self.body(), said: said.as_deref() };
        failure::status(*place, &refusal)
    }
}

impl Courier {
    /// To `endpoint`, with the CA and the trusted origins of `uplink`.
    ///
    /// # Errors
    /// `uplink.caFile` cannot be used.
    pub(super) fn new(endpoint: &Url, uplink: &Uplink, timeouts: Timeouts) -> Result<Self, Failure> {
        let mut endpoint = endpoint.clone();
        // It would go on the wire in the clear (`:authority` of HTTP/2); bearer tokens are all we know.
        text::without_userinfo(&mut endpoint);
        let client = http::client(&endpoint, uplink, timeouts)?;
        Ok(Self { client, endpoint, uplink: uplink.clone(), timeouts })
    }

    pub(super) fn address(&self) -> &Url {
        &self.endpoint
    }

    /// One request, redirects included, within the time it may take. Statuses are given back as they are, except
    /// redirects that are not followed.
    pub(super) async fn exchange(&self, letter: Letter) -> Result<Asked, Failure> {
        let start = shown(&letter.url);
        let late = failure::transport(letter.place(&start), &Transport::TimedOut);
        tokio::time::timeout(self.timeouts.request, self.follow(letter)).await.unwrap_or(Err(late))
    }

    async fn follow(&self, mut letter: Letter) -> Result<Asked, Failure> {
        for _hop in 0..=REDIRECTS_MAX {
            let here = shown(&letter.url);
            let place = letter.place(&here);
            check_literal(&letter.url, rule_for(&letter.url, &self.uplink))
                .map_err(|InTheClear { private }| failure::transport(place, &Transport::InTheClear { private }))?;
            let request = letter.request()?;
            let reply = http::send(&self.client, request).await.map_err(|why| failure::transport(place, &why))?;
            if !(300..400).contains(&reply.status) {
                return Ok(Asked { letter, reply });
            }
            letter.url = self.next_hop(place, &letter.url, &reply)?;
        }
        let here = shown(&letter.url);
        Err(failure::redirect(letter.place(&here), None, &Redirect::TooMany(REDIRECTS_MAX)))
    }

    fn next_hop(&self, place: Place<'_>, from: &Url, reply: &Reply) -> Result<Url, Failure> {
        let target = reply.headers.get(header::LOCATION).and_then(|value| text::location(from, value.to_str().ok()?));
        let to = target.as_ref().map(shown);
        let content_type = reply.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let body = text::body_kind(content_type.unwrap_or_default(), &reply.body);
        let refuse = |why: &Redirect| failure::redirected(place, to.as_deref(), why, body);
        if !matches!(reply.status, 307 | 308) {
            return Err(refuse(&Redirect::ChangesMethod(reply.status)));
        }
        let Some(target) = target else { return Err(refuse(&Redirect::Nowhere(reply.status))) };
        self.distrust(from, &target).map_or(Ok(target), |why| Err(refuse(&why)))
    }

    /// May the token, sent to `from` so far, go to `target`?
    pub(super) fn trust(&self, place: Place<'_>, from: &Url, target: &Url) -> Result<(), Failure> {
        self.distrust(from, target).map_or(Ok(()), |why| Err(failure::redirect(place, Some(&shown(target)), &why)))
    }

    fn distrust(&self, from: &Url, target: &Url) -> Option<Redirect> {
        match text::may_carry_token(&self.endpoint, &self.uplink.trusted_origins, from, target) {
            Ok(()) => None,
            Err(Distrust::Foreign) => Some(Redirect::Foreign),
            Err(Distrust::Downgrade) => Some(Redirect::Downgrade),
        }
    }
}
