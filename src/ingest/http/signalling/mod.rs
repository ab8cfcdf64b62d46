//! The server side of roamcast signalling v1 (docs/signalling.md): one task a WebSocket. It says who may and what is
//! well-formed; sessions live in the media loop.

mod upgrade;

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime};

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use subtle::ConstantTimeEq;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::signal::roamcast::text::{
    self as text, Claim, ErrorName, ErrorText, ParseError, ToClient, ToServer, VERSION,
};

pub(in crate::ingest) use upgrade::upgrade;

use crate::ingest::broadcast::{RESUME_WINDOW, SILENT_AFTER};
use crate::ingest::media::sessions::{self, Claimed, New, Order, Refused, Request};
use crate::ingest::media::{self, Busy};
use crate::ingest::peer::Role;
use crate::ingest::refusal::ROOM_AFTER;
use crate::ingest::server::{Server, random_key};

/// Who opens a WebSocket knows what to say.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Nothing heard for this long, not even a ping: the connection is half open.
const INACTIVE_AFTER: Duration = Duration::from_secs(60);
/// Who does not take a message for this long is gone.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// A little less than the server takes to stop.
const CLOSE_WITHIN: Duration = Duration::from_millis(400);
/// A restart takes about this long.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// More messages that cannot be used are no mistake any more.
const BAD_MESSAGES_MAX: usize = 20;
/// Orders are rare.
const ORDERS_MAX: usize = 16;
/// RFC 6455: protocol error; message too big.
const PROTOCOL_ERROR: u16 = 1002;
const TOO_BIG: u16 = 1009;
/// Registered with IANA for servers that are overloaded.
const TRY_AGAIN_LATER: u16 = 1013;

/// One WebSocket.
struct Conversation {
    server: Server,
    socket: WebSocketStream<TokioIo<Upgraded>>,
    stopped: watch::Receiver<()>,
    name: String,
    reached: SocketAddr,
    /// In use; empty without one. At first the one of the HTTP request.
    token: String,
    token_expires: Option<Instant>,
    line: sessions::Line,
    orders: mpsc::Receiver<Order>,
    /// `None` before `hello`.
    session: Option<String>,
    /// When anything was heard.
    heard: Instant,
    /// What was wrong with each message that could not be used.
    bad_messages: Vec<String>,
}

/// Break: the connection ends here.
type Flow = ControlFlow<()>;

impl Conversation {
    fn new(
        server: Server,
        socket: WebSocketStream<TokioIo<Upgraded>>,
        name: String,
        reached: SocketAddr,
        bearer: Option<String>,
    ) -> Self {
        let (line, orders) = mpsc::channel(ORDERS_MAX);
        let stopped = server.stopped.clone();
        let token = bearer.unwrap_or_default();
        let heard = media::now();
        Self {
            server,
            socket,
            stopped,
            name,
            reached,
            token,
            token_expires: None,
            line,
            orders,
            session: None,
            heard,
            bad_messages: Vec::new(),
        }
    }

    async fn run(mut self) {
        loop {
            let wake = self.wake_at();
            let flow = tokio::select! {
                message = self.socket.next() => self.hear(message).await,
                Some(order) = self.orders.recv() => self.obey(order).await,
                _ = self.stopped.changed() => self.part().await,
                () = sleep_until(wake.into()) => self.run_out().await,
            };
            if flow.is_break() {
                break;
            }
        }
        if let Some(id) = self.session {
            let lost = media::Request::Session(Request::Lost { id, line: self.line });
            // Without a loop there is nobody to tell.
            let _stopping = self.server.requests.send(lost).await;
        }
    }

    fn wake_at(&self) -> Instant {
        let patience = if self.session.is_some() { INACTIVE_AFTER } else { HELLO_WITHIN };
        let silent = self.heard + patience;
        self.token_expires.map_or(silent, |expires| expires.min(silent))
    }

    /// The time of something has come.
    async fn run_out(&mut self) -> Flow {
        if self.token_expires.is_some_and(|expires| media::now() >= expires) {
            return self.fatal(ErrorName::TokenExpired, "the token has expired").await;
        }
        tracing::info!(name = self.name, "nothing is heard over a signalling connection: it is given up");
        Flow::Break(())
    }

