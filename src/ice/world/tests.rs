//! A fake network in virtual time: the agent on one side, a far end on the other, links between that fail in every way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use is::stun::{StunMessage, StunPacket};
use is::{Candidate, DefaultSha1HmacProvider, IceAgent, IceAgentEvent, IceCreds, Protocol, Sha1HmacProvider};

use super::agent::Agent;
use super::io::history::Encore;
use super::types::{IceState, Move, Order, Plan, Redundancy, Route, Routes, SocketId};
use crate::rtp::packet::Kind;
use crate::supervisor::event::LocalAddress;

/// One moment for all tests.
#[allow(clippy::disallowed_methods, reason = "a test needs some Instant to start from; the value does not matter")]
pub(super) fn base() -> Instant {
    static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);
    *BASE
}

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// xorshift64*: the dice of a seed.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end.max(1)
    }

    pub(super) fn chance(&mut self, of_one: f64) -> bool {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64 <= of_one && of_one > 0.0
    }
}

/// One uplink of the van.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) address: LocalAddress,
    /// Has its address; else it is not in the list of the network, and its sockets refuse packets.
    pub(super) up: bool,
    /// Drops what leaves, what comes.
    pub(super) out_dead: bool,
    pub(super) in_dead: bool,
    /// The kernel refuses packets though the address is still there.
    pub(super) refuses: bool,
    /// One way.
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    pub(super) loss: f64,
    /// Which mapping its NAT uses.
    pub(super) nat: u16,
}

impl Link {
    pub(super) fn works(&self) -> bool {
        self.up && !self.out_dead && !self.in_dead && !self.refuses
    }
}

pub(super) fn address(interface: &str, ip: &str) -> LocalAddress {
    LocalAddress { interface: interface.to_owned(), ip: ip.parse().unwrap() }
}

