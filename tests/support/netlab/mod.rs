//! A network to break: an encoder with several uplinks, a router with a NAT for each, and a server with one address.
//!
//! ```text
//!  encoder --- wlan0 ~~ link ~~ wlan0 ---+
//!          --- wwan0 ~~ link ~~ wwan0 ---+ router: a NAT an uplink --- wan0 ----- eth0 server
//!          --- eth0  ~~ link ~~ eth0  ---+
//! ```
//!
//! Three network namespaces; each link is a thread between two TAP devices ([`link`] says what it can do). IPv4 is
//! translated, IPv6 routed; from the server's side neither lets anybody in who was not spoken to. The encoder has plain
//! default routes by metric and no rules by source: a socket that is bound to no device leaves by the best route whatever
//! its address, and the router drops what leaves by the wrong uplink ([`Netlab::strays`]), as providers do.
//!
//! The neighbours of a link (ARP, neighbour discovery) are found at once and without loss, for they are near. Everything
//! vanishes when the lab is dropped; what killed runs have left is swept at the next start.

#![allow(dead_code, reason = "chaos tests and benches share it; each uses a part")]

pub(crate) mod link;
mod pipe;
mod relay;
mod space;
mod uplink;

#[cfg(test)]
mod pipe_tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

pub(crate) use link::{Link, Rate, Shape, Trace};
pub(crate) use relay::LinkStats;
use relay::Relay;
use space::Namespace;
pub(crate) use uplink::{Families, Ports};
use uplink::{PORTS, Uplink, WAN, usual_metric};

use crate::needs;
use crate::place::Place;

/// The server's addresses; the public Internet of the lab is 203.0.113.0/24, 198.51.100.0/24 and 2001:db8::/32.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(crate) const SERVER_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// A lab to be built.
#[derive(Default)]
pub(crate) struct Builder {
    uplinks: Vec<(String, Link, Families)>,
    seed: u64,
}

impl Builder {
    /// An uplink with IPv4 and IPv6; its metric is the usual one for a device of this name.
    pub(crate) fn uplink(self, name: &str, link: Link) -> Self {
        self.uplink_of(name, link, Families::Both)
    }

    /// The same with these addresses only.
    pub(crate) fn uplink_of(mut self, name: &str, link: Link, families: Families) -> Self {
        self.uplinks.push((name.to_owned(), link, families));
        self
    }

    /// What the dice of the links begin with; 0 if nothing is said.
    pub(crate) fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Builds it, or says `skipped: ` with the test's name and what this machine lacks.
    pub(crate) fn build(self) -> Option<Netlab> {
        if let Some(reason) = missing() {
            needs::skipped(&reason);
            return None;
        }
        space::sweep();
        let lab = Netlab::bare(self.seed);
        for (name, link, families) in self.uplinks {
            lab.plug_in(&name, link, families);
        }
        Some(lab)
    }
}

/// What keeps this machine from having a lab.
pub(crate) fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("network namespaces need root".into());
    }
    let tools = [("ip", "iproute2"), ("nft", "nftables"), ("conntrack", "conntrack"), ("sysctl", "procps")];
    if let Some((tool, package)) = tools.iter().find(|(tool, _)| !needs::is_on_path(tool)) {
        return Some(format!("`{tool}` is not installed (Debian package `{package}`)"));
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("this kernel has no `/dev/net/tun`".into());
    }
    // Containers may be root and yet may not.
    let probe = std::process::Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).output();
    match probe {
        Ok(output) if output.status.success() => None,
        refused => Some(format!("network namespaces cannot be made here: {refused:?}")),
    }
}

/// A running lab. Its methods may be called from any thread.
pub(crate) struct Netlab {
    /// First, and so dropped first: the threads of the links are in the namespaces.
    uplinks: Mutex<Vec<Uplink>>,
    next: Mutex<Next>,
    encoder: Namespace,
    router: Namespace,
    server: Namespace,
}

/// Numbers that are given once.
struct Next {
    index: u8,
    public: u8,
    seed: u64,
}

impl Netlab {
    pub(crate) fn builder() -> Builder {
        Builder::default()
    }

