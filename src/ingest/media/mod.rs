//! The media loop: one task, one UDP socket, all connections of all broadcasts.

pub(super) mod sessions;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::media::{MediaData, MediaTime};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};

use crate::signal::roamcast::text::Stats;

use super::broadcast::{Arrived, Broadcast, PeerId, Phase, Signalling};
use super::peer::{Frame, OfferError, Peer, PeerEvent, Role};
use super::pulse::{self, Living, Pulse};
use super::sdp::Fragment;
use super::slots;
use super::tally::Tally;
use super::timeline::Report;
use sessions::Sessions;

/// A viewer that is not connected for this long is gone.
const VIEWER_LOST_AFTER: Duration = Duration::from_secs(15);
/// The largest UDP datagram.
const DATAGRAM_MAX: usize = 65_536;

/// What viewers are told about each broadcast, for all to see.
pub(super) type Board = BTreeMap<String, Shown>;

/// What viewers are told about one broadcast.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    pub(super) phase: Phase,
    /// What the publisher tells of itself over roamcast signalling.
    pub(super) figures: Option<Stats>,
}

impl Shown {
    fn of(broadcast: &Broadcast, now: Instant) -> Self {
        Self { phase: broadcast.phase(now), figures: broadcast.figures(now).cloned() }
    }
}

/// A session as URLs name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) role: Role,
    pub(super) name: String,
    /// Unguessable.
    pub(super) key: String,
}

/// What the HTTP side asks of the loop. Nobody waits for a reply that was dropped.
pub(super) enum Request {
    /// A new connection, already negotiated. Gives the number of a publisher among all sessions.
    Join { at: Address, peer: Box<Peer>, reply: oneshot::Sender<Result<Option<u16>, Denied>> },
    /// Trickled candidates or an ICE restart.
    Patch { at: Address, fragment: Fragment, guard: Guard, reply: oneshot::Sender<Result<Patched, PatchError>> },
    /// Goodbye. `false`: there is no such session.
    Leave { at: Address, reply: oneshot::Sender<bool> },
    /// What came of the publisher of this name. `None`: there is none.
    Tally { name: String, reply: oneshot::Sender<Option<Tally>> },
    /// Of roamcast signalling.
    Session(sessions::Request),
}

/// Another publisher has the name; it would be a ghost at this time if it stays silent until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy(pub(super) Instant);

/// Why nobody else is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// Another publisher has the name.
    Busy(Busy),
    /// There are as many sessions as there may be.
    Full,
}

/// The `If-Match` of a PATCH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// None: RFC 9725 wants one, but clients trickle without.
    None,
    /// `*`: an ICE restart.
    Any,
    /// The ICE session that the candidates belong to.
    IceSession(u32),
}

/// What a PATCH did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Patched {
    /// Candidates taken.
    Trickled,
    /// ICE restarted: our fragment, the number of the new ICE session.
    Restarted(String, u32),
}

/// Why a PATCH is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PatchError {
    /// No such session.
    Gone,
    /// The ICE session is another one by now.
    Stale,
    /// An ICE restart needs a guard.
    Unguarded,
    /// The new credentials cannot be used.
    Refused(OfferError),
}

/// The loop's state.
pub(super) struct Media {
    socket: UdpSocket,
    pub(super) peers: BTreeMap<PeerId, (Address, Peer)>,
    addresses: HashMap<Address, PeerId>,
    /// Whose STUN last came from there.
    pub(super) routes: HashMap<SocketAddr, PeerId>,
    pub(super) broadcasts: BTreeMap<String, Broadcast>,
    pub(super) sessions: Sessions,
    /// The numbers of those who publish over WHIP.
    slots: BTreeMap<PeerId, u16>,
    /// Publishers of these names are not heard until then: a fault for tests.
    pub(super) black_holes: BTreeMap<String, Instant>,
    board: watch::Sender<Board>,
    living: Living,
    next_id: u64,
}

impl Media {
    /// A loop without connections.
    pub(super) fn new(socket: UdpSocket, board: watch::Sender<Board>, pulse: Arc<Pulse>) -> Self {
        Self {
            socket,
            peers: BTreeMap::new(),
            addresses: HashMap::new(),
            routes: HashMap::new(),
            broadcasts: BTreeMap::new(),
            sessions: Sessions::default(),
            slots: BTreeMap::new(),
            black_holes: BTreeMap::new(),
            board,
            living: Living(pulse),
            next_id: 0,
        }
    }

