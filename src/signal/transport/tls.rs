//! TLS to the servers of an uplink: which certificates are trusted (authorities, `uplink.caFile`, `uplink.fingerprint`), and
//! why a handshake has failed.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use openssl::asn1::Asn1Time;
use openssl::nid::Nid;
use openssl::x509::X509;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, PeerIncompatible,
    RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use url::Host;

use crate::config::Uplink;
use crate::config::fingerprint::Fingerprint;
use crate::signal::failure::{self, Tls};
use crate::supervisor::event::{Failure, Phase};

/// TLS for this uplink, without ALPN. `system_roots`: reading them takes milliseconds, so not where no TLS is possible.
///
/// # Errors
/// `uplink.caFile` cannot be used.
pub(crate) fn tls(uplink: &Uplink, system_roots: bool) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(uplink, system_roots, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder =
        builder.map_err(|error| failure::internal(Phase::Dial, format!("the TLS client cannot be set up: {error}")))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// Trusts what the authorities say, and besides what the operator has named.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// Those of this system and of `uplink.caFile`.
    roots: RootCertStore,
    /// Every certificate of `uplink.caFile`. A server that shows one of them is the one that the operator means, even where
    /// it is no certificate for servers by the book: `openssl req -x509` makes authorities (CA:TRUE).
    known: Vec<CertificateDer<'static>>,
    fingerprints: Vec<Fingerprint>,
    /// The hosts that must show one of the fingerprints, if there are some.
    pinned: Vec<Host<String>>,
}

/// The certificate has none of the fingerprints of `uplink.fingerprint`, but this one.
#[derive(Debug, thiserror::Error)]
#[error("the certificate has the fingerprint {0}")]
struct OtherFingerprint(Fingerprint);

/// The authorities of this system, once they have been read: some 150 files, 8 ms on a desktop, ten times that on a small
/// board, in the very moment in which a broadcast is to come back.
static SYSTEM_ROOTS: Mutex<Option<RootCertStore>> = Mutex::new(None);

fn system_roots() -> RootCertStore {
    let mut known = SYSTEM_ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
    let read = || {
        let mut roots = RootCertStore::empty();
        // Single broken certificates of the system are skipped; with none at all the handshake says so.
        let _counts = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    };
    known.get_or_insert_with(read).clone()
}

