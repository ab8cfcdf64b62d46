//! Pure: what STUN servers see of our sockets. For the statistics alone: no candidate is signalled (see `agent.rs`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use turn_client_proto::stun::types::attribute::XorMappedAddress;
use turn_client_proto::stun::types::message::{Message, MessageClass, TransactionId};

use crate::ice::types::SocketId;

/// A question is asked so often, and so many times.
const EVERY: Duration = Duration::from_millis(500);
const TIMES: u32 = 3;

/// A Binding request without anything (RFC 8489, 14: header only). `is` would not take it, nor the plain answer: it asks
/// for a password on both.
pub(in crate::ice) fn question(id: TransactionId) -> Vec<u8> {
    let mut packet = vec![0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xA4, 0x42];
    packet.extend(u128::from(id).to_be_bytes().into_iter().skip(4));
    packet
}

struct Open {
    socket: SocketId,
    server: SocketAddr,
    packet: Vec<u8>,
    id: TransactionId,
    at: Option<Instant>,
    times: u32,
}

/// The questions that are open.
#[derive(Default)]
pub(in crate::ice) struct Mirrors {
    servers: Vec<SocketAddr>,
    sockets: BTreeMap<SocketId, bool>,
    open: Vec<Open>,
}

impl Mirrors {
    /// A server, at this address. Of each family the first that is known is asked.
    pub(in crate::ice) fn add(&mut self, server: SocketAddr) {
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
    pub(in crate::ice) fn opened(&mut self, socket: SocketId, local: SocketAddr) {
        self.sockets.insert(socket, local.is_ipv4());
        self.ask(socket, local.is_ipv4());
    }

    pub(in crate::ice) fn closed(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
        self.open.retain(|open| open.socket != socket);
    }

    /// What is to be sent now: through which socket, where to, what.
    pub(in crate::ice) fn due(&mut self, now: Instant) -> Vec<(SocketId, SocketAddr, Vec<u8>)> {
        let due = |open: &Open| open.at.is_none_or(|at| at <= now);
        self.open.retain(|open| open.times < TIMES || !due(open));
        let asked = self.open.iter_mut().filter(|open| due(open)).map(|open| {
            open.times += 1;
            open.at = Some(now + EVERY);
            (open.socket, open.server, open.packet.clone())
        });
        asked.collect()
    }

    pub(in crate::ice) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.open.iter().map(|open| open.at.unwrap_or(now)).min()
    }

    /// The answer to a question: our address as that server sees it. Anything else is not for us.
    pub(in crate::ice) fn answer(&mut self, socket: SocketId, from: SocketAddr, packet: &[u8]) -> Option<SocketAddr> {
        let message = Message::from_bytes(packet).ok().filter(|message| message.has_class(MessageClass::Success))?;
        let asked = |open: &Open| (open.socket, open.server, open.id) == (socket, from, message.transaction_id());
        let at = self.open.iter().position(asked)?;
        self.open.swap_remove(at);
        Some(message.attribute::<XorMappedAddress>().ok()?.addr(message.transaction_id()))
    }

    fn ask(&mut self, socket: SocketId, is_v4: bool) {
        let Some(server) = self.servers.iter().copied().find(|server| server.is_ipv4() == is_v4) else { return };
        let id = TransactionId::generate();
        let packet = question(id);
        self.open.push(Open { socket, server, packet, id, at: None, times: 0 });
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the beginning of a virtual time")]
mod tests {
    use is::stun::StunMessage;

    use super::*;

    /// What a server answers to this question.
    fn answer_to(question: &[u8], mapped: SocketAddr) -> Vec<u8> {
        let message = Message::from_bytes(question).unwrap();
        assert!(StunMessage::parse(question).is_err(), "`is` takes it now");
        let mut answer = vec![0x01, 0x01, 0x00, 0x0C];
        answer.extend_from_slice(&question[4..20]);
        let SocketAddr::V4(mapped) = mapped else { panic!("IPv4") };
        answer.extend([0x00, 0x20, 0x00, 0x08, 0x00, 0x01]);
        answer.extend((mapped.port() ^ 0x2112).to_be_bytes());
        answer.extend((u32::from(*mapped.ip()) ^ 0x2112_A442).to_be_bytes());
        assert_eq!(Message::from_bytes(&answer).unwrap().transaction_id(), message.transaction_id());
        answer
    }

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
        let answer = answer_to(&asked[0].2, mapped);
        let answer = answer.as_slice();
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
