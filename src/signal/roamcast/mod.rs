//! The client of roamcast signalling v1 (`docs/signalling.md`): one session, over one WebSocket at a time. Never retries.

pub mod failures;
mod resume;
pub mod text;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};
use url::Url;

use crate::config::Uplink;
use crate::config::units::{IceServer, Secret};
use crate::sdp;
use crate::signal::failure::{self, Closed, Place, Transport};
use crate::status::ErrorCode;
use crate::supervisor::event::{Failure, Phase, Retry, RetrySlot};

use super::origin::{is_near, shown};
use super::token::Tokens;
use super::token::renewal::Renewal;
use super::transport::http::{Timeouts, wall_clock};
use super::transport::keepalive::{Look, Watchdog};
use super::transport::websocket::Socket;
use super::{Accepted, Oddities, RestartError, ResumeError, Resumed, Trickle, Word};
use crate::sdp::LocalCandidate;
use text::{Candidate, Claim, ErrorName, ErrorText, Hidden, OutputState, SUBPROTOCOL, ToClient, ToServer, VERSION};

/// A fresh token is asked for this long before the server says that the one in use expires: enough for some tries.
const REFRESH_BEFORE: Duration = Duration::from_secs(30);
/// Figures are told at most this often (docs/signalling.md).
const STATS_EVERY: Duration = Duration::from_secs(1);

/// The client side of one broadcast.
pub struct Roamcast {
    uplink: Uplink,
    url: Url,
    tokens: Arc<Tokens>,
    timeouts: Timeouts,
    socket: Option<Socket>,
    /// The one of this connection or, without one, the one to go on with.
    session: Option<Session>,
    ice_servers: Vec<IceServer>,
    /// The last that was told, or is among the words to be told.
    slot: Option<RetrySlot>,
    /// In use on this connection.
    token: Option<Secret>,
    renewal: Renewal,
    watchdog: Watchdog,
    /// When figures were last told.
    stats_told: Option<Instant>,
    /// What the server said unasked while we waited for an answer.
    heard: VecDeque<Word>,
    /// The error that the close that comes next is about.
    last_error: Option<ErrorText>,
    oddities: Oddities,
}

struct Session {
    claim: Claim,
    published: bool,
}

/// What a `hello` has led to.
enum Opened {
    Resumed(Resumed),
    /// A new session; says why, if there was a claim.
    New(Option<String>),
}

impl std::fmt::Debug for Roamcast {
    /// No secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roamcast").field("url", &shown(&self.url)).finish_non_exhaustive()
    }
}

impl Roamcast {
    pub(super) fn new(uplink: &Uplink, tokens: Arc<Tokens>, timeouts: Timeouts) -> Self {
        Self {
            url: uplink.url.clone(),
            uplink: uplink.clone(),
            renewal: Renewal::new(&tokens, None),
            watchdog: Watchdog::new(timeouts.inactivity, Instant::now().into_std()),
            stats_told: None,
            tokens,
            timeouts,
            socket: None,
            session: None,
            ice_servers: Vec::new(),
            slot: None,
            token: None,
            heard: VecDeque::new(),
            last_error: None,
            oddities: Oddities::default(),
        }
    }

    pub(super) async fn publish(&mut self, offer: &str) -> Result<Accepted, Failure> {
        if self.socket.is_none() {
            self.heard.clear();
            self.slot = None;
            let claim = self.session.as_ref().map(|session| session.claim.clone());
            match self.open(claim).await? {
                Opened::New(None) => {}
                Opened::Resumed(resumed) => info!("the session `{}` goes on", resumed.session_id),
                Opened::New(Some(why)) => info!("`{}` begins a new session: {why}", shown(&self.url)),
            }
        }
        let offered = self.offer(ToServer::Publish { sdp: offer.into() }).await?;
        let accepted = offered.map_err(|error| self.refused(&error))?;
        if let Some(session) = &mut self.session {
            session.published = true;
        }
        Ok(accepted)
    }

    fn is_near(&self) -> bool {
        self.url.host().is_some_and(|host| is_near(&host.to_owned()))
    }

    pub(super) async fn restart(&mut self, offer: &str) -> Result<Accepted, RestartError> {
        let answered = self.offer(ToServer::IceRestart { sdp: offer.into() }).await.map_err(RestartError::Failed)?;
        answered.map_err(|error| RestartError::Refused(self.refused(&error)))
    }

