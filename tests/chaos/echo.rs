//! A server that tells everybody where they seem to come from, and somebody to ask it.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::BindToDevice};
use tokio::io::AsyncWriteExt;

use crate::netlab::{Netlab, SERVER, SERVER_6};
use crate::program::PATIENCE;

const PORT: u16 = 7;
/// What must not be answered is asked for that long.
const SILENCE: Duration = Duration::from_millis(400);

/// UDP and TCP, IPv4 and IPv6, at port 7 of the server; ends when dropped.
pub(crate) struct Echo {
    _runtime: tokio::runtime::Runtime,
}

impl Echo {
    pub(crate) fn start(lab: &Netlab) -> Self {
        let runtime = lab.server().runtime();
        for address in lab.server().addresses() {
            let address = SocketAddr::new(*address, PORT);
            let (udp, tcp) = lab.in_server(|| {
                let (udp, tcp) = (UdpSocket::bind(address).unwrap(), std::net::TcpListener::bind(address).unwrap());
                udp.set_nonblocking(true).unwrap();
                tcp.set_nonblocking(true).unwrap();
                (udp, tcp)
            });
            runtime.spawn(serve_udp(udp));
            runtime.spawn(serve_tcp(tcp));
        }
        Self { _runtime: runtime }
    }
}

/// Gives back as many bytes as came: the same ones, but the last for the sender's address.
async fn serve_udp(socket: UdpSocket) {
    let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let name = format!("{from:>ADDRESS$}");
        if length >= NUMBER + ADDRESS {
            buffer[length - ADDRESS..length].copy_from_slice(name.as_bytes());
        }
        // An error: the way back is down.
        let _sent = socket.send_to(&buffer[..length], from).await;
    }
}

async fn serve_tcp(listener: std::net::TcpListener) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (mut stream, from) = listener.accept().await.unwrap();
        // An error: the client is gone.
        let _sent = stream.write_all(format!("{from}").as_bytes()).await;
    }
}

/// Bytes of the number of a question, and of the address in the answer.
const NUMBER: usize = 8;
const ADDRESS: usize = 56;
/// The smallest question.
const SMALL: usize = NUMBER + ADDRESS;

/// A UDP socket of the encoder.
pub(crate) struct Asker {
    pub(crate) socket: UdpSocket,
    server: SocketAddr,
}

/// An answer of the server.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Where the server saw us.
    pub(crate) seen: SocketAddr,
    pub(crate) took: Duration,
}

impl Asker {
    /// By IPv4 through this uplink and no other.
    pub(crate) fn on(lab: &Netlab, uplink: &str) -> Self {
        Self::bound(lab, Some(uplink), "0.0.0.0".parse().unwrap())
    }

    /// The same by IPv6.
    pub(crate) fn on_6(lab: &Netlab, uplink: &str) -> Self {
        Self::bound(lab, Some(uplink), "::".parse().unwrap())
    }

    /// Bound to this address, and to no device if none is named.
    pub(crate) fn bound(lab: &Netlab, uplink: Option<&str>, address: IpAddr) -> Self {
        let socket = lab.in_encoder(|| UdpSocket::bind((address, 0)).unwrap());
        if let Some(uplink) = uplink {
            setsockopt(&socket, BindToDevice, &OsString::from(uplink)).unwrap();
        }
        let server = if address.is_ipv4() { SERVER.into() } else { SERVER_6.into() };
        Self { socket, server: SocketAddr::new(server, PORT) }
    }

    /// Sends one question of this many bytes (UDP payload) and waits so long for its answer.
    pub(crate) fn ask(&self, size: usize, wait: Duration) -> io::Result<Option<Answer>> {
        let number = self.send(size)?;
        let sent = Instant::now();
        let mut buffer = vec![0; 65_536];
        loop {
            let left = wait.saturating_sub(sent.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            match self.socket.recv(&mut buffer) {
                Ok(length) if buffer[..NUMBER] == number && length == size => {
                    let seen = String::from_utf8_lossy(&buffer[size - ADDRESS..size]).trim().parse().unwrap();
                    return Ok(Some(Answer { seen, took: sent.elapsed() }));
                }
                // The answer to an earlier question.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a question and gives back the number that its answer will begin with.
    pub(crate) fn send(&self, size: usize) -> io::Result<[u8; NUMBER]> {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut question = vec![0; size.max(SMALL)];
        question[..NUMBER].copy_from_slice(&number);
        self.socket.send_to(&question, self.server)?;
        Ok(number)
    }

    /// Asks until there is an answer.
    #[track_caller]
    pub(crate) fn answer(&self, size: usize) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        let mut said = Ok(None);
        while Instant::now() < deadline {
            said = self.ask(size, Duration::from_secs(1));
            if let Ok(Some(answer)) = said {
                return answer;
            }
        }
        panic!("{self:?} got no answer: {said:?}");
    }

    /// Where the server sees us.
    #[track_caller]
    pub(crate) fn seen(&self) -> SocketAddr {
        self.answer(SMALL).seen
    }

    /// Asks several times; nobody answers, and nobody says why: no error, no ICMP message.
    #[track_caller]
    pub(crate) fn hears_nothing(&self, size: usize) {
        for _question in 0..3 {
            let said = self.ask(size, SILENCE);
            assert!(matches!(said, Ok(None)), "{self:?} was to hear nothing: {said:?}");
        }
    }

    /// Nothing comes without a question either.
    #[track_caller]
    pub(crate) fn hears_nothing_unasked(&self) {
        self.socket.set_read_timeout(Some(SILENCE)).unwrap();
        let heard = self.socket.recv_from(&mut [0; 2048]);
        assert!(heard.is_err(), "{self:?} was to hear nothing: {heard:?}");
    }

    /// The kernel refuses to send at once: there is no way out of this device.
    #[track_caller]
    pub(crate) fn cannot_send(&self) {
        let said = self.ask(SMALL, SILENCE);
        assert!(said.is_err(), "{self:?} was to fail: {said:?}");
    }
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the socket {:?}", self.socket.local_addr())
    }
}

/// Where the server sees a TCP connection of the encoder that takes the best route.
pub(crate) fn seen_by_tcp(lab: &Netlab, server: IpAddr) -> SocketAddr {
    lab.in_encoder(|| {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(server, PORT), PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.flush().unwrap();
        let mut seen = String::new();
        stream.read_to_string(&mut seen).unwrap();
        seen.parse().unwrap()
    })
}
