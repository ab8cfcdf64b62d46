//! From pipeline files and the config to a GStreamer pipeline, and from its errors to words.

pub(super) mod build;
pub mod bus;
pub mod library;
pub mod packages;
pub(super) mod placeholder;
pub(super) mod probe;
pub(super) mod promise;
pub mod template;
