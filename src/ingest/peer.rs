//! One publisher's or viewer's WebRTC connection: str0m's sans-IO `Rtc` and what we need of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::change::SdpOffer;
use str0m::config::DtlsCert;
use str0m::error::{RtcError, SdpError};
use str0m::format::{Codec, PayloadParams};
use str0m::media::{KeyframeRequestKind, MediaData, MediaKind, MediaTime, Mid, Pt};
use str0m::net::{DatagramRecv, Protocol, Receive};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig};

use super::addresses::Candidates;
use super::contained::Contained;
use super::handshake::{Handshake, NUDGE};
use super::offer::{self, Unfit};
use super::outage::Outage;
use super::sdp::{self, Fragment};
use super::tally::Tally;
use super::timeline::Kind;

/// RTCP reports go out this often. The encoder calls itself broadcasting at the first report, and browsers bring picture
/// and sound together at the first ones; str0m's default for sound is 5 s.
const RTCP_EVERY: Duration = Duration::from_millis(250);
/// A retransmission that is not here by then comes too late for live; the frame is given up and a keyframe asked for.
const VIDEO_REORDERING: Duration = Duration::from_millis(500);
/// As above; a gap in the sound is better concealed than waited for.
const AUDIO_REORDERING: Duration = Duration::from_millis(100);

/// No datagram and no tick makes str0m say more than this at once; one that does would go on for ever.
const OUTPUTS_MAX: usize = 20_000;
/// Trickled candidates of one ICE session. Each is tried with each of ours, and a client has a dozen.
const TRICKLED_MAX: usize = 2 * sdp::CANDIDATES_MAX;

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// Sends to us.
    Publisher,
    /// Receives from us.
    Viewer,
}

/// Why an offer or a fragment is refused. The words are for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum OfferError {
    #[error("this is no SDP offer that can be used: {0}")]
    Unfit(#[from] Unfit),
    #[error("this is no SDP offer that can be used: an attribute has a value that it cannot have")]
    NotUnderstood,
    #[error(
        "the offer cannot be answered: its media sections contradict `a=group:BUNDLE`, each other, or what was offered before"
    )]
    Contradiction,
    #[error("the offer cannot be answered: it asks for something that this server does not do")]
    Unanswerable,
    #[error("the offer cannot be answered: the WebRTC library of this server does not cope with it")]
    Failed,
    #[error("an ICE restart offers the same media as before; for other media, publish anew")]
    OtherMedia,
    #[error("the offer sends neither audio nor video in a codec we know (Opus; H264, VP8, VP9)")]
    NothingToReceive,
    #[error("the offer receives neither audio nor video in a codec we know (Opus; H264, VP8, VP9)")]
    NothingToSend,
}

/// What happened at the other end.
pub(super) enum PeerEvent {
    /// ICE and DTLS are up.
    Connected,
    /// ICE found no way any more; it may come back.
    Disconnected,
    /// A whole frame.
    Media(Box<MediaData>),
    /// Its decoder asks for a keyframe.
    KeyframeWanted,
    /// The connection is over for good.
    Closed,
}

/// A frame on its way to a viewer.
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) params: PayloadParams,
    pub(super) time: MediaTime,
    pub(super) sampled: Instant,
    pub(super) data: Arc<[u8]>,
}

/// One connection. A panic in str0m ends it, and it alone: the next [`Peer::drain`], which is due at once, says so.
pub(super) struct Peer {
    rtc: Contained<Rtc>,
    /// The offer, to be made again at an ICE restart.
    offer: String,
    /// Our addresses as the other end knows them.
    candidates: Candidates,
    tracks: Vec<(Kind, Mid)>,
    /// When str0m wants to be woken.
    deadline: Instant,
    /// When it began.
    since: Instant,
    /// Candidates that were trickled in this ICE session.
    trickled: usize,
    handshake: Handshake,
    outage: Outage,
    /// By how much str0m's time is ahead of ours: see [`Peer::skip_wait`].
    ahead: Duration,
    /// Since when it has not been connected.
    pub(super) unconnected_since: Option<Instant>,
    /// The number of the ICE session: the entity tag of RFC 9725, section 4.3.1.
    pub(super) ice_session: u32,
    /// What came of it.
    pub(super) tally: Tally,
}

