//! Seconds, on 127.0.0.1: rooms joined to the real world.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests may fail and talk")]

mod media_devices;
mod media_faults;
mod media_file;
mod media_kit;
mod media_rtsp;
mod media_studio;
