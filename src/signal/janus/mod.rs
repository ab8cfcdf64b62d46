//! The Janus VideoRoom client: one session with one publisher, over one WebSocket at a time. Never retries.

pub mod failures;
mod resume;
pub mod text;
mod unasked;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};
use tracing::info;
use url::Url;

use crate::config::units::Secret;
use crate::config::{JanusRoom, Uplink};
use crate::sdp;
use crate::signal::failure::{self, Closed, Place, Transport};
use crate::supervisor::event::{Failure, Phase};
use failures::{JanusError, ROOM_EXISTS};

use super::origin::shown;
use super::token::Tokens;
use super::token::renewal::Renewal;
use super::transport::http::Timeouts;
use super::transport::keepalive::{Look, Watchdog};
use super::transport::websocket::Socket;
use super::{Accepted, Oddities, RestartError, ResumeError, Resumed, Trickle, Word};
use crate::sdp::LocalCandidate;
use text::{Envelope, Message, Room, Said};
use unasked::Ending;

/// Janus drops the handshake of a client that does not ask for it.
const SUBPROTOCOL: &str = "janus-protocol";

/// The client side of one room.
pub struct Janus {
    uplink: Uplink,
    room: JanusRoom,
    url: Url,
    tokens: Arc<Tokens>,
    timeouts: Timeouts,
    line: Option<Line>,
    session: Option<Session>,
    /// What the server said unasked while we waited for an answer.
    heard: VecDeque<Word>,
    oddities: Oddities,
    transactions: u64,
}

impl std::fmt::Debug for Janus {
    /// No secrets; whoever knows the number of a session can take it over.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Janus").field("url", &shown(&self.url)).field("room", &self.room.room).finish_non_exhaustive()
    }
}

/// An open connection.
struct Line {
    socket: Socket,
    /// In every request; renewed in place.
    token: Option<Secret>,
    renewal: Renewal,
    watchdog: Watchdog,
}

struct Session {
    id: u64,
    /// Until it is attached, none.
    handle: Option<u64>,
    /// Room and publisher: for people, and no key to anything.
    name: String,
    ending: Ending,
}

/// Why a request has no answer.
enum Unanswered {
    /// There is no connection any more.
    Lost(Failure),
    /// The server does not answer in time.
    Late,
    /// The server refuses it.
    Refused(JanusError),
}

/// What a request waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The first answer.
    Answered,
    /// What comes after the `ack`.
    Done,
}

impl Janus {
    pub(super) fn new(uplink: &Uplink, tokens: Arc<Tokens>, timeouts: Timeouts) -> Result<Self, Failure> {
        let room = uplink.janus.clone().ok_or_else(|| failure::internal(Phase::Dial, "Janus without a room"))?;
        Ok(Self {
            room,
            url: uplink.url.clone(),
            uplink: uplink.clone(),
            tokens,
            timeouts,
            line: None,
            session: None,
            heard: VecDeque::new(),
            oddities: Oddities::default(),
            transactions: 0,
        })
    }

    pub(super) async fn publish(&mut self, offer: &str) -> Result<Accepted, Failure> {
        // Of a publish that was refused: without a publisher, but a session all the same. It expires when this fails.
        let _failed = self.goodbye().await;
        self.session = None;
        self.heard.clear();
        let line = self.open().await?;
        self.line = Some(line);
        let id = self.made("create", Map::new()).await?;
        let name = self.room.room.to_string();
        self.session = Some(Session { id, handle: None, name, ending: Ending::Unsaid });
        let handle = self.made("attach", text::attach()).await?;
        if let Some(session) = &mut self.session {
            session.handle = Some(handle);
        }
        if self.room.create {
            self.provide_room(offer).await?;
        }
        let (publisher, answer) = self.join(offer).await?;
        let name = format!("{}/{publisher}", self.room.room);
        if let Some(session) = &mut self.session {
            session.name.clone_from(&name);
        }
        match sdp::check_answer(offer, &answer) {
            // The session knows what to do then: it offers again without.
            Err(rejection) if !rejection.sound_alone => {
                return Err(self.with_codecs_of_the_room(rejection.failure).await);
            }
            Ok(_) | Err(_) => {}
        }
        Ok(Accepted { answer, ice_servers: Vec::new(), near: false, session_id: name })
    }

