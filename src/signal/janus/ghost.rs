//! Sessions at a Janus that outlive their client: remembered, and ended by another.

use std::sync::Arc;

use url::Url;

use crate::supervisor::event::{Failure, Phase};
use crate::uplink::failure::{self, Place, Redirect};

use super::super::whip_text::{may_carry_token, shown};
use super::super::{Ghost, Memory};
use super::{Janus, Session};

impl Janus {
    pub(in super::super) fn bury(&self, ghost: Ghost) -> impl Future<Output = Result<(), Failure>> + Send + use<> {
        let digger = Self::new(&self.uplink, Arc::clone(&self.tokens), self.timeouts);
        async move {
            let mut digger = digger?;
            digger.remember(ghost.0)?;
            digger.goodbye().await
        }
    }

    /// Takes up a session that another client (perhaps in an earlier process) has left.
    fn remember(&mut self, memory: Memory) -> Result<(), Failure> {
        let internal = |words| Err(failure::internal(Phase::Request, words));
        let (url, id, handle) = match memory {
            Memory::Janus { url, session_id, handle_id } => (url, session_id, handle_id),
            Memory::Whip { .. } | Memory::Roamcast { .. } => {
                return internal("the session left behind is none of Janus");
            }
        };
        let Ok(url) = url.parse::<Url>() else { return internal("the session left behind is nowhere") };
        // The memory may be older than the config: secrets go to servers of the config only.
        if may_carry_token(&self.url, &self.uplink.trusted_origins, &self.url, &url).is_err() {
            let here = shown(&self.url);
            let place = Place { method: "destroy", url: &here, token_sent: false };
            return Err(failure::redirect(place, Some(&shown(&url)), &Redirect::Foreign));
        }
        self.url = url;
        self.session = Some(Session { id, handle: Some(handle), name: String::new(), ended: false });
        Ok(())
    }

    pub(in super::super) fn memory(&self) -> Option<Memory> {
        let session = self.session.as_ref()?;
        Some(Memory::Janus {
            url: self.url.to_string(),
            session_id: session.id,
            handle_id: session.handle.unwrap_or_default(),
        })
    }
}
