//! The only file that names webrtcbin: one pipeline of its own, one peer connection, one life.
//!
//! Callbacks run on threads of GStreamer; each only sends a [`PeerEvent`] (law 8).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gst::prelude::*;
use gst_webrtc::{
    WebRTCICEConnectionState, WebRTCICEGatheringState, WebRTCPeerConnectionState, WebRTCRTPTransceiver,
    WebRTCRTPTransceiverDirection, WebRTCSDPType, WebRTCSessionDescription,
};
use tokio::sync::{mpsc, oneshot};

use crate::config::Uplink;
use crate::config::units::IceServer;
use crate::media::tracks::{SharedClock, Track, shut_down};
use crate::status::ErrorCode;
use crate::status::path::PathStats;
use crate::supervisor::event::{Failure, Phase, Retry};

use super::certificate::Certificate;
use super::offered::Offered;
use super::outlet::Outlet;
use super::stats::{self, Reading};
use crate::ice::types::Told;
use crate::ice::{self, Roaming, Servers};
use crate::rtp::rtcp::{self, Feedback};
use crate::sdp::{self, Answer, Candidate};
use crate::signal::Accepted;

/// What a peer connection reports.
#[derive(Debug)]
pub(crate) enum PeerEvent {
    /// A local candidate was found.
    Candidate {
        /// Number of its m-line.
        mline: u32,
        /// The attribute without `a=`.
        candidate: String,
    },
    /// There will be no more local candidates.
    GatheringComplete,
    /// State of ICE.
    Ice(WebRTCICEConnectionState),
    /// State of the whole, DTLS included.
    Connection(WebRTCPeerConnectionState),
    /// Media goes another way, or has been lost on it.
    Path(Told),
    /// RTCP came from the far end.
    Feedback(Feedback),
    /// The far end has closed DTLS, by a close_notify or an alert.
    HungUp,
    /// The pipeline broke.
    Broken(String),
}

/// One webrtcbin with its tracks.
pub(crate) struct Peer {
    pipeline: gst::Pipeline,
    webrtcbin: gst::Element,
    outlets: Vec<Outlet>,
    /// `None`: webrtcbin's own agent.
    roaming: Option<Roaming>,
    fingerprint: Option<String>,
    /// `rtpsession`, which counts; once the outlets are open.
    rtp_session: Option<gst::Element>,
    events: mpsc::UnboundedSender<PeerEvent>,
}

impl Peer {
    /// Builds the pipeline and brings it to PLAYING; nothing is sent yet. Blocks for some milliseconds (the first one in
    /// a process longer, it loads plugins): call it on a blocking thread.
    pub(crate) fn new(
        tracks: &[Arc<Track>],
        uplink: &Uplink,
        offered: &Offered,
        clock: &SharedClock,
        certificate: Option<&Certificate>,
        roaming: Option<Roaming>,
        events: &mpsc::UnboundedSender<PeerEvent>,
    ) -> Result<Self, Failure> {
        let pipeline = gst::Pipeline::new();
        let webrtcbin = webrtcbin(uplink, roaming.as_ref())?;
        pipeline.add(&webrtcbin).map_err(|error| internal(&error))?;
        clock.govern(&pipeline);
        if let Some(certificate) = certificate {
            certificate.install(&webrtcbin);
        }
        let mut peer = Self {
            pipeline,
            webrtcbin,
            outlets: Vec::new(),
            roaming,
            fingerprint: certificate.map(|certificate| certificate.fingerprint().to_owned()),
            rtp_session: None,
            events: events.clone(),
        };
        if peer.roaming.is_none() {
            peer.watch_paths();
            peer.stay_on_loopback(&uplink.url);
        }
        peer.hide_host_name();
        peer.listen(events);
        for track in tracks {
            let outlet = Outlet::new(track, offered, fastrand::u32(1..)).map_err(|error| internal(&error))?;
            peer.attach(&outlet)?;
            peer.outlets.push(outlet);
        }
        peer.pipeline.set_state(gst::State::Playing).map_err(|error| internal(&error))?;
        Ok(peer)
    }

