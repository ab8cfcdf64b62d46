//! One encoded track on its way into webrtcbin: appsrc, payloader, RTP caps.

use std::sync::Arc;

use gst::prelude::*;

use crate::config::{Video, VideoCodec};
use crate::media::handover::{Subscription, Track, TrackKind};

/// Biggest RTP packet. With IPv6, UDP, SRTP and TURN around it this stays below the 1280 bytes that every path carries.
const MTU: u32 = 1200;
/// Payload types as browsers and servers of this field use them most.
/// Fields of RTP caps that say what is on the wire, apart from the format parameters.
const WIRE_FIELDS: [&str; 4] = ["media", "payload", "clock-rate", "encoding-name"];
const VIDEO_PAYLOAD_TYPE: u32 = 96;
const AUDIO_PAYLOAD_TYPE: u32 = 111;
/// At 30 fps this is a third of a second; more than that waiting means the link is stuck, and old pictures help nobody.
const WAITING_FRAMES_MAX: u64 = 10;

/// A track with its way into the session pipeline.
pub(crate) struct Outlet {
    track: Arc<Track>,
    /// Synchronisation source of the RTP stream.
    pub(crate) ssrc: u32,
    /// appsrc to caps filter.
    pub(crate) bin: gst::Bin,
    /// What the m-line of the offer says.
    pub(crate) caps: gst::Caps,
    source: gst_app::AppSrc,
    subscription: Option<Subscription>,
}

impl Outlet {
    /// Builds the elements; nothing flows before [`Outlet::open`].
    pub(crate) fn new(track: &Arc<Track>, video: &Video, ssrc: u32) -> Result<Self, glib::Error> {
        let (payloader, caps) = match track.kind() {
            TrackKind::Audio => (audio_payloader(ssrc), audio_caps(ssrc)),
            TrackKind::Video => (video_payloader(video.codec, ssrc), video_caps(video, ssrc)),
        };
        let launch = format!(
            "appsrc name=source format=time is-live=true leaky-type=downstream max-bytes=0 max-time=0 \
             max-buffers={WAITING_FRAMES_MAX} ! {payloader} ! capsfilter name=filter"
        );
        let bin = gst::parse::bin_from_description(&launch, true)?;
        let source = bin
            .by_name("source")
            .and_then(|element| element.downcast::<gst_app::AppSrc>().ok())
            .ok_or_else(|| glib::Error::new(gst::ParseError::NoSuchElement, "appsrc"))?;
        if let Some(filter) = bin.by_name("filter") {
            filter.set_property("caps", filter_caps(&caps));
        }
        Ok(Self { track: Arc::clone(track), ssrc, bin, caps, source, subscription: None })
    }

    /// What it carries.
    pub(crate) fn kind(&self) -> TrackKind {
        self.track.kind()
    }

    /// Lets frames through, video from a keyframe on, which is asked for at once.
    pub(crate) fn open(&mut self) {
        if self.subscription.is_none() {
            self.subscription = Some(self.track.subscribe(&self.source));
        }
    }

    /// No frame comes through any more.
    pub(crate) fn close(&mut self) {
        self.subscription = None;
    }

    /// The far end wants a keyframe.
    pub(crate) fn request_keyframe(&self) {
        self.track.request_keyframe();
    }
}

fn video_payloader(codec: VideoCodec, ssrc: u32) -> String {
    let element = match codec {
        VideoCodec::H264 => "rtph264pay config-interval=-1 aggregate-mode=zero-latency",
        VideoCodec::Vp8 => "rtpvp8pay picture-id-mode=15-bit",
        VideoCodec::Vp9 => "rtpvp9pay picture-id-mode=15-bit",
    };
    format!("{element} name=payloader mtu={MTU} pt={VIDEO_PAYLOAD_TYPE} ssrc={ssrc}")
}

fn audio_payloader(ssrc: u32) -> String {
    format!("rtpopuspay name=payloader mtu={MTU} pt={AUDIO_PAYLOAD_TYPE} ssrc={ssrc}")
}

/// Caps as the m-line states them, before a single frame was encoded: so a session can be opened while the camera is
/// still waking up, or is gone.
fn video_caps(video: &Video, ssrc: u32) -> gst::Caps {
    let builder = gst::Caps::builder("application/x-rtp")
        .field("media", "video")
        .field("payload", i32::try_from(VIDEO_PAYLOAD_TYPE).unwrap_or_default())
        .field("clock-rate", 90_000)
        .field("ssrc", ssrc)
        .field("rtcp-fb-nack", true)
        .field("rtcp-fb-nack-pli", true)
        .field("rtcp-fb-ccm-fir", true);
    match video.codec {
        VideoCodec::H264 => builder
            .field("encoding-name", "H264")
            .field("packetization-mode", "1")
            .field("level-asymmetry-allowed", "1")
            .field("profile-level-id", profile_level_id(video))
            .build(),
        VideoCodec::Vp8 => builder.field("encoding-name", "VP8").build(),
        VideoCodec::Vp9 => builder.field("encoding-name", "VP9").field("profile-id", "0").build(),
    }
}

fn audio_caps(ssrc: u32) -> gst::Caps {
    gst::Caps::builder("application/x-rtp")
        .field("media", "audio")
        .field("payload", i32::try_from(AUDIO_PAYLOAD_TYPE).unwrap_or_default())
        .field("clock-rate", 48_000)
        .field("ssrc", ssrc)
        .field("encoding-name", "OPUS")
        .field("encoding-params", "2")
        .field("minptime", "10")
        .field("useinbandfec", "1")
        .build()
}

/// What the payloader must agree to; the format parameters belong to the m-line alone.
fn filter_caps(caps: &gst::Caps) -> gst::Caps {
    let mut caps = caps.clone();
    for structure in caps.make_mut().iter_mut() {
        let of_the_m_line: Vec<String> = structure
            .fields()
            .filter(|field| !WIRE_FIELDS.contains(&field.as_str()) && !field.starts_with("rtcp-fb"))
            .map(|field| field.to_string())
            .collect();
        structure.remove_fields(of_the_m_line);
    }
    caps
}

/// Constrained baseline (42e0) with the lowest level that carries the picture (H.264 table A-1): macroblocks a frame and
/// a second decide.
fn profile_level_id(video: &Video) -> &'static str {
    let macroblocks = u64::from(video.width.div_ceil(16)) * u64::from(video.height.div_ceil(16));
    let rate = macroblocks * u64::from(video.framerate);
    match (macroblocks, rate) {
        (0..=3600, 0..=108_000) => "42e01f",
        (0..=8192, 0..=245_760) => "42e028",
        (0..=8704, 0..=522_240) => "42e02a",
        (0..=36_864, 0..=983_040) => "42e033",
        (_, _) => "42e034",
    }
}
