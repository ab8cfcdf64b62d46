//! The hands of the agent: one task a session that owns the [`Agent`] and its sockets, carries out its orders, and passes
//! on between it, webrtcbin and the network. Packets that leave do not come by here: see [`Outgoing`].

pub(super) mod history;
pub(super) mod sockets;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use tracing::{debug, info};

use crate::config::Uplink;
use crate::status::path::{PathState, PathStats};
use crate::supervisor::event::LocalAddress;

use super::agent::Agent;
use super::clock::now;
use super::disguise::undisguised;
use super::gst::{Face, Mind};
use super::names::Names;
use super::turn::relays::News;
use super::turn::servers::Servers;
use super::turn::{Helpers, Word};
use super::types::{CandidateFacts, Health, IceState, Order, PathFigures, Plan, SocketId, Told};
use super::wire::Packet;
use crate::rtp::packet::Kind;
use sockets::{Outgoing, Sockets};

/// Packets of the far end that wait for the agent. It takes microseconds for each; a flood is dropped here.
const INCOMING_MAX: usize = 512;

/// `Stats` is one event a second: figures that are twice as fresh.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// What webrtcbin, or a sending thread, has to say to the agent.
enum Input {
    Gather,
    RemoteCandidate(String),
    LocalCredentials(String, String),
    RemoteCredentials(String, String),
    Controlling(bool),
    RelayOnly(bool),
    Tos(u32),
    Servers(Servers),
    /// A socket cannot send any more.
    Refused(SocketId),
}

/// What the outside may look at, without asking the task.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) local: Vec<CandidateFacts>,
    pub(super) remote: Vec<CandidateFacts>,
    pub(super) selected: Option<(CandidateFacts, CandidateFacts)>,
    pub(super) paths: Vec<PathStats>,
    /// Why no relay is to be had: one sentence.
    pub(super) relay_trouble: Option<String>,
    controlling: bool,
}

/// The side of the engine that webrtcbin talks to.
pub(super) struct Ear {
    inputs: mpsc::UnboundedSender<Input>,
    outgoing: Arc<Outgoing>,
    shown: Arc<Mutex<Shown>>,
}

impl Ear {
    fn tell(&self, input: Input) {
        let _session_over = self.inputs.send(input);
    }

    pub(super) fn servers(&self, servers: Servers) {
        self.tell(Input::Servers(servers));
    }

    pub(super) fn shown<R>(&self, look: impl FnOnce(&Shown) -> R) -> R {
        look(&self.shown.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Mind for Ear {
    fn gather(&self) {
        self.tell(Input::Gather);
    }

    fn remote_candidate(&self, candidate: &str) {
        self.tell(Input::RemoteCandidate(candidate.to_owned()));
    }

    fn local_credentials(&self, ufrag: &str, pwd: &str) {
        self.tell(Input::LocalCredentials(ufrag.to_owned(), pwd.to_owned()));
    }

    fn remote_credentials(&self, ufrag: &str, pwd: &str) {
        self.tell(Input::RemoteCredentials(undisguised(ufrag), undisguised(pwd)));
    }

    fn set_controlling(&self, controlling: bool) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).controlling = controlling;
        self.tell(Input::Controlling(controlling));
    }

    fn is_controlling(&self) -> bool {
        self.shown(|shown| shown.controlling)
    }

    fn set_relay_only(&self, relay_only: bool) {
        self.tell(Input::RelayOnly(relay_only));
    }

    fn set_tos(&self, tos: u32) {
        self.tell(Input::Tos(tos));
    }

    /// The engine has them from the session itself, with their secrets as secrets.
    fn add_server(&self, _url: &str) -> bool {
        true
    }

    fn send(&self, packet: &[u8]) {
        self.outgoing.send(now(), packet, |socket| self.tell(Input::Refused(socket)));
    }

    fn candidates(&self, local: bool) -> Vec<CandidateFacts> {
        self.shown(|shown| if local { shown.local.clone() } else { shown.remote.clone() })
    }

    fn selected(&self) -> Option<(CandidateFacts, CandidateFacts)> {
        self.shown(|shown| shown.selected.clone())
    }
}

/// An engine that has not been started yet: webrtcbin may already talk to its ear.
pub(super) struct Engine {
    agent: Agent,
    inputs: mpsc::UnboundedReceiver<Input>,
    network: watch::Receiver<Vec<LocalAddress>>,
    packets: mpsc::Receiver<Packet>,
    sockets: Sockets,
    outgoing: Arc<Outgoing>,
    shown: Arc<Mutex<Shown>>,
    shown_at: Instant,
    helpers: Helpers,
    names: Names,
}

impl Engine {
    pub(super) fn new(plan: Plan, network: watch::Receiver<Vec<LocalAddress>>, uplink: Uplink) -> (Self, Arc<Ear>) {
        let (inputs, heard) = mpsc::unbounded_channel();
        let (incoming, packets) = mpsc::channel(INCOMING_MAX);
        let (outgoing, shown) = (Arc::<Outgoing>::default(), Arc::<Mutex<Shown>>::default());
        let ear = Arc::new(Ear { inputs, outgoing: Arc::clone(&outgoing), shown: Arc::clone(&shown) });
        let agent = Agent::new(plan);
        let helpers = Helpers::new(uplink, incoming.clone());
        let sockets = Sockets::new(incoming);
        let shown_at = now();
        let names = Names::new();
        let engine =
            Self { agent, inputs: heard, network, packets, sockets, outgoing, shown, shown_at, helpers, names };
        (engine, ear)
    }

