//! The sockets of the agent: one UDP socket for each local address that it tries, bound to the interface of that address,
//! so that what is meant for a dead interface cannot leak out of another one (Linux takes the main default route for a
//! socket whose own route is gone).

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::supervisor::event::LocalAddress;

use super::relays::Outbox;
use super::words::{Kind, Routes, SocketId};

/// Largest datagram that is read; SRTP stays below 1 500 bytes, relays add 4 - 36.
const DATAGRAM_MAX: usize = 2048;
/// A keyframe of 200 kB leaves at once, without waiting for a slow driver.
const SEND_BUFFER: usize = 1 << 20;

/// What came in.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) socket: SocketId,
    pub(super) from: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// What a wire leads to.
#[derive(Debug)]
enum End {
    Socket(UdpSocket),
    /// The task that holds the lease at a TURN server.
    Relay(Outbox),
}

/// One open socket or relay, as senders know it.
#[derive(Debug)]
pub(super) struct Wire {
    id: SocketId,
    end: End,
    sent: AtomicU64,
    /// The kernel has refused to send, and the agent has been told.
    refused: AtomicBool,
}

impl Wire {
    fn new(id: SocketId, end: End) -> Arc<Self> {
        Arc::new(Self { id, end, sent: AtomicU64::new(0), refused: AtomicBool::new(false) })
    }

    /// Sends one datagram, from any thread, without waiting. `Err`: this socket cannot send any more. What the kernel has
    /// no room for just now is lost, as it would be further on.
    pub(super) fn send(&self, packet: &[u8], to: &SockAddr) -> Result<(), SocketId> {
        let sent = match &self.end {
            End::Socket(udp) => SockRef::from(udp).send_to(packet, to),
            End::Relay(outbox) => match to.as_socket().map(|to| outbox.try_send((to, packet.to_vec()))) {
                Some(Ok(())) => Ok(packet.len()),
                Some(Err(mpsc::error::TrySendError::Closed(_))) => Err(io::ErrorKind::BrokenPipe.into()),
                Some(Err(mpsc::error::TrySendError::Full(_))) | None => Err(io::ErrorKind::WouldBlock.into()),
            },
        };
        match sent {
            Ok(length) => {
                self.sent.fetch_add(u64::try_from(length).unwrap_or(0), Ordering::Relaxed);
                Ok(())
            }
            Err(error) if is_passing(&error) => Ok(()),
            Err(_) => Err(self.id),
        }
    }
}

/// An error that says nothing about the path: a full queue, a signal, the ICMP echo of an earlier packet.
pub(super) fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, Interrupted, OutOfMemory, WouldBlock};
    const ENOBUFS: i32 = 105;
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionRefused | OutOfMemory)
        || error.raw_os_error() == Some(ENOBUFS)
}

/// All open sockets. Dropping it closes them.
pub(super) struct Sockets {
    open: HashMap<SocketId, (Arc<Wire>, Option<JoinHandle<()>>)>,
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
    pub(super) fn new(incoming: mpsc::Sender<Packet>) -> Self {
        Self { open: HashMap::new(), incoming, tos: 0 }
    }

    /// Opens a socket and gives back where it is bound.
    pub(super) fn open(&mut self, id: SocketId, address: &LocalAddress) -> io::Result<SocketAddr> {
        let udp = bind(address, self.tos)?;
        let bound = udp.local_addr()?;
        let wire = Wire::new(id, End::Socket(udp));
        let reader = tokio::spawn(read(Arc::clone(&wire), self.incoming.clone()));
        self.open.insert(id, (wire, Some(reader)));
        Ok(bound)
    }

    /// From now on packets can leave through this relay.
    pub(super) fn lent(&mut self, id: SocketId, outbox: Outbox) {
        self.open.insert(id, (Wire::new(id, End::Relay(outbox)), None));
    }

    pub(super) fn close(&mut self, id: SocketId) {
        if let Some((_, Some(reader))) = self.open.remove(&id) {
            reader.abort();
        }
    }

    pub(super) fn get(&self, id: SocketId) -> Option<&Arc<Wire>> {
        self.open.get(&id).map(|(wire, _)| wire)
    }

