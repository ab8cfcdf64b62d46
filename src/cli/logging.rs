//! Where the log goes, and how much of it.

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::print;
use crate::config::{Log, LogFormat};

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
    let filter = without_the_wire(filter);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Text => {
            let filter = match "roamcast::events=off".parse() {
                Ok(events_off) => filter.add_directive(events_off),
                Err(_) => filter,
            };
            fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(print::is_colourful())
                .with_target(false)
                .with_filter(filter)
                .boxed()
        }
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

/// The WebSocket library logs requests and frames word for word: tokens, secrets, ICE passwords.
fn without_the_wire(filter: EnvFilter) -> EnvFilter {
    let off = ["tungstenite=info", "tokio_tungstenite=info"].into_iter().filter_map(|directive| directive.parse().ok());
    off.fold(filter, EnvFilter::add_directive)
}
