//! Pure: which server next - `uplink.url` first, `uplink.fallbackUrls` in turn - and what is remembered of each.

use std::time::{Duration, Instant};

use super::backoff::after;

/// So many failed tries in a row, and the next server gets its chance: one may be bad luck, two are a habit.
const FAILURES_MAX: u32 = 2;
/// How long a server that failed is avoided. As long as a restart takes, and doubled each time it fails again.
const COOL_DOWN: Duration = Duration::from_secs(60);
/// The longest that one is avoided: an operator who mends the first server should not wait for half an hour.
const COOL_DOWN_MAX: Duration = Duration::from_mins(10);
/// A server out of its cool-down gets this much longer before we move back to it: we are on air, nothing is urgent.
const FAILBACK_PATIENCE: Duration = Duration::from_secs(60);
/// The least time on a lower server before a better one is tried: moves have a price, two servers that take turns in
/// failing should not make us move each minute.
const FAILBACK_AFTER: Duration = Duration::from_mins(5);
/// While somebody has our slot: it takes the server about so long to see that a session is dead (product.md: ">= 30 s").
pub(super) const SLOT_BUSY_WAIT: Duration = Duration::from_secs(30);
/// The same where it may be a session of our own that was lost: most servers free the slot after 3 to 15 s of silence
/// (product.md: "3, 6, 12 s").
const OWN_SLOT_WAITS: [Duration; 3] = [Duration::from_secs(3), Duration::from_secs(6), Duration::from_secs(12)];

/// The memory of all servers, in the order of preference.
#[derive(Debug, Clone)]
pub(super) struct Endpoints {
    health: Vec<Health>,
    /// Where the last proven session was, and since when sessions have been proven there.
    home: Option<(usize, Instant)>,
}

#[derive(Debug, Clone, Default)]
struct Health {
    /// Failed tries in a row.
    failures: u32,
    /// How long it was avoided the last time; zero: never, or forgiven.
    cool_down: Duration,
    avoided_until: Option<Instant>,
    /// It refused in a way that no retry mends; the last resort while there is no session, until it proves better.
    hopeless: bool,
    /// It forbade tries before this time. Holds whatever happens, even a stop and a start.
    not_before: Option<Instant>,
    /// It has acknowledged media of ours, now or in an earlier process: it takes our token, and its address is right. Holds
    /// whatever happens.
    proven: bool,
    /// A session of ours there has ended and none has been accepted since: what has our slot may be that one. How often the
    /// slot was busy in this time.
    own_slot: Option<u32>,
}

impl Health {
    fn avoid(&mut self, now: Instant) {
        self.failures = 0;
        self.cool_down = self.cool_down.saturating_mul(2).clamp(COOL_DOWN, COOL_DOWN_MAX);
        self.avoided_until = Some(after(now, self.cool_down));
    }

    fn is_avoided(&self, now: Instant) -> bool {
        self.hopeless || self.avoided_until.is_some_and(|until| until > now)
    }
}

impl Endpoints {
    pub(super) fn new(count: usize) -> Self {
        Self { health: vec![Health::default(); count.max(1)], home: None }
    }

    /// There are this many servers now.
    pub(super) fn resize(&mut self, count: usize) {
        self.health.resize(count.max(1), Health::default());
    }

    /// A person starts the broadcast: what failed before may have been mended. What a server forbade stays.
    pub(super) fn start(&mut self) {
        for health in &mut self.health {
            let Health { not_before, proven, own_slot, .. } = *health;
            *health = Health { not_before, proven, own_slot, ..Health::default() };
        }
        self.home = None;
    }

    /// The server for the next try: the best that is not avoided, else the one whose cool-down ends first.
    pub(super) fn choose(&self, now: Instant) -> usize {
        let free = self.health.iter().position(|health| !health.is_avoided(now));
        let last_resort = || {
            let all = self.health.iter().enumerate();
            all.min_by_key(|(_, health)| (health.hopeless, health.avoided_until)).map_or(0, |(endpoint, _)| endpoint)
        };
        free.unwrap_or_else(last_resort)
    }

    /// Until when this server forbids tries, if it does.
    pub(super) fn not_before(&self, endpoint: usize, now: Instant) -> Option<Instant> {
        self.health.get(endpoint).and_then(|health| health.not_before).filter(|until| *until > now)
    }

    /// This server forbids tries before `until`. Of two such times the later one counts.
    pub(super) fn forbid(&mut self, endpoint: usize, until: Instant) {
        if let Some(health) = self.health.get_mut(endpoint) {
            health.not_before = health.not_before.max(Some(until));
        }
    }

