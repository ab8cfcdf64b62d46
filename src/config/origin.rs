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
