//! Pure: one lease - an address that a TURN server lends us, from the first request to its end.
//!
//! Allocation, permissions, channels, their refreshing, long-term credentials and stale nonces are the work of
//! `turn-client-proto`. Always by its UDP client: its TCP client (0.7) neither writes nor expects the padding behind
//! ChannelData (RFC 8656, 12.5), which coturn does; so streams are framed here. What it does not tell, it is watched for:
//! why a server refuses, and whether the server is still there at all (a dead one would be noticed at the next refresh,
//! minutes later).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use is::stun::StunMessage;
use turn_client_proto::api::{Transmit, TurnClientApi, TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet};
use turn_client_proto::prelude::DelayedTransmitBuild;
use turn_client_proto::stun::types::message::TransactionId;
use turn_client_proto::types::{AddressFamily, Instant as TurnInstant, TransportType, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;

use super::servers::Server;

#[cfg(test)]
mod tests;

/// A request over UDP is repeated after this, then after twice that, so many times, and is given up 1 s after the last:
/// a server that is not there is known in 2.5 s.
const RTO: Duration = Duration::from_millis(250);
const SENDS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(1);
/// Over a stream nothing is repeated.
const PATIENCE_STREAM: Duration = Duration::from_secs(4);
/// A server that has been silent for so long, though we send, is asked whether it is there.
const SILENCE: Duration = Duration::from_millis(1_000);
/// It is asked so often, and so many questions without an answer are its end.
const QUESTION_EVERY: Duration = Duration::from_millis(400);
const QUESTIONS_MAX: u32 = 4;
/// A permission that was refused is not asked for again before.
const REFUSED_FOR: Duration = Duration::from_secs(2);
/// Addresses of the far end that are served.
const PEERS_MAX: usize = 32;
/// A request that is answered with 401 more often than this has the wrong password: once is the rule.
const UNAUTHORIZED_MAX: u32 = 1;
const UNAUTHORIZED: u16 = 401;
/// Largest message of a stream: its length is a 16 bit number.
const BUFFER_MAX: usize = 1 << 17;

/// Why a lease has ended, or was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ice) enum End {
    /// The server does not take the user name or the password.
    Unauthorized,
    /// It has given this STUN error.
    Refused(u16),
    /// It does not answer.
    Silent,
    /// The lease is over.
    Expired,
}

/// What has happened to a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ice) enum Event {
    /// The server lends us this address.
    Lent(SocketAddr),
    /// The far end has sent this to it.
    Packet { to: SocketAddr, from: SocketAddr, bytes: Vec<u8> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// A permission was asked for.
    Asked,
    /// Packets pass.
    Open,
    /// It was refused; not again before.
    Refused(Instant),
}

/// See the head of the file. After every input ask [`Lease::next_packet`] and [`Lease::next_event`] until `None`, then
/// [`Lease::deadline`].
pub(in crate::ice) struct Lease {
    client: TurnClientUdp,
    begin: Instant,
    local: SocketAddr,
    server: SocketAddr,
    framer: Option<Framer>,
    lent: BTreeSet<SocketAddr>,
    peers: BTreeMap<SocketAddr, Peer>,
    /// Of requests in a row.
    unauthorized: u32,
    last_error: Option<u16>,
    heard: Instant,
    asked: Option<Instant>,
    questions: u32,
    /// Something left since the server was last heard.
    waiting_since: Option<Instant>,
    packets: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    ended: Option<End>,
}

impl Lease {
    /// From our socket at `local` to this server at this address. `is_stream`: over TCP or TLS.
    pub(in crate::ice) fn new(
        now: Instant,
        local: SocketAddr,
        at: SocketAddr,
        server: &Server,
        is_stream: bool,
    ) -> Self {
        let credentials = TurnCredentials::new(&server.username, server.password.expose());
        let mut config = TurnConfig::new(credentials);
        if local.is_ipv6() {
            // A network without IPv4 has to reach servers that know nothing else.
            config.add_address_family(AddressFamily::IPV6);
        }
        match is_stream {
            true => config.set_request_retransmits(PATIENCE_STREAM, PATIENCE_STREAM, 1, PATIENCE_STREAM),
            false => config.set_request_retransmits(RTO, Duration::MAX, SENDS, PATIENCE),
        }
        let mut lease = Self {
            client: TurnClientUdp::allocate(local, at, config),
            begin: now,
            local,
            server: at,
            framer: is_stream.then(Framer::default),
            lent: BTreeSet::new(),
            peers: BTreeMap::new(),
            unauthorized: 0,
            last_error: None,
            heard: now,
            asked: None,
            questions: 0,
            waiting_since: None,
            packets: VecDeque::new(),
            events: VecDeque::new(),
            ended: None,
        };
        lease.settle(now);
        lease
    }

