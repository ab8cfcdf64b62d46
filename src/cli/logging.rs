//! Where the log goes, and how much of it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tracing::warn;
use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use super::journal::Journal;
use super::log_sink::{OUTLET, Outlet};
use super::print;
use crate::app::writer::WriterThread;
use crate::config::mask::masked;
use crate::config::{Log, LogFormat};

/// Names a file that gets everything at level `trace`, whatever else is logged where.
const TRACE_FILE: &str = "ROAMCAST_TRACE_FILE";

/// Whatever the filter says: some crates of others show secrets when they are loud.
///
/// `turn-client-proto` and its kin print what keys are made of, passwords included, and whole states in their warnings;
/// `is` (ICE of `str0m`) prints the ICE passwords at `debug`; `tungstenite` prints whole requests with their bearer token, and
/// messages with resume tokens, at `trace`.
#[must_use]
pub fn without_secrets() -> Targets {
    Targets::new().with_default(LevelFilter::TRACE).with_targets([
        ("is::", LevelFilter::INFO),
        ("str0m", LevelFilter::INFO),
        ("stun_proto", LevelFilter::ERROR),
        ("stun_types", LevelFilter::ERROR),
        ("turn_client_proto", LevelFilter::ERROR),
        ("turn_types", LevelFilter::ERROR),
        ("tungstenite", LevelFilter::INFO),
        ("tokio_tungstenite", LevelFilter::INFO),
    ])
}

/// Starts to log to stderr or journald. `$ROAMCAST_LOG` wins over `$RUST_LOG`, and that over `log.level`.
///
/// In the text form the events are left out: stdout shows them already. What comes back gives it another `log.level`.
pub(super) fn start(log: &Log) -> impl Fn(&str) + Send + Sync + use<> {
    let overruled = ["ROAMCAST_LOG", "RUST_LOG"].into_iter().find_map(|variable| {
        let level = std::env::var(variable).ok().filter(|level| !level.is_empty())?;
        Some((variable, level))
    });
    let quiet = match log.format {
        LogFormat::Text => without_secrets().with_target("roamcast::events", LevelFilter::OFF),
        LogFormat::Json | LogFormat::Journald => without_secrets(),
    };
    let (filter, handle) = reload::Layer::new(parse(overruled.as_ref().map_or(&log.level, |(_, level)| level)));
    let filter = filter.and(quiet);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Text => fmt::layer()
            .with_writer(stderr())
            .with_ansi(print::is_colourful())
            .with_target(false)
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => fmt::layer().json().with_writer(stderr()).with_filter(filter).boxed(),
        LogFormat::Journald => match Journal::connect() {
            Ok((journal, writer)) => {
                let _started_before = OUTLET.set(Outlet { writer, is_stderr: false });
                journal.with_filter(filter).boxed()
            }
            Err(error) => {
                print::err(&format!("warning: journald cannot be reached ({error}): the log goes to stderr"));
                fmt::layer().with_writer(stderr()).with_ansi(false).with_filter(filter).boxed()
            }
        },
    };
    let layers: Vec<_> = [Some(layer), trace_file()].into_iter().flatten().collect();
    // A second call (tests) keeps the first.
    let _ = tracing_subscriber::registry().with(layers).try_init();
    move |level| match &overruled {
        Some((variable, _)) => warn!("`log.level` is overruled by ${variable}"),
        None => {
            let _log_gone = handle.reload(parse(level));
        }
    }
}

/// What log lines are written to: a queue before stderr.
fn stderr() -> impl for<'a> fmt::MakeWriter<'a, Writer = LogLine> + Send + Sync {
    let writer = &OUTLET.get_or_init(|| Outlet {
        writer: Arc::new(WriterThread::start(|record| io::stderr().lock().write_all(record))),
        is_stderr: true,
    });
    let writer = Arc::clone(&writer.writer);
    move || LogLine(Arc::clone(&writer))
}

/// One line of the log on its way to stderr, without our secrets.
struct LogLine(Arc<WriterThread>);

impl Write for LogLine {
    /// Gets a line whole: `tracing-subscriber` formats it before it writes.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let lost = self.0.write(masked(&text).into_owned().into_bytes());
        if lost > 0 {
            self.0.write(format!("{lost} log lines were lost: the reader of stderr was too slow\n").into_bytes());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn trace_file() -> Option<Box<dyn Layer<Registry> + Send + Sync>> {
    let path = std::env::var_os(TRACE_FILE).filter(|path| !path.is_empty())?;
    match open(Path::new(&path)) {
        // Each line is one write, so that the last one before a crash is there.
        Ok(file) => {
            Some(fmt::layer().with_writer(Mutex::new(file)).with_ansi(false).with_filter(without_secrets()).boxed())
        }
        Err(error) => {
            print::err(&format!("warning: ${TRACE_FILE} cannot be written ({error}): it is ignored"));
            None
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn parse(level: &str) -> EnvFilter {
    // Some filters beyond ASCII make tracing-subscriber 0.3.23 panic.
    let filter = level.is_ascii().then(|| EnvFilter::try_new(level).ok()).flatten();
    filter.unwrap_or_else(|| {
        print::err(&format!("warning: the log filter `{level}` is not understood: `info` is used"));
        EnvFilter::new("info")
    })
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn crates_that_print_secrets_are_kept_quiet_and_no_others() {
        let quiet = without_secrets();
        for (target, level, is_shown) in [
            ("is::agent", Level::DEBUG, false),
            ("is::agent", Level::INFO, true),
            ("str0m::rtc", Level::TRACE, false),
            ("tungstenite::handshake::client", Level::TRACE, false),
            ("tungstenite::protocol", Level::DEBUG, false),
            ("roamcast::uplink", Level::TRACE, true),
            ("hyper::proto", Level::TRACE, true),
        ] {
            assert_eq!(quiet.would_enable(target, &level), is_shown, "{target} {level}");
        }
    }
}
