//! A media file as a live source: put on the shared clock, played again without a gap, silence if it has no sound; a
//! still picture is repeated.
//!
//! The file is decoded a little ahead of time (the queues in pipelines/*/file.launch). When all streams have ended, a
//! flushing seek to the start goes to the demuxer alone - end and flush are kept from the rest of the pipeline - and
//! what comes next is placed where the longest stream ended, so that running time goes on and lips stay in sync.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;

use super::still;
use crate::config::Video;
use crate::media::pipeline::template::{AUDIO_SOURCE, FILE};
use crate::media::tracks::SharedClock;
use crate::media::wake::{Wake, wake};

/// From the first decoded frame to its turn: time for the decoders to fill the queues.
const LEAD: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// The file of one studio.
pub(in crate::media) struct Playback {
    clock: SharedClock,
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    repeat: bool,
    /// Width, height and frame rate at which a still picture is repeated.
    size: (u32, u32),
    framerate: u32,
    wants_audio: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Running time of the start of the current round.
    offset: Option<gst::ClockTime>,
    /// The picture is a still: it has no end, and nothing to rewind.
    has_still: bool,
    streams: Vec<Stream>,
    all_known: bool,
}

struct Stream {
    pad: gst::glib::WeakRef<gst::Pad>,
    is_video: bool,
    /// Where its last buffer of this round ended, counted from the start of the round.
    end: gst::ClockTime,
    has_ended: bool,
}

impl Playback {
    /// Takes the `file` element of a pipeline in NULL into care.
    pub(in crate::media) fn attach(
        pipeline: &gst::Pipeline,
        clock: &SharedClock,
        video: &Video,
        wants_audio: bool,
    ) -> Option<Arc<Self>> {
        let file = pipeline.by_name(FILE)?;
        let (clock, pipeline) = (clock.clone(), pipeline.downgrade());
        let Video { repeat, width, height, framerate, .. } = *video;
        let (size, state) = ((width, height), Mutex::default());
        let playback = Arc::new(Self { clock, pipeline, repeat, size, framerate, wants_audio, state });
        let this = Arc::clone(&playback);
        file.connect_pad_added(move |file, pad| this.add_stream(file, pad));
        let this = Arc::clone(&playback);
        file.connect_no_more_pads(move |_| this.all_streams_known());
        Some(playback)
    }

    /// All streams have ended: plays them again. Blocks for the seek; false if the file cannot be rewound.
    pub(in crate::media) fn rewind(&self) -> bool {
        let pads: Vec<gst::Pad> = {
            let mut state = self.lock();
            let longest = state.streams.iter().map(|stream| stream.end).max().unwrap_or_default();
            // A rewind that comes too late (the machine was busy) starts now instead of racing to catch up.
            let offset = (state.offset.unwrap_or_default() + longest).max(self.clock.now());
            state.offset = Some(offset);
            for stream in &mut state.streams {
                stream.has_ended = false;
                stream.end = gst::ClockTime::ZERO;
            }
            let pads: Vec<_> = state.streams.iter().filter_map(|stream| stream.pad.upgrade()).collect();
            pads.iter().for_each(|pad| set_offset(pad, offset));
            pads
        };
        pads.iter().any(|pad| {
            pad.send_event(
                gst::event::Seek::builder(
                    1.0,
                    gst::SeekFlags::FLUSH,
                    gst::SeekType::Set,
                    gst::ClockTime::ZERO,
                    gst::SeekType::None,
                    gst::ClockTime::NONE,
                )
                .build(),
            )
        })
    }

