//! The embedded ingest over TLS: our own encoder publishes by both protocols, and strangers at its door cost nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use roamcast::config::fingerprint::Fingerprint;
use roamcast::ingest::tls::Identity;
use roamcast::ingest::{Ingest, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::program::{Program, free_port, roamcast};

const TOKEN: &str = "s3cret-t0ken";
const SMALL: &str = "[video]\nwidth = 320\nheight = 180\nframerate = 15\nbitrate = \"300k\"\n";

/// The real ingest with these arguments; what it has printed is in its `text`.
fn ingest(listen: SocketAddr, folder: &Path, args: &[&str]) -> Program {
    std::fs::write(folder.join("token"), TOKEN).unwrap();
    let mut command = roamcast();
    command.args(["ingest", "--listen", &listen.to_string(), "--token-file"]).arg(folder.join("token")).args(args);
    command.env("STATE_DIRECTORY", folder);
    let mut program = Program::start(command, tempfile::tempdir().unwrap());
    program.wait_for_line("watch at");
    program
}

fn on_air(uplink: &str, folder: &Path) {
    let token = folder.join("token").display().to_string();
    let mut encoder = Program::encoder(&format!("{SMALL}[uplink]\n{uplink}\ntokenFile = \"{token}\"\n"));
    encoder.wait_for_message("broadcasting");
}

#[test]
fn the_line_that_a_self_signed_ingest_prints_lets_encoders_in_and_stays_the_same() {
    let (files, port) = (tempfile::tempdir().unwrap(), free_port());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut lines = Vec::new();
    for server in ["url = \"https://SERVER/whip/live\"", "protocol = \"roamcast\"\nurl = \"wss://SERVER/signal/live\""]
    {
        let mut ingest = ingest(address, files.path(), &["--tls-self-signed"]);
        ingest.wait_for_line("uplink.fingerprint");
        let line = ingest.text.iter().find_map(|line| Some(line.split_once("uplink.")?.1.to_owned())).unwrap();
        on_air(&format!("{}\n{line}", server.replace("SERVER", &address.to_string())), files.path());
        lines.push(line);
        ingest.signal("TERM");
        assert_eq!(ingest.wait_for_exit(), 0);
    }
    assert_eq!(lines[0], lines[1], "a restart must not lock the encoders out");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(files.path().join("ingest-tls.pem")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_certificate_of_the_operators_own_is_shown() {
    let (files, port) = (tempfile::tempdir().unwrap(), free_port());
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| files.path().join(name).display().to_string());
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let _ingest = ingest(address, files.path(), &["--tls-cert", &cert, "--tls-key", &key]);
    on_air(&format!("url = \"https://localhost:{port}/whip/live\"\ncaFile = \"{cert}\""), files.path());
}

#[test]
fn a_certificate_that_cannot_be_used_is_one_sentence() {
    let files = tempfile::tempdir().unwrap();
    let [cert, key, other, nothing] =
        ["cert.pem", "key.pem", "other.pem", "nothing"].map(|name| files.path().join(name));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::write(&other, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    Identity::from_files(&cert, &key).unwrap();
    for (cert, key, words) in [
        (&nothing, &key, "cannot be read: No such file"),
        (&key, &key, "holds no certificate"),
        (&cert, &cert, "holds no private key"),
        (&cert, &other, "cannot be used together"),
    ] {
        let said = Identity::from_files(cert, key).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
}

/// The address of this machine on its network, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

/// What goes to an address of one's own gets on no wire; what goes to another needs the operator's leave.
#[test]
fn a_token_goes_in_the_clear_to_this_machine_itself() {
    let Some(ip) = own_address() else {
        println!("skipped: a_token_goes_in_the_clear_to_this_machine_itself: this machine has no address but loopback");
        return;
    };
    let (files, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut ingest = ingest(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), files.path(), &[]);
    ingest.wait_for_line("uplink.allowClearText = true");
    on_air(&format!("url = \"http://{ip}:{port}/whip/live\""), files.path());
}

#[tokio::test]
async fn strangers_who_do_not_shake_hands_lock_nobody_out_for_long() {
    let identity = Identity::self_signed(None, Ipv4Addr::LOCALHOST.into()).unwrap();
    let options = Options { tls: Some(identity.clone()), ..Options::new("127.0.0.1:0".parse().unwrap()) };
    let ingest = Ingest::start(options).await.unwrap();
    let config = format!("[uplink]\nfingerprint = \"{}\"", Fingerprint::new(identity.fingerprint()));
    assert!(roamcast::config::load(&config, "", std::iter::empty()).is_ok());
    let connect = async || TcpStream::connect(ingest.address()).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(connect().await);
    }
    // Plain HTTP gets no answer that could be taken for one.
    let mut plain = connect().await;
    let _hung_up = plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut heard = Vec::new();
    let _reset = timeout(Duration::from_secs(20), plain.read_to_end(&mut heard)).await.expect("it is hung up");
    assert!(!heard.starts_with(b"HTTP"), "{heard:?}");
    // Each of the silent ones is hung up on; then there is room.
    for mut stream in silent {
        let _reset = timeout(Duration::from_secs(20), stream.read(&mut [0; 1])).await.expect("it is hung up");
    }
    let _installed_by_another = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
    let health = client.get(format!("https://{}/healthz", ingest.address())).send().await.unwrap();
    assert_eq!(health.status().as_u16(), 200);
    ingest.stop().await;
}