    /// Runs until the task is aborted, or until webrtcbin has let go of the ear.
    pub(super) async fn run(mut self, face: Face, tell: impl Fn(Told) + Send) {
        let addresses = self.network.borrow_and_update().clone();
        self.agent.network(now(), &addresses);
        loop {
            self.carry_out_orders(&face, &tell);
            let deadlines = [self.agent.deadline(), self.helpers.deadline(now()), self.outgoing.deadline()];
            let deadline = deadlines.into_iter().flatten().min();
            tokio::select! {
                input = self.inputs.recv() => match input {
                    Some(input) => self.hear(input),
                    None => return,
                },
                Some(packet) = self.packets.recv() => self.take_in(&packet, &face),
                Ok(()) = self.network.changed() => {
                    let addresses = self.network.borrow_and_update().clone();
                    self.agent.network(now(), &addresses);
                }
                Some(candidate) = self.names.next() => self.remote_candidate(now(), &candidate),
                word = self.helpers.next() => self.take_help(word, &face),
                () = at(deadline) => {
                    self.agent.timeout(now());
                    self.play_again();
                    self.help();
                    self.show_now_and_then();
                }
            }
        }
    }

    fn hear(&mut self, input: Input) {
        let now = now();
        match input {
            Input::Gather => self.agent.gather(now),
            Input::RemoteCandidate(text) => self.remote_candidate(now, &text),
            Input::LocalCredentials(ufrag, pwd) => self.agent.local_credentials(now, &ufrag, &pwd),
            Input::RemoteCredentials(ufrag, pwd) => self.agent.remote_credentials(now, &ufrag, &pwd),
            Input::Controlling(controlling) => self.agent.set_controlling(controlling),
            Input::RelayOnly(relay_only) => self.agent.set_relay_only(relay_only),
            Input::Servers(servers) => {
                self.helpers.use_servers(servers);
                self.shown.lock().unwrap_or_else(PoisonError::into_inner).relay_trouble = None;
            }
            Input::Tos(tos) => self.sockets.set_tos(tos),
            Input::Refused(socket) => self.agent.send_failed(now, socket),
        }
    }

    /// One whose address is a name comes again when that is known.
    fn remote_candidate(&mut self, now: Instant, text: &str) {
        let own = self.network.borrow().iter().map(|local| local.ip).collect::<Vec<_>>();
        if !self.names.take(text, own.into_iter()) && !self.agent.remote_candidate(now, text) {
            info!("a candidate of the server is left out, it cannot be read: {text}");
        }
    }

    fn take_in(&mut self, packet: &Packet, face: &Face) {
        let Packet { socket, from, bytes } = packet;
        match Kind::of(bytes) {
            Kind::Stun => match self.helpers.answer(*socket, *from, bytes) {
                Some(mapped) => self.agent.reflexive(now(), *socket, mapped),
                None => self.agent.stun(now(), *socket, *from, bytes),
            },
            kind @ (Kind::Dtls | Kind::Rtp | Kind::Rtcp) => {
                if self.agent.accepts(*socket, *from) {
                    self.agent.heard(now(), *socket, *from, kind);
                    face.deliver(bytes);
                }
            }
            Kind::ChannelData | Kind::Unknown => {}
        }
    }

    fn carry_out_orders(&mut self, face: &Face, tell: &impl Fn(Told)) {
        let mut changed = false;
        while let Some(order) = self.agent.next_order() {
            changed |= !matches!(order, Order::Send { .. });
            self.carry_out(order, face, tell);
        }
        if changed {
            self.show();
        }
    }

