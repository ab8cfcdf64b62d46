//! The one bounded inbox of the brain. Rooms post into it from any thread and never block (law 8).
//!
//! State events are never dropped. Figures and acknowledgements are coalesced: of several that wait for the same
//! session only the newest is kept, so a flood of them takes one place each.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::config::mask::masked;
use crate::supervisor::event::{Event, SessionEvent};

/// The sending side, cheap to clone.
#[derive(Clone, Default)]
pub struct Inbox {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<VecDeque<Event>>,
    arrived: Notify,
}

impl Inbox {
    /// Puts an event in line. Never blocks, never fails. All that is ever shown of what others say passes here: what they
    /// quote of our secrets is masked.
    pub fn post(&self, mut event: Event) {
        for words in event.foreign_words() {
            if let Cow::Owned(clean) = masked(words) {
                *words = clean;
            }
        }
        {
            let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            match queue.iter_mut().find(|waiting| supersedes(&event, waiting)) {
                Some(older) => *older = event,
                None => queue.push_back(event),
            }
        }
        self.shared.arrived.notify_one();
    }

    /// The next event, in order of arrival. One reader only: the driver.
    pub async fn next(&self) -> Event {
        loop {
            let event = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match event {
                Some(event) => return event,
                None => self.shared.arrived.notified().await,
            }
        }
    }
}

/// Does `new` say all that `waiting` says, only fresher?
fn supersedes(new: &Event, waiting: &Event) -> bool {
    use SessionEvent::{Acknowledged, Link, Named};
    match (new, waiting) {
        (Event::Session(a, Link(_)), Event::Session(b, Link(_)))
        | (Event::Session(a, Acknowledged), Event::Session(b, Acknowledged))
        | (Event::Session(a, Named), Event::Session(b, Named)) => a == b,
        _ => false,
    }
}
