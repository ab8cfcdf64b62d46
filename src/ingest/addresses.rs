//! At which addresses clients reach us: what answers offer as candidates, and what is printed.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// A client tries each candidate of ours with each of its own; a machine with more addresses than this has them by the way
/// (IPv6 privacy, containers).
const ADDRESSES_MAX: usize = 16;

/// Where media comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaAddress {
    /// What the socket is bound to.
    pub bound: SocketAddr,
    /// Addresses that others know us by: those of a NAT in front of us.
    pub public: Vec<IpAddr>,
}

impl MediaAddress {
    /// What a client is offered that has come over TCP to this address of ours. That is not enough: a proxy on this machine
    /// comes to one where nobody else can.
    pub(super) fn candidates(&self, reached: IpAddr) -> Candidates {
        let everywhere = self.bound.ip().is_unspecified();
        let machine = if everywhere { of_this_machine() } else { Vec::new() };
        let all = [reached].into_iter().chain(self.public.iter().copied()).chain(machine);
        Candidates::new(all.filter(|ip| !everywhere || fits(self.bound.ip(), *ip)), reached, self.bound.port())
    }
}

/// Takes a socket that is bound to `bound` in what is sent to `ip`?
const fn fits(bound: IpAddr, ip: IpAddr) -> bool {
    bound.is_ipv6() || ip.is_ipv4()
}

/// Our addresses, as one client is told. All of them end at the same socket, so str0m knows of one for each IP version, and
/// takes whatever comes for having come there; the others are in the answer only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidates {
    /// Of str0m: not empty.
    local: Vec<SocketAddr>,
    others: Vec<SocketAddr>,
}

impl Candidates {
    fn new(all: impl Iterator<Item = IpAddr>, reached: IpAddr, port: u16) -> Self {
        let mut own = Self { local: vec![SocketAddr::new(reached, port)], others: Vec::new() };
        for address in all.map(|ip| SocketAddr::new(ip, port)) {
            if own.local.contains(&address) || own.others.contains(&address) {
                continue;
            }
            if own.local.iter().all(|local| local.is_ipv4() != address.is_ipv4()) {
                own.local.push(address);
            } else if own.others.len() < ADDRESSES_MAX {
                own.others.push(address);
            }
        }
        own
    }

    /// Those that str0m is to know.
    pub(super) fn local(&self) -> &[SocketAddr] {
        &self.local
    }

    /// Where str0m is to believe that something from there has come to.
    pub(super) fn facing(&self, source: SocketAddr) -> Option<SocketAddr> {
        self.local.iter().find(|local| local.is_ipv4() == source.is_ipv4()).copied()
    }

    /// The answer with the others as well, after str0m's in each section that has some.
    pub(super) fn complete(&self, answer: &str) -> String {
        let mut text = String::with_capacity(answer.len());
        let mut lines = answer.lines().peekable();
        while let Some(line) = lines.next() {
            let _ = write!(text, "{line}\r\n");
            let is_candidate = |line: &str| line.starts_with("a=candidate:");
            if is_candidate(line) && !lines.peek().is_some_and(|next| is_candidate(next)) {
                self.others.iter().zip(1..).for_each(|(address, number)| text.push_str(&candidate(*address, number)));
            }
        }
        text
    }
}

/// A host candidate after `number` better ones (RFC 8445, section 5.1.2.1).
fn candidate(address: SocketAddr, number: u32) -> String {
    let priority = (126 << 24) | ((65535 - number) << 8) | 255;
    let (ip, port) = (address.ip(), address.port());
    format!("a=candidate:roamcast{number} 1 udp {priority} {ip} {port} typ host\r\n")
}

/// The addresses by which other machines may reach this one: not those that mean something on one machine or link only.
#[must_use]
pub fn of_this_machine() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let up = interfaces.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
    let all = up.filter_map(|interface| {
        let address = interface.address?;
        let four = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        four.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    });
    let mut all: Vec<_> = all.filter(|ip| leads_here(*ip)).collect();
    // What people type first; the order of the machine otherwise.
    all.sort_by_key(IpAddr::is_ipv6);
    all
}