    /// The SSRCs of our streams; the first, video or else sound, is the one without which there is no broadcast.
    pub(crate) fn ssrcs(&self) -> Vec<u32> {
        self.outlets.iter().map(|outlet| outlet.ssrc).collect()
    }

    /// Creates the offer. It carries no candidates yet; gathering starts with [`Peer::gather`].
    pub(crate) async fn offer(&self) -> Result<String, Failure> {
        let (send, receive) = oneshot::channel();
        let promise = gst::Promise::with_change_func(move |reply| {
            let offer = reply.ok().flatten().and_then(|s| s.get::<WebRTCSessionDescription>("offer").ok());
            let _receiver_gone = send.send(offer);
        });
        self.webrtcbin.emit_by_name::<()>("create-offer", &[&None::<gst::Structure>, &promise]);
        let offer = receive.await.ok().flatten().ok_or_else(|| internal(&"webrtcbin made no offer"))?;
        let text = offer.sdp().as_text().map_err(|error| internal(&error))?;
        let text = sdp::without_bundle_only(&text);
        Ok(match &self.fingerprint {
            Some(fingerprint) => sdp::rewrite_fingerprint(&text, fingerprint),
            None => text,
        })
    }

    /// An offer with new ICE credentials and all else as before; nothing happens until it is the local description.
    /// (webrtcbin 1.22 repeats the old ones, but takes others, and its agent restarts with them.)
    pub(crate) async fn restart_offer(&self) -> Result<String, Failure> {
        let offer = self.offer().await?;
        let word = |len: usize| std::iter::repeat_with(fastrand::alphanumeric).take(len).collect::<String>();
        // RFC 8839, section 5.4, wants 4 and 22 of them at least.
        Ok(sdp::with_credentials(&offer, &word(8), &word(24)))
    }

    /// Takes the offer as the local description with these STUN and TURN servers: gathering begins.
    /// `configured`: those of the config; the others are named by the server that has answered.
    pub(crate) async fn gather(
        &self,
        offer: &str,
        configured: &[IceServer],
        accepted: &Accepted,
    ) -> Result<(), Failure> {
        match &self.roaming {
            // Not through webrtcbin, which logs them.
            Some(_) => self.servers(configured, &accepted.ice_servers, accepted.near),
            None => configured.iter().chain(&accepted.ice_servers).for_each(|server| self.add_ice_server(server)),
        }
        self.take_offer(offer).await
    }

    /// From now on these STUN and TURN servers are used; `named` as in [`Accepted`]. webrtcbin's own agent keeps the first.
    pub(crate) fn servers(&self, configured: &[IceServer], named: &[IceServer], near: bool) {
        if let Some(roaming) = &self.roaming {
            roaming.servers(Servers::new(configured, named, near));
        }
    }

    /// Takes the offer as the local description; new credentials in it restart ICE.
    pub(crate) async fn take_offer(&self, offer: &str) -> Result<(), Failure> {
        self.describe("set-local-description", WebRTCSDPType::Offer, offer).await
    }

    /// Why no relay is to be had, if that is so: one sentence.
    pub(crate) fn relay_trouble(&self) -> Option<String> {
        self.roaming.as_ref().and_then(Roaming::relay_trouble)
    }

    /// Takes the checked answer: ICE and DTLS begin.
    pub(crate) async fn answer(&self, answer: &str) -> Result<(), Failure> {
        // webrtcbin's own agent takes its credentials from it.
        let answer = if self.roaming.is_some() { ice::disguised(answer) } else { answer.into() };
        self.describe("set-remote-description", WebRTCSDPType::Answer, &answer).await
    }

