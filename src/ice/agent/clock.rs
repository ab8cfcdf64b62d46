//! Pure: the time that this process was awake. All rules of the agent live in it: silence, age and trials are counted only
//! while somebody could have heard. A process that is suspended (SIGSTOP, a machine that is moved, one that is starved)
//! would else wake to paths that seem dead, answers that seem to have taken a minute, standbys that seem silent for long,
//! and a path that seems to have been good all the while.

use std::time::{Duration, Instant};

/// Later than this behind what it has asked for, a process did not run. Less is a busy machine, and shorter than any
/// silence that means something (`suspect_after / 2`, at its largest).
const LATE: Duration = Duration::from_millis(250);

/// The clock of the agent: that of the world, less what was slept.
#[derive(Debug, Default)]
pub(in crate::ice) struct Awake {
    slept: Duration,
    /// The last waking: when it was on this clock, and what had been slept before it.
    woke: Option<(Instant, Duration)>,
    /// When anything came last, and when the agent wanted to be called, in the time of the world.
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Awake {
    /// Something comes in at `now` of the world.
    pub(in crate::ice) fn hear(&mut self, now: Instant) -> Instant {
        // Who has asked for nothing may be left alone for any time.
        if let Some(expected) = self.due.max(self.last).filter(|_| self.due.is_some()) {
            let late = now.saturating_duration_since(expected);
            if late >= LATE {
                self.woke = Some((self.at(expected), self.slept));
                self.slept += late;
            }
        }
        self.last = self.last.max(Some(now));
        self.at(now)
    }

    /// The agent wants to be called then. Both in the time of the world.
    pub(in crate::ice) fn expect(&mut self, due: Option<Instant>) -> Option<Instant> {
        self.due = due.map(|due| due + self.slept);
        self.due
    }

    /// What time it is here when it is `now` in the world.
    pub(in crate::ice) fn at(&self, now: Instant) -> Instant {
        now.checked_sub(self.slept).unwrap_or(now)
    }

    /// When a moment of this clock was in the world. Before the last sleep but one it is late by what was slept then.
    pub(in crate::ice) fn in_the_world(&self, at: Instant) -> Instant {
        let before = self.woke.filter(|(woke, _)| at <= *woke).map(|(_, before)| before);
        at + before.unwrap_or(self.slept)
    }
}
