//! A small config, a hatch with ears, and an inbox that is read with a generous deadline.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gst::prelude::*;
use roamcast::config::units::Bitrate;
use roamcast::config::*;
use roamcast::inbox::Inbox;
use roamcast::media::Studio;
use roamcast::media::tracks::{Hatch, SharedClock, Subscription, Track, TrackKind};
use roamcast::supervisor::event::{Attempt, Event, Failure, MediaEvent};
use roamcast::supervisor::policy::{Policy, Retries};

/// Nothing here should take this long; only a hang does.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// 320x180 at 30 a second, test picture and tone.
pub(crate) fn config() -> Config {
    Config {
        name: "test".into(),
        video: Video {
            pipeline: "test".into(),
            device: None,
            uri: None,
            repeat: false,
            width: 320,
            height: 180,
            framerate: 30,
            codec: VideoCodec::H264,
            encoder: None,
            bitrate: Bitrate::from_bps(500_000),
            keyframe_interval: Duration::from_secs(2),
        },
        audio: Some(Audio { pipeline: "test".into(), device: None, bitrate: Bitrate::from_bps(64_000), channels: 2 }),
        uplink: Uplink {
            protocol: Protocol::Whip,
            janus: None,
            url: url::Url::parse("http://127.0.0.1:9/whip").unwrap(),
            fallback_urls: Vec::new(),
            token: None,
            ca_file: None,
            fingerprints: Vec::new(),
            allow_clear_text: false,
            ice_servers: Vec::new(),
            relay_only: false,
            dtls_certificate: DtlsCertificate::Ecdsa,
            trusted_origins: Vec::new(),
        },
        network: roamcast::config::Network::default(),
        policy: Policy {
            min_delay: Duration::from_secs(2),
            max_delay: Duration::from_secs(15),
            max_retries: Retries::AtMost(10),
            give_up_after: None,
            stuck_after: Duration::from_secs(30),
            disconnected_timeout: Duration::from_secs(4),
            ice_restart_attempts: 0,
            force_reconnect_after_drop: false,
            status_grace: Duration::from_secs(1),
            capture_retry_delay: Duration::from_secs(2),
            watches_consent: true,
            needs_network: false,
            signalling: roamcast::supervisor::policy::SignallingPolicy::default(),
            endpoints: 1,
        },
        capture_timeout: Duration::from_secs(2),
        control: Control { socket: ControlSocket::Off, listen: None, token_file: None },
        log: Log { level: "info".into(), format: LogFormat::Text },
    }
}

/// One encoded frame as a session gets it.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) pts: gst::ClockTime,
    pub(crate) size: usize,
    pub(crate) is_key: bool,
}

/// A session that only listens.
pub(crate) struct Ear {
    pipeline: gst::Pipeline,
    frames: Receiver<Frame>,
    subscription: Option<Subscription>,
}

impl Ear {
    fn new(track: &Arc<Track>) -> Self {
        let source = gst_app::AppSrc::builder().format(gst::Format::Time).is_live(true).build();
        let (sender, frames) = channel();
        let sink = gst_app::AppSink::builder()
            .sync(false)
            .callbacks(
                gst_app::AppSinkCallbacks::builder()
                    .new_sample(move |sink| {
                        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                        let buffer = sample.buffer().ok_or(gst::FlowError::Error)?;
                        let is_key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
                        let frame =
                            Frame { pts: buffer.pts().ok_or(gst::FlowError::Error)?, size: buffer.size(), is_key };
                        let _the_test_is_over = sender.send(frame);
                        Ok(gst::FlowSuccess::Ok)
                    })
                    .build(),
            )
            .build();
        let pipeline = gst::Pipeline::new();
        pipeline.add_many([source.upcast_ref::<gst::Element>(), sink.upcast_ref()]).unwrap();
        source.link(&sink).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let subscription = Some(track.subscribe(&source));
        Self { pipeline, frames, subscription }
    }

    /// The next frame.
    pub(crate) fn hear(&self) -> Frame {
        self.frames.recv_timeout(DEADLINE).expect("a frame comes")
    }

    /// Frames until their running times span this long.
    pub(crate) fn hear_for(&self, span: gst::ClockTime) -> Vec<Frame> {
        let mut frames = vec![self.hear()];
        while frames[frames.len() - 1].pts < frames[0].pts + span {
            frames.push(self.hear());
        }
        frames
    }

    /// Frames until there are no more waiting.
    pub(crate) fn drain(&self) -> Vec<Frame> {
        self.frames.try_iter().collect()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        drop(self.subscription.take());
        self.pipeline.set_state(gst::State::Null).unwrap();
    }
}

/// What stays while studios come and go.
pub(crate) struct Rig {
    pub(crate) hatch: Hatch,
    pub(crate) clock: SharedClock,
    pub(crate) inbox: Inbox,
    pub(crate) video: Ear,
    pub(crate) audio: Ear,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    pub(crate) fn new() -> Self {
        gst::init().unwrap();
        let hatch = Hatch::new(&[TrackKind::Video, TrackKind::Audio]);
        let (video, audio) = (Ear::new(&hatch.tracks()[0]), Ear::new(&hatch.tracks()[1]));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { hatch, clock: SharedClock::start(), inbox: Inbox::default(), video, audio, runtime }
    }

    pub(crate) fn start(&self, number: u64, config: &Config) -> Result<Studio, Failure> {
        Studio::start(Attempt(number), config, &self.hatch, &self.clock, self.inbox.clone())
    }

    /// The next word of the studio, with its number.
    pub(crate) fn next(&self) -> (u64, MediaEvent) {
        let event = self.runtime.block_on(async { tokio::time::timeout(DEADLINE, self.inbox.next()).await });
        match event.expect("the studio speaks") {
            Event::Media(Attempt(number), event) => (number, event),
            other @ (Event::Deadline
            | Event::Woke
            | Event::Command(_)
            | Event::Network(_)
            | Event::Token(_)
            | Event::Answered(_)
            | Event::Session(..)) => {
                panic!("not of the studio: {other:?}")
            }
        }
    }

    /// Waits for `Failed`.
    pub(crate) fn failure(&self) -> Failure {
        loop {
            match self.next().1 {
                MediaEvent::Failed(failure) => return failure,
                MediaEvent::Flowing | MediaEvent::Stalled | MediaEvent::Warnings(_) => {}
                other @ (MediaEvent::Ended | MediaEvent::Stopped) => panic!("expected a failure, got {other:?}"),
            }
        }
    }
}

/// Asserts that running times only go up.
pub(crate) fn assert_rising(frames: &[Frame]) {
    for pair in frames.windows(2) {
        assert!(pair[0].pts < pair[1].pts, "running time went from {} to {}", pair[0].pts, pair[1].pts);
    }
}
