//! From the first word of a session to its SDP answer, in webrtcbin.

#[cfg(test)]
#[path = "negotiate/tests.rs"]
mod tests;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::config::{IceAgent, Protocol};
use crate::media::tracks::TrackKind;
use crate::signal::{Accepted, Signaller};
use crate::supervisor::event::{Event, Failure, SessionEvent};

use super::messenger::{Messenger, Said};
use super::offered::Offered;
use super::peer::{Peer, PeerEvent};
use super::{Life, Line, TEARDOWN_DEADLINE, internal};
use crate::ice::Roaming;
use crate::sdp::{self, Answer, Rejection};

/// What both sides have agreed on.
struct Agreement {
    offer: String,
    accepted: Accepted,
    answer: Answer,
    heard: mpsc::UnboundedReceiver<PeerEvent>,
}

impl Life<'_> {
    /// Peer, offer, publish, answer. Gathering starts after the server has answered, with the ICE servers it named
    /// (RFC 9725 section 4.6): the first request goes out sooner, and nothing is gathered twice. Gives what the peer has to
    /// say from then on, and the `a=mid` of each m-line.
    pub(super) async fn establish(
        &mut self,
        say: mpsc::UnboundedSender<Said>,
    ) -> Result<(mpsc::UnboundedReceiver<PeerEvent>, Vec<String>), Failure> {
        let mut signaller = Signaller::with_timeouts(&self.uplink, Arc::clone(&self.line.tokens), self.timeouts)?;
        let remembered = self.line.remembered.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ghost) = remembered.and_then(|memory| signaller.recall(memory)) {
            *self.line.ghost.lock().unwrap_or_else(PoisonError::into_inner) = Some(ghost);
        }
        let offered = self.line.offered().await;
        self.messenger = Some(Messenger::start(signaller, Arc::clone(self.line), say));
        let agreed = match self.negotiate(&[TrackKind::Video, TrackKind::Audio], offered).await {
            Err(Rejection { failure, sound_alone: true }) => {
                say_that_sound_is_refused(self.line, &failure);
                self.put_peer_away().await;
                self.negotiate(&[TrackKind::Video], offered).await?
            }
            other => other?,
        };
        let Agreement { offer, accepted, answer, heard } = agreed;
        let session_id = accepted.session_id.clone();
        self.line.inbox.post(Event::Session(self.attempt, SessionEvent::Accepted { session_id }));
        let Some(peer) = &self.peer else { return Err(internal("webrtcbin is gone")) };
        // Nothing but Janus and our own signalling can say more than the answer does.
        peer.check_reach(&answer, self.uplink.protocol == Protocol::Whip)?;
        peer.gather(&offer, &self.uplink.ice_servers, &accepted).await?;
        peer.answer(&answer.normalised).await?;
        self.agreed = Some(answer.normalised);
        Ok((heard, answer.media.into_iter().map(|media| media.mid).collect()))
    }

    /// One offer of these tracks, and its answer.
    async fn negotiate(&mut self, kinds: &[TrackKind], offered: Offered) -> Result<Agreement, Rejection> {
        let (tell, heard) = mpsc::unbounded_channel();
        let roaming = self.roaming(&tell);
        let tracks = self.line.hatch.tracks().iter().filter(|track| kinds.contains(&track.kind())).cloned();
        let (tracks, line, uplink) = (tracks.collect::<Vec<_>>(), Arc::clone(self.line), self.uplink.clone());
        let building = spawn_blocking(move || {
            Peer::new(&tracks, &uplink, &offered, &line.clock, line.certificate.as_ref(), roaming, &tell)
        });
        let built = building.await.map_err(|_| internal("building webrtcbin panicked"))?;
        let peer = self.peer.insert(built?);
        let offer = peer.offer().await?;
        let Some(messenger) = &self.messenger else { return Err(internal("nobody carries the offer").into()) };
        let accepted = messenger.publish(offer.clone()).await?;
        let answer = sdp::check_answer(&offer, &accepted.answer)?;
        self.line.compare(&offered, &accepted.answer);
        for why in &answer.left_out {
            info!("a candidate of the server is left out: {why}");
        }
        Ok(Agreement { offer, accepted, answer, heard })
    }

    /// The agent of this session; `None`: webrtcbin brings its own.
    fn roaming(&self, tell: &mpsc::UnboundedSender<PeerEvent>) -> Option<Roaming> {
        let Line { network, addresses, .. } = &**self.line;
        let addresses = addresses.clone().filter(|_| network.agent == IceAgent::Roaming)?;
        let tell = tell.clone();
        let tell = move |told| {
            let _session_over = tell.send(PeerEvent::Path(told));
        };
        Some(Roaming::start(network, &self.uplink, addresses, tell))
    }

    /// It has not begun to gather: nothing of it is on the wire.
    async fn put_peer_away(&mut self) {
        let peer = self.peer.take();
        if timeout(TEARDOWN_DEADLINE, spawn_blocking(move || drop(peer))).await.is_err() {
            debug!("webrtcbin without a session takes long to go");
        }
    }
}

/// Once for all sessions: the next server may take sound, so each is asked, and nobody wants to read it every time.
fn say_that_sound_is_refused(line: &Line, failure: &Failure) {
    if line.sound_refused.swap(true, Ordering::Relaxed) {
        debug!("{}; the picture is offered alone", failure.words);
    } else {
        warn!("{}; the picture is broadcast without sound", failure.words);
    }
}
