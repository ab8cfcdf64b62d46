//! Pure: web pages of strangers stay outside.
//!
//! A page can make the browser of somebody on this machine, or on its network, ask for anything. It cannot read what comes
//! from another origin, so it uses DNS rebinding: its own name suddenly means our address, and its origin is ours. The `Host`
//! of such a request is that name. An address cannot be rebound, nor can `localhost`; other names are let in when the operator
//! has named them.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use url::Url;

/// Which names are ours besides addresses and `localhost`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hosts(Vec<String>);

/// Which pages may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// Those that we serve ourselves.
    Ours,
    /// Those, and any that this machine, or a host that the operator has named, serves on another port.
    OfOurHosts,
}

/// Why a request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// The `Host` is a name that may be anybody's.
    #[error("the `Host` of the request must be `localhost` or an address, not a name that anyone may own")]
    Host,
    /// The `Origin` is a page of somebody else.
    #[error("requests of a web page from elsewhere are not taken")]
    Origin,
}

impl Hosts {
    /// No other names.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Also these names, such as `studio.local`: host names without a port.
    #[must_use]
    pub fn with(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| plain(&name)).collect())
    }

    /// `127.0.0.1:8470`, `[::1]`, `localhost:8470`, or a name that the operator has named.
    #[must_use]
    pub fn are_ours(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        is_address(name) || self.named(name)
    }

    fn named(&self, name: &str) -> bool {
        let name = plain(name);
        name == "localhost" || self.0.contains(&name)
    }

    /// Is the page on this machine, or on a host that the operator has named? Not any address: a stranger has one, too.
    fn serve(&self, origin: &str) -> bool {
        let url = origin.parse::<Url>().ok();
        match url.as_ref().and_then(Url::host) {
            Some(url::Host::Domain(name)) => self.named(name),
            Some(url::Host::Ipv4(ip)) => ip.is_loopback() || self.named(&ip.to_string()),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback() || self.named(&ip.to_string()),
            None => false,
        }
    }

    /// Judges a request that no token protects.
    ///
    /// # Errors
    /// [`Stranger`].
    pub fn check(&self, headers: &HeaderMap, pages: Pages) -> Result<(), Stranger> {
        let host = only(headers, &HOST).unwrap_or_default();
        if !self.are_ours(host) {
            return Err(Stranger::Host);
        }
        self.check_origin(headers, pages)
    }

    /// Judges the `Origin` alone: a request whose `Host` may be any.
    ///
    /// # Errors
    /// [`Stranger::Origin`].
    pub fn check_origin(&self, headers: &HeaderMap, pages: Pages) -> Result<(), Stranger> {
        if !headers.contains_key(ORIGIN) {
            return Ok(());
        }
        let host = only(headers, &HOST).unwrap_or_default();
        let is_ours = only(headers, &ORIGIN).is_some_and(|origin| match pages {
            Pages::Ours => origin == format!("http://{host}"),
            // Behind a proxy that speaks TLS the page is https.
            Pages::OfOurHosts => {
                ["http", "https"].iter().any(|scheme| origin == format!("{scheme}://{host}")) || self.serve(origin)
            }
        });
        if is_ours { Ok(()) } else { Err(Stranger::Origin) }
    }
}

/// A name that [`Hosts::with`] takes.
///
/// # Errors
/// One sentence.
pub fn host_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let name = plain(text);
    if !name.is_empty() && name.len() <= 253 && name.bytes().all(fits) && name.starts_with(|first: char| first != '.') {
        Ok(name)
    } else {
        Err("it must be a host name without scheme and port, such as studio.local".to_owned())
    }
}

/// Names are the same in any case, and with or without the dot of the root.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The header if it is there once, and text.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut all = headers.get_all(name).iter();
    all.next().filter(|_| all.next().is_none())?.to_str().ok()
}

fn without_port(host: &str) -> Option<&str> {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => Some(name),
        Some(_) | None => Some(host),
    }
    .filter(|name| !name.is_empty())
}

