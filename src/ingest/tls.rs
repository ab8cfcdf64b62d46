//! TLS of the ingest: its certificate, and a listener whose connections shake hands when they are first read from, within
//! limits. So a stranger who only connects holds up nobody.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use crate::server::{Ends, Listener};

/// A handshake takes two round trips and a signature; whoever needs longer is away, or does it on purpose.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// Handshakes under way at once. Each may cost a millisecond of one core and some 30 KiB; a building full of viewers that
/// come at once is through in less than a second.
const HANDSHAKES_MAX: usize = 64;
/// Where a certificate of our own making is kept.
const KEPT_AS: &str = "ingest-tls.pem";

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is not there, or may not be read.
    #[error("`{0}` cannot be read: {1}")]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file for `--tls-cert` has none.
    #[error("`{0}` holds no certificate; a PEM file with `BEGIN CERTIFICATE` was expected")]
    NoCertificate(PathBuf),
    /// The file for `--tls-key` has none.
    #[error("`{0}` holds no private key; a PEM file with `BEGIN PRIVATE KEY`, without a pass phrase, was expected")]
    NoKey(PathBuf),
    /// They do not belong together, or are of a kind that TLS does not take.
    #[error("the certificate and the private key cannot be used together: {0}")]
    Unfit(#[source] rustls::Error),
    /// The certificate could not be made.
    #[error("no certificate could be made: {0}")]
    NotMade(#[source] rcgen::Error),
}

/// What the server shows of itself.
#[derive(Debug, Clone)]
pub struct Identity {
    config: Arc<ServerConfig>,
    fingerprint: [u8; 32],
}

impl Identity {
    /// A certificate with its chain, and its key, both PEM.
    ///
    /// # Errors
    /// [`TlsError`], each in one sentence.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| TlsError::Unreadable(path.to_owned(), error));
        let chain = certificates(&read(certificate)?).ok_or_else(|| TlsError::NoCertificate(certificate.to_owned()))?;
        let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| TlsError::NoKey(key.to_owned()))?;
        Self::new(chain, key)
    }

    /// One that we have made ourselves. It is kept in this folder, so that the fingerprint stays the same from one start to
    /// the next; where that cannot be, there is one warning.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn self_signed(folder: Option<&Path>, address: IpAddr) -> Result<Self, TlsError> {
        if let Some(kept) = folder.and_then(|folder| Self::kept(&folder.join(KEPT_AS))) {
            return Ok(kept);
        }
        let (pem, identity) = Self::make(address).map_err(TlsError::NotMade)?;
        let identity = identity?;
        let keeping = match folder {
            Some(folder) => keep(folder, &pem),
            None => Err(io::Error::new(ErrorKind::NotFound, "neither $STATE_DIRECTORY nor $HOME is set")),
        };
        if let Err(error) = keeping {
            let place = folder.map(|folder| format!(" in `{}`", folder.display())).unwrap_or_default();
            tracing::warn!("the TLS certificate cannot be kept{place} ({error}): the next start makes another one");
        }
        Ok(identity)
    }

    /// `None` when there is none that can be used.
    fn kept(path: &Path) -> Option<Self> {
        let pem = std::fs::read(path).ok()?;
        Self::new(certificates(&pem)?, PrivateKeyDer::from_pem_slice(&pem).ok()?).ok()
    }

    fn make(address: IpAddr) -> Result<(String, Result<Self, TlsError>), rcgen::Error> {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        if !address.is_unspecified() && !address.is_loopback() {
            names.push(address.to_string());
        }
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "roamcast ingest");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Nobody renews it, and boxes without a clock that is right are let in as well: who it is says the fingerprint.
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1));
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
        let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok((pem, Self::new(vec![certificate.der().clone()], der)))
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, TlsError> {
        let fingerprint = chain.first().map(Sha256::digest).unwrap_or_default().into();
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Unfit)?;
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(TlsError::Unfit)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), fingerprint })
    }

    /// SHA-256 of the certificate.
    #[must_use]
    pub const fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

/// All of the file; `None` when there is none.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!all.is_empty()).then_some(all)
}

/// Readable for this user alone, and whole or not at all.
fn keep(folder: &Path, pem: &str) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let (path, new) = (folder.join(KEPT_AS), folder.join(format!("{KEPT_AS}.new")));
    // Left by a process that was killed.
    let _there_is_none = std::fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

/// A listener with or without TLS.
pub(super) struct Door {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handshakes: Arc<Semaphore>,
}

impl Door {
    pub(super) fn new(listener: TcpListener, identity: Option<Identity>) -> Self {
        let tls = identity.map(|identity| TlsAcceptor::from(identity.config));
        Self { listener, tls, handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)) }
    }

    /// The connection as handlers see it; `None` when too many others shake hands just now.
    fn open(&self, tcp: TcpStream) -> Option<Stream> {
        let state = match &self.tls {
            None => State::Plain(tcp),
            Some(tls) => {
                let _place = Arc::clone(&self.handshakes).try_acquire_owned().ok()?;
                #[allow(clippy::disallowed_methods, reason = "a deadline, armed once")]
                let deadline = tokio::time::sleep(HANDSHAKE_WITHIN);
                State::Greeting(Box::pin(Greeting { accept: tls.accept(tcp), deadline: Box::pin(deadline), _place }))
            }
        };
        Some(Stream { state })
    }
}

impl Listener for Door {
    type Stream = Stream;

    async fn accept(&self) -> io::Result<(Stream, Ends)> {
        loop {
            let (tcp, ends) = Listener::accept(&self.listener).await?;
            if let Some(stream) = self.open(tcp) {
                return Ok((stream, ends));
            }
        }
    }
}

/// A connection. With TLS, the handshake is made by whoever reads first.
pub(super) struct Stream {
    state: State,
}

enum State {
    Plain(TcpStream),
    Greeting(Pin<Box<Greeting>>),
    Encrypted(Box<TlsStream<TcpStream>>),
    /// The handshake has failed.
    Closed,
}

struct Greeting {
    accept: Accept<TcpStream>,
    deadline: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

/// What bytes go through.
trait Wire: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Wire for S {}

impl Stream {
    /// Ready once bytes may flow.
    fn poll_wire(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut dyn Wire>>> {
        if let State::Greeting(greeting) = &mut self.state {
            let greeted = match Pin::new(&mut greeting.accept).poll(cx) {
                Poll::Ready(greeted) => greeted,
                Poll::Pending => {
                    ready!(greeting.deadline.as_mut().poll(cx));
                    Err(ErrorKind::TimedOut.into())
                }
            };
            self.state = match greeted {
                Ok(stream) => State::Encrypted(Box::new(stream)),
                Err(error) => {
                    tracing::debug!("a TLS handshake has failed: {error}");
                    State::Closed
                }
            };
        }
        Poll::Ready(match &mut self.state {
            State::Plain(tcp) => Ok(Pin::new(tcp)),
            State::Encrypted(stream) => Ok(Pin::new(stream)),
            State::Greeting(_) | State::Closed => Err(ErrorKind::ConnectionAborted.into()),
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.get_mut().poll_wire(cx))?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.get_mut().poll_wire(cx))?.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.get_mut().poll_wire(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if matches!(this.state, State::Greeting(_) | State::Closed) {
            // There is nobody to say goodbye to.
            this.state = State::Closed;
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_wire(cx))?.poll_shutdown(cx)
    }
}
