//! The embedded ingest for encoders that are not on its machine: the real program behind https, as operators are told to.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::place::Place;
use crate::program::{Program, roamcast};
use crate::viewer::Door;

/// What it wants from publishers.
pub(crate) const TOKEN: &str = "s3cret-t0ken";

/// A running ingest; ends when dropped.
pub(crate) struct RemoteIngest {
    pub(crate) program: Program,
    place: Place,
    /// Where the program listens.
    behind: SocketAddr,
    /// Where encoders come to.
    https: SocketAddr,
    files: TempDir,
    /// Told anew: whoever is connected is hung up on.
    hang_up: watch::Sender<()>,
    _front: tokio::runtime::Runtime,
}

impl RemoteIngest {
    /// At the first address of this place.
    pub(crate) fn start(place: &Place) -> Self {
        Self::start_at(place, place.address())
    }

    /// At this address of the place.
    pub(crate) fn start_at(place: &Place, address: IpAddr) -> Self {
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("token"), TOKEN).unwrap();
        let behind = SocketAddr::new(address, place.free_port());
        let tls = certificate(address, &files.path().join("ca.pem"));
        let listener = place.run(|| std::net::TcpListener::bind((address, 0)).unwrap());
        listener.set_nonblocking(true).unwrap();
        let https = listener.local_addr().unwrap();
        let front = place.runtime();
        let (hang_up, hung_up) = watch::channel(());
        front.spawn(serve(listener, tls, behind, hung_up));
        let program = launch(place, behind, files.path());
        let place = Place::clone(place);
        Self { program, place, behind, https, files, hang_up, _front: front }
    }

    /// Where the program itself listens, without TLS: for proxies of a test.
    pub(crate) const fn behind(&self) -> SocketAddr {
        self.behind
    }

    /// Ends it the hard way and starts it again at the same ports; it has forgotten every session.
    pub(crate) fn restart(&mut self) {
        self.program.kill();
        self.program = launch(&self.place, self.behind, self.files.path());
    }

    /// Ends every connection of encoders to it; they may come again.
    pub(crate) fn hang_up(&self) {
        self.hang_up.send_replace(());
    }

    /// Lines of an encoder's section `uplink` that publish here as `live`.
    pub(crate) fn uplink(&self) -> String {
        self.uplink_to(&format!("url = \"https://{}/whip/live\"", self.https))
    }

    /// The same over roamcast signalling.
    pub(crate) fn uplink_by_signalling(&self) -> String {
        self.uplink_to(&format!("protocol = \"roamcast\"\nurl = \"wss://{}/signal/live\"", self.https))
    }

    fn uplink_to(&self, server: &str) -> String {
        let [token, ca] = ["token", "ca.pem"].map(|name| self.file(name).display().to_string());
        format!("{server}\ntokenFile = \"{token}\"\ncaFile = \"{ca}\"\n")
    }

    /// Where viewers of this place come to.
    pub(crate) fn door(&self) -> Door {
        Door { address: self.behind, token: TOKEN }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }
}

fn launch(place: &Place, listen: SocketAddr, files: &Path) -> Program {
    let mut command = roamcast();
    command.args(["ingest", "--faults", "--listen", &listen.to_string(), "--token-file"]).arg(files.join("token"));
    let mut program = Program::start(place.wrap(&command), tempfile::tempdir().unwrap());
    program.wait_for_line("watch at");
    program
}

/// A certificate for this address, which is its own authority; written to this file for those who shall trust it.
fn certificate(address: IpAddr, file: &Path) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![address.to_string()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(file, certificate.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: std::net::TcpListener, tls: TlsAcceptor, behind: SocketAddr, hung_up: watch::Receiver<()>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        // An error: the client is gone before we have looked.
        let Ok((client, _)) = listener.accept().await else { continue };
        let (tls, mut hung_up) = (tls.clone(), hung_up.clone());
        hung_up.mark_unchanged();
        tokio::spawn(async move {
            // As reverse proxies do it; else an answer in two writes waits for a round trip (Nagle).
            client.set_nodelay(true).unwrap();
            // Errors: a client that does not trust us, a server that is down; either hangs up.
            let Ok(mut client) = tls.accept(client).await else { return };
            let Ok(mut server) = TcpStream::connect(behind).await else { return };
            tokio::select! {
                _over = copy_bidirectional(&mut client, &mut server) => {}
                _order = hung_up.changed() => {}
            }
        });
    }
}
