//! Seconds, on 127.0.0.1: the rooms that touch the world against real counterparts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "helpers of tests are tests")]

#[cfg(feature = "ingest")]
mod ingest_browser;
#[cfg(feature = "ingest")]
mod ingest_http;

#[path = "../support/browser.rs"]
mod browser;
#[path = "../support/publisher.rs"]
mod publisher;
