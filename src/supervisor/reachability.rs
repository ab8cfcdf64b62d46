//! Pure: whose outage is it, ours or the server's? Found out by what else answers while all our paths to the server are
//! silent.
//!
//! ```text
//!          on air                        the path is silent            nobody                  nor the server
//! Idle <---------> Learning   Idle ---> Asking the witnesses ---> Asking the server too ---> Nothing answers
//!                                          |  answer                  |  answer                 |  answer
//!                                          '-> Theirs <---------------'         a try at once <-'
//! ```
//! A silence proves nothing unless its owner answers otherwise. So while we are on air each possible witness is asked now and
//! then, and only those that answered count. Where none beyond the gateway is known, the gateway itself stands in: silent, it
//! proves that our own link is dead; answering, it proves nothing, and the outage counts as the server's. So of a thousand
//! encoders behind one dead server none probes that server: theirs witnesses, or gateways, answer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::backoff::{Dice, about};
use super::event::ProbeTarget;

/// Between two probes at the same target: the most that an answer is late for that reason, and 240 SYNs a minute.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// After so long without any answer that hurry gains nothing that anybody would notice ...
const SLOW_AFTER: Duration = Duration::from_mins(2);
/// ... and data may cost money.
const PROBE_EVERY_SLOW: Duration = Duration::from_secs(2);
/// Witnesses that are asked in one outage: enough that one which happens to be down decides nothing.
const WITNESSES_MAX: usize = 4;
/// Probes before the witnesses count as silent; each is asked twice at least, for UDP is lost now and then.
const PROBES_MIN: usize = 4;
/// After the last of those: a healthy path answers within this, satellites too.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// Something answers, and the broadcast is still off air: our own path may have died since. One packet each time.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// On air for so long before the witnesses are asked, for the path is busy at first.
const LEARN_AFTER: Duration = Duration::from_secs(1);
/// How often they are asked on air: resolvers and firewalls change.
const LEARN_EVERY: Duration = Duration::from_mins(10);
/// Probes at one that gives no answer, before it counts as one that never does.
const LEARN_TRIES: usize = 3;
/// Even while nothing answers a try is made now and then: probes may be blocked where a session is not (an HTTP proxy).
const TRY_ANYWAY: Duration = Duration::from_secs(30);

/// What the broadcast is at, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plight {
    /// Off air, without a network, or nothing is known.
    Other,
    /// On air.
    Healthy,
    /// Off air, and the server has not been heard since.
    Silent,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// From now on nothing answers.
    Lost,
    /// Something answers again.
    Back,
}

/// The machine of the probes.
#[derive(Debug)]
pub(super) struct Reachability {
    /// How many possible witnesses there are; `None`: nobody sends probes, and nothing is ever found out.
    witnesses: Option<usize>,
    /// Those (and the gateway) that are known to answer on this network.
    proven: BTreeSet<ProbeTarget>,
    /// When they are to be asked again, on air; `None`: soon.
    learn_at: Option<Instant>,
    state: State,
    dice: Dice,
}

#[derive(Debug)]
enum State {
    Idle,
    Learning { fresh: BTreeSet<ProbeTarget>, sent: usize, next: Instant },
    Asking { sent: usize, next: Instant, of_server: bool },
    NothingAnswers { since: Instant, sent: usize, next: Instant, hold: Duration },
    Theirs { again: Instant },
}

impl Reachability {
    /// Nobody sends probes. `seed` decides the jitter.
    pub(super) fn new(seed: u64) -> Self {
        Self { witnesses: None, proven: BTreeSet::new(), learn_at: None, state: State::Idle, dice: Dice::new(seed) }
    }

    /// Probes can be sent, at so many possible witnesses besides the gateway and the server.
    pub(super) fn with_witnesses(&mut self, witnesses: usize) {
        self.witnesses = Some(witnesses);
    }

    /// Nothing answers, the server or anything else. The answer is for how long a try is held back, if nothing changes.
    pub(super) const fn hold(&self) -> Option<Duration> {
        match self.state {
            State::NothingAnswers { hold, .. } => Some(hold),
            State::Idle | State::Learning { .. } | State::Asking { .. } | State::Theirs { .. } => None,
        }
    }

    /// What the broadcast is at now.
    pub(super) fn observe(&mut self, now: Instant, plight: Plight) {
        match (plight, &self.state) {
            (_, _) if self.witnesses.is_none() => {}
            (Plight::Other, _) => (self.learn_at, self.state) = (None, State::Idle),
            (Plight::Healthy, State::Learning { .. }) => {}
            (Plight::Healthy, _) => {
                self.state = State::Idle;
                self.learn_at.get_or_insert(now + LEARN_AFTER);
            }
            (Plight::Silent, State::Learning { fresh, .. }) => {
                self.proven.extend(fresh.iter().copied());
                self.ask(now);
            }
            (Plight::Silent, State::Idle) => self.ask(now),
            (Plight::Silent, _) => {}
        }
    }

    /// There is another network: its gateway is another one, and what was found out was about the old one.
    pub(super) fn network_changed(&mut self) {
        self.proven.remove(&ProbeTarget::Gateway);
        self.learn_at = None;
        self.state = State::Idle;
    }

    /// This process stood still: what was not answered meanwhile proves nothing.
    pub(super) fn woke_up(&mut self, now: Instant) {
        match &mut self.state {
            State::Asking { .. } | State::Theirs { .. } => self.ask(now),
            State::NothingAnswers { next, .. } => *next = now,
            State::Idle | State::Learning { .. } => {}
        }
    }

