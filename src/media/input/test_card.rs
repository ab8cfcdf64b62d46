//! The test picture's wall clock, flash and beep: found by element name, driven by the running time of each buffer.
//!
//! Picture and sound start on their own; what joins them is the wall clock. At each whole second the dot flashes and
//! the tone swells, so that a wrong lip sync is seen and heard.

use gst::prelude::*;

use crate::media::tracks::SharedClock;

const SECOND_US: i64 = 1_000_000;
/// Long enough to be seen in three frames of 30 a second, short enough to be a beep.
const MARK_US: i64 = 100_000;
/// The tone between beeps: soft, but an audio level that shows that sound arrives.
const SOFT: f64 = 0.05;

/// Sets up those of the elements `wall_clock`, `second_flash` and `second_beep` that the pipeline has.
pub(in crate::media) fn animate(pipeline: &gst::Pipeline, clock: &SharedClock) {
    let running_us = i64::try_from(clock.now().useconds()).unwrap_or_default();
    let Ok(epoch) = gst::glib::DateTime::now_local().and_then(|now| now.add(gst::glib::TimeSpan(-running_us))) else {
        return;
    };
    // Time zones are whole minutes off UTC: the microsecond within the second is the same everywhere.
    let phase_us = i64::from(epoch.microsecond());
    if let Some(clock) = pipeline.by_name("wall_clock") {
        clock.set_property("datetime-epoch", &epoch);
    }
    if let Some(flash) = pipeline.by_name("second_flash") {
        on_each_buffer(&flash, "video_sink", phase_us, |flash, marked| flash.set_property("silent", !marked));
    }
    if let Some(beep) = pipeline.by_name("second_beep") {
        on_each_buffer(&beep, "sink", phase_us, |beep, marked| {
            beep.set_property("volume", if marked { 1.0 } else { SOFT });
        });
    }
}

/// Tells, before the element sees a buffer, whether it lies in the mark at the start of a second of the wall clock.
fn on_each_buffer(element: &gst::Element, pad: &str, phase_us: i64, tell: fn(&gst::Element, bool)) {
    let Some(pad) = element.static_pad(pad) else { return };
    let weak = element.downgrade();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let running_time = info.buffer().and_then(|buffer| buffer.pts()).and_then(|pts| {
            pad.sticky_event::<gst::event::Segment>(0)?.segment().downcast_ref::<gst::ClockTime>()?.to_running_time(pts)
        });
        if let (Some(time), Some(element)) = (running_time, weak.upgrade()) {
            let us = i64::try_from(time.useconds()).unwrap_or_default();
            tell(&element, (phase_us + us).rem_euclid(SECOND_US) < MARK_US);
        }
        gst::PadProbeReturn::Ok
    });
}