    /// A try there failed. Where there is no other server there is nothing to avoid.
    pub(super) fn failed(&mut self, endpoint: usize, now: Instant) {
        let has_others = self.health.len() > 1;
        if let Some(health) = self.health.get_mut(endpoint) {
            health.failures += 1;
            if has_others && health.failures >= FAILURES_MAX {
                health.avoid(now);
            }
        }
    }

    /// It is avoided from now on; `hopeless`: even after its cool-down it is only the last resort.
    pub(super) fn dismiss(&mut self, endpoint: usize, now: Instant, hopeless: bool) {
        if let Some(health) = self.health.get_mut(endpoint) {
            health.hopeless |= hopeless;
            health.avoid(now);
        }
    }

    /// There is another server that has not refused for good.
    pub(super) fn has_others(&self, endpoint: usize) -> bool {
        self.health.iter().enumerate().any(|(other, health)| other != endpoint && !health.hopeless)
    }

    /// It acknowledged media of ours. True: for the first time.
    pub(super) fn proven(&mut self, endpoint: usize, now: Instant) -> bool {
        if self.home.is_none_or(|(home, _)| home != endpoint) {
            self.home = Some((endpoint, now));
        }
        self.health.get_mut(endpoint).is_some_and(|health| {
            health.failures = 0;
            health.hopeless = false;
            health.avoided_until = None;
            !std::mem::replace(&mut health.proven, true)
        })
    }

    /// It acknowledged media of ours in an earlier process.
    pub(super) fn was_proven(&mut self, endpoint: usize) {
        if let Some(health) = self.health.get_mut(endpoint) {
            health.proven = true;
        }
    }

    /// It has acknowledged media of ours at some time.
    pub(super) fn is_proven(&self, endpoint: usize) -> bool {
        self.health.get(endpoint).is_some_and(|health| health.proven)
    }

    /// It accepted a session: the slot is ours.
    pub(super) fn accepted(&mut self, endpoint: usize) {
        if let Some(health) = self.health.get_mut(endpoint) {
            health.own_slot = None;
        }
    }

    /// A session that it had accepted is no more; it may not have noticed.
    pub(super) fn left(&mut self, endpoint: usize) {
        if let Some(health) = self.health.get_mut(endpoint) {
            health.own_slot.get_or_insert(0);
        }
    }

    /// An earlier process has left a session behind, at one of them.
    pub(super) fn all_left(&mut self) {
        (0..self.health.len()).for_each(|endpoint| self.left(endpoint));
    }

    /// Somebody has our slot there. How long to leave it alone.
    pub(super) fn slot_busy(&mut self, endpoint: usize) -> Duration {
        let Some(times) = self.health.get_mut(endpoint).and_then(|health| health.own_slot.as_mut()) else {
            return SLOT_BUSY_WAIT;
        };
        let wait = usize::try_from(*times).ok().and_then(|index| OWN_SLOT_WAITS.get(index));
        *times = times.saturating_add(1);
        wait.copied().unwrap_or(SLOT_BUSY_WAIT)
    }

    /// It acknowledged media for a stable spell: what it did before is forgiven.
    pub(super) fn sound(&mut self, endpoint: usize) {
        if let Some(health) = self.health.get_mut(endpoint) {
            health.cool_down = Duration::ZERO;
        }
    }

    /// The better server that we may move back to from `endpoint`, and when.
    pub(super) fn failback(&self, endpoint: usize) -> Option<(usize, Instant)> {
        let (home, since) = self.home.filter(|(home, _)| *home == endpoint)?;
        let earliest = since + FAILBACK_AFTER;
        // Even one that refused for good: somebody may have mended it, and nothing is lost by asking now and then.
        let better = self.health.iter().enumerate().take(home);
        let when = |health: &Health| {
            let cooled_down = health.avoided_until.map_or(earliest, |until| (until + FAILBACK_PATIENCE).max(earliest));
            cooled_down.max(health.not_before.unwrap_or(earliest))
        };
        better.map(|(better, health)| (better, when(health))).min_by_key(|(_, when)| *when)
    }

