//! The sockets of the agent: one UDP socket for each local address that it tries, bound to the interface of that address,
//! so that what is meant for a dead interface cannot leak out of another one (Linux takes the main default route for a
//! socket whose own route is gone).

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use socket2::{SockAddr, SockRef};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::supervisor::event::LocalAddress;

use super::history::Encore;
use crate::ice::types::{Route, Routes, SocketId};
use crate::ice::wire::{End, Outbox, Packet, Wire, bind, mark};
use crate::rtp::packet::Kind;

/// Largest datagram that is read; SRTP stays below 1 500 bytes, relays add 4 - 36.
const DATAGRAM_MAX: usize = 2048;

/// All open sockets. Dropping it closes them.
pub(in crate::ice) struct Sockets {
    open: HashMap<SocketId, (Arc<Wire>, Option<JoinHandle<()>>)>,
    /// Bytes that have left from each address in this session, by whichever of its sockets.
    sent: HashMap<LocalAddress, Arc<AtomicU64>>,
    incoming: mpsc::Sender<Packet>,
    tos: u32,
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.open.values().flat_map(|(_, reader)| reader).for_each(JoinHandle::abort);
    }
}

impl Sockets {
    /// What arrives is put into `incoming`; when that is full (a flood), what comes next is dropped.
    pub(in crate::ice) fn new(incoming: mpsc::Sender<Packet>) -> Self {
        Self { open: HashMap::new(), sent: HashMap::new(), incoming, tos: 0 }
    }

    /// Opens a socket and gives back where it is bound.
    pub(in crate::ice) fn open(&mut self, id: SocketId, address: &LocalAddress) -> io::Result<SocketAddr> {
        let udp = bind(address, self.tos)?;
        let bound = udp.local_addr()?;
        let sent = Arc::clone(self.sent.entry(address.clone()).or_default());
        let wire = Wire::new(id, End::Socket(udp), sent);
        let reader = tokio::spawn(read(Arc::clone(&wire), self.incoming.clone()));
        self.open.insert(id, (wire, Some(reader)));
        Ok(bound)
    }

    /// From now on packets can leave through this relay.
    pub(in crate::ice) fn lent(&mut self, id: SocketId, outbox: Outbox) {
        self.open.insert(id, (Wire::new(id, End::Relay(outbox), Arc::default()), None));
    }

    pub(in crate::ice) fn close(&mut self, id: SocketId) {
        if let Some((_, Some(reader))) = self.open.remove(&id) {
            reader.abort();
        }
    }

    pub(in crate::ice) fn get(&self, id: SocketId) -> Option<&Arc<Wire>> {
        self.open.get(&id).map(|(wire, _)| wire)
    }

    /// DSCP for every socket, those that are open and those to come.
    pub(in crate::ice) fn set_tos(&mut self, tos: u32) {
        self.tos = tos;
        for (wire, _) in self.open.values() {
            if let End::Socket(udp) = &wire.end {
                mark(&SockRef::from(udp), udp.local_addr().is_ok_and(|address| address.is_ipv4()), tos);
            }
        }
    }

    /// Bytes that have left from this address in this session.
    pub(in crate::ice) fn sent(&self, address: &LocalAddress) -> u64 {
        self.sent.get(address).map_or(0, |sent| sent.load(Ordering::Relaxed))
    }
}

async fn read(wire: Arc<Wire>, incoming: mpsc::Sender<Packet>) {
    let End::Socket(udp) = &wire.end else { return };
    let mut buffer = [0; DATAGRAM_MAX];
    while udp.readable().await.is_ok() {
        // Otherwise nothing is there after all, or the ICMP echo of something we sent: the agent's own checks say what works.
        let Ok((length, from)) = udp.try_recv_from(&mut buffer) else { continue };
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        let packet = Packet { socket: wire.id, from, bytes };
        if matches!(incoming.try_send(packet), Err(mpsc::error::TrySendError::Closed(_))) {
            return;
        }
    }
}

/// Where packets of webrtcbin go just now. Shared with the threads of GStreamer that send them.
#[derive(Default)]
pub(in crate::ice) struct Outgoing {
    ways: Mutex<Ways>,
    /// RTP packets so far, each once.
    media: AtomicU64,
}

/// One of the ways out.
#[derive(Debug, Clone)]
struct Way {
    wire: Arc<Wire>,
    to: SockAddr,
}

impl Way {
    fn of(route: &Route, sockets: &Sockets) -> Option<Self> {
        Some(Self { wire: Arc::clone(sockets.get(route.socket)?), to: route.to.into() })
    }

    fn is(&self, other: &Self) -> bool {
        self.wire.id == other.wire.id && self.to == other.to
    }

    /// Calls `refused` once for a socket that cannot send any more.
    fn send(&self, packet: &[u8], refused: impl Fn(SocketId)) {
        if self.wire.send(packet, &self.to).is_err() && !self.wire.refused.swap(true, Ordering::Relaxed) {
            refused(self.wire.id);
        }
    }
}

