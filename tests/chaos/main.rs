//! Seconds to minutes, in network namespaces: what happens to the van while it drives. Needs root, and says so if it skips.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a failed test panics, and says what it saw"
)]
#![allow(clippy::disallowed_methods, reason = "tests measure real time and set real deadlines")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the variants that it is about")]

mod echo;
mod netlab_faults;
mod netlab_life;
mod netlab_links;
mod netlab_servers;
#[cfg(feature = "ingest")]
mod on_air;
#[cfg(feature = "ingest")]
mod roaming_answerers;
#[cfg(feature = "ingest")]
mod roaming_browser;
#[cfg(feature = "ingest")]
mod roaming_changes;
#[cfg(feature = "ingest")]
mod roaming_faults;
#[cfg(feature = "ingest")]
mod roaming_ladder;
#[cfg(feature = "ingest")]
mod roaming_rig;
#[cfg(feature = "ingest")]
mod roaming_trips;
#[cfg(feature = "ingest")]
mod roaming_tunnel;
#[cfg(feature = "ingest")]
mod roaming_turn;
#[cfg(feature = "ingest")]
mod slot_held;

#[cfg(feature = "ingest")]
#[allow(dead_code, reason = "shared with tests/loopback; each uses a part")]
#[path = "../support/answerer.rs"]
mod answerer;
#[cfg(feature = "ingest")]
#[allow(dead_code, reason = "shared with tests/loopback; each uses a part")]
#[path = "../support/browser.rs"]
mod browser;
#[allow(dead_code, reason = "shared with tests/loopback; each uses a part")]
#[path = "../support/coturn.rs"]
mod coturn;
#[cfg(feature = "ingest")]
#[allow(dead_code, reason = "shared with tests/loopback; each uses a part")]
#[path = "../support/forward.rs"]
mod forward;
#[cfg(feature = "ingest")]
#[allow(dead_code, reason = "the roaming tests use the rest")]
#[path = "../support/ingest.rs"]
mod ingest;
#[allow(dead_code, reason = "shared with tests/loopback; each uses a part")]
#[path = "../support/janus.rs"]
mod janus;
#[path = "../support/needs.rs"]
mod needs;
#[path = "../support/netlab/mod.rs"]
mod netlab;
#[allow(dead_code, reason = "shared with tests/loopback; each uses a part")]
#[path = "../support/place.rs"]
mod place;
#[allow(dead_code, reason = "shared with tests/loopback; each uses a part")]
#[path = "../support/program.rs"]
mod program;
#[cfg(feature = "ingest")]
#[allow(dead_code, reason = "shared with tests/loopback; each uses a part")]
#[path = "../support/publisher.rs"]
mod publisher;
#[allow(dead_code, reason = "shared with tests/loopback; each uses a part")]
#[path = "../support/secrets.rs"]
mod secrets_kept;
#[cfg(feature = "ingest")]
#[allow(dead_code, reason = "shared with tests/loopback; each uses a part")]
#[path = "../support/viewer.rs"]
mod viewer;
