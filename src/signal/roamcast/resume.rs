//! Sessions of roamcast signalling that outlive their client: remembered, taken up again, or ended by another.

use std::sync::Arc;

use crate::signal::failure;
use crate::supervisor::event::{Failure, Phase};

use super::super::{Ghost, Memory, address_of_ghost};
use super::{Claim, Hidden, Roamcast, Session};

impl Roamcast {
    pub(in crate::signal) fn bury(&self, ghost: Ghost) -> impl Future<Output = Result<(), Failure>> + Send + use<> {
        let mut digger = Self::new(&self.uplink, Arc::clone(&self.tokens), self.timeouts);
        async move {
            let Memory::Roamcast { url, session_id, resume_token } = ghost.0 else {
                return Err(failure::internal(
                    Phase::Request,
                    "the session left behind is none of roamcast signalling",
                ));
            };
            digger.url = address_of_ghost(&url, "bye", &digger.uplink)?;
            let claim = Claim { session_id, resume_token: Hidden(resume_token) };
            digger.session = Some(Session { claim, published: true });
            digger.goodbye().await
        }
    }

    pub(in crate::signal) fn recall(&mut self, memory: Memory) -> Option<Ghost> {
        match memory {
            Memory::Roamcast { url, session_id, resume_token } if url == self.url.as_str() => {
                let claim = Claim { session_id, resume_token: Hidden(resume_token) };
                self.session = Some(Session { claim, published: false });
                None
            }
            Memory::Whip { .. } | Memory::Janus { .. } | Memory::Roamcast { .. } => Some(Ghost(memory)),
        }
    }

    pub(in crate::signal) fn memory(&self) -> Option<Memory> {
        let Claim { session_id, resume_token } = self.session.as_ref()?.claim.clone();
        Some(Memory::Roamcast { url: self.url.to_string(), session_id, resume_token: resume_token.0 })
    }
}