    /// Gives our number in the room, and the SDP answer.
    async fn join(&mut self, offer: &str) -> Result<(String, String), Failure> {
        let token = self.line.as_ref().and_then(|line| line.token.clone());
        let join = text::join_and_configure(&self.room, token.as_ref(), offer);
        let joined = self.ask("message", join, Until::Done).await.map_err(|why| self.failure(why))?;
        let Said::Plugin(Room::Joined(publisher), Some(answer)) = joined else {
            return Err(self.unexpected("joinandconfigure"));
        };
        Ok((publisher, answer))
    }

    /// Makes the room if it is not there. Has to be known before the offer goes out: a handle whose first offer was
    /// refused takes no second one.
    async fn provide_room(&mut self, offer: &str) -> Result<(), Failure> {
        let asked = self.ask("message", text::room_exists(&self.room), Until::Answered).await;
        if asked.map_err(|why| self.failure(why))? != Said::Plugin(Room::Exists(false), None) {
            return Ok(());
        }
        match self.ask("message", text::create_room(&self.room, offer), Until::Answered).await {
            Ok(Said::Plugin(Room::Created, _)) => {
                info!("Janus: room {} was not there and has been made", self.room.room);
                Ok(())
            }
            // Somebody was faster.
            Err(Unanswered::Refused(error)) if error.code == ROOM_EXISTS => Ok(()),
            Ok(_) => Err(self.unexpected("create")),
            Err(why) => Err(self.failure(why)),
        }
    }

    /// An answer that refuses our media does not say what the room would take; the list of rooms does.
    async fn with_codecs_of_the_room(&mut self, failure: Failure) -> Failure {
        let listed = self.ask("message", text::list_rooms(), Until::Answered).await;
        let Ok(Said::Plugin(Room::List(rooms), _)) = listed else { return failure };
        let number = self.room.room.to_string();
        match rooms.into_iter().find(|room| room.room == number) {
            Some(room) => {
                let words =
                    format!("{}; room {number} takes video as {}, audio as {}", failure.words, room.video, room.audio);
                Failure { words, ..failure }
            }
            None => failure,
        }
    }

    pub(super) async fn restart(&mut self, offer: &str) -> Result<Accepted, RestartError> {
        let configured = self.ask("message", text::configure(offer), Until::Done).await;
        let said = match configured {
            Ok(said) => said,
            Err(why @ Unanswered::Refused(_)) => return Err(RestartError::Refused(self.failure(why))),
            Err(why) => return Err(RestartError::Failed(self.failure(why))),
        };
        let Said::Plugin(Room::Configured, Some(answer)) = said else {
            return Err(RestartError::Refused(self.unexpected("configure")));
        };
        let session_id = self.session.as_ref().map(|session| session.name.clone()).unwrap_or_default();
        Ok(Accepted { answer, ice_servers: Vec::new(), near: false, session_id })
    }

    pub(super) async fn candidates(&mut self, parts: &[LocalCandidate], end: bool) -> Result<Trickle, Failure> {
        if self.session.is_none() {
            return Ok(Trickle::Unsupported);
        }
        let taken = self.ask("trickle", text::trickle(parts, end), Until::Answered).await;
        taken.map(|_ack| Trickle::Taken).map_err(|why| self.failure(why))
    }

    /// Janus ends a session for whoever knows its number, so a lost connection is no obstacle. The session stays a
    /// ghost when that fails.
    pub(super) async fn goodbye(&mut self) -> Result<(), Failure> {
        if self.session.is_none() {
            return Ok(());
        }
        if self.line.is_none() {
            self.line = Some(self.open().await?);
        }
        match self.ask("destroy", Map::new(), Until::Answered).await {
            Ok(_) => {}
            Err(Unanswered::Refused(error)) if error.is_session_gone() => {}
            Err(why) => return Err(self.failure(why)),
        }
        self.session = None;
        if let Some(line) = self.line.take() {
            line.socket.close(1000).await;
        }
        Ok(())
    }

