//! A real TURN server (coturn) of our own, on this machine or in a namespace of the lab.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::needs;
use crate::place::Place;
use crate::program::{PATIENCE, Program};
use crate::secrets_kept::TURN_PASSWORD;

/// A user that every [`Coturn`] knows, with [`TURN_PASSWORD`].
pub(crate) const TURN_USER: &str = "van";

/// A running TURN server; ends when dropped. UDP and TCP on one port, TLS on another.
pub(crate) struct Coturn {
    program: Program,
    place: Place,
    port: u16,
    tls_port: u16,
    files: TempDir,
}

impl Coturn {
    /// Long-term credentials, a nonce that grows stale. It lends addresses of this place to those who come to them.
    /// `None`, with the reason printed, where there is no coturn.
    pub(crate) fn start(place: &Place) -> Option<Self> {
        Self::start_with(place, &format!("lt-cred-mech\nuser={TURN_USER}:{TURN_PASSWORD}\nstale-nonce=60\n"))
    }

    /// With these lines in its config.
    pub(crate) fn start_with(place: &Place, more: &str) -> Option<Self> {
        if !needs::is_there("turnserver", "coturn") {
            return None;
        }
        let files = tempfile::tempdir().unwrap();
        let (port, tls_port) = (place.free_port(), place.free_port());
        write_certificate(place, files.path());
        write_config(place, [port, tls_port], files.path(), more);
        let program = launch(place, files.path());
        let mut coturn = Self { program, place: place.clone(), port, tls_port, files };
        coturn.wait_until_ready();
        Some(coturn)
    }

    /// Ends it the hard way.
    pub(crate) fn kill(&mut self) {
        self.program.kill();
    }

    /// Starts it again at the same ports; it has forgotten every allocation.
    pub(crate) fn restart(&mut self) {
        self.program.kill();
        self.program = launch(&self.place, self.files.path());
        self.wait_until_ready();
    }

    /// Sends it a signal by name (`STOP`, `CONT`).
    pub(crate) fn signal(&self, name: &str) {
        self.program.signal(name);
    }

    /// Where clients come to by UDP and TCP, at the first address of its place.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.place.address(), self.port)
    }

    /// `turn:` URL for UDP.
    pub(crate) fn url(&self) -> String {
        format!("turn:{}", self.address())
    }

    /// The same at this address of its place.
    pub(crate) fn url_at(&self, ip: impl Into<IpAddr>) -> String {
        format!("turn:{}", SocketAddr::new(ip.into(), self.port))
    }

    /// `turn:` URL for TCP.
    pub(crate) fn tcp_url(&self) -> String {
        self.url() + "?transport=tcp"
    }

    /// `turns:` URL by this name, or address.
    pub(crate) fn tls_url(&self, host: &str) -> String {
        format!("turns:{host}:{}", self.tls_port)
    }

    /// The certificate that it shows, signed by itself, in PEM.
    pub(crate) fn ca_file(&self) -> String {
        self.files.path().join("certificate.pem").display().to_string()
    }

    /// SHA-256 of that certificate, in hex.
    pub(crate) fn fingerprint(&self) -> String {
        let pem = std::fs::read(self.ca_file()).unwrap();
        let der = CertificateDer::from_pem_slice(&pem).unwrap();
        Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Waits until it says this.
    pub(crate) fn wait_for_line(&mut self, part: &str) {
        self.program.wait_for_line(part);
    }

    /// What it has said so far of allocations, refusals and the like.
    pub(crate) fn log(&mut self) -> String {
        self.program.catch_up();
        self.program.text.join("\n")
    }

    /// It says that it listens before it does.
    fn wait_until_ready(&mut self) {
        let (ip, deadline) = (self.place.address(), Instant::now() + PATIENCE);
        for port in [self.port, self.tls_port] {
            let connect = || std::net::TcpStream::connect_timeout(&(ip, port).into(), Duration::from_secs(1));
            while self.place.run(connect).is_err() {
                assert!(Instant::now() < deadline, "coturn does not listen: {}\n{}", self.log(), self.program.log());
                std::thread::yield_now();
            }
        }
    }
}

/// For its addresses and `localhost`; it is its own authority.
fn write_certificate(place: &Place, files: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut names = vec!["localhost".to_owned()];
    names.extend(place.addresses().iter().map(ToString::to_string));
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    std::fs::write(files.join("certificate.pem"), certificate.pem()).unwrap();
    std::fs::write(files.join("key.pem"), key.serialize_pem()).unwrap();
}

fn write_config(place: &Place, [port, tls_port]: [u16; 2], files: &Path, more: &str) {
    let addresses = place.addresses().iter().map(|ip| format!("listening-ip={ip}\nrelay-ip={ip}\n"));
    let path = |name: &str| files.join(name).display().to_string();
    let config = format!(
        "{}listening-port={port}\ntls-listening-port={tls_port}\nrealm=roamcast.test\nallow-loopback-peers\n\
         no-cli\nno-dtls\nverbose\nlog-file=stdout\nsimple-log\nuserdb={}\npidfile={}\ncert={}\npkey={}\n{more}",
        addresses.collect::<String>(),
        path("turn.db"),
        path("turn.pid"),
        path("certificate.pem"),
        path("key.pem"),
    );
    std::fs::write(files.join("turn.conf"), config).unwrap();
}

fn launch(place: &Place, files: &Path) -> Program {
    let mut command = place.command("turnserver");
    command.arg("-c").arg(files.join("turn.conf"));
    Program::start(command, tempfile::tempdir().unwrap())
}
