//! One encoded track on its way into webrtcbin: appsrc, payloader, RTP caps.

use std::sync::Arc;

use gst::prelude::*;

use crate::config::VideoCodec;
use crate::media::tracks::{Subscription, Track, TrackKind};

use super::offered::Offered;

/// Biggest RTP packet. With IPv6, UDP, SRTP and TURN around it this stays below the 1280 bytes that every path carries.
const MTU: u32 = 1200;
/// Payload types as browsers and servers of this field use them most.
const VIDEO_PAYLOAD_TYPE: u32 = 96;
const AUDIO_PAYLOAD_TYPE: u32 = 111;
/// At 30 fps this is a third of a second; more than that waiting means the link is stuck, and old pictures help nobody.
const WAITING_FRAMES_MAX: u64 = 10;

/// A track with its way into the session pipeline.
pub(crate) struct Outlet {
    track: Arc<Track>,
    /// Synchronisation source of the RTP stream.
    pub(crate) ssrc: u32,
    /// appsrc to capssetter.
    pub(crate) bin: gst::Bin,
    /// What the m-line of the offer says.
    pub(crate) caps: gst::Caps,
    source: gst_app::AppSrc,
    subscription: Option<Subscription>,
}

impl Outlet {
    /// Builds the elements; nothing flows before [`Outlet::open`].
    ///
    /// The capssetter hides from the payloader what the m-line says, and from webrtcbin what the payloader says: else
    /// rtph264pay refuses every frame of a higher level or another profile than was offered, and webrtcbin whatever differs
    /// from it in any other parameter. What was encoded goes out; it is the offer that has to be true ([`Offered`]).
    pub(crate) fn new(track: &Arc<Track>, offered: &Offered, ssrc: u32) -> Result<Self, glib::Error> {
        let (payloader, caps) = match track.kind() {
            TrackKind::Audio => (audio_payloader(ssrc), audio_caps(offered.stereo, ssrc)),
            TrackKind::Video => (video_payloader(offered.codec, ssrc), video_caps(offered, ssrc)),
        };
        let launch = format!(
            "appsrc name=source format=time is-live=true leaky-type=downstream max-bytes=0 max-time=0 \
             max-buffers={WAITING_FRAMES_MAX} ! {payloader} ! capssetter name=format"
        );
        let bin = gst::parse::bin_from_description(&launch, true)?;
        let source = bin
            .by_name("source")
            .and_then(|element| element.downcast::<gst_app::AppSrc>().ok())
            .ok_or_else(|| glib::Error::new(gst::ParseError::NoSuchElement, "appsrc"))?;
        if let Some(format) = bin.by_name("format") {
            format.set_property("caps", &caps);
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
fn video_caps(offered: &Offered, ssrc: u32) -> gst::Caps {
    let builder = gst::Caps::builder("application/x-rtp")
        .field("media", "video")
        .field("payload", i32::try_from(VIDEO_PAYLOAD_TYPE).unwrap_or_default())
        .field("clock-rate", 90_000)
        .field("ssrc", ssrc)
        .field("rtcp-fb-nack", true)
        .field("rtcp-fb-nack-pli", true)
        .field("rtcp-fb-ccm-fir", true);
    match offered.codec {
        VideoCodec::H264 => builder
            .field("encoding-name", "H264")
            .field("packetization-mode", "1")
            .field("level-asymmetry-allowed", "1")
            .field("profile-level-id", offered.profile_level_id.to_string())
            .build(),
        VideoCodec::Vp8 => builder.field("encoding-name", "VP8").build(),
        VideoCodec::Vp9 => builder.field("encoding-name", "VP9").field("profile-id", "0").build(),
    }
}

/// Without the two words of RFC 7587, section 6.1, many receivers make mono of stereo.
fn audio_caps(stereo: bool, ssrc: u32) -> gst::Caps {
    let stereo = stereo.then_some("1");
    gst::Caps::builder("application/x-rtp")
        .field("media", "audio")
        .field("payload", i32::try_from(AUDIO_PAYLOAD_TYPE).unwrap_or_default())
        .field("clock-rate", 48_000)
        .field("ssrc", ssrc)
        .field("encoding-name", "OPUS")
        .field("encoding-params", "2")
        .field("minptime", "10")
        .field("useinbandfec", "1")
        .field_if_some("stereo", stereo)
        .field_if_some("sprop-stereo", stereo)
        .build()
}
