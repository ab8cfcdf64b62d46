//! Candidates of the far end whose address is a name (RFC 8839, section 5.1): the names are looked up, within limits, and the
//! session goes on meanwhile.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tracing::{debug, info};

use crate::sdp::{Candidate, CandidateHost, Reach};
use crate::signal::Resolver;

use super::mdns;

/// Names that are looked up at a time; a server has one or two, and a hostile one must not make us flood a resolver.
const NAMES_MAX: usize = 8;
/// Addresses of one name that become candidates.
const ADDRESSES_MAX: usize = 8;
/// RFC 6762, section 3.
const MDNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251)), 5353);
/// RFC 6762, section 5.2: the second question comes a second after the first.
const MDNS_PATIENCE: Duration = Duration::from_secs(1);
const MDNS_QUESTIONS: u32 = 3;
/// Links that are asked; a machine has a few.
const MDNS_LINKS_MAX: usize = 8;
/// More than any answer of multicast DNS has (RFC 6762, section 17).
const MDNS_BYTES_MAX: usize = 9_000;

/// Looks up the names of one session.
pub(super) struct Names {
    places: Arc<Semaphore>,
    found: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
}

impl Names {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(NAMES_MAX)), found: mpsc::unbounded_channel() }
    }

    /// Takes a candidate whose address is a name. False: it is another one. `own`: addresses of this machine.
    pub(super) fn take(&self, text: &str, own: impl Iterator<Item = IpAddr>) -> bool {
        let Ok(candidate) = Candidate::parse(text) else { return false };
        let CandidateHost::Name(name) = candidate.host else { return false };
        if candidate.reach() != Reach::Udp {
            return true;
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            info!("the candidate at `{name}` is left out: too many names are being looked up already");
            return true;
        };
        let links: Vec<Ipv4Addr> = own.filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None }).collect();
        let (name, text, found) = (name.to_owned(), text.to_owned(), self.found.0.clone());
        tokio::spawn(async move {
            let addresses = look_up(&name, &links).await;
            drop(place);
            if addresses.is_empty() {
                info!("the candidate at `{name}` is left out: the name does not resolve");
            }
            let Ok(candidate) = Candidate::parse(&text) else { return };
            for ip in addresses.into_iter().take(ADDRESSES_MAX) {
                let _session_over = found.send(candidate.at(ip));
            }
        });
        true
    }

    /// The next candidate whose name has been found. May be dropped at any time.
    pub(super) async fn next(&mut self) -> Option<String> {
        self.found.1.recv().await
    }
}

/// By the resolver of this system and, in `.local`, by asking the links as well: whichever knows it first.
async fn look_up(name: &str, links: &[Ipv4Addr]) -> Vec<IpAddr> {
    let system = async { Resolver::system().resolve(name).await.unwrap_or_default() };
    let is_local = name.trim_end_matches('.').rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("local"));
    if !is_local {
        return system.await;
    }
    let multicast = ask_links(name, links, MDNS);
    tokio::pin!(system, multicast);
    tokio::select! {
        known = &mut system => if known.is_empty() { multicast.await } else { known },
        heard = &mut multicast => if heard.is_empty() { system.await } else { heard },
    }
}

/// Asks on each link at the same time. (Linux sends multicast by the interface that owns the address of the socket.)
async fn ask_links(name: &str, links: &[Ipv4Addr], at: SocketAddr) -> Vec<IpAddr> {
    let Some(question) = mdns::question(name) else { return Vec::new() };
    let asking = links.iter().take(MDNS_LINKS_MAX).map(|link| ask_link(name, *link, at, &question));
    let mut heard: Vec<IpAddr> = futures_util::future::join_all(asking).await.concat();
    // One of the host's own link is of no use without the interface, which a candidate cannot name.
    heard.retain(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
    heard
}

async fn ask_link(name: &str, link: Ipv4Addr, at: SocketAddr, question: &[u8]) -> Vec<IpAddr> {
    let asking = async {
        let socket = UdpSocket::bind((link, 0)).await?;
        for _question in 0..MDNS_QUESTIONS {
            socket.send_to(question, at).await?;
            let listening = async {
                let mut packet = vec![0; MDNS_BYTES_MAX];
                loop {
                    let (length, _from) = socket.recv_from(&mut packet).await?;
                    let heard = mdns::addresses(packet.get(..length).unwrap_or_default(), name);
                    if !heard.is_empty() {
                        return Ok::<_, std::io::Error>(heard);
                    }
                }
            };
            if let Ok(heard) = timeout(MDNS_PATIENCE, listening).await {
                return heard;
            }
        }
        Ok(Vec::new())
    };
    asking.await.unwrap_or_else(|error| {
        debug!("multicast DNS cannot be asked from {link}: {error}");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_becomes_candidates_at_its_addresses() {
        let mut names = Names::new();
        assert!(!names.take("candidate:1 1 udp 1 192.0.2.1 9 typ host", std::iter::empty()), "that is an address");
        assert!(!names.take("", std::iter::empty()), "that is the end of candidates");
        assert!(names.take("candidate:1 1 tcp 1 localhost 9 typ host", std::iter::empty()), "nobody speaks TCP");
        assert!(names.take("candidate:1 1 udp 7 localhost 9 typ host", std::iter::empty()));
        let found = timeout(Duration::from_secs(5), names.next()).await.unwrap().unwrap();
        assert!(
            ["127.0.0.1", "::1"].iter().any(|ip| found == format!("candidate:1 1 udp 7 {ip} 9 typ host")),
            "{found}"
        );
    }

    #[tokio::test]
    async fn the_links_are_asked_until_somebody_knows_the_name() {
        let host = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = host.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let mut question = [0; 512];
            // The first question gets lost.
            for _question in 0..2 {
                let (length, from) = host.recv_from(&mut question).await.unwrap();
                let other = mdns::answer(&question[..length], "other.local", [192, 0, 2, 8]);
                host.send_to(&other, from).await.unwrap();
                host.send_to(b"\0\0\x84\0\0\0\xff\xff", from).await.unwrap();
            }
            let (length, from) = host.recv_from(&mut question).await.unwrap();
            host.send_to(&mdns::answer(&question[..length], "box.local", [192, 0, 2, 7]), from).await.unwrap();
        });
        let heard = ask_links("box.local", &[Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 0, 2, 99)], at).await;
        assert_eq!(heard, [IpAddr::from([192, 0, 2, 7])]);
        answering.await.unwrap();
    }
}
