//! Pure: reads of RTCP (RFC 3550, RFC 4585) what tells us that the far end gets our media.

/// Sender report, receiver report, payload-specific feedback.
const SR: u8 = 200;
const RR: u8 = 201;
const PSFB: u8 = 206;
/// Feedback message types of PSFB: picture loss indication (RFC 4585), full intra request (RFC 5104).
const FMT_PLI: u8 = 1;
const FMT_FIR: u8 = 4;

/// One report block: what the far end says of one of our streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream of ours that this is about.
    pub ssrc: u32,
    /// Share of packets lost since the report before, in 1/256.
    pub fraction_lost: u8,
    /// Highest sequence number that came, with its count of wraps.
    pub highest_sequence: u32,
}

/// What one compound packet says that we care for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Feedback {
    /// All report blocks, in order.
    pub reports: Vec<ReportBlock>,
    /// How many times a keyframe was asked for (PLI or FIR).
    pub keyframe_requests: u32,
}

/// Reads a decrypted compound packet. What is cut short or unknown is passed over.
#[must_use]
pub fn read(mut packet: &[u8]) -> Feedback {
    let mut feedback = Feedback::default();
    while let [first, kind, high, low, ..] = *packet {
        let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        let Some((one, rest)) = packet.split_at_checked(length) else { break };
        let count = first & 0x1f;
        match (kind, count) {
            (SR, _) => report_blocks(one.get(28..).unwrap_or_default(), count, &mut feedback.reports),
            (RR, _) => report_blocks(one.get(8..).unwrap_or_default(), count, &mut feedback.reports),
            (PSFB, FMT_PLI | FMT_FIR) => feedback.keyframe_requests += 1,
            (_, _) => {}
        }
        packet = rest;
    }
    feedback
}

fn report_blocks(bytes: &[u8], count: u8, into: &mut Vec<ReportBlock>) {
    let word =
        |block: &[u8], at: usize| block.get(at..at + 4).and_then(|w| w.try_into().ok()).map_or(0, u32::from_be_bytes);
    into.extend(bytes.chunks_exact(24).take(count.into()).map(|block| ReportBlock {
        ssrc: word(block, 0),
        fraction_lost: block.get(4).copied().unwrap_or_default(),
        highest_sequence: word(block, 8),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn receiver_report(ssrc: u32, lost: u8, highest: u32) -> Vec<u8> {
        let mut packet = vec![0x81, RR, 0, 7, 0, 0, 0, 1];
        packet.extend(ssrc.to_be_bytes());
        packet.extend([lost, 0, 0, 0]);
        packet.extend(highest.to_be_bytes());
        packet.extend([0; 12]);
        packet
    }

    #[test]
    fn a_receiver_report_with_a_pli_behind_it() {
        let mut packet = receiver_report(0xabcd, 64, 70_000);
        packet.extend([0x81, PSFB, 0, 2, 0, 0, 0, 1, 0, 0, 0xab, 0xcd]);
        let feedback = read(&packet);
        assert_eq!(feedback.reports, [ReportBlock { ssrc: 0xabcd, fraction_lost: 64, highest_sequence: 70_000 }]);
        assert_eq!(feedback.keyframe_requests, 1);
    }

    #[test]
    fn report_blocks_of_a_sender_report_stand_after_its_sender_info() {
        let mut packet = vec![0x81, SR, 0, 12];
        packet.extend([0; 24]);
        packet.extend(&receiver_report(9, 0, 5)[8..]);
        assert_eq!(read(&packet).reports.first().map(|r| (r.ssrc, r.highest_sequence)), Some((9, 5)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _any = read(&bytes);
        }

        #[test]
        fn a_report_cut_short_gives_no_block(cut in 0_usize..32) {
            prop_assert!(read(&receiver_report(1, 2, 3)[..cut]).reports.is_empty());
        }
    }
}
