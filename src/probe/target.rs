//! Pure: what can be probed, from the config and the list of resolvers of this system.

use std::net::IpAddr;

use url::{Host, Url};

use crate::config::{TokenSource, Uplink};

/// Where the resolvers of this system are listed; read anew for each probe, for networks bring their own.
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";
/// More are not used by the C library either (`MAXNS`, resolv.conf(5)).
const RESOLVERS_MAX: usize = 3;
/// STUN and TURN servers of the config that are asked.
const ICE_SERVERS_MAX: usize = 2;
/// Origins besides the server's that are asked.
const ORIGINS_MAX: usize = 3;
/// Of STUN and TURN (RFC 8489, section 18.6), and over TLS.
const STUN_PORT: u16 = 3478;
const STUN_PORT_TLS: u16 = 5349;

/// What may tell how far our packets get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Witness {
    /// The resolver in this place of the list, from 0.
    Resolver(usize),
    /// A STUN or TURN server, another server of the config, or the one that gives tokens.
    Host(Address),
}

/// Where to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: Host<String>,
    pub(super) port: u16,
    pub(super) transport: Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// A connect.
    Tcp,
    /// A binding request over UDP.
    Stun,
}

/// All possible witnesses, the nearest first. Servers of the config are among them: each is one while another is tried.
pub(super) fn witnesses(uplink: &Uplink) -> Vec<Witness> {
    let resolvers = (0..RESOLVERS_MAX).map(Witness::Resolver);
    let ice = uplink.ice_servers.iter().flat_map(|server| &server.urls).filter_map(|url| ice_server(url));
    let token = match &uplink.token {
        Some(TokenSource::Url(url)) => Some(url),
        Some(TokenSource::Value(_) | TokenSource::File(_) | TokenSource::Command(_) | TokenSource::Credential(_))
        | None => None,
    };
    // Beside fallbacks `url` is a witness too; alone it is none.
    let first = Some(&uplink.url).filter(|_| !uplink.fallback_urls.is_empty());
    let origins = token.into_iter().chain(first).chain(&uplink.fallback_urls).filter_map(origin);
    let hosts = unique(ice, ICE_SERVERS_MAX).into_iter().chain(unique(origins, ORIGINS_MAX));
    resolvers.chain(hosts.map(Witness::Host)).collect()
}

fn unique(all: impl Iterator<Item = Address>, most: usize) -> Vec<Address> {
    let mut kept = Vec::new();
    for address in all {
        if kept.len() < most && !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept
}

/// The host and port that an address of HTTP or WebSocket leads to.
pub(super) fn origin(url: &Url) -> Option<Address> {
    let port = url.port_or_known_default()?;
    Some(Address { host: url.host()?.to_owned(), port, transport: Transport::Tcp })
}

/// `stun:host[:port]`, `turn:host[:port][?transport=tcp]`, `turns:...`; the config has checked the form.
fn ice_server(url: &str) -> Option<Address> {
    let (scheme, rest) = url.split_once(':')?;
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let is_tls = scheme.eq_ignore_ascii_case("turns");
    let is_tcp = is_tls || query.eq_ignore_ascii_case("transport=tcp");
    let transport = if is_tcp { Transport::Tcp } else { Transport::Stun };
    let after_v6 = address.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match address.get(after_v6..)?.rfind(':') {
        Some(colon) => (address.get(..after_v6 + colon)?, address.get(after_v6 + colon + 1..)?.parse().ok()?),
        None => (address, if is_tls { STUN_PORT_TLS } else { STUN_PORT }),
    };
    Some(Address { host: Host::parse(host).ok()?, port, transport })
}

/// A host name of the config whose owner is asked, through a resolver, for names that are not there. The server's own, if it
/// has one: who publishes there may ask its owner.
pub(super) fn name(uplink: &Uplink) -> Option<String> {
    uplink.urls().find_map(|url| match url.host() {
        Some(Host::Domain(name)) if name.contains('.') => Some(name.trim_end_matches('.').to_owned()),
        Some(Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_)) | None => None,
    })
}

/// The resolvers that this text of a `resolv.conf` lists.
pub(super) fn resolvers(text: &str) -> impl Iterator<Item = IpAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        // An address of one link alone (`fe80::1%eth0`) does not parse, and is left out.
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    });
    named.take(RESOLVERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uplink(toml: &str) -> Uplink {
        crate::config::load(toml, "", std::iter::empty()).expect("a good config").uplink
    }

    #[test]
    fn the_witnesses_are_what_the_config_knows_besides_the_server() {
        let shown = |toml: &str| {
            let show = |witness: &Witness| match witness {
                Witness::Resolver(place) => format!("resolver {place}"),
                Witness::Host(Address { host, port, transport }) => format!("{host}:{port} {transport:?}"),
            };
            witnesses(&uplink(toml)).iter().skip(RESOLVERS_MAX).map(show).collect::<Vec<_>>()
        };
        assert_eq!(witnesses(&uplink("")).len(), RESOLVERS_MAX, "the server alone is no witness");
        let toml = "[uplink]\nurl = \"https://a.example/whip\"\n\
            fallbackUrls = [\"https://b.example:8443/whip\", \"https://b.example:8443/again\"]\n\
            tokenUrl = \"https://c.example/token\"\n\
            [[uplink.iceServers]]\nurls = [\"stun:s.example\", \"turn:[2001:db8::1]:99?transport=tcp\"]\n\
            username = \"u\"\ncredential = \"p\"\n";
        assert_eq!(
            shown(toml),
            [
                "s.example:3478 Stun",
                "[2001:db8::1]:99 Tcp",
                "c.example:443 Tcp",
                "a.example:443 Tcp",
                "b.example:8443 Tcp"
            ]
        );
        assert_eq!(name(&uplink(toml)).as_deref(), Some("a.example"));
        assert_eq!(name(&uplink("[uplink]\nurl = \"http://192.0.2.1/whip\"\n")), None);
    }

    #[test]
    fn ice_servers_are_understood_in_every_form() {
        for (url, wanted) in [
            ("stun:h", Some(("h", 3478, Transport::Stun))),
            ("STUN:h:9", Some(("h", 9, Transport::Stun))),
            ("turn:h?transport=udp", Some(("h", 3478, Transport::Stun))),
            ("turn:h:443?transport=TCP", Some(("h", 443, Transport::Tcp))),
            ("turns:h", Some(("h", 5349, Transport::Tcp))),
            ("stun:[::1]", Some(("[::1]", 3478, Transport::Stun))),
            ("stun:h:port", None),
            ("stun", None),
            ("stun:]", None),
        ] {
            let found = ice_server(url).map(|at| (at.host.to_string(), at.port, at.transport));
            assert_eq!(found, wanted.map(|(host, port, transport)| (host.to_owned(), port, transport)), "{url}");
        }
    }

    #[test]
    fn resolvers_are_read_as_the_c_library_reads_them() {
        let text = "# nameserver 192.0.2.9\nsearch x\n nameserver\t192.0.2.1  # the first\nnameserver fe80::1%eth0\n\
            nameserver 2001:db8::53\nnameserver\nnameserver nobody\noptions edns0\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        let found: Vec<String> = resolvers(text).map(|ip| ip.to_string()).collect();
        assert_eq!(found, ["192.0.2.1", "2001:db8::53", "192.0.2.3"]);
        assert_eq!(resolvers("").count(), 0);
    }
}
