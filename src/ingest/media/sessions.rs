//! Sessions of roamcast signalling: who holds which, over which connection, and what becomes of one that is left alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;
use tokio::sync::{mpsc, oneshot};

use crate::signal::roamcast::text::{Claim, ErrorName, ErrorText, Hidden, Stats, ToClient, ends_session};

use super::{Address, Busy, Media};
use crate::ingest::broadcast::{PeerId, RESUME_WINDOW, Signalling};
use crate::ingest::peer::{OfferError, Peer, Role};

/// What the loop wants of a connection.
#[derive(Debug)]
pub(in crate::ingest) enum Order {
    /// Say this.
    Say(ToClient),
    /// Close with this code.
    Close(u16),
    /// End without a word.
    Cut,
    /// Let the token in use expire after this long.
    ExpireToken(Duration),
}

/// The way to a connection.
pub(in crate::ingest) type Line = mpsc::Sender<Order>;

/// What a connection asks of the loop.
pub(in crate::ingest) enum Request {
    /// A session for a connection: the one it claims, else a new one. `None`: there is no room for another.
    Open { new: New, name: String, claim: Option<Claim>, line: Line, reply: oneshot::Sender<Option<Opened>> },
    /// A new media connection.
    Publish { id: String, key: String, peer: Box<Peer>, reply: oneshot::Sender<Result<(), Refused>> },
    /// A candidate of the other end.
    Candidate { id: String, candidate: String, reply: oneshot::Sender<Result<(), Refused>> },
    /// New ICE credentials. Gives the answer.
    IceRestart { id: String, offer: String, reply: oneshot::Sender<Result<String, Refused>> },
    /// What the publisher tells of itself.
    Figures { id: String, figures: Stats },
    /// The connection is lost; the session is kept for a while.
    Lost { id: String, line: Line },
    /// The session is over.
    End { id: String, line: Line },
    /// A fault for tests.
    Fault { name: String, fault: Fault },
}

/// What makes a session; random, made outside the loop.
pub(in crate::ingest) struct New {
    pub(in crate::ingest) id: String,
    pub(in crate::ingest) resume_token: String,
}

/// The session that a connection has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ingest) struct Opened {
    pub(in crate::ingest) id: String,
    pub(in crate::ingest) resume_token: Hidden,
    /// Its number among all sessions.
    pub(in crate::ingest) slot: u16,
    /// What became of the claim.
    pub(in crate::ingest) claim: Claimed,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ingest) enum Claimed {
    /// There was none.
    None,
    /// Granted; with the name the session had, if it has another one now.
    Resumed(Option<String>),
    /// There is no such session (any more), or it is not theirs.
    Refused,
}

/// Why a request of a session is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ingest) enum Refused {
    /// There is no such session any more.
    Gone,
    /// There is no media connection yet.
    NotPublished,
    /// Somebody else has the name.
    Busy(Busy),
    /// There are as many sessions as there may be.
    Full,
    /// It cannot be answered.
    Offer(OfferError),
}

/// Faults that happen in the loop.
#[derive(Debug)]
pub(in crate::ingest) enum Fault {
    /// For the publisher's connection.
    Order(Order),
    /// Refuse every claim, or no longer.
    RefuseResume(bool),
    /// Another name at the next claim.
    Rename,
    /// Media of the publisher is lost for this long.
    BlackHole(Duration),
    /// The session is ended.
    Evict,
    /// The loop dies of a fault of its own.
    Panic,
}

#[derive(Debug)]
struct Session {
    name: String,
    /// Its number; no other session has it.
    slot: u16,
    resume_token: String,
    media: Option<PeerId>,
    /// The publisher of an earlier session of the same owner.
    inherits: Option<PeerId>,
    line: Option<Line>,
    /// When the last line was lost.
    lost: Instant,
}

/// All sessions.
#[derive(Debug, Default)]
pub(in crate::ingest) struct Sessions {
    by_id: BTreeMap<String, Session>,
    refusing: BTreeMap<String, bool>,
    renaming: BTreeMap<String, bool>,
}

