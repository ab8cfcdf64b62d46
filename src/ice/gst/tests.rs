//! What webrtcbin hears, and when it hears nothing any more.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::*;

struct Nobody;

impl Mind for Nobody {
    fn gather(&self) {}
    fn remote_candidate(&self, _candidate: &str) {}
    fn local_credentials(&self, _ufrag: &str, _pwd: &str) {}
    fn remote_credentials(&self, _ufrag: &str, _pwd: &str) {}
    fn set_controlling(&self, _controlling: bool) {}
    fn is_controlling(&self) -> bool {
        false
    }
    fn set_relay_only(&self, _relay_only: bool) {}
    fn set_tos(&self, _tos: u32) {}
    fn add_server(&self, _url: &str) -> bool {
        true
    }
    fn send(&self, _packet: &[u8]) {}
    fn candidates(&self, _local: bool) -> Vec<CandidateFacts> {
        Vec::new()
    }
    fn selected(&self) -> Option<(CandidateFacts, CandidateFacts)> {
        None
    }
}

/// A face with a transport, as webrtcbin has asked for it.
fn face() -> (Face, gst_webrtc::WebRTCICETransport) {
    gst::init().unwrap();
    let mind: Arc<dyn Mind> = Arc::new(Nobody);
    let face = Face::new(Arc::clone(&mind));
    let (transport, entry) = Transport::new(ffi::GST_WEBRTC_ICE_COMPONENT_RTP, &mind);
    let mut joint = face.imp().joint();
    (joint.transport, joint.entry) = (Some(transport.clone()), Some(entry));
    drop(joint);
    (face, transport.upcast())
}

#[test]
fn the_version_tells_who_drops_the_stream() {
    for (version, takes) in [
        ("1.22.0", false),
        ("1.22.12", false),
        ("1.24.13", false),
        ("1.26.2", false),
        ("1.26.9", false),
        ("1.26.10", true),
        ("1.26.11.1", true),
        ("1.27.2", false),
        ("1.27.50", true),
        ("1.28.0", true),
        ("1.28.8", true),
        ("1.30.0", true),
        ("2.0.0", true),
    ] {
        assert_eq!(numbers(version).map(takes_the_stream), Some(takes), "{version}");
    }
    for nothing in ["", "1.28", "1.x.0", "git"] {
        assert_eq!(numbers(nothing), None, "{nothing}");
    }
    gst::init().unwrap();
    let (major, minor, _, _) = gst::version();
    assert_eq!((version().0, version().1), (major, minor), "webrtcbin and GStreamer come together");
}

#[test]
fn the_stream_is_always_the_same_one() {
    let (face, _) = face();
    assert_eq!(methods::ask_for_stream(&face), methods::ask_for_stream(&face));
}

/// webrtcbin in a pipeline, which has made an offer with this agent and taken it: stream and transport are there.
fn negotiated(face: &Face) -> (gst::Pipeline, gst::Element) {
    let webrtcbin = face.join(|agent| {
        let make = gst::ElementFactory::make("webrtcbin").property_from_str("bundle-policy", "max-bundle");
        make.property("ice-agent", agent.clone()).build().unwrap()
    });
    let pipeline = gst::Pipeline::new();
    pipeline.add(&webrtcbin).unwrap();
    let caps: gst::Caps =
        "application/x-rtp,media=audio,encoding-name=OPUS,payload=96,clock-rate=48000".parse().unwrap();
    let direction = gst_webrtc::WebRTCRTPTransceiverDirection::Sendonly;
    let _it_has = webrtcbin.emit_by_name::<gst_webrtc::WebRTCRTPTransceiver>("add-transceiver", &[&direction, &caps]);
    pipeline.set_state(gst::State::Playing).unwrap();
    let offered = gst::Promise::new();
    webrtcbin.emit_by_name::<()>("create-offer", &[&None::<gst::Structure>, &offered]);
    assert_eq!(offered.wait(), gst::PromiseResult::Replied);
    let offer = offered.get_reply().unwrap().get::<gst_webrtc::WebRTCSessionDescription>("offer").unwrap();
    let taken = gst::Promise::new();
    webrtcbin.emit_by_name::<()>("set-local-description", &[&offer, &taken]);
    assert_eq!(taken.wait(), gst::PromiseResult::Replied);
    (pipeline, webrtcbin)
}

/// A face that no webrtcbin has asked for anything yet.
fn new_face() -> Face {
    gst::init().unwrap();
    Face::new(Arc::new(Nobody))
}

