//! Where the log leaves this process, and lines for people that must not overtake it.

use std::sync::{Arc, OnceLock};

use crate::app::writer::WriterThread;

/// Where the log leaves this process.
pub(super) struct Outlet {
    pub(super) writer: Arc<WriterThread>,
    pub(super) is_stderr: bool,
}

pub(super) static OUTLET: OnceLock<Outlet> = OnceLock::new();

/// Waits a moment for the last lines of the log. Before the process ends.
pub fn flush() {
    if let Some(outlet) = OUTLET.get() {
        outlet.writer.flush();
    }
}

/// Puts a line for people behind the log lines that wait for stderr; false when the log does not go there.
pub(super) fn write_behind_log(line: &str) -> bool {
    let Some(outlet) = OUTLET.get().filter(|outlet| outlet.is_stderr) else { return false };
    outlet.writer.write(format!("{line}\n").into_bytes());
    outlet.writer.flush();
    true
}