/// They are read anew for the next session: this system may have learnt of an authority since.
fn forget_system_roots() {
    *SYSTEM_ROOTS.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

impl Verifier {
    fn new(uplink: &Uplink, system_roots: bool, provider: Arc<CryptoProvider>) -> Result<Self, Failure> {
        let mut roots = if system_roots { self::system_roots() } else { RootCertStore::empty() };
        let known = match &uplink.ca_file {
            Some(path) => read_ca_file(path, &mut roots)?,
            None => Vec::new(),
        };
        let pinned = uplink.urls().filter_map(|url| url.host()).map(|host| host.to_owned()).collect();
        Ok(Self { provider, roots, known, fingerprints: uplink.fingerprints.clone(), pinned })
    }

    fn is_pinned(&self, server: &ServerName<'_>) -> bool {
        let name = server.to_str();
        !self.fingerprints.is_empty() && self.pinned.iter().any(|host| is_host(host, &name))
    }

    /// By the book.
    fn verify_chain(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let certificate = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        verify_server_name(&certificate, server)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let fingerprint = Fingerprint::new(Sha256::digest(end_entity).into());
        if self.fingerprints.contains(&fingerprint) {
            return Ok(ServerCertVerified::assertion());
        }
        if self.is_pinned(server_name) {
            let why = CertificateError::Other(OtherError(Arc::new(OtherFingerprint(fingerprint))));
            return Err(Error::InvalidCertificate(why));
        }
        if self.known.contains(end_entity) {
            verify_itself(end_entity, server_name, now)?;
        } else {
            let verified = self.verify_chain(end_entity, intermediates, server_name, now);
            if verified == Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) {
                forget_system_roots();
            }
            verified?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Of a certificate that is trusted as it is: its time and its name.
fn verify_itself(certificate: &CertificateDer<'_>, server: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
    let bad = |why: CertificateError| Error::InvalidCertificate(why);
    let x509 = X509::from_der(certificate).map_err(|_| bad(CertificateError::BadEncoding))?;
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| Asn1Time::from_unix(now).ok());
    let now = now.ok_or_else(|| bad(CertificateError::BadEncoding))?;
    if *x509.not_after() < now {
        return Err(bad(CertificateError::Expired));
    }
    if *x509.not_before() > now {
        return Err(bad(CertificateError::NotValidYet));
    }
    if x509.subject_alt_names().is_some() {
        return verify_server_name(&ParsedCertificate::try_from(certificate)?, server);
    }
    // `openssl req -x509` asks for a common name and for no other.
    let named = x509.subject_name().entries_by_nid(Nid::COMMONNAME).filter_map(|entry| entry.data().to_string().ok());
    let is_named = named.into_iter().any(|name| Host::parse(&name).is_ok_and(|host| is_host(&host, &server.to_str())));
    if is_named { Ok(()) } else { Err(bad(CertificateError::NotValidForName)) }
}

fn is_host(host: &Host<String>, name: &str) -> bool {
    match host {
        Host::Domain(host) => host.eq_ignore_ascii_case(name),
        Host::Ipv4(ip) => name.parse() == Ok(*ip),
        Host::Ipv6(ip) => name.parse() == Ok(*ip),
    }
}

/// Adds each certificate of the file to the roots, and gives them all.
fn read_ca_file(path: &Path, roots: &mut RootCertStore) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let bad = |why: String| failure::bad_ca_file(format!("`uplink.caFile`: `{}` {why}", path.display()));
    let pem = std::fs::read(path).map_err(|err| bad(format!("cannot be read: {}", err.kind())))?;
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certs = certs.map_err(|_| bad("is not a PEM file".to_owned()))?;
    if certs.is_empty() {
        return Err(bad("holds no certificate; a PEM file with `BEGIN CERTIFICATE` was expected".to_owned()));
    }
    for cert in &certs {
        roots.add(cert.clone()).map_err(|err| bad(format!("holds a certificate that cannot be used: {err}")))?;
    }
    Ok(certs)
}

/// Why TLS has failed; `None`: it was not TLS that failed.
pub(crate) fn trouble(error: &std::io::Error) -> Option<Tls> {
    error.get_ref()?.downcast_ref().map(classify)
}

/// Why a handshake has failed.
#[allow(clippy::wildcard_enum_match_arm, reason = "enums of other crates, open-ended")]
pub(in crate::signal) fn classify(error: &Error) -> Tls {
    use AlertDescription as Alert;
    match error {
        Error::InvalidCertificate(why) => classify_certificate(why),
        // The first bytes that came are of no record of TLS.
        Error::InvalidMessage(_) => Tls::NoTls,
        Error::AlertReceived(Alert::ProtocolVersion)
        | Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => Tls::OldVersion,
        Error::AlertReceived(Alert::HandshakeFailure | Alert::InsufficientSecurity) | Error::PeerIncompatible(_) => {
            Tls::NothingInCommon
        }
        Error::AlertReceived(Alert::UnrecognisedName) => Tls::UnknownName,
        Error::AlertReceived(Alert::CertificateRequired) => Tls::WantsCertificate,
        other => Tls::Other(other.to_string()),
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "enums of other crates, open-ended")]
fn classify_certificate(why: &CertificateError) -> Tls {
    match why {
        // An authority that only bears the name of one that we trust, as one that was made anew does, has another key.
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Tls::UnknownIssuer,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Tls::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Tls::NotValidYet,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Tls::WrongName,
        CertificateError::Other(OtherError(other)) => {
            if let Some(OtherFingerprint(fingerprint)) = other.downcast_ref() {
                return Tls::OtherFingerprint(fingerprint.to_string());
            }
            match other.downcast_ref() {
                Some(webpki::Error::CaUsedAsEndEntity) => Tls::Authority,
                Some(webpki::Error::UnsupportedCertVersion) => Tls::OldCertificate,
                Some(_) | None => Tls::Other(why.to_string()),
            }
        }
        other => Tls::Other(other.to_string()),
    }
}
