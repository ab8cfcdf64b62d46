//! Seconds, on 127.0.0.1: the rooms that touch the world against real counterparts.

#[cfg(feature = "ingest")]
mod ingest_browser;
#[cfg(feature = "ingest")]
mod ingest_http;

#[path = "../support/browser.rs"]
mod browser;
#[path = "../support/publisher.rs"]
mod publisher;
