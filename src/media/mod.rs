//! The studio - capture and encode; runs whether or not anyone listens.

pub mod flow;
pub mod frame_rate;
pub mod input;
pub mod keyframes;
mod passthrough;
pub mod pipeline;
mod raw_video;
pub mod tracks;
mod wake;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use gst::prelude::*;
use gst_app::AppSink;

use crate::config::Config;
use crate::config::address::shown_address;
use crate::config::units::Bitrate;
use crate::inbox::Inbox;
use crate::status::ErrorCode;
use crate::supervisor::event::{Attempt, Event, Failure, MediaEvent, Phase, Retry};

use flow::Flow;
use pipeline::bus::Subject;
use pipeline::library::Library;
use pipeline::template::{AUDIO_OUT, BitrateControl, Plan, VIDEO_ENCODER, VIDEO_OUT};
use tracks::{Hatch, SharedClock, Track, TrackKind};
use wake::Wake;
use watch::Watcher;

pub use pipeline::build::{check, source};
pub use pipeline::promise::promise;

/// Gets GStreamer ready. Once for each process, before anything else of this room or the line.
///
/// # Errors
/// One sentence.
pub fn start_gstreamer() -> Result<(), String> {
    gst::init().map_err(|error| format!("GStreamer does not start: {error}"))
}

/// A running capture and encode pipeline, under one number.
#[must_use]
pub struct Studio {
    attempt: Attempt,
    inbox: Inbox,
    pipeline: gst::Pipeline,
    plugged: Vec<(Arc<Track>, AppSink)>,
    bitrate: Option<(gst::Element, BitrateControl)>,
    stopped: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

impl Studio {
    /// Opens the devices and starts to encode into the hatch. Blocks for as long as the devices take: call it on a
    /// blocking thread. Everything after it is told to the inbox under `attempt`: `Flowing`, `Stalled`, and at most one
    /// of `Failed` and `Ended`, after which the studio only waits to be stopped.
    ///
    /// # Errors
    /// When it cannot be started; nothing is told to the inbox then.
    pub fn start(
        attempt: Attempt,
        config: &Config,
        hatch: &Hatch,
        clock: &SharedClock,
        inbox: Inbox,
    ) -> Result<Self, Failure> {
        let (plan, pipeline) = pipeline::build::build(config, &Library::of_this_machine())?;
        let video_track = hatch.track(TrackKind::Video).ok_or_else(|| internal("the hatch has no video track"))?;
        let video_out = pipeline.by_name(VIDEO_OUT).ok_or_else(|| internal("the pipeline has no video sink"))?;
        let video_sink = video_out.static_pad("sink").ok_or_else(|| internal("the video sink has no pad"))?;
        clock.govern(&pipeline);
        raw_video::guard(&pipeline, clock, config.video.framerate);
        input::test_card::animate(&pipeline, clock);
        let playback = if plan.is_media_file {
            input::playback::Playback::attach(&pipeline, clock, &config.video, plan.audio_from_file)
        } else {
            None
        };
        let keyframes = watch::tap(&video_sink, &pipeline, clock);
        let stopped = Arc::new(AtomicBool::new(false));
        let timeout = config.capture_timeout;
        let watcher = Watcher {
            attempt,
            inbox: inbox.clone(),
            clock: clock.clone(),
            pipeline: pipeline.clone(),
            track: Arc::clone(video_track),
            video_sink,
            flow: Flow::new(timeout, video_track.frames(), clock.now().into()),
            poll: (timeout / 4).clamp(Duration::from_millis(50), Duration::from_millis(500)),
            keyframes,
            playback,
            subject: subject(config, &plan),
            stopped: Arc::clone(&stopped),
        };
        let encoder = pipeline.by_name(VIDEO_ENCODER);
        let mut studio = Self {
            attempt,
            inbox,
            plugged: plug(&pipeline, hatch),
            bitrate: encoder.zip(plan.bitrate),
            pipeline,
            stopped,
            watcher: None,
        };
        if studio.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(watcher.why_not_started());
        }
        let thread = std::thread::Builder::new().name("studio-watch".to_owned()).spawn(move || watcher.run());
        studio.watcher = Some(thread.map_err(|error| internal(&format!("no thread for the watcher: {error}")))?);
        Ok(studio)
    }

    /// Lets go of the devices and then tells `Stopped`. May hang as long as a driver hangs: call it on a blocking
    /// thread, with a deadline outside.
    pub fn stop(self) {
        let (attempt, inbox) = (self.attempt, self.inbox.clone());
        drop(self);
        inbox.post(Event::Media(attempt, MediaEvent::Stopped));
    }

    /// The bitrate that the video encoder shall aim for from now on. Does nothing for a camera that encodes itself.
    pub fn set_bitrate(&self, bitrate: Bitrate) {
        let Some((encoder, control)) = &self.bitrate else { return };
        let value = (bitrate.bps() / control.bits_per_unit).max(1);
        match &control.field {
            None => encoder.set_property_from_str(&control.property, &value.to_string()),
            Some(field) => {
                let controls = encoder.property::<Option<gst::Structure>>(&control.property);
                let mut controls = controls.unwrap_or_else(|| gst::Structure::new_empty("controls"));
                controls.set(field.as_str(), i32::try_from(value).unwrap_or(i32::MAX));
                encoder.set_property(&control.property, controls);
            }
        }
    }

    /// Asks for a keyframe; at most one in half a second is made, later wishes are deferred.
    pub fn force_keyframe(&self) {
        self.plugged.iter().for_each(|(track, _)| track.request_keyframe());
    }
}

/// A pipeline must reach NULL before it is dropped, on every path.
impl Drop for Studio {
    fn drop(&mut self) {
        for (track, sink) in &self.plugged {
            track.unplug(sink);
        }
        self.stopped.store(true, Ordering::Release);
        wake::wake(&self.pipeline, Wake::Look);
        if let Some(watcher) = self.watcher.take() {
            // A watcher that panicked has nothing left to clean up.
            let _panicked = watcher.join();
        }
        tracks::shut_down(&self.pipeline);
    }
}

/// Joins the appsinks of the pipeline to the tracks of their kind.
fn plug(pipeline: &gst::Pipeline, hatch: &Hatch) -> Vec<(Arc<Track>, AppSink)> {
    let mut plugged = Vec::new();
    for (kind, name) in [(TrackKind::Video, VIDEO_OUT), (TrackKind::Audio, AUDIO_OUT)] {
        let sink = pipeline.by_name(name).and_then(|element| element.downcast::<AppSink>().ok());
        if let (Some(track), Some(sink)) = (hatch.track(kind), sink) {
            track.plug(&sink);
            plugged.push((Arc::clone(track), sink));
        }
    }
    plugged
}

fn subject(config: &Config, plan: &Plan) -> Subject {
    let name = |pipeline: &str, at: Option<&String>| match at {
        Some(at) => format!("`{pipeline}` (`{}`)", shown_address(at)),
        None => format!("`{pipeline}`"),
    };
    Subject {
        video: name(&config.video.pipeline, config.video.device.as_ref().or(config.video.uri.as_ref())),
        audio: config.audio.as_ref().map_or_else(String::new, |audio| name(&audio.pipeline, audio.device.as_ref())),
        is_media_file: plan.is_media_file,
        passes_on: plan.passes_on.map(pipeline::template::codec_name),
    }
}

fn internal(words: &str) -> Failure {
    Failure::new(Phase::Capture, Retry::Never, ErrorCode::Internal, words)
}