/// GStreamer 1.28 calls `close` here; what is missing there is an abort.
#[test]
fn webrtcbin_goes_to_null_and_drops_what_is_its_own() {
    let face = new_face();
    let (pipeline, webrtcbin) = negotiated(&face);
    let stream = face.imp().joint().stream.clone().unwrap();
    let transport = face.imp().joint().transport.clone().unwrap();
    let heirs =
        [webrtcbin.upcast_ref::<glib::Object>(), stream.upcast_ref(), transport.upcast_ref(), face.upcast_ref()];
    let heirs = heirs.map(glib::object::ObjectExt::downgrade);
    face.silence();
    pipeline.set_state(gst::State::Null).unwrap();
    drop((pipeline, webrtcbin));
    // The one here, and the face's own.
    assert_eq!((stream.ref_count(), transport.ref_count(), face.ref_count()), (2, 2, 1));
    drop((stream, transport, face));
    assert_eq!(heirs.map(|heir| heir.upgrade()), [None, None, None, None]);
}

/// The owner of the agent may be gone before webrtcbin is.
#[test]
fn webrtcbin_goes_to_null_as_the_last_one_that_has_the_agent() {
    let face = new_face();
    let (pipeline, webrtcbin) = negotiated(&face);
    let stream = face.imp().joint().stream.as_ref().unwrap().downgrade();
    let weak = face.downgrade();
    face.silence();
    drop(face);
    assert!(weak.upgrade().is_some() && stream.upgrade().is_some(), "webrtcbin still needs them");
    pipeline.set_state(gst::State::Null).unwrap();
    drop((pipeline, webrtcbin));
    assert!(weak.upgrade().is_none() && stream.upgrade().is_none());
}

#[test]
fn closing_answers_whoever_waits_for_it() {
    let face = new_face();
    let (pipeline, webrtcbin) = negotiated(&face);
    methods::ask_to_close(&face, None);
    let promise = gst::Promise::new();
    methods::ask_to_close(&face, Some(&promise));
    assert_eq!((promise.wait(), promise.get_reply()), (gst::PromiseResult::Replied, None));
    // From 1.28 on.
    if glib::subclass::SignalId::lookup("close", webrtcbin.type_()).is_some() {
        let closed = gst::Promise::new();
        webrtcbin.emit_by_name::<()>("close", &[&closed]);
        assert_eq!(closed.wait(), gst::PromiseResult::Replied);
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn the_stream_leads_to_the_agent_while_that_lives() {
    let face = new_face();
    let stream = Stream::new(0, &face);
    let transport = methods::ask_for_transport(&stream).unwrap();
    assert_eq!(face.imp().joint().transport.as_ref(), transport.downcast_ref::<Transport>());
    assert!(methods::ask_to_gather(&stream));
    drop((face, transport));
    assert_eq!((methods::ask_for_transport(&stream), methods::ask_to_gather(&stream)), (None, false));
}

#[test]
fn a_session_that_is_taken_apart_hears_nothing_more_of_its_network() {
    let (face, transport) = face();
    let (tell, told) = channel();
    transport.connect_notify(None, move |_, what| tell.send(what.name().to_owned()).unwrap());
    face.set_state(IceState::Connected);
    face.set_gathered();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["state", "gathering-state"]);
    face.silence();
    face.set_state(IceState::Disconnected);
    face.set_gathered();
    assert_eq!(told.try_iter().count(), 0);
}

/// Webrtcbin goes to NULL right behind `silence`.
#[test]
fn taking_apart_waits_until_webrtcbin_has_heard_what_it_is_just_being_told() {
    let (face, transport) = face();
    let (begin, begun) = channel();
    let (end, ended) = channel();
    let ended = Mutex::new(ended);
    transport.connect_notify(Some("state"), move |_, _| {
        begin.send(()).unwrap();
        ended.lock().unwrap().recv().unwrap();
    });
    let (silent, silenced) = channel();
    std::thread::scope(|threads| {
        threads.spawn(|| face.set_state(IceState::Connected));
        begun.recv().unwrap();
        threads.spawn(|| {
            face.silence();
            silent.send(()).unwrap();
        });
        let at_once = silenced.recv_timeout(Duration::from_millis(100));
        // Whatever comes of it: else this test would hang instead of failing.
        end.send(()).unwrap();
        assert_eq!(at_once, Err(RecvTimeoutError::Timeout));
        silenced.recv().unwrap();
    });
}