    /// Is there any way to the server? See [`Answer::check_reach`]. webrtcbin's own agent can be found by the server, and
    /// speaks TCP.
    pub(crate) fn check_reach(&self, answer: &Answer, no_more: bool) -> Result<(), Failure> {
        self.roaming.as_ref().map_or(Ok(()), |roaming| answer.check_reach(roaming.is_local(), no_more))
    }

    /// A candidate of the server that was not in its answer.
    pub(crate) fn add_candidate(&self, mline: u32, candidate: &str) {
        if let Ok(candidate) = Candidate::parse(candidate) {
            self.webrtcbin.emit_by_name::<()>("add-ice-candidate", &[&mline, &candidate.to_string()]);
        }
    }

    /// ICE and DTLS are up: lets media through, a keyframe first, and listens to what comes back.
    pub(crate) fn open_outlets(&mut self) {
        self.listen_to_rtcp();
        // The latency of what has been linked meanwhile: without it sender reports were seen to run at double speed.
        self.pipeline.call_async(|pipeline| {
            let _not_live = pipeline.recalculate_latency();
        });
        self.outlets.iter_mut().for_each(Outlet::open);
    }

    /// The far end wants a keyframe. (webrtcbin turns PLI into an event at the payloader, where it would be lost: the
    /// encoder lives in another pipeline.)
    pub(crate) fn request_keyframe(&self) {
        self.outlets.iter().for_each(Outlet::request_keyframe);
    }

    /// Every path of the roaming agent in figures.
    pub(crate) fn paths(&self) -> Vec<PathStats> {
        self.roaming.as_ref().map(Roaming::paths).unwrap_or_default()
    }

    /// What has been sent since the outlets were opened, what the far end says of it, and the path it takes.
    pub(crate) async fn reading(&self) -> Reading {
        let figures = self.rtp_session.as_ref().map(|session| session.property::<gst::Structure>("stats"));
        let reading = figures.map(|figures| stats::read(&figures, &self.ssrcs())).unwrap_or_default();
        let path = match &self.roaming {
            Some(roaming) => roaming.local_address(),
            None => self.path_of_libnice().await,
        };
        Reading { path, ..reading }
    }

    /// Nobody but webrtcbin tells it. What the names of its statistics cost: see `stats.rs`.
    async fn path_of_libnice(&self) -> Option<String> {
        let (send, receive) = oneshot::channel();
        let promise = gst::Promise::with_change_func(move |reply| {
            let _receiver_gone = send.send(reply.ok().flatten().and_then(stats::path));
        });
        self.webrtcbin.emit_by_name::<()>("get-stats", &[&None::<gst::Pad>, &promise]);
        receive.await.ok().flatten()
    }

    /// What became of each track.
    #[cfg(test)]
    pub(crate) fn agreed_directions(&self) -> Vec<WebRTCRTPTransceiverDirection> {
        let transceiver =
            |at: i32| self.webrtcbin.emit_by_name::<Option<WebRTCRTPTransceiver>>("get-transceiver", &[&at]);
        (0..).map_while(transceiver).map(|one| one.property("current-direction")).collect()
    }

    fn attach(&self, outlet: &Outlet) -> Result<(), Failure> {
        self.pipeline.add(&outlet.bin).map_err(|error| internal(&error))?;
        let sink = self.webrtcbin.request_pad_simple("sink_%u").ok_or_else(|| internal(&"no sink pad"))?;
        let transceiver = sink.property::<WebRTCRTPTransceiver>("transceiver");
        transceiver.set_property("direction", WebRTCRTPTransceiverDirection::Sendonly);
        transceiver.set_property("codec-preferences", &outlet.caps);
        if outlet.kind() == crate::media::tracks::TrackKind::Video {
            transceiver.set_property("do-nack", true);
        }
        let source = outlet.bin.static_pad("src").ok_or_else(|| internal(&"no src pad"))?;
        source.link(&sink).map_err(|error| internal(&error))?;
        Ok(())
    }