    /// A probe was answered.
    pub(super) fn answered(&mut self, now: Instant, target: ProbeTarget) -> Option<News> {
        if let State::Learning { fresh, .. } = &mut self.state {
            fresh.insert(target);
            return None;
        }
        let counts = matches!(target, ProbeTarget::Server(_)) || self.known().any(|known| known == target);
        let is_back = match self.state {
            State::Asking { .. } if counts => false,
            State::NothingAnswers { .. } if counts => true,
            State::Idle
            | State::Learning { .. }
            | State::Theirs { .. }
            | State::Asking { .. }
            | State::NothingAnswers { .. } => return None,
        };
        self.state = State::Theirs { again: now + about(ASK_AGAIN, &mut self.dice) };
        is_back.then_some(News::Back)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Idle => self.learn_at.filter(|_| self.witnesses.is_some()),
            State::Learning { next, .. } | State::Asking { next, .. } | State::NothingAnswers { next, .. } => {
                Some(next)
            }
            State::Theirs { again } => Some(again),
        }
    }

    /// Sees to what has come due: the probe to send, and what has been found out. `server`: which one the next session is
    /// for.
    pub(super) fn due(&mut self, now: Instant, server: usize) -> (Option<ProbeTarget>, Option<News>) {
        if self.deadline().is_none_or(|due| due > now) {
            return (None, None);
        }
        match self.state {
            State::Idle => {
                self.state = State::Learning { fresh: BTreeSet::new(), sent: 0, next: now };
                (self.learn(now), None)
            }
            State::Theirs { .. } => {
                self.ask(now);
                self.ask_on(now, server)
            }
            State::Learning { .. } => (self.learn(now), None),
            State::Asking { .. } => self.ask_on(now, server),
            State::NothingAnswers { since, sent, hold, .. } => {
                let targets = self.targets(server, true);
                let every = if now >= since + SLOW_AFTER { PROBE_EVERY_SLOW } else { PROBE_EVERY };
                // Targets take turns, so that something answers sooner than after the whole pause.
                let pause = every / u32::try_from(targets.len()).unwrap_or(u32::MAX).max(1);
                let next = now + about(pause, &mut self.dice);
                self.state = State::NothingAnswers { since, sent: sent + 1, next, hold };
                (targets.get(sent % targets.len().max(1)).copied(), None)
            }
        }
    }

    /// The next probe at those that have not answered yet.
    fn learn(&mut self, now: Instant) -> Option<ProbeTarget> {
        let all = self.witnesses.unwrap_or_default() + 1;
        let pause = about(PROBE_EVERY, &mut self.dice);
        let State::Learning { fresh, sent, next } = &mut self.state else { return None };
        while *sent < all * LEARN_TRIES {
            let at = *sent % all;
            *sent += 1;
            let target = at.checked_sub(1).map_or(ProbeTarget::Gateway, ProbeTarget::Witness);
            if !fresh.contains(&target) {
                // The last one has its time, too.
                *next = now + pause.max(if *sent == all * LEARN_TRIES { ANSWER_WITHIN } else { Duration::ZERO });
                return Some(target);
            }
        }
        self.proven = std::mem::take(fresh);
        self.learn_at = Some(now + about(LEARN_EVERY, &mut self.dice));
        self.state = State::Idle;
        None
    }

    /// Begins to ask those that are known to answer. Where nobody is known, nothing can be found out.
    fn ask(&mut self, now: Instant) {
        self.learn_at = None;
        let is_anybody_known = self.known().next().is_some();
        // Not in this very moment: this may be the answer to a deadline, which must move on.
        let next = now + about(PROBE_EVERY, &mut self.dice);
        self.state = if is_anybody_known { State::Asking { sent: 0, next, of_server: false } } else { State::Idle };
    }

    /// The next probe at the witnesses; at the server, too, when they are silent. Then nothing answers.
    fn ask_on(&mut self, now: Instant, server: usize) -> (Option<ProbeTarget>, Option<News>) {
        let State::Asking { sent, of_server, .. } = self.state else { return (None, None) };
        let targets = self.targets(server, of_server);
        let enough = PROBES_MIN.max(targets.len() * 2);
        let pause = about(PROBE_EVERY, &mut self.dice);
        if sent < enough {
            let next = now + if sent + 1 == enough { ANSWER_WITHIN } else { pause };
            self.state = State::Asking { sent: sent + 1, next, of_server };
            return (targets.get(sent % targets.len().max(1)).copied(), None);
        }
        if !of_server {
            self.state = State::Asking { sent: 0, next: now, of_server: true };
            return self.ask_on(now, server);
        }
        let hold = about(TRY_ANYWAY, &mut self.dice);
        self.state = State::NothingAnswers { since: now, sent: 0, next: now + pause, hold };
        (None, Some(News::Lost))
    }

    /// Whose silence means something: the witnesses that are known to answer, the first few; else the gateway.
    fn known(&self) -> impl Iterator<Item = ProbeTarget> {
        let witnesses = self.proven.iter().copied().filter(|known| *known != ProbeTarget::Gateway);
        let is_any = witnesses.clone().next().is_some();
        let gateway = self.proven.get(&ProbeTarget::Gateway).copied().filter(|_| !is_any);
        witnesses.take(WITNESSES_MAX).chain(gateway)
    }

    /// Who is asked in turn: the server first, if at all.
    fn targets(&self, server: usize, with_server: bool) -> Vec<ProbeTarget> {
        let server = with_server.then_some(ProbeTarget::Server(server));
        server.into_iter().chain(self.known()).collect()
    }
}
