//! A canned HTTP/1.1 server: says what a test tells it to say, and remembers every request.

use std::sync::{Arc, Mutex};

use roamcast::config::units::Secret;
use roamcast::config::{DtlsCertificate, Protocol, TokenSource, Uplink};
use roamcast::signal::token::Tokens;
use roamcast::signal::{Signaller, Timeouts};
use roamcast::supervisor::event::Failure;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use url::Url;

pub(crate) use crate::secrets_kept::TOKEN;

/// The smallest answer that is SDP.
pub(crate) const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    /// The first header of this (lower-case) name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Canned {
    /// Says this, byte for byte, and closes.
    Raw(String),
    /// Says this, then a byte from time to time, for ever.
    Drip(String),
    /// Says nothing and keeps the connection open.
    Hang,
    /// Waits for this, then answers.
    After(Arc<Notify>, Box<Canned>),
}

/// A reply with this status line, these header lines and this body.
pub(crate) fn reply(status: &str, headers: &[&str], body: &str) -> Canned {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    Canned::Raw(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"))
}

/// The reply of a healthy WHIP server; `headers` besides the content type.
pub(crate) fn created(headers: &[&str]) -> Canned {
    reply("201 Created", &[&["Content-Type: application/sdp"], headers].concat(), ANSWER)
}

/// A running server; ends when dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Request) -> Canned + Send + Sync + 'static) -> Self {
        Self::start_with(None, answer).await
    }

    pub(crate) async fn start_with(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Request) -> Canned + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (record, answer) = (Arc::clone(&requests), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (record, answer, tls) = (Arc::clone(&record), Arc::clone(&answer), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(socket, &record, &*answer).await,
                        Some(tls) => {
                            // A client that does not trust us hangs up here.
                            if let Ok(socket) = tls.accept(socket).await {
                                serve(socket, &record, &*answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, requests, task }
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        format!("http://127.0.0.1:{}{path}", self.port).parse().unwrap()
    }

    /// All requests so far, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: S,
    record: &Mutex<Vec<Request>>,
    answer: &(impl Fn(&Request) -> Canned + ?Sized),
) {
    let Some(request) = read_request(&mut socket).await else { return };
    record.lock().unwrap().push(request.clone());
    // Errors: the client has hung up, which some tests are about.
    let mut canned = answer(&request);
    while let Canned::After(event, then) = canned {
        event.notified().await;
        canned = *then;
    }
    match canned {
        Canned::Raw(text) => {
            let _gone = socket.write_all(text.as_bytes()).await;
            let _gone = socket.shutdown().await;
        }
        Canned::Drip(text) => {
            let _gone = socket.write_all(text.as_bytes()).await;
            let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
            while socket.write_all(b"x").await.is_ok() && socket.flush().await.is_ok() {
                tick.tick().await;
            }
        }
        Canned::Hang | Canned::After(..) => std::future::pending().await,
    }
}

async fn read_request(socket: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        if socket.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(body).ok()?;
    crate::secrets_kept::learn_from_wire(&format!("{head}\n{body}"));
    Some(Request { method, path, headers, body })
}

/// An uplink to this address with [`TOKEN`] and nothing else.
pub(crate) fn uplink(url: Url) -> Uplink {
    Uplink {
        protocol: Protocol::Whip,
        url,
        fallback_urls: Vec::new(),
        janus: None,
        token: Some(TokenSource::Value(Secret::new(TOKEN.to_owned()))),
        ca_file: None,
        fingerprints: Vec::new(),
        allow_clear_text: false,
        ice_servers: Vec::new(),
        relay_only: false,
        dtls_certificate: DtlsCertificate::Ecdsa,
        trusted_origins: Vec::new(),
    }
}

/// A messenger for this uplink, with a provider of tokens of its own.
pub(crate) fn signaller(uplink: &Uplink) -> Result<Signaller, Failure> {
    signaller_with(uplink, Timeouts::default())
}

/// Like [`signaller`], with other limits of time.
pub(crate) fn signaller_with(uplink: &Uplink, timeouts: Timeouts) -> Result<Signaller, Failure> {
    crate::secrets_kept::keep_own_log();
    Signaller::with_timeouts(uplink, Arc::new(Tokens::new(uplink, |_| {})), timeouts)
}
