//! What a datagram leaves through: a UDP socket of one address, or the task of a relay.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tracing::warn;

use super::types::SocketId;
use crate::supervisor::event::LocalAddress;

/// A keyframe of 200 kB leaves at once, without waiting for a slow driver.
const SEND_BUFFER: usize = 1 << 20;

/// What came in.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) socket: SocketId,
    pub(super) from: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// Where packets for a relay are put: to whom, and what.
pub(super) type Outbox = mpsc::Sender<(SocketAddr, Vec<u8>)>;

/// What a wire leads to.
#[derive(Debug)]
pub(super) enum End {
    Socket(UdpSocket),
    /// The task that holds the lease at a TURN server.
    Relay(Outbox),
}

/// One open socket or relay, as senders know it.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) id: SocketId,
    pub(super) end: End,
    pub(super) sent: Arc<AtomicU64>,
    /// The kernel has refused to send, and the agent has been told.
    pub(super) refused: AtomicBool,
}

impl Wire {
    pub(super) fn new(id: SocketId, end: End, sent: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self { id, end, sent, refused: AtomicBool::new(false) })
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
pub(super) fn mark(socket: &SockRef<'_>, is_v4: bool, tos: u32) {
    let _without = if is_v4 { socket.set_tos_v4(tos) } else { socket.set_tclass_v6(tos) };
}