    fn add_stream(self: &Arc<Self>, file: &gst::Element, pad: &gst::Pad) {
        // gst_parse_launch linked what the launch text wants; subtitles and second languages stay outside.
        if !pad.is_linked() {
            return;
        }
        if still::is_still(file) {
            return self.add_still(pad);
        }
        let is_video = pad.current_caps().and_then(|caps| Some(caps.structure(0)?.name().starts_with("video/")));
        let mut state = self.lock();
        set_offset(pad, *state.offset.get_or_insert_with(|| self.clock.now() + LEAD));
        let index = state.streams.len();
        state.streams.push(Stream {
            pad: pad.downgrade(),
            is_video: is_video.unwrap_or(false),
            end: gst::ClockTime::ZERO,
            has_ended: false,
        });
        drop(state);
        let this = Arc::clone(self);
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::EVENT_FLUSH;
        pad.add_probe(kinds, move |pad, info| this.on_data(index, pad, info));
    }

    fn add_still(&self, pad: &gst::Pad) {
        let Some(pipeline) = self.pipeline.upgrade() else { return };
        match still::repeat(&pipeline, pad, self.size, self.framerate) {
            Ok(repeated) => {
                set_offset(&repeated, self.clock.now() + LEAD);
                self.lock().has_still = true;
            }
            // Told as what it comes to: a file without a picture.
            Err(error) => tracing::error!("a still picture cannot be played: {error}"),
        }
    }

    fn all_streams_known(&self) {
        let (has_video, has_audio) = {
            let mut state = self.lock();
            state.all_known = true;
            let has_film = state.streams.iter().any(|s| s.is_video);
            (has_film || state.has_still, state.streams.iter().any(|s| !s.is_video))
        };
        let Some(pipeline) = self.pipeline.upgrade() else { return };
        if !has_video {
            wake(&pipeline, Wake::NoPicture);
        } else if self.wants_audio && !has_audio {
            // Cannot fail where the test tone works; and without it the sound is missing, not the broadcast.
            let _no_sound = add_silence(&pipeline);
        }
    }

    fn on_data(&self, index: usize, pad: &gst::Pad, info: &gst::PadProbeInfo<'_>) -> gst::PadProbeReturn {
        if let Some(buffer) = info.buffer() {
            let end = buffer.pts().map(|pts| pts + buffer.duration().unwrap_or_default()).and_then(|end| {
                let segment = pad.sticky_event::<gst::event::Segment>(0)?;
                segment.segment().downcast_ref::<gst::ClockTime>()?.to_running_time(end)
            });
            if let (Some(end), Some(stream)) = (end, self.lock().streams.get_mut(index)) {
                stream.end = stream.end.max(end);
            }
            return gst::PadProbeReturn::Ok;
        }
        match info.event().map(|event| event.type_()) {
            Some(gst::EventType::FlushStart | gst::EventType::FlushStop) => gst::PadProbeReturn::Handled,
            Some(gst::EventType::Eos) => self.on_end(index),
            Some(_) | None => gst::PadProbeReturn::Ok,
        }
    }

    fn on_end(&self, index: usize) -> gst::PadProbeReturn {
        if !self.repeat {
            return gst::PadProbeReturn::Ok;
        }
        let all_ended = {
            let mut state = self.lock();
            if let Some(stream) = state.streams.get_mut(index) {
                stream.has_ended = true;
            }
            state.all_known && state.streams.iter().all(|stream| stream.has_ended)
        };
        if all_ended && let Some(pipeline) = self.pipeline.upgrade() {
            wake(&pipeline, Wake::FileEnded);
        }
        gst::PadProbeReturn::Handled
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set_offset(pad: &gst::Pad, offset: gst::ClockTime) {
    pad.set_offset(i64::try_from(offset.nseconds()).unwrap_or(i64::MAX));
}

/// Feeds silence to the audio branch that waits for a stream which the file does not have.
fn add_silence(pipeline: &gst::Pipeline) -> Result<(), gst::glib::BoolError> {
    let silence = gst::ElementFactory::make("audiotestsrc").property("is-live", true).build()?;
    silence.set_property_from_str("wave", "silence");
    pipeline.add(&silence)?;
    if let Some(branch) = pipeline.by_name(AUDIO_SOURCE) {
        silence.link(&branch)?;
    }
    silence.sync_state_with_parent()
}