impl Peer {
    /// Answers an offer. Gives the connection and the SDP answer.
    ///
    /// # Errors
    /// [`OfferError`] in words for the client.
    pub(super) fn accept(
        offer: &str,
        role: Role,
        candidates: Candidates,
        certificate: DtlsCert,
        now: Instant,
    ) -> Result<(Self, String), OfferError> {
        offer::check(offer)?;
        Self::answer(offer, role, candidates, certificate, now)
    }

    /// The same for an offer that was judged.
    fn answer(
        offer: &str,
        role: Role,
        candidates: Candidates,
        certificate: DtlsCert,
        now: Instant,
    ) -> Result<(Self, String), OfferError> {
        let mut rtc = Contained::new(|| config(certificate).build(now)).ok_or(OfferError::Failed)?;
        let answered = rtc.run(|rtc| {
            for local in candidates.local() {
                let candidate = Candidate::host(*local, "udp").map_err(|_| OfferError::Unanswerable)?;
                rtc.add_local_candidate(candidate);
            }
            answer_of(rtc, offer)
        });
        let answer = answered.ok_or(OfferError::Failed)??;
        let tracks = rtc.run(|rtc| tracks(rtc, offer, role)).ok_or(OfferError::Failed)?;
        match role {
            Role::Publisher if tracks.is_empty() => return Err(OfferError::NothingToReceive),
            Role::Viewer if tracks.is_empty() => return Err(OfferError::NothingToSend),
            Role::Publisher | Role::Viewer => {}
        }
        let peer = Self {
            rtc,
            offer: offer.to_owned(),
            candidates,
            tracks,
            deadline: now,
            since: now,
            trickled: 0,
            handshake: Handshake::default(),
            outage: Outage::new(VIDEO_REORDERING),
            ahead: Duration::ZERO,
            unconnected_since: Some(now),
            ice_session: 1,
            tally: Tally::default(),
        };
        let answer = peer.complete(&answer);
        Ok((peer, answer))
    }

    /// An answer of str0m, as we give it.
    fn complete(&self, answer: &str) -> String {
        self.candidates.complete(&sdp::in_one_stream(answer))
    }

    /// When to call [`Self::tick`].
    pub(super) const fn deadline(&self) -> Instant {
        if self.rtc.is_whole() { self.deadline } else { self.since }
    }

