//! The lookout - what the network of this machine looks like, and when it changes.
//!
//! Netlink only tells that something has changed; what, is found by reading everything again, because no message comes
//! for a default route that goes with its address.

pub mod diff;
mod netlink;

use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt, pin_mut};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::config::Network;
use crate::inbox::Inbox;
use crate::supervisor::event::{Event, LocalAddress, PathEvent};
use diff::{Address, Link, Route, Snapshot};

/// A change comes as a burst of messages: link, addresses, routes. Long enough to see the whole, short beside the
/// 200 ms in which a path switch should be over.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// While this lives, the network is watched.
#[must_use]
#[derive(Debug)]
pub struct Watch {
    addresses: watch::Receiver<Vec<LocalAddress>>,
    gateways: watch::Receiver<Vec<IpAddr>>,
    tasks: [JoinHandle<()>; 2],
}

impl Watch {
    /// The addresses that media can be sent from, preferred first, as they are now and as they will be.
    #[must_use]
    pub fn addresses(&self) -> watch::Receiver<Vec<LocalAddress>> {
        self.addresses.clone()
    }

    /// The default gateways, best first, as they are now and as they will be.
    #[must_use]
    pub fn gateways(&self) -> watch::Receiver<Vec<IpAddr>> {
        self.gateways.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Watches the network and posts each [`PathEvent`]; when this returns, a network that is missing now has been reported.
///
/// `None` where netlink is not to be had (some containers): one warning says so, and the network is taken for present.
pub async fn watch(inbox: Inbox, wanted: &Network) -> Option<Watch> {
    match open(inbox, wanted).await {
        Ok(watch) => Some(watch),
        Err(why) => {
            warn!("the network of this machine cannot be watched ({why}); it is taken for present");
            None
        }
    }
}

async fn open(inbox: Inbox, wanted: &Network) -> Result<Watch, Box<dyn Error + Send + Sync>> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, handle, messages) = new_multicast_connection(&groups)?;
    let serving = tokio::spawn(connection);
    let seen = match read(&handle, wanted).await {
        Ok(seen) => seen,
        Err(err) => {
            serving.abort();
            return Err(err.into());
        }
    };
    if !seen.is_usable() {
        inbox.post(Event::Network(PathEvent::AllRoutesLost));
    }
    let (publish, addresses) = watch::channel(seen.ranked().to_vec());
    let (publish_gateways, gateways) = watch::channel(seen.gateways());
    let lookout = Lookout { handle, wanted: wanted.clone(), publish, publish_gateways };
    let looking = tokio::spawn(look(lookout, messages, seen, inbox));
    // In the order in which they are ended: who looks must not see the connection go.
    Ok(Watch { addresses, gateways, tasks: [looking, serving] })
}

struct Lookout {
    handle: Handle,
    wanted: Network,
    publish: watch::Sender<Vec<LocalAddress>>,
    publish_gateways: watch::Sender<Vec<IpAddr>>,
}

impl Lookout {
    /// The network as it is now; sessions that are on air hear of it at once.
    async fn read(&self) -> Option<Snapshot> {
        match read(&self.handle, &self.wanted).await {
            Ok(now) => {
                self.publish.send_if_modified(|known| {
                    let is_new = known != now.ranked();
                    *known = now.ranked().to_vec();
                    is_new
                });
                self.publish_gateways.send_replace(now.gateways());
                Some(now)
            }
            Err(err) => {
                debug!("the network could not be read, the next change will tell: {err}");
                None
            }
        }
    }
}

async fn look(lookout: Lookout, messages: impl Stream, mut seen: Snapshot, inbox: Inbox) {
    pin_mut!(messages);
    while messages.next().await.is_some() {
        // Media cannot wait for the end of the burst.
        let _first_look = lookout.read().await;
        // Ends early only with the stream; then the loop ends too.
        let _the_burst = timeout(DEBOUNCE, messages.by_ref().count()).await;
        let Some(now) = lookout.read().await else { continue };
        if let Some(event) = seen.diff(&now) {
            debug!("the network has changed: {event:?}");
            inbox.post(Event::Network(event));
        }
        seen = now;
    }
    warn!("the network of this machine is not watched any more; it is taken for present");
    if !seen.is_usable() {
        inbox.post(Event::Network(PathEvent::RouteAppeared));
    }
}

async fn read(handle: &Handle, wanted: &Network) -> Result<Snapshot, rtnetlink::Error> {
    let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
    let addresses: Vec<AddressMessage> = handle.address().get().execute().try_collect().await?;
    // No address family: routes of all families.
    let routes: Vec<RouteMessage> = handle.route().get(RouteMessage::default()).execute().try_collect().await?;
    let links: Vec<Link> = links.iter().filter_map(netlink::link).collect();
    let addresses: Vec<Address> = addresses.iter().filter_map(netlink::address).collect();
    let routes: Vec<Route> = routes.iter().flat_map(netlink::default_routes).collect();
    Ok(Snapshot::new(&links, &addresses, &routes, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const IN_NAMESPACE: &str = "ROAMCAST_TEST_IN_NAMESPACE";

    /// Runs the test of this name again, in a network namespace of its own.
    #[test]
    fn the_lookout_sees_a_network_come_and_go() {
        let exe = std::env::current_exe().unwrap();
        let probe =
            Command::new("unshare").args(["-n", "ip", "link", "add", "eth7", "type", "veth", "peer", "eth8"]).output();
        if !probe.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: needs root, `unshare` and `ip` to make a network namespace: {probe:?}");
            return;
        }
        let test = "network::tests::inside_the_namespace";
        let child = Command::new("unshare")
            .arg("-n")
            .arg(exe)
            .args(["--exact", test, "--nocapture"])
            .env(IN_NAMESPACE, "1")
            .output();
        let child = child.unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        assert!(
            String::from_utf8_lossy(&child.stdout).contains("seen it all"),
            "the child test has not run: {child:?}"
        );
    }

    fn ip(line: &str) {
        let output = Command::new("ip").args(line.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    async fn next(inbox: &Inbox) -> PathEvent {
        let event = timeout(Duration::from_secs(20), inbox.next()).await.expect("an event of the lookout");
        let Event::Network(event) = event else { panic!("not of the network: {event:?}") };
        event
    }

    #[tokio::test]
    async fn inside_the_namespace() {
        if std::env::var_os(IN_NAMESPACE).is_none() {
            eprintln!("skipped: the body of `the_lookout_sees_a_network_come_and_go`, which runs it in a namespace");
            return;
        }
        ip("link add eth7 type veth peer name eth8");
        let inbox = Inbox::default();
        let watch = watch(inbox.clone(), &crate::config::load("", "", std::iter::empty()).unwrap().network)
            .await
            .expect("netlink");
        assert_eq!(next(&inbox).await, PathEvent::AllRoutesLost, "no network at the start");
        ip("link set eth8 up");
        ip("link set eth7 up");
        ip("addr add 192.0.2.5/24 dev eth7");
        assert_eq!(next(&inbox).await, PathEvent::RouteAppeared, "an address");
        ip("route add default via 192.0.2.1");
        assert_eq!(next(&inbox).await, PathEvent::RouteAppeared, "a default route");
        ip("route replace default via 192.0.2.254");
        assert_eq!(next(&inbox).await, PathEvent::RouteAppeared, "another gateway");
        ip("link set eth8 down");
        assert_eq!(next(&inbox).await, PathEvent::AllRoutesLost, "the cable is pulled");
        ip("link set eth8 up");
        assert_eq!(next(&inbox).await, PathEvent::RouteAppeared, "the cable is back");
        drop(watch);
        println!("seen it all");
    }
}
