//! Pure: the roaming agent - ICE (crate `is`) and our own rules of the road, with every input carrying `now`.

use std::net::SocketAddr;
use std::time::Instant;

use super::words::{CandidateFacts, Kind, Order, PathFigures, Plan, SocketId};
use crate::supervisor::event::LocalAddress;

/// One ICE session that may change its local addresses as often as the network does.
///
/// After every input ask [`Agent::next_order`] until `None`, then [`Agent::deadline`].
pub(crate) struct Agent {
    plan: Plan,
    controlling: bool,
}

#[expect(unused_variables, reason = "a skeleton, to build the engine on")]
impl Agent {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { plan, controlling: true }
    }
    pub(crate) fn set_controlling(&mut self, controlling: bool) {
        self.controlling = controlling;
    }
    pub(crate) fn is_controlling(&self) -> bool {
        self.controlling
    }
    /// Only relayed candidates from now on: webrtcbin may say so after the birth of the agent.
    pub(crate) fn set_relay_only(&mut self, relay_only: bool) {
        self.plan.relay_only = relay_only;
    }
    pub(crate) fn local_credentials(&mut self, now: Instant, ufrag: &str, pwd: &str) {}
    pub(crate) fn remote_credentials(&mut self, now: Instant, ufrag: &str, pwd: &str) {}
    pub(crate) fn remote_candidate(&mut self, now: Instant, text: &str) -> bool {
        true
    }
    pub(crate) fn gather(&mut self, now: Instant) {}
    pub(crate) fn network(&mut self, now: Instant, addresses: &[LocalAddress]) {}
    pub(crate) fn opened(&mut self, now: Instant, socket: SocketId, address: SocketAddr) {}
    pub(crate) fn not_opened(&mut self, now: Instant, socket: SocketId) {}
    pub(crate) fn reflexive(&mut self, now: Instant, socket: SocketId, mapped: SocketAddr) {}
    pub(crate) fn relayed(&mut self, now: Instant, relay: SocketId, base: SocketId, address: SocketAddr) {}
    pub(crate) fn relay_lost(&mut self, now: Instant, relay: SocketId) {}
    pub(crate) fn stun(&mut self, now: Instant, socket: SocketId, from: SocketAddr, packet: &[u8]) {}
    pub(crate) fn heard(&mut self, now: Instant, socket: SocketId, from: SocketAddr, kind: Kind) {}
    pub(crate) fn send_failed(&mut self, now: Instant, socket: SocketId) {}
    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        None
    }
    pub(crate) fn timeout(&mut self, now: Instant) {}
    pub(crate) fn next_order(&mut self) -> Option<Order> {
        None
    }
    pub(crate) fn accepts(&self, socket: SocketId, from: SocketAddr) -> bool {
        false
    }
    pub(crate) fn paths(&self, now: Instant) -> Vec<PathFigures> {
        Vec::new()
    }
    pub(crate) fn candidates(&self, local: bool) -> Vec<CandidateFacts> {
        Vec::new()
    }
    pub(crate) fn selected(&self) -> Option<(CandidateFacts, CandidateFacts)> {
        None
    }
}