    /// Runs until the sender of `stopped` is dropped, then says goodbye to everybody.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>, mut stopped: watch::Receiver<()>) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let wake = self.wake_at(now());
            tokio::select! {
                // Media first: HTTP can wait, a full socket buffer cannot.
                biased;
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, source)) => self.receive(canonical(source), &buffer[..length]),
                    // ICMP "port unreachable" of somebody who left shows up here; ICE notices on its own.
                    Err(error) => tracing::debug!(%error, "receiving media"),
                },
                Some(request) = requests.recv() => self.answer(request),
                _ = stopped.changed() => break,
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            self.tick(now());
            self.living.0.beat();
        }
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            self.remove(id, false, now());
        }
    }

    fn wake_at(&self, now: Instant) -> Instant {
        let peers = self.peers.values().map(|(_, peer)| peer.deadline());
        let broadcasts = self.broadcasts.values().filter_map(|broadcast| broadcast.deadline(now));
        peers.chain(broadcasts).chain([now + pulse::EVERY]).min().unwrap_or(now)
    }

    fn receive(&mut self, source: SocketAddr, datagram: &[u8]) {
        let now = now();
        // RFC 7983: STUN starts with 0..=3. It says by name whom it is for; all else goes where STUN came from.
        let is_stun = datagram.first().is_some_and(|first| *first < 4);
        let known = self.routes.get(&source).copied().filter(|_| !is_stun);
        let id = known.or_else(|| {
            // Newest first: a browser may use one port for a new session while its old one is not yet given up.
            let mut newest_first = self.peers.iter_mut().rev();
            newest_first.find_map(|(id, (_, peer))| peer.accepts(now, source, datagram).then_some(*id))
        });
        let Some((id, (at, peer))) = id.and_then(|id| Some((id, self.peers.get_mut(&id)?))) else { return };
        if is_black_hole(&self.black_holes, at, now) {
            return;
        }
        peer.receive(now, source, datagram);
        self.remember_route(source, id);
        self.drain(id, now);
    }

    /// Lets time pass for all whose deadline has come.
    fn tick(&mut self, now: Instant) {
        let due: Vec<_> =
            self.peers.iter().filter(|(_, (_, peer))| peer.deadline() <= now).map(|(id, _)| *id).collect();
        for id in due {
            if let Some((_, peer)) = self.peers.get_mut(&id) {
                peer.tick(now);
                self.drain(id, now);
            }
        }
        self.give_up(now);
        self.ask_keyframes(now);
        self.publish_board(now);
    }

    /// Ends the sessions of those who are gone, and forgets broadcasts with nobody in them.
    pub(super) fn give_up(&mut self, now: Instant) {
        let lost = |peer: &Peer| peer.unconnected_since.is_some_and(|since| now >= since + VIEWER_LOST_AFTER);
        let viewers = self.peers.iter().filter(|(_, (at, peer))| at.role == Role::Viewer && lost(peer));
        let gone: Vec<_> = viewers.map(|(id, _)| *id).collect();
        let silent: Vec<_> = self.broadcasts.values().flat_map(|broadcast| broadcast.given_up(now)).collect();
        for id in silent {
            self.sessions.evict(id);
            self.remove(id, false, now);
        }
        for id in gone {
            self.remove(id, false, now);
        }
        self.lose_dead_lines(now);
        self.sessions.forget(now);
        self.broadcasts.retain(|_, broadcast| !broadcast.is_over(now));
    }

    fn ask_keyframes(&mut self, now: Instant) {
        let asked: Vec<_> = self.broadcasts.values_mut().filter_map(|b| b.keyframe_to_ask(now)).collect();
        for id in asked {
            if let Some((_, peer)) = self.peers.get_mut(&id) {
                peer.ask_keyframe();
                self.drain(id, now);
            }
        }
    }

    fn publish_board(&self, now: Instant) {
        let is_same = |shown: &Shown, broadcast: &Broadcast| {
            shown.phase == broadcast.phase(now) && shown.figures.as_ref() == broadcast.figures(now)
        };
        let same = |board: &Board| {
            let is_there = |name, broadcast| board.get(name).is_some_and(|shown| is_same(shown, broadcast));
            board.len() == self.broadcasts.len() && self.broadcasts.iter().all(|(name, b)| is_there(name, b))
        };
        self.board.send_if_modified(|board| {
            let changed = !same(board);
            if changed {
                *board = self.broadcasts.iter().map(|(name, b)| (name.clone(), Shown::of(b, now))).collect();
            }
            changed
        });
    }

    /// Carries out what a connection has to say, and what follows from it.
    pub(super) fn drain(&mut self, id: PeerId, now: Instant) {
        let Self { peers, socket, black_holes, .. } = self;
        let Some((at, peer)) = peers.get_mut(&id) else { return };
        let (role, name) = (at.role, at.name.clone());
        let silent = is_black_hole(black_holes, at, now);
        let events = peer.drain(now, |to, datagram| {
            if !silent {
                send(socket, to, datagram);
            }
        });
        for event in events {
            let Some(broadcast) = self.broadcasts.get_mut(&name) else { return };
            match (event, role) {
                (PeerEvent::Connected, Role::Viewer) => broadcast.connected(id),
                (PeerEvent::KeyframeWanted, Role::Viewer) => broadcast.wants_keyframe(),
                (PeerEvent::Media(data), Role::Publisher) => self.forward(id, &name, *data, now),
                (PeerEvent::Closed, _) => self.remove(id, false, now),
                (PeerEvent::Disconnected, Role::Publisher) => broadcast.unreachable(id),
                (PeerEvent::Connected | PeerEvent::Disconnected | PeerEvent::KeyframeWanted, _)
                | (PeerEvent::Media(_), Role::Viewer) => {}
            }
        }
    }

    /// A frame from a publisher to its viewers.
    fn forward(&mut self, from: PeerId, name: &str, data: MediaData, now: Instant) {
        let Self { peers, broadcasts, socket, .. } = self;
        let Some((_, publisher)) = peers.get_mut(&from) else { return };
        let Some(kind) = publisher.kind(data.mid) else { return };
        publisher.tally.frame(kind, &(**data.seq_range.start()..=**data.seq_range.end()));
        let Some(broadcast) = broadcasts.get_mut(name) else { return };
        let frequency = data.time.frequency();
        let arrived = Arrived {
            kind,
            keyframe: data.is_keyframe(),
            contiguous: data.contiguous,
            ticks: data.time.numer(),
            rate: frequency.get(),
            // RTP time on the wire has 32 bits.
            report: data.last_sender_info.map(|sr| Report { ntp: sr.ntp_time, rtp: sr.rtp_time.numer() as u32 }),
        };
        let Some(stamped) = broadcast.frame(from, arrived, now) else { return };
        let time = MediaTime::new(stamped.ticks, frequency);
        let frame = Frame { kind, params: data.params, time, sampled: stamped.sampled, data: data.data };
        let mut closed = vec![];
        for id in stamped.to {
            let Some((_, viewer)) = peers.get_mut(&id) else { continue };
            viewer.write(&frame);
            for event in viewer.drain(now, |to, datagram| send(socket, to, datagram)) {
                match event {
                    PeerEvent::KeyframeWanted => broadcast.wants_keyframe(),
                    PeerEvent::Closed => closed.push(id),
                    PeerEvent::Connected => broadcast.connected(id),
                    PeerEvent::Disconnected | PeerEvent::Media(_) => {}
                }
            }
        }
        for id in closed.into_iter().chain(stamped.replaced) {
            self.remove(id, false, now);
        }
    }

    pub(super) fn answer(&mut self, request: Request) {
        let now = now();
        match request {
            Request::Join { at, peer, reply } => {
                let joined = self.join(at.clone(), *peer, now);
                if reply.send(joined).is_err() {
                    // Whoever asked is gone, and nobody else knows the key: it would only keep the name and its number.
                    self.leave(&at, now);
                }
            }
            Request::Patch { at, fragment, guard, reply } => {
                drop(reply.send(self.patch(&at, &fragment, guard, now)));
            }
            Request::Leave { at, reply } => {
                let _ = reply.send(self.leave(&at, now));
            }
            Request::Tally { name, reply } => {
                let publisher = self.broadcasts.get(&name).and_then(Broadcast::publisher);
                let peer = publisher.and_then(|id| self.peers.get(&id));
                let _ = reply.send(peer.map(|(_, peer)| peer.tally));
            }
            Request::Session(request) => self.session(request, now),
        }
    }

    fn leave(&mut self, at: &Address, now: Instant) -> bool {
        let id = self.addresses.get(at).copied();
        if let Some(id) = id {
            tracing::info!(name = at.name, role = ?at.role, "goodbye");
            self.remove(id, true, now);
        }
        id.is_some()
    }

    fn join(&mut self, at: Address, peer: Peer, now: Instant) -> Result<Option<u16>, Denied> {
        let publishes = at.role == Role::Publisher;
        if !self.has_room(at.role, &at.name) {
            return Err(Denied::Full);
        }
        let broadcast = self.broadcast(&at.name, now);
        if publishes {
            broadcast.may_publish(now).map_err(|at| Denied::Busy(Busy(at)))?;
        }
        let id = self.seat(at, peer, Signalling::None, now);
        let slot = publishes.then(|| self.free_slot());
        // Who did not survive being let in needs none.
        self.slots.extend(slot.filter(|_| self.peers.contains_key(&id)).map(|slot| (id, slot)));
        Ok(slot)
    }

    /// The lowest number that no session has.
    pub(super) fn free_slot(&self) -> u16 {
        slots::lowest_free(self.sessions.slots().chain(self.slots.values().copied()))
    }

    pub(super) fn broadcast(&mut self, name: &str, now: Instant) -> &mut Broadcast {
        self.broadcasts.entry(name.to_owned()).or_insert_with(|| Broadcast::new(now))
    }

    /// Lets somebody in who may.
    pub(super) fn seat(&mut self, at: Address, peer: Peer, signalling: Signalling, now: Instant) -> PeerId {
        let id = PeerId(self.next_id);
        self.next_id += 1;
        let broadcast = self.broadcast(&at.name, now);
        let replaced = match at.role {
            Role::Publisher => broadcast.publish(id, signalling, now),
            Role::Viewer => {
                broadcast.watch(id);
                vec![]
            }
        };
        tracing::info!(name = at.name, role = ?at.role, takeover = !replaced.is_empty(), "joined");
        self.addresses.insert(at.clone(), id);
        self.peers.insert(id, (at, peer));
        for old in replaced {
            self.remove(old, false, now);
        }
        self.drain(id, now);
        id
    }

    fn patch(&mut self, at: &Address, f: &Fragment, guard: Guard, now: Instant) -> Result<Patched, PatchError> {
        let id = *self.addresses.get(at).ok_or(PatchError::Gone)?;
        let (_, peer) = self.peers.get_mut(&id).ok_or(PatchError::Gone)?;
        let restarts = f.ufrag.as_ref().is_some_and(|ufrag| !peer.is_ice_session(ufrag));
        let patched = match guard {
            Guard::IceSession(session) if session != peer.ice_session || restarts => return Err(PatchError::Stale),
            Guard::Any if restarts => {
                let ours = peer.restart_ice(f).map_err(PatchError::Refused)?;
                Patched::Restarted(ours, peer.ice_session)
            }
            Guard::None if restarts => return Err(PatchError::Unguarded),
            Guard::None | Guard::Any | Guard::IceSession(_) => {
                peer.trickle(&f.candidates);
                Patched::Trickled
            }
        };
        peer.tick(now);
        self.drain(id, now);
        Ok(patched)
    }

    /// Ends a session. `goodbye`: the other end asked for it.
    pub(super) fn remove(&mut self, id: PeerId, goodbye: bool, now: Instant) {
        let Some((at, mut peer)) = self.peers.remove(&id) else { return };
        peer.close(now, |to, datagram| send(&self.socket, to, datagram));
        self.addresses.remove(&at);
        self.routes.retain(|_, route| *route != id);
        self.sessions.media_gone(id);
        self.slots.remove(&id);
        if let Some(broadcast) = self.broadcasts.get_mut(&at.name) {
            broadcast.leave(id, goodbye, now);
        }
        tracing::info!(name = at.name, role = ?at.role, "left");
    }
}

fn is_black_hole(black_holes: &BTreeMap<String, Instant>, at: &Address, now: Instant) -> bool {
    at.role == Role::Publisher && black_holes.get(&at.name).is_some_and(|until| now < *until)
}

/// Sends or drops: a full socket is a full network, and what waits in line is late.
fn send(socket: &UdpSocket, to: SocketAddr, datagram: &[u8]) {
    let to = match (socket.local_addr(), to.ip()) {
        // A dual-stack socket wants its IPv4 peers mapped.
        (Ok(SocketAddr::V6(_)), IpAddr::V4(ip)) => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
        _ => to,
    };
    if let Err(error) = socket.try_send_to(datagram, to) {
        tracing::debug!(%error, "sending media");
    }
}

/// `::ffff:192.0.2.1`, as a dual-stack socket says it, is 192.0.2.1 to ICE.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[allow(clippy::disallowed_methods, reason = "the media loop drives str0m, which takes the time from outside")]
pub(super) fn now() -> Instant {
    Instant::now()
}