impl Sessions {
    /// The session of this media connection, whose connection is told why, is over.
    pub(in crate::ingest) fn evict(&mut self, media: PeerId) {
        let id = self.by_id.iter().find(|(_, session)| session.media == Some(media)).map(|(id, _)| id.clone());
        let Some(session) = id.and_then(|id| self.by_id.remove(&id)) else { return };
        tracing::info!(name = session.name, "a session is ended: nothing is heard of it");
        if let Some(line) = session.line {
            let error = ErrorText::new(ErrorName::Evicted, "nothing was heard of this session for too long");
            tell(&line, Order::Say(ToClient::Error(error)));
            tell(&line, Order::Close(1000));
        }
    }

    /// How many there are.
    pub(in crate::ingest) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The numbers that are taken.
    pub(in crate::ingest) fn slots(&self) -> impl Iterator<Item = u16> {
        self.by_id.values().map(|session| session.slot)
    }

    /// Its media connection is no more.
    pub(in crate::ingest) fn media_gone(&mut self, media: PeerId) {
        for session in self.by_id.values_mut().filter(|session| session.media == Some(media)) {
            session.media = None;
        }
    }

    /// Forgets those that nobody came back to.
    pub(in crate::ingest) fn forget(&mut self, now: Instant) {
        self.by_id.retain(|_, session| session.is_held(now));
    }

    /// The session that is named, if the claim proves it to be theirs.
    fn claimed(&self, name: &str, claim: &Claim, now: Instant) -> Option<&Session> {
        let session = self.by_id.get(&claim.session_id)?;
        let right: bool = session.resume_token.as_bytes().ct_eq(claim.resume_token.0.as_bytes()).into();
        (right && session.name == name && session.is_held(now)).then_some(session)
    }

    /// The id of the session that publishes under this name.
    fn publishing(&self, name: &str) -> Option<&String> {
        let of_name = || self.by_id.iter().filter(|(_, session)| session.name == name);
        let with_media = of_name().find(|(_, session)| session.media.is_some());
        with_media.or_else(|| of_name().find(|(_, session)| session.line.is_some())).map(|(id, _)| id)
    }
}

impl Session {
    fn is_held(&self, now: Instant) -> bool {
        self.line.is_some() || self.media.is_some() || now < self.lost + RESUME_WINDOW
    }

    fn has(&self, line: &Line) -> bool {
        self.line.as_ref().is_some_and(|mine| mine.same_channel(line))
    }
}

impl Media {
    pub(in crate::ingest) fn session(&mut self, request: Request, now: Instant) {
        match request {
            Request::Open { new, name, claim, line, reply } => {
                drop(reply.send(self.open(new, name, claim.as_ref(), line, now)));
            }
            Request::Publish { id, key, peer, reply } => {
                let published = self.publish(&id, key, *peer, now);
                let media = published.as_ref().ok().copied();
                if reply.send(published.map(drop)).is_err()
                    && let Some(media) = media
                {
                    // Whoever asked is gone, and the answer with it: this connection will never come up.
                    self.remove(media, false, now);
                }
            }
            Request::Candidate { id, candidate, reply } => {
                let taken = self.media_of(&id).map(|(media, peer)| {
                    peer.trickle(&[candidate]);
                    peer.tick(now);
                    media
                });
                drop(reply.send(taken.map(|media| self.drain(media, now))));
            }
            Request::IceRestart { id, offer, reply } => drop(reply.send(self.ice_restart(&id, &offer, now))),
            Request::Figures { id, figures } => {
                let session = self.sessions.by_id.get(&id);
                if let Some((name, media)) = session.and_then(|session| Some((&session.name, session.media?)))
                    && let Some(broadcast) = self.broadcasts.get_mut(name)
                {
                    broadcast.tell_figures(media, figures);
                }
            }
            Request::Lost { id, line } => {
                if self.sessions.by_id.get(&id).is_some_and(|session| session.has(&line)) {
                    self.lose_line(&id, now);
                }
            }
            Request::End { id, line } => {
                if self.sessions.by_id.get(&id).is_some_and(|session| session.has(&line)) {
                    self.end(&id, now);
                }
            }
            Request::Fault { name, fault } => self.fault(&name, fault, now),
        }
    }

