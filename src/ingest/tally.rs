//! Pure: what came of one publisher, counted after retransmissions and reordering: frames, packets, holes.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::timeline::Kind;

/// Of one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct Count {
    /// Whole frames.
    pub(super) frames: u64,
    /// RTP packets that these frames came in.
    pub(super) packets: u64,
    /// RTP packets missing between them.
    pub(super) lost: u64,
    /// The sequence number that comes next.
    #[serde(skip)]
    next: Option<u64>,
}

impl Count {
    /// A frame came in the packets of these extended sequence numbers.
    fn frame(&mut self, packets: &RangeInclusive<u64>) {
        self.frames += 1;
        self.packets += packets.end().saturating_sub(*packets.start()) + 1;
        self.lost += self.next.map_or(0, |next| packets.start().saturating_sub(next));
        self.next = self.next.max(Some(packets.end().saturating_add(1)));
    }
}

/// Of one media connection, from its first frame on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct Tally {
    /// Picture.
    pub(super) video: Count,
    /// Sound.
    pub(super) audio: Count,
}

impl Tally {
    /// A frame of this kind came in the packets of these extended sequence numbers.
    pub(super) fn frame(&mut self, kind: Kind, packets: &RangeInclusive<u64>) {
        match kind {
            Kind::Video => self.video.frame(packets),
            Kind::Audio => self.audio.frame(packets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_packets_and_holes_are_counted_for_each_kind() {
        let mut tally = Tally::default();
        for packets in [100..=104, 105..=105, 109..=110, 111..=111] {
            tally.frame(Kind::Video, &packets);
        }
        tally.frame(Kind::Audio, &(7..=7));
        let Count { frames, packets, lost, .. } = tally.video;
        assert_eq!((frames, packets, lost), (4, 9, 3), "106 to 108 are missing");
        let Count { frames, packets, lost, .. } = tally.audio;
        assert_eq!((frames, packets, lost), (1, 1, 0));
    }

    #[test]
    fn what_comes_twice_or_late_is_no_hole() {
        let mut count = Count::default();
        for packets in [10..=12, 10..=12, 5..=6, 13..=13] {
            count.frame(&packets);
        }
        assert_eq!(count.lost, 0);
    }
}
