//! The studio's watcher: one thread that waits on the bus, counts frames and grants deferred keyframes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gst::prelude::*;

use super::flow::{Change, Flow};
use super::input::playback::Playback;
use super::keyframes::Limiter;
use super::passthrough;
use super::pipeline::bus::{self, Fault, FaultKind, Side, Subject};
use super::pipeline::template::{AUDIO_ENCODER, AUDIO_SOURCE, VIDEO_ENCODER, VIDEO_SOURCE};
use super::tracks::{SharedClock, Track};
use super::wake::{Wake, wake};
use crate::config::address::with_shown_addresses;
use crate::inbox::Inbox;
use crate::status::ErrorCode;
use crate::supervisor::event::{Attempt, Event, Failure, MediaEvent, Phase, Retry};

/// All that the watcher's thread owns.
pub(super) struct Watcher {
    pub(super) attempt: Attempt,
    pub(super) inbox: Inbox,
    pub(super) clock: SharedClock,
    pub(super) pipeline: gst::Pipeline,
    pub(super) track: Arc<Track>,
    /// The sink pad of `video_out`.
    pub(super) video_sink: gst::Pad,
    pub(super) flow: Flow,
    pub(super) poll: Duration,
    pub(super) keyframes: Arc<Mutex<Limiter>>,
    pub(super) playback: Option<Arc<Playback>>,
    pub(super) subject: Subject,
    pub(super) stopped: Arc<AtomicBool>,
}

impl Watcher {
    /// Runs until the studio stops or has failed or ended.
    pub(super) fn run(mut self) {
        let Some(bus) = self.pipeline.bus() else { return };
        let mut missing = None;
        while !self.stopped.load(Ordering::Acquire) {
            let last_word = bus.timed_pop(self.wait()).and_then(|message| self.hear(&message, &mut missing));
            if let Some(event) = last_word {
                self.tell(event);
                return;
            }
            self.look();
        }
    }

    /// The pipeline refused to start: the reason is on the bus.
    pub(super) fn why_not_started(&self) -> Failure {
        let message = self.pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(error)) => bus::failure(&self.fault(error, None), &self.subject),
            _ => {
                let words = format!("video source {} did not start and did not say why", self.subject.video);
                Failure::new(Phase::Capture, Retry::Backoff, ErrorCode::CaptureLost, words)
            }
        }
    }

    /// Until the next look at the frame counter or the next deferred keyframe.
    fn wait(&self) -> gst::ClockTime {
        let due = self.keyframes.lock().unwrap_or_else(PoisonError::into_inner).due();
        let until_due = due.map(|due| due.saturating_sub(self.now()));
        let wait = until_due.map_or(self.poll, |until| until.min(self.poll));
        gst::ClockTime::from_nseconds(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX / 2))
    }

    /// The event after which the studio of this number has no more to say, if the message is one.
    #[allow(clippy::wildcard_enum_match_arm, reason = "an open enum of GStreamer's; the rest says nothing to us")]
    fn hear(&self, message: &gst::Message, missing: &mut Option<String>) -> Option<MediaEvent> {
        match message.view() {
            gst::MessageView::Error(error) => {
                Some(MediaEvent::Failed(bus::failure(&self.fault(error, missing.take()), &self.subject)))
            }
            gst::MessageView::Latency(_) => {
                let _harmless_if_not_yet_playing = self.pipeline.recalculate_latency();
                None
            }
            gst::MessageView::Element(element) => {
                let structure = element.structure().filter(|s| s.name() == "missing-plugin");
                if let Some(Ok(name)) = structure.map(|structure| structure.get::<String>("name")) {
                    *missing = Some(name);
                }
                None
            }
            gst::MessageView::Application(word) => {
                let name = word.structure().map(|structure| structure.name().as_str().to_owned());
                self.on_wake(Wake::ALL.into_iter().find(|wake| Some(wake.name()) == name.as_deref())?)
            }
            _ => None,
        }
    }

    fn on_wake(&self, wake: Wake) -> Option<MediaEvent> {
        let words = match wake {
            Wake::Look => return None,
            Wake::PictureEnded if self.playback.is_some() => return Some(MediaEvent::Ended),
            Wake::PictureEnded => return Some(MediaEvent::Failed(bus::ended_early(&self.subject))),
            Wake::FileEnded if self.playback.as_ref().is_some_and(|playback| playback.rewind()) => return None,
            Wake::FileEnded => "cannot be played again: it cannot be rewound; set `video.repeat` = false",
            Wake::NoPicture => "has no picture",
        };
        let words = format!("video source {} {words}", self.subject.video);
        Some(MediaEvent::Failed(Failure::new(Phase::Capture, Retry::Never, ErrorCode::BadConfig, words)))
    }

    fn look(&mut self) {
        let now = self.now();
        if self.keyframes.lock().unwrap_or_else(PoisonError::into_inner).take_due(now) {
            force_keyframe(&self.video_sink);
        }
        match self.flow.look(self.track.frames(), now) {
            Some(Change::Flowing) => self.tell(MediaEvent::Flowing),
            Some(Change::Stalled) => self.tell(MediaEvent::Stalled),
            None => {}
        }
        if let Some(warnings) = self.track.new_warnings() {
            self.tell(MediaEvent::Warnings(warnings));
        }
    }

    fn now(&self) -> Duration {
        self.clock.now().into()
    }

    fn tell(&self, event: MediaEvent) {
        self.inbox.post(Event::Media(self.attempt, event));
    }

    fn fault(&self, message: &gst::message::Error, missing: Option<String>) -> Fault {
        let error = message.error();
        let debug = message.debug().unwrap_or_default();
        let element = message.src().and_then(|source| source.downcast_ref::<gst::Element>());
        Fault {
            kind: if missing.is_some() { FaultKind::MissingPlugin } else { kind(&error, &debug) },
            side: message.src().map_or(Side::Video, side),
            element: element
                .and_then(gst::Element::factory)
                .map_or_else(|| "pipeline".into(), |f| f.name().to_string()),
            words: with_shown_addresses(error.message()),
            missing,
            sent_instead: self
                .pipeline
                .by_name(VIDEO_SOURCE)
                .and_then(|source| passthrough::sent_instead(&source, self.subject.passes_on)),
        }
    }
}