    fn lose_line(&mut self, id: &str, now: Instant) {
        let Some(session) = self.sessions.by_id.get_mut(id) else { return };
        (session.line, session.lost) = (None, now);
        let (name, media) = (session.name.clone(), session.media);
        self.signalling(&name, media, Signalling::Lost(now), now);
    }

    /// A connection whose task has died says no goodbye; without this its name would stay taken.
    pub(in crate::ingest) fn lose_dead_lines(&mut self, now: Instant) {
        let dead = |session: &Session| session.line.as_ref().is_some_and(Line::is_closed);
        let dead: Vec<_> = self.sessions.by_id.iter().filter(|(_, s)| dead(s)).map(|(id, _)| id.clone()).collect();
        dead.iter().for_each(|id| self.lose_line(id, now));
    }

    fn open(&mut self, new: New, name: String, claim: Option<&Claim>, line: Line, now: Instant) -> Option<Opened> {
        let is_theirs = claim.is_some_and(|claim| self.sessions.claimed(&name, claim, now).is_some());
        if !is_theirs && !self.has_room_for_session() {
            return None;
        }
        let claimed = claim.and_then(|claim| {
            self.sessions.claimed(&name, claim, now)?;
            self.sessions.by_id.remove_entry(&claim.session_id)
        });
        // A connection has one session: the one that it had until now ends.
        let before = self.sessions.by_id.iter().find(|(_, session)| session.has(&line)).map(|(id, _)| id.clone());
        if let Some(before) = before {
            self.end(&before, now);
        }
        let refusing = self.sessions.refusing.get(&name).copied().unwrap_or(false);
        let (id, session, outcome) = match claimed {
            Some((was, mut session)) if !refusing => {
                let renamed = self.sessions.renaming.remove(&name).is_some();
                let ghost = session.line.replace(line.clone()).filter(|ghost| !ghost.same_channel(&line));
                if let Some(ghost) = ghost {
                    take_over(&ghost);
                }
                self.signalling(&name, session.media, Signalling::Up, now);
                let (id, before) = if renamed { (new.id, Some(was)) } else { (was, None) };
                (id, session, Claimed::Resumed(before))
            }
            refused => {
                let inherits = refused.and_then(|(_, old)| {
                    old.line.iter().for_each(take_over);
                    // The owner of a session that was refused before, and never published, still owns what that one did.
                    let held = old.media.or(old.inherits);
                    self.signalling(&name, held, Signalling::Lost(now), now);
                    held
                });
                let resume_token = new.resume_token;
                let slot = self.free_slot();
                let session = Session { name, slot, resume_token, media: None, inherits, line: Some(line), lost: now };
                (new.id, session, if claim.is_some() { Claimed::Refused } else { Claimed::None })
            }
        };
        let resume_token = Hidden(session.resume_token.clone());
        let opened = Opened { id: id.clone(), resume_token, slot: session.slot, claim: outcome };
        self.sessions.by_id.insert(id, session);
        Some(opened)
    }

    fn publish(&mut self, id: &str, key: String, peer: Peer, now: Instant) -> Result<PeerId, Refused> {
        let session = self.sessions.by_id.get(id).ok_or(Refused::Gone)?;
        let (name, owned) = (session.name.clone(), [session.media, session.inherits]);
        if !self.has_room(Role::Publisher, &name) {
            return Err(Refused::Full);
        }
        let broadcast = self.broadcast(&name, now);
        if !owned.into_iter().flatten().any(|media| broadcast.is_publisher(media)) {
            broadcast.may_publish(now).map_err(|at| Refused::Busy(Busy(at)))?;
        }
        let at = Address { role: Role::Publisher, name, key };
        let media = self.seat(at, peer, Signalling::Up, now);
        if let Some(session) = self.sessions.by_id.get_mut(id) {
            // Of two that were replaced, the one that still feeds: it may be replaced again.
            session.inherits = owned.into_iter().flatten().find(|old| self.peers.contains_key(old));
            session.media = Some(media);
        }
        Ok(media)
    }

