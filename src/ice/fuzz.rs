//! Any bytes on the sockets of the agent and on its connections to a TURN server, for the fuzzer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::agent::Agent;
use super::turn::allocation::{Event, Lease};
use super::turn::servers::Servers;
use super::turn::stun::Mirrors;
use super::types::{Order, Plan, Redundancy, SocketId};
use crate::config::units::{IceServer, Secret};
use crate::rtp::packet::Kind;
use crate::supervisor::event::LocalAddress;

const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 5000);
const FAR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 3478);
/// Time between two packets.
const STEP: Duration = Duration::from_millis(70);

/// Packets that are looked at.
const PACKETS_MAX: usize = 256;

/// Feeds packets (each two bytes of length, then so many of content) to an agent, to the questions for STUN servers, and
/// to a lease over UDP and over a stream. A transaction id of all ones becomes that of what was last asked, as the far end
/// would know it. Gives back how many addresses the lease over UDP believes to have been lent.
#[must_use]
pub fn arrives(packets: &[u8]) -> usize {
    #[allow(clippy::disallowed_methods, reason = "the beginning of a virtual time")]
    let mut now = Instant::now();
    let (mut agent, mut newest) = (begin(now), SocketId(0));
    let mut mirrors = Mirrors::default();
    mirrors.opened(SocketId(0), LOCAL);
    mirrors.add(FAR);
    let server = IceServer {
        urls: vec!["turn:192.0.2.1".to_owned()],
        username: Some("u".to_owned()),
        credential: Some(Secret::new("p".to_owned())),
    };
    let servers = Servers::new(&[server], &[], false);
    let leases = servers.turn.first().map(|server| [false, true].map(|way| Lease::new(now, LOCAL, FAR, server, way)));
    let mut leases = leases.into_iter().flatten().collect::<Vec<_>>();
    let mut asked = vec![Vec::new(); leases.len()];
    let (mut lent, mut rest) = (0, packets);
    for _ in 0..PACKETS_MAX {
        let Some(([high, low], after)) = rest.split_first_chunk() else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (packet, after) = after.split_at(length);
        rest = after;
        now += STEP;
        let question = mirrors.due(now).pop().map(|(_, _, packet)| packet).unwrap_or_default();
        let _mapped = mirrors.answer(SocketId(0), FAR, &answering(packet, &question));
        hear(&mut agent, &mut newest, now, packet);
        for (index, (lease, asked)) in leases.iter_mut().zip(&mut asked).enumerate() {
            while let Some(packet) = lease.next_packet() {
                *asked = packet;
            }
            lease.receive(now, &answering(packet, asked));
            lease.send(now, FAR, packet);
            lease.timeout(now);
            let news = std::iter::from_fn(|| lease.next_event()).filter(|event| matches!(event, Event::Lent(_)));
            let count = news.count();
            lent += if index == 0 { count } else { 0 };
        }
    }
    lent
}

/// The packet, as an answer to this question if it wants to be one.
fn answering(packet: &[u8], question: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if let (Some(id), Some(asked)) = (packet.get_mut(8..20), question.get(8..20))
        && id.iter().all(|byte| *byte == u8::MAX)
    {
        id.copy_from_slice(asked);
    }
    packet
}

fn begin(now: Instant) -> Agent {
    let mut agent = Agent::new(Plan {
        redundancy: Redundancy::Handover,
        suspect_after: Duration::from_millis(500),
        relay_only: false,
        loopback: false,
    });
    agent.network(now, &[LocalAddress { interface: "wlan0".into(), ip: LOCAL.ip() }]);
    agent.local_credentials(now, "abcd", "abcdefghijklmnopqrstuvwx");
    agent.remote_credentials(now, "efgh", "efghijklmnopqrstuvwxyzab");
    let _taken = agent.remote_candidate(now, "candidate:1 1 UDP 2130706431 192.0.2.1 3478 typ host");
    agent.gather(now);
    agent
}

fn hear(agent: &mut Agent, newest_socket: &mut SocketId, now: Instant, packet: &[u8]) {
    let (mut asked, mut newest) = (Vec::new(), *newest_socket);
    while let Some(order) = agent.next_order() {
        match order {
            // Like a kernel, a port that was never used before: else the agent asks for another socket at once, for ever.
            Order::Open { socket, .. } => {
                newest = socket;
                let port = u16::try_from(socket.0 % 60_000).unwrap_or(0) + LOCAL.port();
                agent.opened(now, socket, SocketAddr::new(LOCAL.ip(), port));
            }
            Order::Send { packet, .. } => asked = packet,
            Order::Close(_) | Order::Routes(_) | Order::State(_) | Order::Gathered | Order::Moved(_) => {}
        }
    }
    *newest_socket = newest;
    match Kind::of(packet) {
        Kind::Stun => agent.stun(now, newest, FAR, &answering(packet, &asked)),
        kind @ (Kind::Dtls | Kind::Rtp | Kind::Rtcp) => agent.heard(now, newest, FAR, kind),
        Kind::ChannelData | Kind::Unknown => {}
    }
    agent.timeout(now);
}
