//! When the token of a live session is renewed: before it ends, so that the next request finds a good one.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::config::units::Secret;
use crate::supervisor::event::Failure;

use super::{Tokens, steady_clock};

/// Between two questions when the provider fails or gives the same token again; doubles up to the longest.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(30);
/// A year: what lives longer need not be watched.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Of one session.
#[derive(Debug)]
pub(in crate::signal) struct Renewal {
    /// When to ask; `None`: never.
    at: Option<Instant>,
    /// The next wait after a question that led to nothing.
    again: Duration,
    /// A task of its own, so that a slow provider is not asked anew whenever its messenger has something else to do.
    asking: Option<JoinHandle<Result<Option<Secret>, Failure>>>,
}

impl Drop for Renewal {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.abort();
        }
    }
}

impl Renewal {
    /// For the token given last. `server`: in how long the server wants a fresh one, if it has said so.
    pub(in crate::signal) fn new(tokens: &Tokens, server: Option<Duration>) -> Self {
        let wait = tokens.expires_in().into_iter().chain(server).min();
        let at = wait.map(|wait| steady_clock() + wait.clamp(AGAIN_AFTER, LONGEST));
        Self { at, again: AGAIN_AFTER, asking: None }
    }

    /// The next token, other than the one `in_use`, when it is time for it and the provider gives one. Never ends when
    /// nobody knows of an end. May be dropped at any await without losing anything.
    pub(in crate::signal) async fn next(&mut self, tokens: &Arc<Tokens>, in_use: Option<&Secret>) -> Secret {
        loop {
            let asking = match &mut self.asking {
                Some(asking) => asking,
                None => {
                    self.wait().await;
                    let tokens = Arc::clone(tokens);
                    self.asking.insert(tokio::spawn(async move { tokens.fresh().await }))
                }
            };
            let asked = asking.await;
            self.asking = None;
            self.at = Some(steady_clock() + self.again);
            self.again = (self.again * 2).min(AGAIN_AFTER_MAX);
            match asked {
                Ok(Ok(Some(fresh))) if in_use != Some(&fresh) => {
                    *self = Self::new(tokens, None);
                    return fresh;
                }
                Ok(Ok(Some(_))) => debug!("the provider gives the same token again, and it ends soon"),
                Ok(Ok(None)) => self.at = None,
                // The provider's failures are told where it is asked.
                Ok(Err(failure)) => debug!("no fresh token: {failure}"),
                Err(panicked) => debug!("asking for a token: {panicked}"),
            }
        }
    }

    async fn wait(&self) {
        match self.at {
            #[allow(clippy::disallowed_methods, reason = "the age of a token; no request waits for it")]
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}
