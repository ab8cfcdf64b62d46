//! Pure: when media moves, and where to. Every rule has its hysteresis.

use std::time::{Duration, Instant};

use super::flapping::Reputation;
use super::lifecycle::ANCHOR_REST;
use super::{CADENCE_STANDBY, Left, Paths, REPLAY_WINDOW, Selected, usable};
use crate::ice::paths::sockets::{Line, Place};
use crate::ice::types::{Move, Redundancy, Route, Why};
use crate::supervisor::event::LocalAddress;

/// At the start the preferred path is waited for so long when another one was faster.
const GRACE: Duration = Duration::from_millis(100);
/// A standby that has given a sign of life within this is trusted when the path in use is gone.
const RECENT: Duration = Duration::from_millis(1_500);
/// So many packets, over so long, the kernel must refuse before that is more than a hiccup.
const REFUSALS: (u32, Duration) = (3, Duration::from_millis(30));
/// A preferred path may lose so much more than the path in use, or so much at all.
const LOSS_MORE: f64 = 0.03;
const LOSS_FINE: f64 = 0.10;
/// Copies around a move go on at least so long.
const CHANGE_MIN: Duration = Duration::from_millis(300);
/// And no longer than this, even if the far end never confirms.
const CHANGE_MAX: Duration = Duration::from_secs(3);

impl Paths {
    pub(super) fn judge(&mut self, now: Instant) {
        let Some(selected) = self.selected.clone() else { return self.begin(now) };
        let Some(line) = self.lines.get(selected.route.socket) else { return self.flee(now, &selected) };
        let sound = |place: &Place, sign| is_recent(now, sign) && self.is_trusted(place);
        if is_refused(now, line)
            && let Some(route) = self.refuge(now, &selected.place, sound)
        {
            return self.go(now, route, Why::AddressLost);
        }
        if let Some(route) = self.escape(now, &selected) {
            return self.go(now, route, Why::Silent);
        }
        if let Some(route) = self.preferred(now, &selected) {
            return self.go(now, route, Why::Preferred);
        }
        self.settle(now, &selected);
    }

    /// Nothing carries the media yet (or any more): the first path that works, but a moment's patience for the preferred one.
    fn begin(&mut self, now: Instant) {
        let best = self.places().into_iter().enumerate().find_map(|(rank, place)| {
            let route = self.best(now, &place)?;
            self.lines.road(route).filter(|road| !road.pulse.is_dead(now, self.doubt_after()))?;
            Some((rank, route))
        });
        let Some((rank, route)) = best else { return };
        let waited = self.first_validated.is_some_and(|since| now.saturating_duration_since(since) >= GRACE);
        if rank == 0 || self.left.is_some() || waited {
            let why = self.left.as_ref().map_or(Why::First, |left| left.why);
            self.go(now, route, why);
        }
    }

    /// Is a choice waiting for the preferred path?
    pub(super) fn is_beginning(&self) -> bool {
        self.selected.is_none() && self.first_validated.is_some()
    }

    /// The socket of the path in use is gone.
    fn flee(&mut self, now: Instant, selected: &Selected) {
        let refuge = self.refuge(now, &selected.place, |_, sign| is_recent(now, sign));
        match refuge.or_else(|| self.refuge(now, &selected.place, |_, _| true)) {
            Some(route) => self.go(now, route, Why::AddressLost),
            None => {
                self.left = Some(Left { sign: selected.sign, proof: selected.proof, why: Why::AddressLost });
                self.selected = None;
                self.doubt = None;
            }
        }
    }

    /// The path in use is silent for good, and another one has answered since that was in doubt.
    fn escape(&self, now: Instant, selected: &Selected) -> Option<Route> {
        let doubt = self.doubt?;
        if !self.lines.road(selected.route)?.pulse.is_dead(now, self.doubt_after()) {
            return None;
        }
        let proved = |route: &Route| self.lines.road(*route).is_some_and(|road| road.pulse.proved_since(doubt));
        let others = self.places().into_iter().filter(|place| *place != selected.place && self.is_trusted(place));
        others.filter_map(|place| self.best(now, &place)).find(proved)
    }

    /// The best other path that is not dead, takes packets, and whose last sign of life is good enough.
    fn refuge(&self, now: Instant, but: &Place, enough: impl Fn(&Place, Option<Instant>) -> bool) -> Option<Route> {
        self.places().into_iter().filter(|place| place != but).find_map(|place| {
            let route = self.best(now, &place)?;
            let pulse = &self.lines.road(route)?.pulse;
            let taken = self.lines.get(route.socket)?.refused.is_none();
            let alive = !pulse.is_dead(now, self.doubt_after()) && enough(&place, pulse.last_sign());
            (taken && alive).then_some(route)
        })
    }

    /// Its record is good enough for media to be moved there. What asks for more than this keeps media where it is dead.
    fn is_trusted(&self, place: &Place) -> bool {
        let known = self.reputation.get(&place.address);
        known.is_none_or(|known| known.trust[usize::from(place.relayed)].is_earned())
    }

    /// A path that is preferred to the one in use and has been good for long enough.
    fn preferred(&self, now: Instant, selected: &Selected) -> Option<Route> {
        let usual = self.lines.road(selected.route).map_or(1.0, |road| road.pulse.loss());
        let better = self.places().into_iter().take_while(|place| *place != selected.place);
        better.filter_map(|place| Some((self.best(now, &place)?, place))).find_map(|(route, place)| {
            let pulse = &self.lines.road(route)?.pulse;
            let wait =
                self.reputation.get(&place.address).map_or(Reputation::default().wait(now), |known| known.wait(now));
            let good = pulse.good_for(now)? >= wait && pulse.missed(now) == 0;
            let fine = pulse.loss() <= LOSS_FINE || pulse.loss() <= usual + LOSS_MORE;
            (good && fine).then_some(route)
        })
    }

