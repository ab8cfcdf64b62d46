//! The face of the agent that webrtcbin sees: a subclass of `GstWebRTCICE`. The only `unsafe` in the house (law 13),
//! because gstreamer-rs has no subclass support for these three types.
//!
//! What webrtcbin asks goes to a [`Mind`]; what the mind has to say goes through a [`Face`]. Nothing is decided here.
//!
//! Facts that this rests on, read in the sources of GStreamer 1.22, 1.24, 1.26 and 1.28, and seen with 1.22, 1.26 and 1.28:
//! - webrtcbin takes the object in its property `ice-agent` without a reference and drops one at its end; whether the
//!   running version does so is seen from the reference count ([`Face::join`]).
//! - The base class of the transport never drops `src` and `sink`: [`imp::Transport`] does, else both and their socket leak.
//! - What differs between the versions is told by that of the plugin ([`version`]), which is released together with the
//!   library of the base classes:
//!   - `add_candidate` has a promise as its fourth argument from 1.24 on, which must be answered. 1.22 passes three.
//!   - `close` exists from 1.28 on, where webrtcbin calls it on its way to NULL and aborts if nobody has written one. In
//!     older class structs its place is reserved, and nobody looks there.
//!   - webrtcbin borrows what `add_stream` gives, and drops a reference of it from 1.26.10 on ([`takes_the_stream`]).
//!   - The selected pair of a transport (1.28) may be missing: it is asked for by the statistics alone, which copes.

mod methods;
#[cfg(test)]
mod tests;

use std::ffi::{CStr, c_char, c_uint};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use glib::ffi::{gboolean, gpointer};
use glib::object::ObjectType;
use glib::subclass::prelude::*;
use glib::translate::{Borrowed, FromGlib, FromGlibPtrFull, IntoGlib, IntoGlibPtr, ToGlibPtr, from_glib_borrow};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_webrtc::{WebRTCICEConnectionState, WebRTCICEGatheringState};
use gst_webrtc_sys as ffi;

use super::types::{CandidateFacts, CandidateType, IceState};

/// RTCP from the far end waits here for webrtcbin; more than this means that it has stopped to read.
const INCOMING_BYTES_MAX: u64 = 256 * 1024;

/// What webrtcbin asks of an agent. Called from threads of GStreamer: nothing here may block.
pub(super) trait Mind: Send + Sync + 'static {
    /// Begin to look for local candidates.
    fn gather(&self);
    /// A candidate of the far end, the attribute with or without `a=`; empty at the end of candidates.
    fn remote_candidate(&self, candidate: &str);
    /// Our own `ice-ufrag` and `ice-pwd`; new ones mean an ICE restart.
    fn local_credentials(&self, ufrag: &str, pwd: &str);
    /// Those of the far end.
    fn remote_credentials(&self, ufrag: &str, pwd: &str);
    /// Are we the controlling side?
    fn set_controlling(&self, controlling: bool);
    /// See [`Mind::set_controlling`].
    fn is_controlling(&self) -> bool;
    /// Only relayed candidates may be used.
    fn set_relay_only(&self, relay_only: bool);
    /// DSCP in the six upper bits, for every packet that is sent.
    fn set_tos(&self, tos: u32);
    /// A STUN or TURN server as webrtcbin writes it; false when it cannot be used.
    fn add_server(&self, url: &str) -> bool;
    /// One packet of webrtcbin: DTLS, SRTP or SRTCP.
    fn send(&self, packet: &[u8]);
    /// What is known of the candidates of one side.
    fn candidates(&self, local: bool) -> Vec<CandidateFacts>;
    /// The pair in use, local first.
    fn selected(&self) -> Option<(CandidateFacts, CandidateFacts)>;
}

/// `typ` of a candidate, as the statistics of webrtcbin write it (RFC 8839, 5.1).
const fn name(of: CandidateType) -> &'static CStr {
    match of {
        CandidateType::Host => c"host",
        CandidateType::ServerReflexive => c"srflx",
        CandidateType::PeerReflexive => c"prflx",
        CandidateType::Relayed => c"relay",
    }
}

glib::wrapper! {
    /// The agent as an object of GStreamer.
    pub struct Face(ObjectSubclass<imp::Face>) @extends gst_webrtc::WebRTCICE, gst::Object;
}

