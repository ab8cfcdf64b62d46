//! Pure: RTP as it goes over the wire.

pub(crate) mod packet;
pub mod rtcp;
