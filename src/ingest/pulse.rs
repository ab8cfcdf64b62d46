//! Does the media loop still turn? All broadcasts share it, so a loop that hangs or is gone is a server that is gone: `/healthz`
//! says so, and the process ends to be started again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

/// The loop turns at least this often, and is looked at this often.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// So many looks in a row without a turn: no machine is that busy, and monitors may know.
const LATE_AFTER: u32 = 3;
/// So many: it does not come back. Looks are counted, not time, so that a process that was stopped for a while is not taken
/// for one that hangs.
const DEAD_AFTER: u32 = 30;

/// What the loop and those who look at it share.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    turns: AtomicU64,
    over: AtomicBool,
    late: AtomicBool,
}

impl Pulse {
    /// The loop has turned once more.
    pub(super) fn beat(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether requests of the loop are answered.
    pub(super) fn is_well(&self) -> bool {
        !self.over.load(Ordering::Relaxed) && !self.late.load(Ordering::Relaxed)
    }
}

/// Dropped by a loop that ends, however it ends.
pub(super) struct Living(pub(super) Arc<Pulse>);

impl Drop for Living {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// How the loop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Well,
    Late,
    Dead,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Looks {
    turns: u64,
    without_turn: u32,
}

impl Looks {
    const fn look(&mut self, turns: u64, over: bool) -> Health {
        self.without_turn = if turns == self.turns { self.without_turn.saturating_add(1) } else { 0 };
        self.turns = turns;
        match self.without_turn {
            _ if over => Health::Dead,
            DEAD_AFTER.. => Health::Dead,
            LATE_AFTER.. => Health::Late,
            _ => Health::Well,
        }
    }
}

/// Looks at the loop on a thread of its own, which a runtime whose threads all hang does not hold up, until the sender of
/// `stopped` is dropped. What comes back is told once, when the loop is dead.
///
/// # Errors
/// There are no threads left.
pub(super) fn watch(pulse: Arc<Pulse>, stopped: Receiver<()>) -> std::io::Result<oneshot::Receiver<()>> {
    let (tell, dead) = oneshot::channel();
    thread::Builder::new().name("ingest-pulse".to_owned()).spawn(move || {
        let mut looks = Looks::default();
        while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            let health = looks.look(pulse.turns.load(Ordering::Relaxed), pulse.over.load(Ordering::Relaxed));
            let was_late = pulse.late.swap(health != Health::Well, Ordering::Relaxed);
            match health {
                Health::Well if was_late => tracing::warn!("the media loop of the ingest turns again"),
                Health::Late if !was_late => tracing::warn!("the media loop of the ingest hangs"),
                Health::Well | Health::Late => {}
                Health::Dead => {
                    tracing::error!(
                        "the media loop of the ingest is dead: nothing can be published or watched any more"
                    );
                    let _nobody_waits = tell.send(());
                    return;
                }
            }
        }
    })?;
    Ok(dead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_hangs_is_late_and_then_dead() {
        let mut looks = Looks::default();
        let mut seen = vec![looks.look(1, false)];
        seen.extend((0..DEAD_AFTER).map(|_| looks.look(1, false)));
        let (well, late) = (LATE_AFTER as usize, DEAD_AFTER as usize);
        assert!(seen[..well].iter().all(|health| *health == Health::Well), "{seen:?}");
        assert!(seen[well..late].iter().all(|health| *health == Health::Late), "{seen:?}");
        assert_eq!(seen[late], Health::Dead);
        assert_eq!(looks.look(2, false), Health::Well, "a turn is a turn");
    }

    #[test]
    fn a_loop_that_ended_is_dead_at_the_next_look() {
        let mut looks = Looks::default();
        assert_eq!([looks.look(1, false), looks.look(2, true)], [Health::Well, Health::Dead]);
    }

    #[tokio::test]
    async fn the_end_of_a_loop_is_told_and_the_stop_of_a_server_is_not() {
        let pulse = Arc::new(Pulse::default());
        let (_stop, stopped) = std::sync::mpsc::channel();
        let dead = watch(Arc::clone(&pulse), stopped).unwrap();
        drop(Living(Arc::clone(&pulse)));
        assert!(!pulse.is_well());
        assert_eq!(dead.await, Ok(()));

        let pulse = Arc::new(Pulse::default());
        let (stop, stopped) = std::sync::mpsc::channel();
        let dead = watch(Arc::clone(&pulse), stopped).unwrap();
        drop(stop);
        assert!(dead.await.is_err());
    }
}
