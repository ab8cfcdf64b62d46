//! One WebSocket with limits: opening, message size, silence. Reports its end once and never reopens.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use reqwest::header::{self, HeaderValue};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};
use url::Url;

use crate::config::Uplink;
use crate::config::units::Secret;
pub(super) use crate::signal::failure::Closed;
use crate::signal::failure::{self, Body, Place, Refusal, Transport};
use crate::supervisor::event::{Failure, Phase};

use super::dns::Resolver;
use super::headers;
use super::http::{self, BODY_BYTES_MAX, Timeouts};
use super::tls::tls;
use super::unencrypted::rule_for;
use crate::signal::origin::{shown, without_userinfo};

/// After this long without a word from the server it is asked for one (and the NAT on the way is kept awake).
const PING_AFTER: Duration = Duration::from_secs(5);
/// So long it may take to answer. Both together: a half-open TCP connection is found within 10 s.
const PONG_WITHIN: Duration = Duration::from_secs(5);
/// A goodbye must not hold up what comes next.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// An open WebSocket for text messages of at most [`BODY_BYTES_MAX`].
pub(in crate::signal) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Something was written that may not be on the wire yet.
    unflushed: bool,
    /// A ping went out, and nothing has come since.
    pinged: bool,
    /// When to send the ping, or to give up waiting for its answer.
    silence: Pin<Box<Sleep>>,
}

impl Socket {
    /// Opens `url` (ws, wss, or http and https as other names for them). The server must agree to `subprotocol`;
    /// redirects are not followed, so the token goes nowhere else.
    ///
    /// # Errors
    /// The table of [`failure`].
    pub(in crate::signal) async fn open(
        url: &Url,
        subprotocol: &str,
        token: Option<&Secret>,
        uplink: &Uplink,
        timeouts: Timeouts,
    ) -> Result<Self, Failure> {
        let url = websocket_url(url);
        let here = shown(&url);
        let place = Place { method: "GET", url: &here, token_sent: token.is_some() };
        let request = request(&url, subprotocol, token)?;
        let connector = match url.scheme() {
            "wss" => Connector::Rustls(Arc::new(tls(uplink, true)?)),
            _ => Connector::Plain,
        };
        let opening = async {
            let tcp = dial(&url, uplink, timeouts.connect).await.map_err(|why| failure::transport(place, &why))?;
            let handshake = client_async_tls_with_config(request, tcp, Some(limits()), Some(connector));
            handshake.await.map_err(|error| refused(place, subprotocol, token, error))
        };
        let opened = timeout(timeouts.request, opening).await;
        let (stream, _response) = opened.unwrap_or_else(|_| Err(failure::transport(place, &Transport::TimedOut)))?;
        let silence = Box::pin(sleep_until(Instant::now() + PING_AFTER));
        Ok(Self { stream, unflushed: false, pinged: false, silence })
    }

    /// Sends one message. When dropped at its await, the message may or may not go out.
    ///
    /// # Errors
    /// The connection is no more.
    pub(in crate::signal) async fn send(&mut self, message: String) -> Result<(), Closed> {
        self.unflushed = true;
        let sent = timeout(PING_AFTER + PONG_WITHIN, self.stream.send(Message::text(message))).await;
        sent.map_err(|_| Closed::HalfOpen(PING_AFTER + PONG_WITHIN))?.map_err(|error| broken(&error))?;
        self.unflushed = false;
        Ok(())
    }