    /// Within the path in use: on to the fresh anchor, or to whatever line of it lives.
    fn settle(&mut self, now: Instant, selected: &Selected) {
        let Some(route) = self.best(now, &selected.place).filter(|route| *route != selected.route) else { return };
        let preference = |route: Route| self.lines.get(route.socket).map_or(0, |line| line.preference);
        let dead = |route: Route| self.lines.road(route).is_none_or(|road| road.pulse.is_dead(now, self.doubt_after()));
        if preference(route) > preference(selected.route) || (dead(selected.route) && !dead(route)) {
            self.ledger.fled |= dead(selected.route);
            self.selected = Some(Selected { route, ..selected.clone() });
            self.anchor_at = Some(now + ANCHOR_REST);
            self.anchor_tries = 0;
            self.doubt = None;
            self.take(route);
        }
    }

    /// The first question on the route in use also tells the far end to use it.
    fn take(&mut self, route: Route) {
        if let Some(road) = self.lines.road_mut(route) {
            road.pulse.asked = None;
        }
    }

    fn go(&mut self, now: Instant, route: Route, why: Why) {
        let Some(place) = self.lines.get(route.socket).map(|line| line.place.clone()) else { return };
        let old = self.selected.take();
        let left = self.left.take().map(|left| (left.sign, left.proof));
        let (sign, proof) = old.as_ref().map(|old| (old.sign, old.proof)).or(left).unwrap_or((now, now));
        // A path that is left for a better one has delivered what it carried, unless it was in doubt.
        let fled = self.doubt.is_some() || !matches!(why, Why::First | Why::Preferred);
        self.ledger.fled |= fled;
        let covered = self.copies.filter(|(copy, _)| copy.socket == route.socket).map_or(now, |(_, since)| since);
        // An address that has gone was blamed for it when it went.
        if let Some(old) = old.filter(|old| why != Why::Preferred && self.ranking.contains(&old.place.address)) {
            self.reputation.entry(old.place.address).or_default().flap(now);
        }
        let gap = match why {
            Why::First | Why::Preferred => Duration::ZERO,
            Why::AddressLost | Why::Silent => covered.min(now).saturating_duration_since(sign),
        };
        let from = self.last_address.replace(place.address.clone());
        if from.as_ref() != Some(&place.address) {
            self.news.push(Move { from, to: place.address.clone(), why, gap });
        }
        self.doubt = None;
        self.anchor_at = None;
        self.anchor_tries = 0;
        let proof = if fled { proof } else { now };
        self.selected = Some(Selected { route, place, since: now, sign: now, proof });
        self.take(route);
    }

    /// Where a copy of every RTP packet is to go.
    pub(super) fn copy_route(&self, now: Instant, selected: Route) -> Option<Route> {
        let wanted = match self.plan.redundancy {
            Redundancy::Off => false,
            Redundancy::Handover => self.is_changing(now),
            Redundancy::Always => true,
        };
        if !wanted {
            return None;
        }
        let address = &self.lines.get(selected.socket)?.place.address;
        let mut others = self.places();
        others.retain(|place| place.address != *address);
        // Addresses of one interface die together.
        others.sort_by_key(|place| place.address.interface == address.interface);
        let alive =
            |route: &Route| self.lines.road(*route).is_some_and(|road| !road.pulse.is_dead(now, self.doubt_after()));
        let mut routes = others.iter().filter_map(|place| self.best(now, place)).filter(alive);
        routes.find(|route| self.in_step(selected, *route))
    }

    fn is_changing(&self, now: Instant) -> bool {
        let Some(selected) = &self.selected else { return false };
        let since = now.saturating_duration_since(selected.since);
        let moving = since < CHANGE_MIN || (since < CHANGE_MAX && !self.is_anchored());
        self.doubt.is_some() || self.copies_until.is_some_and(|until| now < until) || moving
    }

    /// The copy comes while the far end still remembers which packets it has.
    fn in_step(&self, a: Route, b: Route) -> bool {
        let rtt = |route| self.lines.road(route).and_then(|road| road.pulse.rtt()).unwrap_or_default();
        let skew = rtt(a).abs_diff(rtt(b)) / 2;
        skew.as_secs_f64() * self.packet_rate < REPLAY_WINDOW
    }

    /// Every place, the preferred one first; of one address the direct way before the detour.
    pub(super) fn places(&self) -> Vec<Place> {
        let both = |address: &LocalAddress| [false, true].map(|relayed| Place { address: address.clone(), relayed });
        self.ranking.iter().flat_map(both).filter(|place| place.relayed || !self.plan.relay_only).collect()
    }

    /// The best validated route of a place: alive, of a line that stays, of the highest preference, to the far end's best address.
    pub(super) fn best(&self, now: Instant, place: &Place) -> Option<Route> {
        let roads = self.lines.roads().filter(|(_, line, _)| line.place == *place);
        let best = roads.max_by_key(|(_, line, road)| {
            let alive = !road.pulse.is_dead(now, self.doubt_after());
            (alive, usable(line), line.preference, road.weight)
        });
        best.map(|(route, ..)| route)
    }
}

fn is_recent(now: Instant, sign: Option<Instant>) -> bool {
    const { assert!(RECENT.as_millis() > CADENCE_STANDBY.as_millis() * 2) };
    sign.is_some_and(|sign| now.saturating_duration_since(sign) < RECENT)
}

/// More than a hiccup of the kernel.
fn is_refused(now: Instant, line: &Line) -> bool {
    let lasts = |since: Instant| now.saturating_duration_since(since) >= REFUSALS.1;
    line.refused.is_some_and(|(since, count)| count >= REFUSALS.0 && lasts(since))
}
