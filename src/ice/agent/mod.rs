//! Pure: the roaming agent - ICE by the crate `is`, our own rules of the road beside it, every input carrying `now`.
//!
//! Who does what. `is` pairs candidates, sends the first checks, answers those of the far end, settles role conflicts and
//! learns addresses of the far end that nobody has signalled. [`paths`](super::paths) decides on local addresses and on
//! where media goes. This file joins them: it knows which socket is which candidate, notes the transaction of every check
//! that leaves (of `is` and of our own) and tells `paths` of the answers. `is` is never asked which route is best: its
//! timers are made for calls that end when a network does.
//!
//! No candidate is signalled, ever. A signalled one has a priority of its own, which no address that the far end learns
//! from our checks can beat (host) or which depends on what comes first, candidate or check (reflexive, relayed): its
//! RTCP would go to the wrong place. Ingest servers are reached by our checks alone; a far end that must be told where to
//! find us, because it cannot be reached, is none. So there is no order for it, and `Gathered` comes at once.

pub(super) mod checks;
pub(super) mod clock;
pub(super) mod pacing;
pub(super) mod state;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use is::stun::{StunMessage, StunPacket, TransId};
use is::{Candidate, CandidateKind, IceAgent, IceCreds, Protocol};

use super::paths::{Check, Paths, Step};
use super::types::{Again, CandidateFacts, CandidateType, Order, PathFigures, Plan, Route, SocketId};
use crate::rtp::packet::Kind;
use crate::supervisor::event::LocalAddress;
use checks::{Consent, Question, local_priority};
use clock::Awake;
use pacing::{INTERVAL_MIN, Pacing};
use state::{Facts, Standing};

/// `is` repeats a check after this, then after twice that and so on, and looks at every pair at least as often as `RTO_MAX`.
const RTO: Duration = Duration::from_millis(100);
const RTO_MAX: Duration = Duration::from_millis(500);
/// `is` forgets a pair after so many open checks (30 s). We give a silent standby a new socket before.
const RETRANSMITS_MAX: usize = 60;
/// Candidates of the far end that are used. Servers have a handful.
const REMOTES_MAX: usize = 32;
/// Bytes of a candidate that are read.
const CANDIDATE_BYTES_MAX: usize = 512;
/// Pairs that `is` keeps: every candidate of the far end on every line.
const PAIRS_MAX: usize = 1_000;
/// Checks whose answers are waited for, and how long.
const OPEN_MAX: usize = 2_048;
const OPEN_FOR: Duration = Duration::from_secs(5);

/// A check that has left.
#[derive(Debug, Clone, Copy)]
struct Sent {
    route: Route,
    at: Instant,
    nominating: bool,
    /// Not one of `is`.
    ours: bool,
}

/// One ICE session that may change its local addresses as often as the network does.
///
/// After every input ask [`Agent::next_order`] until `None`, then [`Agent::deadline`].
pub(crate) struct Agent {
    clock: Awake,
    ice: IceAgent,
    paths: Paths,
    consent: Consent,
    standing: Standing,
    pacing: Pacing,
    /// By transaction.
    open: BTreeMap<TransId, Sent>,
    relay_only: bool,
    loopback: bool,
    gathering: bool,
    orders: VecDeque<Order>,
}

impl Agent {
    /// Nothing happens before [`Agent::gather`].
    pub(crate) fn new(plan: Plan) -> Self {
        let mut ice = IceAgent::new(IceCreds { ufrag: String::new(), pass: String::new() });
        ice.set_timing_advance(INTERVAL_MIN);
        ice.set_initial_stun_rto(RTO);
        ice.set_max_stun_rto(RTO_MAX);
        ice.set_max_stun_retransmits(RETRANSMITS_MAX);
        ice.set_max_candidate_pairs(PAIRS_MAX);
        ice.set_controlling(true);
        Self {
            clock: Awake::default(),
            ice,
            paths: Paths::new(plan),
            consent: Consent::default(),
            standing: Standing::new(plan.suspect_after),
            pacing: Pacing::default(),
            open: BTreeMap::new(),
            relay_only: plan.relay_only,
            loopback: plan.loopback,
            gathering: false,
            orders: VecDeque::new(),
        }
    }

