//! Lines on stdout, written by a thread of their own: a reader that stalls (`| less`) must not stall the broadcast.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use tracing::warn;

use super::print;

/// About a quarter of an hour of events for a reader that has gone for a coffee.
const WAITING_MAX: usize = 1024;
/// At the end the last lines get this long to leave; Ctrl-C has to be done within 2 s.
const FLUSH_WITHIN: Duration = Duration::from_millis(200);

/// Writes lines in order. Dropping it waits a moment for the last ones.
pub struct Lines {
    waiting: Option<SyncSender<String>>,
    done: Receiver<()>,
    lost: u64,
}

impl Lines {
    /// Starts the thread.
    #[must_use]
    pub fn start() -> Self {
        let (waiting, lines) = sync_channel::<String>(WAITING_MAX);
        let (tell_done, done) = channel();
        std::thread::spawn(move || {
            // A broadcast goes on when nobody reads its standard output any more.
            let _reader_gone = lines.into_iter().try_for_each(|line| print::out(&line));
            let _house_gone = tell_done.send(());
        });
        Self { waiting: Some(waiting), done, lost: 0 }
    }

    /// Puts a line in the queue. Never blocks: a line that finds it full is lost, and the log says how many were.
    pub fn write(&mut self, line: String) {
        let Some(waiting) = &self.waiting else { return };
        match waiting.try_send(line) {
            Ok(()) => {
                if self.lost > 0 {
                    warn!("{} events were not written to stdout: its reader was too slow", self.lost);
                    self.lost = 0;
                }
            }
            Err(TrySendError::Full(_)) => self.lost += 1,
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.waiting = None;
        let _too_slow = self.done.recv_timeout(FLUSH_WITHIN);
    }
}
