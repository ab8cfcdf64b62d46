//! Seconds, on 127.0.0.1: the rooms that touch the world against real counterparts.

#[cfg(feature = "ingest")]
mod ingest_browser;
#[cfg(feature = "ingest")]
mod ingest_http;
mod media_devices;
mod media_faults;
mod media_file;
mod media_kit;
mod media_studio;
#[cfg(feature = "ingest")]
mod on_air;

#[path = "../support/browser.rs"]
mod browser;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/publisher.rs"]
mod publisher;