glib::wrapper! {
    pub struct Stream(ObjectSubclass<imp::Stream>) @extends gst_webrtc::WebRTCICEStream, gst::Object;
}

glib::wrapper! {
    pub struct Transport(ObjectSubclass<imp::Transport>) @extends gst_webrtc::WebRTCICETransport, gst::Object;
}

/// Version of webrtcbin, or of GStreamer itself where the plugin does not tell one of three numbers.
fn version() -> (u32, u32, u32) {
    static VERSION: OnceLock<(u32, u32, u32)> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let plugin = gst::ElementFactory::find("webrtcbin").and_then(|factory| factory.plugin());
        plugin.and_then(|plugin| numbers(&plugin.version())).unwrap_or_else(|| {
            let (major, minor, micro, _nano) = gst::version();
            (major, minor, micro)
        })
    })
}

/// The first three numbers of `1.26.2` or `1.27.90.1`.
fn numbers(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

/// Does webrtcbin drop a reference of the stream that it got from `add_stream`? It only borrowed until "webrtc: Keep a ref of
/// the ICEStream in the TransportStream", which came with 1.27.50 and 1.26.10.
fn takes_the_stream(version: (u32, u32, u32)) -> bool {
    match version {
        (1, 26, micro) => micro >= 10,
        (1, 27, micro) => micro >= 50,
        _ => version >= (1, 28, 0),
    }
}

impl Face {
    /// A face for this mind, to be given to webrtcbin as its property `ice-agent`.
    pub(super) fn new(mind: Arc<dyn Mind>) -> Self {
        let face: Self = glib::Object::new();
        let _is_new = face.imp().mind.set(mind);
        face
    }

    /// Builds webrtcbin with this object, and sees to it that webrtcbin owns the reference that it will drop.
    pub(super) fn join<R>(&self, build: impl FnOnce(&gst_webrtc::WebRTCICE) -> R) -> R {
        let before = self.ref_count();
        let built = build(self.upcast_ref());
        if self.ref_count() == before {
            let one_more: *mut glib::gobject_ffi::GObject = self.clone().upcast::<glib::Object>().into_glib_ptr();
            // Webrtcbin took none of its own: this one is for it to drop.
            let _webrtcbins = one_more;
        }
        built
    }

    /// A packet from the far end (not STUN), to webrtcbin.
    pub(super) fn deliver(&self, packet: &[u8]) {
        if let Some(entry) = self.imp().joint().entry.clone() {
            let _shutting_down = entry.push_buffer(gst::Buffer::from_mut_slice(packet.to_vec()));
        }
    }

    /// Tells webrtcbin the state of ICE.
    pub(super) fn set_state(&self, state: IceState) {
        let state = match state {
            IceState::New => WebRTCICEConnectionState::New,
            IceState::Checking => WebRTCICEConnectionState::Checking,
            IceState::Connected => WebRTCICEConnectionState::Connected,
            IceState::Disconnected => WebRTCICEConnectionState::Disconnected,
            IceState::Failed => WebRTCICEConnectionState::Failed,
        };
        self.call(|transport| transport.connection_state_change(state));
    }

    /// Tells webrtcbin that there will be no more candidates.
    pub(super) fn set_gathered(&self) {
        self.call(|transport| transport.gathering_state_change(WebRTCICEGatheringState::Complete));
    }

    fn call(&self, call: impl FnOnce(&gst_webrtc::WebRTCICETransport)) {
        let silent = self.imp().silent();
        let transport = if *silent { None } else { self.imp().joint().transport.clone() };
        if let Some(transport) = transport {
            call(transport.upcast_ref());
        }
    }

    /// From now on webrtcbin is not called any more: to be called before it goes to NULL. Waits for a call that is under
    /// way. (A change of state that came while webrtcbin 1.22 was taken apart was a null pointer in its
    /// `transportsendbin`: seen once in some 1 500 sessions, on a machine so busy that taking apart outlasted the patience
    /// of the agent.)
    pub(super) fn silence(&self) {
        *self.imp().silent() = true;
        self.imp().joint().entry = None;
    }
}

mod imp {
    use super::*;

    /// Where face and webrtcbin are joined.
    #[derive(Default)]
    pub(super) struct Joint {
        pub(super) stream: Option<super::Stream>,
        pub(super) stream_id: c_uint,
        pub(super) transport: Option<super::Transport>,
        /// What the far end sends enters webrtcbin here.
        pub(super) entry: Option<gst_app::AppSrc>,
    }

    #[derive(Default)]
    pub struct Face {
        pub(super) mind: OnceLock<Arc<dyn Mind>>,
        joint: Mutex<Joint>,
        /// Held while webrtcbin is called; taken before `joint`.
        silent: Mutex<bool>,
    }

    impl Face {
        pub(super) fn joint(&self) -> std::sync::MutexGuard<'_, Joint> {
            self.joint.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(super) fn silent(&self) -> std::sync::MutexGuard<'_, bool> {
            self.silent.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Face {
        const NAME: &'static str = "RoamcastIce";
        type Type = super::Face;
        type ParentType = gst_webrtc::WebRTCICE;
    }

    impl ObjectImpl for Face {
        fn dispose(&self) {
            *self.joint() = Joint::default();
        }
    }
    impl GstObjectImpl for Face {}

    #[derive(Default)]
    pub struct Stream {
        pub(super) face: OnceLock<glib::WeakRef<super::Face>>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Stream {
        const NAME: &'static str = "RoamcastIceStream";
        type Type = super::Stream;
        type ParentType = gst_webrtc::WebRTCICEStream;
    }

    impl ObjectImpl for Stream {}
    impl GstObjectImpl for Stream {}

    #[derive(Default)]
    pub struct Transport;

    #[glib::object_subclass]
    impl ObjectSubclass for Transport {
        const NAME: &'static str = "RoamcastIceTransport";
        type Type = super::Transport;
        type ParentType = gst_webrtc::WebRTCICETransport;
    }

    impl ObjectImpl for Transport {
        fn dispose(&self) {
            let transport: *mut ffi::GstWebRTCICETransport =
                self.obj().upcast_ref::<gst_webrtc::WebRTCICETransport>().as_ptr();
            // SAFETY: the object is alive while it is disposed of; both fields were filled by `Transport::new` with a
            // reference each, which nobody else drops, and are empty afterwards.
            unsafe {
                for field in [&raw mut (*transport).src, &raw mut (*transport).sink] {
                    let element = std::mem::replace(&mut *field, std::ptr::null_mut());
                    if !element.is_null() {
                        drop(gst::Element::from_glib_full(element));
                    }
                }
            }
        }
    }
    impl GstObjectImpl for Transport {}
}

impl Stream {
    fn new(stream_id: c_uint, face: &Face) -> Self {
        let stream: Self = glib::Object::new();
        let _is_new = stream.imp().face.set(face.downgrade());
        let base: *mut ffi::GstWebRTCICEStream = stream.upcast_ref::<gst_webrtc::WebRTCICEStream>().as_ptr();
        // SAFETY: nobody else knows the object yet; the field belongs to its subclasses to fill.
        unsafe { (*base).stream_id = stream_id };
        stream
    }
}

impl Transport {
    /// With an appsrc for what comes and an appsink for what goes to this mind.
    fn new(component: ffi::GstWebRTCICEComponent, mind: &Arc<dyn Mind>) -> (Self, gst_app::AppSrc) {
        let transport: Self = glib::Object::new();
        let entry = gst_app::AppSrc::builder()
            .is_live(true)
            .do_timestamp(true)
            .format(gst::Format::Time)
            .max_bytes(INCOMING_BYTES_MAX)
            .leaky_type(gst_app::AppLeakyType::Downstream)
            .build();
        let exit = exit(Arc::clone(mind));
        let base: *mut ffi::GstWebRTCICETransport = transport.upcast_ref::<gst_webrtc::WebRTCICETransport>().as_ptr();
        // SAFETY: nobody else knows the object yet; the fields belong to its subclasses to fill. The references given
        // here are dropped by `imp::Transport::dispose`.
        unsafe {
            (*base).component = component;
            (*base).src = entry.clone().upcast::<gst::Element>().into_glib_ptr();
            (*base).sink = exit.upcast::<gst::Element>().into_glib_ptr();
        }
        (transport, entry)
    }
}

/// Packets of webrtcbin, on their way out.
fn exit(mind: Arc<dyn Mind>) -> gst_app::AppSink {
    let send = move |buffer: &gst::BufferRef| {
        if let Ok(packet) = buffer.map_readable() {
            mind.send(&packet);
        }
    };
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        if let Some(buffer) = sample.buffer() {
            send(buffer);
        }
        for buffer in sample.buffer_list().into_iter().flat_map(gst::BufferListRef::iter) {
            send(buffer);
        }
        Ok(gst::FlowSuccess::Ok)
    });
    let exit = gst_app::AppSink::builder().sync(false).async_(false).enable_last_sample(false);
    exit.buffer_list(true).callbacks(callbacks.build()).build()
}

/// # Safety
///
/// `ice` must be a living [`Face`]: GObject calls the functions below for objects of that class alone.
unsafe fn face<R>(ice: *mut ffi::GstWebRTCICE, then: impl FnOnce(&Face, &Arc<dyn Mind>) -> R) -> Option<R> {
    // SAFETY: see above; whoever calls a method holds a reference while it runs.
    let face: Borrowed<Face> = unsafe { from_glib_borrow(ice.cast::<<Face as ObjectType>::GlibType>()) };
    let mind = face.imp().mind.get()?;
    Some(then(&face, mind))
}

/// # Safety
///
/// `text` must be null or a C string that lives as long as what comes back; null is empty.
unsafe fn text<'a>(text: *const c_char) -> std::borrow::Cow<'a, str> {
    if text.is_null() {
        return "".into();
    }
    // SAFETY: see above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy()
}

// SAFETY: `Face` adds nothing to the instance but what GObject keeps for it, and overrides every method of every version
// without chaining up: the base class has none of its own, and asserts that each one is there. Their places and arguments
// are the same in 1.22, 1.24, 1.26 and 1.28 but for the two that `methods` tell of: the fourth argument of `add_candidate`,
// and `close`, which lies where older versions have the first of four reserved pointers.
unsafe impl IsSubclassable<imp::Face> for gst_webrtc::WebRTCICE {
    fn class_init(class: &mut glib::Class<Self>) {
        Self::parent_class_init::<imp::Face>(class);
        let class = class.as_mut();
        class.add_stream = Some(methods::add_stream);
        class.find_transport = Some(methods::find_transport);
        class.gather_candidates = Some(methods::gather_candidates);
        class.add_candidate = Some(methods::add_candidate);
        class.set_local_credentials = Some(methods::set_local_credentials);
        class.set_remote_credentials = Some(methods::set_remote_credentials);
        class.add_turn_server = Some(methods::add_server);
        class.set_is_controller = Some(methods::set_is_controller);
        class.get_is_controller = Some(methods::get_is_controller);
        class.set_force_relay = Some(methods::set_force_relay);
        class.set_stun_server = Some(methods::set_server);
        class.get_stun_server = Some(methods::get_nothing);
        class.set_turn_server = Some(methods::set_server);
        class.get_turn_server = Some(methods::get_nothing);
        class.set_http_proxy = Some(methods::set_nothing);
        class.get_http_proxy = Some(methods::get_nothing);
        class.set_tos = Some(methods::set_tos);
        class.set_on_ice_candidate = Some(methods::set_on_ice_candidate);
        class.get_local_candidates = Some(methods::get_local_candidates);
        class.get_remote_candidates = Some(methods::get_remote_candidates);
        class.get_selected_pair = Some(methods::get_selected_pair);
        class.close = Some(methods::close);
    }
}

// SAFETY: as above. The class struct has two methods, the same in every version, and the base class asserts that they are
// there. webrtcbin uses those of the agent instead; these lead to them.
unsafe impl IsSubclassable<imp::Stream> for gst_webrtc::WebRTCICEStream {
    fn class_init(class: &mut glib::Class<Self>) {
        Self::parent_class_init::<imp::Stream>(class);
        let class = class.as_mut();
        class.find_transport = Some(methods::stream_find_transport);
        class.gather_candidates = Some(methods::stream_gather_candidates);
    }
}

// SAFETY: as above, and nothing is overridden. No version has a caller of `gather_candidates`; the one of
// `get_selected_candidate_pair` (1.28; reserved before) does without where there is none.
unsafe impl IsSubclassable<imp::Transport> for gst_webrtc::WebRTCICETransport {}
