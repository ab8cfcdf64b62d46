//! Pure: what STUN servers see of our sockets. For the statistics alone: no candidate is signalled (see `agent.rs`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use is::stun::{StunMessage, TransId};

use super::words::SocketId;

/// A question is asked so often, and so many times.
const EVERY: Duration = Duration::from_millis(500);
const TIMES: u32 = 3;

/// A Binding request without anything (RFC 8489, 14: header only).
pub(super) fn question(transaction: u128) -> Vec<u8> {
    let mut packet = vec![0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xA4, 0x42];
    packet.extend(transaction.to_be_bytes().into_iter().skip(4));
    packet
}

struct Open {
    socket: SocketId,
    server: SocketAddr,
    packet: Vec<u8>,
    id: TransId,
    at: Option<Instant>,
    times: u32,
}

/// The questions that are open.
#[derive(Default)]
pub(super) struct Mirrors {
    servers: Vec<SocketAddr>,
    sockets: BTreeMap<SocketId, bool>,
    open: Vec<Open>,
}

impl Mirrors {
    /// A server, at this address. Of each family the first that is known is asked.
    pub(super) fn add(&mut self, server: SocketAddr) {
        let known = self.servers.iter().any(|known| known.is_ipv4() == server.is_ipv4());
        if known {
            return;
        }
        self.servers.push(server);
        for (socket, is_v4) in self.sockets.clone() {
            self.ask(socket, is_v4);
        }
    }

    /// A socket of ours is open.
    pub(super) fn opened(&mut self, socket: SocketId, local: SocketAddr) {
        self.sockets.insert(socket, local.is_ipv4());
        self.ask(socket, local.is_ipv4());
    }

    pub(super) fn closed(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
        self.open.retain(|open| open.socket != socket);
    }

    /// What is to be sent now: through which socket, where to, what.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(SocketId, SocketAddr, Vec<u8>)> {
        let due = |open: &Open| open.at.is_none_or(|at| at <= now);
        self.open.retain(|open| open.times < TIMES || !due(open));
        let asked = self.open.iter_mut().filter(|open| due(open)).map(|open| {
            open.times += 1;
            open.at = Some(now + EVERY);
            (open.socket, open.server, open.packet.clone())
        });
        asked.collect()
    }

    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.open.iter().map(|open| open.at.unwrap_or(now)).min()
    }

    /// The answer to a question: our address as that server sees it. Anything else is not for us.
    pub(super) fn answer(&mut self, socket: SocketId, from: SocketAddr, packet: &[u8]) -> Option<SocketAddr> {
        let message = StunMessage::parse(packet).ok().filter(StunMessage::is_successful_binding_response)?;
        let asked = |open: &Open| (open.socket, open.server, open.id) == (socket, from, message.trans_id());
        let at = self.open.iter().position(asked)?;
        self.open.swap_remove(at);
        message.mapped_address()
    }

    fn ask(&mut self, socket: SocketId, is_v4: bool) {
        let Some(server) = self.servers.iter().copied().find(|server| server.is_ipv4() == is_v4) else { return };
        let packet = question(fastrand::u128(..));
        let Some(id) = StunMessage::parse(&packet).ok().map(|message| message.trans_id()) else { return };
        self.open.push(Open { socket, server, packet, id, at: None, times: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_a_stun_server_sees_is_taken_from_that_server_alone() {
        let (server, mapped): (SocketAddr, SocketAddr) =
            ("192.0.2.1:3478".parse().unwrap(), "203.0.113.9:4711".parse().unwrap());
        let now = Instant::now();
        let mut mirrors = Mirrors::default();
        mirrors.opened(SocketId(7), "10.0.0.2:1".parse().unwrap());
        mirrors.add(server);
        let asked = mirrors.due(now);
        assert_eq!((asked.len(), asked[0].0, asked[0].1), (1, SocketId(7), server));
        let id = StunMessage::parse(&asked[0].2).unwrap().trans_id();
        let mut answer = vec![0; 200];
        let length = StunMessage::binding_reply(id, mapped).to_bytes(None, &mut answer, |_, _| [0; 20]).unwrap();
        let answer = &answer[..length];
        assert_eq!(mirrors.answer(SocketId(8), server, answer), None);
        assert_eq!(mirrors.answer(SocketId(7), "192.0.2.2:3478".parse().unwrap(), answer), None);
        assert_eq!(mirrors.answer(SocketId(7), server, answer), Some(mapped));
        assert_eq!(mirrors.answer(SocketId(7), server, answer), None, "the same answer twice");
        assert_eq!(mirrors.deadline(now), None);
    }

    #[test]
    fn a_stun_server_that_is_not_there_is_asked_three_times() {
        let mut now = Instant::now();
        let mut mirrors = Mirrors::default();
        mirrors.add("192.0.2.1:3478".parse().unwrap());
        mirrors.add("192.0.2.2:3478".parse().unwrap());
        mirrors.opened(SocketId(7), "10.0.0.2:1".parse().unwrap());
        let mut asked = 0;
        while let Some(at) = mirrors.deadline(now) {
            now = at.max(now);
            asked += mirrors.due(now).len();
        }
        assert_eq!(asked, 3);
    }
}
