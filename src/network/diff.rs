//! Pure: two snapshots of the network -> what the brain must hear of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::Network;
use crate::supervisor::event::{LocalAddress, PathEvent};

/// Interfaces of virtual machines, containers and tunnels. They count only while a default route leads over them: then
/// somebody (a VPN, a container runtime) really sends our media that way.
const VIRTUAL: [&str; 8] = ["docker", "veth", "br-", "virbr", "tun", "tap", "lxc", "cni"];

/// One interface as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Administratively up, and with a carrier.
    pub is_up: bool,
    /// `lo`.
    pub is_loopback: bool,
}

/// One address as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Index of its interface.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// Global scope, and ready for use (not tentative, no duplicate).
    pub is_ready: bool,
}

/// One default route as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Index of its interface.
    pub link: u32,
    /// `None`: point to point.
    pub gateway: Option<IpAddr>,
    /// The smallest is used.
    pub metric: u32,
}

/// What matters of the network of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Addresses that media can be sent from, each with the name of its interface.
    addresses: BTreeSet<(String, IpAddr)>,
    /// Default routes over usable interfaces, best first.
    default_routes: Vec<(String, Option<IpAddr>)>,
    /// The same addresses, preferred first.
    ranked: Vec<LocalAddress>,
}

impl Snapshot {
    /// Keeps what is usable: interfaces that are up, wanted and not loopback, with an address that reaches beyond the link.
    #[must_use]
    pub fn new(links: &[Link], addresses: &[Address], routes: &[Route], wanted: &Network) -> Self {
        let is_real = |link: &Link| !VIRTUAL.iter().any(|start| link.name.starts_with(start));
        let is_routed = |link: &Link| routes.iter().any(|route| route.link == link.index);
        let usable = |index: u32| {
            let of_index = |link: &&Link| link.index == index && link.is_up && !link.is_loopback;
            let link = links.iter().find(of_index).filter(|link| !is_excluded(&link.name, &wanted.exclude));
            link.filter(|link| is_real(link) || is_routed(link) || wanted.interfaces.contains(&link.name))
        };
        let addresses: BTreeSet<_> = addresses
            .iter()
            .filter(|address| address.is_ready && reaches_beyond_the_link(address.ip))
            .filter_map(|address| Some((usable(address.link)?.name.clone(), address.ip)))
            .collect();
        let mut by_metric: Vec<&Route> = routes.iter().collect();
        by_metric.sort_by_key(|route| (route.metric, route.link, route.gateway));
        let default_routes = by_metric
            .iter()
            .filter_map(|route| Some((usable(route.link)?.name.clone(), route.gateway)))
            .filter(|(name, _)| addresses.iter().any(|(owner, _)| owner == name))
            .collect();
        let metric = |name: &str, is_v4: bool| {
            let leads_there = |route: &&&Route| {
                usable(route.link).is_some_and(|link| link.name == name)
                    && route.gateway.is_none_or(|gateway| gateway.is_ipv4() == is_v4)
            };
            by_metric.iter().find(leads_there).map(|route| route.metric)
        };
        let mut ranked: Vec<LocalAddress> =
            addresses.iter().map(|(interface, ip)| LocalAddress { interface: interface.clone(), ip: *ip }).collect();
        // Stable: addresses that are equal in all this stay in their order.
        ranked.sort_by_key(|LocalAddress { interface, ip }| {
            let named = wanted.interfaces.iter().position(|name| name == interface);
            let metric = metric(interface, ip.is_ipv4());
            (named.unwrap_or(usize::MAX), metric.is_none(), metric)
        });
        Self { addresses, default_routes, ranked }
    }

    /// All addresses that media can be sent from: first those of the interfaces that the config names, in its order, then
    /// by the metric of their default route; those that reach their own link alone come last.
    #[must_use]
    pub fn ranked(&self) -> &[LocalAddress] {
        &self.ranked
    }

    /// The default gateways, best first. Not those with an address of their link alone, which means nothing without it.
    #[must_use]
    pub fn gateways(&self) -> Vec<IpAddr> {
        let all = self.default_routes.iter().filter_map(|(_, gateway)| *gateway);
        all.filter(|gateway| reaches_beyond_the_link(*gateway)).collect()
    }

