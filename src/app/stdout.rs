//! Lines on stdout, written by a thread of their own: a reader that stalls (`| less`) must not stall the broadcast.

use std::io::{self, Write};

use tracing::warn;

use super::writer::WriterThread;

/// Writes lines in order. Dropping it waits a moment for the last ones.
pub struct Lines(WriterThread);

impl Lines {
    /// Starts the thread.
    #[must_use]
    pub fn start() -> Self {
        // A broadcast goes on when nobody reads its standard output any more.
        Self(WriterThread::start(|line| out(&String::from_utf8_lossy(line))))
    }

    /// Puts a line in the queue. Never blocks: a line that finds it full is lost, and the log says how many were.
    pub fn write(&mut self, line: String) {
        let lost = self.0.write(line.into_bytes());
        if lost > 0 {
            warn!("{lost} events were not written to stdout: its reader was too slow");
        }
    }
}

/// A line on stdout. A closed pipe (`roamcast devices | head -1`) is no reason to panic, as `println!` would.
///
/// # Errors
/// When nobody reads it any more: a command that prints a lot may stop then.
pub fn out(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}