    /// DSCP for every socket, those that are open and those to come.
    pub(super) fn set_tos(&mut self, tos: u32) {
        self.tos = tos;
        for (wire, _) in self.open.values() {
            if let End::Socket(udp) = &wire.end {
                mark(&SockRef::from(udp), udp.local_addr().is_ok_and(|address| address.is_ipv4()), tos);
            }
        }
    }

    /// Bytes that a socket has sent.
    pub(super) fn sent(&self, id: SocketId) -> u64 {
        self.get(id).map_or(0, |wire| wire.sent.load(Ordering::Relaxed))
    }
}

pub(super) fn bind(address: &LocalAddress, tos: u32) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(SocketAddr::new(address.ip, 0));
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    // Smaller than asked for where the system allows less: then a burst may lose packets, as on any busy link.
    let _as_large_as_allowed = socket.set_send_buffer_size(SEND_BUFFER);
    pin(&socket, address);
    mark(&SockRef::from(&socket), address.ip.is_ipv4(), tos);
    socket.bind(&SocketAddr::new(address.ip, 0).into())?;
    UdpSocket::from_std(socket.into())
}

/// Binds it to the interface of this address.
pub(super) fn pin(socket: &Socket, address: &LocalAddress) {
    // A server on this machine is not heard through any interface but `lo`.
    if address.interface != "lo"
        && let Err(error) = socket.bind_device(Some(address.interface.as_bytes()))
    {
        warn!("a socket cannot be bound to `{}` ({error}): Linux 5.7 or CAP_NET_RAW is needed", address.interface);
    }
}

/// A network that does not honour the mark does not mind it either.
fn mark(socket: &SockRef<'_>, is_v4: bool, tos: u32) {
    let _without = if is_v4 { socket.set_tos_v4(tos) } else { socket.set_tclass_v6(tos) };
}

async fn read(wire: Arc<Wire>, incoming: mpsc::Sender<Packet>) {
    let End::Socket(udp) = &wire.end else { return };
    let mut buffer = [0; DATAGRAM_MAX];
    while udp.readable().await.is_ok() {
        // Else nothing is there after all, or the ICMP echo of something we sent: the agent's own checks say what works.
        if let Ok((length, from)) = udp.try_recv_from(&mut buffer) {
            let bytes = buffer.get(..length).unwrap_or_default().to_vec();
            let packet = Packet { socket: wire.id, from, bytes };
            if matches!(incoming.try_send(packet), Err(mpsc::error::TrySendError::Closed(_))) {
                return;
            }
        }
    }
}

/// Where packets of webrtcbin go just now. Shared with the threads of GStreamer that send them.
#[derive(Default)]
pub(super) struct Outgoing {
    ways: Mutex<Ways>,
}

#[derive(Default)]
struct Ways {
    selected: Option<(Arc<Wire>, SockAddr)>,
    copies: Vec<(Arc<Wire>, SockAddr)>,
}

impl Outgoing {
    /// From now on packets go this way.
    pub(super) fn set(&self, routes: &Routes, sockets: &Sockets) {
        let way = |route: &super::words::Route| Some((Arc::clone(sockets.get(route.socket)?), route.to.into()));
        let ways = Ways {
            selected: routes.selected.as_ref().and_then(way),
            copies: routes.copies.iter().filter_map(way).collect(),
        };
        *self.ways.lock().unwrap_or_else(PoisonError::into_inner) = ways;
    }

    /// Sends one packet of webrtcbin; calls `refused` once for each socket that cannot send any more. RTP alone is copied:
    /// a copy of RTCP is an error in the log of Janus, and DTLS repeats itself.
    pub(super) fn send(&self, packet: &[u8], refused: impl Fn(SocketId)) {
        let ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let copies = if Kind::of(packet) == Kind::Rtp { ways.copies.as_slice() } else { &[] };
        for (wire, to) in ways.selected.iter().chain(copies) {
            if wire.send(packet, to).is_err() && !wire.refused.swap(true, Ordering::Relaxed) {
                refused(wire.id);
            }
        }
    }
}