    /// To be said before candidates are known: a conflict of roles is settled later by ICE itself.
    pub(crate) fn set_controlling(&mut self, controlling: bool) {
        self.ice.set_controlling(controlling);
    }

    /// Only relayed candidates: to be said before [`Agent::gather`].
    pub(crate) fn set_relay_only(&mut self, relay_only: bool) {
        self.relay_only = relay_only;
        self.paths.set_relay_only(relay_only);
    }

    /// How many RTP packets leave in a second: says how far behind a copy may be. About 5 Mb/s are assumed.
    pub(crate) fn set_packet_rate(&mut self, per_second: f64) {
        self.paths.set_packet_rate(per_second);
    }

    /// Ours, from our SDP. A second, different pair is an ICE restart: what is validated is used on until something is
    /// validated anew.
    pub(crate) fn local_credentials(&mut self, now: Instant, ufrag: &str, pwd: &str) {
        let now = self.clock.hear(now);
        let credentials = IceCreds { ufrag: ufrag.to_owned(), pass: pwd.to_owned() };
        match self.consent.local() {
            Some(known) if *known == credentials => return,
            Some(_) => {
                self.ice.ice_restart(credentials.clone(), true);
                self.consent.set_remote(None);
                self.open.clear();
                self.paths.restart(now);
                self.orders.extend(self.standing.restart(now).map(Order::State));
            }
            None => self.ice.set_local_credentials(credentials.clone()),
        }
        self.consent.set_local(credentials);
        self.ice.set_control_tie_breaker(self.consent.tie_breaker());
        self.settle(now);
    }

    /// Those of the far end, from its SDP.
    pub(crate) fn remote_credentials(&mut self, now: Instant, ufrag: &str, pwd: &str) {
        let now = self.clock.hear(now);
        let credentials = IceCreds { ufrag: ufrag.to_owned(), pass: pwd.to_owned() };
        self.ice.set_remote_credentials(credentials.clone());
        self.consent.set_remote(Some(credentials));
        self.settle(now);
    }

    /// A candidate of the far end, the attribute with or without `a=`; empty at the end of candidates. False: not understood.
    /// One that is understood but of no use (TCP, loopback, the 33rd) is left out in silence.
    pub(crate) fn remote_candidate(&mut self, now: Instant, text: &str) -> bool {
        let now = self.clock.hear(now);
        let text = text.trim();
        let text = text.strip_prefix("a=").unwrap_or(text);
        if text.is_empty() {
            return true;
        }
        if text.len() > CANDIDATE_BYTES_MAX {
            return false;
        }
        let Ok(candidate) = Candidate::from_sdp_string(text) else { return false };
        let ip = candidate.addr().ip();
        let useless = candidate.proto() != Protocol::Udp
            || candidate.addr().port() == 0
            || ip.is_unspecified()
            || ip.is_multicast()
            || (ip.is_loopback() && !self.loopback);
        if !useless && self.ice.remote_candidates().count() < REMOTES_MAX {
            self.ice.add_remote_candidate(candidate);
        }
        self.settle(now);
        true
    }

    /// Begin. Only the first call counts.
    pub(crate) fn gather(&mut self, now: Instant) {
        let now = self.clock.hear(now);
        if self.gathering {
            return;
        }
        self.gathering = true;
        self.ice.handle_timeout(now);
        self.paths.start(now);
        self.settle(now);
        self.orders.push_back(Order::Gathered);
    }

    /// All usable addresses, the preferred one first.
    pub(crate) fn network(&mut self, now: Instant, addresses: &[LocalAddress]) {
        let now = self.clock.hear(now);
        self.paths.network(now, addresses);
        self.settle(now);
    }