/// Lets the first frame and the end wake the watcher, and makes it merge keyframe wishes that come too close together.
pub(super) fn tap(video_sink: &gst::Pad, pipeline: &gst::Pipeline, clock: &SharedClock) -> Arc<Mutex<Limiter>> {
    let weak = pipeline.downgrade();
    video_sink.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        if let Some(pipeline) = weak.upgrade() {
            wake(&pipeline, Wake::Look);
        }
        gst::PadProbeReturn::Remove
    });
    let weak = pipeline.downgrade();
    // The picture alone decides: a microphone beside it never ends, so the bus would not tell.
    video_sink.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let (Some(gst::EventType::Eos), Some(pipeline)) = (info.event().map(|event| event.type_()), weak.upgrade()) {
            wake(&pipeline, Wake::PictureEnded);
        }
        gst::PadProbeReturn::Ok
    });
    let keyframes = Arc::new(Mutex::new(Limiter::default()));
    let (limiter, clock, weak) = (Arc::clone(&keyframes), clock.clone(), pipeline.downgrade());
    video_sink.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        if !info.event().is_some_and(|event| gst_video::ForceKeyUnitEvent::is(event)) {
            return gst::PadProbeReturn::Ok;
        }
        if limiter.lock().unwrap_or_else(PoisonError::into_inner).wish(clock.now().into()) {
            return gst::PadProbeReturn::Ok;
        }
        if let Some(pipeline) = weak.upgrade() {
            wake(&pipeline, Wake::Look);
        }
        gst::PadProbeReturn::Handled
    });
    keyframes
}

/// Sends the wish past the limiter.
fn force_keyframe(video_sink: &gst::Pad) {
    if let Some(peer) = video_sink.peer() {
        // Refused while the encoder is not running: then its first frame is a keyframe anyway.
        let _refused = peer.send_event(gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
    }
}

fn side(source: &gst::Object) -> Side {
    let mut at = Some(source.clone());
    while let Some(object) = at {
        match object.name().as_str() {
            VIDEO_ENCODER | AUDIO_ENCODER => return Side::Encoder,
            AUDIO_SOURCE => return Side::Audio,
            _ => at = object.parent(),
        }
    }
    Side::Video
}

#[allow(clippy::wildcard_enum_match_arm, reason = "an open enum of GStreamer's; the rest says nothing to us")]
fn kind(error: &gst::glib::Error, debug: &str) -> FaultKind {
    use gst::{CoreError, ResourceError, StreamError};
    if debug.contains("Permission denied") {
        return FaultKind::Denied;
    }
    if let Some(resource) = error.kind::<ResourceError>() {
        return match resource {
            ResourceError::NotFound => FaultKind::NotFound,
            ResourceError::Busy => FaultKind::Busy,
            ResourceError::NotAuthorized => FaultKind::Denied,
            ResourceError::OpenRead
            | ResourceError::OpenWrite
            | ResourceError::OpenReadWrite
            | ResourceError::Settings => FaultKind::Open,
            ResourceError::Read | ResourceError::Sync | ResourceError::Seek => FaultKind::Read,
            _ => FaultKind::Other,
        };
    }
    match (error.kind::<StreamError>(), error.kind::<CoreError>()) {
        (Some(StreamError::CodecNotFound), _) | (_, Some(CoreError::MissingPlugin)) => FaultKind::MissingPlugin,
        (Some(StreamError::TypeNotFound | StreamError::WrongType | StreamError::Decode | StreamError::Demux), _) => {
            FaultKind::NotMedia
        }
        (Some(_) | None, _) => FaultKind::Other,
    }
}
