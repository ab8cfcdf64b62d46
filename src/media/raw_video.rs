//! Raw pictures on their way from the source to the encoder: what the source leaves out is filled in, what is too much dropped.
//!
//! Drivers, decoders and other people's pipelines give pictures without frame rate, timestamps or durations. Elements and
//! encoders behind them stop the broadcast on that, or the whole process (an assertion). So all of it is put right in one
//! place: where the pictures enter our part of the pipeline.

use std::sync::{Mutex, PoisonError};

use gst::prelude::*;

use super::frame_rate::{Limiter, announced};
use super::pipeline::template::RAW_VIDEO;
use super::tracks::SharedClock;

/// Guards the raw pictures of a pipeline in NULL; does nothing where the source is encoded already.
pub(super) fn guard(pipeline: &gst::Pipeline, clock: &SharedClock, framerate: u32) {
    let Some(pad) = pipeline.by_name(RAW_VIDEO).and_then(|element| element.static_pad("sink")) else { return };
    let clock = clock.clone();
    let limiter = Mutex::new(Limiter::new(framerate));
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        let mut limiter = limiter.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                if take(buffer, pad, &clock, &mut limiter) {
                    gst::PadProbeReturn::Ok
                } else {
                    // Not `Drop`: the bindings own the picture by now, and GStreamer would release it a second time.
                    gst::PadProbeReturn::Handled
                }
            }
            Some(gst::PadProbeData::Event(event)) => {
                if let Some(better) = correct(event, framerate) {
                    *event = better;
                }
                // New timestamps begin: a file is played again, or the source was restarted.
                if event.type_() == gst::EventType::Segment {
                    *limiter = Limiter::new(framerate);
                }
                gst::PadProbeReturn::Ok
            }
            Some(_) | None => gst::PadProbeReturn::Ok,
        }
    });
}

/// Fills in timestamp and duration; false if the picture is one too many.
fn take(buffer: &mut gst::Buffer, pad: &gst::Pad, clock: &SharedClock, limiter: &mut Limiter) -> bool {
    let Some(pts) = buffer.pts().or_else(|| position_now(pad, clock)) else { return false };
    if !limiter.passes(pts.into()) {
        return false;
    }
    let has_duration = buffer.duration().is_some_and(|duration| !duration.is_zero());
    if buffer.pts().is_none() || !has_duration {
        let buffer = buffer.make_mut();
        buffer.set_pts(pts);
        if !has_duration {
            buffer.set_duration(gst::ClockTime::try_from(limiter.interval()).ok());
        }
    }
    true
}

/// The timestamp of a picture that is taken now.
fn position_now(pad: &gst::Pad, clock: &SharedClock) -> Option<gst::ClockTime> {
    let segment = pad.sticky_event::<gst::event::Segment>(0)?;
    segment.segment().downcast_ref::<gst::ClockTime>()?.position_from_running_time(clock.now())
}

/// What the elements behind shall be told instead; `None` when the event is fine.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "an open enum of GStreamer's; other events say nothing of the pictures"
)]
fn correct(event: &gst::Event, framerate: u32) -> Option<gst::Event> {
    match event.view() {
        gst::EventView::Caps(caps) => {
            let caps = with_framerate(with_pixel_aspect_ratio(caps.caps().to_owned()), framerate);
            Some(gst::event::Caps::builder(&caps).seqnum(event.seqnum()).build())
        }
        // Bytes tell no time (a pipe, a shared memory): the pictures are stamped as they come.
        gst::EventView::Segment(segment) if segment.segment().format() != gst::Format::Time => {
            let segment = gst::FormattedSegment::<gst::ClockTime>::new();
            Some(gst::event::Segment::builder(&segment).seqnum(event.seqnum()).build())
        }
        _ => None,
    }
}

/// The caps with a frame rate that encoders can go by.
fn with_framerate(mut caps: gst::Caps, max: u32) -> gst::Caps {
    let told = fraction(&caps, "framerate");
    let (numerator, denominator) = announced(told, max);
    if told.is_none_or(|(numerator, denominator)| numerator < denominator) {
        tracing::warn!(
            "the video source does not tell its frame rate: {max} a second is assumed; \
             set `video.framerate` to what it gives, else the bitrate is missed"
        );
    }
    caps.make_mut().set("framerate", gst::Fraction::new(numerator, denominator));
    caps
}

/// The caps with square pixels in place of a ratio that no camera has: scaling to it is refused by the scaler.
fn with_pixel_aspect_ratio(mut caps: gst::Caps) -> gst::Caps {
    // The widest in use is 2:1 (anamorphic film), the narrowest 1:2 (one field of an interlaced picture).
    const WIDEST: i32 = 8;
    let is_fine = |(n, d): (i32, i32)| n > 0 && d > 0 && n / d < WIDEST && d / n < WIDEST;
    if fraction(&caps, "pixel-aspect-ratio").is_some_and(|ratio| !is_fine(ratio)) {
        caps.make_mut().set("pixel-aspect-ratio", gst::Fraction::new(1, 1));
    }
    caps
}

fn fraction(caps: &gst::CapsRef, field: &str) -> Option<(i32, i32)> {
    caps.structure(0)?.get::<gst::Fraction>(field).ok().map(|value| (value.numer(), value.denom()))
}
