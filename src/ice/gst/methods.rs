//! The methods of the class, called by webrtcbin.
//!
//! Safety of all of them: arguments are as `gst/webrtc/ice.h` and `icestream.h` describe them, `ice` is a [`Face`] and the
//! stream of a method of its own is a [`Stream`].

use super::*;

pub(super) unsafe extern "C" fn add_stream(
    ice: *mut ffi::GstWebRTCICE,
    session: c_uint,
) -> *mut ffi::GstWebRTCICEStream {
    // SAFETY: called by webrtcbin as documented.
    let stream = unsafe {
        face(ice, |face, _| {
            let mut joint = face.imp().joint();
            joint.stream_id = session;
            let stream = joint.stream.get_or_insert_with(|| Stream::new(session, face));
            stream.clone().upcast::<gst_webrtc::WebRTCICEStream>()
        })
    };
    let Some(stream) = stream else { return std::ptr::null_mut() };
    if takes_the_stream(version()) {
        // "transfer full": webrtcbin gets a reference of its own, which it drops.
        stream.into_glib_ptr()
    } else {
        // It borrows for as long as it has the agent, and that has the stream.
        stream.as_ptr()
    }
}

/// As webrtcbin asks for it.
#[cfg(test)]
pub(super) fn ask_for_stream(face: &Face) -> *mut ffi::GstWebRTCICEStream {
    // SAFETY: the face is alive.
    unsafe { add_stream(face.upcast_ref::<gst_webrtc::WebRTCICE>().as_ptr(), 0) }
}

pub(super) unsafe extern "C" fn find_transport(
    ice: *mut ffi::GstWebRTCICE,
    _stream: *mut ffi::GstWebRTCICEStream,
    component: ffi::GstWebRTCICEComponent,
) -> *mut ffi::GstWebRTCICETransport {
    // SAFETY: called by webrtcbin as documented.
    let transport = unsafe {
        face(ice, |face, mind| {
            let mut joint = face.imp().joint();
            if let Some(transport) = &joint.transport {
                return transport.clone();
            }
            let (transport, entry) = Transport::new(component, mind);
            joint.entry = Some(entry);
            joint.transport.insert(transport).clone()
        })
    };
    // "transfer full": webrtcbin gets a reference of its own.
    transport
        .map_or(std::ptr::null_mut(), |transport| transport.upcast::<gst_webrtc::WebRTCICETransport>().into_glib_ptr())
}

pub(super) unsafe extern "C" fn gather_candidates(
    ice: *mut ffi::GstWebRTCICE,
    _stream: *mut ffi::GstWebRTCICEStream,
) -> gboolean {
    // SAFETY: called by webrtcbin as documented.
    unsafe { face(ice, |_, mind| mind.gather()) };
    true.into_glib()
}

pub(super) unsafe extern "C" fn add_candidate(
    ice: *mut ffi::GstWebRTCICE,
    _stream: *mut ffi::GstWebRTCICEStream,
    candidate: *const c_char,
    promise: *mut gst::ffi::GstPromise,
) {
    // SAFETY: called by webrtcbin as documented. The fourth argument exists from 1.24 on; before, whatever lies in
    // its register is not looked at.
    unsafe {
        face(ice, |_, mind| mind.remote_candidate(&text(candidate)));
        if version() >= (1, 24, 0) {
            answer(promise);
        }
    }
}

/// On the way to NULL (1.28 and later, without a promise), or because the signal `close` was emitted. Whoever takes the
/// session apart has made the face silent before, and ends the agent behind it: all that is left is to say that it is done.
pub(super) unsafe extern "C" fn close(_ice: *mut ffi::GstWebRTCICE, promise: *mut gst::ffi::GstPromise) {
    // SAFETY: called by webrtcbin as documented.
    unsafe { answer(promise) };
}

/// As webrtcbin asks for it.
#[cfg(test)]
pub(super) fn ask_to_close(face: &Face, promise: Option<&gst::Promise>) {
    // SAFETY: the face and the promise are alive.
    unsafe { close(face.upcast_ref::<gst_webrtc::WebRTCICE>().as_ptr(), promise.to_glib_none().0) };
}

/// # Safety
///
/// `promise` must be null or a living promise; it stays the caller's ("transfer none").
unsafe fn answer(promise: *mut gst::ffi::GstPromise) {
    if !promise.is_null() {
        // SAFETY: see above; an empty answer means that all is well.
        unsafe { gst::ffi::gst_promise_reply(promise, std::ptr::null_mut()) };
    }
}

/// # Safety
///
/// `stream` must be a living [`Stream`].
unsafe fn face_of(stream: *mut ffi::GstWebRTCICEStream) -> Option<Face> {
    // SAFETY: see above; whoever calls a method holds a reference while it runs.
    let stream: Borrowed<Stream> = unsafe { from_glib_borrow(stream.cast::<<Stream as ObjectType>::GlibType>()) };
    stream.imp().face.get()?.upgrade()
}