fn is_address(name: &str) -> bool {
    let six = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match six {
        Some(six) => six.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_addresses_localhost_and_what_was_named_are_ours() {
        let hosts = Hosts::with(["Studio.local".to_owned(), "ingest.example.".to_owned()]);
        for host in [
            "localhost",
            "LOCALHOST:1",
            "localhost.:8080",
            "127.0.0.1",
            "127.0.0.1:8470",
            "192.168.1.5:1",
            "[::1]",
            "[::1]:8470",
            "[2001:db8::1]:80",
            "studio.local:8080",
            "STUDIO.LOCAL",
            "ingest.example",
        ] {
            assert!(hosts.are_ours(host), "{host}");
        }
        for host in [
            "",
            ":1",
            "evil.example",
            "evil.example:8470",
            "localhost.evil.example",
            "xlocalhost",
            "::1",
            "127.0.0.1.evil.example",
            "127.1.evil.example:8080",
            "[x]:1",
            "[::1]x",
            "studio.local.evil.example",
            "evil.ingest.example",
            "localhost:80@evil.example",
            "localhost evil.example",
        ] {
            assert!(!hosts.are_ours(host), "{host}");
        }
        assert!(!Hosts::default().are_ours("studio.local"), "nobody has named it");
    }

    fn headers(host: &[&str], origin: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in [(HOST, host), (ORIGIN, origin)] {
            headers.extend(values.iter().map(|value| (Some(name.clone()), value.parse().unwrap())));
        }
        headers
    }

    #[test]
    fn pages_are_judged_by_where_they_come_from() {
        let hosts = Hosts::with(["studio.local".to_owned(), "203.0.113.9".to_owned(), "2001:db8::1".to_owned()]);
        const HERE: &[&str] = &["127.0.0.1:8080"];
        for (host, origin, ours, of_our_hosts) in [
            (HERE, &[][..], Ok(()), Ok(())),
            (HERE, &["http://127.0.0.1:8080"], Ok(()), Ok(())),
            (HERE, &["http://localhost:3000"], Err(Stranger::Origin), Ok(())),
            (HERE, &["http://[::1]:3000"], Err(Stranger::Origin), Ok(())),
            (HERE, &["https://127.0.0.1:8080"], Err(Stranger::Origin), Ok(())),
            (HERE, &["https://studio.local"], Err(Stranger::Origin), Ok(())),
            (&["192.0.2.1"], &["http://192.0.2.1"], Ok(()), Ok(())),
            (&["192.0.2.1"], &["https://192.0.2.1"], Err(Stranger::Origin), Ok(())),
            (HERE, &["http://192.0.2.1"], Err(Stranger::Origin), Err(Stranger::Origin)),
            (HERE, &["https://203.0.113.9"], Err(Stranger::Origin), Ok(())),
            (HERE, &["https://[2001:db8::1]:8443"], Err(Stranger::Origin), Ok(())),
            (HERE, &["https://evil.example"], Err(Stranger::Origin), Err(Stranger::Origin)),
            (HERE, &["http://localhost.evil.example"], Err(Stranger::Origin), Err(Stranger::Origin)),
            (HERE, &["null"], Err(Stranger::Origin), Err(Stranger::Origin)),
            (HERE, &["http://127.0.0.1:8080", "https://evil.example"], Err(Stranger::Origin), Err(Stranger::Origin)),
            (&["evil.example"], &[], Err(Stranger::Host), Err(Stranger::Host)),
            (&["evil.example"], &["http://evil.example"], Err(Stranger::Host), Err(Stranger::Host)),
            (&[], &[], Err(Stranger::Host), Err(Stranger::Host)),
            (&["localhost", "evil.example"], &[], Err(Stranger::Host), Err(Stranger::Host)),
        ] {
            let headers = headers(host, origin);
            let judged = [Pages::Ours, Pages::OfOurHosts].map(|pages| hosts.check(&headers, pages));
            assert_eq!(judged, [ours, of_our_hosts], "{host:?} {origin:?}");
        }
    }

    #[test]
    fn a_name_is_a_name_and_no_url() {
        for name in ["studio.local", "BOX", "a-b.example.", "127.0.0.1"] {
            assert!(host_name(name).is_ok(), "{name}");
        }
        for text in ["", ".", ".a", "http://a", "a:80", "a b", "*.example", "a/", "[::1]", &"a".repeat(254)] {
            assert!(host_name(text).is_err(), "{text}");
        }
    }

    proptest! {
        /// A name that somebody may buy ends in a top-level domain: nothing before it makes it ours.
        #[test]
        fn no_name_below_a_domain_of_others_is_ours(
            head in "(localhost|127\\.0\\.0\\.1|\\[::1\\]|studio\\.local|[a-z0-9.@:\\[\\]-]{0,20})", port in proptest::option::of(any::<u16>())
        ) {
            let hosts = Hosts::with(["studio.local".to_owned()]);
            let host = format!("{head}.evil.example{}", port.map(|port| format!(":{port}")).unwrap_or_default());
            prop_assert!(!hosts.are_ours(&host), "{}", host);
        }
    }
}
