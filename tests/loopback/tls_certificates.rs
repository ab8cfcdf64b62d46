//! Which certificates are trusted, whoever is spoken to (WHIP, WebSocket, server of tokens), and what is said of the others.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use openssl::ssl::{SslAcceptor, SslMethod, SslVersion};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use roamcast::config::fingerprint::Fingerprint;
use roamcast::config::{Protocol, TokenSource, Uplink};
use roamcast::signal::token::Tokens;
use roamcast::status::ErrorCode;
use roamcast::supervisor::event::{Failure, Retry};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use url::Url;

use crate::http::{Canned, Request, Server, created, reply, signaller, uplink};

/// One certificate of the table.
#[derive(Clone, Copy)]
struct Kind {
    is_ca: bool,
    /// Subject alternative name; `None`: a common name and nothing else.
    san: Option<&'static str>,
    common_name: &'static str,
    years: (i32, i32),
    /// Signed by a root of its own, which stands in the file besides or instead.
    by_root: bool,
}

/// What `openssl req -x509 -subj /CN=localhost -addext subjectAltName=DNS:localhost` makes.
const OPENSSL: Kind =
    Kind { is_ca: true, san: Some("localhost"), common_name: "localhost", years: (2020, 2120), by_root: false };

/// A server with such a certificate.
struct Shown {
    server: Server,
    files: TempDir,
    fingerprint: Fingerprint,
}

impl Shown {
    async fn start(kind: Kind, answer: impl Fn(&Request) -> Canned + Send + Sync + 'static) -> Self {
        let params = |is_ca: bool, name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = if is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let (root_key, root_params) = (KeyPair::generate().unwrap(), params(true, "own root"));
        let mut own = params(kind.is_ca, kind.common_name);
        own.subject_alt_names = CertificateParams::new(kind.san.map(str::to_owned).into_iter().collect::<Vec<_>>())
            .unwrap()
            .subject_alt_names;
        (own.not_before, own.not_after) = (date_time_ymd(kind.years.0, 1, 1), date_time_ymd(kind.years.1, 1, 1));
        let key = KeyPair::generate().unwrap();
        let root = root_params.self_signed(&root_key).unwrap();
        let certificate = match kind.by_root {
            true => own.signed_by(&key, &Issuer::new(root_params, root_key)).unwrap(),
            false => own.self_signed(&key).unwrap(),
        };
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("own.pem"), certificate.pem()).unwrap();
        std::fs::write(files.path().join("root.pem"), root.pem()).unwrap();
        let fingerprint = Fingerprint::new(Sha256::digest(certificate.der()).into());
        let acceptor = acceptor(certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()));
        Self { server: Server::start_with(Some(acceptor), answer).await, files, fingerprint }
    }

    fn url(&self, scheme: &str) -> Url {
        format!("{scheme}://localhost:{}/whip", self.server.port).parse().unwrap()
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.files.path().join(name))
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn publish(uplink: &Uplink) -> Result<(), Failure> {
    signaller(uplink)?.publish("v=0\r\n").await.map(drop)
}

#[tokio::test]
async fn a_certificate_in_the_ca_file_is_trusted_for_its_name_and_time() {
    for (what, kind, file, expected) in [
        ("of openssl req", OPENSSL, "own.pem", Ok(())),
        ("self-signed, for servers", Kind { is_ca: false, ..OPENSSL }, "own.pem", Ok(())),
        ("with a common name only", Kind { san: None, ..OPENSSL }, "own.pem", Ok(())),
        ("signed by a root that is named", Kind { is_ca: false, by_root: true, ..OPENSSL }, "root.pem", Ok(())),
        ("signed by a root that is not", Kind { is_ca: false, by_root: true, ..OPENSSL }, "own.pem", Ok(())),
        ("an authority below the root", Kind { by_root: true, ..OPENSSL }, "root.pem", Err("CA:TRUE")),
        ("not the one in the file", OPENSSL, "root.pem", Err("CA:TRUE")),
        ("by nobody in the file", Kind { is_ca: false, ..OPENSSL }, "root.pem", Err("signed by nobody we trust")),
        ("over", Kind { years: (2001, 2002), ..OPENSSL }, "own.pem", Err("has expired")),
        (
            "over, by the root",
            Kind { is_ca: false, by_root: true, years: (2001, 2002), ..OPENSSL },
            "root.pem",
            Err("has expired"),
        ),
        ("not begun", Kind { years: (2110, 2120), ..OPENSSL }, "own.pem", Err("is not valid yet")),
        ("of another name", Kind { san: Some("other.example"), ..OPENSSL }, "own.pem", Err("another host name")),
        (
            "of another common name",
            Kind { san: None, common_name: "other", ..OPENSSL },
            "own.pem",
            Err("another host name"),
        ),
    ] {
        let shown = Shown::start(kind, |_| created(&["Location: /s"])).await;
        let mut config = uplink(shown.url("https"));
        config.ca_file = shown.file(file);
        let published = publish(&config).await;
        match (expected, &published) {
            (Ok(()), Ok(())) => {}
            (Err(words), Err(failure)) => {
                assert_eq!(
                    (failure.code, failure.retry),
                    (ErrorCode::TlsUntrusted, Retry::Backoff),
                    "{what}: {failure}"
                );
                assert!(failure.words.contains(words), "{what}: {failure}");
            }
            _ => panic!("{what}: {published:?}"),
        }
        assert_eq!(shown.server.requests().len(), usize::from(expected.is_ok()), "{what}");
    }
}

