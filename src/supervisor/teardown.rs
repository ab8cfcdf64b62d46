//! Pure: sessions that have been ordered closed and have not yet said that they are.

use std::time::{Duration, Instant};

use super::event::{Action, Attempt, SessionEvent};

/// A teardown that has said nothing for this long counts as stuck, even if nobody reported it. The line's own deadline
/// is far shorter.
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// After so many threads left behind the process is no longer sound (law 3).
const STUCK_MAX: u32 = 3;

/// The machine of teardowns.
#[derive(Debug, Clone, Default)]
pub(super) struct Teardown {
    closing: Vec<(Attempt, Instant)>,
    stuck: u32,
}

impl Teardown {
    /// Orders a session closed, with a goodbye: it frees our slot at the server even when the session has failed.
    pub(super) fn close(&mut self, now: Instant, attempt: Attempt, orders: &mut Vec<Action>) {
        self.closing.push((attempt, now + TEARDOWN_TIMEOUT));
        orders.push(Action::Close { attempt, goodbye: true });
    }

    /// A session speaks. Once it has been ordered closed, all that counts is that it is gone.
    pub(super) fn hear(&mut self, attempt: Attempt, event: &SessionEvent) {
        let Some(index) = self.closing.iter().position(|(closing, _)| *closing == attempt) else { return };
        match event {
            SessionEvent::Closed => {
                self.closing.swap_remove(index);
            }
            SessionEvent::TeardownStuck => {
                self.closing.swap_remove(index);
                self.stuck += 1;
            }
            SessionEvent::Accepted { .. }
            | SessionEvent::Connected
            | SessionEvent::Disconnected
            | SessionEvent::IceFailed
            | SessionEvent::IceRestarted
            | SessionEvent::IceRestartRefused(_)
            | SessionEvent::IceRestartFailed(_)
            | SessionEvent::Acknowledged
            | SessionEvent::Named
            | SessionEvent::Link(_)
            | SessionEvent::Moved(_)
            | SessionEvent::SignallingLost(_)
            | SessionEvent::SignallingResumed { .. }
            | SessionEvent::ResumeFailed(_)
            | SessionEvent::ResumeRefused(_)
            | SessionEvent::RetrySlot(_)
            | SessionEvent::GoingAway { .. }
            | SessionEvent::Output { .. }
            | SessionEvent::Failed(_) => {}
        }
    }

    pub(super) fn due(&mut self, now: Instant) {
        let before = self.closing.len();
        self.closing.retain(|(_, until)| *until > now);
        self.stuck += u32::try_from(before - self.closing.len()).unwrap_or(u32::MAX);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.closing.iter().map(|(_, until)| *until).min()
    }

    /// Nothing is closing.
    pub(super) const fn is_done(&self) -> bool {
        self.closing.is_empty()
    }

    /// Too many never came back.
    pub(super) const fn is_hopeless(&self) -> bool {
        self.stuck >= STUCK_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tests::at;

    #[test]
    fn a_teardown_counts_once_whatever_is_said_afterwards() {
        let mut teardown = Teardown::default();
        for number in 1..=4 {
            teardown.close(at(0.0), Attempt(number), &mut Vec::new());
        }
        teardown.hear(Attempt(1), &SessionEvent::Closed);
        teardown.hear(Attempt(1), &SessionEvent::TeardownStuck);
        teardown.hear(Attempt(2), &SessionEvent::TeardownStuck);
        teardown.hear(Attempt(2), &SessionEvent::TeardownStuck);
        teardown.hear(Attempt(3), &SessionEvent::TeardownStuck);
        assert!(!teardown.is_hopeless() && !teardown.is_done());
        teardown.hear(Attempt(4), &SessionEvent::TeardownStuck);
        assert!(teardown.is_hopeless() && teardown.is_done());
    }

    #[test]
    fn silence_counts_as_stuck() {
        let mut teardown = Teardown::default();
        (1..=3).for_each(|number| teardown.close(at(0.0), Attempt(number), &mut Vec::new()));
        let until = teardown.deadline().expect("has a deadline");
        teardown.due(until - Duration::from_millis(1));
        assert!(!teardown.is_hopeless());
        teardown.due(until);
        assert!(teardown.is_hopeless() && teardown.deadline().is_none());
    }
}
