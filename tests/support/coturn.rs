//! A real coturn of our own, with long-term credentials.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::place::Place;
use crate::program::{PATIENCE, Program};

pub(crate) const USER: &str = "van";
pub(crate) const PASSWORD: &str = "t0wer";
const REALM: &str = "lab.test";

/// A running coturn; ends when dropped.
pub(crate) struct Coturn {
    program: Program,
    place: Place,
    port: u16,
}

impl Coturn {
    /// Relays UDP for clients that come by UDP or TCP to all addresses of this place.
    pub(crate) fn start(place: &Place) -> Self {
        let port = place.free_port();
        let mut coturn = Self { program: launch(place, port), place: place.clone(), port };
        coturn.wait_until_ready();
        coturn
    }

    /// Ends it the hard way.
    pub(crate) fn kill(&mut self) {
        self.program.kill();
    }

    /// Starts it again at the same port; it has forgotten every allocation.
    pub(crate) fn restart(&mut self) {
        self.program.kill();
        self.program = launch(&self.place, self.port);
        self.wait_until_ready();
    }

    /// Where clients come to, by IPv4.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.place.address(), self.port)
    }

    /// `turn:` URL for this transport (`udp`, `tcp`).
    pub(crate) fn url(&self, transport: &str) -> String {
        format!("turn:{}?transport={transport}", self.address())
    }

    /// What it has said so far of allocations, refusals and the like.
    pub(crate) fn log(&mut self) -> String {
        self.program.catch_up();
        self.program.text.join("\n")
    }

    fn wait_until_ready(&mut self) {
        // It says that it listens before it does.
        let (address, deadline) = (self.address(), Instant::now() + PATIENCE);
        let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1));
        while self.place.run(connect).is_err() {
            assert!(Instant::now() < deadline, "coturn does not listen: {}\n{}", self.log(), self.program.log());
        }
    }
}

fn launch(place: &Place, port: u16) -> Program {
    let files = tempfile::tempdir().unwrap();
    let mut command = place.command("turnserver");
    for address in place.addresses() {
        command.arg(format!("--listening-ip={address}")).arg(format!("--relay-ip={address}"));
    }
    let file = |name: &str| files.path().join(name).display().to_string();
    command.args([
        // No configuration of this machine.
        "-n".to_owned(),
        format!("--listening-port={port}"),
        "--min-port=40000".into(),
        "--max-port=40999".into(),
        "--lt-cred-mech".into(),
        format!("--user={USER}:{PASSWORD}"),
        format!("--realm={REALM}"),
        "--fingerprint".into(),
        "--no-tls".into(),
        "--no-dtls".into(),
        "--no-cli".into(),
        "--verbose".into(),
        "--log-file=stdout".into(),
        "--simple-log".into(),
        format!("--pidfile={}", file("pid")),
        format!("--userdb={}", file("users")),
    ]);
    Program::start(command, files)
}
