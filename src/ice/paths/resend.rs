//! Pure: which packets the far end may have missed, and on which route they are sent once more.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Paths, Selected};
use crate::ice::types::{Again, Route};

/// What is known of the packets that have left.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Media has left its path because that was gone or dead: what it carried last is in doubt.
    pub(super) fled: bool,
    /// The routes in use, and since when every packet has been sent there.
    whole: BTreeMap<Route, Instant>,
}

impl Selected {
    /// All that left before has arrived, for all we know: when the newest question was asked that was answered. Right after
    /// a move that is still one on the path before.
    pub(super) fn learn(&mut self, proved: Option<Instant>) {
        self.proof = self.proof.max(proved.filter(|proved| *proved >= self.since).unwrap_or(self.proof));
    }
}

impl Paths {
    /// To be asked with the routes that are about to be used.
    pub(super) fn again(&mut self, now: Instant, selected: Option<Route>, copy: Option<Route>) -> Option<Again> {
        let routes = || selected.into_iter().chain(copy);
        self.ledger.whole.retain(|route, _| routes().any(|used| used == *route));
        let target = match self.doubt {
            Some(_) => copy,
            None if self.ledger.fled => selected,
            None => None,
        };
        if selected.is_some() {
            self.ledger.fled = false;
        }
        let since = self.selected.as_ref().map_or(now, |selected| selected.proof);
        let missed = target.filter(|route| self.ledger.whole.get(route).is_none_or(|whole| *whole > since));
        if let Some(route) = missed {
            self.ledger.whole.insert(route, since);
        }
        for route in routes() {
            self.ledger.whole.entry(route).or_insert(now);
        }
        missed.map(|to| Again { to, since })
    }
}
