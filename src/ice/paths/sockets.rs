//! Pure: the sockets of the agent, and the relayed addresses behind them, as lines out of the house.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use super::liveness::Pulse;
use crate::ice::types::{Route, SocketId};
use crate::supervisor::event::LocalAddress;

/// Local preference of every warm standby: below every anchor, so that a far end never follows it by itself.
const STANDBY: u32 = 100;
/// Local preference of the first anchor; each later one has one more, as only "strictly more" counts.
const ANCHORS: std::ops::RangeInclusive<u32> = 1_000..=65_535;
/// Addresses of the far end on one line that are believed.
const PEERS_MAX: usize = 16;

/// Where media can leave from: an address, and whether it takes the detour over a TURN server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::ice) struct Place {
    pub(in crate::ice) address: LocalAddress,
    pub(in crate::ice) relayed: bool,
}

/// A validated route of a line.
#[derive(Debug, Clone)]
pub(in crate::ice) struct Road {
    pub(in crate::ice) pulse: Pulse,
    /// Priority of the far end's candidate: where several work, the far end likes this one best.
    pub(in crate::ice) weight: u32,
}

/// A socket of ours, or an address that a TURN server lends us.
#[derive(Debug, Clone)]
pub(in crate::ice) struct Line {
    pub(in crate::ice) place: Place,
    /// Of a relay: the socket that it is reached from.
    pub(in crate::ice) base: Option<SocketId>,
    /// Local preference of its candidate.
    pub(in crate::ice) preference: u32,
    /// The preference that its relay will have, when that is to be the anchor.
    pub(in crate::ice) promised: Option<u32>,
    /// Some relay has got it.
    kept: bool,
    /// When it was asked for.
    pub(in crate::ice) born: Instant,
    /// Its own address, once it has one.
    pub(in crate::ice) local: Option<SocketAddr>,
    /// Its address as the far end sees it.
    pub(in crate::ice) mapped: Option<SocketAddr>,
    /// That has changed.
    pub(in crate::ice) rebound: bool,
    /// The same as a STUN server sees it.
    pub(in crate::ice) reflexive: Option<SocketAddr>,
    /// Routes that have been validated, by the address of the far end.
    pub(in crate::ice) roads: BTreeMap<SocketAddr, Road>,
    /// Addresses that the far end has authenticated itself from.
    pub(in crate::ice) peers: BTreeSet<SocketAddr>,
    /// When the far end has first confirmed that this line is nominated.
    pub(in crate::ice) nominated: Option<Instant>,
    /// When it is to be closed.
    pub(in crate::ice) retire_at: Option<Instant>,
    /// Since when, and how often, the kernel has refused packets without a sign of life in between.
    pub(in crate::ice) refused: Option<(Instant, u32)>,
}

impl Line {
    fn new(now: Instant, place: Place, base: Option<SocketId>) -> Self {
        Self {
            place,
            base,
            preference: STANDBY,
            promised: None,
            kept: false,
            born: now,
            local: None,
            mapped: None,
            rebound: false,
            reflexive: None,
            roads: BTreeMap::new(),
            peers: BTreeSet::new(),
            nominated: None,
            retire_at: None,
            refused: None,
        }
    }

    /// Opened for the far end to follow.
    pub(in crate::ice) fn is_anchor(&self) -> bool {
        ANCHORS.contains(&self.preference)
    }

    /// It or its relay was opened for that.
    pub(in crate::ice) fn was_meant(&self) -> bool {
        ANCHORS.contains(&self.highest())
    }

    /// The highest preference that is to be had here.
    pub(in crate::ice) fn highest(&self) -> u32 {
        self.promised.unwrap_or(self.preference)
    }

    pub(in crate::ice) fn last_sign(&self) -> Option<Instant> {
        self.roads.values().filter_map(|road| road.pulse.last_sign()).max()
    }

    /// The far end has proved its identity from there.
    pub(in crate::ice) fn met(&mut self, from: SocketAddr) {
        if self.peers.len() < PEERS_MAX {
            self.peers.insert(from);
        }
    }

    /// May media come from there?
    pub(in crate::ice) fn knows(&self, from: SocketAddr) -> bool {
        self.roads.contains_key(&from) || self.peers.contains(&from)
    }
}

/// All lines, and what was ever given away: no address and no preference is used twice in a session.
#[derive(Debug, Default)]
pub(in crate::ice) struct Lines {
    lines: BTreeMap<SocketId, Line>,
    opened: u32,
    anchors: u32,
    used: BTreeSet<SocketAddr>,
}

impl Lines {
    pub(in crate::ice) fn get(&self, socket: SocketId) -> Option<&Line> {
        self.lines.get(&socket)
    }

    pub(in crate::ice) fn get_mut(&mut self, socket: SocketId) -> Option<&mut Line> {
        self.lines.get_mut(&socket)
    }

    pub(in crate::ice) fn iter(&self) -> impl Iterator<Item = (SocketId, &Line)> {
        self.lines.iter().map(|(socket, line)| (*socket, line))
    }

