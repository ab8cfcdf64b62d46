//! `roamcast ingest`: the embedded ingest server alone.

use std::path::Path;

use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};

use super::args::Ingest as Args;
use super::{Exit, logging, print, world};
use crate::config::{Log, LogFormat};
use crate::ingest::{Ingest, Options};
use crate::server::host::Hosts;

/// Serves until SIGINT or SIGTERM.
#[must_use]
pub fn run(args: &Args) -> Exit {
    let _the_level_stays = logging::start(&Log { level: "info".to_owned(), format: LogFormat::Text });
    let token = match args.token_file.as_deref().map(read_token).transpose() {
        Ok(token) => token,
        Err(words) => {
            print::err(&format!("error: {words}"));
            return Exit::CONFIG;
        }
    };
    let hosts = Hosts::with(args.allow_hosts.iter().cloned());
    let options = Options { token, hosts, faults: args.faults, ..Options::new(args.listen) };
    world::enter(async move {
        let mut server = match open(options).await {
            Ok(server) => server,
            Err(exit) => return exit,
        };
        let address = server.address();
        // Nobody has to read it.
        let _ = print::out(&format!(
            "publish to   http://{address}/whip/live\nor by        ws://{address}/signal/live (roamcast signalling)\nwatch at     http://{address}/live"
        ));
        tokio::select! {
            () = told_to_stop() => {}
            () = server.dead() => return Exit::INTERNAL,
        }
        server.stop().await;
        Exit::SUCCESS
    })
}

/// A server that listens.
///
/// # Errors
/// [`Exit::CONFIG`] after telling why it cannot.
pub(super) async fn open(options: Options) -> Result<Ingest, Exit> {
    Ingest::start(options).await.map_err(|error| {
        print::err(&format!("error: {error}"));
        Exit::CONFIG
    })
}

/// A file with one token; white space around it does not count.
fn read_token(path: &Path) -> Result<SecretString, String> {
    std::fs::read_to_string(path)
        .map(|text| SecretString::from(text.trim()))
        .map_err(|error| format!("the token file `{}` cannot be read: {error}", path.display()))
}

async fn told_to_stop() {
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        (Err(error), _) | (_, Err(error)) => tracing::warn!("cannot listen to signals: {error}"),
    }
}