const fn leads_here(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

/// The addresses to print for a server that listens there: such as others can open.
#[must_use]
pub fn to_open(listen: SocketAddr, public: &[IpAddr], machine: &[IpAddr]) -> Vec<SocketAddr> {
    if !listen.ip().is_unspecified() {
        return vec![listen];
    }
    let mut all = Vec::new();
    for ip in public.iter().chain(machine.iter().filter(|ip| fits(listen.ip(), **ip))) {
        let address = SocketAddr::new(*ip, listen.port());
        if !all.contains(&address) {
            all.push(address);
        }
    }
    if all.is_empty() { vec![from_here(listen)] } else { all }
}

/// The address at which this machine itself reaches a server that listens there.
#[must_use]
pub const fn from_here(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V4(_) | IpAddr::V6(_) => listen.ip(),
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(all: &[&str]) -> Vec<IpAddr> {
        all.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn a_client_is_told_every_address_once_and_str0m_one_of_each_version() {
        let all = ips(&["127.0.0.1", "203.0.113.9", "192.0.2.2", "fd00::2", "fd00::3", "192.0.2.2"]);
        let candidates = Candidates::new(all.iter().copied(), all[0], 5000);
        assert_eq!(candidates.local, ["127.0.0.1:5000".parse().unwrap(), "[fd00::2]:5000".parse().unwrap()]);
        assert_eq!(candidates.facing("192.0.2.7:1".parse().unwrap()), Some(candidates.local[0]));
        assert_eq!(candidates.facing("[fd00::7]:1".parse().unwrap()), Some(candidates.local[1]));
        let answer =
            "v=0\r\nm=audio 9 X 0\r\na=candidate:1 x\r\na=candidate:2 x\r\na=end-of-candidates\r\nm=video 9 X 1\r\n";
        let text = candidates.complete(answer);
        assert!(
            text.starts_with(
                "v=0\r\nm=audio 9 X 0\r\na=candidate:1 x\r\na=candidate:2 x\r\na=candidate:roamcast1 1 udp "
            )
        );
        for ip in ["203.0.113.9", "192.0.2.2", "fd00::3"] {
            assert_eq!(text.matches(&format!(" {ip} 5000 typ host\r\n")).count(), 1, "{text}");
        }
        let known = text.lines().filter_map(|line| str0m::Candidate::from_sdp_string(line.strip_prefix("a=")?).ok());
        assert_eq!(known.filter(|candidate| candidate.addr().port() == 5000).count(), 3, "others understand them");
    }

    #[test]
    fn a_machine_of_many_addresses_does_not_offer_them_all() {
        let all = (0..=255).map(|last| IpAddr::from([10, 0, 0, last]));
        assert_eq!(Candidates::new(all, IpAddr::from([10, 0, 0, 9]), 1).others.len(), ADDRESSES_MAX);
    }

    #[test]
    fn a_socket_at_one_address_is_offered_there_and_at_the_nat_only() {
        let media = MediaAddress { bound: "127.0.0.1:5000".parse().unwrap(), public: ips(&["203.0.113.9"]) };
        let candidates = media.candidates(IpAddr::from([127, 0, 0, 1]));
        assert_eq!(candidates.local, ["127.0.0.1:5000".parse().unwrap()]);
        assert_eq!(candidates.others, ["203.0.113.9:5000".parse().unwrap()]);
    }

    #[test]
    fn what_is_printed_can_be_opened_elsewhere() {
        let machine = ips(&["192.0.2.2", "fd00::2"]);
        for (listen, public, machine, shown, own) in [
            ("127.0.0.1:80", &[][..], &machine[..], &["127.0.0.1:80"][..], "127.0.0.1:80"),
            ("192.0.2.2:80", &[], &machine, &["192.0.2.2:80"], "192.0.2.2:80"),
            ("0.0.0.0:80", &[], &machine, &["192.0.2.2:80"], "127.0.0.1:80"),
            ("[::]:80", &[], &machine, &["192.0.2.2:80", "[fd00::2]:80"], "[::1]:80"),
            ("0.0.0.0:80", &ips(&["203.0.113.9"]), &machine, &["203.0.113.9:80", "192.0.2.2:80"], "127.0.0.1:80"),
            ("0.0.0.0:80", &[], &[], &["127.0.0.1:80"], "127.0.0.1:80"),
        ] {
            let listen = listen.parse().unwrap();
            let text: Vec<_> = to_open(listen, public, machine).iter().map(ToString::to_string).collect();
            assert_eq!(text, shown, "{listen}");
            assert_eq!(from_here(listen).to_string(), own);
        }
        assert!(of_this_machine().into_iter().all(leads_here));
    }
}