    pub(in crate::ice) fn iter_mut(&mut self) -> impl Iterator<Item = (SocketId, &mut Line)> {
        self.lines.iter_mut().map(|(socket, line)| (*socket, line))
    }

    /// Sockets of ours, without the relays behind them.
    pub(in crate::ice) fn bases(&self) -> impl Iterator<Item = (SocketId, &Line)> {
        self.iter().filter(|(_, line)| line.base.is_none())
    }

    /// A socket that is to stay, at this address?
    pub(in crate::ice) fn staffed(&self, address: &LocalAddress) -> bool {
        self.bases().any(|(_, line)| line.place.address == *address && line.retire_at.is_none())
    }

    /// A new warm standby.
    pub(in crate::ice) fn standby(&mut self, now: Instant, address: &LocalAddress) -> SocketId {
        let place = Place { address: address.clone(), relayed: false };
        let socket = SocketId(self.opened);
        self.opened += 1;
        self.lines.insert(socket, Line::new(now, place, None));
        socket
    }

    /// A new socket for the far end to follow, with a preference above all before. `None`: preferences have run out.
    pub(in crate::ice) fn anchor(&mut self, now: Instant, place: &Place) -> Option<SocketId> {
        let preference = ANCHORS.start() + self.anchors;
        if !ANCHORS.contains(&preference) {
            return None;
        }
        self.anchors += 1;
        let socket = self.standby(now, &place.address);
        let line = self.lines.get_mut(&socket)?;
        if place.relayed {
            line.promised = Some(preference);
        } else {
            line.preference = preference;
        }
        Some(socket)
    }

    /// A TURN server has lent us `local` for the socket `base`. Its preference.
    pub(in crate::ice) fn relay(
        &mut self,
        now: Instant,
        relay: SocketId,
        base: SocketId,
        local: SocketAddr,
    ) -> Option<u32> {
        if self.lines.get(&base)?.base.is_some() || self.lines.contains_key(&relay) || !self.used.insert(local) {
            return None;
        }
        let preference = self.promise(base)?;
        let line = self.lines.get(&base)?;
        let place = Place { address: line.place.address.clone(), relayed: true };
        let mut new = Line::new(now, place, Some(base));
        new.preference = preference;
        new.retire_at = line.retire_at;
        new.local = Some(local);
        self.lines.insert(relay, new);
        Some(preference)
    }

    /// The preference of the next relay behind this socket: a second one (the first was lost) beats the first.
    fn promise(&mut self, base: SocketId) -> Option<u32> {
        let next = ANCHORS.start() + self.anchors;
        let line = self.lines.get_mut(&base)?;
        let promised = line.promised;
        if promised.is_some() && std::mem::replace(&mut line.kept, true) && ANCHORS.contains(&next) {
            self.anchors += 1;
            line.promised = Some(next);
            return Some(next);
        }
        Some(promised.unwrap_or(STANDBY))
    }

    /// As after so many anchors.
    #[cfg(test)]
    pub(in crate::ice) fn spend(&mut self, anchors: u32) {
        self.anchors += anchors;
    }

    /// The hands have opened it. False: an address that was used before; the far end would remember its old priority.
    pub(in crate::ice) fn opened(&mut self, socket: SocketId, local: SocketAddr) -> bool {
        let Some(line) = self.lines.get_mut(&socket) else { return false };
        let fresh = self.used.insert(local);
        line.local = fresh.then_some(local);
        fresh
    }

    /// The socket of ours that this line leaves through.
    pub(in crate::ice) fn base_of(&self, socket: SocketId) -> SocketId {
        self.lines.get(&socket).and_then(|line| line.base).unwrap_or(socket)
    }

    /// A line and, if it is a socket of ours, the relays behind it: all those that go when it goes, relays first.
    pub(in crate::ice) fn behind(&self, socket: SocketId) -> Vec<SocketId> {
        let relays = self.iter().filter(|(_, line)| line.base == Some(socket)).map(|(relay, _)| relay);
        relays.chain(self.lines.contains_key(&socket).then_some(socket)).collect()
    }

    pub(in crate::ice) fn remove(&mut self, socket: SocketId) {
        self.lines.remove(&socket);
    }

    /// Preferences have run out.
    pub(in crate::ice) fn exhausted(&self) -> bool {
        !ANCHORS.contains(&(ANCHORS.start() + self.anchors))
    }

    pub(in crate::ice) fn road(&self, route: Route) -> Option<&Road> {
        self.lines.get(&route.socket)?.roads.get(&route.to)
    }

    pub(in crate::ice) fn road_mut(&mut self, route: Route) -> Option<&mut Road> {
        self.lines.get_mut(&route.socket)?.roads.get_mut(&route.to)
    }

    /// Every validated route, with its line.
    pub(in crate::ice) fn roads(&self) -> impl Iterator<Item = (Route, &Line, &Road)> {
        self.iter()
            .flat_map(|(socket, line)| line.roads.iter().map(move |(to, road)| (Route { socket, to: *to }, line, road)))
    }
}
