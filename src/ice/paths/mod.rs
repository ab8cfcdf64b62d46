//! Pure: the rules of the road - which local addresses are offered, watched, preferred, used twice, given up.
//!
//! Two kinds of lines. A *standby* has a low preference: the far end answers its checks and takes media from it, but never
//! follows it by itself. An *anchor* has a preference above all before it: once it is validated and nominated, the far end
//! sends its RTCP there (it follows only what has strictly more priority). Media never waits for an anchor: it moves to a
//! living standby at once, and to the anchor as soon as that is validated; the old lines go 300 ms after the far end
//! has confirmed.
//!
//! The path in use is asked ten times a second, the others twice. After half of `suspect_after` without a sign of life all
//! are asked in a hurry (and handover copies begin); it is given up when what stays open is no accident (`pulse.rs`) and
//! another path has answered a question that is younger than the doubt. What left since the last answered question goes
//! once more to the first path that helps (`again.rs`).

mod flapping;
mod lifecycle;
pub(super) mod liveness;
mod resend;
mod rtcp_watch;
mod select;
pub(super) mod sockets;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::types::{Health, Move, PathFigures, Plan, Route, Routes, SocketId, Why};
use crate::supervisor::event::LocalAddress;
use flapping::Reputation;
use liveness::Pulse;
use resend::Ledger;
use rtcp_watch::Ears;
use sockets::{Line, Lines, Place, Road};

/// Longest silence before the path in use is suspect.
const SUSPECT_AFTER_MAX: Duration = Duration::from_millis(500);
/// Questions on the path in use within `suspect_after`: with two and a half of them open, doubt begins.
const QUESTIONS: u32 = 5;
/// Time between questions on the path in use is never less.
const CADENCE_MIN: Duration = Duration::from_millis(20);
/// Time between questions on a standby.
const CADENCE_STANDBY: Duration = Duration::from_millis(500);
/// Time between questions in a hurry, and how many of them.
const BURST: (Duration, u8) = (Duration::from_millis(20), 8);
/// Rules that name no time of their own are looked at this often.
const TICK: Duration = Duration::from_millis(100);
/// The same while something is about to be decided.
const TICK_IN_DOUBT: Duration = Duration::from_millis(10);
/// Copies go on for so long after the doubt is over.
const COPIES_LINGER: Duration = Duration::from_secs(1);
/// Media packets in a second, when nobody has said: about 5 Mb/s.
const PACKET_RATE: f64 = 500.0;
/// A copy that comes later than so many packets finds the replay window of the far end closed: 64 in pion (MediaMTX, LiveKit,
/// Broadcast Box; RFC 3711, 3.3.2, asks for no more), 100 in str0m, 128 in libsrtp.
const REPLAY_WINDOW: f64 = 64.0;

/// What the policy wants done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Open(SocketId, LocalAddress),
    /// Close it; its own address, if it had one.
    Close(SocketId, Option<SocketAddr>),
    /// Ask whether this route works; `nominate`: and tell the far end to use it.
    Ask {
        route: Route,
        nominate: bool,
    },
    Routes(Routes),
    Moved(Move),
}

/// The route that carries the media.
#[derive(Debug, Clone)]
struct Selected {
    route: Route,
    place: Place,
    /// Since when its place is the one.
    since: Instant,
    /// The last sign of life of it.
    sign: Instant,
    /// What left before this has arrived.
    proof: Instant,
}

/// The path that media has left because it was gone, before another was found.
#[derive(Debug, Clone)]
struct Left {
    sign: Instant,
    proof: Instant,
    why: Why,
}