pub(super) unsafe extern "C" fn stream_find_transport(
    stream: *mut ffi::GstWebRTCICEStream,
    component: ffi::GstWebRTCICEComponent,
) -> *mut ffi::GstWebRTCICETransport {
    // SAFETY: called as documented, and the face lives until the end of the block.
    unsafe {
        let Some(face) = face_of(stream) else { return std::ptr::null_mut() };
        find_transport(face.upcast_ref::<gst_webrtc::WebRTCICE>().as_ptr(), stream, component)
    }
}

pub(super) unsafe extern "C" fn stream_gather_candidates(stream: *mut ffi::GstWebRTCICEStream) -> gboolean {
    // SAFETY: called as documented, and the face lives until the end of the block.
    unsafe {
        let Some(face) = face_of(stream) else { return false.into_glib() };
        gather_candidates(face.upcast_ref::<gst_webrtc::WebRTCICE>().as_ptr(), stream)
    }
}

/// As whoever has the stream may ask.
#[cfg(test)]
pub(super) fn ask_for_transport(stream: &Stream) -> Option<gst_webrtc::WebRTCICETransport> {
    let stream: *mut ffi::GstWebRTCICEStream = stream.upcast_ref::<gst_webrtc::WebRTCICEStream>().as_ptr();
    // SAFETY: the stream is alive; the function of the library calls the method of its class, which gives a reference.
    unsafe {
        let component = ffi::GST_WEBRTC_ICE_COMPONENT_RTP;
        glib::translate::from_glib_full(ffi::gst_webrtc_ice_stream_find_transport(stream, component))
    }
}

/// As whoever has the stream may ask.
#[cfg(test)]
pub(super) fn ask_to_gather(stream: &Stream) -> bool {
    let stream: *mut ffi::GstWebRTCICEStream = stream.upcast_ref::<gst_webrtc::WebRTCICEStream>().as_ptr();
    // SAFETY: the stream is alive; the function of the library calls the method of its class.
    unsafe { bool::from_glib(ffi::gst_webrtc_ice_stream_gather_candidates(stream)) }
}

pub(super) unsafe extern "C" fn set_local_credentials(
    ice: *mut ffi::GstWebRTCICE,
    _stream: *mut ffi::GstWebRTCICEStream,
    ufrag: *const c_char,
    pwd: *const c_char,
) -> gboolean {
    // SAFETY: called by webrtcbin as documented.
    unsafe { face(ice, |_, mind| mind.local_credentials(&text(ufrag), &text(pwd))) };
    true.into_glib()
}

pub(super) unsafe extern "C" fn set_remote_credentials(
    ice: *mut ffi::GstWebRTCICE,
    _stream: *mut ffi::GstWebRTCICEStream,
    ufrag: *const c_char,
    pwd: *const c_char,
) -> gboolean {
    // SAFETY: called by webrtcbin as documented.
    unsafe { face(ice, |_, mind| mind.remote_credentials(&text(ufrag), &text(pwd))) };
    true.into_glib()
}

pub(super) unsafe extern "C" fn set_is_controller(ice: *mut ffi::GstWebRTCICE, controller: gboolean) {
    // SAFETY: called by webrtcbin as documented.
    unsafe { face(ice, |_, mind| mind.set_controlling(bool::from_glib(controller))) };
}

pub(super) unsafe extern "C" fn get_is_controller(ice: *mut ffi::GstWebRTCICE) -> gboolean {
    // SAFETY: called by webrtcbin as documented.
    unsafe { face(ice, |_, mind| mind.is_controlling()) }.unwrap_or(false).into_glib()
}

pub(super) unsafe extern "C" fn set_force_relay(ice: *mut ffi::GstWebRTCICE, force: gboolean) {
    // SAFETY: called by webrtcbin as documented.
    unsafe { face(ice, |_, mind| mind.set_relay_only(bool::from_glib(force))) };
}

pub(super) unsafe extern "C" fn add_server(ice: *mut ffi::GstWebRTCICE, url: *const c_char) -> gboolean {
    // SAFETY: called by webrtcbin as documented.
    unsafe { face(ice, |_, mind| mind.add_server(&text(url))) }.unwrap_or(false).into_glib()
}

pub(super) unsafe extern "C" fn set_server(ice: *mut ffi::GstWebRTCICE, url: *const c_char) {
    if !url.is_null() {
        // SAFETY: called by webrtcbin as documented.
        let _used = unsafe { add_server(ice, url) };
    }
}

/// Servers may hold a password: nobody gets them back. An HTTP proxy is not used.
pub(super) unsafe extern "C" fn get_nothing(_ice: *mut ffi::GstWebRTCICE) -> *mut c_char {
    std::ptr::null_mut()
}

