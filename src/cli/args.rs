//! What the command line may say. Help, man page and completions are made from these types.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::units::parse_duration;
use crate::server::host::host_name;

const EXIT_CODES: &str = "\
Exit codes:
  0   stopped on request, or all is well
  64  the command line is wrong
  69  reconnecting was given up; or no encoder answers
  70  roamcast itself is broken
  77  the server refuses for good (token, channel, account)
  78  the config is wrong, or the running encoder refuses a value

Environment:
  ROAMCAST_CONFIG           path of the config
  ROAMCAST_SOCKET           control socket of the running encoder
  ROAMCAST_LOG              log filter, such as debug; wins over [log] level
  ROAMCAST_TRACE_FILE       a file that gets the whole log at level trace besides, for bug reports
  ROAMCAST__SECTION__KEY    overrides a key: ROAMCAST__RECONNECT__MAX_RETRIES=3";

/// A live-broadcast ingest encoder: GStreamer in, WebRTC out, on air while networks change
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(name = "roamcast", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// Capture, encode and broadcast until stopped
    #[command(after_help = "Examples:\n  roamcast run -c street.toml\n  roamcast run --events json | jq .data.message")]
    Run(Run),
    #[cfg(feature = "ingest")]
    /// Encoder, ingest server and viewer page in one process: something to look at
    #[command(
        after_help = "Examples:\n  roamcast demo\n  roamcast demo --media street.mkv\n  roamcast demo --for 30s --events json"
    )]
    Demo(Demo),
    #[cfg(feature = "ingest")]
    /// The embedded ingest server alone: WHIP in, WHEP and a viewer page out
    #[command(
        after_help = "Examples:\n  roamcast ingest\n  roamcast ingest --listen 0.0.0.0:8443 --token-file /etc/roamcast/token --tls-self-signed"
    )]
    Ingest(Ingest),
    /// Tell everything that is wrong with a config, and exit 0 or 78
    #[command(
        after_help = "Examples:\n  roamcast check -c street.toml\n  roamcast check --offline -c for-another-box.toml"
    )]
    Check(Check),
    /// Show what the running encoder does
    #[command(after_help = "Examples:\n  roamcast status\n  roamcast status --json | jq .broadcast.message")]
    Status(Socket),
    /// Show what happens to the running encoder, as it happens
    #[command(after_help = "Example:\n  roamcast events --json | jq .event")]
    Events(Socket),
    /// Try again now, or replace the live session by a new one
    Reconnect(Socket),
    /// Go on air (again)
    Start(Socket),
    /// Leave the air; the encoder goes on running and waits for `roamcast start`
    Stop(Socket),
    /// Give a key of the running encoder another value, until the next reload or restart
    #[command(
        after_help = "Only [reconnect], [signalling], [mediaPlane], fallback.retryDelay and log.level can change while media flows.\n\nExamples:\n  roamcast set reconnect.maxRetries=20\n  roamcast set log.level=debug"
    )]
    Set(Set),
    /// Let the running encoder read its config again; a bad one changes nothing
    Reload(Socket),
    /// List cameras, microphones and encoders
    Devices(Devices),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  roamcast completions bash > /usr/share/bash-completion/completions/roamcast")]
    Completions(Completions),
    /// Print the man page
    #[command(after_help = "Example:\n  roamcast man | man -l -")]
    Man,
}

/// `-c FILE`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ConfigFile {
    /// The config; without it $ROAMCAST_CONFIG, else /etc/roamcast/config.toml
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `--events json`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Events {
    /// Print every event as one line on stdout
    #[arg(long, value_name = "FORM")]
    pub events: Option<EventsForm>,
}

/// Form of the events on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EventsForm {
    /// One JSON object a line
    Json,
}

/// `roamcast run`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Run {
    /// Which config.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Events on stdout.
    #[command(flatten)]
    pub events: Events,
}

/// `roamcast demo`
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Demo {
    /// Where the ingest server and the viewer page listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Play this file instead of the test picture
    #[arg(long, value_name = "FILE")]
    pub media: Option<PathBuf>,
    /// A name, such as studio.local, by which browsers reach this (addresses and localhost need none); may be given more
    /// than once
    #[arg(long = "allow-host", value_name = "NAME", value_parser = host_name)]
    pub allow_hosts: Vec<String>,
    /// Stop by itself after this time, such as 30s or 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = time)]
    pub stop_after: Option<Duration>,
    /// Where media is reached
    #[command(flatten)]
    pub reach: Reach,
    /// HTTPS
    #[command(flatten)]
    pub tls: Tls,
    /// A config to start from; without it the defaults
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Events on stdout.
    #[command(flatten)]
    pub events: Events,
}