    /// The next message. Answers pings and sends them; has to be awaited most of the time for that. May be dropped at
    /// its await without losing anything.
    ///
    /// # Errors
    /// The connection is no more.
    pub(in crate::signal) async fn next(&mut self) -> Result<String, Closed> {
        std::future::poll_fn(|cx| self.poll_message(cx)).await
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<String, Closed>> {
        loop {
            // What has come is read before the clock is looked at: after a suspend the pong waits in the buffer.
            if let Poll::Ready(read) = self.poll_read(cx) {
                return Poll::Ready(read);
            }
            if self.unflushed && Pin::new(&mut self.stream).poll_flush(cx).map_err(|error| broken(&error))?.is_ready() {
                self.unflushed = false;
            }
            if self.silence.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.pinged {
                return Poll::Ready(Err(Closed::HalfOpen(PING_AFTER + PONG_WITHIN)));
            }
            self.pinged = true;
            self.silence.as_mut().reset(Instant::now() + PONG_WITHIN);
            // With a full send buffer no ping goes out; then the server has not taken anything for a while either.
            if Pin::new(&mut self.stream).poll_ready(cx).map_err(|error| broken(&error))?.is_ready() {
                let ping = Message::Ping(Bytes::new());
                Pin::new(&mut self.stream).start_send(ping).map_err(|error| broken(&error))?;
                self.unflushed = true;
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<String, Closed>> {
        loop {
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_next(cx) else { return Poll::Pending };
            self.pinged = false;
            self.silence.as_mut().reset(Instant::now() + PING_AFTER);
            match read {
                Some(Ok(Message::Text(message))) => return Poll::Ready(Ok(message.as_str().to_owned())),
                Some(Ok(Message::Close(frame))) => return Poll::Ready(Err(by_server(frame))),
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(&error))),
                None => return Poll::Ready(Err(Closed::Broken("it has ended".to_owned()))),
            }
        }
    }

    /// Says goodbye with this code (RFC 6455, section 7.4) and waits a little for the server's own.
    pub(in crate::signal) async fn close(mut self, code: u16) {
        let closing = async {
            let frame = CloseFrame { code: code.into(), reason: "".into() };
            let _broken_already = self.stream.close(Some(frame)).await;
            // Ending the TCP connection with something unread would reset it, and the goodbye might get lost.
            while let Some(Ok(_)) = self.stream.next().await {}
        };
        let _late = timeout(CLOSE_DEADLINE, closing).await;
    }
}

fn by_server(frame: Option<CloseFrame>) -> Closed {
    match frame {
        Some(frame) => {
            let reason = frame.reason.chars().filter(|c| !c.is_control()).collect();
            Closed::ByServer { code: frame.code.into(), reason }
        }
        None => Closed::ByServer { code: 1005, reason: String::new() },
    }
}

/// The words never quote what came: that could be a secret.
#[allow(clippy::wildcard_enum_match_arm, reason = "enums of other crates, open-ended")]
fn broken(error: &Error) -> Closed {
    let words = match error {
        Error::Capacity(CapacityError::MessageTooLong { max_size, .. }) => {
            format!("a message longer than {max_size} bytes came")
        }
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | Error::ConnectionClosed
        | Error::AlreadyClosed => "it ended without a goodbye".to_owned(),
        Error::Protocol(ProtocolError::ExpectedFragment(_)) => "a fragment of a message is missing".to_owned(),
        Error::Utf8(_) => "a text that is no UTF-8 came".to_owned(),
        Error::Io(error) => error.kind().to_string(),
        other => other.to_string(),
    };
    Closed::Broken(words)
}

fn websocket_url(url: &Url) -> Url {
    let mut url = url.clone();
    let scheme = if matches!(url.scheme(), "https" | "wss") { "wss" } else { "ws" };
    // All four are special schemes, between which a change is always possible.
    let _never = url.set_scheme(scheme);
    without_userinfo(&mut url);
    url.set_fragment(None);
    url
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(BODY_BYTES_MAX)).max_frame_size(Some(BODY_BYTES_MAX))
}

fn request(url: &Url, subprotocol: &str, token: Option<&Secret>) -> Result<Request, Failure> {
    let unfit = |what: &str| failure::internal(Phase::Dial, format!("{what} fits into no HTTP request"));
    let mut request = url.as_str().into_client_request().map_err(|_| unfit("`uplink.url`"))?;
    let headers = request.headers_mut();
    let subprotocol = HeaderValue::from_str(subprotocol).map_err(|_| unfit("the subprotocol"))?;
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("roamcast/", env!("CARGO_PKG_VERSION"))));
    if let Some(token) = token {
        let value = HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| unfit("the token"))?;
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(request)
}

async fn dial(url: &Url, uplink: &Uplink, connect: Duration) -> Result<TcpStream, Transport> {
    let dialled = Resolver::system().dial(url, rule_for(url, uplink), connect).await;
    let stream = dialled.map_err(|error| http::known_cause(&error).unwrap_or(Transport::Unreachable))?;
    // Small messages that somebody waits for; where it cannot be set they are only slower.
    let _slower = stream.set_nodelay(true);
    Ok(stream)
}

#[allow(clippy::wildcard_enum_match_arm, reason = "an open-ended enum of another crate")]
fn refused(place: Place<'_>, subprotocol: &str, token: Option<&Secret>, error: Error) -> Failure {
    match error {
        Error::Http(response) => not_101(place, token, &response),
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            failure::wrong_subprotocol(place.url, subprotocol)
        }
        Error::Protocol(ProtocolError::HandshakeIncomplete) => failure::transport(place, &Transport::Reset),
        other => failure::transport(place, &http::known_cause(&other).unwrap_or_else(Transport::Protocol)),
    }
}

fn not_101(place: Place<'_>, token: Option<&Secret>, response: &Response) -> Failure {
    let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let content_type = header(header::CONTENT_TYPE).unwrap_or_default();
    let body = response.body().as_deref().unwrap_or_default();
    // The rest of the answer may not have been read: what came with the head is all that there is.
    let announced = header(header::CONTENT_LENGTH) != Some("0");
    let kind = match headers::body_kind(content_type, body) {
        Body::Empty if announced => headers::body_kind(content_type, b"-"),
        kind @ (Body::Empty | Body::Sdp | Body::Html | Body::Other) => kind,
    };
    let secrets: Vec<&str> = token.iter().map(|token| token.expose()).collect();
    let said = headers::excerpt(content_type, body, &secrets);
    let retry_after = header(header::RETRY_AFTER).and_then(|value| headers::retry_after(value, http::wall_clock()));
    let refusal = Refusal { status: response.status().as_u16(), retry_after, body: kind, said: said.as_deref() };
    failure::upgrade(place, &refusal)
}
