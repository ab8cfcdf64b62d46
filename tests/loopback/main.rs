//! Tests that take seconds and stay on 127.0.0.1.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may panic")]

#[path = "../support/http.rs"]
mod http;
mod systemd_units;
mod whip_redirects;
mod whip_session;
mod whip_statuses;
mod whip_tls;