    /// Bytes have come from the server: a datagram, or a piece of the stream.
    pub(in crate::ice) fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let Some(mut framer) = self.framer.take() else {
            self.take_in(now, bytes);
            return self.settle(now);
        };
        framer.push(bytes);
        while let Some(message) = framer.next() {
            self.take_in(now, &message);
        }
        if framer.is_broken() {
            self.ended.get_or_insert(End::Expired);
        }
        self.framer = Some(framer);
        self.settle(now);
    }

    /// Sends a packet to the far end; it is lost while the server has not agreed to pass on what goes there.
    pub(in crate::ice) fn send(&mut self, now: Instant, to: SocketAddr, packet: &[u8]) {
        match self.peers.get(&to) {
            Some(Peer::Open) => self.pass_on(now, to, packet),
            Some(Peer::Asked) => {}
            Some(Peer::Refused(until)) if now < *until => {}
            None if self.peers.len() >= PEERS_MAX => {}
            Some(Peer::Refused(_)) | None => self.open(now, to),
        }
        self.settle(now);
    }

    /// Gives the address back: what is to be sent then is all.
    pub(in crate::ice) fn give_back(&mut self, now: Instant) {
        if !self.lent.is_empty() && self.client.delete(since(self.begin, now)).is_ok() {
            self.settle(now);
        }
    }

    pub(in crate::ice) fn timeout(&mut self, now: Instant) {
        self.settle(now);
    }

    /// For the server, whole messages.
    pub(in crate::ice) fn next_packet(&mut self) -> Option<Vec<u8>> {
        self.packets.pop_front()
    }

    pub(in crate::ice) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The lease is over, and why.
    pub(in crate::ice) fn ended(&self) -> Option<End> {
        self.ended
    }

    /// When [`Lease::timeout`] is to be called.
    pub(in crate::ice) fn deadline(&mut self, now: Instant) -> Instant {
        let client = match self.client.poll(since(self.begin, now)) {
            TurnPollRet::WaitUntil(at) => now + at.saturating_duration_since(since(self.begin, now)),
            TurnPollRet::Closed | TurnPollRet::AllocateTcpSocket { .. } | TurnPollRet::TcpClose { .. } => now + SILENCE,
        };
        let question = self.waiting_since.map(|since| self.asked.map_or(since + SILENCE, |at| at + QUESTION_EVERY));
        question.map_or(client, |at| at.min(client))
    }

    fn take_in(&mut self, now: Instant, message: &[u8]) {
        self.heard = now;
        (self.waiting_since, self.asked, self.questions) = (None, None, 0);
        if let Ok(message) = StunMessage::parse(message) {
            self.note_error(&message);
        }
        let transmit = Transmit::new(message.to_vec(), TransportType::Udp, self.server, self.local);
        if let TurnRecvRet::PeerData(data) = self.client.recv(transmit, since(self.begin, now)) {
            let (from, bytes) = (data.peer, data.data().to_vec());
            let to = self.lent.iter().find(|lent| lent.is_ipv4() == from.is_ipv4());
            self.events.extend(to.map(|to| Event::Packet { to: *to, from, bytes }));
        }
    }

    fn note_error(&mut self, message: &StunMessage<'_>) {
        match message.error_code() {
            Some((UNAUTHORIZED, _)) => self.unauthorized += 1,
            Some((code, _)) => self.last_error = Some(code),
            None => self.unauthorized = 0,
        }
        if self.unauthorized > UNAUTHORIZED_MAX {
            self.ended.get_or_insert(End::Unauthorized);
        }
    }

    fn open(&mut self, now: Instant, to: SocketAddr) {
        use turn_client_proto::api::CreatePermissionError::AlreadyExists;
        let state = match self.client.create_permission(TransportType::Udp, to.ip(), since(self.begin, now)) {
            Ok(()) => Peer::Asked,
            // Another port of the same host.
            Err(AlreadyExists) if self.client.have_permission(TransportType::Udp, to.ip()) => {
                let _without_a_channel = self.client.bind_channel(TransportType::Udp, to, since(self.begin, now));
                Peer::Open
            }
            Err(AlreadyExists) => Peer::Asked,
            Err(_) => Peer::Refused(now + REFUSED_FOR),
        };
        self.peers.insert(to, state);
    }

    /// As ChannelData where a channel is bound, else as a Send indication.
    fn pass_on(&mut self, now: Instant, to: SocketAddr, packet: &[u8]) {
        match self.client.send_to(TransportType::Udp, to, packet, since(self.begin, now)) {
            Ok(Some(transmit)) => {
                let bytes = transmit.data.build();
                self.put(now, bytes);
            }
            Ok(None) => {}
            // The permission has run out, or was not renewed.
            Err(_) => {
                self.peers.remove(&to);
            }
        }
    }

    fn put(&mut self, now: Instant, mut bytes: Vec<u8>) {
        if self.framer.is_some() {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        self.waiting_since.get_or_insert(now);
        self.packets.push_back(bytes);
    }

    fn settle(&mut self, now: Instant) {
        let is_closed = matches!(self.client.poll(since(self.begin, now)), TurnPollRet::Closed);
        while let Some(transmit) = self.client.poll_transmit(since(self.begin, now)) {
            let bytes = transmit.data.to_vec();
            self.put(now, bytes);
        }
        while let Some(event) = self.client.poll_event() {
            self.hear(now, &event);
        }
        let still_lent = self.client.relayed_addresses().count() > 0;
        if is_closed || (!self.lent.is_empty() && !still_lent) {
            let why = if self.lent.is_empty() { End::Silent } else { End::Expired };
            self.ended.get_or_insert(self.last_error.map_or(why, End::Refused));
        }
        self.ask(now);
    }

    fn hear(&mut self, now: Instant, event: &TurnEvent) {
        match event {
            TurnEvent::AllocationCreated(_, address) => {
                self.last_error = None;
                if self.lent.insert(*address) {
                    self.events.push_back(Event::Lent(*address));
                }
            }
            TurnEvent::PermissionCreated(_, ip) => {
                let asked = self.peers.iter_mut().filter(|(to, state)| to.ip() == *ip && **state == Peer::Asked);
                for (to, state) in asked {
                    *state = Peer::Open;
                    let _without_a_channel = self.client.bind_channel(TransportType::Udp, *to, since(self.begin, now));
                }
            }
            TurnEvent::PermissionCreateFailed(_, ip) => {
                let refused = self.peers.iter_mut().filter(|(to, _)| to.ip() == *ip);
                refused.for_each(|(_, state)| *state = Peer::Refused(now + REFUSED_FOR));
            }
            // Of two families one is enough. Of none: the client is closed. Without a channel packets are a bit longer.
            TurnEvent::AllocationCreateFailed(_)
            | TurnEvent::ChannelCreated(..)
            | TurnEvent::ChannelCreateFailed(..)
            | TurnEvent::TcpConnected(_)
            | TurnEvent::TcpConnectFailed(_) => {}
        }
    }

    /// Is the server still there? Every one answers a plain Binding request.
    fn ask(&mut self, now: Instant) {
        let Some(since) = self.waiting_since.filter(|_| !self.lent.is_empty()) else { return };
        let due = self.asked.map_or(since + SILENCE, |at| at + QUESTION_EVERY);
        if now < due {
            return;
        }
        if self.questions >= QUESTIONS_MAX {
            self.ended.get_or_insert(End::Silent);
            return;
        }
        self.questions += 1;
        self.asked = Some(now);
        self.packets.push_back(super::stun::question(TransactionId::generate()));
    }
}

