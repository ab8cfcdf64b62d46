//! Sessions at a Janus that outlive their client: remembered, and ended by another.

use std::sync::Arc;

use crate::signal::failure;
use crate::supervisor::event::{Failure, Phase};

use super::super::{Ghost, Memory, address_of_ghost};
use super::unasked::Ending;
use super::{Janus, Session};

impl Janus {
    pub(in crate::signal) fn bury(&self, ghost: Ghost) -> impl Future<Output = Result<(), Failure>> + Send + use<> {
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
        self.url = address_of_ghost(&url, "destroy", &self.uplink)?;
        self.session = Some(Session { id, handle: Some(handle), name: String::new(), ending: Ending::Unsaid });
        Ok(())
    }

    pub(in crate::signal) fn memory(&self) -> Option<Memory> {
        let session = self.session.as_ref()?;
        Some(Memory::Janus {
            url: self.url.to_string(),
            session_id: session.id,
            handle_id: session.handle.unwrap_or_default(),
        })
    }
}
