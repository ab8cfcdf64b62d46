//! Where the bearer token comes from: asked anew for each try, so that a renewed one counts at once.

mod command;
pub(super) mod renewal;
pub mod text;
mod url;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use tracing::warn;

use crate::config::units::Secret;
use crate::config::{TokenSource, Uplink};
use crate::signal::failure::no_token;
use crate::signal::transport::http::wall_clock;
use crate::status::ErrorCode;
use crate::supervisor::event::{Failure, TokenEvent};

use text::{Expiry, Given, TOKEN_BYTES_MAX};

/// With the request that follows it (10 s) a third of the time that the brain gives a try is left.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// A token is renewed this long before its end: enough for a provider that has to be asked three times.
const MARGIN_MAX: Duration = Duration::from_secs(30);
/// Of a short life the margin may take no more than this part.
const MARGIN_PART: u32 = 10;

/// What is said when a provider does not notice that its token is of no use.
pub const SAME_AGAIN: &str = "the provider gave the same token that the server has just refused";

/// The one place of the process that asks the provider of tokens; all sessions share it.
pub struct Tokens {
    uplink: Uplink,
    report: Box<dyn Fn(TokenEvent) + Send + Sync>,
    /// Held while the provider is asked: no provider is asked twice at the same time.
    asking: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The last token given.
    present: Option<Present>,
    /// The last token that the server did not take.
    refused: Option<Secret>,
    /// It was said that the provider gives that one again.
    is_stale_told: bool,
    /// The provider failed when it was asked last.
    is_failing: bool,
}

struct Present {
    token: Secret,
    /// `None`: not known, or over when it came - then there is nothing to wait for.
    ends: Option<End>,
}

/// When a token ends, on the clock that tells it best.
struct End {
    at: Clock,
    /// It is renewed this much before.
    margin: Duration,
}

enum Clock {
    /// The provider named a time of day; right even when our clock is set meanwhile, as at boot.
    Wall(SystemTime),
    /// The provider named a duration; no clock change moves it.
    Steady(Instant),
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(***)")
    }
}

impl Tokens {
    /// Nothing is asked yet. `report` hears each failure of the provider, and the first success after one.
    pub fn new(uplink: &Uplink, report: impl Fn(TokenEvent) + Send + Sync + 'static) -> Self {
        Self {
            uplink: uplink.clone(),
            report: Box::new(report),
            asking: tokio::sync::Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// Asks the provider; for each try to connect. When it fails, the last token does as long as it is known to be valid.
    /// `None`: the config names no token.
    ///
    /// # Errors
    /// `TokenProviderFailed`, to be tried again. Once also when it gives the very token that the server has just refused:
    /// it may be slow to notice. The time after that it is used all the same.
    pub async fn fresh(&self) -> Result<Option<Secret>, Failure> {
        let Some(source) = &self.uplink.token else { return Ok(None) };
        let _one_at_a_time = self.asking.lock().await;
        let token = self.ask(source).await?;
        if self.is_stale(&token) {
            let words = match source {
                TokenSource::Value(_) => "`uplink.token` is the token that the server has just refused",
                TokenSource::File(_) | TokenSource::Credential(_) | TokenSource::Command(_) | TokenSource::Url(_) => {
                    SAME_AGAIN
                }
            };
            return Err(no_token(format!("{words}; it is tried once more")));
        }
        Ok(Some(token))
    }

    /// The server has refused this token, and nobody has said so yet.
    fn is_stale(&self, token: &Secret) -> bool {
        let mut known = self.known();
        known.refused.as_ref() == Some(token) && !std::mem::replace(&mut known.is_stale_told, true)
    }

    /// The token for a request inside a session: the last one given while it is good, where the provider takes more than
    /// reading a file.
    ///
    /// # Errors
    /// As [`Tokens::fresh`].
    pub async fn present(&self) -> Result<Option<Secret>, Failure> {
        let Some(source) = &self.uplink.token else { return Ok(None) };
        let _one_at_a_time = self.asking.lock().await;
        let known = match source {
            TokenSource::Command(_) | TokenSource::Url(_) => self.known().good(|present| present.is_fresh()),
            TokenSource::Value(_) | TokenSource::File(_) | TokenSource::Credential(_) => None,
        };
        match known {
            Some(token) => Ok(Some(token)),
            None => self.ask(source).await.map(Some),
        }
    }

    /// The server did not take this token (401, 4001, 4002). True when it had refused the very same before.
    pub fn rejected(&self, token: &Secret) -> bool {
        let mut known = self.known();
        let again = known.refused.as_ref() == Some(token);
        known.is_stale_told &= again;
        known.refused = Some(token.clone());
        again
    }

    /// What the server answered when it was given this token: if it is the token that is at fault, the next one must be
    /// another, and the words say when it was not.
    pub fn blamed(&self, token: Option<&Secret>, mut failure: Failure) -> Failure {
        let at_fault = matches!(failure.code, ErrorCode::InvalidToken | ErrorCode::TokenExpired);
        if at_fault && token.is_some_and(|token| self.rejected(token)) {
            failure.words = format!("{}; {SAME_AGAIN}", failure.words);
        }
        failure
    }

    /// How long until the last token given is to be renewed, a margin before its end. `None`: its end is not known, it came
    /// too late to be renewed in time, or it is written in the config, where nothing new comes from.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        if matches!(self.uplink.token, Some(TokenSource::Value(_))) {
            return None;
        }
        let known = self.known();
        let end = known.present.as_ref()?.ends.as_ref()?;
        Some(end.left().saturating_sub(end.margin))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, source: &TokenSource) -> Result<Secret, Failure> {
        let asked = match source {
            TokenSource::Value(secret) => text::plain(secret.expose(), "`uplink.token`"),
            TokenSource::File(path) => read(path, &format!("the token file `{}`", path.display())).await,
            TokenSource::Credential(name) => {
                read_credential(name, std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)).await
            }
            TokenSource::Command(line) => {
                let secrets: Vec<Secret> = self.known().all().cloned().collect();
                let secrets: Vec<&str> = secrets.iter().map(Secret::expose).collect();
                command::run(line, COMMAND_TIMEOUT, &secrets).await
            }
            TokenSource::Url(address) => {
                let before = self.known().present.as_ref().map(|present| present.token.clone());
                url::ask(address, &self.uplink, before).await
            }
        };
        match asked {
            Ok(given) => Ok(self.take(given)),
            Err(failure) => self.make_do(failure),
        }
    }

    fn take(&self, given: Given) -> Secret {
        let mut known = self.known();
        let ends = End::new(given.expiry);
        if given.expiry != Expiry::Unknown && ends.is_none() {
            warn!("the provider gave a token that has expired already; or the clock of this machine is ahead");
        }
        known.present = Some(Present { token: given.token.clone(), ends });
        let was_failing = std::mem::take(&mut known.is_failing);
        drop(known);
        if was_failing {
            (self.report)(TokenEvent::Recovered);
        }
        given.token
    }

    /// The provider failed: is there another token that is good for sure?
    fn make_do(&self, failure: Failure) -> Result<Secret, Failure> {
        let mut known = self.known();
        known.is_failing = true;
        let stand_in = known.good(|present| present.ends.is_some() && present.is_fresh());
        drop(known);
        (self.report)(TokenEvent::Failed(failure.clone()));
        let Some(token) = stand_in else { return Err(failure) };
        warn!("{failure}; the token before is still valid and is used");
        Ok(token)
    }
}