    async fn offer(&mut self, message: ToServer) -> Result<Result<Accepted, ErrorText>, Failure> {
        let answer = self.ask(message, |said| if let ToClient::Answer { sdp } = said { Ok(sdp) } else { Err(said) });
        let answer = answer.await?;
        let session_id = self.session.as_ref().map(|session| session.claim.session_id.clone()).unwrap_or_default();
        let (ice_servers, near) = (self.ice_servers.clone(), self.is_near());
        Ok(answer.map(|answer| Accepted { answer: answer.0, ice_servers, near, session_id }))
    }

    pub(super) async fn candidates(&mut self, parts: &[LocalCandidate], end: bool) -> Result<Trickle, Failure> {
        if !self.session.as_ref().is_some_and(|session| session.published) {
            return Ok(Trickle::Unsupported);
        }
        let part = |part: &LocalCandidate| {
            let (sdp_mid, sdp_mline_index) = (Some(part.mid.clone()), Some(part.mline));
            Candidate { candidate: part.candidate.clone(), sdp_mid, sdp_mline_index }
        };
        for candidate in parts.iter().map(part).chain(end.then(Candidate::end)) {
            self.say(&ToServer::Candidate(candidate)).await?;
        }
        Ok(Trickle::Taken)
    }

    /// The session stays a ghost when that fails.
    pub(super) async fn goodbye(&mut self) -> Result<(), Failure> {
        let Some(session) = &self.session else { return Ok(()) };
        if self.socket.is_none() {
            let claim = session.claim.clone();
            // Where it is gone already, a new one is ended.
            self.open(Some(claim)).await?;
        }
        self.say(&ToServer::Bye {}).await?;
        self.session = None;
        if let Some(socket) = self.socket.take() {
            socket.close(1000).await;
        }
        Ok(())
    }

    pub(super) async fn resume(&mut self) -> Result<Resumed, ResumeError> {
        self.socket = None;
        self.heard.retain(|word| !matches!(word, Word::Lost(_)));
        let Some(session) = &self.session else {
            return Err(ResumeError::Refused(failure::internal(Phase::Request, "there is no session to resume")));
        };
        let claim = session.claim.clone();
        let outcome = self.open(Some(claim)).await;
        self.heard.retain(|word| !matches!(word, Word::Lost(_)));
        match outcome.map_err(ResumeError::Failed)? {
            Opened::Resumed(resumed) => Ok(resumed),
            Opened::New(why) => {
                // The new session waits for a signaller that recalls it; our media belongs to none.
                self.socket = None;
                let words = format!(
                    "`{}` does not know our session any more (it says: {})",
                    shown(&self.url),
                    why.unwrap_or_default()
                );
                let code = ErrorCode::NetworkDisconnect;
                Err(ResumeError::Refused(Failure::new(Phase::Request, Retry::Backoff, code, words)))
            }
        }
    }

    pub(super) async fn next(&mut self) -> Word {
        loop {
            if let Some(word) = self.heard.pop_front() {
                return word;
            }
            let Some(socket) = &mut self.socket else { return std::future::pending().await };
            tokio::select! {
                biased;
                received = timeout_at(self.watchdog.due().into(), socket.next()) => match received {
                    Ok(Ok(text)) => {
                        if let Some(message) = self.read(&text) {
                            self.unasked(message).await;
                        }
                    }
                    Ok(Err(closed)) => drop(self.lost(&closed)),
                    Err(_due) => self.look().await,
                },
                fresh = self.renewal.next(&self.tokens, self.token.as_ref()) => self.refresh_token(fresh).await,
            }
        }
    }

    /// Is the server still there? The answer is not waited for.
    async fn look(&mut self) {
        let now = Instant::now().into_std();
        match self.watchdog.look(now) {
            Look::Wait => {}
            Look::Silent(patience) => drop(self.lost(&Closed::Hung(patience))),
            Look::Ask => {
                self.watchdog.asked(now);
                // What goes wrong is kept to be heard.
                let _heard = self.say(&ToServer::Ping {}).await;
            }
        }
    }

    /// Its answer is not waited for.
    async fn refresh_token(&mut self, fresh: Secret) {
        let token = Hidden(fresh.expose().to_owned());
        self.token = Some(fresh);
        // What goes wrong is kept to be heard.
        let _heard = self.say(&ToServer::TokenRefresh { token }).await;
    }

    /// Figures of the sender; while there is no connection, or too soon after the last ones, they are dropped.
    pub(super) async fn stats(&mut self, stats: text::Stats) {
        let now = Instant::now();
        if self.socket.is_some() && self.stats_told.is_none_or(|told| now >= told + STATS_EVERY) {
            self.stats_told = Some(now);
            // What goes wrong is kept to be heard.
            let _heard = self.say(&ToServer::Stats(stats)).await;
        }
    }

