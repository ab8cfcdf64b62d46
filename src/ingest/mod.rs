//! The house across the street: the embedded ingest server. Shares nothing with the encoder but `signal::*_text`.
//!
//! WHIP (RFC 9725) and roamcast signalling in, WHEP out to any number of browsers, a viewer page, all on str0m: another WebRTC stack than the encoder's.
//!
//! ```text
//!  HTTP: http.rs, events.rs, page.rs --Request--> media.rs (one task, one UDP socket)
//!  WebSocket: signalling.rs (faults.rs) --Request-->|  sessions.rs   who holds which session of roamcast signalling
//!                       ^                           |  peer.rs       one str0m connection
//!                       |                           |  handshake.rs  has DTLS send again what was lost
//!                       '--------- Board -----------'  broadcast.rs  who publishes, who watches, what viewers are told
//!                                                      pulse.rs      does the loop still turn?
//!                                                      room.rs       how many may be here
//!                                                      offer.rs      may str0m see this offer?
//!                                                      contained.rs  str0m's panics, each at the cost of one connection
//!                                                      slots.rs      who comes back when, should this server be lost
//!                                                      timeline.rs   RTP time and wall clocks for viewers
//!  addresses.rs: where we are reached
//!  tls.rs: its certificate, the listener             tally.rs      frames, packets and holes of a publisher
//! ```

pub mod addresses;
mod broadcast;
mod contained;
mod faults;
mod handshake;
mod http;
mod media;
pub mod offer;
mod outage;
mod peer;
mod pulse;
mod refusal;
pub mod rehearsal;
mod room;
pub mod sdp;
mod server;
mod slots;
mod tally;
mod timeline;
pub mod tls;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::server::host::Hosts;
use addresses::MediaAddress;

/// How the server is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where HTTP listens; port 0 takes any. Media uses the same IP address, unless that is loopback and others come all the
    /// same, by a proxy on this machine: see [`Options::media_everywhere`].
    pub listen: SocketAddr,
    /// The UDP port of all media; 0 takes any.
    pub media_port: u16,
    /// Addresses besides those of this machine at which the media port is reached, such as that of a NAT in front of it.
    pub public_addresses: Vec<IpAddr>,
    /// The Bearer token that publishers and viewers need. Required unless `listen` is a loopback address.
    pub token: Option<SecretString>,
    /// The encoder's own BroadcastStatus (`data` as a JSON object), when it runs in this process; else viewers get one that
    /// is derived from the media.
    pub status_feed: Option<watch::Receiver<String>>,
    /// Names by which the server is reached besides addresses and `localhost`, such as `studio.local`: see
    /// [`crate::server::host`]. With a token any name will do.
    pub hosts: Hosts,
    /// Serve HTTPS and wss with this certificate, instead of HTTP and ws.
    pub tls: Option<tls::Identity>,
    /// Answer `POST /faults/<name>` (docs/signalling.md): for tests, never for an ingest that others use.
    pub faults: bool,
}

