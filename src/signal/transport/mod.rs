//! One request, one WebSocket: names, TLS, limits, redirects - and never a second try (law 6).

pub(crate) mod dns;
mod guarded;
pub mod headers;
pub(super) mod http;
pub(super) mod keepalive;
pub(super) mod redirect;
pub(super) mod tls;
pub(super) mod unencrypted;
pub(super) mod websocket;