    pub(super) async fn resume(&mut self) -> Result<Resumed, ResumeError> {
        let Some(session) = &self.session else {
            let failure = failure::internal(Phase::Request, "Janus: there is no session to resume");
            return Err(ResumeError::Refused(failure));
        };
        let session_id = session.name.clone();
        let line = self.open().await.map_err(ResumeError::Failed)?;
        // Closed after the claim only: a server that keeps no sessions without a connection loses none this way.
        let _before = self.line.replace(line);
        self.heard.retain(|word| !matches!(word, Word::Lost(_)));
        match self.ask("claim", Map::new(), Until::Answered).await {
            Ok(_) => Ok(Resumed { session_id, recovered_from: None }),
            Err(why) => {
                let is_gone = matches!(&why, Unanswered::Refused(error) if error.is_session_gone());
                let failure = self.failure(why);
                self.line = None;
                self.heard.retain(|word| !matches!(word, Word::Lost(_)));
                Err(if is_gone { ResumeError::Refused(failure) } else { ResumeError::Failed(failure) })
            }
        }
    }

    pub(super) async fn next(&mut self) -> Word {
        loop {
            if let Some(word) = self.heard.pop_front() {
                return word;
            }
            let held = self.session.as_ref().and_then(Session::hangup_until);
            let Some(line) = &mut self.line else { return std::future::pending().await };
            let Line { socket, token, renewal, watchdog } = line;
            let due = held.map_or(watchdog.due().into(), |until| until.min(watchdog.due().into()));
            tokio::select! {
                biased;
                received = timeout_at(due, socket.next()) => match received {
                    Ok(Ok(text)) => {
                        if let Some(message) = self.read(&text) {
                            self.unasked(message);
                        }
                    }
                    Ok(Err(closed)) => {
                        self.lost(&closed);
                    }
                    Err(_due) if held == Some(due) => self.unexplained(),
                    Err(_due) => self.look().await,
                },
                // The next request carries it.
                fresh = renewal.next(&self.tokens, token.as_ref()) => *token = Some(fresh),
            }
        }
    }

    /// Is the server still there? The answer to a keepalive is not waited for; any request keeps the session alive.
    async fn look(&mut self) {
        let Some(line) = &mut self.line else { return };
        match line.watchdog.look(Instant::now().into_std()) {
            Look::Wait => {}
            Look::Silent(patience) => drop(self.lost(&Closed::Hung(patience))),
            // What goes wrong is kept to be heard.
            Look::Ask => drop(self.send("keepalive", Map::new()).await),
        }
    }

    /// `signalling.inactivityTimeout` is another one from now on.
    pub(super) fn set_inactivity(&mut self, patience: Duration) {
        self.timeouts.inactivity = patience;
        if let Some(line) = &mut self.line {
            line.watchdog.set_patience(patience, Instant::now().into_std());
        }
    }
}

/// The exchange of messages.
impl Janus {
    /// A new connection, with a fresh token.
    async fn open(&self) -> Result<Line, Failure> {
        let token = self.tokens.fresh().await?;
        let socket = Socket::open(&self.url, SUBPROTOCOL, token.as_ref(), &self.uplink, self.timeouts).await;
        let socket = socket.map_err(|failure| self.tokens.blamed(token.as_ref(), failure))?;
        let watchdog = Watchdog::new(self.timeouts.inactivity, Instant::now().into_std());
        let renewal = Renewal::new(&self.tokens, None);
        Ok(Line { socket, token, renewal, watchdog })
    }