    /// `signalling.inactivityTimeout` is another one from now on.
    pub(super) fn set_inactivity(&mut self, patience: Duration) {
        self.timeouts.inactivity = patience;
        self.watchdog.set_patience(patience, Instant::now().into_std());
    }
}

/// The exchange of messages.
impl Roamcast {
    /// A new connection, with a fresh token, and its session.
    async fn open(&mut self, claim: Option<Claim>) -> Result<Opened, Failure> {
        self.token = self.tokens.fresh().await?;
        self.last_error = None;
        let socket = Socket::open(&self.url, SUBPROTOCOL, self.token.as_ref(), &self.uplink, self.timeouts).await;
        let socket = socket.map_err(|failure| self.tokens.blamed(self.token.as_ref(), failure))?;
        self.socket = Some(socket);
        self.watchdog = Watchdog::new(self.timeouts.inactivity, Instant::now().into_std());
        let name = self.url.path_segments().and_then(|mut path| path.next_back()).unwrap_or_default().to_owned();
        let token = self.token.as_ref().map(|token| Hidden(token.expose().to_owned()));
        let was = claim.as_ref().map(|claim| claim.session_id.clone());
        let hello = ToServer::Hello { versions: vec![VERSION], token, name, resume: claim };
        let welcome = self.ask(hello, |said| {
            if let ToClient::Welcome { session_id, resume_token, ice_servers, token_expires_at, retry_slot, .. } = said
            {
                Ok((Claim { session_id, resume_token }, ice_servers, token_expires_at, retry_slot))
            } else {
                Err(said)
            }
        });
        let (claim, ice_servers, expires, slot) = welcome.await?.map_err(|error| self.refused(&error))?;
        self.take_servers(ice_servers);
        if let Some(slot) = slot.map(RetrySlot).filter(|slot| self.slot.replace(*slot) != Some(*slot)) {
            self.heard.push_back(Word::RetrySlot(slot));
        }
        self.renewal = Renewal::new(&self.tokens, expires.map(refresh_in));
        let Some(was) = was else {
            self.session = Some(Session { claim, published: false });
            return Ok(Opened::New(None));
        };
        let resumed = self.wait_for(|said| {
            if let ToClient::Resumed { session_id, recovered_session_id, resume_token } = said {
                Ok((Claim { session_id, resume_token }, recovered_session_id))
            } else {
                Err(said)
            }
        });
        match resumed.await? {
            Ok((claim, recovered_from)) => {
                let session_id = claim.session_id.clone();
                let recovered_from = recovered_from.or_else(|| (was != session_id).then_some(was));
                // Whatever the media connection knows is as old as it is.
                self.heard.extend((!self.ice_servers.is_empty()).then(|| self.servers()));
                self.session = Some(Session { claim, published: true });
                Ok(Opened::Resumed(Resumed { session_id, recovered_from }))
            }
            Err(error) => {
                self.session = Some(Session { claim, published: false });
                Ok(Opened::New(Some(error.message)))
            }
        }
    }

    fn take_servers(&mut self, named: Vec<text::IceServer>) {
        let (usable, left_out) = text::usable(named, self.is_near());
        self.ice_servers = usable;
        left_out.into_iter().for_each(|why| self.odd(why));
    }

    fn servers(&self) -> Word {
        Word::IceServers { servers: self.ice_servers.clone(), near: self.is_near() }
    }

    async fn ask<T>(
        &mut self,
        message: ToServer,
        wanted: impl Fn(ToClient) -> Result<T, ToClient>,
    ) -> Result<Result<T, ErrorText>, Failure> {
        self.say(&message).await?;
        self.wait_for(wanted).await
    }

    /// The answer or the error that comes instead of it. What comes in between is kept for [`Roamcast::next`].
    async fn wait_for<T>(
        &mut self,
        wanted: impl Fn(ToClient) -> Result<T, ToClient>,
    ) -> Result<Result<T, ErrorText>, Failure> {
        let deadline = Instant::now() + self.timeouts.request;
        loop {
            let Some(socket) = &mut self.socket else { return Err(self.no_line()) };
            let text = match timeout_at(deadline, socket.next()).await {
                Ok(Ok(text)) => text,
                Ok(Err(closed)) => return Err(self.lost(&closed)),
                // Its answer may come late, and would be taken for the one to another question.
                Err(_elapsed) => {
                    self.lost(&Closed::HalfOpen(self.timeouts.request));
                    let url = shown(&self.url);
                    let place = Place { method: "a request to", url: &url, token_sent: self.token.is_some() };
                    return Err(failure::transport(place, &Transport::TimedOut));
                }
            };
            let Some(message) = self.read(&text) else { continue };
            match wanted(message) {
                Ok(answer) => return Ok(Ok(answer)),
                Err(ToClient::Error(error)) if !error.ends_connection() => return Ok(Err(error)),
                Err(other) => self.unasked(other).await,
            }
        }
    }