/// All paths of a session.
#[derive(Debug)]
pub(super) struct Paths {
    plan: Plan,
    lines: Lines,
    /// Usable addresses, the preferred one first.
    ranking: Vec<LocalAddress>,
    reputation: BTreeMap<LocalAddress, Reputation>,
    started: bool,
    selected: Option<Selected>,
    left: Option<Left>,
    /// Where media last was.
    last_address: Option<LocalAddress>,
    /// Since when the path in use is suspect.
    doubt: Option<Instant>,
    /// The first validated route of the session was there at this time.
    first_validated: Option<Instant>,
    /// Where copies go, and since when.
    copies: Option<(Route, Instant)>,
    copies_until: Option<Instant>,
    ledger: Ledger,
    ears: Ears,
    /// The highest preference that the far end has ever answered on: what it follows now, or will.
    reached: u32,
    /// The next anchor not before, and how many were in vain.
    anchor_at: Option<Instant>,
    anchor_tries: u32,
    /// Credentials change: no answers are due, so no answer that is missing means anything.
    restarting: bool,
    packet_rate: f64,
    last_sign: Option<Instant>,
    looked: Option<Instant>,
    published: Routes,
    news: Vec<Move>,
    closing: Vec<(SocketId, Option<SocketAddr>)>,
    steps: VecDeque<Step>,
}

impl Paths {
    pub(super) fn new(plan: Plan) -> Self {
        let plan = Plan { suspect_after: plan.suspect_after.min(SUSPECT_AFTER_MAX), ..plan };
        Self {
            plan,
            lines: Lines::default(),
            ranking: Vec::new(),
            reputation: BTreeMap::new(),
            started: false,
            selected: None,
            left: None,
            last_address: None,
            doubt: None,
            first_validated: None,
            copies: None,
            copies_until: None,
            ledger: Ledger::default(),
            ears: Ears::default(),
            reached: 0,
            anchor_at: None,
            anchor_tries: 0,
            restarting: false,
            packet_rate: PACKET_RATE,
            last_sign: None,
            looked: None,
            published: Routes::default(),
            news: Vec::new(),
            closing: Vec::new(),
            steps: VecDeque::new(),
        }
    }

    // Inputs. Each ends with a look at everything: there is no state that waits for a timer of its own.

    pub(super) fn set_relay_only(&mut self, relay_only: bool) {
        self.plan.relay_only = relay_only;
    }

    pub(super) fn set_packet_rate(&mut self, per_second: f64) {
        self.ears.media(per_second >= 1.0);
        self.packet_rate = per_second.clamp(1.0, 100_000.0);
    }

    /// From now on sockets are opened.
    pub(super) fn start(&mut self, now: Instant) {
        self.started = true;
        self.steer(now);
    }

    /// All usable addresses, the preferred one first.
    pub(super) fn network(&mut self, now: Instant, addresses: &[LocalAddress]) {
        self.rank(now, addresses);
        self.steer(now);
    }

    /// The preference for its candidate, or `None` when it is closed again.
    pub(super) fn opened(&mut self, now: Instant, socket: SocketId, local: SocketAddr) -> Option<u32> {
        let fresh = self.lines.get(socket).is_some_and(|line| line.local.is_none()) && self.lines.opened(socket, local);
        if !fresh {
            self.shut(socket);
        }
        self.steer(now);
        self.lines.get(socket).map(|line| line.preference)
    }

    pub(super) fn not_opened(&mut self, now: Instant, socket: SocketId) {
        if let Some(line) = self.lines.get(socket).filter(|line| line.local.is_none()) {
            let address = line.place.address.clone();
            self.reputation.entry(address).or_default().not_opened(now);
            self.lines.remove(socket);
        }
        self.steer(now);
    }

    /// The preference for its candidate, or `None` when it cannot be used.
    pub(super) fn relayed(&mut self, now: Instant, relay: SocketId, base: SocketId, local: SocketAddr) -> Option<u32> {
        let preference = self.lines.relay(now, relay, base, local);
        self.steer(now);
        preference
    }

    /// A line is gone by itself.
    pub(super) fn lost(&mut self, now: Instant, socket: SocketId) {
        if self.lines.get(socket).is_some_and(|line| line.base.is_some()) {
            self.shut(socket);
        }
        self.steer(now);
    }

    /// A STUN server has seen this socket as `mapped`.
    pub(super) fn reflexive(&mut self, socket: SocketId, mapped: SocketAddr) {
        if let Some(line) = self.lines.get_mut(socket) {
            line.reflexive = Some(mapped);
        }
    }

    /// A check was sent on this route, by whomever.
    pub(super) fn asked(&mut self, now: Instant, route: Route) {
        if let Some(road) = self.lines.road_mut(route) {
            road.pulse.ask(now);
        }
    }

