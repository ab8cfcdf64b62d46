//! ICE restarts of one session: new credentials in the offer, through the server, into webrtcbin; and new TURN servers.

use crate::config::units::IceServer;
use crate::signal::Accepted;
use crate::supervisor::event::{Failure, SessionEvent};

use super::peer::Peer;
use super::{Life, Wish, internal};
use crate::sdp;

impl Life<'_> {
    /// What is wanted of the session.
    pub(super) async fn grant(&self, wish: Wish) {
        let Some(messenger) = &self.messenger else { return };
        match wish {
            Wish::Resume => messenger.resume(),
            Wish::Inactivity(patience) => messenger.inactivity(patience),
            Wish::RestartIce => {
                let Some(peer) = &self.peer else { return };
                match peer.restart_offer().await {
                    Ok(offer) => messenger.restart(offer),
                    Err(failure) => self.voice(SessionEvent::IceRestartRefused(failure)),
                }
            }
        }
    }

    /// Only now does our own agent restart: until the server has answered, the old credentials may still heal.
    pub(super) async fn restarted(&mut self, offer: &str, accepted: Accepted) -> SessionEvent {
        let (Some(peer), Some(agreed)) = (&self.peer, &self.agreed) else {
            return SessionEvent::IceRestartRefused(internal("there is nothing to restart"));
        };
        let checked = sdp::check_answer(offer, &accepted.answer).map_err(Failure::from).and_then(|answer| {
            sdp::check_same_peer(agreed, &answer.normalised)?;
            Ok(answer.normalised)
        });
        let answer = match checked {
            Ok(answer) => answer,
            Err(failure) => return SessionEvent::IceRestartRefused(failure),
        };
        self.rename_servers(&accepted.ice_servers, accepted.near);
        let taken = match peer.take_offer(offer).await {
            Ok(()) => peer.answer(&answer).await,
            Err(failure) => Err(failure),
        };
        self.agreed = Some(answer);
        match taken {
            Ok(()) => SessionEvent::IceRestarted,
            Err(failure) => SessionEvent::IceRestartRefused(failure),
        }
    }

    /// The server has named others: none named at all changes nothing.
    pub(super) fn rename_servers(&self, named: &[IceServer], near: bool) {
        if let Some(peer) = self.peer.as_ref().filter(|_| !named.is_empty()) {
            peer.servers(&self.uplink.ice_servers, named, near);
        }
    }

    /// Why no relay is to be had, if that is so.
    pub(super) fn relay_trouble(&self) -> Option<String> {
        self.peer.as_ref().and_then(Peer::relay_trouble)
    }
}