    fn add_ice_server(&self, server: &IceServer) {
        for url in super::ice_server::for_webrtcbin(server) {
            match url {
                super::ice_server::ServerUrl::Stun(url) => self.webrtcbin.set_property("stun-server", url),
                super::ice_server::ServerUrl::Turn(url) => {
                    let _taken: bool = self.webrtcbin.emit_by_name("add-turn-server", &[&url]);
                }
            }
        }
    }

    /// A random CNAME (RFC 7022): rtpbin's own would tell the world the name of user and host.
    fn hide_host_name(&self) {
        if let Some(rtpbin) = self.rtpbin() {
            let sdes = gst::Structure::builder("application/x-rtp-source-sdes")
                .field("cname", format!("{:016x}", fastrand::u64(..)))
                .build();
            rtpbin.set_property("sdes", sdes);
        }
    }

    fn rtpbin(&self) -> Option<gst::Element> {
        self.webrtcbin.dynamic_cast_ref::<gst::Bin>().and_then(|bin| bin.by_name("rtpbin"))
    }

    /// A server on this very machine is reached over loopback alone: libnice leaves that out when it gathers, and pins
    /// each socket to the interface that owns its address, so nothing else gets there.
    fn stay_on_loopback(&self, url: &url::Url) {
        let addresses: &[&str] = match url.host() {
            Some(url::Host::Ipv4(ip)) if ip.is_loopback() => &["127.0.0.1"],
            Some(url::Host::Ipv6(ip)) if ip.is_loopback() => &["::1"],
            Some(url::Host::Domain("localhost")) => &["127.0.0.1", "::1"],
            Some(url::Host::Ipv4(_) | url::Host::Ipv6(_) | url::Host::Domain(_)) | None => return,
        };
        let Some(ice) = self.webrtcbin.property::<Option<glib::Object>>("ice-agent") else { return };
        for address in addresses {
            let _taken: bool = ice.emit_by_name("add-local-ip-address", &[address]);
        }
    }

    /// libnice 0.1.21 as webrtcbin 1.22 uses it never notices a dead path (145 s of silence: no state change). With
    /// connectivity checks as keepalives it reports `failed` after about 47 s: a backstop behind the brain's own watch.
    fn watch_paths(&self) {
        let Some(ice) = self.webrtcbin.property::<Option<glib::Object>>("ice-agent") else { return };
        if ice.find_property("agent").is_some()
            && let Some(agent) = ice.property::<Option<glib::Object>>("agent")
            && agent.find_property("keepalive-conncheck").is_some()
        {
            agent.set_property("keepalive-conncheck", true);
        }
    }

    fn listen(&self, events: &mpsc::UnboundedSender<PeerEvent>) {
        let tell = events.clone();
        self.webrtcbin.connect("on-ice-candidate", false, move |values| {
            if let (Some(Ok(mline)), Some(Ok(candidate))) =
                (values.get(1).map(glib::Value::get), values.get(2).map(glib::Value::get))
            {
                let _session_over = tell.send(PeerEvent::Candidate { mline, candidate });
            }
            None
        });
        let tell = events.clone();
        self.webrtcbin.connect_notify(Some("ice-gathering-state"), move |bin, _| {
            if bin.property::<WebRTCICEGatheringState>("ice-gathering-state") == WebRTCICEGatheringState::Complete {
                let _session_over = tell.send(PeerEvent::GatheringComplete);
            }
        });
        let tell = events.clone();
        self.webrtcbin.connect_notify(Some("ice-connection-state"), move |bin, _| {
            let _session_over = tell.send(PeerEvent::Ice(bin.property("ice-connection-state")));
        });
        let tell = events.clone();
        self.webrtcbin.connect_notify(Some("connection-state"), move |bin, _| {
            let _session_over = tell.send(PeerEvent::Connection(bin.property("connection-state")));
        });
        self.listen_to_dtls(events.clone());
        self.listen_to_bus(events.clone());
    }

