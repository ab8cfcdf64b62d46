//! The studio - capture and encode; runs whether or not anyone listens.

pub mod handover;
