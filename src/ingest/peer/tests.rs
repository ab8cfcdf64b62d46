//! One connection, without a socket: offers, ICE restarts, and what is put out after an outage.
#![allow(clippy::disallowed_methods, reason = "str0m wants some Instant to count from")]

use proptest::prelude::*;

use super::super::addresses::MediaAddress;
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

fn candidates() -> Candidates {
    MediaAddress { bound: SERVER.parse().unwrap(), public: vec![] }.candidates("127.0.0.1".parse().unwrap())
}

fn accept(offer: &str) -> Result<(Peer, String), OfferError> {
    let certificate = str0m::crypto::from_feature_flags().dtls_provider.generate_certificate().unwrap();
    Peer::accept(offer, Role::Publisher, candidates(), certificate, Instant::now())
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
const SERVER: &str = "127.0.0.1:5000";
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
    /// After so many datagrams of DTLS from the peer one is lost.
    lost_dtls: Option<usize>,
    frames: u32,
    /// What the peer has put out: when, whether it is a keyframe, whether nothing is missing before it.
    out: Vec<(Instant, bool, bool)>,
}

impl World {
    /// Before ICE. The offer is edited on its way.
    fn new(now: Instant, edit: impl FnOnce(String) -> String) -> Self {
        let crypto = Arc::new(str0m::crypto::from_feature_flags());
        let mut publisher = Rtc::builder().set_crypto_provider(crypto).clear_codecs().enable_h264(true).build(now);
        publisher.add_local_candidate(Candidate::host(PUBLISHER.parse().unwrap(), "udp").unwrap());
        let mut changes = publisher.sdp_api();
        changes.add_media(MediaKind::Video, str0m::media::Direction::SendOnly, None, None, None);
        let (offer, pending) = changes.apply().unwrap();
        let (peer, answer) = accept(&edit(offer.to_sdp_string())).unwrap();
        let answer = str0m::change::SdpAnswer::from_sdp_string(&answer).unwrap();
        publisher.sdp_api().accept_answer(pending, answer).unwrap();
        let (flying, out) = (vec![], vec![]);
        Self { now, publisher, peer, flying, dead: false, torn: 0, lost_dtls: None, frames: 0, out }
    }

    fn on_air() -> Self {
        let mut world = Self::new(Instant::now(), |offer| offer);
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
        let (publisher, peer): (SocketAddr, _) = (PUBLISHER.parse().unwrap(), SERVER.parse().unwrap());
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
        if !to_peer && matches!(datagram[0], 20..=63) {
            let lost = self.lost_dtls == Some(0);
            self.lost_dtls = self.lost_dtls.and_then(|left| left.checked_sub(1));
            if lost {
                return;
            }
        }
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

/// A handshake of which this datagram of DTLS, counted from 0, of those that the peer sends is lost. In real time: OpenSSL has
/// a clock of its own. Gives how long it took.
fn handshake(setup: &str, lost: usize) -> Duration {
    let began = Instant::now();
    let mut world = World::new(began, |offer| offer.replace("a=setup:actpass", &format!("a=setup:{setup}")));
    world.lost_dtls = Some(lost);
    while !(world.publisher.is_connected() && world.peer.unconnected_since.is_none()) {
        assert!(began.elapsed() < Duration::from_secs(8), "setup:{setup}, datagram {lost} lost: no end of it");
        world.pass(MS);
        // The other end of this test is str0m, which needs it as well.
        if world.publisher.is_alive() {
            let (source, destination) = (SERVER.parse().unwrap(), PUBLISHER.parse().unwrap());
            world.publisher.handle_input(input(world.now, source, destination, NUDGE).unwrap()).unwrap();
            world.carry();
        }
        std::thread::sleep(world.now.saturating_duration_since(Instant::now()));
    }
    // Of either role the first flight has so many at least.
    assert!(lost > 0 || world.lost_dtls.is_none(), "setup:{setup}: nothing was lost");
    began.elapsed()
}

#[test]
fn what_is_lost_of_a_handshake_is_sent_again() {
    let cases = ["passive", "active", "actpass"].into_iter().flat_map(|setup| (0..4).map(move |lost| (setup, lost)));
    let all: Vec<_> =
        cases.map(|(setup, lost)| (setup, lost, std::thread::spawn(move || handshake(setup, lost)))).collect();
    for (setup, lost, handshake) in all {
        let took = handshake.join().unwrap();
        assert!(took < Duration::from_secs(4), "setup:{setup}, datagram {lost} lost: {took:?}");
    }
}

/// Lines that an offer may have, in places where it should not have them.
const LINES: [&str; 12] = [
    "a=rtpmap:96 H264/90000",
    "a=rtpmap:96 VP8/90000",
    "a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96",
    "a=rtpmap:200 VP8/90000",
    "a=fmtp:96 apt=111;apt=96",
    "a=mid:video0",
    "a=recvonly",
    "a=sendrecv",
    "a=rid:a send\r\na=rid:b send\r\na=simulcast:send a;b",
    "a=ssrc:1 cname:x\r\na=ssrc:2 cname:x\r\na=ssrc-group:FID 1 2",
    "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:more\r\na=rtpmap:96 H264/90000",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\na=sctp-port:5000",
];

/// How many damaged offers: `ROAMCAST_OFFERS`, else a few.
fn offers() -> u32 {
    std::env::var("ROAMCAST_OFFERS").ok().and_then(|count| count.parse().ok()).unwrap_or(100)
}

type Damage = (usize, usize, String, usize);

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    proptest::collection::vec((0usize..40, 0usize..60, "\\PC{0,6}", 0usize..6), 0..5)
}

fn damaged(offer: &str, damage: Vec<Damage>) -> String {
    let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
    for (line, column, text, how) in damage {
        let line = line % lines.len();
        match how {
            0 if lines.len() > 1 => drop(lines.remove(line)),
            1 => lines.insert(line, lines[line].clone()),
            2 => lines.swap(line, column % (line + 1)),
            3 => lines.insert(line, LINES[column % LINES.len()].to_owned()),
            4 => lines.push(LINES[column % LINES.len()].to_owned()),
            _ => {
                let column = lines[line].floor_char_boundary(column);
                lines[line].insert_str(column, &text);
            }
        }
    }
    lines.join("\r\n") + "\r\n"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(offers()))]
    /// Whatever str0m makes of them, nothing gets past the answer. (What it panics on is told: the judge may learn it.)
    #[test]
    fn damaged_offers_are_answered_or_refused(first in damage(), again in damage(), watches: bool) {
        let offer = if watches { OFFER.replace("sendonly", "recvonly") } else { OFFER.to_owned() };
        let first = damaged(&offer, first);
        let again = damaged(&first, again);
        for outcome in super::super::rehearsal::offers(&first, &again) {
            prop_assert!(outcome.answered || !outcome.refused.is_empty());
            prop_assert!(outcome.refused.iter().all(|words| !words.contains("0x") && !words.contains(char::is_control)));
            if outcome.failed > 0 {
                println!("str0m panicked on\n{first}--\n{again}");
            }
        }
    }
}

