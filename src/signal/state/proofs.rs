//! Which servers have acknowledged media of ours, with which token: `$STATE_DIRECTORY/proofs.json`. A box that boots behind
//! a captive portal, or while its server is being restarted, must not take their 404 for the last word.
//!
//! Unlike the session, a proof outlives a goodbye. It is no secret, and holds none.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::config::{TokenSource, Uplink};

use super::{BYTES_MAX, StateFile, read_own, write_whole};

const NAME: &str = "proofs.json";
/// Form of the file.
const VERSION: u32 = 1;
/// More servers than anybody has fallbacks; the ones proven last are kept.
const PROOFS_MAX: usize = 32;

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    salt: String,
    /// Oldest first.
    proven: Vec<u16>,
}

impl Document {
    fn new() -> Self {
        Self { version: VERSION, salt: format!("{:032x}", fastrand::u128(..)), proven: Vec::new() }
    }
}

impl StateFile {
    /// The numbers of the servers of `uplink` that have acknowledged media of ours, with the token source of `uplink`. A file
    /// that cannot be used proves nothing.
    #[must_use]
    pub fn proven(&self, uplink: &Uplink) -> Vec<usize> {
        let Some(document) = self.proofs() else { return Vec::new() };
        let is_proven = |endpoint: &usize| document.proven.contains(&mark(&document.salt, &uplink.at(*endpoint)));
        (0..uplink.urls().count()).filter(is_proven).collect()
    }

    /// Writes down that the server at `uplink.url` has acknowledged media of ours. A disk that is full or read-only is one
    /// warning: after a crash the server has to prove itself again.
    pub fn remember_proof(&self, uplink: &Uplink) {
        // One at a time.
        let mut inner = self.lock();
        let mut document = self.proofs().unwrap_or_else(Document::new);
        let mark = mark(&document.salt, uplink);
        if document.proven.contains(&mark) {
            return;
        }
        document.proven.push(mark);
        let too_many = document.proven.len().saturating_sub(PROOFS_MAX);
        document.proven.drain(..too_many);
        let text = serde_json::to_vec(&document).map_err(std::io::Error::other);
        if let Err(error) = text.and_then(|text| write_whole(&self.folder, NAME, &text))
            && !std::mem::replace(&mut inner.has_complained, true)
        {
            warn!("`{}` cannot be written: {error}", self.proofs_path().display());
        }
    }

    fn proofs_path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    fn proofs(&self) -> Option<Document> {
        let text = match read_own(&self.proofs_path()) {
            Ok(text) => text?,
            Err(why) => {
                warn!("`{}` is ignored: {why}", self.proofs_path().display());
                return None;
            }
        };
        if text.len() as u64 > BYTES_MAX {
            return None;
        }
        serde_json::from_slice(&text).ok().filter(|document: &Document| document.version == VERSION)
    }
}

/// Stands for the address and where the token comes from (a provider gives another one each time), the room included.
///
/// Sixteen bits: so many guesses of a weak token fit that nobody can tell from this file which is right. That two servers
/// share a mark by chance, once in 65 536, costs some tries at a server that means its 404.
fn mark(salt: &str, uplink: &Uplink) -> u16 {
    let mut digest = Sha256::new();
    let mut add = |part: &str| {
        // With its length, so that no two lists of parts look the same.
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    };
    add(salt);
    add(uplink.url.as_str());
    let (kind, source) = match &uplink.token {
        None => ("", String::new()),
        Some(TokenSource::Value(secret)) => ("value", secret.expose().to_owned()),
        Some(TokenSource::File(path)) => ("file", path.display().to_string()),
        Some(TokenSource::Command(line)) => ("command", line.clone()),
        Some(TokenSource::Url(url)) => ("url", url.to_string()),
        Some(TokenSource::Credential(name)) => ("credential", name.clone()),
    };
    add(kind);
    add(&source);
    if let Some(janus) = &uplink.janus {
        add(&janus.room.to_string());
    }
    let hash = digest.finalize();
    u16::from_be_bytes([hash[0], hash[1]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn uplink(lines: &str) -> Uplink {
        config::load(&format!("[uplink]\n{lines}"), "test", std::iter::empty()).unwrap().uplink
    }

    #[test]
    fn a_proof_is_of_one_server_and_one_token_and_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let file = || StateFile::new(folder.path().to_owned());
        let servers = "url = \"https://one.example/whip\"\nfallbackUrls = [\"https://two.example/whip\"]\n";
        let ours = uplink(&format!("{servers}token = \"t0ken-of-mine\""));
        assert_eq!(file().proven(&ours), [0_usize; 0]);
        file().remember_proof(&ours.at(1));
        file().remember_proof(&ours.at(1));
        assert_eq!(file().proven(&ours), [1]);
        // 1 in 65 536 others looks the same; of three at most one ever does.
        let others = ["token = \"another\"", "tokenFile = \"/t0ken-of-mine\"", ""];
        let alike = others.iter().filter(|token| !file().proven(&uplink(&format!("{servers}{token}"))).is_empty());
        assert!(alike.count() <= 1);
        file().remember_proof(&ours);
        assert_eq!(file().proven(&ours), [0, 1]);
        file().erase();
        assert_eq!(file().proven(&ours), [0, 1], "a goodbye is no disproof");
        let text = std::fs::read_to_string(file().proofs_path()).unwrap();
        assert!(!text.contains("t0ken") && !text.contains("example"), "{text}");
        let mode = std::os::unix::fs::PermissionsExt::mode(&file().proofs_path().metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_used_proves_nothing_and_is_replaced() {
        let ours = uplink("url = \"https://one.example/whip\"");
        for text in [&b""[..], b"{", b"{\"version\":2,\"salt\":\"\",\"proven\":[1]}", b"\xff", &[b' '; 70_000]] {
            let folder = tempfile::tempdir().unwrap();
            let file = StateFile::new(folder.path().to_owned());
            std::fs::write(file.proofs_path(), text).unwrap();
            assert_eq!(file.proven(&ours), [0_usize; 0]);
            file.remember_proof(&ours);
            assert_eq!(file.proven(&ours), [0]);
        }
    }

    #[test]
    fn only_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path().to_owned());
        for number in 0..PROOFS_MAX + 20 {
            file.remember_proof(&uplink(&format!("url = \"https://h.example/{number}\"")));
        }
        let kept = file.proofs().unwrap().proven.len();
        assert!(kept <= PROOFS_MAX, "{kept}");
        assert_eq!(file.proven(&uplink(&format!("url = \"https://h.example/{}\"", PROOFS_MAX + 19))), [0]);
    }
}