    /// Without any uplink.
    fn bare(seed: u64) -> Self {
        // Loose, as systemd sets it: with several default routes the strict filter drops what comes by the second.
        let encoder = ["net.ipv4.conf.all.rp_filter=2", "net.ipv4.conf.default.rp_filter=2"];
        let router = [
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.default.rp_filter=0",
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
        ];
        let number = space::next_lab();
        let lab = Self {
            uplinks: Mutex::default(),
            next: Mutex::new(Next { index: 1, public: 1, seed }),
            encoder: Namespace::new(number, "enc", &[], &encoder),
            router: Namespace::new(number, "rtr", &[], &router),
            server: Namespace::new(number, "srv", &[SERVER.into(), SERVER_6.into()], &[]),
        };
        // The server has one device: with two, libnice answers on the wrong one.
        let peer = format!("link add {WAN} type veth peer name eth0 netns {}\n", lab.server.name());
        lab.router.ip(&peer);
        lab.server.ip(&format!(
            "link set eth0 up\naddr add {SERVER}/24 dev eth0\naddr add {SERVER_6}/64 dev eth0 nodad\n\
             route add default via 198.51.100.254\nroute add default via 2001:db8:ffff::fe\n"
        ));
        // What belongs to nobody (any more) vanishes: the Internet does not tell either.
        lab.router.ip(&format!(
            "link set {WAN} up\naddr add 198.51.100.254/24 dev {WAN}\naddr add 2001:db8:ffff::fe/64 dev {WAN} nodad\n\
             route add blackhole 203.0.113.0/24\nroute add blackhole 10.0.0.0/8\nroute add blackhole 2001:db8::/32\n"
        ));
        lab.set_rules(&[]);
        lab
    }

    /// Where the encoder lives; it has no addresses of servers.
    pub(crate) fn encoder(&self) -> &Place {
        &self.encoder.place
    }

    /// Where the server lives.
    pub(crate) fn server(&self) -> &Place {
        &self.server.place
    }

