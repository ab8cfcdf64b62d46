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
fn webrtcbin_borrows_the_stream_and_nothing_of_it_is_left_behind() {
    let (face, _) = face();
    let (first, again) = (methods::ask_for_stream(&face), methods::ask_for_stream(&face));
    assert_eq!(first, again);
    assert_eq!(face.imp().joint().stream.as_ref().map(|stream| stream.ref_count()), Some(1));
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
