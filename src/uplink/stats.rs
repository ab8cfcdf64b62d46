//! The figures of the RTP session -> [`LinkStats`].
//!
//! Not webrtcbin's own statistics: it names each of its entries after an SSRC, an address or a transport, and GLib keeps the
//! name of every field that ever was (`GQuark`): 12 of them in each session, some 0.8 kB, for ever.

use std::time::Duration;

use crate::media::tracks::Hatch;
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

/// Sums what the RTP session (`rtpsession`, its property `stats`) says that we have sent. Of what the far end reports of these
/// streams (retransmissions are others), the worst loss and the longest round trip count. The path is not told there.
pub(crate) fn read(session: &gst::StructureRef, streams: &[u32]) -> Reading {
    let sources = session.get::<glib::ValueArray>("source-stats");
    let sources = sources.iter().flat_map(|sources| sources.iter());
    sum(sources.filter_map(|source| source.get::<gst::Structure>().ok()), streams)
}

fn sum(sources: impl IntoIterator<Item = gst::Structure>, streams: &[u32]) -> Reading {
    let mut reading = Reading::default();
    for source in sources {
        let is = |field: &str| source.get::<bool>(field).unwrap_or_default();
        if is("internal") {
            reading.bytes_sent += source.get::<u64>("octets-sent").unwrap_or_default();
            reading.packets_sent += source.get::<u64>("packets-sent").unwrap_or_default();
        } else if is("have-rb") && source.get::<u32>("rb-ssrc").is_ok_and(|ssrc| streams.contains(&ssrc)) {
            // Seconds in units of 1/65536, and a part of 256 (RFC 3550, section 6.4.1).
            // 0 until the far end has seen a report of ours.
            let rtt = source.get::<u32>("rb-round-trip").ok().filter(|units| *units > 0);
            let rtt = rtt.map(|units| f64::from(units) / 65_536.0);
            reading.rtt = reading.rtt.into_iter().chain(rtt).reduce(f64::max);
            let loss = source.get::<u32>("rb-fractionlost").ok().map(|part| f64::from(part) / 256.0);
            reading.loss = reading.loss.into_iter().chain(loss).reduce(f64::max);
        }
    }
    reading
}

/// The local address of the pair in use, from webrtcbin's statistics.
pub(crate) fn path(stats: &gst::StructureRef) -> Option<String> {
    let entries = || stats.iter().filter_map(|(_, value)| value.get::<gst::Structure>().ok());
    let pair = entries().find_map(|entry| entry.get::<String>("selected-candidate-pair-id").ok())?;
    let pair = stats.get::<gst::Structure>(&pair).ok()?;
    let local = pair.get::<String>("local-candidate-id").ok()?;
    stats.get::<gst::Structure>(&local).ok()?.get::<String>("address").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(packets: u64, octets: u64) -> gst::Structure {
        let source = gst::Structure::builder("application/x-rtp-source-stats").field("internal", true);
        source.field("packets-sent", packets).field("octets-sent", octets).build()
    }

    fn report(of: u32, rtt: u32, lost: u32) -> gst::Structure {
        let source = gst::Structure::builder("application/x-rtp-source-stats").field("internal", false);
        let source = source.field("have-rb", true).field("rb-ssrc", of);
        source.field("rb-round-trip", rtt).field("rb-fractionlost", lost).build()
    }

    #[test]
    fn all_that_was_sent_counts_and_the_worst_report_of_our_own_streams() {
        gst::init().unwrap();
        let silent = gst::Structure::builder("application/x-rtp-source-stats").field("have-rb", false).build();
        // Stream 9 is none of ours: retransmissions, of which half are lost.
        let sources =
            [sent(7, 700), report(1, 0x8000, 0), report(2, 0x4000, 64), silent, report(9, 0xffff, 128), sent(1, 50)];
        let expected = Reading { bytes_sent: 750, packets_sent: 8, rtt: Some(0.5), loss: Some(0.25), path: None };
        assert_eq!(sum(sources, &[1, 2]), expected);
        let unknown = Reading { loss: Some(0.0), ..Reading::default() };
        assert_eq!(sum([report(1, 0, 0)], &[1]), unknown, "a round trip of nothing is none that was measured");
    }
}
