//! webrtcbin's statistics (W3C webrtc-stats, as far as 1.22 fills them) -> [`LinkStats`].

use std::time::Duration;

use crate::media::handover::Hatch;
use crate::status::LinkStats;

/// Turns growing counters into rates.
#[derive(Default)]
pub(crate) struct Meter {
    bytes_sent: u64,
    frames: u64,
}

/// Counters read at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reading {
    pub(crate) bytes_sent: u64,
    pub(crate) packets_sent: u64,
    pub(crate) rtt: Option<f64>,
    pub(crate) loss: Option<f64>,
    pub(crate) path: Option<String>,
}

impl Meter {
    /// Starts from the frames that were encoded before this session.
    pub(crate) fn new(hatch: &Hatch) -> Self {
        Self { bytes_sent: 0, frames: frames(hatch) }
    }

    /// Figures over the time since the call before.
    pub(crate) fn measure(
        &mut self,
        elapsed: Duration,
        reading: Reading,
        hatch: &Hatch,
        target: u64,
        keyframe_requests: u64,
    ) -> LinkStats {
        let seconds = elapsed.as_secs_f64().max(0.001);
        let frames = frames(hatch);
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "figures for people; far below 2^52, never negative"
        )]
        let stats = LinkStats {
            bitrate: (reading.bytes_sent.saturating_sub(self.bytes_sent) as f64 * 8.0 / seconds) as u64,
            target,
            rtt_ms: reading.rtt.map(|rtt| rtt * 1000.0),
            loss: reading.loss,
            fps: frames.saturating_sub(self.frames) as f64 / seconds,
            frames,
            packets_sent: reading.packets_sent,
            keyframe_requests,
            path: reading.path,
            paths: Vec::new(),
        };
        self.bytes_sent = reading.bytes_sent;
        self.frames = frames;
        stats
    }
}

fn frames(hatch: &Hatch) -> u64 {
    hatch.tracks().first().map_or(0, |track| track.frames())
}

/// Sums what the statistics say of all our streams; the worst loss and the longest round trip count.
#[allow(clippy::wildcard_enum_match_arm, reason = "an open enum of GStreamer; three kinds matter")]
pub(crate) fn read(stats: &gst::StructureRef) -> Reading {
    let mut reading = Reading::default();
    let mut selected = None;
    for (_, value) in stats.iter() {
        let Ok(entry) = value.get::<gst::Structure>() else { continue };
        let Ok(kind) = entry.get::<gst_webrtc::WebRTCStatsType>("type") else { continue };
        match kind {
            gst_webrtc::WebRTCStatsType::OutboundRtp => {
                reading.bytes_sent += entry.get::<u64>("bytes-sent").unwrap_or_default();
                reading.packets_sent += entry.get::<u64>("packets-sent").unwrap_or_default();
            }
            gst_webrtc::WebRTCStatsType::RemoteInboundRtp => {
                let rtt = entry.get::<f64>("round-trip-time").ok();
                reading.rtt = reading.rtt.into_iter().chain(rtt).reduce(f64::max);
                let loss = entry.get::<f64>("fraction-lost").ok();
                reading.loss = reading.loss.into_iter().chain(loss).reduce(f64::max);
            }
            gst_webrtc::WebRTCStatsType::Transport => {
                selected = entry.get::<String>("selected-candidate-pair-id").ok();
            }
            _ => {}
        }
    }
    reading.path = selected.and_then(|pair| local_address(stats, &pair));
    reading
}

fn local_address(stats: &gst::StructureRef, pair: &str) -> Option<String> {
    let pair = stats.get::<gst::Structure>(pair).ok()?;
    let local = pair.get::<String>("local-candidate-id").ok()?;
    stats.get::<gst::Structure>(&local).ok()?.get::<String>("address").ok()
}