    /// The far end has answered the check that was sent at `sent`, and saw us as `mapped`.
    pub(super) fn answered(&mut self, now: Instant, route: Route, check: Check) {
        let Some(line) = self.lines.get_mut(route.socket) else { return };
        line.refused = None;
        self.reached = self.reached.max(line.preference);
        if check.nominating {
            line.nominated.get_or_insert(now);
        }
        // A NAT has given us another address: for the far end a pair of the same priority, which it will not follow.
        line.rebound |= line.mapped.replace(check.mapped).is_some_and(|before| before != check.mapped);
        let road = line.roads.entry(route.to).or_insert_with(|| Road { pulse: Pulse::new(check.sent), weight: 0 });
        road.weight = check.weight;
        road.pulse.answer(now, check.sent);
        self.restarting = false;
        self.last_sign = Some(now);
        self.first_validated.get_or_insert(now);
        self.steer(now);
    }

    /// The far end has authenticated itself.
    pub(super) fn met(&mut self, now: Instant, route: Route) {
        if let Some(line) = self.lines.get_mut(route.socket) {
            line.met(route.to);
        }
        self.heard(now, route);
    }

    /// A packet has come from the far end.
    pub(super) fn heard(&mut self, now: Instant, route: Route) {
        if let Some(road) = self.lines.road_mut(route) {
            road.pulse.hear(now);
            self.last_sign = Some(now);
            self.steer(now);
        }
    }

    /// That packet was RTCP.
    pub(super) fn reported(&mut self, now: Instant, route: Route) {
        let selected = self.selected.as_ref().map(|selected| selected.route.socket);
        if self.lines.road(route).is_some() {
            self.ears.hear(now, Some(route.socket) == selected);
        }
    }

    /// The kernel did not take a packet.
    pub(super) fn refused(&mut self, now: Instant, socket: SocketId) {
        if let Some(line) = self.lines.get_mut(socket) {
            let (since, count) = line.refused.unwrap_or((now, 0));
            line.refused = Some((since, count.saturating_add(1)));
            self.steer(now);
        }
    }

    /// New credentials: what is validated goes on being used, but says nothing until something is validated anew.
    pub(super) fn restart(&mut self, now: Instant) {
        self.restarting = true;
        self.reached = 0;
        self.doubt = None;
        for (_, line) in self.lines.iter_mut() {
            line.nominated = None;
        }
        self.steer(now);
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        self.steer(now);
    }