    /// Is this datagram for us?
    pub(super) fn accepts(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> bool {
        let (at, Some(local)) = (now + self.ahead, self.candidates.facing(source)) else { return false };
        let accepts = |rtc: &mut Rtc| input(at, source, local, datagram).is_some_and(|input| rtc.accepts(&input));
        self.rtc.run(accepts).unwrap_or(false)
    }

    /// Takes a datagram in. Follow with [`Self::drain`].
    pub(super) fn receive(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        let (at, Some(local)) = (now + self.ahead, self.candidates.facing(source)) else { return };
        let taken = self.rtc.run(|rtc| input(at, source, local, datagram).map(|input| feed(rtc, input)));
        if taken.flatten().is_some() {
            self.note_picture(now, datagram);
        }
    }

    /// Follows the picture through an outage. What str0m takes for its newest packet is genuine; whether it ends a frame is
    /// read from the datagram itself: SRTP leaves the header in clear.
    fn note_picture(&mut self, now: Instant, datagram: &[u8]) {
        let Some((ticks, ends_frame)) = rtp_time(datagram) else { return };
        let Some(&(_, mid)) = self.tracks.iter().find(|(kind, _)| *kind == Kind::Video) else { return };
        let newest = self.rtc.run(|rtc| {
            let mut api = rtc.direct_api();
            api.stream_rx_by_mid(mid, None).and_then(|stream| stream.last_time()).map(|time| time.numer())
        });
        // RTP time on the wire has 32 bits.
        if let Some(newest) = newest.flatten().filter(|newest| *newest as u32 == ticks) {
            self.outage.packet(now, newest, ends_frame);
        }
    }

    /// Has str0m put out what it holds back behind a hole that nothing will fill any more. There is no word for it in its
    /// interface but time: for str0m this process has slept for as long as a hole is waited for.
    fn skip_wait(&mut self, now: Instant) {
        self.ahead += VIDEO_REORDERING;
        self.tick(now);
    }

    /// Has OpenSSL look at its clock.
    fn nudge(&mut self, now: Instant) {
        if let Some(&local) = self.candidates.local().first() {
            self.receive(now, local, NUDGE);
        }
    }

    /// Lets time pass. Follow with [`Self::drain`].
    pub(super) fn tick(&mut self, now: Instant) {
        let at = now + self.ahead;
        self.rtc.run(|rtc| feed(rtc, Input::Timeout(at)));
    }

    /// Sends what is to be sent and gives what happened, until str0m has nothing more to say before `deadline`.
    pub(super) fn drain(&mut self, now: Instant, mut send: impl FnMut(SocketAddr, &[u8])) -> Vec<PeerEvent> {
        let mut events = vec![];
        for said in 0.. {
            if said > OUTPUTS_MAX {
                tracing::error!("a WebRTC connection never comes to rest: it is given up");
                self.rtc.discard();
            }
            match self.rtc.run(Rtc::poll_output) {
                Some(Ok(Output::Transmit(transmit))) => send(transmit.destination, &transmit.contents),
                Some(Ok(Output::Event(event))) => events.extend(self.understand(event, now)),
                Some(Ok(Output::Timeout(_))) if self.outage.take_due() => self.skip_wait(now),
                Some(Ok(Output::Timeout(_))) if self.handshake.take_due(now) => self.nudge(now),
                Some(Ok(Output::Timeout(at))) => {
                    let deadline = at - self.ahead;
                    self.deadline = self.handshake.deadline().map_or(deadline, |at| at.min(deadline));
                    break;
                }
                Some(Err(error)) => {
                    self.rtc.run(|rtc| failed(rtc, &error));
                    break;
                }
                None => break,
            }
        }
        if !self.rtc.run(|rtc| rtc.is_alive()).unwrap_or(false) {
            events.push(PeerEvent::Closed);
        }
        events
    }

    fn understand(&mut self, event: Event, now: Instant) -> Option<PeerEvent> {
        if let Event::IceConnectionStateChange(state) = &event {
            self.handshake.path(state.is_connected(), now);
        }
        // `Event` is str0m's, large, and grows.
        #[allow(clippy::wildcard_enum_match_arm, reason = "a foreign enum of which we need a few")]
        match event {
            Event::Connected => {
                self.handshake.done();
                self.unconnected_since = None;
                Some(PeerEvent::Connected)
            }
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                self.unconnected_since.get_or_insert(now);
                Some(PeerEvent::Disconnected)
            }
            Event::IceConnectionStateChange(state)
                if state.is_connected() && self.rtc.run(|rtc| rtc.is_connected()).unwrap_or(false) =>
            {
                self.unconnected_since = None;
                None
            }
            Event::MediaData(data) => {
                if self.kind(data.mid) == Some(Kind::Video) {
                    self.outage.frame();
                }
                Some(PeerEvent::Media(Box::new(data)))
            }
            Event::KeyframeRequest(_) => Some(PeerEvent::KeyframeWanted),
            _ => None,
        }
    }

    /// Picture or sound?
    pub(super) fn kind(&self, mid: Mid) -> Option<Kind> {
        self.tracks.iter().find(|(_, track)| *track == mid).map(|(kind, _)| *kind)
    }

