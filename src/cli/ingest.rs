//! `roamcast ingest`: the embedded ingest server alone.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};

use super::args::{Ingest as Args, Reach, Tls};
use super::{Exit, logging, print, world};
use crate::config::fingerprint::Fingerprint;
use crate::config::{Log, LogFormat};
use crate::ingest::tls::Identity;
use crate::ingest::{Ingest, Options, addresses};
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
    let options =
        Options { faults: args.faults, token, tls: identity, ..options(args.listen, &args.allow_hosts, &args.reach) };
    let public = options.public_addresses.clone();
    world::enter(async move {
        let mut server = match open(options).await {
            Ok(server) => server,
            Err(exit) => return exit,
        };
        // Nobody has to read it.
        let _ = print::out(&manner.greeting(server.address(), &public));
        tokio::select! {
            () = told_to_stop() => {}
            () = server.dead() => return Exit::INTERNAL,
        }
        server.stop().await;
        Exit::SUCCESS
    })
}

/// Where it listens, and by which names and addresses it is reached.
pub(super) fn options(listen: SocketAddr, names: &[String], reach: &Reach) -> Options {
    let public = &reach.public_addresses;
    let hosts = Hosts::with(names.iter().cloned().chain(public.iter().map(ToString::to_string)));
    Options { media_port: reach.media_port, public_addresses: public.clone(), hosts, ..Options::new(listen) }
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

    /// The page of `live`, by each address that it can be opened at.
    pub(super) fn pages(&self, address: SocketAddr, public: &[IpAddr]) -> Vec<String> {
        let doors = addresses::to_open(address, public, &addresses::of_this_machine());
        doors.iter().map(|door| format!("watch at     {}://{door}/live", self.scheme())).collect()
    }

    fn greeting(&self, address: SocketAddr, public: &[IpAddr]) -> String {
        let (http, ws) = (self.scheme(), if self.identity.is_some() { "wss" } else { "ws" });
        let doors = addresses::to_open(address, public, &addresses::of_this_machine());
        let each = |write: &dyn Fn(&SocketAddr) -> String| doors.iter().map(write).collect::<Vec<_>>();
        let mut lines = each(&|door| format!("publish to   {http}://{door}/whip/live"));
        lines.extend(each(&|door| format!("or by        {ws}://{door}/signal/live (roamcast signalling)")));
        lines.extend(self.pages(address, public));
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
