//! A thread that writes: whoever reads standard output, standard error or the journal may stall, the broadcast must not.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// About a quarter of an hour of events for a reader that has gone for a coffee.
const WAITING_MAX: usize = 1024;
/// At the end the last records get this long to leave; Ctrl-C has to be done within 2 s.
const FLUSH_WITHIN: Duration = Duration::from_millis(200);

enum Order {
    Write(Vec<u8>),
    /// Tell when all before it is written.
    Flush(SyncSender<()>),
}

/// Writes records in order, on a thread of its own. Dropping it waits a moment for the last ones.
pub(crate) struct WriterThread {
    waiting: SyncSender<Order>,
    lost: AtomicU64,
}

impl WriterThread {
    /// Starts the thread; it ends with the first error of `write`: nobody reads any more.
    pub(crate) fn start(mut write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> Self {
        let (waiting, orders) = sync_channel(WAITING_MAX);
        std::thread::spawn(move || {
            for order in orders {
                match order {
                    Order::Write(record) if write(&record).is_err() => break,
                    Order::Write(_) => {}
                    Order::Flush(done) => {
                        let _gave_up_waiting = done.try_send(());
                    }
                }
            }
        });
        Self { waiting, lost: AtomicU64::new(0) }
    }

    /// Puts a record in the queue. Never blocks: one that finds it full is lost. Gives how many were lost before this one,
    /// once, when there is room again.
    pub(crate) fn write(&self, record: Vec<u8>) -> u64 {
        match self.waiting.try_send(Order::Write(record)) {
            Ok(()) => self.lost.swap(0, Ordering::Relaxed),
            Err(TrySendError::Full(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                0
            }
            Err(TrySendError::Disconnected(_)) => 0,
        }
    }

    /// Waits a moment until all is written that was put in the queue before.
    pub(crate) fn flush(&self) {
        let (tell, done) = sync_channel(1);
        if self.waiting.try_send(Order::Flush(tell)).is_ok() {
            let _too_slow = done.recv_timeout(FLUSH_WITHIN);
        }
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_reader_that_stalls_holds_nobody_up_and_what_is_lost_is_counted() {
        let (taken, take) = channel::<Vec<u8>>();
        let (open, gate) = channel::<()>();
        let writer = WriterThread::start(move |record| {
            gate.recv().map_err(io::Error::other)?;
            taken.send(record.to_vec()).map_err(io::Error::other)
        });
        let lines = WAITING_MAX + 1 + 7;
        (0..lines).for_each(|n| assert_eq!(writer.write(n.to_string().into_bytes()), 0));
        (0..lines).for_each(|_| open.send(()).unwrap());
        let first: Vec<_> = take.iter().take(WAITING_MAX).collect();
        assert_eq!(
            first[WAITING_MAX - 1],
            (WAITING_MAX - 1).to_string().into_bytes(),
            "in order, and none is left out"
        );
        // One more had room where the thread took the first before the queue was full.
        let lost = writer.write(b"again".to_vec());
        assert!((7..=8).contains(&lost), "{lost} of {lines} are told as lost");
        drop(open);
    }

    #[test]
    fn the_last_records_are_written_before_it_is_dropped() {
        let (taken, take) = channel::<Vec<u8>>();
        let writer = WriterThread::start(move |record| taken.send(record.to_vec()).map_err(io::Error::other));
        (0..100_u8).for_each(|n| assert_eq!(writer.write(vec![n]), 0));
        drop(writer);
        assert_eq!(take.try_iter().collect::<Vec<_>>(), (0..100).map(|n| vec![n]).collect::<Vec<_>>());
    }
}