    /// A request that makes something; gives its number.
    async fn made(&mut self, verb: &str, content: Map<String, Value>) -> Result<u64, Failure> {
        let said = self.ask(verb, content, Until::Answered).await.map_err(|why| self.failure(why))?;
        let Said::Success(Some(id)) = said else { return Err(self.unexpected(verb)) };
        Ok(id)
    }

    /// One request and its answer. What comes in between is kept for [`Janus::next`].
    async fn ask(&mut self, verb: &str, content: Map<String, Value>, until: Until) -> Result<Said, Unanswered> {
        let deadline = Instant::now() + self.timeouts.request;
        let transaction = self.send(verb, content).await.map_err(Unanswered::Lost)?;
        loop {
            let Some(line) = &mut self.line else { return Err(Unanswered::Lost(self.no_line())) };
            let text = match timeout_at(deadline, line.socket.next()).await {
                Ok(Ok(text)) => text,
                Ok(Err(closed)) => return Err(Unanswered::Lost(self.lost(&closed))),
                Err(_elapsed) => return Err(Unanswered::Late),
            };
            let Some(message) = self.read(&text) else { continue };
            if message.transaction.as_deref() != Some(&transaction) {
                self.unasked(message);
                continue;
            }
            if until == Until::Done && message.said == Said::Ack {
                continue;
            }
            if let Said::Error(error) = message.said {
                return Err(Unanswered::Refused(error));
            }
            return Ok(message.said);
        }
    }

    /// Writes one request; gives its transaction.
    async fn send(&mut self, verb: &str, content: Map<String, Value>) -> Result<String, Failure> {
        self.transactions += 1;
        let transaction = format!("{verb}-{}", self.transactions);
        let Some(line) = &mut self.line else { return Err(self.no_line()) };
        let session = self.session.as_ref();
        let envelope = Envelope {
            transaction: &transaction,
            session: session.map(|session| session.id),
            handle: session.and_then(|session| session.handle).filter(|_| matches!(verb, "message" | "trickle")),
            api_secret: self.room.api_secret.as_ref(),
            token: line.token.as_ref(),
        };
        line.watchdog.asked(Instant::now().into_std());
        match line.socket.send(text::request(verb, &envelope, content)).await {
            Ok(()) => Ok(transaction),
            Err(closed) => Err(self.lost(&closed)),
        }
    }

    fn read(&mut self, text: &str) -> Option<Message> {
        if let Some(line) = &mut self.line {
            line.watchdog.heard(Instant::now().into_std());
        }
        match text::read(text) {
            Ok(message) => Some(message),
            Err(why) => {
                self.odd(format!("a message cannot be read: {why}"));
                None
            }
        }
    }

    /// Each kind is named once.
    fn odd(&mut self, what: String) {
        if self.oddities.is_news(&what) {
            info!("Janus at `{}`: {what}; it is ignored, now and from now on", shown(&self.url));
        }
    }

    /// The connection is no more; whoever listens hears of it, too.
    fn lost(&mut self, closed: &Closed) -> Failure {
        self.unexplained();
        self.line = None;
        let failure = failure::closed(&shown(&self.url), closed);
        self.heard.push_back(Word::Lost(failure.clone()));
        failure
    }

    fn no_line(&self) -> Failure {
        failure::closed(&shown(&self.url), &Closed::Broken("it was lost before".to_owned()))
    }

    fn failure(&self, why: Unanswered) -> Failure {
        let url = shown(&self.url);
        let token_sent = self.uplink.token.is_some();
        match why {
            Unanswered::Lost(failure) => failure,
            Unanswered::Late => {
                failure::transport(Place { method: "a request to", url: &url, token_sent }, &Transport::TimedOut)
            }
            Unanswered::Refused(error) => {
                let token = self.line.as_ref().and_then(|line| line.token.as_ref());
                self.tokens.blamed(token, failures::janus(&url, self.room.room, token_sent, &error))
            }
        }
    }

    fn unexpected(&self, verb: &str) -> Failure {
        let words = format!("the answer of Janus at `{}` to `{verb}` is not the one to that", shown(&self.url));
        sdp::garbled_answer(words)
    }
}