    /// Sends a frame, if the other end can play its codec. Follow with [`Self::drain`].
    pub(super) fn write(&mut self, frame: &Frame) {
        let Some(&(_, mid)) = self.tracks.iter().find(|(kind, _)| *kind == frame.kind) else { return };
        self.rtc.run(|rtc| {
            let Some(writer) = rtc.writer(mid) else { return };
            let offered: Vec<_> = writer.payload_params().copied().collect();
            let Some(pt) = playable(&offered, writer.match_params(frame.params), frame.params) else { return };
            if let Err(error) = writer.write(pt, frame.sampled, frame.time, Arc::clone(&frame.data)) {
                tracing::debug!(%error, "a frame was not sent to a viewer");
            }
        });
    }

    /// Asks the publisher for a keyframe. Follow with [`Self::drain`].
    pub(super) fn ask_keyframe(&mut self) {
        let Some(&(_, mid)) = self.tracks.iter().find(|(kind, _)| *kind == Kind::Video) else { return };
        let asked = self.rtc.run(|rtc| {
            let mut writer = rtc.writer(mid)?;
            let kinds = [KeyframeRequestKind::Pli, KeyframeRequestKind::Fir];
            kinds.into_iter().find(|kind| writer.request_keyframe(None, *kind).is_ok())
        });
        if asked.flatten().is_none() {
            tracing::debug!("the publisher cannot be asked for a keyframe");
        }
    }

    /// Adds trickled candidates. Those that str0m cannot use (TCP, mDNS names) are skipped, as are those after very many.
    pub(super) fn trickle(&mut self, candidates: &[String]) {
        let room = TRICKLED_MAX.saturating_sub(self.trickled);
        self.trickled += candidates.len().min(room);
        self.rtc.run(|rtc| {
            for candidate in candidates.iter().take(room).filter_map(|text| Candidate::from_sdp_string(text).ok()) {
                rtc.add_remote_candidate(candidate);
            }
        });
    }

    /// The `a=ice-ufrag` the other end uses now.
    pub(super) fn is_ice_session(&self, ufrag: &str) -> bool {
        Fragment::of_description(&self.offer).ufrag.as_deref() == Some(ufrag)
    }

    /// Restarts ICE with the other end's new credentials; DTLS and media go on. Gives our fragment.
    ///
    /// # Errors
    /// As for [`Self::offered_again`].
    pub(super) fn restart_ice(&mut self, fragment: &Fragment) -> Result<String, OfferError> {
        let answer = self.offered_again(&sdp::restarted_offer(&self.offer, fragment))?;
        self.trickle(&fragment.candidates);
        Ok(Fragment::of_description(&answer).to_text(sdp::mids(&answer).next().unwrap_or("0")))
    }

    /// Like [`Self::restart_ice`], with a whole new offer. Gives the whole answer.
    ///
    /// # Errors
    /// The offer cannot be answered, or is not one for the same media: the session goes on as it was. [`OfferError::Failed`]:
    /// it is over.
    pub(super) fn offered_again(&mut self, offer: &str) -> Result<String, OfferError> {
        offer::check(offer)?;
        if !offer::is_same_media(&self.offer, offer) {
            return Err(OfferError::OtherMedia);
        }
        let answer = self.rtc.run(|rtc| answer_of(rtc, offer)).ok_or(OfferError::Failed)??;
        self.offer = offer.to_owned();
        self.ice_session += 1;
        self.trickled = 0;
        Ok(self.complete(&answer))
    }

    /// Says goodbye: RTCP BYE and DTLS close_notify.
    pub(super) fn close(&mut self, now: Instant, send: impl FnMut(SocketAddr, &[u8])) {
        if self.rtc.run(|rtc| rtc.close().is_ok()).unwrap_or(false) {
            self.drain(now, send);
        }
        self.rtc.discard();
    }
}

/// Makes a datagram of these bytes, if they are one that str0m knows.
fn input(at: Instant, source: SocketAddr, destination: SocketAddr, datagram: &[u8]) -> Option<Input<'_>> {
    let contents = DatagramRecv::try_from(datagram).ok()?;
    Some(Input::Receive(at, Receive { proto: Protocol::Udp, source, destination, contents }))
}

