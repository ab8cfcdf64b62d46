//! Milliseconds to seconds, no devices, no network: the pure rooms, the brain in its seeded world, the laws of the house.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the variants that it is about")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test panics, and says what it saw"
)]

mod control_page;
#[cfg(feature = "ingest")]
mod corpus;
mod house_rules;
mod ladder;
mod outage;
mod page;
mod pipelines;
mod readme;
mod refusals;
mod storm;
mod world;

#[cfg(feature = "ingest")]
#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "the fuzz targets are in another crate")]
mod parsers;