    fn ice_restart(&mut self, id: &str, offer: &str, now: Instant) -> Result<String, Refused> {
        let (media, peer) = self.media_of(id)?;
        let answer = peer.offered_again(offer).map_err(Refused::Offer)?;
        peer.tick(now);
        self.drain(media, now);
        Ok(answer)
    }

    fn media_of(&mut self, id: &str) -> Result<(PeerId, &mut Peer), Refused> {
        let session = self.sessions.by_id.get(id).ok_or(Refused::Gone)?;
        let media = session.media.ok_or(Refused::NotPublished)?;
        let (_, peer) = self.peers.get_mut(&media).ok_or(Refused::NotPublished)?;
        Ok((media, peer))
    }

    fn signalling(&mut self, name: &str, media: Option<PeerId>, signalling: Signalling, now: Instant) {
        if let (Some(media), Some(broadcast)) = (media, self.broadcasts.get_mut(name)) {
            broadcast.signalling(media, signalling, now);
        }
    }

    /// Ends a session and its media, as asked for.
    fn end(&mut self, id: &str, now: Instant) {
        let Some(session) = self.sessions.by_id.remove(id) else { return };
        tracing::info!(name = session.name, "the session ends");
        for media in [session.inherits, session.media].into_iter().flatten() {
            self.remove(media, true, now);
        }
    }

    fn fault(&mut self, name: &str, fault: Fault, now: Instant) {
        let id = self.sessions.publishing(name).cloned();
        let session = id.as_ref().and_then(|id| self.sessions.by_id.get(id));
        let (line, media) =
            (session.and_then(|session| session.line.clone()), session.and_then(|session| session.media));
        match fault {
            Fault::RefuseResume(refuse) => drop(self.sessions.refusing.insert(name.to_owned(), refuse)),
            Fault::Rename => drop(self.sessions.renaming.insert(name.to_owned(), true)),
            Fault::BlackHole(time) => drop(self.black_holes.insert(name.to_owned(), now + time)),
            #[allow(clippy::panic, reason = "a fault that was asked for")]
            Fault::Panic => panic!("a fault that was asked for"),
            Fault::Evict => {
                if let Some(media) = media {
                    self.sessions.evict(media);
                    self.remove(media, false, now);
                }
            }
            Fault::Order(order) => {
                let Some(line) = line else { return };
                if let (Order::Close(code), Some(id)) = (&order, id)
                    && ends_session(*code)
                {
                    self.end(&id, now);
                }
                tell(&line, order);
            }
        }
    }
}

/// Another connection speaks for the session now.
fn take_over(ghost: &Line) {
    let error = ErrorText::new(ErrorName::TakenOver, "another connection goes on with this session");
    tell(ghost, Order::Say(ToClient::Error(error)));
    tell(ghost, Order::Close(1000));
}

