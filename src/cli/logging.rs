//! Where the log goes, and how much of it.

use tracing::warn;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use super::print;
use crate::config::{Log, LogFormat};

/// Starts to log to stderr or journald. `$ROAMCAST_LOG` wins over `$RUST_LOG`, and that over `log.level`.
///
/// In the text form the events are left out: stdout shows them already. What comes back gives it another `log.level`.
pub(super) fn start(log: &Log) -> impl Fn(&str) + Send + Sync + use<> {
    let overruled = ["ROAMCAST_LOG", "RUST_LOG"].into_iter().find_map(|variable| {
        let level = std::env::var(variable).ok().filter(|level| !level.is_empty())?;
        Some((variable, level))
    });
    let format = log.format;
    let (filter, handle) = reload::Layer::new(parse(overruled.as_ref().map_or(&log.level, |(_, level)| level), format));
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Text => fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(print::is_colourful())
            .with_target(false)
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => fmt::layer().json().with_writer(std::io::stderr).with_filter(filter).boxed(),
        LogFormat::Journald => match tracing_journald::layer() {
            Ok(journald) => journald.with_filter(filter).boxed(),
            Err(error) => {
                print::err(&format!("warning: journald cannot be reached ({error}): the log goes to stderr"));
                fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_filter(filter).boxed()
            }
        },
    };
    // A second call (tests) keeps the first.
    let _ = tracing_subscriber::registry().with(layer).try_init();
    move |level| match &overruled {
        Some((variable, _)) => warn!("`log.level` is overruled by ${variable}"),
        None => {
            let _log_gone = handle.reload(parse(level, format));
        }
    }
}

fn parse(level: &str, format: LogFormat) -> EnvFilter {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|error| {
        print::err(&format!("warning: the log filter `{level}` is not understood ({error}): `info` is used"));
        EnvFilter::new("info")
    });
    match (format, "roamcast::events=off".parse()) {
        (LogFormat::Text, Ok(events_off)) => filter.add_directive(events_off),
        (LogFormat::Text | LogFormat::Json | LogFormat::Journald, _) => filter,
    }
}
