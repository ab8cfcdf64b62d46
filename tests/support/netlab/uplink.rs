//! One uplink of the encoder: its addresses, its routes, what the router does to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::link::Link;
use super::relay::Relay;

/// Which addresses an uplink gives to the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Families {
    Both,
    V4,
    V6,
}

impl Families {
    fn v4(self) -> bool {
        self != Self::V6
    }

    fn v6(self) -> bool {
        self != Self::V4
    }
}

/// What the NAT of an uplink does with the encoder's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ports {
    /// Keeps it, as most do while they can.
    Kept,
    /// One of a range that begins here, another for every flow.
    From(u16),
}

/// What the router knows of an uplink, and the link itself.
pub(super) struct Uplink {
    pub(super) name: String,
    /// Unique in the lab, from 1.
    pub(super) index: u8,
    /// Counts its addresses.
    pub(super) generation: u8,
    pub(super) families: Families,
    pub(super) metric: u32,
    /// As the server sees it; IPv4 only, for IPv6 is not translated.
    pub(super) public: Ipv4Addr,
    pub(super) ports: Ports,
    pub(super) silent: bool,
    pub(super) udp_blocked: bool,
    pub(super) tcp_blocked: bool,
    pub(super) link: Link,
    pub(super) relay: Relay,
}

impl Uplink {
    pub(super) fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.index, self.generation, 2)
    }

    pub(super) fn v6(&self) -> Ipv6Addr {
        self.v6_of(2)
    }

    fn v6_of(&self, host: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, self.index.into(), self.generation.into(), 0, 0, 0, host)
    }

    /// Pairs of the encoder's address with the router's, and the length of their prefix.
    fn addresses(&self) -> impl Iterator<Item = (IpAddr, IpAddr, u8)> {
        let gateway = Ipv4Addr::new(10, self.index, self.generation, 1);
        let v4 = self.families.v4().then(|| (self.v4().into(), gateway.into(), 24));
        let v6 = self.families.v6().then(|| (self.v6().into(), self.v6_of(1).into(), 64));
        v4.into_iter().chain(v6)
    }

    /// Lines for `ip -batch` in the encoder: as NetworkManager and systemd-networkd would set it up.
    pub(super) fn configure(&self) -> String {
        let name = &self.name;
        let address = |(own, _, prefix)| format!("addr replace {own}/{prefix} dev {name}{}\n", no_wait(own));
        let addresses: String = self.addresses().map(address).collect();
        format!("link set {name} up\n{addresses}{}", self.routes("append"))
    }

    /// Lines that `append` or `del` the default routes.
    pub(super) fn routes(&self, verb: &str) -> String {
        let (name, metric) = (&self.name, self.metric);
        let route = |(_, gateway, _)| format!("route {verb} default via {gateway} dev {name} metric {metric}\n");
        self.addresses().map(route).collect()
    }

    /// Lines that take the addresses, and with them the routes.
    pub(super) fn forget(&self) -> String {
        let name = &self.name;
        let address = |(own, _, prefix)| format!("addr del {own}/{prefix} dev {name}\n");
        self.routes("del") + &self.addresses().map(address).collect::<String>()
    }

    /// Lines for the router's end.
    pub(super) fn gateway(&self) -> String {
        let name = &self.name;
        let address = |(_, own, prefix)| format!("addr replace {own}/{prefix} dev {name}{}\n", no_wait(own));
        format!("link set {name} up\n") + &self.addresses().map(address).collect::<String>()
    }

    /// Lines that take the router's addresses.
    pub(super) fn forget_gateway(&self) -> String {
        let name = &self.name;
        self.addresses().map(|(_, own, prefix)| format!("addr del {own}/{prefix} dev {name}\n")).collect()
    }

    /// Rules of nft for packets that the router passes on.
    pub(super) fn forward_rules(&self) -> String {
        let name = &self.name;
        let mut rules = String::new();
        for (is_on, what) in
            [(self.silent, ""), (self.udp_blocked, "meta l4proto udp "), (self.tcp_blocked, "meta l4proto tcp ")]
        {
            if is_on {
                rules += &format!("iifname \"{name}\" {what}drop\noifname \"{name}\" {what}drop\n");
            }
        }
        // What has the address of another uplink, or an old one, has no business here: providers drop it too.
        let (v4, v6) = (self.v4(), self.v6());
        rules += &format!("iifname \"{name}\" ip saddr != {v4} counter name strays drop\n");
        rules += &format!("iifname \"{name}\" ip6 saddr != {v6} counter name strays drop\n");
        rules
    }

    /// Rules of nft for the first packet of each flow.
    pub(super) fn nat_rules(&self) -> String {
        let (own, public) = (self.v4(), self.public);
        let to = |how: &str, what: &str| format!("oifname \"{WAN}\" ip saddr {own} {how}snat ip to {public}{what}\n");
        match self.ports {
            Ports::Kept => to("", ""),
            Ports::From(first) => {
                let range = format!(":{first}-{}", first + PORTS - 1);
                to("meta l4proto { tcp, udp } ", &range) + &to("", "")
            }
        }
    }
}

/// The router's device towards the server.
pub(super) const WAN: &str = "wan0";
/// How many ports a NAT that does not keep them takes from.
pub(super) const PORTS: u16 = 2000;

/// Duplicates are not looked for: nobody else is there.
fn no_wait(address: IpAddr) -> &'static str {
    if address.is_ipv6() { " nodad" } else { "" }
}

/// What NetworkManager gives to such a device.
pub(super) fn usual_metric(name: &str) -> u32 {
    let kinds = [("eth", 100), ("en", 100), ("wl", 600), ("ww", 700)];
    kinds.iter().find(|(prefix, _)| name.starts_with(prefix)).map_or(800, |(_, metric)| *metric)
}