    /// Is there any network that media could leave by?
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// What the brain must hear when the network was like this and is now like `new`.
    #[must_use]
    pub fn diff(&self, new: &Self) -> Option<PathEvent> {
        let has_new_address = !new.addresses.is_subset(&self.addresses);
        let has_new_route = new.default_routes.iter().any(|route| !self.default_routes.contains(route));
        let leads_elsewhere =
            !new.default_routes.is_empty() && new.default_routes.first() != self.default_routes.first();
        match (self.is_usable(), new.is_usable()) {
            (true, false) => Some(PathEvent::AllRoutesLost),
            (false, false) => None,
            (_, true) => (has_new_address || has_new_route || leads_elsewhere).then_some(PathEvent::RouteAppeared),
        }
    }
}

fn is_excluded(name: &str, exclude: &[String]) -> bool {
    let fits = |pattern: &String| pattern.strip_suffix('*').map_or(name == pattern, |start| name.starts_with(start));
    exclude.iter().any(fits)
}

fn reaches_beyond_the_link(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_link_local() || ip.is_unspecified()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.into(), is_up: true, is_loopback: name == "lo" }
    }

    fn address(link: u32, ip: &str) -> Address {
        Address { link, ip: ip.parse().unwrap(), is_ready: true }
    }

    fn route(link: u32, gateway: &str, metric: u32) -> Route {
        Route { link, gateway: Some(gateway.parse().unwrap()), metric }
    }

    /// Ethernet and a modem, both with a default route.
    fn two_uplinks() -> (Vec<Link>, Vec<Address>, Vec<Route>) {
        (
            vec![link(1, "lo"), link(2, "eth0"), link(3, "wwan0")],
            vec![address(1, "127.0.0.1"), address(2, "192.168.1.5"), address(3, "10.64.0.9")],
            vec![route(2, "192.168.1.1", 100), route(3, "10.64.0.1", 700)],
        )
    }

    fn wanted(interfaces: &[&str], exclude: &[&str]) -> Network {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Network {
            interfaces: owned(interfaces),
            exclude: owned(exclude),
            redundancy: crate::config::Redundancy::Off,
            suspect_after: std::time::Duration::from_millis(400),
            agent: crate::config::IceAgent::Roaming,
        }
    }

    fn any() -> Network {
        wanted(&[], &[])
    }

    fn snapshot((links, addresses, routes): &(Vec<Link>, Vec<Address>, Vec<Route>)) -> Snapshot {
        Snapshot::new(links, addresses, routes, &any())
    }

    #[test]
    fn only_addresses_that_reach_beyond_the_link_are_a_network() {
        let cases = [
            ("eth0", "192.168.1.5", true),
            ("eth0", "2001:db8::5", true),
            ("eth0", "fd00::5", true),
            ("eth0", "169.254.3.4", false),
            ("eth0", "fe80::5", false),
            ("lo", "127.0.0.1", false),
            ("docker0", "172.17.0.1", false),
            ("veth12ab", "10.0.0.1", false),
            ("br-0f1e", "172.18.0.1", false),
            ("virbr0", "192.168.122.1", false),
            ("tun0", "10.8.0.2", false),
        ];
        for (name, ip, expected) in cases {
            let network = Snapshot::new(&[link(2, name)], &[address(2, ip)], &[], &any());
            assert_eq!(network.is_usable(), expected, "{name} {ip}");
        }
        let down = Link { is_up: false, ..link(2, "eth0") };
        assert!(!Snapshot::new(&[down], &[address(2, "192.168.1.5")], &[], &any()).is_usable());
        let tentative = Address { is_ready: false, ..address(2, "2001:db8::5") };
        assert!(!Snapshot::new(&[link(2, "eth0")], &[tentative], &[], &any()).is_usable());
    }

    #[test]
    fn a_tunnel_with_the_default_route_is_a_network() {
        let point_to_point = Route { link: 2, gateway: None, metric: 50 };
        assert!(Snapshot::new(&[link(2, "tun0")], &[address(2, "10.8.0.2")], &[point_to_point], &any()).is_usable());
    }

    #[test]
    fn the_preferred_address_comes_first() {
        let (links, mut addresses, routes) = two_uplinks();
        addresses.push(address(2, "2001:db8::5"));
        let ranked = |wanted: &Network| {
            let network = Snapshot::new(&links, &addresses, &routes, wanted);
            network.ranked().iter().map(|local| local.ip.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(ranked(&any()), ["192.168.1.5", "10.64.0.9", "2001:db8::5"], "by metric; v6 has no route");
        assert_eq!(ranked(&wanted(&["wwan0"], &[])), ["10.64.0.9", "192.168.1.5", "2001:db8::5"]);
        assert_eq!(ranked(&wanted(&["wwan0"], &["eth*"])), ["10.64.0.9"]);
        assert_eq!(ranked(&wanted(&["eth0"], &["eth0", "wwan0"])), [""; 0]);
    }

    #[test]
    fn what_the_brain_hears_of_each_change() {
        use PathEvent::{AllRoutesLost, RouteAppeared};
        type Change = fn(&mut (Vec<Link>, Vec<Address>, Vec<Route>));
        let cases: [(&str, Change, Option<PathEvent>); 9] = [
            ("nothing", |_| {}, None),
            ("the best uplink goes down", |net| net.0[1].is_up = false, Some(RouteAppeared)),
            ("the spare uplink goes down", |net| net.0[2].is_up = false, None),
            ("both go down", |net| net.0.iter_mut().for_each(|link| link.is_up = false), Some(AllRoutesLost)),
            ("all addresses go", |net| net.1.clear(), Some(AllRoutesLost)),
            ("a new address", |net| net.1.push(address(2, "192.168.1.6")), Some(RouteAppeared)),
            ("another gateway", |net| net.2[0] = route(2, "192.168.1.254", 100), Some(RouteAppeared)),
            ("the metrics are swapped", |net| net.2[1].metric = 50, Some(RouteAppeared)),
            (
                "a container starts",
                |net| {
                    net.0.push(link(9, "veth7"));
                    net.1.push(address(9, "172.17.0.1"));
                },
                None,
            ),
        ];
        for (name, change, expected) in cases {
            let mut net = two_uplinks();
            let before = snapshot(&net);
            change(&mut net);
            assert_eq!(before.diff(&snapshot(&net)), expected, "{name}");
        }
        assert_eq!(Snapshot::default().diff(&snapshot(&two_uplinks())), Some(RouteAppeared), "from nothing");
        assert_eq!(Snapshot::default().diff(&Snapshot::default()), None, "still nothing");
    }

    prop_compose! {
        fn networks()(up in proptest::prelude::any::<[bool; 3]>(), addressed in proptest::prelude::any::<[bool; 3]>(), metrics in proptest::prelude::any::<[Option<u8>; 3]>()) -> Snapshot {
            let names = ["eth0", "wwan0", "docker0"];
            let links: Vec<_> = (0..3).map(|n| Link { is_up: up[n as usize], ..link(n, names[n as usize]) }).collect();
            let addresses: Vec<_> =
                (0..3).filter(|n| addressed[*n as usize]).map(|n| address(n, &format!("10.{n}.0.2"))).collect();
            let routes: Vec<_> = (0..3u32)
                .filter_map(|n| Some(route(n, &format!("10.{n}.0.1"), metrics[n as usize]?.into())))
                .collect();
            Snapshot::new(&links, &addresses, &routes, &any())
        }
    }

    proptest! {
        #[test]
        fn lost_is_said_exactly_when_the_last_network_goes(a in networks(), b in networks()) {
            let lost = a.diff(&b) == Some(PathEvent::AllRoutesLost);
            prop_assert_eq!(lost, a.is_usable() && !b.is_usable());
            prop_assert_eq!(a.diff(&a), None);
            if !a.is_usable() && b.is_usable() {
                prop_assert_eq!(a.diff(&b), Some(PathEvent::RouteAppeared));
            }
        }
    }
}
