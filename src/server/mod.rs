//! HTTP for strangers: whatever they do, they cost a bounded number of connections, for a bounded time.
//!
//! Shared by the control API and the ingest. [`serve`] is the accept loop; [`seats`] decides who may stay when it is full,
//! `stream` hangs up on readers that do not read, [`host`] keeps web pages of strangers out.

mod crowd;
pub mod files;
pub mod host;
pub mod seats;
pub mod seldom;
mod stream;

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::crowd::{Crowd, Occupied, Seat};
use self::seats::Limits;
use self::stream::Connection;

/// A request's head takes one round trip; this is also how long a connection may say nothing between two requests.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// From the head of a request to the head of its response: the longest that a handler waits for is a second or two, and a
/// body of 64 KiB comes within this time even over GPRS.
const REQUEST_WITHIN: Duration = Duration::from_secs(20);
/// No connection is used for one request after the other for longer than this: it is closed after the one under way.
const REUSED_FOR: Duration = Duration::from_secs(10 * 60);
/// Heads of browsers have about 2 KiB, and a bearer token may have some.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// After `accept` has failed for want of files or memory: long enough not to spin, short enough not to be noticed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// What a connection is told that there is no room for.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 35\r\n\r\nthere are too many connections now\n";

/// The two ends of a connection. Handlers get it as [`ConnectInfo`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The address of ours that was reached; `None` for a unix socket, or when the connection is gone already.
    pub local: Option<SocketAddr>,
    /// Who is there; `None` for a unix socket.
    pub peer: Option<IpAddr>,
}

/// Something that connections come in at. Public addresses are plain even if the socket is dual-stack: 192.0.2.1, not
/// `::ffff:192.0.2.1`.
pub trait Listener: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection. May be dropped before it is ready.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Ends)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Ends)> {
        let (stream, peer) = Self::accept(self).await?;
        // Else an answer that comes in two writes, or after the session tickets of TLS, waits for a round trip and for the
        // delayed acknowledgement of the first (Nagle): measured 57 to 92 ms at a round trip of 50.
        let _slower = stream.set_nodelay(true);
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let ends = Ends { local: stream.local_addr().ok().map(canonical), peer: Some(peer.ip().to_canonical()) };
        Ok((stream, ends))
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Ends)> {
        let (stream, _) = Self::accept(self).await?;
        Ok((stream, Ends { local: None, peer: None }))
    }
}

/// Serves until `stopped` changes, then until the requests under way are answered. Dropping it ends every connection but
/// those that have become WebSockets. `name` is for the log.
pub async fn serve<L: Listener>(
    listener: L,
    router: Router,
    name: &'static str,
    limits: Limits,
    mut stopped: watch::Receiver<()>,
) {
    let crowd = Arc::new(Crowd::new(name, limits));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_over) = connections.join_next() => continue,
            _ = stopped.changed() => break,
        };
        match accepted {
            Ok((stream, ends)) => match crowd.admit(ends.peer) {
                Some((seat, evicted)) => {
                    drop(connections.spawn(converse(stream, ends, router.clone(), seat, evicted, stopped.clone())));
                }
                None => refuse(stream),
            },
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                crowd.accept_failed(&error);
                #[allow(
                    clippy::disallowed_methods,
                    reason = "no retry of ours: the kernel has no file for us just now"
                )]
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The connection was gone before it was accepted; the listener is well.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// One try to say why; a new socket has room for it.
fn refuse(mut stream: impl AsyncWrite + Unpin) {
    let _gone_already = stream.write(NO_ROOM).now_or_never();
}

/// One connection, to its end.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ends: Ends,
    router: Router,
    seat: Arc<Seat>,
    mut evicted: oneshot::Receiver<()>,
    mut stopped: watch::Receiver<()>,
) {
    let io = TokioIo::new(Connection::new(stream, Arc::clone(&seat)));
    let (router, seated) = (TowerToHyperService::new(router), Arc::clone(&seat));
    let service = service_fn(move |request| answer(router.clone(), request, ends, Arc::clone(&seated)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = pin!(connection);
    #[allow(clippy::disallowed_methods, reason = "a deadline, armed once")]
    let mut worn_out = pin!(sleep(REUSED_FOR));
    let mut last = false;
    loop {
        tokio::select! {
            over = connection.as_mut() => {
                if over.is_err_and(|error| error.is_timeout()) {
                    seat.was_silent();
                }
                return;
            }
            _ = &mut evicted => return,
            _ = stopped.changed(), if !last => {}
            () = &mut worn_out, if !last => {}
        }
        last = true;
        connection.as_mut().graceful_shutdown();
    }
}

/// One request.
async fn answer(
    router: TowerToHyperService<Router>,
    mut request: Request<Incoming>,
    ends: Ends,
    seat: Arc<Seat>,
) -> Result<Response, Infallible> {
    let mut busy = seat.occupy();
    request.extensions_mut().insert(ConnectInfo(ends));
    let response = match timeout(REQUEST_WITHIN, router.call(request)).await {
        Ok(answered) => answered?,
        Err(_) => too_slow(),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        busy.stays();
    }
    // Busy until the last byte of the body, which for a stream of events may be days.
    Ok(response.map(|body| Body::new(Occupied::new(body, busy))))
}

fn too_slow() -> Response {
    let mut response =
        (StatusCode::REQUEST_TIMEOUT, "the request did not come, or was not done, in time\n").into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
