//! Pure: reads of RTCP (RFC 3550, RFC 3611, RFC 4585) what tells us that the far end gets our media.

/// Sender report, receiver report, transport-layer and payload-specific feedback, extended report (RFC 3611).
const SR: u8 = 200;
const RR: u8 = 201;
const RTPFB: u8 = 205;
const PSFB: u8 = 206;
const XR: u8 = 207;
/// Feedback message types of RTPFB: generic NACK (RFC 4585), transport-wide congestion control.
const FMT_NACK: u8 = 1;
const FMT_TWCC: u8 = 15;
/// Feedback message types of PSFB: picture loss indication (RFC 4585), full intra request (RFC 5104), application layer
/// feedback, which REMB is.
const FMT_PLI: u8 = 1;
const FMT_FIR: u8 = 4;
const FMT_AFB: u8 = 15;
/// Block types of XR that name no stream (receiver reference time), and several (DLRR); the others begin with one.
const XR_RRT: u8 = 4;
const XR_DLRR: u8 = 5;

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
    /// The streams that other reports are about, which come as regularly (TWCC, XR).
    pub arrived: Vec<u32>,
    /// The streams of which something is wanted, which may come at any time (PLI, FIR, NACK, REMB).
    pub wanted: Vec<u32>,
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
        // A feedback packet has its sender at 4 and the stream that it is about at 8.
        match (kind, count) {
            (SR, _) => report_blocks(one.get(28..).unwrap_or_default(), count, &mut feedback.reports),
            (RR, _) => report_blocks(one.get(8..).unwrap_or_default(), count, &mut feedback.reports),
            (RTPFB, FMT_TWCC) => feedback.arrived.extend(word(one, 8)),
            (RTPFB, FMT_NACK) => feedback.wanted.extend(word(one, 8)),
            (PSFB, FMT_PLI) => {
                feedback.keyframe_requests += 1;
                feedback.wanted.extend(word(one, 8));
            }
            (PSFB, FMT_FIR) => {
                feedback.keyframe_requests += 1;
                feedback
                    .wanted
                    .extend(one.get(12..).unwrap_or_default().chunks_exact(8).filter_map(|fci| word(fci, 0)));
            }
            (PSFB, FMT_AFB) if one.get(12..16) == Some(b"REMB") => {
                feedback
                    .wanted
                    .extend(one.get(20..).unwrap_or_default().chunks_exact(4).filter_map(|ssrc| word(ssrc, 0)));
            }
            (XR, _) => extended_reports(one.get(8..).unwrap_or_default(), &mut feedback.arrived),
            (_, _) => {}
        }
        packet = rest;
    }
    feedback
}

/// What a compound packet proves of our streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// New media of ours arrived, by a report of a kind that comes regularly.
    Report,
    /// The far end has something of ours, as it wants more; it may not speak again.
    Named,
}

/// What the far end has said of our streams so far.
#[derive(Debug, Clone, Default)]
pub struct Receipts {
    /// Highest sequence number that was reported of each stream of ours.
    highest: Vec<(u32, u32)>,
    /// The last report block of the leading stream was the same as the one before: whatever else comes, that stream does not
    /// arrive.
    stands_still: bool,
}

impl Receipts {
    /// What this proves. `ours`: the SSRCs of our streams, the leading one first.
    pub fn prove(&mut self, feedback: &Feedback, ours: &[u32]) -> Option<Proof> {
        let is_ours = |ssrc: &u32| ours.contains(ssrc);
        let mut moved = false;
        for report in feedback.reports.iter().filter(|report| is_ours(&report.ssrc)) {
            let is_new = self.is_new(report);
            moved |= is_new;
            if ours.first() == Some(&report.ssrc) {
                self.stands_still = !is_new;
            }
        }
        if self.stands_still {
            None
        } else if moved || feedback.arrived.iter().any(is_ours) {
            Some(Proof::Report)
        } else {
            feedback.wanted.iter().any(is_ours).then_some(Proof::Named)
        }
    }

