//! A real TURN server (coturn) of our own on this machine.

use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use rcgen::{CertificateParams, KeyPair};

use crate::program::{PATIENCE, Program, free_port};
use crate::secrets_kept::TURN_PASSWORD;

/// A user that every [`Coturn`] knows, with [`TURN_PASSWORD`].
pub(crate) const TURN_USER: &str = "van";

/// A running TURN server; ends when dropped. UDP and TCP on one port, TLS on another.
pub(crate) struct Coturn {
    program: Program,
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
    files: tempfile::TempDir,
}

impl Coturn {
    /// Long-term credentials, a nonce that grows stale.
    pub(crate) fn start() -> Self {
        Self::start_with(&format!("lt-cred-mech\nuser={TURN_USER}:{TURN_PASSWORD}\nstale-nonce=60\n"))
    }

    /// With these lines in its config.
    pub(crate) fn start_with(more: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (port, tls_port) = (free_port(), free_port());
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let path = |name: &str| files.path().join(name).display().to_string();
        std::fs::write(path("certificate.pem"), certificate.pem()).unwrap();
        std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        let config = format!(
            "listening-ip=127.0.0.1\nrelay-ip=127.0.0.1\nlistening-port={port}\ntls-listening-port={tls_port}\n\
             realm=roamcast.test\nallow-loopback-peers\nno-cli\nno-dtls\nverbose\nlog-file=stdout\nuserdb={}\npidfile={}\n\
             cert={}\npkey={}\n{more}",
            path("turn.db"),
            path("turn.pid"),
            path("certificate.pem"),
            path("key.pem"),
        );
        std::fs::write(path("turn.conf"), config).unwrap();
        let coturn = Self { program: launch(&files), port, tls_port, files };
        coturn.wait_until_ready();
        coturn
    }

    /// Ends it the hard way and starts it again: it has forgotten every lease.
    pub(crate) fn restart(&mut self) {
        self.program.kill();
        self.program = launch(&self.files);
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        for port in [self.port, self.tls_port] {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(Instant::now() < deadline, "coturn does not listen: {}", self.program.log());
                std::thread::yield_now();
            }
        }
    }

    /// The certificate that it shows, signed by itself, in PEM.
    pub(crate) fn ca_file(&self) -> String {
        self.files.path().join("certificate.pem").display().to_string()
    }

    /// Ends it the hard way.
    pub(crate) fn kill(&mut self) {
        self.program.kill();
    }

    /// Sends it a signal by name (`STOP`, `CONT`).
    pub(crate) fn signal(&self, name: &str) {
        self.program.signal(name);
    }

    /// Waits until it says this.
    pub(crate) fn wait_for_line(&mut self, part: &str) {
        self.program.wait_for_line(part);
    }
}

fn launch(files: &tempfile::TempDir) -> Program {
    let mut command = Command::new("turnserver");
    command.arg("-c").arg(files.path().join("turn.conf"));
    Program::start(command, tempfile::tempdir().unwrap())
}
