//! One publisher's or viewer's WebRTC connection: str0m's sans-IO `Rtc` and what we need of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::change::SdpOffer;
use str0m::config::DtlsCert;
use str0m::format::{Codec, PayloadParams};
use str0m::media::{KeyframeRequestKind, MediaData, MediaKind, MediaTime, Mid, Pt};
use str0m::net::{DatagramRecv, Protocol, Receive};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig};

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
    #[error("the body is not an SDP offer: {0}")]
    NotSdp(String),
    #[error("the offer cannot be answered: {0}")]
    Unanswerable(String),
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

/// One connection.
pub(super) struct Peer {
    rtc: Rtc,
    /// The offer, to be made again at an ICE restart.
    offer: String,
    /// Our address as the other end knows it.
    local: SocketAddr,
    tracks: Vec<(Kind, Mid)>,
    /// When str0m wants to be woken.
    pub(super) deadline: Instant,
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
        local: SocketAddr,
        certificate: DtlsCert,
        now: Instant,
    ) -> Result<(Self, String), OfferError> {
        let parsed = SdpOffer::from_sdp_string(offer).map_err(|error| OfferError::NotSdp(in_one_line(&error)))?;
        let mut rtc = config(certificate).build(now);
        let candidate = Candidate::host(local, "udp").map_err(|error| OfferError::Unanswerable(in_one_line(&error)))?;
        rtc.add_local_candidate(candidate);
        let answer =
            rtc.sdp_api().accept_offer(parsed).map_err(|error| OfferError::Unanswerable(in_one_line(&error)))?;
        let mut peer = Self {
            rtc,
            offer: offer.to_owned(),
            local,
            tracks: vec![],
            deadline: now,
            outage: Outage::new(VIDEO_REORDERING),
            ahead: Duration::ZERO,
            unconnected_since: Some(now),
            ice_session: 1,
            tally: Tally::default(),
        };
        peer.find_tracks(role)?;
        Ok((peer, sdp::in_one_stream(&answer.to_sdp_string())))
    }

    /// The tracks that go the right way, as negotiated.
    fn find_tracks(&mut self, role: Role) -> Result<(), OfferError> {
        let medias = sdp::mids(&self.offer).filter_map(|mid| self.rtc.media(mid.into()));
        let wanted = medias.filter(|media| match role {
            Role::Publisher => media.direction().is_receiving(),
            Role::Viewer => media.direction().is_sending(),
        });
        let known = wanted.filter(|media| !media.remote_pts().is_empty());
        self.tracks = known.map(|media| (kind_of(media.kind()), media.mid())).collect();
        match (role, self.tracks.is_empty()) {
            (_, false) => Ok(()),
            (Role::Publisher, true) => Err(OfferError::NothingToReceive),
            (Role::Viewer, true) => Err(OfferError::NothingToSend),
        }
    }

    /// Is this datagram for us?
    pub(super) fn accepts(&self, now: Instant, source: SocketAddr, datagram: &[u8]) -> bool {
        self.input(now, source, datagram).is_some_and(|input| self.rtc.accepts(&input))
    }

    /// Takes a datagram in. Follow with [`Self::drain`].
    pub(super) fn receive(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        if let Some(input) = self.input(now, source, datagram) {
            self.feed(input);
            self.note_picture(now, datagram);
        }
    }

    /// Follows the picture through an outage. What str0m takes for its newest packet is genuine; whether it ends a frame is
    /// read from the datagram itself: SRTP leaves the header in clear.
    fn note_picture(&mut self, now: Instant, datagram: &[u8]) {
        let Some((ticks, ends_frame)) = rtp_time(datagram) else { return };
        let Some(&(_, mid)) = self.tracks.iter().find(|(kind, _)| *kind == Kind::Video) else { return };
        let mut api = self.rtc.direct_api();
        let newest = api.stream_rx_by_mid(mid, None).and_then(|stream| stream.last_time()).map(|time| time.numer());
        // RTP time on the wire has 32 bits.
        if let Some(newest) = newest.filter(|newest| *newest as u32 == ticks) {
            self.outage.packet(now, newest, ends_frame);
        }
    }

    /// Has str0m put out what it holds back behind a hole that nothing will fill any more. There is no word for it in its
    /// interface but time: for str0m this process has slept for as long as a hole is waited for.
    fn skip_wait(&mut self, now: Instant) {
        self.ahead += VIDEO_REORDERING;
        self.feed(Input::Timeout(now + self.ahead));
    }

    fn input<'a>(&self, now: Instant, source: SocketAddr, datagram: &'a [u8]) -> Option<Input<'a>> {
        let contents = DatagramRecv::try_from(datagram).ok()?;
        let receive = Receive { proto: Protocol::Udp, source, destination: self.local, contents };
        Some(Input::Receive(now + self.ahead, receive))
    }

    /// Lets time pass. Follow with [`Self::drain`].
    pub(super) fn tick(&mut self, now: Instant) {
        self.feed(Input::Timeout(now + self.ahead));
    }

    fn feed(&mut self, input: Input) {
        if let Err(error) = self.rtc.handle_input(input) {
            tracing::info!(%error, "a WebRTC connection failed");
            self.rtc.disconnect();
        }
    }

    /// Sends what is to be sent and gives what happened, until str0m has nothing more to say before `deadline`.
    pub(super) fn drain(&mut self, now: Instant, mut send: impl FnMut(SocketAddr, &[u8])) -> Vec<PeerEvent> {
        let mut events = vec![];
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Transmit(transmit)) => send(transmit.destination, &transmit.contents),
                Ok(Output::Event(event)) => events.extend(self.understand(event, now)),
                Ok(Output::Timeout(_)) if self.outage.take_due() => self.skip_wait(now),
                Ok(Output::Timeout(at)) => {
                    self.deadline = at - self.ahead;
                    break;
                }
                Err(error) => {
                    tracing::info!(%error, "a WebRTC connection failed");
                    self.rtc.disconnect();
                    break;
                }
            }
        }
        if !self.rtc.is_alive() {
            events.push(PeerEvent::Closed);
        }
        events
    }

    fn understand(&mut self, event: Event, now: Instant) -> Option<PeerEvent> {
        // `Event` is str0m's, large, and grows.
        #[allow(clippy::wildcard_enum_match_arm, reason = "a foreign enum of which we need a few")]
        match event {
            Event::Connected => {
                self.unconnected_since = None;
                Some(PeerEvent::Connected)
            }
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                self.unconnected_since.get_or_insert(now);
                Some(PeerEvent::Disconnected)
            }
            Event::IceConnectionStateChange(state) if state.is_connected() && self.rtc.is_connected() => {
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
        let Some(writer) = self.rtc.writer(mid) else { return };
        let offered: Vec<_> = writer.payload_params().copied().collect();
        let Some(pt) = playable(&offered, writer.match_params(frame.params), frame.params) else { return };
        if let Err(error) = writer.write(pt, frame.sampled, frame.time, Arc::clone(&frame.data)) {
            tracing::debug!(%error, "a frame was not sent to a viewer");
        }
    }

    /// Asks the publisher for a keyframe. Follow with [`Self::drain`].
    pub(super) fn ask_keyframe(&mut self) {
        let Some(&(_, mid)) = self.tracks.iter().find(|(kind, _)| *kind == Kind::Video) else { return };
        let Some(mut writer) = self.rtc.writer(mid) else { return };
        for kind in [KeyframeRequestKind::Pli, KeyframeRequestKind::Fir] {
            if writer.request_keyframe(None, kind).is_ok() {
                return;
            }
        }
        tracing::debug!("the publisher cannot be asked for a keyframe");
    }

    /// Adds trickled candidates. Those that str0m cannot use (TCP, mDNS names) are skipped.
    pub(super) fn trickle(&mut self, candidates: &[String]) {
        for candidate in candidates.iter().filter_map(|text| Candidate::from_sdp_string(text).ok()) {
            self.rtc.add_remote_candidate(candidate);
        }
    }

    /// The `a=ice-ufrag` the other end uses now.
    pub(super) fn is_ice_session(&self, ufrag: &str) -> bool {
        Fragment::of_description(&self.offer).ufrag.as_deref() == Some(ufrag)
    }

    /// Restarts ICE with the other end's new credentials; DTLS and media go on. Gives our fragment.
    ///
    /// # Errors
    /// [`OfferError::Unanswerable`]; the session goes on as it was.
    pub(super) fn restart_ice(&mut self, fragment: &Fragment) -> Result<String, OfferError> {
        let answer = self.offered_again(&sdp::restarted_offer(&self.offer, fragment))?;
        self.trickle(&fragment.candidates);
        Ok(Fragment::of_description(&answer).to_text(sdp::mids(&answer).next().unwrap_or("0")))
    }

    /// Like [`Self::restart_ice`], with a whole new offer. Gives the whole answer.
    ///
    /// # Errors
    /// The offer cannot be answered, or is not one for the same media; the session goes on as it was.
    pub(super) fn offered_again(&mut self, offer: &str) -> Result<String, OfferError> {
        if !sdp::mids(offer).eq(sdp::mids(&self.offer)) {
            return Err(OfferError::OtherMedia);
        }
        let parsed = SdpOffer::from_sdp_string(offer).map_err(|error| OfferError::NotSdp(in_one_line(&error)))?;
        let answer =
            self.rtc.sdp_api().accept_offer(parsed).map_err(|error| OfferError::Unanswerable(in_one_line(&error)))?;
        self.offer = offer.to_owned();
        self.ice_session += 1;
        Ok(sdp::in_one_stream(&answer.to_sdp_string()))
    }

    /// Says goodbye: RTCP BYE and DTLS close_notify.
    pub(super) fn close(&mut self, now: Instant, send: impl FnMut(SocketAddr, &[u8])) {
        if self.rtc.close().is_ok() {
            self.drain(now, send);
        }
        self.rtc.disconnect();
    }
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

/// A foreign error as the end of one sentence.
fn in_one_line(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(200).collect()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "str0m wants some Instant to count from")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As webrtcbin makes it, without what we do not read.
    const OFFER: &str = "v=0\r\no=- 4643 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE video0 audio1\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=setup:actpass\r\na=ice-ufrag:JILCQlprag\r\n\
        a=ice-pwd:9l2Yl4C84hmNZwS0dPRsfAatesG2jued\r\na=rtcp-mux\r\na=sendonly\r\na=rtpmap:96 H264/90000\r\n\
        a=rtcp-fb:96 nack pli\r\na=fmtp:96 packetization-mode=1;profile-level-id=42c028;level-asymmetry-allowed=1\r\n\
        a=ssrc:2013041271 msid:user3726676225 webrtctransceiver0\r\na=ssrc:2013041271 cname:user3726676225\r\n\
        a=mid:video0\r\na=fingerprint:sha-256 96:8F:02:3B:FF:C3:71:4D:2F:59:5F:5A:56:0D:DB:45:C8:63:51:ED:A0:D9:42:39:\
        BC:4D:D3:B6:E6:9E:B8:C2\r\na=candidate:1 1 UDP 2015363327 192.0.2.2 44151 typ host\r\n\
        m=audio 0 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=setup:actpass\r\na=ice-ufrag:JILCQlprag\r\n\
        a=ice-pwd:9l2Yl4C84hmNZwS0dPRsfAatesG2jued\r\na=bundle-only\r\na=rtcp-mux\r\na=sendonly\r\n\
        a=rtpmap:111 OPUS/48000/2\r\na=ssrc:569700414 cname:user3726676225\r\na=mid:audio1\r\n";

    fn accept(offer: &str) -> Result<(Peer, String), OfferError> {
        let certificate = str0m::crypto::from_feature_flags().dtls_provider.generate_certificate().unwrap();
        Peer::accept(offer, Role::Publisher, "127.0.0.1:5000".parse().unwrap(), certificate, Instant::now())
    }

    #[test]
    fn an_offer_is_answered_with_its_tracks() {
        let (peer, answer) = accept(OFFER).unwrap();
        assert_eq!(peer.tracks, [(Kind::Video, "video0".into()), (Kind::Audio, "audio1".into())]);
        assert!(answer.contains("a=recvonly") && answer.contains("127.0.0.1 5000 typ host"), "{answer}");
    }

    #[test]
    fn an_ice_restart_answers_with_new_credentials_and_the_same_candidate() {
        let (mut peer, answer) = accept(OFFER).unwrap();
        let text = "a=ice-ufrag:newnew\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n";
        let ours = peer.restart_ice(&Fragment::parse(text).unwrap()).unwrap();
        let (before, after) = (Fragment::of_description(&answer), Fragment::parse(&ours).unwrap());
        assert_ne!(before.ufrag, after.ufrag);
        assert!(after.candidates.iter().any(|candidate| candidate.contains("127.0.0.1 5000 typ host")), "{ours}");
        assert!(peer.is_ice_session("newnew"));
    }

    const MS: Duration = Duration::from_millis(1);
    const PUBLISHER: &str = "127.0.0.1:4000";
    /// Each way.
    const DELAY: Duration = Duration::from_millis(25);
    const FRAME: Duration = Duration::from_millis(33);

    /// A publisher that str0m plays, 30 frames of three packets a second, and a network between it and the peer.
    struct World {
        now: Instant,
        publisher: Rtc,
        peer: Peer,
        /// On their way: when they arrive, to the peer or from it.
        flying: Vec<(Instant, bool, Vec<u8>)>,
        dead: bool,
        /// So many packets of media are lost next.
        torn: usize,
        frames: u32,
        /// What the peer has put out: when, whether it is a keyframe, whether nothing is missing before it.
        out: Vec<(Instant, bool, bool)>,
    }

    impl World {
        fn on_air() -> Self {
            let now = Instant::now();
            let crypto = Arc::new(str0m::crypto::from_feature_flags());
            let mut publisher = Rtc::builder().set_crypto_provider(crypto).clear_codecs().enable_h264(true).build(now);
            publisher.add_local_candidate(Candidate::host(PUBLISHER.parse().unwrap(), "udp").unwrap());
            let mut changes = publisher.sdp_api();
            changes.add_media(MediaKind::Video, str0m::media::Direction::SendOnly, None, None, None);
            let (offer, pending) = changes.apply().unwrap();
            let (peer, answer) = accept(&offer.to_sdp_string()).unwrap();
            let answer = str0m::change::SdpAnswer::from_sdp_string(&answer).unwrap();
            publisher.sdp_api().accept_answer(pending, answer).unwrap();
            let mut world = Self { now, publisher, peer, flying: vec![], dead: false, torn: 0, frames: 0, out: vec![] };
            while !world.publisher.is_connected() {
                world.pass(MS);
            }
            world.write(true);
            for _ in 0..60 {
                world.pass(FRAME);
                world.write(false);
            }
            assert!(world.out.len() >= 55 && world.out.iter().all(|(_, _, contiguous)| *contiguous), "{:?}", world.out);
            world
        }

        fn write(&mut self, keyframe: bool) {
            let mut data = vec![0xAA; 3000];
            data[..5].copy_from_slice(&[0, 0, 0, 1, if keyframe { 0x65 } else { 0x41 }]);
            let mid = self.peer.tracks[0].1;
            let writer = self.publisher.writer(mid).unwrap();
            let pt = writer.payload_params().next().unwrap().pt();
            self.frames += 1;
            let time = MediaTime::from_90khz(u64::from(self.frames) * 2970);
            writer.write(pt, self.now, time, data).unwrap();
            self.carry();
        }

        fn pass(&mut self, time: Duration) {
            let until = self.now + time;
            while self.now < until {
                self.now += MS;
                self.publisher.handle_input(Input::Timeout(self.now)).unwrap();
                self.peer.tick(self.now);
                self.carry();
            }
        }

        fn carry(&mut self) {
            let (publisher, peer): (SocketAddr, _) = (PUBLISHER.parse().unwrap(), self.peer.local);
            let (due, flying) = std::mem::take(&mut self.flying).into_iter().partition(|(at, ..)| *at <= self.now);
            self.flying = flying;
            for (_, to_peer, datagram) in due {
                if to_peer {
                    self.peer.receive(self.now, publisher, &datagram);
                    self.listen();
                } else {
                    let contents = datagram.as_slice().try_into().unwrap();
                    let receive = Receive { proto: Protocol::Udp, source: peer, destination: publisher, contents };
                    self.publisher.handle_input(Input::Receive(self.now, receive)).unwrap();
                }
            }
            self.listen();
            while let Ok(output) = self.publisher.poll_output() {
                match output {
                    Output::Transmit(transmit) => self.fly(true, transmit.contents.to_vec()),
                    Output::Event(_) => {}
                    Output::Timeout(_) => break,
                }
            }
        }

        fn listen(&mut self) {
            let mut sent = vec![];
            let events = self.peer.drain(self.now, |_, datagram| sent.push(datagram.to_vec()));
            sent.into_iter().for_each(|datagram| self.fly(false, datagram));
            for event in events {
                if let PeerEvent::Media(data) = event {
                    self.out.push((self.now, data.is_keyframe(), data.contiguous));
                }
            }
        }

        fn fly(&mut self, to_peer: bool, datagram: Vec<u8>) {
            if to_peer && self.torn > 0 && rtp_time(&datagram).is_some() {
                self.torn -= 1;
            } else if !self.dead {
                self.flying.push((self.now + DELAY, to_peer, datagram));
            }
        }

        /// Nothing passes for so many frames; then so many packets of the next frame are lost, too.
        fn outage(&mut self, frames: u32, torn: usize) {
            self.dead = true;
            for _ in 0..frames {
                self.write(false);
                self.pass(FRAME);
            }
            self.dead = false;
            self.torn = torn;
            self.write(false);
        }
    }

    /// Without a word for it, str0m would hold the keyframe back for half a second: the outage ends in the middle of a frame.
    #[test]
    fn after_an_outage_a_keyframe_is_put_out_as_soon_as_it_is_there() {
        for torn in [0, 1, 2] {
            let mut world = World::on_air();
            world.outage(90, torn);
            world.pass(FRAME);
            world.out.clear();
            world.write(true);
            let sent = world.now;
            world.pass(FRAME);
            world.write(false);
            world.pass(FRAME * 20);
            let keyframe = world.out.iter().find(|(_, keyframe, _)| *keyframe).expect("it comes");
            assert!(keyframe.0 - sent <= DELAY + MS, "{torn} packets torn off: {:?} late", keyframe.0 - sent);
            let skips = u32::from(torn > 0) + 1;
            assert_eq!(world.peer.ahead, VIDEO_REORDERING * skips, "what comes after it is waited for again");
        }
    }

    #[test]
    fn a_short_loss_is_filled_before_the_next_frame_is_put_out() {
        let mut world = World::on_air();
        world.out.clear();
        world.outage(5, 1);
        for _ in 0..20 {
            world.pass(FRAME);
            world.write(false);
        }
        assert!(world.out.len() >= 20 && world.out.iter().all(|(_, _, contiguous)| *contiguous), "{:?}", world.out);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn damaged_offers_are_answered_or_refused(
            damage in proptest::collection::vec((0usize..40, 0usize..60, "\\PC{0,6}", 0usize..4), 1..4)
        ) {
            let mut lines: Vec<String> = OFFER.lines().map(str::to_owned).collect();
            for (line, column, text, how) in damage {
                let line = line % lines.len();
                match how {
                    0 => drop(lines.remove(line)),
                    1 => lines.insert(line, lines[line].clone()),
                    2 => lines.swap(line, column % (line + 1)),
                    _ => {
                        let column = lines[line].floor_char_boundary(column);
                        lines[line].insert_str(column, &text);
                    }
                }
            }
            if let Ok((mut peer, _)) = accept(&(lines.join("\r\n") + "\r\n")) {
                let text = "a=ice-ufrag:newnew\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n";
                let _ = peer.restart_ice(&Fragment::parse(text).unwrap());
            }
        }
    }
}