    async fn say(&mut self, message: &ToServer) -> Result<(), Failure> {
        let Some(socket) = &mut self.socket else { return Err(self.no_line()) };
        let sent = socket.send(text::format(message)).await;
        sent.map_err(|closed| self.lost(&closed))
    }

    fn read(&mut self, text: &str) -> Option<ToClient> {
        self.watchdog.heard(Instant::now().into_std());
        match text::parse(text) {
            Ok(message) => Some(message),
            Err(why) => {
                self.odd(why.to_string());
                None
            }
        }
    }

    /// A message that answers nothing that we wait for.
    async fn unasked(&mut self, message: ToClient) {
        let word = match message {
            ToClient::GoingAway { retry_after_ms } => Word::GoingAway(text::retry_after(retry_after_ms)),
            ToClient::Output { state } => Word::Output { reconnecting: state == OutputState::Reconnecting },
            ToClient::Candidate(candidate) if candidate.candidate.is_empty() => return,
            ToClient::Candidate(candidate) => match sdp::check_candidate(&candidate.candidate) {
                Ok(()) => {
                    let mline = candidate.sdp_mline_index.unwrap_or(0);
                    Word::Candidate { mline, candidate: candidate.candidate }
                }
                Err(why) => return self.odd(format!("a candidate is of no use: {why}")),
            },
            ToClient::TokenRefreshed { token_expires_at } => {
                self.renewal = Renewal::new(&self.tokens, token_expires_at.map(refresh_in));
                return;
            }
            ToClient::IceServers { ice_servers } => {
                self.take_servers(ice_servers);
                self.servers()
            }
            ToClient::Ping {} => {
                // What goes wrong is kept to be heard.
                let _heard = self.say(&ToServer::Pong {}).await;
                return;
            }
            ToClient::Pong {} => return,
            ToClient::Error(error) => {
                if error.ends_connection() {
                    self.last_error = Some(error);
                } else {
                    self.odd(format!("the error `{}` answers nothing that we wait for", error.name));
                }
                return;
            }
            ToClient::Welcome { .. } | ToClient::Answer { .. } | ToClient::Resumed { .. } => {
                return self.odd("an answer comes late or twice".to_owned());
            }
        };
        if self.heard.len() < sdp::CANDIDATES_MAX {
            self.heard.push_back(word);
        }
    }

    /// Each kind is named once.
    fn odd(&mut self, what: String) {
        if self.oddities.is_news(&what) {
            warn!("from `{}`: {what}; it is ignored, now and from now on", shown(&self.url));
        }
    }

    /// The connection is no more; whoever listens hears of it, too.
    fn lost(&mut self, closed: &Closed) -> Failure {
        self.socket = None;
        let error = self.last_error.take();
        let known = error.as_ref().and_then(ErrorText::known);
        let failure = failures::roamcast_closed(&shown(&self.url), closed, error.as_ref());
        match (closed, known) {
            // Another connection of ours speaks for the session: there is nothing left to say for this one.
            (Closed::ByServer { .. }, Some(ErrorName::TakenOver)) => self.session = None,
            (Closed::ByServer { code, .. }, known)
                if text::ends_session(*code) || known == Some(ErrorName::VersionUnsupported) =>
            {
                self.session = None;
                self.heard.push_back(Word::Ended(failure.clone()));
            }
            (Closed::ByServer { .. } | Closed::HalfOpen(_) | Closed::Hung(_) | Closed::Broken(_), _) => {
                self.heard.push_back(Word::Lost(failure.clone()));
            }
        }
        failure
    }

    fn no_line(&self) -> Failure {
        failure::closed(&shown(&self.url), &Closed::Broken("it was lost before".to_owned()))
    }

    fn refused(&self, error: &ErrorText) -> Failure {
        failures::roamcast(&shown(&self.url), error)
    }
}

/// How long until a fresh token is to be asked for, if the one in use expires then (milliseconds since 1970).
fn refresh_in(expires_ms: u64) -> Duration {
    let now = wall_clock().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_millis(expires_ms).saturating_sub(now);
    left.saturating_sub(REFRESH_BEFORE).max(left / 2)
}
