//! Everything that one test's thread logs, at every level, as the program itself would log it.

use std::io::Write;
use std::sync::{Arc, Mutex};

use roamcast::cli::logging::without_secrets;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, fmt, registry};

/// What was logged so far on the thread that began to capture.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// Captures until the guard is dropped.
    pub(crate) fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let kept = log.clone();
        let layer = fmt::layer().with_writer(move || kept.clone()).with_ansi(false).with_filter(without_secrets());
        (log, tracing::subscriber::set_default(registry().with(layer)))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Each of these is said once, no more and no less.
    #[track_caller]
    pub(crate) fn says_once(&self, all: &[&str]) {
        let text = self.text();
        for what in all {
            assert_eq!(text.matches(what).count(), 1, "{what}: {text}");
        }
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