/// Two sections more than a publisher has: a payload type that means one thing with parameters, and another without.
const ODD: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=setup:actpass\r\na=ice-ufrag:JILCQlprag\r\n\
    a=ice-pwd:9l2Yl4C84hmNZwS0dPRsfAatesG2jued\r\na=rtcp-mux\r\na=recvonly\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 x\r\n\
    a=mid:w\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=setup:actpass\r\na=ice-ufrag:JILCQlprag\r\n\
    a=ice-pwd:9l2Yl4C84hmNZwS0dPRsfAatesG2jued\r\na=rtcp-mux\r\na=recvonly\r\na=rtpmap:96 H264/90000\r\na=mid:x\r\n";

/// Offers on which str0m 0.24 panics.
fn offers_that_panic() -> Vec<String> {
    let line = "packetization-mode=1;profile-level-id=42c028;level-asymmetry-allowed=1";
    let odd =
        OFFER.replace("BUNDLE video0 audio1", "BUNDLE video0 audio1 w x") + &ODD.replace("96 x", &format!("96 {line}"));
    let both = OFFER.replace("sendonly", "recvonly").replace("OPUS/48000/2", "OPUS/48000/2\r\na=rtpmap:96 H264/90000");
    let wide =
        OFFER.replace("sendonly", "recvonly").replace("96 H264/90000", "200 H264/90000").replace("fmtp:96", "fmtp:200");
    vec![odd, both, wide]
}

#[test]
fn offers_that_str0m_panics_on_are_refused_before_it_sees_them() {
    for offer in offers_that_panic() {
        let refused = accept(&offer).map(drop).unwrap_err();
        assert!(matches!(refused, OfferError::Unfit(_)), "{refused}: {offer}");
        let (mut peer, _) = accept(OFFER).unwrap();
        assert!(matches!(peer.offered_again(&offer), Err(OfferError::Unfit(_))), "{offer}");
        assert!(
            peer.restart_ice(&Fragment::parse("a=ice-ufrag:newnew\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n").unwrap())
                .is_ok()
        );
    }
}

/// Should the judge let one pass.
#[test]
fn a_panic_of_str0m_is_an_answer_and_costs_one_connection() {
    let certificate = str0m::crypto::from_feature_flags().dtls_provider.generate_certificate().unwrap();
    let mut panicked = 0;
    for offer in offers_that_panic() {
        let answered = Peer::answer(&offer, Role::Viewer, candidates(), certificate.clone(), Instant::now());
        panicked += usize::from(matches!(answered, Err(OfferError::Failed)));
    }
    assert!(panicked > 0, "str0m has learned: what does it panic on now?");

    let (mut peer, _) = accept(OFFER).unwrap();
    let now = Instant::now();
    assert!(peer.rtc.run(|_| -> u8 { panic!("a fault of str0m") }).is_none());
    assert!(peer.deadline() <= now, "it is due at once");
    peer.tick(now);
    peer.receive(now, PUBLISHER.parse().unwrap(), &[0; 20]);
    assert!(!peer.accepts(now, PUBLISHER.parse().unwrap(), &[0; 20]));
    peer.trickle(&["candidate:1 1 UDP 1 192.0.2.1 9 typ host".to_owned()]);
    peer.ask_keyframe();
    assert_eq!(peer.offered_again(OFFER), Err(OfferError::Failed));
    let events = peer.drain(now, |_, _| {});
    assert!(matches!(events.as_slice(), [PeerEvent::Closed]));
    peer.close(now, |_, _| {});
}

#[test]
fn candidates_without_end_are_not_all_taken() {
    let (mut peer, _) = accept(OFFER).unwrap();
    for _ in 0..10 {
        let some: Vec<_> = (1..100).map(|port| format!("candidate:1 1 UDP 1 192.0.2.1 {port} typ host")).collect();
        peer.trickle(&some);
    }
    assert_eq!(peer.trickled, TRICKLED_MAX);
}
