//! Pure: what a packet is, by its first bytes.

/// What a packet is, by its first bytes (RFC 7983, RFC 5761).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// STUN, for the agent itself.
    Stun,
    /// TURN ChannelData, for the relay it came through.
    ChannelData,
    /// DTLS records.
    Dtls,
    /// Media: the one kind that may be sent twice.
    Rtp,
    /// Reports and wishes of either side.
    Rtcp,
    /// Nothing that we know: dropped.
    Unknown,
}

impl Kind {
    /// Looks at no more than two bytes.
    pub(crate) fn of(packet: &[u8]) -> Self {
        match packet {
            [0..=3, ..] => Self::Stun,
            [20..=63, ..] => Self::Dtls,
            [64..=79, ..] => Self::ChannelData,
            [128..=191, 192..=223, ..] => Self::Rtcp,
            [128..=191, ..] => Self::Rtp,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_apart_by_their_first_bytes() {
        for (packet, kind) in [
            (&[0x00, 0x01][..], Kind::Stun),
            (&[0x01, 0x01], Kind::Stun),
            (&[22, 254], Kind::Dtls),
            (&[0x40, 0x00], Kind::ChannelData),
            (&[0x80, 96], Kind::Rtp),
            (&[0x80, 0xE0], Kind::Rtp),
            (&[0x81, 200], Kind::Rtcp),
            (&[0x8F, 205], Kind::Rtcp),
            (&[0x80], Kind::Rtp),
            (&[], Kind::Unknown),
            (&[255, 255], Kind::Unknown),
        ] {
            assert_eq!(Kind::of(packet), kind, "{packet:?}");
        }
    }
}