    /// When the far end closes DTLS, webrtcbin 1.22 stays `connected`, and says of an alert only that its pipeline is broken.
    /// The decoder inside it knows both at once.
    fn listen_to_dtls(&self, tell: mpsc::UnboundedSender<PeerEvent>) {
        self.webrtcbin.connect("deep-element-added", false, move |values| {
            let decoder = values.get(2).and_then(|value| value.get::<gst::Element>().ok());
            let is_dtls = |element: &gst::Element| element.factory().is_some_and(|factory| factory.name() == "dtlsdec");
            if let Some(decoder) = decoder.filter(is_dtls) {
                let (tell, was_up) = (tell.clone(), AtomicBool::new(false));
                decoder.connect_notify(Some("connection-state"), move |decoder, _| {
                    let is_up = is_dtls_up(decoder);
                    // Before it was up, a failure is one of the handshake, which webrtcbin tells.
                    if was_up.swap(is_up, Ordering::Relaxed) && !is_up {
                        let _session_over = tell.send(PeerEvent::HungUp);
                    }
                });
            }
            None
        });
    }

    fn listen_to_bus(&self, tell: mpsc::UnboundedSender<PeerEvent>) {
        let Some(bus) = self.pipeline.bus() else { return };
        let pipeline = self.pipeline.downgrade();
        bus.set_sync_handler(move |_, message| {
            use gst::MessageView;
            #[allow(clippy::wildcard_enum_match_arm, reason = "a bus carries some forty kinds of message; two matter")]
            match message.view() {
                MessageView::Error(error) => {
                    let _session_over = tell.send(PeerEvent::Broken(error.error().to_string()));
                }
                // Unhandled, rtpsession warns on every packet that it knows no running time.
                MessageView::Latency(_) => {
                    if let Some(pipeline) = pipeline.upgrade() {
                        pipeline.call_async(|pipeline| {
                            let _not_yet_live = pipeline.recalculate_latency();
                        });
                    }
                }
                _ => {}
            }
            gst::BusSyncReply::Drop
        });
    }

    /// Capture time, not send time, goes into the sender reports: else the delay of the video encoder shows up as bad
    /// lip sync at the viewer. And every RTCP packet that comes is read for what it acknowledges.
    fn listen_to_rtcp(&mut self) {
        let Some(rtpbin) = self.rtpbin() else { return };
        rtpbin.set_property("rtcp-sync-send-time", false);
        self.rtp_session = rtpbin.emit_by_name("get-session", &[&0_u32]);
        let Some(session) = rtpbin.emit_by_name::<Option<glib::Object>>("get-internal-session", &[&0_u32]) else {
            return;
        };
        let tell = self.events.clone();
        session.connect("on-receiving-rtcp", false, move |values| {
            if let Some(Ok(buffer)) = values.get(1).map(glib::Value::get::<gst::Buffer>)
                && let Ok(packet) = buffer.map_readable()
            {
                let _session_over = tell.send(PeerEvent::Feedback(rtcp::read(&packet)));
            }
            None
        });
    }

    async fn describe(&self, which: &str, kind: WebRTCSDPType, text: &str) -> Result<(), Failure> {
        let sdp =
            gst_sdp::SDPMessage::parse_buffer(text.as_bytes()).map_err(|_| bad_sdp("GStreamer cannot read it"))?;
        let (send, receive) = oneshot::channel();
        let promise = gst::Promise::with_change_func(move |reply| {
            let problem = match reply {
                Ok(reply) => reply.and_then(|s| s.get::<glib::Error>("error").ok()).map(|error| error.to_string()),
                Err(error) => Some(format!("{error:?}")),
            };
            let _receiver_gone = send.send(problem);
        });
        self.webrtcbin.emit_by_name::<()>(which, &[&WebRTCSessionDescription::new(kind, sdp), &promise]);
        match receive.await {
            Ok(None) => Ok(()),
            Ok(Some(problem)) => Err(bad_sdp(&problem)),
            Err(_) => Err(internal(&"webrtcbin dropped the description")),
        }
    }
}

