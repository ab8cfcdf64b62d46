//! The state file: what has to be remembered of the session for the case that this process dies without a goodbye.
//!
//! `$STATE_DIRECTORY/session.json`, and `proofs.json` beside it (`state/proofs.rs`). Every write is whole or did not happen: temporary file, fsync, rename, fsync of the
//! folder. All of it blocks.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};
use url::Url;

use crate::config::Uplink;

use super::Memory;
use super::transport::http::wall_clock;

mod proofs;

/// Form of the file. A higher number is of a later program, after a downgrade.
const VERSION: u32 = 1;
/// Two addresses and a resume token; more than this is not ours.
const BYTES_MAX: u64 = 64 * 1024;
/// No server keeps a session without media for longer than some minutes; a day is far beyond all of them.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The state file of this process.
#[derive(Debug)]
pub struct StateFile {
    folder: PathBuf,
    /// Held for as long as this process lives; the kernel lets go of it however that ends.
    _lock: Option<Flock<File>>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What the file holds.
    saved: Option<Memory>,
    /// It was said that it cannot be written; said again after it could.
    has_complained: bool,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    memory: Memory,
    /// Origin of the one of `uplink.url` and `uplink.fallbackUrls` that the session is at.
    server: String,
    /// RFC 3339.
    since: String,
}

impl StateFile {
    /// Where systemd says (`StateDirectory=`); without that nothing is remembered. Nor is it when another encoder uses the
    /// folder: each would end the session of the other as the one that it left behind.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let folders = std::env::var_os("STATE_DIRECTORY")?;
        let folder = first_folder(&folders)?;
        let lock = match File::open(&folder).map(|open| Flock::lock(open, FlockArg::LockExclusiveNonblock)) {
            Ok(Ok(lock)) => Some(lock),
            Ok(Err((_, Errno::EWOULDBLOCK))) => {
                warn!(
                    "another encoder uses the state folder `{}`: this one remembers nothing; give each its own STATE_DIRECTORY",
                    folder.display()
                );
                return None;
            }
            // Not every file system has locks, and what cannot be opened cannot be written either, which is said then.
            Ok(Err(_)) | Err(_) => None,
        };
        Some(Self { _lock: lock, ..Self::new(folder) })
    }

    /// In this folder.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, _lock: None, inner: Mutex::default() }
    }

    /// What the process before has left behind, if it was talking to a server of `uplink`. A file that cannot be used is
    /// renamed to `session.json.ignored`, with one warning.
    pub fn load(&self, uplink: &Uplink) -> Option<Memory> {
        let mut inner = self.lock();
        match self.read(uplink) {
            Ok(memory) => inner.saved.clone_from(&memory),
            Err(why) => {
                warn!("the state file `{}` is ignored: {why}", self.path().display());
                if let Err(error) = std::fs::rename(self.path(), self.folder.join("session.json.ignored")) {
                    debug!("it stays where it is: {}", error.kind());
                }
            }
        }
        inner.saved.clone()
    }

    /// Remembers. A disk that is full or read-only is one warning; the broadcast goes on without a memory.
    pub fn save(&self, memory: &Memory, uplink: &Uplink) {
        let mut inner = self.lock();
        let document = Document {
            version: VERSION,
            memory: memory.clone(),
            server: memory
                .address()
                .and_then(|address| uplink.home_of(&address).cloned())
                .unwrap_or_else(|| uplink.url.clone())
                .origin()
                .ascii_serialization(),
            since: humantime::format_rfc3339_seconds(wall_clock()).to_string(),
        };
        let written = serde_json::to_vec(&document).map_err(io::Error::other).and_then(|text| self.write(&text));
        match written {
            Ok(()) => *inner = Inner { saved: Some(memory.clone()), has_complained: false },
            Err(error) => {
                // Better none than one of an earlier session.
                let _already_gone = std::fs::remove_file(self.path());
                inner.saved = None;
                if !std::mem::replace(&mut inner.has_complained, true) {
                    let path = self.path();
                    warn!(
                        "the state file `{}` cannot be written ({error}): after a crash the session before is left to the \
                         server's own timeout",
                        path.display()
                    );
                }
            }
        }
    }

    /// Forgets this session before it is told goodbye; nothing happens when another one is remembered by now.
    pub fn forget(&self, memory: &Memory) {
        let mut inner = self.lock();
        if inner.saved.as_ref() == Some(memory) {
            self.remove(&mut inner);
        }
    }

    /// Forgets whatever is remembered.
    pub fn erase(&self) {
        self.remove(&mut self.lock());
    }

    fn remove(&self, inner: &mut Inner) {
        inner.saved = None;
        match std::fs::remove_file(self.path()).and_then(|()| sync_folder(&self.folder)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => warn!("the state file `{}` cannot be removed: {error}", self.path().display()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("session.json")
    }

    fn read(&self, uplink: &Uplink) -> Result<Option<Memory>, String> {
        let text = read_own(&self.path())?;
        text.map(|text| understood(&text, uplink, wall_clock())).transpose()
    }

    fn write(&self, text: &[u8]) -> io::Result<()> {
        write_whole(&self.folder, "session.json", text)
    }
}

/// A file of our own making, not more than one byte too long; `None`: there is none.
///
/// # Errors
/// Half a sentence: it cannot be read, or is not ours.
fn read_own(path: &Path) -> Result<Option<Vec<u8>>, String> {
    // Neither a link nor a pipe is of our making, and a pipe would hold up the start.
    let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path);
    let file = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| format!("it cannot be opened: {error}"))?,
    };
    let metadata = file.metadata().map_err(|error| format!("it cannot be examined: {error}"))?;
    if !metadata.is_file() {
        return Err("it is no regular file".to_owned());
    }
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err("it belongs to another user".to_owned());
    }
    let mut text = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| format!("it cannot be read: {error}"))?;
    Ok(Some(text))
}