/// `roamcast ingest`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Ingest {
    /// Where to listen; other than loopback only with a token
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// A file with the bearer token that publishers and viewers must send
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A name, such as studio.local, by which clients reach this without a token (addresses and localhost need none); may be
    /// given more than once
    #[arg(long = "allow-host", value_name = "NAME", value_parser = host_name)]
    pub allow_hosts: Vec<String>,
    /// Where media is reached
    #[command(flatten)]
    pub reach: Reach,
    /// HTTPS
    #[command(flatten)]
    pub tls: Tls,
    /// Answer POST /faults/NAME (docs/signalling.md): for tests only
    #[arg(long)]
    pub faults: bool,
}

/// `--media-port`, `--public-address`
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct Reach {
    /// The UDP port of all media; 0 takes any
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub media_port: u16,
    /// An IP address that others know this machine by, such as that of a NAT which passes --media-port on; the machine's own
    /// need not be given. May be given more than once
    #[arg(long = "public-address", value_name = "ADDRESS", value_parser = public_address)]
    pub public_addresses: Vec<IpAddr>,
}

fn public_address(text: &str) -> Result<IpAddr, String> {
    let ip = text.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
    ip.ok_or_else(|| "it must be the IP address of one machine, such as 203.0.113.9".to_owned())
}

/// `--tls-cert`, `--tls-key`, `--tls-self-signed`
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct Tls {
    /// Serve HTTPS (and wss) with this certificate: PEM, with its chain
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert: PEM, without a pass phrase
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Serve HTTPS with a certificate of our own making, and print its fingerprint for the encoder's uplink.fingerprint
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    pub tls_self_signed: bool,
}

/// `roamcast check`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Check {
    /// Which config.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Judge the text alone: look at no file, plugin or device that it names
    #[arg(long)]
    pub offline: bool,
}

/// Which encoder, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Socket {
    /// The encoder's control socket; without it that of roamcast.service. roamcast@x has /run/roamcast-x/control.sock
    #[arg(long, value_name = "PATH", env = "ROAMCAST_SOCKET")]
    pub socket: Option<PathBuf>,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// `roamcast set`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Set {
    /// Which key, and its new value
    #[arg(value_name = "KEY=VALUE", value_parser = pair)]
    pub pair: (String, String),
    /// Which encoder.
    #[command(flatten)]
    pub socket: Socket,
}

/// `roamcast devices`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Devices {
    /// As one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `roamcast completions`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Completions {
    /// Which shell
    pub shell: Shell,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.trim().is_empty());
    pair.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .ok_or_else(|| "it must be KEY=VALUE, such as reconnect.maxRetries=20".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|words| format!("it {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn command(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command)
    }

    #[test]
    fn clap_finds_nothing_wrong_with_the_types() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_contract_is_understood() {
        let Ok(Command::Demo(demo)) = command("roamcast demo --media a.mkv --for 1.5m --events json") else { panic!() };
        assert_eq!(demo.listen, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((demo.stop_after, demo.events.events), (Some(Duration::from_secs(90)), Some(EventsForm::Json)));
        let Ok(Command::Run(run)) = command("roamcast run -c a.toml") else { panic!() };
        assert_eq!(run.config.config, Some("a.toml".into()));
        for line in [
            "ingest --listen [::1]:1 --token-file t --faults",
            "ingest --allow-host studio.local --allow-host box",
            "demo --allow-host studio.local",
            "ingest --tls-cert c --tls-key k",
            "demo --tls-self-signed",
            "check --offline -c f",
            "devices --json",
            "status --json",
            "events --socket /run/roamcast-x/control.sock",
            "reconnect",
            "start",
            "stop --json",
            "reload",
            "completions zsh",
            "man",
        ] {
            assert!(command(&format!("roamcast {line}")).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_key_ends_at_the_first_equals_sign() {
        let Ok(Command::Set(set)) = command("roamcast set log.level=roamcast=debug") else { panic!() };
        assert_eq!(set.pair, ("log.level".to_owned(), "roamcast=debug".to_owned()));
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "",
            "fly",
            "set",
            "set a",
            "set =3",
            "status now",
            "demo --for soon",
            "demo --listen here",
            "run --events xml",
            "ingest --fault x",
            "ingest --allow-host http://studio.local",
            "ingest --tls-cert c",
            "demo --tls-key k",
            "ingest --tls-cert c --tls-key k --tls-self-signed",
            "run a.toml",
        ] {
            assert!(command(&format!("roamcast {line}")).is_err(), "{line}");
        }
    }
}