impl Options {
    /// Listens there, without a token, with any media port and without faults.
    #[must_use]
    pub const fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            media_port: 0,
            public_addresses: Vec::new(),
            token: None,
            status_feed: None,
            hosts: Hosts::none(),
            tls: None,
            faults: false,
        }
    }

    /// Must media come in at every address of this machine? Who listens on loopback and asks for a token, or has a name or a
    /// public address, stands behind a proxy that brings others: HTTP passes there, UDP does not.
    #[must_use]
    pub fn media_everywhere(&self) -> bool {
        let for_others = self.token.is_some() || self.hosts != Hosts::none() || !self.public_addresses.is_empty();
        self.listen.ip().is_unspecified() || (self.listen.ip().to_canonical().is_loopback() && for_others)
    }

    fn media_address(&self) -> SocketAddr {
        let ip = match self.listen.ip() {
            ip if !self.media_everywhere() => ip,
            IpAddr::V4(_) if self.public_addresses.iter().all(IpAddr::is_ipv4) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V4(_) | IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        SocketAddr::new(ip, self.media_port)
    }
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Anybody on the network could publish and watch.
    #[error(
        "the ingest refuses to listen on `{0}` without a token: give one (`--token-file`; for `demo`, `uplink.token` in a config), or listen on 127.0.0.1"
    )]
    TokenRequired(SocketAddr),
    /// An empty token protects nothing.
    #[error("the token of the ingest is empty: write at least one character into the token file")]
    EmptyToken,
    /// The TCP port is taken, or the address is not ours.
    #[error("the ingest cannot listen on `{0}`: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The UDP port is taken.
    #[error("the ingest cannot receive media on UDP `{0}`: {1}")]
    Media(SocketAddr, #[source] io::Error),
    /// OpenSSL did not make a DTLS certificate.
    #[error("the ingest cannot make a DTLS certificate: is OpenSSL broken on this machine?")]
    Certificate,
    /// No thread can be made.
    #[error("the ingest cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// A running server. Dropping it stops it as well, without waiting.
#[derive(Debug)]
pub struct Ingest {
    address: SocketAddr,
    media_address: SocketAddr,
    /// Dropped first: a loop that ends with the server is not dead.
    watched: std::sync::mpsc::Sender<()>,
    dead: oneshot::Receiver<()>,
    /// Tells every task to end, dropped or changed; each of them has a receiver.
    stop: watch::Sender<()>,
    http: JoinHandle<()>,
    media: JoinHandle<()>,
}

/// How many requests may wait for the media loop; it answers within milliseconds.
const REQUESTS_MAX: usize = 64;
/// How long [`Ingest::stop`] waits for open HTTP requests and goodbyes.
const STOP_WITHIN: Duration = Duration::from_millis(500);

impl Ingest {
    /// Binds and serves until [`Ingest::stop`]. The TCP port may be one that a killed process has just left.
    ///
    /// # Errors
    /// [`IngestError`], each in one sentence.
    pub async fn start(options: Options) -> Result<Self, IngestError> {
        match &options.token {
            None if !options.listen.ip().to_canonical().is_loopback() => {
                return Err(IngestError::TokenRequired(options.listen));
            }
            Some(token) if token.expose_secret().is_empty() => return Err(IngestError::EmptyToken),
            Some(_) | None => {}
        }
        let certificate = str0m::crypto::from_feature_flags().dtls_provider.generate_certificate();
        let certificate = certificate.ok_or(IngestError::Certificate)?;

        // tokio sets SO_REUSEADDR.
        let listener = TcpListener::bind(options.listen).await;
        let listener = listener.map_err(|error| IngestError::Listen(options.listen, error))?;
        let address = listener.local_addr().map_err(|error| IngestError::Listen(options.listen, error))?;
        let media_address = options.media_address();
        let socket = UdpSocket::bind(media_address).await.map_err(|error| IngestError::Media(media_address, error))?;
        let media_address = socket.local_addr().map_err(|error| IngestError::Media(media_address, error))?;

        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let (board_writer, board) = watch::channel(media::Board::new());
        let (stop, stopped) = watch::channel(());
        let pulse = Arc::<pulse::Pulse>::default();
        let (watched, unwatched) = std::sync::mpsc::channel();
        let dead = pulse::watch(Arc::clone(&pulse), unwatched).map_err(IngestError::Thread)?;
        let media = media::Media::new(socket, board_writer, Arc::clone(&pulse));
        let media = tokio::spawn(media.run(inbox, stopped.clone()));
        let server = server::Server {
            requests,
            board,
            certificate,
            media: MediaAddress { bound: media_address, public: options.public_addresses },
            token: options.token,
            status_feed: options.status_feed,
            hosts: options.hosts,
            pulse,
            faults: options.faults.then(Arc::default),
            stopped,
        };
        let http = tokio::spawn(http::serve(tls::Door::new(listener, options.tls), server));
        Ok(Self { address, media_address, watched, dead, stop, http, media })
    }

    /// Where HTTP listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where media is received.
    #[must_use]
    pub const fn media_address(&self) -> SocketAddr {
        self.media_address
    }

    /// Waits for the day when nothing can be published or watched any more, though nobody has stopped the server. The log
    /// says so. Only a new process helps.
    pub async fn dead(&mut self) {
        if (&mut self.dead).await.is_err() {
            std::future::pending().await
        }
    }

    /// Says goodbye to everybody and closes the ports. Takes at most about a second.
    pub async fn stop(self) {
        drop(self.watched);
        self.stop.send_replace(());
        // Goodbyes over WebSockets.
        let _late = tokio::time::timeout(STOP_WITHIN, self.stop.closed()).await;
        for mut task in [self.http, self.media] {
            if tokio::time::timeout(STOP_WITHIN, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}
