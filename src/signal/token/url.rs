//! `uplink.tokenUrl`: an address that answers a POST with the token.

use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use url::Url;

use crate::config::Uplink;
use crate::config::units::Secret;
use crate::signal::failure::no_token;
use crate::signal::origin::{may_carry_token, shown};
use crate::signal::transport::http::Timeouts;
use crate::signal::transport::redirect::{Courier, Letter};
use crate::supervisor::event::Failure;

use super::text::{self, Given};

/// Asks `url`. The token before, if there is one, goes with it as `Authorization` where the operator lets it: to the origin
/// of `uplink.url` and to `uplink.trustedOrigins`.
///
/// # Errors
/// `TokenProviderFailed`, to be tried again.
pub(super) async fn ask(url: &Url, uplink: &Uplink, before: Option<Secret>) -> Result<Given, Failure> {
    let name = format!("`uplink.tokenUrl` (`{}`)", shown(url));
    let unwell = |failure: Failure| no_token(format!("{name} gave no token: {failure}"));
    let courier = Courier::new(url, uplink, Timeouts::default()).map_err(unwell)?;
    let may_know = may_carry_token(&uplink.url, &uplink.trusted_origins, &uplink.url, url).is_ok();
    let before = before.filter(|_| may_know);
    let accept = HeaderValue::from_static("application/json, text/plain;q=0.9");
    let headers = HeaderMap::from_iter([(ACCEPT, accept)]);
    let letter = Letter { method: Method::POST, url: url.clone(), headers, body: String::new(), token: before };
    let asked = courier.exchange(letter).await.map_err(unwell)?;
    match asked.reply.status {
        200..=299 => text::answer(&asked.reply.body, &format!("the answer of {name}")),
        status => {
            let said = asked.said().map(|said| format!(" (it says: {said})")).unwrap_or_default();
            Err(no_token(format!("{name} gave no token: it answered with {status}{said}")))
        }
    }
}
