//! Pure: sockets are opened, asked, replaced and retired.

use std::time::{Duration, Instant};

use super::flapping::{Trust, doubled};
use super::{BURST, CADENCE_STANDBY, Paths, Step, TICK, TICK_IN_DOUBT, usable};
use crate::ice::types::{Route, SocketId};
use crate::supervisor::event::LocalAddress;

/// Addresses that are used at the same time; further ones wait.
const PATHS_MAX: usize = 8;
/// Old sockets go so long after the far end has confirmed the new one: packets may still be on their way to them.
const RETIRE_AFTER: Duration = Duration::from_millis(300);
/// A standby that has been silent for so long gets a new socket: what a NAT knew of it may be gone. Doubles up to 20 s.
const RENEW_AFTER: Duration = Duration::from_secs(10);
const RENEW_AFTER_MAX: Duration = Duration::from_secs(20);
/// An anchor that is not validated within this is replaced. Doubles up to `RENEW_AFTER_MAX`.
const ANCHOR_AFTER: Duration = Duration::from_secs(3);
/// After a fresh anchor is in use, the next one on the same path not before: a NAT may change its mind all the time.
pub(super) const ANCHOR_REST: Duration = Duration::from_secs(1);
/// The path in use that is dead, with no other, gets a fresh socket after this.
const REVIVE_AFTER: Duration = Duration::from_secs(3);
/// Addresses that are remembered after they went.
const REPUTATIONS_MAX: usize = 64;

impl Paths {
    /// Takes over the ranking; what is gone is closed now.
    pub(super) fn rank(&mut self, now: Instant, addresses: &[LocalAddress]) {
        let mut ranking: Vec<LocalAddress> = Vec::new();
        for address in addresses.iter().filter(|address| self.plan.loopback || !address.ip.is_loopback()) {
            if ranking.len() < PATHS_MAX && !ranking.contains(address) {
                ranking.push(address.clone());
            }
        }
        for address in self.ranking.iter().filter(|address| !ranking.contains(address)) {
            let reputation = self.reputation.entry(address.clone()).or_default();
            reputation.flap(now);
            reputation.proved = false;
            reputation.open_again = None;
            reputation.refusals = 0;
            reputation.renewals = 0;
            reputation.trust.iter_mut().for_each(Trust::away);
        }
        let gone: Vec<SocketId> = (self.lines.bases())
            .filter(|(_, line)| !ranking.contains(&line.place.address))
            .map(|(socket, _)| socket)
            .collect();
        for socket in gone {
            self.shut(socket);
        }
        self.ranking = ranking;
        while self.reputation.len() > REPUTATIONS_MAX {
            let away = self.reputation.iter().filter(|(address, _)| !self.ranking.contains(address));
            let Some(oldest) = away.min_by_key(|(_, it)| it.last_flap).map(|(address, _)| address.clone()) else {
                break;
            };
            self.reputation.remove(&oldest);
        }
    }

    /// How each path lives and dies.
    pub(super) fn take_record(&mut self, now: Instant) {
        for address in &self.ranking {
            for relayed in [false, true] {
                let roads = self.lines.roads().filter(|(_, line, _)| line.place.relayed == relayed);
                let pulses = roads.filter(|(_, line, _)| line.place.address == *address).map(|(.., road)| &road.pulse);
                let records = pulses.map(|pulse| (pulse.good_for(now).is_some(), pulse.proved()));
                let both = records.reduce(|a, b| (a.0 || b.0, a.1.max(b.1)));
                let Some((alive, proved)) = both else { continue };
                let known = match self.reputation.get_mut(address) {
                    Some(known) => known,
                    None => self.reputation.entry(address.clone()).or_default(),
                };
                known.trust[usize::from(relayed)].look(now, alive, proved);
            }
        }
    }