    async fn hear(&mut self, message: Option<Result<Message, Error>>) -> Flow {
        self.heard = media::now();
        #[allow(clippy::wildcard_enum_match_arm, reason = "a large enum of another crate")]
        match message {
            Some(Ok(Message::Text(message))) => match text::parse(&message) {
                Ok(message) => self.answer(message).await,
                Err(error @ ParseError::UnknownType(_)) => self.bad(ErrorName::UnknownType, error.to_string()).await,
                Err(error) => self.bad(ErrorName::Malformed, error.to_string()).await,
            },
            Some(Ok(Message::Binary(_))) => self.bad(ErrorName::Malformed, "messages are text, not binary").await,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Flow::Continue(()),
            Some(Err(Error::Capacity(_))) => self.close(TOO_BIG, "the message is too long").await,
            Some(Ok(Message::Close(_)) | Err(_)) | None => Flow::Break(()),
        }
    }

    async fn answer(&mut self, message: ToServer) -> Flow {
        let Some(id) = self.session.clone() else {
            let ToServer::Hello { versions, token, name, resume } = message else {
                return self.bad(ErrorName::OutOfOrder, "`hello` comes first").await;
            };
            return self.hello(&versions, token.map(|token| token.0), &name, resume).await;
        };
        match message {
            ToServer::Hello { .. } => self.bad(ErrorName::OutOfOrder, "`hello` comes once").await,
            ToServer::Publish { sdp } => self.publish(id, &sdp.0).await,
            ToServer::Candidate(candidate) if candidate.candidate.is_empty() => Flow::Continue(()),
            ToServer::Candidate(candidate) => {
                let candidate = candidate.candidate;
                match self.ask(|reply| Request::Candidate { id, candidate, reply }).await {
                    Ok(()) => Flow::Continue(()),
                    Err(why) => self.refuse(why).await,
                }
            }
            ToServer::IceRestart { sdp } => {
                match self.ask(|reply| Request::IceRestart { id, offer: sdp.0, reply }).await {
                    Ok(sdp) => self.say(ToClient::Answer { sdp: text::Hidden(sdp) }).await,
                    Err(why) => self.refuse(why).await,
                }
            }
            ToServer::Resume(claim) => match self.open(Some(claim)).await {
                Some(opened) => self.tell_claim(opened).await,
                None => self.no_room().await,
            },
            ToServer::Stats(stats) => {
                tracing::debug!(name = self.name, ?stats, "the publisher's figures");
                let figures = media::Request::Session(Request::Figures { id, figures: stats });
                // A loop that is busy or gone has no need of them.
                let _next_second = self.server.requests.try_send(figures);
                Flow::Continue(())
            }
            ToServer::TokenRefresh { token } => match self.judge(&token.0) {
                Ok(()) => {
                    let token_expires_at = self.token_expires.map(unix_ms);
                    self.say(ToClient::TokenRefreshed { token_expires_at }).await
                }
                Err((error, words)) => self.fatal(error, words).await,
            },
            ToServer::Ping {} => self.say(ToClient::Pong {}).await,
            ToServer::Pong {} => Flow::Continue(()),
            ToServer::Bye {} => {
                self.end().await;
                self.close(1000, "").await
            }
        }
    }

    async fn hello(&mut self, versions: &[u32], token: Option<String>, name: &str, claim: Option<Claim>) -> Flow {
        if !versions.contains(&VERSION) {
            self.error(ErrorName::VersionUnsupported, format!("this server speaks version {VERSION}")).await?;
            return self.close(PROTOCOL_ERROR, "no version in common").await;
        }
        if name != self.name {
            return self.fatal(ErrorName::ChannelNotAuthorized, "the name of `hello` is not the one of the path").await;
        }
        let token = token.unwrap_or_else(|| self.token.clone());
        if let Err((error, words)) = self.judge(&token) {
            return self.fatal(error, words).await;
        }
        let Some(opened) = self.open(claim).await else { return self.no_room().await };
        let welcome = ToClient::Welcome {
            version: VERSION,
            session_id: opened.id.clone(),
            resume_token: opened.resume_token.clone(),
            resume_window_ms: u64::try_from(RESUME_WINDOW.as_millis()).unwrap_or(u64::MAX),
            ice_servers: self.server.ice_servers(&self.name),
            token_expires_at: self.token_expires.map(unix_ms),
            retry_slot: Some(opened.slot),
        };
        self.say(welcome).await?;
        self.tell_claim(opened).await
    }

