//! Milliseconds, no devices.

mod pipelines;
