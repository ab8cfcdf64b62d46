//! Pure: one entry of `uplink.trustedOrigins`: an origin, or all origins below a domain.

use std::fmt;

use url::{Host, Url};

/// `https://host[:port]`, or `https://*.domain[:port]` for every host below that domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedOrigin {
    scheme: String,
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    One(Host<String>),
    /// Everything with one label or more before this domain; not the domain itself.
    Below(String),
}

impl TrustedOrigin {
    /// The origin of an address; a host that begins with `*.` stands for all below it.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the name of the key.
    pub fn new(url: &Url) -> Result<Self, String> {
        let host = url.host().ok_or("has no host")?.to_owned();
        let hosts = match &host {
            Host::Domain(name) if name.contains('*') => Hosts::Below(domain_of(name)?.to_owned()),
            Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_) => Hosts::One(host),
        };
        if url.scheme() != "https" && matches!(hosts, Hosts::Below(_)) {
            return Err("stands for hosts that nobody has named: that is possible with https only".into());
        }
        Ok(Self { scheme: url.scheme().to_owned(), hosts, port: url.port_or_known_default() })
    }

    /// Does the address have this origin, or one of these?
    #[must_use]
    pub fn covers(&self, url: &Url) -> bool {
        let is_host = match (&self.hosts, url.host()) {
            (Hosts::One(known), Some(host)) => *known == host.to_owned(),
            (Hosts::Below(domain), Some(Host::Domain(name))) => {
                let below = name.strip_suffix(domain.as_str()).and_then(|rest| rest.strip_suffix('.'));
                below.is_some_and(|labels| labels.split('.').all(|label| !label.is_empty()))
            }
            (_, Some(_) | None) => false,
        };
        is_host && url.scheme() == self.scheme && url.port_or_known_default() == self.port
    }

    /// `https` or `http`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The name that goes into DNS, where the entry has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.hosts {
            Hosts::One(Host::Domain(name)) => Some(name),
            Hosts::One(Host::Ipv4(_) | Host::Ipv6(_)) | Hosts::Below(_) => None,
        }
    }
}

impl fmt::Display for TrustedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        match &self.hosts {
            Hosts::One(host) => write!(f, "{}://{host}{port}", self.scheme),
            Hosts::Below(domain) => write!(f, "{}://*.{domain}{port}", self.scheme),
        }
    }
}

/// The domain behind the `*.`: one that belongs to somebody, whose hosts are therefore in one hand.
fn domain_of(name: &str) -> Result<&str, String> {
    let domain = name.strip_prefix("*.").filter(|domain| !domain.contains('*') && !domain.is_empty());
    let domain = domain.ok_or("may have one `*`, for the first part of the host: \"https://*.example.com\"")?;
    // The public suffix list: the token would go to whoever takes a name there.
    if psl::domain_str(domain).is_none() {
        return Err(format!(
            "would trust everybody below `{domain}`, where anyone can have a host; name a domain of \
                            one owner, such as \"https://*.example.com\""
        ));
    }
    Ok(domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn origin(text: &str) -> Result<TrustedOrigin, String> {
        TrustedOrigin::new(&url(text))
    }

    #[test]
    fn a_wildcard_stands_for_one_label_or_more() {
        let trusted = origin("https://*.live-video.net").unwrap();
        for inside in
            ["https://eu.live-video.net/x", "https://a.b.C.live-video.net:443/y?z", "https://*.live-video.net"]
        {
            assert!(trusted.covers(&url(inside)), "{inside}");
        }
        for outside in [
            "https://live-video.net",
            "https://xlive-video.net",
            "https://eu.live-video.net:8443",
            "http://eu.live-video.net",
            "wss://eu.live-video.net",
            "https://eu.live-video.net.",
            "https://.live-video.net",
            "https://a..live-video.net",
            "https://live-video.net.evil.example",
            "https://eu.live-video.net@evil.example",
            "https://1.2.3.4",
        ] {
            assert!(!trusted.covers(&url(outside)), "{outside}");
        }
        assert!(origin("https://*.live-video.net:4443").unwrap().covers(&url("https://eu.live-video.net:4443/v2")));
    }

    #[test]
    fn no_wildcard_reaches_hosts_of_many_owners() {
        for text in [
            "https://*",
            "https://*.com",
            "https://*.co.uk",
            "https://*.com.br",
            "https://*.github.io",
            "https://*.lan",
            "https://*.cloudfront.net",
            "https://*.*.net",
            "https://a.*.example.com",
            "https://*a.example.com",
            "https://**.example.com",
            "https://*.",
            "http://*.example.com",
        ] {
            assert!(text.parse::<Url>().is_err() || origin(text).is_err(), "{text}");
        }
        for text in ["https://*.example.com", "https://*.bbc.co.uk", "https://*.me.github.io", "https://*.studio.lan"] {
            assert!(origin(text).is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_origin_covers_itself_and_nothing_of_another_scheme_host_or_port(
            host in "[a-z]{1,8}(\\.[a-z]{2,8}){0,2}", other in "[a-z]{1,8}(\\.[a-z]{2,8}){0,2}", port in 1u16..,
        ) {
            let known = origin(&format!("https://{host}:{port}")).unwrap();
            let covers = |text: String| known.covers(&url(&text));
            let (itself, another) = (format!("https://{host}:{port}/any?thing"), format!("https://{other}:{port}"));
            prop_assert!(covers(itself));
            let strangers = [
                format!("http://{host}:{port}"),
                format!("https://x.{host}:{port}"),
                format!("https://{host}:{}", port.wrapping_add(1).max(1)),
            ];
            prop_assert!(!strangers.into_iter().any(covers));
            prop_assert_eq!(covers(another), other == host);
        }

        #[test]
        fn whatever_a_wildcard_covers_ends_with_its_domain(
            labels in "[a-z0-9.-]{0,12}", domain in "[a-z]{1,8}\\.(com|net|org)", tail in "(|\\.evil\\.example|\\.|x)",
        ) {
            // Some of these, such as `de.com`, are public suffixes and rightly refused.
            let Ok(trusted) = origin(&format!("https://*.{domain}")) else { return Ok(()) };
            if let Ok(target) = format!("https://{labels}{domain}{tail}/").parse::<Url>()
                && trusted.covers(&target)
            {
                let host = target.host_str().unwrap_or_default().to_owned();
                let suffix = format!(".{}", domain);
                let (is_below, is_longer) = (host.ends_with(&suffix), host.len() > suffix.len());
                prop_assert!(is_below && is_longer, "{}", host);
            }
        }
    }
}
