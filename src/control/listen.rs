//! Sockets: a unix socket that belongs to one encoder, and connections that do not wait for ever.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Sleep;

/// Owner and group: whoever may talk to the encoder can take it off air.
const MODE: u32 = 0o660;
/// A reader that takes nothing for this long while there is something for it is gone, or as good as.
const STALL_MAX: Duration = Duration::from_secs(10);

/// The socket in the file system; dropping it removes it.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _already_gone = std::fs::remove_file(&self.0);
    }
}

/// Listens at `path`. A socket that a dead encoder has left there is taken away; nothing else is.
///
/// # Errors
/// One sentence.
pub(super) async fn unix(path: &Path) -> Result<(UnixListener, SocketFile), String> {
    let name = path.display();
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            clear(path).await?;
            UnixListener::bind(path)
        }
        bound => bound,
    };
    let listener = listener.map_err(|error| format!("the socket `{name}` cannot be made: {error}"))?;
    let file = SocketFile(path.to_owned());
    std::fs::set_permissions(path, Permissions::from_mode(MODE))
        .map_err(|error| format!("the socket `{name}` cannot be given to its group: {error}"))?;
    Ok((listener, file))
}

/// Removes a socket that nobody listens at.
async fn clear(path: &Path) -> Result<(), String> {
    let name = path.display();
    if !std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        return Err(format!("`{name}` is there already and is no socket: it is left alone"));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| format!("the stale socket `{name}` cannot be removed: {error}"))
        }
        Ok(_) | Err(_) => {
            Err(format!("another encoder answers at `{name}`: give each one a `control.socket` of its own"))
        }
    }
}

/// A listener, or a connection of one, whose writes fail once the other end has taken nothing for [`STALL_MAX`].
pub(super) struct Impatient<S> {
    inner: S,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self { inner, stalled: None }
    }

    fn wait<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        #[allow(clippy::disallowed_methods, reason = "a deadline; `timeout` needs a future, and this is a poll")]
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL_MAX)));
        stalled.as_mut().poll(context).map(|()| Err(ErrorKind::TimedOut.into()))
    }
}

impl<L: Listener> Listener for Impatient<L> {
    type Io = Impatient<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (io, address) = self.inner.accept().await;
        (Impatient::new(io), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.wait(context, written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(context);
        this.wait(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.inner).poll_shutdown(context);
        this.wait(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_stale_socket_makes_way_and_a_live_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead encoder leaves its socket");
        let (_listener, file) = unix(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let words = unix(&path).await.err().unwrap();
        assert!(words.starts_with("another encoder answers at `"), "{words}");
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("important.txt");
        std::fs::write(&path, "do not lose this").unwrap();
        let words = unix(&path).await.err().unwrap();
        assert!(words.ends_with("is no socket: it is left alone"), "{words}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "do not lose this");
        let nowhere = unix(&folder.path().join("no/such/folder")).await.err().unwrap();
        assert!(nowhere.contains("cannot be made"), "{nowhere}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_hung_up_on() {
        let (ours, theirs) = tokio::io::duplex(4);
        let error = Impatient::new(ours).write_all(b"more than fits").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(theirs);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_that_takes_something_now_and_then_is_waited_for() {
        let (ours, mut theirs) = tokio::io::duplex(1);
        let mut ours = Impatient::new(ours);
        let read = async {
            for _ in 0..20 {
                tokio::time::advance(STALL_MAX / 2).await;
                theirs.read_u8().await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(ours.write_all(&[0; 20]), read);
        assert!(written.is_ok());
    }
}
