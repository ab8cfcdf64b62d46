//! Milliseconds, no devices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests may fail and talk")]

mod pipelines;
