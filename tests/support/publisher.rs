//! A publisher for tests that is not roamcast: a test picture and a tone through a bare webrtcbin, offered by WHIP.

use std::time::Duration;

use gst::prelude::*;
use roamcast::signal::Signaller;
use tokio::sync::oneshot;

/// What it sends. A keyframe every 4 s only, so that a late joiner proves that it is asked for.
const PIPELINE: &str = "webrtcbin name=webrtc bundle-policy=max-bundle \
    videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=30/1 ! timeoverlay ! \
    x264enc tune=zerolatency speed-preset=ultrafast bitrate=800 key-int-max=120 ! video/x-h264,profile=constrained-baseline ! \
    rtph264pay config-interval=-1 aggregate-mode=zero-latency mtu=1200 ! \
    application/x-rtp,media=video,encoding-name=H264,payload=96 ! webrtc. \
    audiotestsrc is-live=true volume=0.3 samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay ! \
    application/x-rtp,media=audio,encoding-name=OPUS,payload=111 ! webrtc.";

/// Generous: plugins are loaded and a certificate is made at the first start.
const WITHIN: Duration = Duration::from_secs(30);

/// Publishes until it is dropped, which looks like a crash to the server: no DELETE.
pub(crate) struct Publisher {
    pipeline: gst::Pipeline,
    /// The WHIP resource, if it has one.
    resource: Option<String>,
}

impl Publisher {
    /// Publishes to a WHIP endpoint.
    pub(crate) async fn start(endpoint: &str) -> Self {
        gst::init().unwrap();
        let pipeline = gst::parse::launch(PIPELINE).unwrap().downcast::<gst::Pipeline>().unwrap();
        let webrtc = pipeline.by_name("webrtc").unwrap();
        let offer = gathered_offer(&pipeline, &webrtc).await;

        let request = http_client().post(endpoint).header("content-type", "application/sdp").body(offer);
        let response = request.send().await.expect("the server answers");
        assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let resource = response.url().join(&location).unwrap().to_string();
        let answer = response.text().await.unwrap();
        set_answer(&webrtc, &answer);
        Self { pipeline, resource: Some(resource) }
    }

    /// Publishes by a messenger of roamcast.
    pub(crate) async fn over(signaller: &mut Signaller) -> Self {
        gst::init().unwrap();
        let pipeline = gst::parse::launch(PIPELINE).unwrap().downcast::<gst::Pipeline>().unwrap();
        let webrtc = pipeline.by_name("webrtc").unwrap();
        let offer = gathered_offer(&pipeline, &webrtc).await;
        set_answer(&webrtc, &signaller.publish(&offer).await.unwrap().answer);
        Self { pipeline, resource: None }
    }

    /// Waits until ICE and DTLS are up.
    pub(crate) async fn connected(&self) {
        let webrtc = self.pipeline.by_name("webrtc").unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        webrtc.connect_notify(Some("connection-state"), move |_, _| {
            let _ = tell.send(());
        });
        let up = async {
            let state = || webrtc.property::<gst_webrtc::WebRTCPeerConnectionState>("connection-state");
            while state() != gst_webrtc::WebRTCPeerConnectionState::Connected {
                told.recv().await;
            }
        };
        tokio::time::timeout(WITHIN, up).await.expect("the connection comes up");
    }

    /// Ends the broadcast with a goodbye.
    pub(crate) async fn stop(self) {
        let response = http_client()
            .delete(self.resource.as_ref().expect("published by WHIP"))
            .send()
            .await
            .expect("the server answers");
        assert_eq!(response.status(), 200);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.pipeline.set_state(gst::State::Null).expect("the pipeline stops");
    }
}

fn set_answer(webrtc: &gst::Element, answer: &str) {
    crate::secrets_kept::learn_from_wire(answer);
    let sdp = gst_sdp::SDPMessage::parse_buffer(answer.as_bytes()).unwrap();
    let answer = gst_webrtc::WebRTCSessionDescription::new(gst_webrtc::WebRTCSDPType::Answer, sdp);
    webrtc.emit_by_name::<()>("set-remote-description", &[&answer, &None::<gst::Promise>]);
}

/// An HTTP client; the first one in a process picks the TLS provider.
pub(crate) fn http_client() -> reqwest::Client {
    crate::secrets_kept::keep_own_log();
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// An SDP offer with all candidates.
pub(crate) async fn offer() -> String {
    gst::init().unwrap();
    let pipeline = gst::parse::launch(PIPELINE).unwrap().downcast::<gst::Pipeline>().unwrap();
    let webrtc = pipeline.by_name("webrtc").unwrap();
    let offer = gathered_offer(&pipeline, &webrtc).await;
    pipeline.set_state(gst::State::Null).unwrap();
    offer
}

async fn gathered_offer(pipeline: &gst::Pipeline, webrtc: &gst::Element) -> String {
    // libnice pins each socket to its interface (IP_UNICAST_IF): from those of eth0 nothing ever reaches 127.0.0.1.
    let ice = webrtc.property::<gst_webrtc::WebRTCICE>("ice-agent");
    assert!(ice.emit_by_name::<bool>("add-local-ip-address", &[&"127.0.0.1"]));
    // The elements that webrtcbin adds when it connects change the latency. Until somebody distributes it anew, it sends
    // sender reports whose RTP time runs at double speed.
    let weak = pipeline.downgrade();
    webrtc.connect_notify(Some("connection-state"), move |_, _| {
        if let Some(pipeline) = weak.upgrade() {
            pipeline.call_async(|pipeline| drop(pipeline.recalculate_latency()));
        }
    });
    let (tell, gathered) = oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    webrtc.connect_notify(Some("ice-gathering-state"), move |webrtc, _| {
        let state = webrtc.property::<gst_webrtc::WebRTCICEGatheringState>("ice-gathering-state");
        if state == gst_webrtc::WebRTCICEGatheringState::Complete
            && let Some(tell) = tell.lock().unwrap().take()
        {
            let _ = tell.send(());
        }
    });
    webrtc.connect("on-negotiation-needed", false, |values| {
        let webrtc = values[0].get::<gst::Element>().unwrap();
        let target = webrtc.clone();
        let created = gst::Promise::with_change_func(move |reply| {
            let offer = reply.unwrap().unwrap().value("offer").unwrap();
            let offer = offer.get::<gst_webrtc::WebRTCSessionDescription>().unwrap();
            target.emit_by_name::<()>("set-local-description", &[&offer, &None::<gst::Promise>]);
        });
        webrtc.emit_by_name::<()>("create-offer", &[&None::<gst::Structure>, &created]);
        None
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    tokio::time::timeout(WITHIN, gathered).await.expect("candidates are gathered").unwrap();
    let offer = webrtc.property::<gst_webrtc::WebRTCSessionDescription>("local-description");
    let offer = offer.sdp().as_text().unwrap();
    crate::secrets_kept::learn_from_wire(&offer);
    offer
}