pub(super) fn link(interface: &str, ip: &str) -> Link {
    Link {
        address: address(interface, ip),
        up: true,
        out_dead: false,
        in_dead: false,
        refuses: false,
        delay: ms(25),
        jitter: ms(0),
        loss: 0.0,
        nat: 0,
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Data {
    Stun(Vec<u8>),
    Media(u64),
    Rtcp,
}

/// On its way, with the address it seems to come from (to the far end) or is meant for (to us).
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Parcel {
    Out(SocketAddr, Data),
    In(SocketAddr, Data),
}

#[derive(Debug, Clone)]
struct Socket {
    link: usize,
    local: SocketAddr,
    closed: bool,
}

/// What the far end does with ICE.
enum Brain {
    /// Like a controlled libnice: takes media from every checked address, fixes the priority of an address at its first
    /// check, follows a nomination only to strictly more.
    Law { priorities: BTreeMap<SocketAddr, u32>, accepted: BTreeSet<SocketAddr>, selected: Option<(SocketAddr, u32)> },
    /// A controlled agent of the crate `is`.
    Full { agent: Box<IceAgent>, checked: BTreeSet<SocketAddr>, selected: Option<SocketAddr> },
}

pub(super) struct Far {
    brain: Brain,
    address: SocketAddr,
    credentials: IceCreds,
    us: IceCreds,
    /// Media that came, in order of arrival: when, which.
    pub(super) media: Vec<(Instant, u64)>,
    seen: BTreeSet<u64>,
    pub(super) copies: u64,
    /// New media that was older than the window of the replay protection, and dropped.
    pub(super) too_late: u64,
    /// Addresses in the order in which they were nominated, with the priority.
    pub(super) followed: Vec<(SocketAddr, u32)>,
    /// Answers no checks and sends nothing.
    pub(super) mute: bool,
    /// Its RTCP comes no more often.
    pub(super) reports_every: Option<Duration>,
    last_media: Option<Instant>,
    last_report: Option<Instant>,
}

impl Far {
    pub(super) fn target(&self) -> Option<SocketAddr> {
        match &self.brain {
            Brain::Law { selected, .. } => selected.map(|(address, _)| address),
            Brain::Full { selected, .. } => *selected,
        }
    }

    fn knows(&self, from: SocketAddr) -> bool {
        match &self.brain {
            Brain::Law { accepted, .. } => accepted.contains(&from),
            Brain::Full { checked, .. } => checked.contains(&from),
        }
    }

    /// From now on its RTCP goes to an address where nobody is, though it answers every check.
    pub(super) fn misdirect(&mut self) {
        if let Brain::Law { selected: Some((address, _)), .. } = &mut self.brain {
            *address = SocketAddr::new(address.ip(), 9);
        }
    }

    /// Like `nice_agent_restart`: what was selected is forgotten.
    pub(super) fn restart(&mut self, credentials: IceCreds, us: IceCreds) {
        match &mut self.brain {
            Brain::Law { priorities, selected, .. } => {
                priorities.clear();
                if let Some((_, priority)) = selected {
                    *priority = 0;
                }
            }
            Brain::Full { agent, .. } => {
                agent.ice_restart(credentials.clone(), true);
                agent.set_remote_credentials(us.clone());
            }
        }
        (self.credentials, self.us) = (credentials, us);
    }
}

fn hmac(key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
    DefaultSha1HmacProvider.sha1_hmac(key, payloads)
}

pub(super) fn credentials(name: &str) -> IceCreds {
    IceCreds { ufrag: format!("{name}ufrag"), pass: format!("{name}passwordpasswordpass") }
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) agent: Agent,
    pub(super) links: Vec<Link>,
    pub(super) far: Far,
    /// Indices of `links`, the preferred one first.
    pub(super) ranking: Vec<usize>,
    dice: Dice,
    sockets: BTreeMap<SocketId, Socket>,
    wire: BinaryHeap<Reverse<(Instant, u64, Parcel)>>,
    sent: u64,
    port: u16,
    pub(super) routes: Routes,
    encore: Encore,
    /// Where the encore goes.
    again: Option<Route>,
    /// How often something was missing that could not be sent once more.
    pub(super) incomplete: u32,
    pub(super) states: Vec<(Instant, IceState)>,
    pub(super) moves: Vec<(Instant, Move)>,
    /// Routes on which an answer has come.
    validated: BTreeSet<Route>,
    /// RTCP that came to us: when and on which link.
    pub(super) rtcp: Vec<(Instant, usize)>,
    pub(super) media_on: bool,
    pub(super) rtcp_on: bool,
    seq: u64,
    next_media: Instant,
    pub(super) spacing: Duration,
    pub(super) opens: u32,
    /// Packets that left from an address that the agent knew to be gone.
    pub(super) strays: u32,
    pub(super) stun_out: u64,
    /// Checks of the last second, and whether each went where nobody has answered.
    checks: VecDeque<(Instant, bool)>,
    /// Most checks that left within a second, and most of those that went where nobody has answered.
    pub(super) busiest: (usize, usize),
    /// Every socket gets a relay.
    pub(super) turn: bool,
    relays: u32,
    /// Opening fails.
    pub(super) full_house: bool,
    /// What the far end sends seems to come from here.
    pub(super) disguise: Option<SocketAddr>,
    /// Prints what is ordered.
    pub(super) told: bool,
    /// The kernel hands out this port next.
    pub(super) reuse_port: Option<u16>,
    /// Some STUN packets that came.
    pub(super) kept: Vec<Vec<u8>>,
    /// Our process is suspended: what comes waits in the buffers of its sockets.
    asleep: bool,
    buffers: Vec<(SocketId, Data)>,
}

/// Packets: that of pion, the shortest known; str0m has 100, libsrtp 128.
const REPLAY_WINDOW: u64 = 64;

pub(super) const FAR: &str = "198.51.100.1:5000";
/// Where only IPv6 is.
const FAR_6: &str = "[2001:db8:f::1]:5000";

pub(super) fn plan(redundancy: Redundancy) -> Plan {
    Plan { redundancy, suspect_after: ms(500), relay_only: false, loopback: false }
}

impl World {
    pub(super) fn new(seed: u64, plan: Plan, links: Vec<Link>) -> Self {
        let brain = Brain::Law { priorities: BTreeMap::new(), accepted: BTreeSet::new(), selected: None };
        Self::with(seed, plan, links, brain)
    }

    /// With an `is` agent as the far end.
    pub(super) fn full(seed: u64, plan: Plan, links: Vec<Link>) -> Self {
        let mut agent = IceAgent::new(credentials("far"));
        agent.set_controlling(false);
        agent.set_remote_credentials(credentials("us"));
        agent.add_local_candidate(Candidate::host(FAR.parse().unwrap(), Protocol::Udp).unwrap());
        agent.handle_timeout(base());
        Self::with(seed, plan, links, Brain::Full { agent: Box::new(agent), checked: BTreeSet::new(), selected: None })
    }

    fn with(seed: u64, plan: Plan, links: Vec<Link>, brain: Brain) -> Self {
        let address = if links.iter().all(|link| link.address.ip.is_ipv6()) { FAR_6 } else { FAR };
        let far = Far {
            brain,
            address: address.parse().unwrap(),
            credentials: credentials("far"),
            us: credentials("us"),
            media: Vec::new(),
            seen: BTreeSet::new(),
            copies: 0,
            too_late: 0,
            followed: Vec::new(),
            mute: false,
            reports_every: None,
            last_media: None,
            last_report: None,
        };
        Self {
            now: base(),
            agent: Agent::new(plan),
            ranking: (0..links.len()).collect(),
            links,
            far,
            dice: Dice::new(seed),
            sockets: BTreeMap::new(),
            wire: BinaryHeap::new(),
            sent: 0,
            port: 10_000,
            routes: Routes::default(),
            encore: Encore::default(),
            again: None,
            incomplete: 0,
            states: Vec::new(),
            moves: Vec::new(),
            validated: BTreeSet::new(),
            rtcp: Vec::new(),
            media_on: true,
            rtcp_on: true,
            seq: 0,
            next_media: base(),
            spacing: ms(10),
            opens: 0,
            strays: 0,
            stun_out: 0,
            checks: VecDeque::new(),
            busiest: (0, 0),
            turn: false,
            relays: 0,
            full_house: false,
            told: std::env::var_os("ROAMCAST_TOLD").is_some(),
            disguise: None,
            reuse_port: None,
            kept: Vec::new(),
            asleep: false,
            buffers: Vec::new(),
        }
    }

    /// A session is set up, as webrtcbin would.
    pub(super) fn start(&mut self) {
        self.tell_network();
        let far = self.far.address;
        let candidate = format!("candidate:1 1 udp 2015364095 {} {} typ host", far.ip(), far.port());
        let us = credentials("us");
        self.agent.local_credentials(self.now, &us.ufrag, &us.pass);
        self.drain();
        self.agent.gather(self.now);
        self.drain();
        let far = credentials("far");
        self.agent.remote_credentials(self.now, &far.ufrag, &far.pass);
        self.drain();
        assert!(self.agent.remote_candidate(self.now, &candidate));
        self.drain();
    }

    /// New credentials on both sides, signalled within `delay`.
    pub(super) fn restart(&mut self, generation: u32, delay: Duration) {
        let (us, far) = (credentials(&format!("us{generation}")), credentials(&format!("far{generation}")));
        self.agent.local_credentials(self.now, &us.ufrag, &us.pass);
        self.drain();
        self.run(delay);
        self.far.restart(far.clone(), us);
        self.agent.remote_credentials(self.now, &far.ufrag, &far.pass);
        self.agent.remote_candidate(self.now, "candidate:1 1 udp 2015364095 198.51.100.1 5000 typ host");
        self.drain();
    }

    pub(super) fn tell_network(&mut self) {
        let up = self.ranking.iter().filter(|link| self.links[**link].up);
        let addresses: Vec<LocalAddress> = up.map(|link| self.links[*link].address.clone()).collect();
        self.agent.network(self.now, &addresses);
        self.drain();
    }

    pub(super) fn set_up(&mut self, link: usize, up: bool) {
        self.links[link].up = up;
        self.tell_network();
    }

    pub(super) fn silence(&mut self, link: usize, silent: bool) {
        self.links[link].out_dead = silent;
        self.links[link].in_dead = silent;
    }

    fn mapped(&self, socket: &Socket) -> SocketAddr {
        let link = &self.links[socket.link];
        let number = u8::try_from(socket.link).unwrap();
        let ip: IpAddr = match socket.local.ip() {
            IpAddr::V4(_) => [203, 0, 113, number].into(),
            IpAddr::V6(_) => [0x2001, 0xdb8, 0xfff, 0, 0, 0, 0, u16::from(number)].into(),
        };
        SocketAddr::new(ip, socket.local.port().wrapping_add(link.nat.wrapping_mul(7_919)))
    }

    /// The open socket behind this outside address.
    fn behind(&self, outside: SocketAddr) -> Option<SocketId> {
        let open = self.sockets.iter().filter(|(_, socket)| !socket.closed && self.links[socket.link].up);
        open.into_iter().find(|(_, socket)| self.mapped(socket) == outside).map(|(id, _)| *id)
    }

    pub(super) fn link_of(&self, socket: SocketId) -> usize {
        self.sockets[&socket].link
    }

    pub(super) fn selected_link(&self) -> Option<usize> {
        self.routes.selected.map(|route| self.link_of(route.socket))
    }

    /// The link that the far end sends its RTCP to; `None` when the socket it follows is gone.
    pub(super) fn followed_link(&self) -> Option<usize> {
        self.behind(self.far.target()?).map(|socket| self.link_of(socket))
    }

    pub(super) fn open_sockets(&self) -> Vec<usize> {
        self.sockets.values().filter(|socket| !socket.closed).map(|socket| socket.link).collect()
    }

    pub(super) fn open_ports(&self) -> Vec<u16> {
        self.sockets.values().filter(|socket| !socket.closed).map(|socket| socket.local.port()).collect()
    }

    /// RTCP comes over this link though the far end gets nothing.
    pub(super) fn hear(&mut self, link: usize) {
        let open = self.sockets.iter().filter(|(_, socket)| !socket.closed && socket.link == link);
        for socket in open.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.agent.heard(self.now, socket, self.far.address, Kind::Rtcp);
        }
        self.drain();
    }

    pub(super) fn state(&self) -> IceState {
        self.states.last().map_or(IceState::New, |(_, state)| *state)
    }

    fn post(&mut self, link: usize, parcel: Parcel) {
        let it = self.links[link].clone();
        if self.dice.chance(it.loss) {
            return;
        }
        let jitter = self.dice.below(it.jitter.as_micros() as u64 + 1);
        self.sent += 1;
        self.wire.push(Reverse((self.now + it.delay + Duration::from_micros(jitter), self.sent, parcel)));
    }

    /// One packet leaves; the kernel may refuse it.
    fn send(&mut self, route: Route, data: Data) {
        let socket = self.sockets.get(&route.socket).expect("a socket that was opened").clone();
        assert!(!socket.closed, "sent to a closed socket: {route:?}");
        assert_eq!(route.to, self.far.address);
        let link = &self.links[socket.link];
        self.strays += u32::from(!link.up);
        if !link.up || link.refuses {
            self.agent.send_failed(self.now, route.socket);
            return;
        }
        if !link.out_dead {
            let mapped = self.mapped(&socket);
            self.post(socket.link, Parcel::Out(mapped, data));
        }
    }

    /// Carries out all orders.
    pub(super) fn drain(&mut self) {
        for round in 0.. {
            let Some(order) = self.agent.next_order() else { break };
            assert!(round < 10_000, "orders without end: {order:?}");
            if self.told && !matches!(order, Order::Send { .. }) {
                println!("{:?} {order:?}", self.now - base());
            }
            match order {
                Order::Open { socket, address } => self.open(socket, &address),
                Order::Close(socket) => {
                    let one = self.sockets.get_mut(&socket).expect("closed what was never opened");
                    assert!(!one.closed, "closed twice");
                    one.closed = true;
                    let named = self.routes.selected.iter().chain(&self.routes.copies);
                    assert!(!named.into_iter().any(|route| route.socket == socket), "closed what media uses");
                }
                Order::Send { route, packet } => {
                    self.stun_out += 1;
                    self.count_check(route, &packet);
                    self.send(route, Data::Stun(packet));
                }
                Order::Routes(routes) => {
                    for route in routes.selected.iter().chain(&routes.copies) {
                        assert!(!self.sockets[&route.socket].closed, "media to a closed socket");
                        assert!(self.validated.contains(route), "media on a route that nothing was answered on");
                    }
                    assert!(
                        !routes.copies.iter().any(|copy| Some(*copy) == routes.selected),
                        "a copy on the same route"
                    );
                    self.take_routes(routes);
                }
                Order::State(state) => self.states.push((self.now, state)),
                Order::Gathered => {}
                Order::Moved(moved) => self.moves.push((self.now, moved)),
            }
        }
    }

    fn count_check(&mut self, route: Route, packet: &[u8]) {
        if StunMessage::parse(packet).is_ok_and(|message| message.is_binding_request()) {
            self.checks.push_back((self.now, !self.validated.contains(&route)));
            while self.checks.front().is_some_and(|(at, _)| self.now.saturating_duration_since(*at) >= ms(1_000)) {
                self.checks.pop_front();
            }
            let unanswered = self.checks.iter().filter(|(_, unanswered)| *unanswered).count();
            self.busiest = (self.busiest.0.max(self.checks.len()), self.busiest.1.max(unanswered));
        }
    }

    /// As the hands do it.
    fn take_routes(&mut self, routes: Routes) {
        let mut named = routes.selected.iter().chain(&routes.copies);
        if let Some(again) = routes.again {
            assert!(named.any(|route| *route == again.to), "sent once more on a route that is not in use");
            self.again = Some(again.to);
            self.incomplete += u32::from(!self.encore.begin(self.now, again.since));
        } else if !named.any(|route| Some(*route) == self.again) {
            self.again = routes.selected;
            if self.again.is_none() {
                self.encore.stop();
            }
        }
        self.routes = routes;
    }

    fn open(&mut self, socket: SocketId, address: &LocalAddress) {
        self.opens += 1;
        let link = self.links.iter().position(|link| link.address == *address && link.up && !self.full_house);
        let Some(link) = link else { return self.agent.not_opened(self.now, socket) };
        self.port += 1;
        let local = SocketAddr::new(address.ip, self.reuse_port.take().unwrap_or(self.port));
        let before = self.sockets.insert(socket, Socket { link, local, closed: false });
        assert!(before.is_none(), "an id was used twice");
        self.agent.opened(self.now, socket, local);
        if self.turn {
            let relay = SocketId(1 << 31 | self.relays);
            self.relays += 1;
            self.port += 1;
            let local: SocketAddr = SocketAddr::new([192, 0, 2, 77].into(), self.port);
            self.sockets.insert(relay, Socket { link, local, closed: false });
            self.agent.relayed(self.now, relay, socket, local);
        }
    }

    /// The TURN server takes back what this route uses.
    pub(super) fn take_back(&mut self, relay: SocketId) {
        // As with a real one, nothing is ordered about it any more but its closing.
        self.agent.relay_lost(self.now, relay);
        self.drain();
    }

    /// Time passes.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let mut still = 0;
        loop {
            let never = end + ms(1);
            let agent = if self.asleep { never } else { self.agent.deadline().unwrap_or(never) };
            let far = match &mut self.far.brain {
                Brain::Full { agent, .. } => agent.poll_timeout().unwrap_or(never),
                Brain::Law { .. } => never,
            };
            let wire = self.wire.peek().map_or(never, |Reverse((at, ..))| *at);
            let encore = self.encore.deadline().filter(|_| !self.asleep).unwrap_or(never);
            let next = agent.min(far).min(wire).min(self.next_media).min(encore);
            if next > end {
                break;
            }
            still = if next > self.now { 0 } else { still + 1 };
            assert!(still < 5_000, "time stands still at {:?}: {:?}", self.now - base(), self.agent.deadline());
            self.now = self.now.max(next);
            if wire <= self.now {
                self.arrive();
            } else if self.next_media <= self.now {
                self.beat();
            } else if encore <= self.now {
                if let (Some(packet), Some(route)) = (self.encore.due(self.now), self.again) {
                    self.send(route, Data::Media(u64::from_be_bytes((*packet).try_into().unwrap())));
                }
            } else if far <= self.now {
                self.far_time();
            } else if agent <= self.now {
                self.agent.timeout(self.now);
            } else {
                break;
            }
            self.drain();
        }
        self.now = end;
    }

    /// Our process is suspended for so long, camera and all; the world goes on without it. When it wakes it may see first
    /// that it is late, or what came meanwhile.
    pub(super) fn sleep(&mut self, span: Duration, late_first: bool) {
        self.asleep = true;
        self.run(span);
        self.asleep = false;
        self.next_media = self.next_media.min(self.now + self.spacing);
        if late_first {
            self.agent.timeout(self.now);
            self.drain();
        }
        for (socket, data) in std::mem::take(&mut self.buffers) {
            if !self.sockets[&socket].closed {
                self.come_in(socket, data);
                self.drain();
            }
        }
    }

    fn beat(&mut self) {
        self.next_media += if self.asleep { ms(100) } else { self.spacing };
        let begun = self.seq > 0 || self.routes.selected.is_some();
        if self.media_on && begun && !self.asleep {
            self.seq += 1;
            let waits = self.encore.left(self.now, &self.seq.to_be_bytes());
            let mut routes: Vec<Route> = self.routes.selected.into_iter().chain(self.routes.copies.clone()).collect();
            routes.retain(|route| !waits || Some(*route) != self.again);
            for route in routes {
                // The kernel's refusal of the packet before may have changed the routes, as with real sockets.
                if !self.sockets[&route.socket].closed {
                    self.send(route, Data::Media(self.seq));
                    self.drain();
                }
            }
        }
        self.report();
    }

    /// RTCP of the far end: feedback every 100 ms while media comes, else a report every second.
    fn report(&mut self) {
        let Some(target) = self.far.target().filter(|_| self.rtcp_on && !self.far.mute) else { return };
        let lively = self.far.last_media.is_some_and(|at| self.now - at < ms(100));
        let every = self.far.reports_every.unwrap_or(if lively { ms(100) } else { ms(1_000) });
        if self.far.last_report.is_none_or(|last| self.now - last >= every) {
            self.far.last_report = Some(self.now);
            self.back(target, Data::Rtcp);
        }
    }

    /// From the far end to this outside address.
    fn back(&mut self, to: SocketAddr, data: Data) {
        let link = usize::from(match to.ip() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(ip) => ip.octets()[15],
        });
        if !self.far.mute {
            self.post(link, Parcel::In(to, data));
        }
    }

    fn arrive(&mut self) {
        let Some(Reverse((_, _, parcel))) = self.wire.pop() else { return };
        match parcel {
            Parcel::Out(from, data) => self.at_the_far_end(from, data),
            Parcel::In(to, data) => {
                let Some(socket) = self.behind(to) else { return };
                if self.links[self.link_of(socket)].in_dead {
                    return;
                }
                if self.asleep {
                    self.buffers.push((socket, data));
                } else {
                    self.come_in(socket, data);
                }
            }
        }
    }

    /// Our process reads what has come.
    fn come_in(&mut self, socket: SocketId, data: Data) {
        let from = self.disguise.unwrap_or(self.far.address);
        match data {
            Data::Stun(packet) => {
                if StunMessage::parse(&packet).is_ok_and(|message| message.is_successful_binding_response()) {
                    self.validated.insert(Route { socket, to: from });
                }
                if self.kept.len() < 200 {
                    self.kept.push(packet.clone());
                }
                self.agent.stun(self.now, socket, from, &packet);
            }
            Data::Rtcp => {
                self.rtcp.push((self.now, self.link_of(socket)));
                if self.agent.accepts(socket, from) {
                    self.agent.heard(self.now, socket, from, Kind::Rtcp);
                }
            }
            Data::Media(_) => unreachable!("the far end sends none"),
        }
    }

    fn at_the_far_end(&mut self, from: SocketAddr, data: Data) {
        match data {
            Data::Stun(packet) => self.check_comes(from, &packet),
            Data::Media(seq) => {
                if self.far.knows(from) {
                    self.far.last_media = Some(self.now);
                    let newest = self.far.seen.last().copied().unwrap_or_default();
                    if seq + REPLAY_WINDOW < newest {
                        self.far.too_late += u64::from(!self.far.seen.contains(&seq));
                    } else if self.far.seen.insert(seq) {
                        self.far.media.push((self.now, seq));
                    } else {
                        self.far.copies += 1;
                    }
                }
            }
            Data::Rtcp => unreachable!("webrtcbin's RTCP is not played"),
        }
    }

    fn check_comes(&mut self, from: SocketAddr, packet: &[u8]) {
        if self.far.mute {
            return;
        }
        let message = StunMessage::parse(packet).expect("the agent writes STUN");
        let far = &mut self.far;
        match &mut far.brain {
            Brain::Law { priorities, accepted, selected } => {
                if message.is_binding_request() && message.verify(far.credentials.pass.as_bytes(), hmac) {
                    let (to_us, us) = message.split_username().expect("a user name");
                    assert_eq!((to_us, us), (&*far.credentials.ufrag, &*far.us.ufrag));
                    accepted.insert(from);
                    let priority = *priorities.entry(from).or_insert(message.prio().expect("a priority"));
                    if message.use_candidate() && selected.is_none_or(|(_, before)| priority > before) {
                        *selected = Some((from, priority));
                        far.followed.push((from, priority));
                    }
                    let mut answer = vec![0; 1_200];
                    let reply = StunMessage::binding_reply(message.trans_id(), from);
                    let length = reply.to_bytes(Some(far.credentials.pass.as_bytes()), &mut answer, hmac).unwrap();
                    answer.truncate(length);
                    self.back(from, Data::Stun(answer));
                }
            }
            Brain::Full { agent, checked, .. } => {
                let request = message.is_binding_request();
                let packet = StunPacket { proto: Protocol::Udp, source: from, destination: far.address, message };
                if agent.handle_packet(self.now, packet) && request {
                    checked.insert(from);
                }
                self.far_time();
            }
        }
    }

    fn far_time(&mut self) {
        let mut packets = Vec::new();
        if let Brain::Full { agent, selected, .. } = &mut self.far.brain {
            if agent.poll_timeout().is_some_and(|at| at <= self.now) {
                agent.handle_timeout(self.now);
            }
            while let Some(transmit) = agent.poll_transmit() {
                packets.push((transmit.destination, transmit.contents.to_vec()));
            }
            while let Some(event) = agent.poll_event() {
                if let IceAgentEvent::NominatedSend { destination, .. } = event {
                    *selected = Some(destination);
                    self.far.followed.push((destination, 0));
                }
            }
        }
        for (to, packet) in packets {
            self.back(to, Data::Stun(packet));
        }
    }

    // What is asked afterwards.

    /// The longest time without new media at the far end between two moments.
    pub(super) fn gap(&self, from: Instant, to: Instant) -> Duration {
        let within = self.far.media.iter().map(|(at, _)| *at).filter(|at| *at > from && *at < to);
        let times: Vec<Instant> = [from].into_iter().chain(within).chain([to]).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Media packets that never came.
    pub(super) fn lost(&self) -> u64 {
        self.seq - self.far.seen.len() as u64
    }

    /// When RTCP first came over this link after a moment.
    pub(super) fn rtcp_after(&self, moment: Instant, link: usize) -> Option<Duration> {
        self.rtcp.iter().find(|(at, on)| *at > moment && *on == link).map(|(at, _)| *at - moment)
    }
}