    /// Not now; in a while.
    pub(super) fn postpone(&mut self, endpoint: usize, now: Instant) {
        if let Some(health) = self.health.get_mut(endpoint) {
            health.avoided_until = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tests::at;

    #[test]
    fn the_second_failure_in_a_row_gives_the_next_server_its_chance() {
        let mut endpoints = Endpoints::new(3);
        assert_eq!(endpoints.choose(at(0.0)), 0);
        endpoints.failed(0, at(0.0));
        assert_eq!(endpoints.choose(at(1.0)), 0);
        endpoints.failed(0, at(1.0));
        assert_eq!(endpoints.choose(at(1.0)), 1);
        endpoints.dismiss(1, at(2.0), true);
        assert_eq!(endpoints.choose(at(2.0)), 2, "what refuses for good is not tried twice");
        assert_eq!(endpoints.choose(at(61.0)), 0, "the cool-down is over");
    }

    #[test]
    fn the_cool_down_doubles_up_to_ten_minutes_and_is_forgiven_after_a_sound_spell() {
        let mut endpoints = Endpoints::new(2);
        let mut waits = Vec::new();
        for _ in 0..6 {
            endpoints.dismiss(0, at(0.0), false);
            waits.push((endpoints.health[0].avoided_until.expect("avoided") - at(0.0)).as_secs());
        }
        assert_eq!(waits, [60, 120, 240, 480, 600, 600]);
        endpoints.proven(0, at(700.0));
        endpoints.sound(0);
        endpoints.dismiss(0, at(0.0), false);
        assert_eq!(endpoints.health[0].cool_down, COOL_DOWN);
    }

    #[test]
    fn when_all_have_failed_they_are_tried_in_turn() {
        let mut endpoints = Endpoints::new(3);
        let mut tried = Vec::new();
        for second in 0..12 {
            let endpoint = endpoints.choose(at(f64::from(second)));
            tried.push(endpoint);
            endpoints.failed(endpoint, at(f64::from(second)));
        }
        assert_eq!(tried, [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn the_way_back_opens_after_five_minutes_and_a_minute_after_the_cool_down() {
        let mut endpoints = Endpoints::new(3);
        endpoints.dismiss(0, at(0.0), false);
        endpoints.proven(1, at(10.0));
        assert_eq!(endpoints.failback(1), Some((0, at(310.0))));
        endpoints.proven(1, at(200.0));
        assert_eq!(endpoints.failback(1), Some((0, at(310.0))), "a reconnect to the same server changes nothing");
        for _ in 0..3 {
            endpoints.dismiss(0, at(310.0), false);
        }
        assert_eq!(endpoints.failback(1), Some((0, at(310.0 + 480.0 + 60.0))));
        endpoints.proven(0, at(900.0));
        assert_eq!(endpoints.failback(0), None);
    }

    #[test]
    fn a_slot_that_may_be_held_by_our_own_lost_session_is_asked_for_sooner() {
        let mut endpoints = Endpoints::new(2);
        let waits = |endpoints: &mut Endpoints, endpoint| -> Vec<u64> {
            (0..5).map(|_| endpoints.slot_busy(endpoint).as_secs()).collect()
        };
        assert_eq!(waits(&mut endpoints, 0), [30; 5], "somebody else has it");
        endpoints.left(0);
        assert_eq!(waits(&mut endpoints, 0), [3, 6, 12, 30, 30]);
        endpoints.left(0);
        assert_eq!(waits(&mut endpoints, 0), [30; 5], "no session was accepted meanwhile");
        endpoints.accepted(0);
        endpoints.left(0);
        endpoints.start();
        assert_eq!(waits(&mut endpoints, 0), [3, 6, 12, 30, 30]);
        assert_eq!((waits(&mut endpoints, 1), endpoints.slot_busy(7)), (vec![30; 5], SLOT_BUSY_WAIT));
    }

    #[test]
    fn a_server_is_proven_once_and_for_all() {
        let mut endpoints = Endpoints::new(2);
        assert!(!endpoints.is_proven(0));
        assert!(endpoints.proven(0, at(0.0)), "news");
        assert!(!endpoints.proven(0, at(1.0)));
        endpoints.was_proven(1);
        endpoints.dismiss(1, at(2.0), true);
        endpoints.start();
        assert!(endpoints.is_proven(0) && endpoints.is_proven(1) && !endpoints.is_proven(2));
        assert!(!endpoints.proven(1, at(3.0)), "it is written down already");
    }

    #[test]
    fn one_server_alone_is_never_avoided_and_a_start_forgets_all_but_what_was_forbidden() {
        let mut endpoints = Endpoints::new(0);
        (0..9).for_each(|_| endpoints.failed(0, at(0.0)));
        assert!(!endpoints.health[0].is_avoided(at(0.0)) && !endpoints.has_others(0));
        endpoints.resize(2);
        endpoints.dismiss(0, at(0.0), true);
        endpoints.forbid(0, at(9.0));
        endpoints.forbid(0, at(5.0));
        endpoints.start();
        assert_eq!((endpoints.choose(at(0.0)), endpoints.not_before(0, at(1.0))), (0, Some(at(9.0))));
        endpoints.forbid(7, at(1.0));
        assert_eq!(endpoints.not_before(7, at(0.0)), None, "a server that is gone from the config");
    }
}
