//! `roamcast ingest`: the embedded ingest server alone.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};

use super::args::{Ingest as Args, Tls};
use super::{Exit, logging, print, world};
use crate::config::fingerprint::Fingerprint;
use crate::config::{Log, LogFormat};
use crate::ingest::tls::Identity;
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
    let identity = match identity(&args.tls, args.listen.ip()) {
        Ok(identity) => identity,
        Err(exit) => return exit,
    };
    let manner = Manner { identity: identity.clone(), has_token: token.is_some() };
    let hosts = Hosts::with(args.allow_hosts.iter().cloned());
    let options = Options { token, hosts, tls: identity, faults: args.faults, ..Options::new(args.listen) };
    world::enter(async move {
        let mut server = match open(options).await {
            Ok(server) => server,
            Err(exit) => return exit,
        };
        // Nobody has to read it.
        let _ = print::out(&manner.greeting(server.address()));
        tokio::select! {
            () = told_to_stop() => {}
            () = server.dead() => return Exit::INTERNAL,
        }
        server.stop().await;
        Exit::SUCCESS
    })
}

/// How a server speaks to those who come.
pub(super) struct Manner {
    pub(super) identity: Option<Identity>,
    pub(super) has_token: bool,
}

impl Manner {
    /// `https` or `http`.
    pub(super) const fn scheme(&self) -> &'static str {
        if self.identity.is_some() { "https" } else { "http" }
    }

    /// What an encoder needs to trust us.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        self.identity.as_ref().map(|identity| Fingerprint::new(identity.fingerprint()))
    }

    fn greeting(&self, address: SocketAddr) -> String {
        let (http, ws) = (self.scheme(), if self.identity.is_some() { "wss" } else { "ws" });
        let mut lines = vec![
            format!("publish to   {http}://{address}/whip/live"),
            format!("or by        {ws}://{address}/signal/live (roamcast signalling)"),
            format!("watch at     {http}://{address}/live"),
        ];
        match self.fingerprint() {
            Some(fingerprint) => lines.push(format!("trust by     uplink.fingerprint = \"{fingerprint}\"")),
            None if self.has_token && !address.ip().to_canonical().is_loopback() => lines.push(
                "not encrypted: encoders on other machines need `uplink.allowClearText = true`, on a private network or VPN \
                 only; better start this with --tls-self-signed"
                    .to_owned(),
            ),
            None => {}
        }
        lines.join("\n")
    }
}

/// The certificate that the command line asks for, if it asks for one.
///
/// # Errors
/// [`Exit::CONFIG`] after telling why there is none.
pub(super) fn identity(args: &Tls, address: IpAddr) -> Result<Option<Identity>, Exit> {
    let identity = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Identity::from_files(certificate, key),
        _ if args.tls_self_signed => Identity::self_signed(state_folder().as_deref(), address),
        _ => return Ok(None),
    };
    identity.map(Some).map_err(|error| {
        print::err(&format!("error: {error}"));
        Exit::CONFIG
    })
}

/// What outlives this process: where systemd says, else as the XDG Base Directory Specification has it.
fn state_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_user = || set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    set("STATE_DIRECTORY").or_else(|| Some(of_user()?.join("roamcast")))
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