#[tokio::test]
async fn a_fingerprint_stands_for_the_certificate_and_for_no_other() {
    let odd = Kind { years: (2001, 2002), san: Some("other.example"), ..OPENSSL };
    for kind in [OPENSSL, odd, Kind { is_ca: false, by_root: true, ..OPENSSL }] {
        let shown = Shown::start(kind, |_| created(&["Location: /s"])).await;
        let other = Fingerprint::new([7; 32]);
        for (fingerprints, file, expected) in [
            (vec![shown.fingerprint], None, true),
            (vec![other, shown.fingerprint], None, true),
            // What the authorities say counts no more.
            (vec![other], shown.file("own.pem"), false),
        ] {
            let mut config = uplink(shown.url("https"));
            (config.fingerprints, config.ca_file) = (fingerprints, file);
            let published = publish(&config).await;
            assert_eq!(published.is_ok(), expected, "{published:?}");
            if let Err(failure) = published {
                assert_eq!(failure.code, ErrorCode::TlsUntrusted);
                let fingerprint = shown.fingerprint.to_string();
                assert!(
                    failure.words.contains(&fingerprint) && failure.words.contains("uplink.fingerprint"),
                    "{failure}"
                );
            }
        }
        assert_eq!(shown.server.requests().len(), 2);
    }
}

#[tokio::test]
async fn websockets_and_servers_of_tokens_are_trusted_alike() {
    let shown = Shown::start(OPENSSL, |_| reply("200 OK", &[], "given")).await;
    type Trust = fn(&mut Uplink, &Shown);
    let by_nothing: Trust = |_, _| {};
    let by_file: Trust = |uplink, shown| uplink.ca_file = shown.file("own.pem");
    let by_fingerprint: Trust = |uplink, shown| uplink.fingerprints = vec![shown.fingerprint];
    for (trust, is_trusted) in [(by_nothing, false), (by_file, true), (by_fingerprint, true)] {
        let mut config = uplink(shown.url("wss"));
        config.protocol = Protocol::Roamcast;
        trust(&mut config, &shown);
        // It is no WebSocket, which is found out behind the handshake only.
        let failure = publish(&config).await.unwrap_err();
        assert_eq!(failure.code != ErrorCode::TlsUntrusted, is_trusted, "{failure}");

        let mut config = uplink("http://127.0.0.1:9/whip".parse().unwrap());
        config.token = Some(TokenSource::Url(shown.url("https")));
        trust(&mut config, &shown);
        let token = Tokens::new(&config, |_| {}).fresh().await;
        assert_eq!(token.is_ok(), is_trusted, "{token:?}");
    }
    assert_eq!(shown.server.requests().len(), 4);
}

/// Reads once, does this, and hangs up, again and again.
fn stranger(act: impl Fn(std::net::TcpStream) + Send + 'static) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/whip", listener.local_addr().unwrap().port()).parse().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(act));
    url
}

/// OpenSSL that speaks TLS 1.0 and nothing newer.
fn old_openssl() -> SslAcceptor {
    let mut builder = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).unwrap();
    builder.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    builder.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
    builder.set_max_proto_version(Some(SslVersion::TLS1)).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = openssl::pkey::PKey::private_key_from_pem(key.serialize_pem().as_bytes()).unwrap();
    builder.set_private_key(&key).unwrap();
    builder.set_certificate(&openssl::x509::X509::from_pem(certificate.pem().as_bytes()).unwrap()).unwrap();
    builder.build()
}

#[tokio::test]
async fn each_way_in_which_a_handshake_fails_has_words_of_its_own() {
    let say = |text: &'static [u8]| {
        stranger(move |mut tcp| {
            let _any = tcp.read(&mut [0; 4096]);
            let _gone = tcp.write_all(text);
        })
    };
    let old = old_openssl();
    for (what, url, words) in [
        ("plain HTTP", say(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), "speaks no TLS"),
        ("SSH", say(b"SSH-2.0-OpenSSH_9.2\r\n"), "speaks no TLS"),
        ("hangs up", say(b""), "hung up in the middle of the TLS handshake"),
        ("TLS 1.0", stranger(move |tcp| drop(old.accept(tcp))), "old versions of TLS only"),
        // Alerts: protocol_version, handshake_failure, unrecognized_name, internal_error.
        ("wants another version", say(b"\x15\x03\x01\x00\x02\x02\x46"), "old versions of TLS only"),
        ("wants other ciphers", say(b"\x15\x03\x03\x00\x02\x02\x28"), "has no cipher or key in common with us"),
        ("knows another name", say(b"\x15\x03\x03\x00\x02\x02\x70"), "has no certificate for that host name"),
        ("is unwell", say(b"\x15\x03\x03\x00\x02\x02\x50"), "the TLS handshake with"),
    ] {
        let failure = publish(&uplink(url.clone())).await.unwrap_err();
        assert_eq!((failure.code, failure.retry), (ErrorCode::TlsUntrusted, Retry::Backoff), "{what}: {failure}");
        assert!(failure.words.contains(words), "{what}: {failure}");
        let mut config = uplink(url.as_str().replacen("https", "wss", 1).parse().unwrap());
        config.protocol = Protocol::Roamcast;
        let failure = publish(&config).await.unwrap_err();
        assert!(failure.words.contains(words), "{what} over wss: {failure}");
    }
}

#[tokio::test]
async fn an_unencrypted_request_to_a_port_of_tls_says_so() {
    let shown = Shown::start(OPENSSL, |_| created(&[])).await;
    let failure = publish(&uplink(shown.url("http"))).await.unwrap_err();
    assert!(failure.words.contains("if the server speaks TLS there, write https"), "{failure}");
}