    fn carry_out(&mut self, order: Order, face: &Face, tell: &impl Fn(Told)) {
        match order {
            Order::Open { socket, address } => match self.sockets.open(socket, &address) {
                Ok(bound) => {
                    self.helpers.opened(socket, bound, address);
                    self.agent.opened(now(), socket, bound);
                }
                Err(error) => {
                    debug!("no socket on {} ({}): {error}", address.interface, address.ip);
                    self.agent.not_opened(now(), socket);
                }
            },
            Order::Close(socket) => {
                self.sockets.close(socket);
                for relay in self.helpers.closed(socket) {
                    self.sockets.close(relay);
                }
            }
            Order::Send { route, packet } => {
                let sent = self.sockets.get(route.socket).map(|wire| wire.send(&packet, &route.to.into()));
                if sent.is_some_and(|sent| sent.is_err()) {
                    self.agent.send_failed(now(), route.socket);
                }
            }
            Order::Routes(routes) => {
                if !self.outgoing.set(now(), &routes, &self.sockets) {
                    tell(Told::Incomplete);
                }
            }
            Order::State(state) => {
                self.helpers.stands(now(), state);
                face.set_state(state);
            }
            Order::Gathered => face.set_gathered(),
            Order::Moved(step) => tell(Told::Moved(step)),
        }
    }

    /// What the far end may have missed goes out once more, bit by bit.
    fn play_again(&mut self) {
        let refused = std::cell::Cell::new(None);
        self.outgoing.go_on(now(), |socket| refused.set(Some(socket)));
        if let Some(socket) = refused.take() {
            self.agent.send_failed(now(), socket);
        }
    }

    /// Figures grow old while nothing else happens.
    fn show_now_and_then(&mut self) {
        let passed = now() - self.shown_at;
        if passed >= SHOW_EVERY {
            self.shown_at = now();
            let packets = u32::try_from(self.outgoing.take_media()).unwrap_or(u32::MAX);
            self.agent.set_packet_rate(f64::from(packets) / passed.as_secs_f64());
            self.show();
        }
    }

    /// What the tasks behind the helpers have to say.
    fn take_help(&mut self, word: Word, face: &Face) {
        match word {
            Word::StunServer(server) => self.helpers.mirror(server),
            Word::Relay(News::Lent { relay, base, address, outbox }) => {
                if self.helpers.lent(relay, base) {
                    self.sockets.lent(relay, outbox);
                    self.agent.relayed(now(), relay, base, address);
                }
            }
            Word::Relay(News::Lost(relay)) => {
                self.helpers.lost(relay);
                self.sockets.close(relay);
                self.agent.relay_lost(now(), relay);
            }
            Word::Relay(News::Hopeless(words)) => {
                self.shown.lock().unwrap_or_else(PoisonError::into_inner).relay_trouble = Some(words);
                if self.helpers.is_relay_only() && !self.helpers.has_relay() {
                    // Nothing else may be used: better now than after the patience of ICE.
                    face.set_state(IceState::Failed);
                }
            }
        }
        self.help();
    }

    fn help(&mut self) {
        for (socket, server, packet) in self.helpers.due(now()) {
            if let Some(wire) = self.sockets.get(socket) {
                let _asked_again = wire.send(&packet, &server.into());
            }
        }
    }

    fn show(&self) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.local = self.agent.candidates(true);
        shown.remote = self.agent.candidates(false);
        shown.selected = self.agent.selected();
        shown.paths = self.agent.paths(now()).iter().map(|path| figures(path, &self.sockets)).collect();
    }
}

/// One path as the outside sees it.
fn figures(of: &PathFigures, sockets: &Sockets) -> PathStats {
    PathStats {
        interface: of.address.interface.clone(),
        address: of.address.ip.to_string(),
        relayed: of.relayed,
        state: match of.health {
            Health::Unproved => PathState::Unproved,
            Health::Good => PathState::Good,
            Health::Suspect => PathState::Suspect,
            Health::Dead => PathState::Dead,
        },
        selected: of.selected,
        rtt_ms: of.rtt.map(|rtt| (rtt.as_secs_f64() * 1e5).round() / 100.0),
        loss: of.loss,
        bytes_sent: sockets.sent(&of.address),
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        #[allow(
            clippy::disallowed_methods,
            reason = "the deadline of the agent: it decides in virtual time, like the brain"
        )]
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