    /// [`Order::Open`] was carried out; the socket has this address.
    pub(crate) fn opened(&mut self, now: Instant, socket: SocketId, address: SocketAddr) {
        let now = self.clock.hear(now);
        if let Some(preference) = self.paths.opened(now, socket, address)
            && !self.relay_only
            && let Ok(candidate) = Candidate::host(address, Protocol::Udp)
        {
            self.offer(candidate, preference);
        }
        self.settle(now);
    }

    /// [`Order::Open`] could not be carried out. It is tried again later.
    pub(crate) fn not_opened(&mut self, now: Instant, socket: SocketId) {
        let now = self.clock.hear(now);
        self.paths.not_opened(now, socket);
        self.settle(now);
    }

    /// A STUN server has seen this socket as `mapped`: for the statistics.
    pub(crate) fn reflexive(&mut self, now: Instant, socket: SocketId, mapped: SocketAddr) {
        let now = self.clock.hear(now);
        self.paths.reflexive(socket, mapped);
        self.settle(now);
    }

    /// A TURN server lends us `address`; packets for it pass through the socket `base`. `relay` is an id of the caller's own,
    /// none of an [`Order::Open`]. When `base` is closed the relay is too.
    pub(crate) fn relayed(&mut self, now: Instant, relay: SocketId, base: SocketId, address: SocketAddr) {
        let now = self.clock.hear(now);
        let local = self.paths.lines().get(base).and_then(|line| line.local);
        if let Some(local) = local
            && let Ok(candidate) = Candidate::relayed(address, local, Protocol::Udp)
            && let Some(preference) = self.paths.relayed(now, relay, base, address)
        {
            self.offer(candidate, preference);
        }
        self.settle(now);
    }

    /// The TURN server has taken it back.
    pub(crate) fn relay_lost(&mut self, now: Instant, relay: SocketId) {
        let now = self.clock.hear(now);
        self.paths.lost(now, relay);
        self.settle(now);
    }

    /// A STUN packet has come; any bytes may be in it.
    pub(crate) fn stun(&mut self, now: Instant, socket: SocketId, from: SocketAddr, packet: &[u8]) {
        let now = self.clock.hear(now);
        let Some(local) = self.paths.lines().get(socket).and_then(|line| line.local) else { return };
        let Some(message) = StunMessage::parse(packet).ok().filter(|_| self.consent.local().is_some()) else { return };
        let route = Route { socket, to: from };
        if message.is_binding_request() {
            if self.hand_over(now, local, from, message) {
                self.paths.met(now, route);
            }
        } else if let Some(sent) = self.open.get(&message.trans_id()).copied().filter(|sent| sent.route == route) {
            // An answer must come the way its question went (RFC 8445, 7.2.5.2.1).
            let genuine =
                if sent.ours { self.consent.is_answer(&message) } else { self.hand_over(now, local, from, message) };
            if genuine
                && let Some(mapped) = message.mapped_address().filter(|_| message.is_successful_binding_response())
            {
                self.open.remove(&message.trans_id());
                let check = Check { sent: sent.at, nominating: sent.nominating, mapped, weight: self.weight(from) };
                self.paths.answered(now, route, check);
            }
        }
        self.settle(now);
    }

    /// DTLS, RTP or RTCP has come. Counts only from where the far end was validated.
    pub(crate) fn heard(&mut self, now: Instant, socket: SocketId, from: SocketAddr, kind: Kind) {
        let now = self.clock.hear(now);
        if matches!(kind, Kind::Dtls | Kind::Rtp | Kind::Rtcp) {
            let route = Route { socket, to: from };
            if kind == Kind::Rtcp {
                self.paths.reported(now, route);
            }
            self.paths.heard(now, route);
            self.settle(now);
        }
    }

    /// The kernel did not take a packet for this socket, media or check.
    pub(crate) fn send_failed(&mut self, now: Instant, socket: SocketId) {
        let now = self.clock.hear(now);
        self.paths.refused(now, socket);
        self.settle(now);
    }

