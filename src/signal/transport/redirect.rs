//! Carries one HTTP request to where the token may go, and no further. Redirects are followed by hand.

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Request};
use url::Url;

use crate::config::Uplink;
use crate::config::units::Secret;
use crate::signal::failure::{self, Body, Place, Redirect, Refusal, Transport};
use crate::supervisor::event::{Failure, Phase};

use super::headers;
use super::http::{self, Reply, Timeouts};
use super::unencrypted::{InTheClear, check_literal, rule_for};
use crate::signal::origin::{Distrust, may_carry_token, shown, without_userinfo};

/// Enough for a load balancer that sends us to a region and from there to a node.
const REDIRECTS_MAX: usize = 5;

/// The way to one endpoint.
#[derive(Clone)]
pub(in crate::signal) struct Courier {
    client: Client,
    endpoint: Url,
    uplink: Uplink,
    timeouts: Timeouts,
}

/// What is asked.
#[derive(Clone)]
pub(in crate::signal) struct Letter {
    pub(in crate::signal) method: Method,
    pub(in crate::signal) url: Url,
    pub(in crate::signal) headers: HeaderMap,
    pub(in crate::signal) body: String,
    pub(in crate::signal) token: Option<Secret>,
}

/// A reply, and what was asked.
pub(in crate::signal) struct Asked {
    /// Its address is the one that answered, after all redirects.
    letter: Letter,
    pub(in crate::signal) reply: Reply,
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
    pub(in crate::signal) const fn url(&self) -> &Url {
        &self.letter.url
    }

    pub(in crate::signal) fn place<'a>(&'a self, url: &'a str) -> Place<'a> {
        self.letter.place(url)
    }

    pub(in crate::signal) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.reply.headers.get(name)?.to_str().ok()
    }

    pub(in crate::signal) fn body(&self) -> Body {
        headers::body_kind(self.header(header::CONTENT_TYPE).unwrap_or_default(), &self.reply.body)
    }

    /// The first words of a plain text or JSON body, without secrets.
    pub(in crate::signal) fn said(&self) -> Option<String> {
        let content_type = self.header(header::CONTENT_TYPE).unwrap_or_default();
        // Servers like to quote the request, and some carry a stream key in the query.
        let in_query: Vec<_> = self.url().query_pairs().map(|(_, value)| value).collect();
        let token = self.letter.token.as_ref().map(Secret::expose);
        let secrets: Vec<&str> = in_query.iter().map(AsRef::as_ref).chain(token).collect();
        headers::excerpt(content_type, &self.reply.body, &secrets)
    }

    pub(in crate::signal) fn refusal(&self, place: &Place<'_>) -> Failure {
        let said = self.said();
        let retry_after =
            self.header(header::RETRY_AFTER).and_then(|value| headers::retry_after(value, http::wall_clock()));
        let refusal = Refusal { status: self.reply.status, retry_after, body: self.body(), said: said.as_deref() };
        failure::status(*place, &refusal)
    }
}

impl Courier {
    /// To `endpoint`, with the CA and the trusted origins of `uplink`.
    ///
    /// # Errors
    /// `uplink.caFile` cannot be used.
    pub(in crate::signal) fn new(endpoint: &Url, uplink: &Uplink, timeouts: Timeouts) -> Result<Self, Failure> {
        let mut endpoint = endpoint.clone();
        // It would go on the wire in the clear (`:authority` of HTTP/2); bearer tokens are all we know.
        without_userinfo(&mut endpoint);
        let client = http::client(&endpoint, uplink, timeouts)?;
        Ok(Self { client, endpoint, uplink: uplink.clone(), timeouts })
    }

    pub(in crate::signal) fn address(&self) -> &Url {
        &self.endpoint
    }

    /// One request, redirects included, within the time it may take. Statuses are given back as they are, except
    /// redirects that are not followed.
    pub(in crate::signal) async fn exchange(&self, letter: Letter) -> Result<Asked, Failure> {
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
        let target =
            reply.headers.get(header::LOCATION).and_then(|value| headers::location(from, value.to_str().ok()?));
        let to = target.as_ref().map(shown);
        let content_type = reply.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let body = headers::body_kind(content_type.unwrap_or_default(), &reply.body);
        let refuse = |why: &Redirect| failure::redirected(place, to.as_deref(), why, body);
        if !matches!(reply.status, 307 | 308) {
            return Err(refuse(&Redirect::ChangesMethod(reply.status)));
        }
        let Some(target) = target else { return Err(refuse(&Redirect::Nowhere(reply.status))) };
        self.distrust(from, &target).map_or(Ok(target), |why| Err(refuse(&why)))
    }

    /// May the token, sent to `from` so far, go to `target`?
    pub(in crate::signal) fn trust(&self, place: Place<'_>, from: &Url, target: &Url) -> Result<(), Failure> {
        self.distrust(from, target).map_or(Ok(()), |why| Err(failure::redirect(place, Some(&shown(target)), &why)))
    }

    fn distrust(&self, from: &Url, target: &Url) -> Option<Redirect> {
        match may_carry_token(&self.endpoint, &self.uplink.trusted_origins, from, target) {
            Ok(()) => None,
            Err(Distrust::Foreign) => Some(Redirect::Foreign),
            Err(Distrust::Downgrade) => Some(Redirect::Downgrade),
        }
    }
}