    pub(super) fn next(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    // Views.

    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    #[cfg(test)]
    pub(super) fn spend(&mut self, anchors: u32) {
        self.lines.spend(anchors);
    }

    /// The route of the media, as last published.
    pub(super) fn selected(&self) -> Option<Route> {
        self.published.selected
    }

    /// When anything of the far end came last.
    pub(super) fn last_sign(&self) -> Option<Instant> {
        self.last_sign
    }

    /// The far end follows something else, and no fresh socket can beat that any more: only a new session can.
    pub(super) fn exhausted(&self) -> bool {
        self.lines.exhausted() && self.selected.is_some() && !self.is_anchored()
    }

    pub(super) fn figures(&self, now: Instant) -> Vec<PathFigures> {
        let places = self
            .ranking
            .iter()
            .flat_map(|address| [false, true].map(|relayed| Place { address: address.clone(), relayed }));
        let known = |place: &Place| !place.relayed || self.lines.iter().any(|(_, line)| line.place == *place);
        places.filter(known).map(|place| self.figures_of(now, place)).collect()
    }

    fn figures_of(&self, now: Instant, place: Place) -> PathFigures {
        let selected = self.selected.as_ref().filter(|selected| selected.place == place);
        let road = selected.and_then(|selected| self.lines.road(selected.route));
        let road = road.or_else(|| self.lines.road(self.best(now, &place)?));
        let pulse = road.map(|road| &road.pulse);
        let silent = self.reputation.get(&place.address).is_some_and(|reputation| reputation.proved);
        let health = match pulse {
            None if silent => Health::Dead,
            None => Health::Unproved,
            Some(pulse) if pulse.is_dead(now, self.doubt_after()) => Health::Dead,
            Some(_) if selected.is_some() && self.doubt.is_some() => Health::Suspect,
            Some(pulse) if pulse.missed(now) >= 2 => Health::Suspect,
            Some(_) => Health::Good,
        };
        PathFigures {
            address: place.address,
            relayed: place.relayed,
            health,
            selected: selected.is_some(),
            rtt: pulse.and_then(Pulse::rtt),
            loss: pulse.map_or(0.0, Pulse::loss),
        }
    }

    // The look at everything.

    fn steer(&mut self, now: Instant) {
        self.looked = Some(now);
        self.look(now);
        self.judge(now);
        self.retire(now);
        if self.started {
            self.staff(now);
            self.drop_anchor(now);
        }
        self.ask(now);
        self.publish(now);
    }

    fn doubt_after(&self) -> Duration {
        self.plan.suspect_after / 2
    }

    fn cadence(&self) -> Duration {
        (self.plan.suspect_after / QUESTIONS).max(CADENCE_MIN)
    }

    /// Life signs -> doubt.
    fn look(&mut self, now: Instant) {
        for (_, line) in self.lines.iter_mut() {
            for road in line.roads.values_mut() {
                road.pulse.look(now);
            }
        }
        self.take_record(now);
        let doubtful = self.is_doubtful(now);
        if doubtful && self.doubt.is_none() {
            self.doubt = Some(now);
            for (_, line) in self.lines.iter_mut() {
                for road in line.roads.values_mut() {
                    road.pulse.burst = BURST.1;
                }
            }
        }
        if !doubtful && self.doubt.take().is_some() {
            self.copies_until = Some(now + COPIES_LINGER);
        }
    }

    fn is_doubtful(&mut self, now: Instant) -> bool {
        let Some(selected) = &mut self.selected else { return false };
        let Some(line) = self.lines.get(selected.route.socket) else { return false };
        let Some(road) = line.roads.get(&selected.route.to) else { return false };
        selected.sign = selected.sign.max(road.pulse.last_sign().unwrap_or(selected.sign));
        selected.learn(road.pulse.proved());
        let silence = now.saturating_duration_since(selected.sign.max(selected.since));
        let unanswered = road.pulse.missed(now) >= road.pulse.verdict();
        !self.restarting && (line.refused.is_some() || unanswered || silence >= self.plan.suspect_after / 2)
    }

    /// Routes before the closing of sockets that they no longer name, news after.
    fn publish(&mut self, now: Instant) {
        let selected = self.selected.as_ref().map(|selected| selected.route);
        let selected = selected.filter(|route| self.lines.get(route.socket).is_some());
        let copies = selected.and_then(|selected| self.copy_route(now, selected));
        self.copies = copies.map(|route| {
            let since = self.copies.filter(|(before, _)| *before == route).map_or(now, |(_, since)| since);
            (route, since)
        });
        let again = self.again(now, selected, copies);
        let routes = Routes { selected, copies: copies.into_iter().collect(), again };
        if again.is_some() || routes != self.published {
            self.published = Routes { again: None, ..routes.clone() };
            self.steps.push_back(Step::Routes(routes));
        }
        self.steps.extend(self.closing.drain(..).map(|(socket, local)| Step::Close(socket, local)));
        self.steps.extend(self.news.drain(..).map(Step::Moved));
    }

    /// Forgets a line and those behind it, and has their sockets closed once nothing leads there.
    fn shut(&mut self, socket: SocketId) {
        for socket in self.lines.behind(socket) {
            let local = self.lines.get(socket).and_then(|line| line.local);
            self.lines.remove(socket);
            self.closing.push((socket, local));
        }
    }
}

/// A check that was answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check {
    pub(super) sent: Instant,
    /// It carried USE-CANDIDATE.
    pub(super) nominating: bool,
    /// Our address as the far end sees it.
    pub(super) mapped: SocketAddr,
    /// Priority of the far end's candidate.
    pub(super) weight: u32,
}

/// How a line may serve.
fn usable(line: &Line) -> bool {
    line.local.is_some() && line.retire_at.is_none()
}