/// The client's own kind of time: since the beginning of the lease.
fn since(begin: Instant, now: Instant) -> TurnInstant {
    let nanos = now.saturating_duration_since(begin).as_nanos();
    TurnInstant::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

/// Takes the messages out of a stream (RFC 8656, 12.5 and 12.6).
#[derive(Debug, Default)]
struct Framer {
    buffer: Vec<u8>,
    broken: bool,
}

impl Framer {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.broken |= self.buffer.len() > BUFFER_MAX;
    }

    /// The next whole message, without the padding of ChannelData.
    fn next(&mut self) -> Option<Vec<u8>> {
        let (kind, length) = match *self.buffer.get(..4)? {
            [kind, _, high, low] => (kind, usize::from(u16::from_be_bytes([high, low]))),
            _ => return None,
        };
        let (message, whole) = match kind {
            0..=3 => (20 + length, 20 + length),
            64..=79 => (4 + length, (4 + length).next_multiple_of(4)),
            // Neither: where the next message begins nobody knows.
            _ => {
                self.broken = true;
                return None;
            }
        };
        let rest = self.buffer.len().checked_sub(whole)?;
        let mut bytes = std::mem::take(&mut self.buffer);
        self.buffer = bytes.split_off(bytes.len() - rest);
        bytes.truncate(message);
        Some(bytes)
    }

    fn is_broken(&self) -> bool {
        self.broken
    }
}