/// Writes the file whole or not at all.
fn write_whole(folder: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!("{name}.new"));
    // What a crash between write and rename has left.
    let _usually_none = std::fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&temporary, folder.join(name))?;
    sync_folder(folder)
}

/// A rename or removal survives a power loss only once its folder is on the disk.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// systemd separates several with colons. Made where it is missing, as without systemd.
fn first_folder(folders: &OsString) -> Option<PathBuf> {
    let folder = std::env::split_paths(folders).next().filter(|folder| folder.is_absolute())?;
    // When it fails, so does the first write, which says so.
    let _said_later = std::os::unix::fs::DirBuilderExt::mode(&mut DirBuilder::new(), 0o700).create(&folder);
    Some(folder)
}

/// The session in the text of the file, if it can be used `now` with this uplink.
///
/// # Errors
/// Half a sentence. It never quotes the file, which holds a resume token.
pub fn understood(text: &[u8], uplink: &Uplink, now: SystemTime) -> Result<Memory, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    if text.len() as u64 > BYTES_MAX {
        return Err(format!("it is longer than {BYTES_MAX} bytes"));
    }
    let corrupt = |_| "it is corrupt".to_owned();
    let Version { version } = serde_json::from_slice(text).map_err(corrupt)?;
    if version != VERSION {
        return Err(format!("its version is {version}; this program knows version {VERSION}"));
    }
    let document: Document = serde_json::from_slice(text).map_err(corrupt)?;
    let since = humantime::parse_rfc3339(&document.since).map_err(|_| "it is corrupt".to_owned())?;
    // A time in the future: our clock has not been set yet, and the age is not known.
    if now.duration_since(since).is_ok_and(|age| age > AGE_MAX) {
        return Err(format!("it is older than {} h", AGE_MAX.as_secs() / 3600));
    }
    let is_ours = |url: &Url| url.origin().ascii_serialization() == document.server;
    if !uplink.urls().any(is_ours) {
        return Err("it is about another server than those of `uplink`".to_owned());
    }
    Ok(document.memory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::config;

    fn uplink(url: &str) -> Uplink {
        config::load(&format!("[uplink]\nurl = \"{url}\""), "test", std::iter::empty()).unwrap().uplink
    }

    fn memory(name: &str) -> Memory {
        Memory::Whip { resource: format!("https://h.example/session/{name}") }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    const OURS: &str = "https://h.example/whip";

    #[test]
    fn what_was_saved_is_there_for_the_next_process_and_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let uplink = uplink(OURS);
        StateFile::new(folder.path().to_owned()).save(&memory("1"), &uplink);
        let mode = std::fs::metadata(folder.path().join("session.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let next = StateFile::new(folder.path().to_owned());
        assert_eq!(next.load(&uplink), Some(memory("1")));
        next.save(&memory("2"), &uplink);
        assert_eq!(next.load(&uplink), Some(memory("2")));
        next.erase();
        next.erase();
        assert_eq!((next.load(&uplink), names(folder.path())), (None, vec![]));
        assert!(!format!("{next:?}").contains("session/"));
    }

    #[test]
    fn a_session_at_a_fallback_server_is_remembered_while_that_is_configured() {
        let folder = tempfile::tempdir().unwrap();
        let text = |fallback| format!("[uplink]\nurl = \"https://first.example/whip\"\nfallbackUrls = [{fallback}]");
        let uplink = |fallback| config::load(&text(fallback), "test", std::iter::empty()).unwrap().uplink;
        let both = uplink("\"https://h.example/whip\"");
        for saver in [both.at(1), both.clone()] {
            StateFile::new(folder.path().to_owned()).save(&memory("1"), &saver);
            assert_eq!(StateFile::new(folder.path().to_owned()).load(&both), Some(memory("1")));
        }
        assert_eq!(StateFile::new(folder.path().to_owned()).load(&uplink("")), None);
        assert_eq!(names(folder.path()), ["session.json.ignored"]);
    }

    #[test]
    fn a_session_that_ends_forgets_itself_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (file, uplink) = (StateFile::new(folder.path().to_owned()), uplink(OURS));
        file.save(&memory("old"), &uplink);
        file.save(&memory("new"), &uplink);
        file.forget(&memory("old"));
        assert_eq!(file.load(&uplink), Some(memory("new")));
        file.forget(&memory("new"));
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn a_crash_between_write_and_rename_is_harmless() {
        let folder = tempfile::tempdir().unwrap();
        let (file, uplink) = (StateFile::new(folder.path().to_owned()), uplink(OURS));
        file.save(&memory("1"), &uplink);
        let temporary = folder.path().join("session.json.new");
        std::fs::write(&temporary, "{\"version\":1,\"mem").unwrap();
        std::fs::set_permissions(&temporary, PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(StateFile::new(folder.path().to_owned()).load(&uplink), Some(memory("1")));
        file.save(&memory("2"), &uplink);
        assert_eq!(file.load(&uplink), Some(memory("2")));
        assert_eq!(names(folder.path()), ["session.json"]);
        let mode = std::fs::metadata(folder.path().join("session.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_put_aside() {
        let good = |version, server, since| {
            let document = Document { version, memory: memory("1"), server, since };
            serde_json::to_vec(&document).unwrap()
        };
        let (server, now) =
            ("https://h.example".to_owned(), humantime::format_rfc3339_seconds(wall_clock()).to_string());
        let huge = vec![b' '; 70_000];
        for (text, why) in [
            (good(1, server.clone(), "1970-01-02T00:00:00Z".to_owned()), "older than 24 h"),
            (good(1, server.clone(), "yesterday".to_owned()), "corrupt"),
            (good(2, server, now.clone()), "version is 2"),
            (good(1, "https://other.example".to_owned(), now), "another server"),
            (b"{\"version\":1}".to_vec(), "corrupt"),
            (b"\xff\xfe\0".to_vec(), "corrupt"),
            (Vec::new(), "corrupt"),
            (huge, "longer than"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("session.json"), &text).unwrap();
            let words = understood(&text, &uplink(OURS), wall_clock()).unwrap_err();
            assert!(words.contains(why), "{words}");
            assert_eq!(StateFile::new(folder.path().to_owned()).load(&uplink(OURS)), None);
            assert_eq!(names(folder.path()), ["session.json.ignored"]);
        }
        // The clock of this machine has not been set yet.
        assert!(
            understood(&good(1, "https://h.example".to_owned(), "2999-01-01T00:00:00Z".to_owned()), &uplink(OURS), {
                SystemTime::UNIX_EPOCH
            })
            .is_ok()
        );
    }

    #[test]
    fn what_is_not_our_own_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let (path, uplink) = (folder.path().join("session.json"), uplink(OURS));
        StateFile::new(elsewhere.path().to_owned()).save(&memory("1"), &uplink);
        let original = elsewhere.path().join("session.json");
        let load = || StateFile::new(folder.path().to_owned()).load(&uplink);

        symlink(&original, &path).unwrap();
        assert_eq!(load(), None);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(load(), None);
        std::fs::create_dir(&path).unwrap();
        assert_eq!(load(), None);
        if nix::unistd::geteuid().is_root() {
            let _folder_of_before = std::fs::remove_dir(folder.path().join("session.json.ignored"));
            let _put_aside = std::fs::remove_dir(&path);
            std::fs::copy(&original, &path).unwrap();
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            assert_eq!(load(), None);
        } else {
            println!("SKIPPED: only root can make a file of another user");
        }
        assert!(original.exists());
    }

    #[test]
    fn a_disk_that_cannot_be_written_is_complained_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let (file, uplink) = (StateFile::new(gone.clone()), uplink(OURS));
        file.save(&memory("1"), &uplink);
        assert!(file.lock().has_complained);
        file.save(&memory("1"), &uplink);
        assert_eq!(file.load(&uplink), None);
        std::fs::create_dir(gone).unwrap();
        file.save(&memory("1"), &uplink);
        assert!(!file.lock().has_complained);
        assert_eq!(file.load(&uplink), Some(memory("1")));
    }

    #[test]
    fn the_folder_is_the_first_one_that_systemd_names() {
        let folder = tempfile::tempdir().unwrap();
        let two = format!("{}/a:{}/b", folder.path().display(), folder.path().display()).into();
        assert_eq!(first_folder(&two), Some(folder.path().join("a")));
        assert_eq!(names(folder.path()), ["a"]);
        assert_eq!((first_folder(&"".into()), first_folder(&"relative".into())), (None, None));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _any = understood(&text, &uplink(OURS), wall_clock());
        }

        #[test]
        fn no_damage_to_a_good_file_makes_it_panic(at in 0usize..200, byte: u8, length in 0usize..200) {
            let folder = tempfile::tempdir().unwrap();
            let file = StateFile::new(folder.path().to_owned());
            file.save(&memory("1"), &uplink(OURS));
            let mut text = std::fs::read(file.path()).unwrap();
            text.truncate(length);
            if let Some(old) = text.get_mut(at) {
                *old = byte;
            }
            std::fs::write(file.path(), &text).unwrap();
            let _any = file.load(&uplink(OURS));
        }
    }
}
