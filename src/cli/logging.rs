//! Where the log goes, and how much of it.

use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::print;
use crate::config::{Log, LogFormat};

/// Whatever the filter says: some crates of others show secrets when they are loud.
///
/// `is` (ICE of `str0m`) prints the ICE passwords at `debug`; `tungstenite` prints whole requests with their bearer token, and
/// messages with resume tokens, at `trace`.
fn without_secrets() -> Targets {
    Targets::new().with_default(LevelFilter::TRACE).with_targets([
        ("is::", LevelFilter::INFO),
        ("str0m", LevelFilter::INFO),
        ("tungstenite", LevelFilter::DEBUG),
    ])
}

/// Starts to log to stderr or journald. `$ROAMCAST_LOG` wins over `$RUST_LOG`, and that over `log.level`.
///
/// In the text form the events are left out: stdout shows them already.
pub(super) fn start(log: &Log) {
    let filter = [std::env::var("ROAMCAST_LOG"), std::env::var("RUST_LOG")]
        .into_iter()
        .flatten()
        .find(|filter| !filter.is_empty())
        .unwrap_or_else(|| log.level.clone());
    let filter = EnvFilter::try_new(&filter).unwrap_or_else(|error| {
        print::err(&format!("warning: the log filter `{filter}` is not understood ({error}): `info` is used"));
        EnvFilter::new("info")
    });
    let quiet = match log.format {
        LogFormat::Text => without_secrets().with_target("roamcast::events", LevelFilter::OFF),
        LogFormat::Json | LogFormat::Journald => without_secrets(),
    };
    let filter = filter.and(quiet);
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
            ("tungstenite::protocol", Level::DEBUG, true),
            ("roamcast::uplink", Level::TRACE, true),
            ("hyper::proto", Level::TRACE, true),
        ] {
            assert_eq!(quiet.would_enable(target, &level), is_shown, "{target} {level}");
        }
    }
}
