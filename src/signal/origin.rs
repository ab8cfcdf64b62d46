//! Pure: which origins may see the token, and which addresses a server may name.

use std::net::{IpAddr, Ipv6Addr};

use url::{Host, Url};

use crate::config::origin::TrustedOrigin;

/// More ICE servers than this only slow gathering down.
pub const ICE_SERVERS_MAX: usize = 10;

/// A `Location`, `Link` target or ICE URL longer than this is nonsense.
pub(super) const URL_LEN_MAX: usize = 2048;

/// The address for people: no userinfo, no query values, no fragment.
#[must_use]
pub fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = if url.query().is_some() { "?..." } else { "" };
    format!("{}://{host}{port}{}{query}", url.scheme(), url.path())
}

/// Why an address may not be used with the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// Neither the endpoint's origin nor one of `uplink.trustedOrigins`.
    Foreign,
    /// https to http.
    Downgrade,
}

/// May the token, sent to `from` so far, go to `target`?
///
/// # Errors
/// Says why not.
pub fn may_carry_token(endpoint: &Url, trusted: &[TrustedOrigin], from: &Url, target: &Url) -> Result<(), Distrust> {
    if target.origin() != endpoint.origin() && !trusted.iter().any(|origin| origin.covers(target)) {
        return Err(Distrust::Foreign);
    }
    if from.scheme() == "https" && target.scheme() != "https" {
        return Err(Distrust::Downgrade);
    }
    Ok(())
}

/// Takes user name and password off an http(s) address.
pub fn without_userinfo(url: &mut Url) {
    // Fails only for addresses without a host, which have no userinfo either.
    let _no_host = url.set_username("");
    let _no_host = url.set_password(None);
}

/// May this address of an ICE server, named by a server, be used? `near` as in [`ice_servers`].
///
/// # Errors
/// One sentence: it is left out, and why.
pub fn check_ice_url(url: &str, near: bool) -> Result<(), String> {
    match ice_host(url) {
        Err(why) => Err(format!("an ICE server that the server names is left out: {why}")),
        Ok(host) if !near && is_near(&host) => Err(format!(
            "the ICE server at `{host}` is left out: a public server may not name an address of our own network"
        )),
        Ok(_) => Ok(()),
    }
}

/// Does this host lie on this machine or on a private network, as far as its name tells?
#[must_use]
pub fn is_near(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
        Host::Ipv4(ip) => is_near_ip(IpAddr::V4(*ip)),
        Host::Ipv6(ip) => is_near_ip(IpAddr::V6(*ip)),
    }
}

/// Is this an address of this machine, of its link, or of a private network?
#[must_use]
pub fn is_near_ip(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let carrier_nat = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
            let this_network = ip.octets()[0] == 0;
            this_network
                || carrier_nat
                || ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
        }
        IpAddr::V6(ip) => match embedded_v4(ip) {
            Some(v4) => is_near_ip(IpAddr::V4(v4)),
            None => {
                ip.is_loopback()
                    || ip.is_unspecified()
                    || ip.is_multicast()
                    || ip.is_unique_local()
                    || ip.is_unicast_link_local()
            }
        },
    }
}

/// The IPv4 address inside an IPv4-mapped address or a NAT64 one (64:ff9b::/96).
fn embedded_v4(ip: Ipv6Addr) -> Option<std::net::Ipv4Addr> {
    let nat64 = ip.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let [.., a, b, c, d] = ip.octets();
    ip.to_ipv4_mapped().or_else(|| nat64.then(|| [a, b, c, d].into()))
}

/// The host of a `stun:`, `turn:` or `turns:` address (RFC 7064, 7065). `stuns:` is none: webrtcbin speaks no STUN over TLS.
fn ice_host(target: &str) -> Result<Host<String>, &'static str> {
    if target.len() > URL_LEN_MAX || target.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err("its address is too long or holds blanks");
    }
    let (scheme, rest) = target.split_once(':').ok_or("its address has no scheme")?;
    if !["stun", "turn", "turns"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return Err("its scheme is not `stun`, `turn` or `turns`");
    }
    let (host_port, query) = rest.split_once('?').unwrap_or((rest, "transport=udp"));
    if !["transport=udp", "transport=tcp"].contains(&query.to_ascii_lowercase().as_str()) {
        return Err("its query is not `transport=udp` or `transport=tcp`");
    }
    let after_bracket = host_port.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match host_port[after_bracket..].rfind(':') {
        Some(colon) => (&host_port[..after_bracket + colon], Some(&host_port[after_bracket + colon + 1..])),
        None => (host_port, None),
    };
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port != 0)) {
        return Err("its port is not a number from 1 to 65535");
    }
    Host::parse(host).map_err(|_| "its host is no name and no address")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_shown_without_userinfo_and_query_values() {
        for (address, expected) in [
            ("https://user:pass@h.example/whip/x?token=hush#part", "https://h.example/whip/x?..."),
            ("http://[::1]:8080/whip", "http://[::1]:8080/whip"),
        ] {
            assert_eq!(shown(&url(address)), expected);
        }
    }

    #[test]
    fn the_token_goes_to_the_endpoint_and_to_trusted_origins_only() {
        let endpoint = url("https://h.example/whip");
        let trusted =
            ["https://cdn.example", "http://lan.example:8889"].map(|text| TrustedOrigin::new(&url(text)).unwrap());
        let verdict = |target: &str| may_carry_token(&endpoint, &trusted, &endpoint, &url(target));
        assert_eq!(verdict("https://h.example:443/else"), Ok(()));
        assert_eq!(verdict("https://cdn.example/x"), Ok(()));
        assert_eq!(verdict("https://h.example:444/whip"), Err(Distrust::Foreign));
        assert_eq!(verdict("https://sub.h.example/whip"), Err(Distrust::Foreign));
        assert_eq!(verdict("http://h.example/whip"), Err(Distrust::Foreign));
        assert_eq!(verdict("http://lan.example:8889/"), Err(Distrust::Downgrade));
    }
}
