//! The resolver of the HTTP client: it gives no address away where a secret would go to it unencrypted.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Url;

use crate::config::Uplink;
use crate::config::clear_text::ClearText;

use super::dns::Resolver;
use super::unencrypted::permitted;

/// A resolver that gives no address away where a secret would go to it unencrypted.
pub(super) struct Guarded {
    resolver: Resolver,
    /// Names that are spoken to over http.
    names: BTreeSet<String>,
    rule: ClearText,
}

impl Guarded {
    /// For requests to `endpoint` and to the trusted origins of `uplink`.
    pub(super) fn new(resolver: Resolver, endpoint: &Url, uplink: &Uplink) -> Self {
        let trusted = uplink.trusted_origins.iter().filter(|origin| origin.scheme() == "http");
        let own = endpoint.host_str().filter(|_| endpoint.scheme() == "http");
        let names = trusted.filter_map(|origin| origin.name()).chain(own).map(str::to_owned).collect();
        Self { resolver, names, rule: uplink.clear_text() }
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.resolver.clone();
        let rule = if self.names.contains(name.as_str()) { self.rule } else { ClearText::Anywhere };
        Box::pin(async move {
            let addresses = permitted(rule, resolver.resolve(name.as_str()).await?)?;
            // Port 0: reqwest puts in the one of the address.
            Ok(Box::new(addresses.into_iter().map(|ip| SocketAddr::from((ip, 0)))) as Addrs)
        })
    }
}