impl Known {
    fn all(&self) -> impl Iterator<Item = &Secret> {
        self.present.iter().map(|present| &present.token).chain(&self.refused)
    }

    /// The present token, if the server has not refused it and it is as `wanted`.
    fn good(&self, wanted: impl Fn(&Present) -> bool) -> Option<Secret> {
        let present = self.present.as_ref().filter(|present| self.refused.as_ref() != Some(&present.token))?;
        wanted(present).then(|| present.token.clone())
    }
}

impl Present {
    /// Not within its margin, as far as is known.
    fn is_fresh(&self) -> bool {
        self.ends.as_ref().is_none_or(|end| end.left() > end.margin)
    }
}

impl End {
    /// `None` when it is not known or over.
    fn new(expiry: Expiry) -> Option<Self> {
        let at = match expiry {
            Expiry::Unknown => return None,
            Expiry::At(time) => Clock::Wall(time),
            Expiry::After(time) => Clock::Steady(steady_clock() + time),
        };
        let mut end = Self { at, margin: Duration::ZERO };
        end.margin = (end.left() / MARGIN_PART).min(MARGIN_MAX);
        (!end.left().is_zero()).then_some(end)
    }

    fn left(&self) -> Duration {
        match self.at {
            Clock::Wall(time) => time.duration_since(wall_clock()).unwrap_or_default(),
            Clock::Steady(time) => time.saturating_duration_since(steady_clock()),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the age of a token; nothing of the brain's is decided by it")]
fn steady_clock() -> Instant {
    Instant::now()
}

async fn read(path: &Path, name: &str) -> Result<Given, Failure> {
    let mut text = String::new();
    let limit = TOKEN_BYTES_MAX as u64 + 1;
    let read = async { tokio::fs::File::open(path).await?.take(limit).read_to_string(&mut text).await };
    match read.await {
        // Kinds only ("entity not found"): the full text could quote what is in the file.
        Err(err) => Err(no_token(format!("{name} cannot be read: {}", err.kind()))),
        Ok(_) => text::plain(&text, name),
    }
}

/// <https://systemd.io/CREDENTIALS>
async fn read_credential(name: &str, folder: Option<PathBuf>) -> Result<Given, Failure> {
    match folder {
        Some(folder) => read(&folder.join(name), &format!("the systemd credential `{name}`")).await,
        None => Err(no_token(format!(
            "the systemd credential `{name}` was not passed on: `$CREDENTIALS_DIRECTORY` is not set; write \
             `LoadCredential={name}:/path` into the unit"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_credential_is_a_file_in_the_folder_that_systemd_names() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("uplink"), "t0ken\n").unwrap();
        let given = read_credential("uplink", Some(folder.path().to_owned())).await.unwrap();
        assert_eq!(given.token.expose(), "t0ken");
        let missing = read_credential("other", Some(folder.path().to_owned())).await.unwrap_err();
        assert_eq!(missing.words, "the systemd credential `other` cannot be read: entity not found");
        let no_systemd = read_credential("uplink", None).await.unwrap_err();
        assert!(no_systemd.words.contains("`LoadCredential=uplink:/path`"), "{no_systemd}");
    }

    /// A tenth of a short life, never more than 30 s; what is over when it comes has no end to wait for.
    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_a_margin_before_its_end() {
        let after = |seconds| End::new(Expiry::After(Duration::from_secs(seconds)));
        assert_eq!(after(10).unwrap().margin, Duration::from_secs(1));
        assert_eq!(after(3600).unwrap().margin, MARGIN_MAX);
        assert!(after(0).is_none() && End::new(Expiry::Unknown).is_none());
        assert!(End::new(Expiry::At(SystemTime::UNIX_EPOCH)).is_none());
        let present = Present { token: Secret::new("t".to_owned()), ends: after(10) };
        tokio::time::advance(Duration::from_millis(8_900)).await;
        assert!(present.is_fresh());
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(!present.is_fresh());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(present.ends.unwrap().left(), Duration::ZERO);
    }
}