pub(super) unsafe extern "C" fn set_nothing(_ice: *mut ffi::GstWebRTCICE, _text: *const c_char) {}

pub(super) unsafe extern "C" fn set_tos(
    ice: *mut ffi::GstWebRTCICE,
    _stream: *mut ffi::GstWebRTCICEStream,
    tos: c_uint,
) {
    // SAFETY: called by webrtcbin as documented.
    unsafe { face(ice, |_, mind| mind.set_tos(tos)) };
}

/// No candidate is ever signalled (see `agent.rs`), so the function is not kept.
pub(super) unsafe extern "C" fn set_on_ice_candidate(
    _ice: *mut ffi::GstWebRTCICE,
    _function: ffi::GstWebRTCICEOnCandidateFunc,
    data: gpointer,
    destroy: glib::ffi::GDestroyNotify,
) {
    if let Some(destroy) = destroy {
        // SAFETY: given together with `data`, to be called once, when `data` is not needed any more.
        unsafe { destroy(data) };
    }
}

pub(super) unsafe extern "C" fn get_local_candidates(
    ice: *mut ffi::GstWebRTCICE,
    _stream: *mut ffi::GstWebRTCICEStream,
) -> *mut *mut ffi::GstWebRTCICECandidateStats {
    // SAFETY: called by webrtcbin as documented.
    unsafe { list(face(ice, |face, mind| (face.imp().joint().stream_id, mind.candidates(true)))) }
}

pub(super) unsafe extern "C" fn get_remote_candidates(
    ice: *mut ffi::GstWebRTCICE,
    _stream: *mut ffi::GstWebRTCICEStream,
) -> *mut *mut ffi::GstWebRTCICECandidateStats {
    // SAFETY: called by webrtcbin as documented.
    unsafe { list(face(ice, |face, mind| (face.imp().joint().stream_id, mind.candidates(false)))) }
}

pub(super) unsafe extern "C" fn get_selected_pair(
    ice: *mut ffi::GstWebRTCICE,
    _stream: *mut ffi::GstWebRTCICEStream,
    local: *mut *mut ffi::GstWebRTCICECandidateStats,
    remote: *mut *mut ffi::GstWebRTCICECandidateStats,
) -> gboolean {
    // SAFETY: called by webrtcbin as documented: both are places for one pointer, which the caller frees.
    unsafe {
        let pair = face(ice, |face, mind| mind.selected().map(|pair| (face.imp().joint().stream_id, pair)));
        let Some((stream_id, (ours, theirs))) = pair.flatten() else { return false.into_glib() };
        *local = facts(stream_id, &ours);
        *remote = facts(stream_id, &theirs);
    }
    true.into_glib()
}

/// A null-terminated array of candidates, owned by the caller.
///
/// # Safety
///
/// None beyond those of the allocator of GLib.
unsafe fn list(of: Option<(c_uint, Vec<CandidateFacts>)>) -> *mut *mut ffi::GstWebRTCICECandidateStats {
    let (stream_id, candidates) = of.unwrap_or_default();
    let size = size_of::<*mut ffi::GstWebRTCICECandidateStats>();
    // SAFETY: room for one pointer each and the null at the end, which `g_malloc0_n` has written.
    unsafe {
        let array = glib::ffi::g_malloc0_n(candidates.len() + 1, size);
        let array = array.cast::<*mut ffi::GstWebRTCICECandidateStats>();
        for (at, candidate) in candidates.iter().enumerate() {
            *array.add(at) = facts(stream_id, candidate);
        }
        array
    }
}

/// One candidate, to be freed with `gst_webrtc_ice_candidate_stats_free`, which frees `ipaddr` and `url`.
///
/// # Safety
///
/// None beyond those of the allocator of GLib.
unsafe fn facts(stream_id: c_uint, of: &CandidateFacts) -> *mut ffi::GstWebRTCICECandidateStats {
    // SAFETY: zeroes are a valid value of this struct of numbers and pointers; `type_` and `proto` are static texts.
    unsafe {
        let stats = glib::ffi::g_malloc0(size_of::<ffi::GstWebRTCICECandidateStats>());
        let stats = stats.cast::<ffi::GstWebRTCICECandidateStats>();
        (*stats).ipaddr = of.address.ip().to_string().to_glib_full();
        (*stats).port = c_uint::from(of.address.port());
        (*stats).stream_id = stream_id;
        (*stats).type_ = name(of.kind).as_ptr();
        (*stats).proto = c"udp".as_ptr();
        (*stats).prio = of.priority;
        // What 1.28 has found room for in the reserved part of the struct, where zeroes mean something.
        (*stats).ABI.abi.related_port = c_uint::MAX;
        (*stats).ABI.abi.tcp_type = ffi::GST_WEBRTC_ICE_TCP_CANDIDATE_TYPE_NONE;
        stats
    }
}