    /// Does this in the encoder's namespace; see [`Place::run`].
    pub(crate) fn in_encoder<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.encoder.place.run(work)
    }

    /// Does this in the server's namespace; see [`Place::run`].
    pub(crate) fn in_server<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.server.place.run(work)
    }

    /// The encoder's address on this uplink.
    pub(crate) fn address(&self, name: &str) -> Ipv4Addr {
        self.with(name, |uplink| uplink.v4())
    }

    /// The encoder's IPv6 address on this uplink; the server sees the same.
    pub(crate) fn address_6(&self, name: &str) -> Ipv6Addr {
        self.with(name, |uplink| uplink.v6())
    }

    /// As the server sees this uplink's IPv4.
    pub(crate) fn public_address(&self, name: &str) -> IpAddr {
        self.with(name, |uplink| uplink.public.into())
    }

    /// What the link has done so far.
    pub(crate) fn stats(&self, name: &str) -> LinkStats {
        self.with(name, |uplink| uplink.relay.stats())
    }

    /// Packets that have left by an uplink whose address they did not have, and were dropped.
    pub(crate) fn strays(&self) -> u64 {
        let output = self.router.expect("nft", &["--json", "list", "counter", "inet", "lab", "strays"], "");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("nft speaks JSON");
        let counters = json["nftables"].as_array().into_iter().flatten();
        counters.filter_map(|entry| entry["counter"]["packets"].as_u64()).sum()
    }

    /// A device appears: a modem is plugged in.
    pub(crate) fn plug_in(&self, name: &str, link: Link, families: Families) {
        let (index, seed) = {
            let mut next = self.next.lock().unwrap();
            next.index += 1;
            (next.index - 1, next.seed.wrapping_add(next.index.into()))
        };
        let relay = Relay::start(name, &self.encoder.place, &self.router.place, link.clone(), seed);
        let uplink = Uplink {
            name: name.to_owned(),
            index,
            generation: 0,
            families,
            metric: usual_metric(name),
            public: self.next_public(),
            ports: Ports::Kept,
            silent: false,
            udp_blocked: false,
            tcp_blocked: false,
            link,
            relay,
        };
        self.router.ip(&uplink.gateway());
        let configure = uplink.configure();
        let mut uplinks = self.uplinks();
        uplinks.push(uplink);
        self.set_rules(&uplinks);
        self.encoder.ip(&configure);
    }

    /// The device vanishes: the modem is pulled out.
    pub(crate) fn unplug(&self, name: &str) {
        let mut uplinks = self.uplinks();
        // Its thread ends here, and both devices with it.
        uplinks.retain(|uplink| uplink.name != name);
        self.set_rules(&uplinks);
    }

    /// `ip link set down`: the routes and IPv6 addresses go.
    pub(crate) fn link_down(&self, name: &str) {
        self.encoder.ip(&format!("link set {name} down\n"));
    }

    /// The link is up again with its addresses and routes.
    pub(crate) fn link_up(&self, name: &str) {
        self.encoder.ip(&self.with(name, |uplink| uplink.configure()));
    }

    /// The cable is pulled or the access point is gone: the carrier is lost, addresses and routes stay.
    pub(crate) fn carrier_off(&self, name: &str) {
        self.encoder.ip(&format!("link set {name} carrier off\n"));
    }

    /// The carrier is back.
    pub(crate) fn carrier_on(&self, name: &str) {
        self.encoder.ip(&format!("link set {name} carrier on\n"));
    }

    /// The router drops everything of this uplink, in both directions; the link looks up.
    pub(crate) fn silent_drop(&self, name: &str) {
        self.change(name, |uplink| uplink.silent = true);
    }

    /// Only what is not UDP passes.
    pub(crate) fn block_udp(&self, name: &str) {
        self.change(name, |uplink| uplink.udp_blocked = true);
    }

    /// No datagram passes any more to or from this port of the server, whatever the uplink.
    pub(crate) fn block_udp_port(&self, port: u16) {
        let rules = format!(
            "table inet ports {{\nchain forward {{ type filter hook forward priority filter - 1;\n\
             udp dport {port} drop\nudp sport {port} drop\n}}\n}}\n"
        );
        self.router.expect("nft", &["-f", "-"], &rules);
    }

    /// No TCP passes: signalling is gone, media is not.
    pub(crate) fn block_tcp(&self, name: &str) {
        self.change(name, |uplink| uplink.tcp_blocked = true);
    }

    /// Ends [`Netlab::silent_drop`], [`Netlab::block_udp`] and [`Netlab::block_tcp`].
    pub(crate) fn heal(&self, name: &str) {
        let nothing = (false, false, false);
        self.change(name, |uplink| (uplink.silent, uplink.udp_blocked, uplink.tcp_blocked) = nothing);
    }

    /// DHCP gives a new lease in another network: the old addresses go, new ones and their routes come.
    pub(crate) fn new_address(&self, name: &str) {
        let mut uplinks = self.uplinks();
        let uplink = find(&mut uplinks, name);
        let (forget, forget_gateway, old) = (uplink.forget(), uplink.forget_gateway(), uplink.v4());
        uplink.generation += 1;
        let (configure, gateway) = (uplink.configure(), uplink.gateway());
        self.router.ip(&(forget_gateway + &gateway));
        self.set_rules(&uplinks);
        self.forget_flows(old);
        self.encoder.ip(&(forget + &configure));
    }

    /// The NAT forgets its flows; from now on they come from another public address.
    pub(crate) fn rebind_nat_address(&self, name: &str) {
        let public = self.next_public();
        self.rebind(name, |uplink| uplink.public = public);
    }

    /// The NAT forgets its flows; from now on they come from other ports of the same public address.
    pub(crate) fn rebind_nat_port(&self, name: &str) {
        self.rebind(name, |uplink| {
            uplink.ports = match uplink.ports {
                Ports::From(first) if first < u16::MAX - 2 * PORTS => Ports::From(first + PORTS),
                // Away from what Linux gives to sockets by itself.
                Ports::Kept | Ports::From(_) => Ports::From(1024),
            }
        });
    }

    /// Changes the metric of both default routes of an uplink.
    pub(crate) fn set_metric(&self, name: &str, metric: u32) {
        let mut uplinks = self.uplinks();
        let uplink = find(&mut uplinks, name);
        let old = uplink.routes("del");
        uplink.metric = metric;
        // The new one first: there is no moment without a route.
        self.encoder.ip(&(uplink.routes("append") + &old));
    }

    /// Two uplinks exchange the metrics of their default routes.
    pub(crate) fn swap_metrics(&self, one: &str, other: &str) {
        let [first, second] = [one, other].map(|name| self.with(name, |uplink| uplink.metric));
        self.set_metric(one, second);
        self.set_metric(other, first);
    }

    /// Changes what the link does, from now on; an MTU hole too.
    pub(crate) fn shape(&self, name: &str, link: Link) {
        let mut uplinks = self.uplinks();
        let uplink = find(&mut uplinks, name);
        uplink.link = link.clone();
        uplink.relay.reshape(link);
    }

    /// IP packets larger than this vanish in both directions without a word; `None`: no longer.
    pub(crate) fn mtu_hole(&self, name: &str, most: Option<usize>) {
        let mut link = self.with(name, |uplink| uplink.link.clone());
        (link.up.mtu_hole, link.down.mtu_hole) = (most, most);
        self.shape(name, link);
    }

    fn rebind(&self, name: &str, change: impl FnOnce(&mut Uplink)) {
        self.change(name, change);
        // After the new rule: whatever comes in between still finds its old flow.
        self.forget_flows(self.address(name));
    }

    fn forget_flows(&self, source: Ipv4Addr) {
        // `conntrack` fails where there was nothing to delete.
        let line = format!("conntrack -D -s {source} >&2 || true");
        self.router.expect("sh", &["-c", &line], "");
    }

    /// Changes what the router does with an uplink.
    fn change(&self, name: &str, change: impl FnOnce(&mut Uplink)) {
        let mut uplinks = self.uplinks();
        change(find(&mut uplinks, name));
        self.set_rules(&uplinks);
    }

    /// Replaces all rules of the router at once; the counter goes on.
    fn set_rules(&self, uplinks: &[Uplink]) {
        let forward: String = uplinks.iter().map(Uplink::forward_rules).collect();
        let nat: String = uplinks.iter().map(Uplink::nat_rules).collect();
        let rules = format!(
            "table inet lab {{\ncounter strays {{ }}\n\
             chain forward {{ type filter hook forward priority filter; policy drop; }}\n\
             chain output {{ type filter hook output priority filter; }}\n\
             chain nat {{ type nat hook postrouting priority srcnat; }}\n}}\n\
             flush table inet lab\n\
             table inet lab {{\nchain forward {{\n{forward}\
             iifname \"{WAN}\" ct state established,related accept\noifname \"{WAN}\" accept\n}}\n\
             chain output {{\noifname \"{WAN}\" icmp type destination-unreachable icmp code {{ 0, 1 }} drop\n\
             oifname \"{WAN}\" icmpv6 type destination-unreachable icmpv6 code {{ 0, 3 }} drop\n}}\n\
             chain nat {{\n{nat}}}\n}}\n"
        );
        self.router.expect("nft", &["-f", "-"], &rules);
    }

    fn next_public(&self) -> Ipv4Addr {
        let mut next = self.next.lock().unwrap();
        next.public += 1;
        Ipv4Addr::new(203, 0, 113, next.public)
    }

    fn uplinks(&self) -> MutexGuard<'_, Vec<Uplink>> {
        self.uplinks.lock().unwrap()
    }

    fn with<R>(&self, name: &str, read: impl FnOnce(&Uplink) -> R) -> R {
        read(find(&mut self.uplinks(), name))
    }
}

fn find<'a>(uplinks: &'a mut [Uplink], name: &str) -> &'a mut Uplink {
    let found = uplinks.iter_mut().find(|uplink| uplink.name == name);
    found.unwrap_or_else(|| panic!("the lab has no uplink `{name}`"))
}
