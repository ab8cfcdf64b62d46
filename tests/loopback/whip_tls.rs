//! TLS: only certificates that we trust, and https never becomes http.

use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair, date_time_ymd};
use roamcast::config::TokenSource;
use roamcast::config::origin::TrustedOrigin;
use roamcast::signal::token::Tokens;
use roamcast::status::ErrorCode;
use roamcast::supervisor::event::{Failure, Retry};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;
use url::Url;

use crate::http::{Canned, Request, Server, created, reply, signaller, uplink};

/// A private CA, as a broadcaster's own server has one.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: NamedTempFile,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// A server whose certificate, made for `name`, is valid in these years.
    async fn server(
        &self,
        name: &str,
        years: std::ops::Range<i32>,
        answer: impl Fn(&Request) -> Canned + Send + Sync + 'static,
    ) -> (Server, Url) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let server = Server::start_with(Some(TlsAcceptor::from(Arc::new(config))), answer).await;
        let url = format!("https://localhost:{}/whip", server.port).parse().unwrap();
        (server, url)
    }
}

async fn publish(url: Url, ca: Option<&Authority>) -> Result<(), Failure> {
    let mut config = uplink(url);
    config.ca_file = ca.map(|ca| ca.file.path().to_owned());
    signaller(&config)?.publish("v=0\r\n").await.map(drop)
}

#[tokio::test]
async fn a_private_ca_is_trusted_only_when_named() {
    let ca = Authority::new();
    let (server, url) = ca.server("localhost", 2020..2120, |_| created(&["Location: /s"])).await;
    let failure = publish(url.clone(), None).await.unwrap_err();
    assert_eq!((failure.code, failure.retry), (ErrorCode::TlsUntrusted, Retry::Backoff));
    assert!(failure.words.contains("uplink.caFile"), "{failure}");
    assert!(server.requests().is_empty());
    publish(url, Some(&ca)).await.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_certificate_for_another_name_or_time_says_so() {
    let ca = Authority::new();
    let cases = [
        ("other.example", 2020..2120, "another host name"),
        ("localhost", 2001..2002, "has expired"),
        ("localhost", 2110..2120, "is not valid yet"),
    ];
    for (name, years, words) in cases {
        let (server, url) = ca.server(name, years, |_| created(&[])).await;
        let failure = publish(url, Some(&ca)).await.unwrap_err();
        assert_eq!((failure.code, failure.retry), (ErrorCode::TlsUntrusted, Retry::Backoff));
        assert!(failure.words.contains(words), "{failure}");
        assert!(server.requests().is_empty());
    }
}

#[tokio::test]
async fn https_is_never_left_for_http_not_even_to_a_trusted_origin() {
    let plain = Server::start(|_| created(&[])).await;
    let ca = Authority::new();
    for status in ["307 Temporary Redirect", "308 Permanent Redirect"] {
        let target = plain.url("/whip");
        let answer = move |_: &Request| reply(status, &[&format!("Location: {target}")], "v=0\r\n");
        let (_server, url) = ca.server("localhost", 2020..2120, answer).await;
        let mut config = uplink(url);
        config.ca_file = Some(ca.file.path().to_owned());
        config.trusted_origins = vec![TrustedOrigin::new(&plain.url("/")).unwrap()];
        let failure = signaller(&config).unwrap().publish("v=0\r\n").await.unwrap_err();
        assert_eq!(
            (failure.code, failure.retry),
            (ErrorCode::UntrustedRedirect, Retry::IfProven { after: None }),
            "{status}: {failure}"
        );
        assert!(failure.words.contains("https to http"), "{status}: {failure}");
    }
    assert!(plain.requests().is_empty());
}

#[tokio::test]
async fn a_ca_file_that_holds_no_certificate_is_told_at_once() {
    let url: Url = "https://localhost:1/whip".parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let key = KeyPair::generate().unwrap().serialize_pem();
    let cases = [
        (dir.path().join("missing.pem"), "cannot be read"),
        (write("empty.pem", ""), "holds no certificate"),
        (write("key.pem", &key), "holds no certificate"),
        (write("broken.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"), "is not a PEM file"),
        (write("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "cannot be used"),
    ];
    for (path, words) in cases {
        let mut config = uplink(url.clone());
        config.ca_file = Some(path);
        let failure = signaller(&config).unwrap_err();
        assert_eq!((failure.code, failure.retry), (ErrorCode::TlsUntrusted, Retry::Never), "{failure}");
        assert!(failure.words.contains(words), "{failure}");
    }
}

#[tokio::test]
async fn a_server_of_tokens_with_a_private_ca_is_trusted_only_when_it_is_named() {
    let ca = Authority::new();
    let (_server, url) = ca.server("localhost", 2020..2090, |_| reply("200 OK", &[], "given")).await;
    let mut config = uplink("http://127.0.0.1:9/whip".parse().unwrap());
    config.token = Some(TokenSource::Url(url));
    let failure = Tokens::new(&config, |_| {}).fresh().await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::TokenProviderFailed);
    assert!(failure.words.contains("signed by nobody we trust"), "{failure}");
    config.ca_file = Some(ca.file.path().to_owned());
    assert_eq!(Tokens::new(&config, |_| {}).fresh().await.unwrap().unwrap().expose(), "given");
}