    /// A session: the one that is claimed, else a new one. `None`: there is no room for another, or the server stops.
    async fn open(&mut self, claim: Option<Claim>) -> Option<sessions::Opened> {
        let new = New { id: random_key().ok()?, resume_token: random_key().ok()? };
        let (reply, answer) = oneshot::channel();
        let (name, line) = (self.name.clone(), self.line.clone());
        let request = media::Request::Session(Request::Open { new, name, claim, line, reply });
        self.server.requests.send(request).await.ok()?;
        let opened = answer.await.ok()??;
        self.session = Some(opened.id.clone());
        Some(opened)
    }

    /// There are as many sessions as there may be.
    async fn no_room(&mut self) -> Flow {
        let retry_after_ms = u64::try_from(ROOM_AFTER.as_millis()).unwrap_or(u64::MAX);
        self.say(ToClient::GoingAway { retry_after_ms }).await?;
        self.close(TRY_AGAIN_LATER, "too many sessions").await
    }

    async fn tell_claim(&mut self, opened: sessions::Opened) -> Flow {
        match opened.claim {
            Claimed::None => Flow::Continue(()),
            Claimed::Resumed(recovered_session_id) => {
                let (session_id, resume_token) = (opened.id, opened.resume_token);
                self.say(ToClient::Resumed { session_id, recovered_session_id, resume_token }).await
            }
            Claimed::Refused => {
                self.error(ErrorName::ResumeRefused, "there is no such session (any more): publish anew").await
            }
        }
    }

    /// Negotiates on this task: a peculiar offer must not stop the media of others.
    async fn publish(&mut self, id: String, offer: &str) -> Flow {
        // The publisher may have been killed a moment ago, and this may be its successor: see if it stays silent.
        let mut patience = Some(media::now() + SILENT_AFTER);
        loop {
            let (peer, sdp) = match self.server.negotiate(offer, Role::Publisher, self.reached) {
                Ok(negotiated) => negotiated,
                Err(error) => return self.error(ErrorName::BadOffer, error.to_string()).await,
            };
            let key = match random_key() {
                Ok(key) => key,
                Err(_) => return self.error(ErrorName::Internal, "there is no randomness").await,
            };
            let (id, peer) = (id.clone(), Box::new(peer));
            match self.ask(|reply| Request::Publish { id, key, peer, reply }).await {
                Ok(()) => return self.say(ToClient::Answer { sdp: text::Hidden(sdp) }).await,
                Err(Refused::Busy(Busy(until))) if patience.is_some_and(|last| until <= last) => {
                    patience = None;
                    sleep_until(until.into()).await;
                }
                Err(why) => return self.refuse(why).await,
            }
        }
    }

    async fn ask<T>(
        &mut self,
        request: impl FnOnce(oneshot::Sender<Result<T, Refused>>) -> Request,
    ) -> Result<T, Refused> {
        let asked = self.server.ask(|reply| media::Request::Session(request(reply))).await;
        asked.unwrap_or(Err(Refused::Gone))
    }

    async fn refuse(&mut self, why: Refused) -> Flow {
        match why {
            // The order to close is on its way.
            Refused::Gone => Flow::Continue(()),
            Refused::NotPublished => self.bad(ErrorName::OutOfOrder, "`publish` comes first").await,
            Refused::Offer(error) => self.error(ErrorName::BadOffer, error.to_string()).await,
            Refused::Full => self.no_room().await,
            Refused::Busy(_) => {
                let words = format!("`{}` is being published by somebody else", self.name);
                self.fatal(ErrorName::ConcurrentLimit, words).await
            }
        }
    }

