//! Pure: where a token or password may go unencrypted (http, ws).

use std::net::IpAddr;

/// The rule of an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearText {
    /// There is no secret: anywhere.
    Anywhere,
    /// What goes to an address of this machine itself never gets on a wire. The rule unless the config says otherwise.
    ThisMachine,
    /// `uplink.allowClearText`: to private addresses as well.
    PrivateNetworks,
}

impl ClearText {
    /// May it go to this address? `is_own`: does the address belong to this machine just now?
    #[must_use]
    pub fn allows(self, ip: IpAddr, is_own: impl FnOnce(IpAddr) -> bool) -> bool {
        match self {
            Self::Anywhere => true,
            Self::ThisMachine => ip.to_canonical().is_loopback() || is_own(ip),
            Self::PrivateNetworks => is_private(ip) || is_own(ip),
        }
    }
}

/// An address that the internet does not route: loopback, RFC 1918, ULA (RFC 4193), link-local (RFC 3927, RFC 4291), and
/// 100.64.0.0/10 (RFC 6598), which overlay VPNs use.
#[must_use]
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let carrier_nat = a == 100 && (64..128).contains(&b);
            carrier_nat || ip.is_private() || ip.is_loopback() || ip.is_link_local()
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_internet_does_not_route_is_private() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for text in [
            "127.0.0.1",
            "10.255.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "::1",
            "fd00::1",
            "fc00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_private(ip(text)), "{text}");
            assert!(ClearText::PrivateNetworks.allows(ip(text), |_| false), "{text}");
        }
        for text in [
            "8.8.8.8",
            "172.15.255.255",
            "172.32.0.1",
            "192.169.0.1",
            "100.63.255.255",
            "100.128.0.0",
            "169.253.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "203.0.113.7",
            "2001:db8::1",
            "::",
            "ff02::1",
            "fec0::1",
            "::ffff:8.8.8.8",
            "64:ff9b::a00:1",
        ] {
            assert!(!is_private(ip(text)), "{text}");
            assert!(!ClearText::PrivateNetworks.allows(ip(text), |_| false), "{text}");
            assert!(ClearText::Anywhere.allows(ip(text), |_| false), "{text}");
        }
    }

    #[test]
    fn without_leave_only_this_machine_is_told() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let own = ip("192.168.1.7");
        for rule in [ClearText::ThisMachine, ClearText::PrivateNetworks] {
            assert!(rule.allows(own, |asked| asked == own));
            assert!(rule.allows(ip("127.0.0.2"), |_| false));
            assert!(rule.allows(ip("203.0.113.7"), |_| true), "its own public address");
        }
        for text in ["192.168.1.8", "10.0.0.1", "fd00::1", "fe80::1", "203.0.113.7"] {
            assert!(!ClearText::ThisMachine.allows(ip(text), |asked| asked == own), "{text}");
        }
    }
}
