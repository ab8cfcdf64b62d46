//! The hatch - encoded tracks out, keyframe wishes back. The only thing the uplink knows of the studio.
//!
//! A [`Track`] outlives both sides: the studio may be rebuilt (camera lost) and sessions may come and go (network
//! lost) without either noticing the other. Frames that nobody listens to are dropped; the encoder never waits.

pub mod h264;
mod rising;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gst::prelude::*;
use gst_app::{AppSink, AppSinkCallbacks, AppSrc};
use tokio::sync::watch;

use crate::status::StreamWarning;

use h264::{Inspection, Profile, ProfileLevelId};
use rising::Rising;

/// The one clock of the broadcast. Studio and session pipelines all run on it with the same base time, so that running
/// time is the same everywhere and goes on through every rebuild of either side.
#[derive(Debug, Clone)]
pub struct SharedClock {
    clock: gst::Clock,
    base_time: gst::ClockTime,
}

impl SharedClock {
    /// Running time 0 is now. `gst::init` must have been called. Made once, by the house.
    #[must_use]
    pub fn start() -> Self {
        let clock = gst::SystemClock::obtain();
        let base_time = clock.time();
        Self { clock, base_time }
    }

    /// Puts the pipeline on this clock. Call it before the pipeline leaves NULL.
    pub fn govern(&self, pipeline: &gst::Pipeline) {
        pipeline.use_clock(Some(&self.clock));
        pipeline.set_start_time(gst::ClockTime::NONE);
        pipeline.set_base_time(self.base_time);
    }

    /// The running time now.
    #[must_use]
    pub fn now(&self) -> gst::ClockTime {
        self.clock.time().saturating_sub(self.base_time)
    }
}

/// Sets a pipeline to NULL, as every pipeline must be before it is dropped. On its way down an element can still trip over
/// the error that ended it (uridecodebin on a file that is no media: one time in ten) and refuse; asked again, it goes.
/// One that never does is kept for ever: dropping it would corrupt memory.
pub(crate) fn shut_down(pipeline: &gst::Pipeline) {
    const TRIES: u32 = 5;
    if !(0..TRIES).any(|_| pipeline.set_state(gst::State::Null).is_ok()) {
        tracing::error!("the pipeline `{}` does not close: its devices and sockets stay open", pipeline.name());
        std::mem::forget(pipeline.clone());
    }
}

/// What is known of the picture before its first frame has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Promise {
    /// The source has encoded it already: the stream itself says what it is.
    pub is_passthrough: bool,
    /// The encoder declares at least this level_idc, whatever the picture needs; 0 where none is pinned.
    pub level_idc: u8,
}

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrackKind {
    /// Encoded pictures.
    Video,
    /// Encoded sound.
    Audio,
}

/// All tracks of the broadcast, video first.
#[derive(Clone)]
pub struct Hatch {
    tracks: Vec<Arc<Track>>,
}

impl Hatch {
    /// A hatch with these tracks, nothing flowing yet.
    #[must_use]
    pub fn new(kinds: &[TrackKind]) -> Self {
        Self { tracks: kinds.iter().map(|&kind| Arc::new(Track::new(kind))).collect() }
    }

    /// The tracks, in m-line order.
    #[must_use]
    pub fn tracks(&self) -> &[Arc<Track>] {
        &self.tracks
    }

    /// The track of this kind, if the broadcast has one.
    #[must_use]
    pub fn track(&self, kind: TrackKind) -> Option<&Arc<Track>> {
        self.tracks.iter().find(|track| track.kind == kind)
    }
}

/// One encoded stream.
pub struct Track {
    kind: TrackKind,
    frames: AtomicU64,
    bytes: AtomicU64,
    next_id: AtomicU64,
    /// What the H.264 stream says of itself, for those who wait for it.
    made: watch::Sender<Option<ProfileLevelId>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sink: Option<AppSink>,
    caps: Option<gst::Caps>,
    listeners: Vec<Listener>,
    h264: Inspection,
    times: Rising,
    warnings: BTreeSet<StreamWarning>,
    told: BTreeSet<StreamWarning>,
}

impl State {
    fn warn(&mut self, warning: StreamWarning, holds: bool) {
        if holds {
            self.warnings.insert(warning);
        } else {
            self.warnings.remove(&warning);
        }
    }

    /// Looks at a frame; false: it is to be left out.
    fn inspect(&mut self, buffer: &gst::Buffer, is_key: bool) -> bool {
        let format = self.caps.as_ref().and_then(|caps| caps.structure(0)).filter(|s| s.name() == "video/x-h264");
        let Some(format) = format.filter(|_| self.h264.is_of_interest(is_key)) else { return true };
        let is_interlaced = is_interlaced(format);
        let (Some(at), Ok(frame)) = (buffer.pts(), buffer.map_readable()) else { return true };
        let goes_out = self.h264.let_through(&frame, is_key, at.into());
        let profile = self.h264.made().map(ProfileLevelId::profile);
        let is_common = matches!(profile, None | Some(Profile::ConstrainedBaseline | Profile::Baseline));
        self.warn(StreamWarning::Profile, !is_common);
        self.warn(StreamWarning::BFrames, self.h264.has_b_frames());
        self.warn(StreamWarning::Interlaced, is_interlaced);
        goes_out
    }

    /// Frames that are sent in another order than they are shown in step back by nature; all others never do.
    fn correct(&mut self, buffer: &mut gst::Buffer) {
        let Some(at) = buffer.pts().map(Duration::from).filter(|_| !self.h264.has_b_frames()) else { return };
        let time = self.times.take(at);
        if time != at {
            buffer.make_mut().set_pts(gst::ClockTime::try_from(time).ok());
        }
    }
}