    async fn obey(&mut self, order: Order) -> Flow {
        match order {
            Order::Say(message) => self.say(message).await,
            Order::Close(code) => {
                if let Some(name) = ErrorName::of_close(code) {
                    self.error(name, "the server closes this connection").await?;
                }
                self.close(code, "").await
            }
            Order::Cut => Flow::Break(()),
            Order::ExpireToken(after) => {
                self.token_expires = self.server.faults.as_ref().map(|faults| faults.expire(&self.token, after));
                Flow::Continue(())
            }
        }
    }

    /// The server stops.
    async fn part(&mut self) -> Flow {
        let retry_after_ms = u64::try_from(RETRY_AFTER.as_millis()).unwrap_or(u64::MAX);
        self.say(ToClient::GoingAway { retry_after_ms }).await?;
        self.close(1012, "the server stops").await
    }

    /// Is this token good for this name? Then it is the one in use.
    fn judge(&mut self, token: &str) -> Result<(), (ErrorName, &'static str)> {
        let faults = self.server.faults.as_ref();
        let expires = faults.and_then(|faults| faults.expires(token));
        if expires.is_some_and(|expires| media::now() >= expires) {
            return Err((ErrorName::TokenExpired, "the token has expired"));
        }
        match faults.and_then(|faults| faults.added_for(token)) {
            Some(name) if name != self.name => {
                return Err((ErrorName::ChannelNotAuthorized, "this token is for another name"));
            }
            Some(_) => {}
            None => {
                let right = self
                    .server
                    .token
                    .as_ref()
                    .is_none_or(|right| right.expose_secret().as_bytes().ct_eq(token.as_bytes()).into());
                if !right {
                    return Err((ErrorName::InvalidToken, "this needs the ingest's token"));
                }
            }
        }
        (self.token, self.token_expires) = (token.to_owned(), expires);
        Ok(())
    }

    async fn end(&mut self) {
        if let Some(id) = self.session.take() {
            let end = media::Request::Session(Request::End { id, line: self.line.clone() });
            let _stopping = self.server.requests.send(end).await;
        }
    }

    async fn say(&mut self, message: ToClient) -> Flow {
        let sent = timeout(SEND_WITHIN, self.socket.send(Message::text(text::format(&message)))).await;
        if matches!(sent, Ok(Ok(()))) { Flow::Continue(()) } else { Flow::Break(()) }
    }

    async fn error(&mut self, name: ErrorName, words: impl Into<String>) -> Flow {
        self.say(ToClient::Error(ErrorText::new(name, words))).await
    }

    /// A message that cannot be used: says so, unless there were too many.
    async fn bad(&mut self, name: ErrorName, words: impl Into<String>) -> Flow {
        let words = words.into();
        if self.bad_messages.len() >= BAD_MESSAGES_MAX {
            return self.close(PROTOCOL_ERROR, "too many messages that cannot be used").await;
        }
        if !self.bad_messages.contains(&words) {
            tracing::warn!(name = self.name, "over roamcast signalling: {words}; it is not said again");
        }
        self.bad_messages.push(words.clone());
        self.error(name, words).await
    }

    /// An error that ends the connection, and perhaps the session.
    async fn fatal(&mut self, name: ErrorName, words: impl Into<String>) -> Flow {
        let words = words.into();
        tracing::info!(name = self.name, "a signalling connection is closed with {}: {words}", name.code());
        if text::ends_session(name.code()) {
            self.end().await;
        }
        self.error(name, words).await?;
        self.close(name.code(), "").await
    }

    /// Ends the connection politely.
    async fn close(&mut self, code: u16, reason: &'static str) -> Flow {
        let closing = async {
            let _broken_already =
                self.socket.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await;
            // Ending the TCP connection with something unread would reset it, and the goodbye might get lost.
            while let Some(Ok(_)) = self.socket.next().await {}
        };
        let _late = timeout(CLOSE_WITHIN, closing).await;
        Flow::Break(())
    }
}

#[allow(clippy::disallowed_methods, reason = "the expiry of a token is wall-clock time")]
fn unix_ms(at: Instant) -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let at = since_epoch + at.saturating_duration_since(media::now());
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}
