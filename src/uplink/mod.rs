//! The line - one session, one webrtcbin, one life.

pub mod failure;
pub mod sdp;