    /// Old lines go once the far end follows the new one.
    pub(super) fn retire(&mut self, now: Instant) {
        if let Some((selected, at)) = self.confirmed() {
            let base = self.lines.base_of(selected);
            let (highest, address) = match self.lines.get(base) {
                Some(line) => (line.highest(), line.place.address.clone()),
                None => return,
            };
            for (socket, line) in self.lines.iter_mut() {
                let same = line.base.unwrap_or(socket) == base;
                // One that is born in this very moment takes the place of one that has just been found old.
                let old = line.highest() < highest && line.born < at;
                if !same && old && (line.was_meant() || line.place.address == address) {
                    line.retire_at.get_or_insert(at + RETIRE_AFTER);
                }
            }
        }
        let kept = self.selected.as_ref().map(|selected| self.lines.base_of(selected.route.socket));
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let retired: Vec<SocketId> = (self.lines.bases())
            .filter(|(socket, line)| due(line.retire_at) && Some(*socket) != kept)
            .map(|(socket, _)| socket)
            .collect();
        for socket in retired {
            self.shut(socket);
        }
    }

    /// The selected line, if it is the anchor that the far end has confirmed, and when it did.
    fn confirmed(&self) -> Option<(SocketId, Instant)> {
        let socket = self.selected.as_ref()?.route.socket;
        let line = self.lines.get(socket).filter(|line| line.is_anchor())?;
        Some((socket, line.nominated?))
    }

    /// Does the far end send its RTCP to where our media comes from?
    pub(super) fn is_anchored(&self) -> bool {
        self.confirmed().is_some_and(|(socket, _)| self.holds(socket))
    }

    /// The far end follows this line, or will once it is nominated: it has answered on none that is above, and sees the
    /// address that it saw at first.
    fn holds(&self, socket: SocketId) -> bool {
        let line = self.lines.get(socket);
        line.is_some_and(|line| line.is_anchor() && !line.rebound && line.preference >= self.reached)
    }

    /// Every usable address has a socket that stays, and one that is not deaf.
    pub(super) fn staff(&mut self, now: Instant) {
        self.renew(now);
        for address in self.ranking.clone() {
            let reputation = self.reputation.entry(address.clone()).or_default();
            if self.lines.staffed(&address) || reputation.open_again.is_some_and(|at| now < at) {
                continue;
            }
            // The first socket is the preferred path's, and what the far end is to follow from the start.
            let any_anchor = self.lines.bases().any(|(_, line)| line.was_meant());
            let place = super::Place { address: address.clone(), relayed: self.plan.relay_only };
            let anchor = (self.selected.is_none() && !any_anchor).then(|| self.lines.anchor(now, &place)).flatten();
            let socket = anchor.unwrap_or_else(|| self.lines.standby(now, &address));
            self.steps.push_back(Step::Open(socket, address));
        }
    }

    fn renew(&mut self, now: Instant) {
        let kept = self.selected.as_ref().map(|selected| &selected.place.address);
        let mut stale = Vec::new();
        for (socket, line) in self.lines.bases().filter(|(_, line)| usable(line) && Some(&line.place.address) != kept) {
            let reputation = self.reputation.entry(line.place.address.clone()).or_default();
            let signs = self.lines.behind(socket).into_iter().filter_map(|line| self.lines.get(line)?.last_sign());
            let sign = signs.max();
            if sign.is_some_and(|sign| now.saturating_duration_since(sign) < CADENCE_STANDBY * 3) {
                reputation.renewals = 0;
                reputation.refusals = 0;
                reputation.proved = true;
            }
            let silence = now.saturating_duration_since(sign.unwrap_or(line.born).max(line.born));
            if silence >= doubled(RENEW_AFTER, reputation.renewals, RENEW_AFTER_MAX) && !self.restarting {
                reputation.renewals = reputation.renewals.saturating_add(1);
                stale.push(socket);
            }
        }
        if let Some(address) = kept {
            self.reputation.entry(address.clone()).or_default().proved = true;
        }
        for socket in stale {
            self.shut(socket);
        }
    }