    /// When [`Agent::timeout`] is to be called, if nothing comes before.
    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        let ice = self.ice_deadline();
        let standing = self.standing.deadline(self.paths.last_sign());
        let due = [ice, standing, self.paths.deadline()].into_iter().flatten().min();
        self.clock.expect(due)
    }

    /// See [`Agent::deadline`]. Early calls do no harm.
    pub(crate) fn timeout(&mut self, now: Instant) {
        let now = self.clock.hear(now);
        self.paths.timeout(now);
        self.settle(now);
    }

    /// What is to be done next.
    pub(crate) fn next_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// May DTLS or SRTP from there be given to webrtcbin? Only from where the far end has proved who it is.
    pub(crate) fn accepts(&self, socket: SocketId, from: SocketAddr) -> bool {
        self.paths.lines().get(socket).is_some_and(|line| line.knows(from))
    }

    /// Every path in figures, the preferred one first.
    pub(crate) fn paths(&self, now: Instant) -> Vec<PathFigures> {
        self.paths.figures(self.clock.at(now))
    }

    /// All candidates of one side.
    pub(crate) fn candidates(&self, local: bool) -> Vec<CandidateFacts> {
        if local {
            let lines = self.paths.lines();
            lines
                .iter()
                .flat_map(|(socket, _)| self.local_facts(socket).into_iter().chain(self.mapped(socket)))
                .collect()
        } else {
            self.ice.remote_candidates().map(|candidate| facts(&candidate)).collect()
        }
    }

    /// The pair that media uses, ours first.
    pub(crate) fn selected(&self) -> Option<(CandidateFacts, CandidateFacts)> {
        let route = self.paths.selected()?;
        let remote = self.ice.remote_candidates().filter(|candidate| candidate.addr() == route.to);
        // Right after an ICE restart the candidates of the far end are not known yet.
        let unknown = CandidateFacts { address: route.to, kind: CandidateType::PeerReflexive, priority: 0 };
        let remote = remote.max_by_key(Candidate::prio).map_or(unknown, |candidate| facts(&candidate));
        Some((self.local_facts(route.socket)?, remote))
    }

    /// As after so many moves.
    #[cfg(test)]
    pub(super) fn spend(&mut self, anchors: u32) {
        self.paths.spend(anchors);
    }

    fn local_facts(&self, socket: SocketId) -> Option<CandidateFacts> {
        let line = self.paths.lines().get(socket)?;
        let relayed = line.place.relayed;
        let kind = if relayed { CandidateType::Relayed } else { CandidateType::Host };
        Some(CandidateFacts { address: line.local?, kind, priority: local_priority(relayed, line.preference) })
    }

    /// The same socket as others see it.
    fn mapped(&self, socket: SocketId) -> Option<CandidateFacts> {
        let line = self.paths.lines().get(socket)?;
        let (address, kind) = match (line.reflexive, line.mapped) {
            (Some(address), _) => (address, CandidateType::ServerReflexive),
            (None, Some(address)) => (address, CandidateType::PeerReflexive),
            (None, None) => return None,
        };
        let facts = self.local_facts(socket).filter(|facts| facts.address != address)?;
        Some(CandidateFacts { address, kind, ..facts })
    }

    /// To `is`, which says whether it is genuine.
    fn hand_over(&mut self, now: Instant, local: SocketAddr, from: SocketAddr, message: StunMessage) -> bool {
        self.ice.handle_packet(now, StunPacket { proto: Protocol::Udp, source: from, destination: local, message })
    }

    /// A candidate of this preference, for `is` to check.
    fn offer(&mut self, candidate: Candidate, preference: u32) {
        self.ice.set_local_preference(move |_: &Candidate, _: usize| preference);
        self.ice.add_local_candidate(candidate);
    }

    fn weight(&self, of: SocketAddr) -> u32 {
        let candidates = self.ice.remote_candidates().filter(|candidate| candidate.addr() == of);
        candidates.map(|candidate| candidate.prio()).max().unwrap_or(0)
    }

    /// Before the far end is known `is` has nothing to do, though it thinks it has.
    fn ice_deadline(&mut self) -> Option<Instant> {
        if self.gathering && self.consent.remote().is_some() { self.ice.poll_timeout() } else { None }
    }

    /// Lets both work until neither has anything to say.
    fn settle(&mut self, now: Instant) {
        while self.ice_deadline().is_some_and(|at| at <= now) {
            self.ice.handle_timeout(now);
            self.send_checks(now);
        }
        self.send_checks(now);
        while self.ice.poll_event().is_some() {}
        while let Some(step) = self.paths.next() {
            self.carry_out(now, step);
        }
        let facts = Facts {
            checking: self.gathering && self.consent.remote().is_some(),
            routed: self.paths.selected().is_some(),
            last_sign: self.paths.last_sign(),
            exhausted: self.paths.exhausted(),
        };
        self.orders.extend(self.standing.look(now, facts).map(Order::State));
    }

    /// What `is` wants to send; checks are noted.
    fn send_checks(&mut self, now: Instant) {
        while let Some(transmit) = self.ice.poll_transmit() {
            let lines = self.paths.lines();
            let line = lines.iter().find(|(_, line)| line.local == Some(transmit.source)).map(|(socket, _)| socket);
            let Some(socket) = line else { continue };
            let route = Route { socket, to: transmit.destination };
            let packet = transmit.contents.to_vec();
            if let Some(check) = StunMessage::parse(&packet).ok().filter(StunMessage::is_binding_request) {
                self.note(check.trans_id(), Sent { route, at: now, nominating: check.use_candidate(), ours: false });
                self.paths.asked(now, route);
                self.pacing.sent(now);
                self.ice.set_timing_advance(self.pacing.interval());
            }
            self.orders.push_back(Order::Send { route, packet });
        }
    }

    fn carry_out(&mut self, now: Instant, step: Step) {
        match step {
            Step::Open(socket, address) => self.orders.push_back(Order::Open { socket, address }),
            Step::Close(socket, local) => {
                let ours = |candidate: &Candidate| {
                    Some(candidate.addr()) == local
                        && matches!(candidate.kind(), CandidateKind::Host | CandidateKind::Relayed)
                };
                let candidate = self.ice.local_candidates().find(ours);
                if let Some(candidate) = candidate {
                    self.ice.invalidate_candidate(&candidate);
                }
                self.open.retain(|_, sent| sent.route.socket != socket);
                self.orders.push_back(Order::Close(socket));
            }
            Step::Ask { route, nominate } => self.ask(now, route, nominate),
            Step::Routes(mut routes) => {
                let clock = &self.clock;
                routes.again = routes.again.map(|again| Again { since: clock.in_the_world(again.since), ..again });
                self.orders.push_back(Order::Routes(routes));
            }
            Step::Moved(moved) => self.orders.push_back(Order::Moved(moved)),
        }
    }

    fn ask(&mut self, now: Instant, route: Route, nominate: bool) {
        let Some(preference) = self.paths.lines().get(route.socket).map(|line| line.preference) else { return };
        let controlling = self.ice.controlling();
        let id = TransId::new();
        if let Some(packet) = self.consent.ask(Question { id, controlling, preference, nominate }) {
            self.note(id, Sent { route, at: now, nominating: nominate && controlling, ours: true });
            self.orders.push_back(Order::Send { route, packet });
        }
    }

    fn note(&mut self, id: TransId, sent: Sent) {
        if self.open.len() >= OPEN_MAX {
            self.open.retain(|_, open| sent.at.saturating_duration_since(open.at) < OPEN_FOR);
        }
        if self.open.len() < OPEN_MAX {
            self.open.insert(id, sent);
        }
    }
}

fn facts(candidate: &Candidate) -> CandidateFacts {
    let kind = match candidate.kind() {
        CandidateKind::Host => CandidateType::Host,
        CandidateKind::ServerReflexive => CandidateType::ServerReflexive,
        CandidateKind::PeerReflexive => CandidateType::PeerReflexive,
        CandidateKind::Relayed => CandidateType::Relayed,
    };
    CandidateFacts { address: candidate.addr(), kind, priority: candidate.prio() }
}
