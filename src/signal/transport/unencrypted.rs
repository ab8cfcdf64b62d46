//! Secrets and unencrypted connections: which of the addresses behind a name may be dialled (`config::clear_text` has the rule).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use url::{Host, Url};

use crate::config::Uplink;
use crate::config::clear_text::ClearText;

/// No address of the host may get our secret unencrypted.
#[derive(Debug, thiserror::Error)]
#[error("no secret goes there in the clear")]
pub(in crate::signal) struct InTheClear {
    /// `uplink.allowClearText`
    pub(in crate::signal) private: bool,
}

/// Does this address belong to this machine just now? Sends nothing: the kernel is asked for the way there, and the way to
/// oneself begins where it ends.
#[must_use]
pub fn is_own_address(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let from = || {
        let socket = UdpSocket::bind((any, 0))?;
        // Any port: nothing is sent.
        socket.connect((ip, 9))?;
        socket.local_addr()
    };
    // On Linux the unspecified address means: here.
    ip.is_unspecified() || from().is_ok_and(|from| from.ip() == ip)
}

/// Those that may be dialled with this rule. Never none.
///
/// # Errors
/// There are addresses, but none of them may.
pub(in crate::signal) fn permitted(rule: ClearText, mut addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, InTheClear> {
    let is_empty = addresses.is_empty();
    addresses.retain(|ip| rule.allows(*ip, is_own_address));
    if addresses.is_empty() && !is_empty {
        return Err(InTheClear { private: rule == ClearText::PrivateNetworks });
    }
    Ok(addresses)
}

/// The rule for connections to this address.
pub(in crate::signal) fn rule_for(url: &Url, uplink: &Uplink) -> ClearText {
    if matches!(url.scheme(), "https" | "wss") { ClearText::Anywhere } else { uplink.clear_text() }
}

/// For an address without a name, which no resolver gets to see.
///
/// # Errors
/// It must not get our secret.
pub(in crate::signal) fn check_literal(url: &Url, rule: ClearText) -> Result<(), InTheClear> {
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    permitted(rule, vec![ip]).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use reqwest::dns::Resolve;

    use super::super::dns::Resolver;
    use super::super::guarded::Guarded;
    use super::*;
    use crate::config;

    fn uplink(url: &str, more: &str) -> Uplink {
        let text = format!("[uplink]\nurl = \"{url}\"\ntoken = \"t\"\n{more}");
        config::load(&text, "", std::iter::empty()).unwrap().uplink
    }

    fn knows(addresses: &'static [&'static str]) -> Resolver {
        Resolver::new(move |_| {
            Box::pin(async move { Ok(addresses.iter().map(|text| text.parse().unwrap()).collect()) })
        })
    }

    #[test]
    fn oneself_is_found_without_a_packet() {
        for text in ["127.0.0.1", "0.0.0.0"] {
            assert!(is_own_address(text.parse().unwrap()), "{text}");
        }
        for text in ["192.0.2.1", "8.8.8.8", "255.255.255.255", "224.0.0.1"] {
            assert!(!is_own_address(text.parse().unwrap()), "{text}");
        }
    }

    /// Names are judged by what they stand for when they are dialled: one that has moved to a public address gets nothing.
    #[tokio::test]
    async fn a_name_gives_away_only_addresses_that_may_be_told() {
        let mixed: &[&str] = &["203.0.113.7", "10.0.0.7", "2001:db8::7", "fd00::7"];
        let public: &[&str] = &["203.0.113.7", "2001:db8::7"];
        let nearby = uplink("http://studio.example/x", "allowClearText = true");
        let secure = uplink("https://studio.example/x", "");
        let oneself = uplink("http://localhost/x", "");
        for (uplink, name, addresses, expected) in [
            (&nearby, "studio.example", mixed, Some(2)),
            (&nearby, "studio.example", public, None),
            (&secure, "studio.example", public, Some(2)),
            (&oneself, "localhost", public, None),
            (&oneself, "localhost", &["127.0.0.1", "10.0.0.7"], Some(1)),
            // Nothing goes there but over https.
            (&nearby, "other.example", public, Some(2)),
        ] {
            let guarded = Guarded::new(knows(addresses), &uplink.url, uplink);
            let found = guarded.resolve(name.parse().unwrap()).await;
            match (found, expected) {
                (Ok(found), Some(count)) => assert_eq!(found.count(), count, "{name} {addresses:?}"),
                (Err(error), None) => assert!(error.is::<InTheClear>(), "{name}: {error}"),
                (found, _) => panic!("{name} {addresses:?}: {:?}", found.map(Iterator::count)),
            }
            if expected.is_none() {
                let rule = rule_for(&uplink.url, uplink);
                let dialled = knows(addresses).dial(&uplink.url, rule, Duration::from_secs(5)).await;
                let error: io::Error = dialled.unwrap_err();
                assert!(error.get_ref().is_some_and(|error| error.is::<InTheClear>()), "{name}: {error}");
            }
        }
    }

    #[test]
    fn an_address_without_a_name_is_judged_before_each_request() {
        let check = |text: &str, uplink: &Uplink| {
            let url: Url = text.parse().unwrap();
            check_literal(&url, rule_for(&url, uplink)).is_ok()
        };
        let nearby = uplink("http://10.0.0.7/x", "allowClearText = true");
        let secure = uplink("https://h.example/x", "");
        let open = config::load("[uplink]\nurl = \"http://203.0.113.7/x\"", "", std::iter::empty()).unwrap().uplink;
        assert!(check("http://10.0.0.7/x", &nearby) && check("http://127.0.0.1", &nearby));
        assert!(!check("http://203.0.113.7/x", &nearby) && check("https://203.0.113.7/x", &nearby));
        assert!(!check("http://192.0.2.1/x", &secure) && check("http://203.0.113.7/x", &open));
    }
}