struct Listener {
    id: u64,
    src: AppSrc,
    /// Video starts at a keyframe; what comes before it cannot be decoded.
    waits_for_keyframe: bool,
}

impl Track {
    fn new(kind: TrackKind) -> Self {
        Self {
            kind,
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            next_id: AtomicU64::new(0),
            made: watch::Sender::new(None),
            state: Mutex::default(),
        }
    }

    /// What it carries.
    #[must_use]
    pub const fn kind(&self) -> TrackKind {
        self.kind
    }

    /// Encoded frames since the process started.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Encoded bytes since the process started.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Format of the frames, once the first has come.
    #[must_use]
    pub fn caps(&self) -> Option<gst::Caps> {
        self.lock().caps.clone()
    }

    /// What the newest H.264 frames say of themselves; `None` until a keyframe has come, and for other codecs.
    #[must_use]
    pub fn made(&self) -> Option<ProfileLevelId> {
        *self.made.borrow()
    }

    /// The same, once it is known. Never comes back for other codecs.
    pub async fn wait_until_made(&self) {
        let mut made = self.made.subscribe();
        // Cannot fail: the sender is ours.
        drop(made.wait_for(Option::is_some).await);
    }

    /// Session side: whether the far end has answered that it takes another H.264 profile than is sent.
    pub fn answered_otherwise(&self, holds: bool) {
        self.lock().warn(StreamWarning::AnsweredProfile, holds);
    }

    /// Studio side: what the operator should know of the stream, if that has changed since the last call.
    #[must_use]
    pub fn new_warnings(&self) -> Option<BTreeSet<StreamWarning>> {
        let mut state = self.lock();
        if state.warnings == state.told {
            return None;
        }
        state.told = state.warnings.clone();
        Some(state.told.clone())
    }

    /// Studio side: from now on the frames of this sink are the track. Replaces the sink of an earlier studio.
    pub fn plug(self: &Arc<Self>, sink: &AppSink) {
        sink.set_property("sync", false);
        sink.set_property("async", false);
        let track = Arc::clone(self);
        sink.set_callbacks(
            AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    track.pass_on(&sample);
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        self.lock().sink = Some(sink.clone());
    }

    /// Studio side: this sink is going away. Does nothing if another has been plugged since.
    pub fn unplug(&self, sink: &AppSink) {
        sink.set_callbacks(AppSinkCallbacks::builder().build());
        let mut state = self.lock();
        if state.sink.as_ref() == Some(sink) {
            state.sink = None;
        }
    }

    /// Session side: frames go to `src` until the [`Subscription`] is dropped; video from the next keyframe on, which
    /// is asked for at once.
    pub fn subscribe(self: &Arc<Self>, src: &AppSrc) -> Subscription {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        {
            let mut state = self.lock();
            if let Some(caps) = &state.caps {
                src.set_caps(Some(caps));
            }
            state.listeners.push(Listener { id, src: src.clone(), waits_for_keyframe: self.kind == TrackKind::Video });
        }
        self.request_keyframe();
        Subscription { track: Arc::clone(self), id }
    }

    /// Asks the encoder for a keyframe. Harmless when nothing is plugged or the track is sound. The studio limits the
    /// rate by deferring, never by dropping, such wishes.
    pub fn request_keyframe(&self) {
        if self.kind != TrackKind::Video {
            return;
        }
        let Some(sink) = self.lock().sink.clone() else { return };
        let event = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build();
        sink.send_event(event);
    }

    fn pass_on(&self, sample: &gst::Sample) {
        let Some(mut buffer) = on_running_time(sample) else { return };
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(buffer.size() as u64, Ordering::Relaxed);
        let is_key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let mut state = self.lock();
        if let Some(caps) = sample.caps()
            && state.caps.as_deref() != Some(caps)
        {
            let caps = caps.to_owned();
            state.listeners.iter().for_each(|listener| listener.src.set_caps(Some(&caps)));
            state.caps = Some(caps);
        }
        if !state.inspect(&buffer, is_key) {
            return;
        }
        state.correct(&mut buffer);
        self.made.send_if_modified(|made| {
            let now = state.h264.made().or(*made);
            std::mem::replace(made, now) != now
        });
        for listener in &mut state.listeners {
            if listener.waits_for_keyframe && !is_key {
                continue;
            }
            listener.waits_for_keyframe = false;
            // An error means that the session is being torn down; it unsubscribes by itself.
            let _flushing_or_eos = listener.src.push_buffer(buffer.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As h264parse says it: a frame of two fields, or fields as they come.
fn is_interlaced(format: &gst::StructureRef) -> bool {
    let says = |field, progressive| format.get::<&str>(field).is_ok_and(|value| value != progressive);
    says("interlace-mode", "progressive") || says("coded-picture-structure", "frame")
}

/// The same frame, stamped with its running time. Encoders and files number time as they like (x264enc starts at 1000
/// hours, a repeated file starts again at 0) and explain it in the segment, which appsrc does not pass on. `None` for a
/// frame outside its segment, which nobody should play. DTS is left out: without B-frames it says nothing new.
fn on_running_time(sample: &gst::Sample) -> Option<gst::Buffer> {
    let mut buffer = sample.buffer_owned()?;
    let running_time = sample.segment()?.downcast_ref::<gst::ClockTime>()?.to_running_time(buffer.pts()?)?;
    let stamped = buffer.make_mut();
    stamped.set_pts(running_time);
    stamped.set_dts(gst::ClockTime::NONE);
    Some(buffer)
}

/// While this lives, frames flow to the session.
#[must_use]
pub struct Subscription {
    track: Arc<Track>,
    id: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.track.lock().listeners.retain(|listener| listener.id != self.id);
    }
}
