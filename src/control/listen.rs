//! A unix socket that belongs to one encoder.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Owner and group: whoever may talk to the encoder can take it off air.
const MODE: u32 = 0o660;

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

#[cfg(test)]
mod tests {
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
}