    /// The far end must be made to follow: a fresh socket with a higher preference on the path in use.
    pub(super) fn drop_anchor(&mut self, now: Instant) {
        let Some(selected) = self.selected.clone() else { return };
        let dead_for = now.saturating_duration_since(selected.sign.max(selected.since));
        let revive = self.doubt.is_some() && dead_for >= REVIVE_AFTER;
        let holds = self.holds(selected.route.socket);
        let unheard = holds && self.doubt.is_none() && self.ears.is_deaf(now, self.confirmed().map(|(_, at)| at));
        if (holds && !revive && !unheard) || self.anchor_at.is_some_and(|at| now < at) {
            return;
        }
        // What was tried and has not become the path in use by now never will; and where a fresh socket is needed because
        // all of this path is dead, an old standby is none.
        let base = self.lines.base_of(selected.route.socket);
        let vain: Vec<SocketId> = (self.lines.bases())
            .filter(|(socket, line)| *socket != base && line.place.address == selected.place.address)
            .filter(|(_, line)| (line.was_meant() || revive) && line.retire_at.is_none())
            .map(|(socket, _)| socket)
            .collect();
        for socket in vain {
            self.shut(socket);
        }
        let Some(socket) = self.lines.anchor(now, &selected.place) else { return };
        if unheard {
            self.ears.tried(now);
        }
        self.anchor_at = Some(now + doubled(ANCHOR_AFTER, self.anchor_tries, RENEW_AFTER_MAX));
        self.anchor_tries += 1;
        self.steps.push_back(Step::Open(socket, selected.place.address));
    }

    /// Asks all that is due.
    pub(super) fn ask(&mut self, now: Instant) {
        let selected = self.selected.as_ref().map(|selected| selected.route);
        let due: Vec<Route> =
            self.asks().filter(|(_, at)| at.is_none_or(|at| at <= now)).map(|(route, _)| route).collect();
        for route in due {
            let nominate = Some(route) == selected && self.lines.get(route.socket).is_some_and(|line| line.is_anchor());
            if let Some(road) = self.lines.road_mut(route) {
                road.pulse.ask(now);
            }
            self.steps.push_back(Step::Ask { route, nominate });
        }
    }

    /// When each route is to be asked; `None`: it never was.
    fn asks(&self) -> impl Iterator<Item = (Route, Option<Instant>)> {
        let selected = self.selected.as_ref().map(|selected| selected.route);
        let quick = self.cadence().min(CADENCE_STANDBY);
        let asks = move |(route, line, road): (Route, &super::Line, &super::Road)| {
            let pulse = &road.pulse;
            let in_use = Some(route) == selected;
            if line.local.is_none() || (line.retire_at.is_some() && !in_use) {
                return None;
            }
            if self.restarting {
                return None;
            }
            let Some(asked) = pulse.asked else { return Some((route, None)) };
            let missing = pulse.missed(asked + CADENCE_STANDBY) > 0;
            let unconfirmed = in_use && line.is_anchor() && line.nominated.is_none();
            let every = match () {
                () if pulse.burst > 0 => BURST.0,
                () if unconfirmed => quick / 2,
                () if in_use || self.doubt.is_some() || (missing && !pulse.is_dead(asked, quick)) => quick,
                () => CADENCE_STANDBY,
            };
            Some((route, Some(asked + every)))
        };
        self.lines.roads().filter_map(asks)
    }

    /// When to look again.
    pub(in crate::ice) fn deadline(&self) -> Option<Instant> {
        let looked = self.looked.filter(|_| self.started)?;
        let tick = if self.doubt.is_some() || self.is_beginning() { TICK_IN_DOUBT } else { TICK };
        let doubt = self.selected.as_ref().map(|selected| selected.sign.max(selected.since) + self.doubt_after());
        let times = self.asks().map(|(_, at)| at.unwrap_or(looked));
        let times = times.chain(doubt.filter(|_| self.doubt.is_none())).chain([looked + tick]);
        let retire = self.lines.bases().filter_map(|(_, line)| line.retire_at).filter(|at| *at > looked);
        times.chain(retire).min().map(|at| at.max(looked + Duration::from_millis(1)))
    }
}
