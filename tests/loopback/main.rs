//! Seconds, on 127.0.0.1: the rooms that touch the world against real counterparts.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test panics, and says what it saw"
)]
#![allow(clippy::disallowed_methods, reason = "tests measure real time and set real deadlines")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the variants that it is about")]

mod answerers;
mod bad_input;
mod cameras;
#[cfg(feature = "ingest")]
mod control;
mod control_api;
#[cfg(feature = "ingest")]
mod hostile_words;
mod ice_restart;
#[cfg(feature = "ingest")]
mod ingest_browser;
#[cfg(feature = "ingest")]
mod ingest_http;
#[cfg(feature = "ingest")]
mod ingest_tls;
mod janus_cuts;
mod janus_media;
mod janus_program;
mod janus_restarts;
mod janus_session;
mod janus_table;
mod janus_words;
mod logs;
#[cfg(feature = "ingest")]
mod long_minute;
#[cfg(feature = "ingest")]
mod many_sessions;
mod media_devices;
mod media_faults;
mod media_file;
mod media_kit;
mod media_levels;
mod media_raw;
mod media_rtsp;
mod media_studio;
#[cfg(feature = "ingest")]
mod on_air;
#[cfg(feature = "ingest")]
mod on_air_browser;
#[cfg(feature = "ingest")]
mod on_air_from;
#[cfg(feature = "ingest")]
mod on_air_resume;
#[cfg(feature = "ingest")]
mod proven_servers;
mod receivers;
#[cfg(feature = "ingest")]
mod reconnect_table;
#[cfg(feature = "ingest")]
mod reconnect_tokens;
mod refusals;
#[cfg(feature = "ingest")]
mod roamcast_bad_words;
#[cfg(feature = "ingest")]
mod roamcast_cuts;
#[cfg(feature = "ingest")]
mod roamcast_session;
#[cfg(feature = "ingest")]
mod roamcast_windows;
mod secrets;
#[cfg(feature = "ingest")]
mod state_file;
#[cfg(feature = "ingest")]
mod strangers;
mod suspended;
mod systemd_units;
mod tls_certificates;
mod token_provider;
mod token_session;
#[cfg(feature = "ingest")]
mod turn;
#[cfg(feature = "ingest")]
mod turn_credentials;
mod whip_dns;
mod whip_redirects;
mod whip_session;
mod whip_statuses;
mod whip_tls;

#[allow(dead_code, reason = "shared with tests/chaos; each uses a part")]
#[path = "../support/answerer.rs"]
mod answerer;
#[path = "../support/browser.rs"]
mod browser;
#[path = "../support/captured.rs"]
mod captured;
#[cfg(feature = "ingest")]
#[allow(dead_code, reason = "shared with tests/chaos; each uses a part")]
#[path = "../support/coturn.rs"]
mod coturn;
#[path = "../support/cut.rs"]
mod cut;
#[allow(dead_code, reason = "shared with tests/chaos; each uses a part")]
#[path = "../support/forward.rs"]
mod forward;
#[cfg(feature = "ingest")]
#[path = "../support/gate.rs"]
mod gate;
#[path = "../support/growth.rs"]
mod growth;
#[path = "../support/http.rs"]
mod http;
#[allow(dead_code, reason = "shared with tests/chaos; each uses a part")]
#[path = "../support/janus.rs"]
mod janus;
#[path = "../support/janus_rig.rs"]
mod janus_rig;
#[path = "../support/needs.rs"]
mod needs;
#[allow(dead_code, reason = "shared with tests/chaos; each uses a part")]
#[path = "../support/place.rs"]
mod place;
#[allow(dead_code, reason = "shared with tests/chaos; each uses a part")]
#[path = "../support/program.rs"]
mod program;
#[path = "../support/publisher.rs"]
mod publisher;
#[path = "../support/relay.rs"]
mod relay;
#[path = "../support/secrets.rs"]
mod secrets_kept;
#[cfg(feature = "ingest")]
#[path = "../support/stage.rs"]
mod stage;
#[cfg(feature = "ingest")]
#[allow(dead_code, reason = "shared with the chaos tests and benches; each uses a part")]
#[path = "../support/viewer.rs"]
mod viewer;