#[derive(Default)]
struct Ways {
    selected: Option<Way>,
    copies: Vec<Way>,
    encore: Encore,
    /// Where the encore goes.
    again: Option<Way>,
}

impl Ways {
    /// The encore goes on, though its way may be replaced by another one of the same path.
    fn redirect_encore(&mut self) {
        let named = |again: &Way| self.selected.iter().chain(&self.copies).any(|way| way.is(again));
        if !self.again.as_ref().is_some_and(named) {
            self.again = self.selected.clone();
        }
        if self.again.is_none() {
            self.encore.stop();
        }
    }
}

impl Outgoing {
    /// From now on packets go this way. False: what the far end has missed is not there any more.
    pub(in crate::ice) fn set(&self, now: Instant, routes: &Routes, sockets: &Sockets) -> bool {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        ways.selected = routes.selected.and_then(|route| Way::of(&route, sockets));
        ways.copies = routes.copies.iter().filter_map(|route| Way::of(route, sockets)).collect();
        let Some(again) = &routes.again else {
            ways.redirect_encore();
            return true;
        };
        ways.again = Way::of(&again.to, sockets);
        ways.encore.begin(now, again.since)
    }

    /// RTP packets since the call before.
    pub(in crate::ice) fn take_media(&self) -> u64 {
        self.media.swap(0, Ordering::Relaxed)
    }

    /// Sends one packet of webrtcbin; calls `refused` once for each socket that cannot send any more. RTP alone is copied:
    /// a copy of RTCP is an error in the log of Janus, and DTLS repeats itself.
    pub(in crate::ice) fn send(&self, now: Instant, packet: &[u8], refused: impl Fn(SocketId)) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let is_media = Kind::of(packet) == Kind::Rtp;
        self.media.fetch_add(u64::from(is_media), Ordering::Relaxed);
        let waits = is_media && ways.encore.left(now, packet);
        let copies = if is_media { ways.copies.as_slice() } else { &[] };
        for way in ways.selected.iter().chain(copies) {
            if !waits || !ways.again.as_ref().is_some_and(|again| again.is(way)) {
                way.send(packet, &refused);
            }
        }
    }

    /// When [`Outgoing::go_on`] is to be called.
    pub(in crate::ice) fn deadline(&self) -> Option<Instant> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner).encore.deadline()
    }

    /// Sends what is due once more.
    pub(in crate::ice) fn go_on(&self, now: Instant, refused: impl Fn(SocketId)) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(packet) = ways.encore.due(now) {
            if let Some(again) = &ways.again {
                again.send(&packet, &refused);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ice::clock::now;
    use crate::ice::types::Again;

    const MEDIA: [u8; 2] = [0x80, 96];

    fn far_end() -> (std::net::UdpSocket, SocketAddr) {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("a deadline");
        let address = socket.local_addr().expect("an address");
        (socket, address)
    }

    fn heard(far: &std::net::UdpSocket, count: usize) -> Vec<u8> {
        let mut packet = [0; 16];
        let mut next = || {
            let length = far.recv(&mut packet).expect("a packet");
            packet[length - 1]
        };
        (0..count).map(|_| next()).collect()
    }

    #[tokio::test]
    async fn a_path_that_helps_gets_the_old_packets_before_the_new_ones() {
        let lo = LocalAddress { interface: "lo".to_owned(), ip: std::net::Ipv4Addr::LOCALHOST.into() };
        let (incoming, _packets) = mpsc::channel(1);
        let (mut sockets, outgoing) = (Sockets::new(incoming), Outgoing::default());
        let ((dead, dead_at), (_, good_at), (better, better_at)) = (far_end(), far_end(), far_end());
        let route = |number, to| Route { socket: SocketId(number), to };
        let (old, new, fresh) = (route(1, dead_at), route(2, good_at), route(3, better_at));
        for route in [old, new, fresh] {
            sockets.open(route.socket, &lo).expect("a socket");
        }
        let send = |number: u8| outgoing.send(now(), &[&MEDIA[..], &[number]].concat(), |socket| panic!("{socket:?}"));
        assert!(outgoing.set(now(), &Routes { selected: Some(old), copies: vec![], again: None }, &sockets));
        let since = now();
        (0..5).for_each(send);
        let again = Some(Again { to: new, since });
        assert!(outgoing.set(now(), &Routes { selected: Some(old), copies: vec![new], again }, &sockets));
        (5..7).for_each(send);
        outgoing.send(now(), &[0x80, 200, 99], |socket| panic!("{socket:?}"));
        // A fresh socket takes the place of that route: what waits goes on there.
        assert!(outgoing.set(now(), &Routes { selected: Some(fresh), copies: vec![], again: None }, &sockets));
        send(7);
        assert!(outgoing.deadline().is_some_and(|at| at <= now()));
        outgoing.go_on(now(), |socket| panic!("{socket:?}"));
        assert_eq!(outgoing.deadline(), None);
        send(8);
        assert_eq!(heard(&better, 9), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(heard(&dead, 8), [0, 1, 2, 3, 4, 5, 6, 99], "RTCP is not copied");
    }
}