    fn is_new(&mut self, report: &ReportBlock) -> bool {
        let ReportBlock { ssrc, highest_sequence, .. } = *report;
        match self.highest.iter_mut().find(|(stream, _)| *stream == ssrc) {
            Some((_, highest)) => std::mem::replace(highest, highest_sequence) != highest_sequence,
            None => {
                self.highest.push((ssrc, highest_sequence));
                true
            }
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// The streams that the blocks of an XR packet are about (RFC 3611, section 4).
fn extended_reports(mut blocks: &[u8], into: &mut Vec<u32>) {
    while let [kind, _, high, low, ..] = *blocks {
        let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        let Some((block, rest)) = blocks.split_at_checked(length) else { break };
        match kind {
            XR_RRT => {}
            XR_DLRR => into.extend(block[4..].chunks_exact(12).filter_map(|sub| word(sub, 0))),
            _ => into.extend(word(block, 4)),
        }
        blocks = rest;
    }
}

fn report_blocks(bytes: &[u8], count: u8, into: &mut Vec<ReportBlock>) {
    into.extend(bytes.chunks_exact(24).take(count.into()).map(|block| ReportBlock {
        ssrc: word(block, 0).unwrap_or_default(),
        fraction_lost: block.get(4).copied().unwrap_or_default(),
        highest_sequence: word(block, 8).unwrap_or_default(),
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

    const VIDEO: u32 = 0x0a0b_0c0d;
    const AUDIO: u32 = 0x0102_0304;

    /// A packet of this type and count or format, with these words behind its header.
    fn packet(kind: u8, count: u8, words: &[u32]) -> Vec<u8> {
        let mut packet = vec![0x80 | count, kind];
        packet.extend(u16::try_from(words.len()).expect("short").to_be_bytes());
        words.iter().for_each(|word| packet.extend(word.to_be_bytes()));
        packet
    }

    /// Everything that can name a stream, and what it proves.
    fn all_that_names(ssrc: u32) -> [(&'static str, Vec<u8>, Proof); 11] {
        use Proof::{Named, Report};
        let remb = u32::from_be_bytes(*b"REMB");
        let block = [ssrc, 0, 9, 0, 0, 0];
        let sr: Vec<u32> = [1, 0, 0, 0, 0, 0].into_iter().chain(block).collect();
        let rr: Vec<u32> = [1].into_iter().chain([7, 0, 8, 0, 0, 0]).chain(block).collect();
        [
            ("SR", packet(SR, 1, &sr), Report),
            ("RR, second block", packet(RR, 2, &rr), Report),
            ("TWCC", packet(RTPFB, FMT_TWCC, &[1, ssrc, 0, 0]), Report),
            ("XR loss RLE", packet(XR, 0, &[1, 0x0100_0002, ssrc, 0]), Report),
            ("XR statistics behind RRT", packet(XR, 0, &[1, 0x0400_0002, 0, 0, 0x0600_0001, ssrc]), Report),
            ("XR DLRR, second", packet(XR, 0, &[1, 0x0500_0006, 7, 0, 0, ssrc, 0, 0]), Report),
            ("NACK", packet(RTPFB, FMT_NACK, &[1, ssrc, 0x0005_0000]), Named),
            ("PLI", packet(PSFB, FMT_PLI, &[1, ssrc]), Named),
            ("FIR", packet(PSFB, FMT_FIR, &[1, 0, ssrc, 0x0100_0000]), Named),
            ("FIR, second", packet(PSFB, FMT_FIR, &[1, 0, 7, 0, ssrc, 0]), Named),
            ("REMB", packet(PSFB, FMT_AFB, &[1, 0, remb, 0x0200_ffff, 7, ssrc]), Named),
        ]
    }

    #[test]
    fn whatever_names_a_stream_of_ours_proves_it_and_nothing_else_does() {
        for ssrc in [VIDEO, AUDIO] {
            for (name, bytes, wanted) in all_that_names(ssrc) {
                let proved = |ours: &[u32]| Receipts::default().prove(&read(&bytes), ours);
                assert_eq!(proved(&[VIDEO, AUDIO]), Some(wanted), "{name} of {ssrc:x}");
                assert_eq!(proved(&[0x99]), None, "{name} of a stranger");
                let behind: Vec<u8> = packet(RR, 0, &[1]).into_iter().chain(bytes.clone()).collect();
                assert_eq!(
                    Receipts::default().prove(&read(&behind), &[ssrc]),
                    Some(wanted),
                    "{name} behind an empty RR"
                );
                for cut in 0..bytes.len() {
                    assert_eq!(Receipts::default().prove(&read(&bytes[..cut]), &[ssrc]), None, "{name} cut at {cut}");
                }
            }
        }
        for (name, bytes) in [
            ("an empty RR", packet(RR, 0, &[1])),
            ("SDES", packet(202, 1, &[VIDEO, 0])),
            ("BYE", packet(203, 1, &[VIDEO])),
            ("our SSRC as its sender", packet(PSFB, FMT_PLI, &[VIDEO, 0])),
            ("AFB that is no REMB", packet(PSFB, FMT_AFB, &[1, 0, 5, 0, VIDEO])),
        ] {
            assert_eq!(Receipts::default().prove(&read(&bytes), &[VIDEO]), None, "{name}");
        }
    }

    #[test]
    fn a_leading_stream_that_stands_still_is_not_outweighed_by_the_sound_nor_by_wishes() {
        let mut receipts = Receipts::default();
        let mut prove = |bytes: &[u8]| receipts.prove(&read(bytes), &[VIDEO, AUDIO]);
        assert_eq!(prove(&receiver_report(VIDEO, 0, 5)), Some(Proof::Report));
        assert_eq!(prove(&receiver_report(VIDEO, 0, 5)), None);
        for (name, bytes, _) in all_that_names(AUDIO) {
            assert_eq!(prove(&bytes), None, "{name}");
        }
        assert_eq!(prove(&packet(PSFB, FMT_PLI, &[1, VIDEO])), None);
        assert_eq!(prove(&receiver_report(VIDEO, 0, 6)), Some(Proof::Report));
        assert_eq!(prove(&packet(PSFB, FMT_PLI, &[1, VIDEO])), Some(Proof::Named));
        assert_eq!(prove(&receiver_report(AUDIO, 0, 10)), Some(Proof::Report));
        assert_eq!(prove(&receiver_report(AUDIO, 0, 10)), None, "the same again is no news");
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
