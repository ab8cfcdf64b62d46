//! Pure: messages of rtnetlink(7) -> our own few words.
#![allow(clippy::wildcard_enum_match_arm, reason = "the attribute enums of netlink-packet-route are open-ended")]

use std::net::IpAddr;

use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};

use super::diff::{Address, Link, Route};

pub(super) fn link(message: &LinkMessage) -> Option<Link> {
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let flags = message.header.flags;
    Some(Link {
        index: message.header.index,
        name,
        is_up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
        is_loopback: flags.contains(LinkFlags::Loopback),
    })
}

pub(super) fn address(message: &AddressMessage) -> Option<Address> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    // On point-to-point links `Address` is the far end's and `Local` ours.
    let ours = find(|attribute| if let AddressAttribute::Local(ip) = attribute { Some(*ip) } else { None });
    let ip = ours
        .or_else(|| find(|attribute| if let AddressAttribute::Address(ip) = attribute { Some(*ip) } else { None }))?;
    let unusable = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
    let is_ready = message.header.scope == AddressScope::Universe && !message.header.flags.intersects(unusable);
    Some(Address { link: message.header.index, ip, is_ready })
}

/// The default routes in one message of the main table: one, or one for each next hop.
pub(super) fn default_routes(message: &RouteMessage) -> Vec<Route> {
    let header = &message.header;
    if header.destination_prefix_length != 0
        || header.table != RouteHeader::RT_TABLE_MAIN
        || header.kind != RouteType::Unicast
    {
        return Vec::new();
    }
    let metric = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    let metric = metric.unwrap_or(0);
    let hops = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    match hops {
        Some(hops) => hops
            .iter()
            .map(|hop| Route { link: hop.interface_index, gateway: gateway(&hop.attributes), metric })
            .collect(),
        None => {
            let oif = message.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            });
            oif.map(|link| Route { link, gateway: gateway(&message.attributes), metric }).into_iter().collect()
        }
    }
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(ip)) => Some((*ip).into()),
        RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => Some((*ip).into()),
        _ => None,
    })
}