/// Teardown blocks (libnice, DTLS): the owner drops a peer on a blocking thread, with a deadline (law 3). Without
/// set_state(NULL) every thread and socket leaks.
impl Drop for Peer {
    fn drop(&mut self) {
        self.outlets.iter_mut().for_each(Outlet::close);
        if let Some(roaming) = &self.roaming {
            roaming.silence();
        }
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
        shut_down(&self.pipeline);
    }
}

/// `connection-state` of a `dtlsdec`: new, closed, failed, connecting or connected.
fn is_dtls_up(decoder: &gst::Element) -> bool {
    let state = decoder.property_value("connection-state");
    glib::EnumValue::from_value(&state).is_some_and(|(_, state)| state.nick() == "connected")
}

fn webrtcbin(uplink: &Uplink, roaming: Option<&Roaming>) -> Result<gst::Element, Failure> {
    let builder = gst::ElementFactory::make("webrtcbin")
        .property_from_str("bundle-policy", "max-bundle")
        .property_from_str("ice-transport-policy", if uplink.relay_only { "relay" } else { "all" });
    let built = match roaming {
        Some(roaming) => roaming.join(|agent| builder.property("ice-agent", agent.clone()).build()),
        None => builder.build(),
    };
    built.map_err(|_| missing("webrtcbin", "gstreamer1.0-plugins-bad and gstreamer1.0-nice"))
}

fn missing(element: &str, package: &str) -> Failure {
    let words = format!("GStreamer element `{element}` is missing: install the Debian packages {package}");
    Failure::new(Phase::Negotiate, Retry::Never, ErrorCode::Internal, words)
}

fn internal(problem: &dyn std::fmt::Display) -> Failure {
    Failure::new(Phase::Negotiate, Retry::Backoff, ErrorCode::Internal, format!("webrtcbin: {problem}"))
}

fn bad_sdp(problem: &str) -> Failure {
    let words = format!("the SDP answer cannot be used: {problem}");
    Failure::new(Phase::Negotiate, Retry::Backoff, ErrorCode::BadAnswer, words)
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::tracks::{Hatch, Promise, TrackKind};

    /// A session can be opened while the camera is still waking up, or is gone.
    #[tokio::test]
    async fn the_offer_is_complete_before_a_single_frame_was_encoded() {
        gst::init().unwrap();
        let config = crate::config::load("", "defaults", std::iter::empty()).unwrap();
        let hatch = Hatch::new(&[TrackKind::Video, TrackKind::Audio]);
        let certificate = Certificate::generate().unwrap();
        let (tell, _heard) = mpsc::unbounded_channel();
        let clock = SharedClock::start();
        let offered = Offered::new(&config.video, Promise::default(), None, true);
        let peer =
            Peer::new(hatch.tracks(), &config.uplink, &offered, &clock, Some(&certificate), None, &tell).unwrap();
        let offer = peer.offer().await.unwrap();
        for part in [
            "a=group:BUNDLE video0 audio1",
            "a=rtpmap:96 H264/90000",
            "profile-level-id=42e01f",
            "a=rtcp-fb:96 nack pli",
            "a=rtpmap:97 rtx/90000",
            "a=ssrc-group:FID",
            "a=rtpmap:111 OPUS/48000/2",
            "stereo=1;sprop-stereo=1",
            "a=sendonly",
            certificate.fingerprint(),
            &format!("a=ssrc:{} ", peer.ssrcs()[0]),
        ] {
            assert!(offer.contains(part), "{part} is missing in\n{offer}");
        }
        assert!(!offer.contains("a=candidate"), "candidates are trickled");
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        assert!(host.trim().is_empty() || !offer.contains(host.trim()), "the offer tells the name of this machine");
    }
}
