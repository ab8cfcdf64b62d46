//! The way to a TURN server: a UDP, TCP or TLS connection from one local address, bound to the interface of that, so that
//! what is lent over it roams like any other socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use url::Host;

use crate::signal::Resolver;
use crate::supervisor::event::LocalAddress;

use super::super::wire;
use super::servers::{Server, Transport};

/// Largest piece that is read at once.
const PIECE_MAX: usize = 1 << 14;
/// Messages that wait for a slow stream: about half a second of a broadcast. What comes next is lost, as it would be in a
/// queue of the network: old media helps nobody.
const WAITING_MAX: usize = 256;
/// TCP gives up what is not acknowledged after this; other paths are looked for long before.
const TCP_PATIENCE: Duration = Duration::from_secs(4);

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub(in crate::ice) enum NoWay {
    #[error("its name does not resolve")]
    NoSuchName,
    /// Nothing to complain about: another local address may have one.
    #[error("it has no address of the family of ours")]
    OtherFamily,
    #[error(
        "a public server has named it, but it lies in our own network: name it in `uplink.iceServers` if that is meant"
    )]
    Forbidden,
    #[error("it cannot be reached: {0}")]
    Io(#[from] io::Error),
}

/// Where the server is, seen from this local address.
pub(in crate::ice) async fn resolve(server: &Server, from: IpAddr) -> Result<SocketAddr, NoWay> {
    let found = match &server.host {
        Host::Ipv4(ip) => vec![IpAddr::V4(*ip)],
        Host::Ipv6(ip) => vec![IpAddr::V6(*ip)],
        Host::Domain(name) => Resolver::system().resolve(name).await.map_err(|_| NoWay::NoSuchName)?,
    };
    let mut same = found.into_iter().filter(|ip| ip.is_ipv4() == from.is_ipv4()).peekable();
    same.peek().ok_or(NoWay::OtherFamily)?;
    let ip = same.find(|ip| server.may_be_at(*ip)).ok_or(NoWay::Forbidden)?;
    Ok(SocketAddr::new(ip, server.port))
}

pub(in crate::ice) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An open way.
pub(in crate::ice) enum Link {
    Udp(UdpSocket),
    Stream { reader: ReadHalf<Box<dyn Stream>>, waiting: Option<mpsc::Sender<Vec<u8>>>, writer: JoinHandle<()> },
}

impl Link {
    /// Connects, and says what our end is.
    pub(in crate::ice) async fn open(
        from: &LocalAddress,
        server: &Server,
        at: SocketAddr,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<(Self, SocketAddr), NoWay> {
        if server.transport == Transport::Udp {
            let udp = wire::bind(from, 0)?;
            udp.connect(at).await?;
            let local = udp.local_addr()?;
            return Ok((Self::Udp(udp), local));
        }
        let tcp = connect(from, at).await?;
        let local = tcp.local_addr()?;
        let stream: Box<dyn Stream> = match tls.filter(|_| server.transport == Transport::Tls) {
            Some(config) => Box::new(TlsConnector::from(config).connect(name(server)?, tcp).await?),
            None => Box::new(tcp),
        };
        let (reader, writer) = split(stream);
        let (waiting, messages) = mpsc::channel(WAITING_MAX);
        let writer = tokio::spawn(write(writer, messages));
        Ok((Self::Stream { reader, waiting: Some(waiting), writer }, local))
    }

    pub(in crate::ice) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream { .. })
    }

    /// Sends a whole message, without waiting. `Err`: the way is gone.
    pub(in crate::ice) fn send(&self, message: Vec<u8>) -> io::Result<()> {
        use mpsc::error::TrySendError::Closed;
        match self {
            Self::Udp(udp) => match udp.try_send(&message) {
                Err(error) if !wire::is_passing(&error) || error.kind() == io::ErrorKind::ConnectionRefused => {
                    Err(error)
                }
                Ok(_) | Err(_) => Ok(()),
            },
            Self::Stream { waiting, .. } => match waiting.as_ref().map(|waiting| waiting.try_send(message)) {
                Some(Err(Closed(_))) | None => Err(io::ErrorKind::BrokenPipe.into()),
                Some(Ok(()) | Err(_)) => Ok(()),
            },
        }
    }

    /// The next datagram, or piece of the stream. May be dropped at any time.
    pub(in crate::ice) async fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; PIECE_MAX];
        let length = match self {
            Self::Udp(udp) => udp.recv(&mut buffer).await?,
            Self::Stream { reader, .. } => match reader.read(&mut buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => length,
            },
        };
        buffer.truncate(length);
        Ok(buffer)
    }

    /// Waits until everything is written, and closes.
    pub(in crate::ice) async fn finish(mut self) {
        if let Self::Stream { waiting, writer, .. } = &mut self {
            *waiting = None;
            let _closed = writer.await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Self::Stream { writer, .. } = self {
            writer.abort();
        }
    }
}

async fn write(mut writer: WriteHalf<Box<dyn Stream>>, mut messages: mpsc::Receiver<Vec<u8>>) {
    while let Some(message) = messages.recv().await {
        if writer.write_all(&message).await.is_err() || (messages.is_empty() && writer.flush().await.is_err()) {
            return;
        }
    }
    let _closed = writer.shutdown().await;
}

fn name(server: &Server) -> io::Result<ServerName<'static>> {
    match &server.host {
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(io::Error::other),
        Host::Ipv4(ip) => Ok(ServerName::from(IpAddr::V4(*ip))),
        Host::Ipv6(ip) => Ok(ServerName::from(IpAddr::V6(*ip))),
    }
}

async fn connect(from: &LocalAddress, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    wire::pin(&socket, from);
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::new(from.ip, 0).into())?;
    let stream = TcpSocket::from_std_stream(socket.into()).connect(to).await?;
    SockRef::from(&stream).set_tcp_user_timeout(Some(TCP_PATIENCE))?;
    Ok(stream)
}