fn feed(rtc: &mut Rtc, input: Input<'_>) {
    if let Err(error) = rtc.handle_input(input) {
        failed(rtc, &error);
    }
}

fn failed(rtc: &mut Rtc, error: &RtcError) {
    tracing::info!(%error, "a WebRTC connection failed");
    rtc.disconnect();
}

/// Takes an offer. Errors in our own words: those of str0m quote its parser, and where in memory it was.
fn answer_of(rtc: &mut Rtc, offer: &str) -> Result<String, OfferError> {
    let parsed = SdpOffer::from_sdp_string(offer).map_err(|_| OfferError::NotUnderstood)?;
    // `RtcError` is str0m's, large, and grows.
    #[allow(clippy::wildcard_enum_match_arm, reason = "a foreign enum of which we need a few")]
    let answer = rtc.sdp_api().accept_offer(parsed).map_err(|error| match error {
        RtcError::Sdp(SdpError::ParseError(_)) => OfferError::NotUnderstood,
        RtcError::Sdp(SdpError::Inconsistent(_)) | RtcError::RemoteSdp(_) => OfferError::Contradiction,
        _ => OfferError::Unanswerable,
    })?;
    Ok(answer.to_sdp_string())
}

/// The tracks that go the right way, as negotiated.
fn tracks(rtc: &Rtc, offer: &str, role: Role) -> Vec<(Kind, Mid)> {
    let medias = sdp::mids(offer).filter_map(|mid| rtc.media(mid.into()));
    let wanted = medias.filter(|media| match role {
        Role::Publisher => media.direction().is_receiving(),
        Role::Viewer => media.direction().is_sending(),
    });
    let known = wanted.filter(|media| !media.remote_pts().is_empty());
    known.map(|media| (kind_of(media.kind()), media.mid())).collect()
}

fn config(certificate: DtlsCert) -> RtcConfig {
    Rtc::builder()
        .set_crypto_provider(Arc::new(str0m::crypto::from_feature_flags()))
        .set_dtls_cert(certificate)
        .clear_codecs()
        .enable_opus(true, false)
        .enable_h264(true)
        .enable_vp8(true)
        .enable_vp9(true)
        .set_rtcp_report_interval_audio(RTCP_EVERY)
        .set_rtcp_report_interval_video(RTCP_EVERY)
        .set_reordering_timeout_video(Some(VIDEO_REORDERING))
        .set_reordering_timeout_audio(Some(AUDIO_REORDERING))
}

/// The payload type to send a frame with: the exact match if the other end offered it, else any of the same codec and
/// packetization (browsers decode every H.264 profile that they offer any of).
fn playable(offered: &[PayloadParams], exact: Option<Pt>, frame: PayloadParams) -> Option<Pt> {
    let same_packets = |p: &&PayloadParams| {
        let (ours, theirs) = (p.spec(), frame.spec());
        ours.codec == theirs.codec
            && (ours.codec != Codec::H264 || ours.format.packetization_mode == theirs.format.packetization_mode)
    };
    exact
        .filter(|pt| offered.iter().any(|p| p.pt() == *pt))
        .or_else(|| offered.iter().find(same_packets).map(PayloadParams::pt))
}

/// RTP time of a datagram of media, and whether it is the last of its frame (RFC 3550, 5.1).
fn rtp_time(datagram: &[u8]) -> Option<(u32, bool)> {
    match datagram {
        // RTCP has a payload type of 64..=95 there (RFC 5761).
        [128..=191, kind, _, _, a, b, c, d, ..] if !(64..=95).contains(&(kind & 0x7F)) => {
            Some((u32::from_be_bytes([*a, *b, *c, *d]), kind & 0x80 != 0))
        }
        _ => None,
    }
}

const fn kind_of(kind: MediaKind) -> Kind {
    match kind {
        MediaKind::Audio => Kind::Audio,
        MediaKind::Video => Kind::Video,
    }
}

#[cfg(test)]
mod tests;