/// A connection that does not take its orders is lost anyway.
fn tell(line: &Line, order: Order) {
    if line.try_send(order).is_err() {
        tracing::debug!("a signalling connection is gone, or does not keep up");
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some Instant to count from")]
mod tests {
    use super::*;
    use crate::ingest::addresses::MediaAddress;

    fn session(line: Option<Line>, media: Option<PeerId>, lost: Instant) -> Session {
        Session { name: "live".into(), slot: 0, resume_token: "right".into(), media, inherits: None, line, lost }
    }

    #[test]
    fn a_session_is_held_by_its_line_its_media_or_the_window() {
        let t = Instant::now();
        let line = || mpsc::channel(1).0;
        let late = t + RESUME_WINDOW;
        assert!(session(Some(line()), None, t).is_held(late));
        assert!(session(None, Some(PeerId(1)), t).is_held(late));
        assert!(session(None, None, t).is_held(late - Duration::from_millis(1)));
        assert!(!session(None, None, t).is_held(late));
    }

    #[test]
    fn only_the_right_token_for_the_right_name_in_time_claims_a_session() {
        let t = Instant::now();
        let mut sessions = Sessions::default();
        sessions.by_id.insert("s".into(), session(None, None, t));
        let claimed = |id: &str, token: &str, name: &str, at| {
            let claim = Claim { session_id: id.into(), resume_token: token.into() };
            sessions.claimed(name, &claim, at).is_some()
        };
        assert!(claimed("s", "right", "live", t));
        assert!(!claimed("s", "wrong", "live", t));
        assert!(!claimed("s", "", "live", t));
        assert!(!claimed("other", "right", "live", t));
        assert!(!claimed("s", "right", "other", t));
        assert!(!claimed("s", "right", "live", t + RESUME_WINDOW));
    }

    const OFFER: &str = include_str!("../../../tests/support/offer.sdp");

    async fn media() -> Media {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Media::new(socket, tokio::sync::watch::channel(Default::default()).0, Default::default())
    }

    fn peer() -> Peer {
        let certificate = str0m::crypto::from_feature_flags().dtls_provider.generate_certificate().unwrap();
        let media = MediaAddress { bound: "127.0.0.1:5000".parse().unwrap(), public: vec![] };
        let candidates = media.candidates("127.0.0.1".parse().unwrap());
        Peer::accept(OFFER, Role::Publisher, candidates, certificate, Instant::now()).unwrap().0
    }

    fn new_session() -> New {
        New { id: "s".into(), resume_token: "right".into() }
    }

    #[tokio::test]
    async fn a_publisher_whose_task_died_keeps_neither_name_nor_number() {
        let (mut media, t) = (media().await, Instant::now());
        let (line, orders) = mpsc::channel(1);
        assert!(media.open(new_session(), "live".into(), None, line, t).is_some());
        media.publish("s", "k".into(), peer(), t).unwrap();
        let late = t + Duration::from_secs(60);
        media.lose_dead_lines(late);
        assert_eq!(media.broadcast("live", late).may_publish(late), Err(late), "its signalling stands");
        assert_eq!(media.free_slot(), 1);
        drop(orders);
        media.lose_dead_lines(late);
        assert_eq!(media.broadcast("live", late).may_publish(late), Ok(()));
        media.give_up(late + RESUME_WINDOW);
        assert_eq!((media.free_slot(), media.peers.len(), media.sessions.len()), (0, 0, 0));
    }

    /// Whoever asked is gone.
    fn to_nobody<T>() -> oneshot::Sender<T> {
        let (reply, asker) = oneshot::channel();
        drop(asker);
        reply
    }

    #[tokio::test]
    async fn who_is_gone_before_the_answer_leaves_nothing_behind() {
        let (mut media, t) = (media().await, Instant::now());
        let at = || Address { role: Role::Publisher, name: "live".into(), key: "k".into() };
        media.answer(super::super::Request::Join { at: at(), peer: Box::new(peer()), reply: to_nobody() });
        assert_eq!((media.peers.len(), media.free_slot()), (0, 0));
        assert_eq!(media.broadcast("live", t).may_publish(t), Ok(()));

        let (line, _orders) = mpsc::channel(1);
        media.open(new_session(), "live".into(), None, line, t).unwrap();
        media.session(
            Request::Publish { id: "s".into(), key: "k".into(), peer: Box::new(peer()), reply: to_nobody() },
            t,
        );
        assert_eq!((media.peers.len(), media.broadcast("live", t).may_publish(t)), (0, Ok(())));
    }

    #[tokio::test]
    async fn there_is_an_end_of_sessions_but_not_for_those_who_have_one() {
        let (mut media, t) = (media().await, Instant::now());
        let mut lines = vec![];
        let mut open = |media: &mut Media, id: usize, claim: Option<&Claim>| {
            let (line, orders) = mpsc::channel(1);
            lines.push(orders);
            let new = New { id: id.to_string(), resume_token: "right".into() };
            media.open(new, "live".into(), claim, line, t).is_some()
        };
        for id in 0..crate::ingest::room::SESSIONS_MAX {
            assert!(open(&mut media, id, None), "{id}");
        }
        assert!(!open(&mut media, 9999, None));
        let mine = Claim { session_id: "7".into(), resume_token: Hidden("right".into()) };
        assert!(open(&mut media, 9999, Some(&mine)), "it takes no more than it had");
    }
}
