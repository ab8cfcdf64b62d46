//! What pictures and sound are made of: devices, files, the test picture.

pub mod devices;
pub(super) mod playback;
pub(super) mod still;
pub(super) mod test_card;
