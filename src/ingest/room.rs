//! How many may be here at once: what a session costs is bounded, so what all of them cost is, too.

use std::net::SocketAddr;

use super::broadcast::{Broadcast, PeerId};
use super::media::Media;
use super::peer::Role;

/// Sessions of all kinds. Each may take some 200 kB, and two cores carry media to fewer.
pub(super) const SESSIONS_MAX: usize = 256;
/// Viewers leave this many sessions to publishers.
const FOR_PUBLISHERS: usize = 32;
/// Addresses that one connection may be reached at; more are not remembered all at once. A dozen paths roam.
const ROUTES_MAX: usize = 64;

impl Media {
    /// Is there room for another connection? Whoever takes the place of a publisher finds it always: a full server must not
    /// lock out those who are on air.
    pub(super) fn has_room(&self, role: Role, name: &str) -> bool {
        let taken = self.peers.len();
        match role {
            Role::Viewer => taken < SESSIONS_MAX - FOR_PUBLISHERS,
            Role::Publisher => {
                taken < SESSIONS_MAX || self.broadcasts.get(name).and_then(Broadcast::publisher).is_some()
            }
        }
    }

    /// Is there room for another session of roamcast signalling?
    pub(super) fn has_room_for_session(&self) -> bool {
        self.sessions.len() < SESSIONS_MAX
    }

    /// STUN of this connection has come from there.
    pub(super) fn remember_route(&mut self, source: SocketAddr, id: PeerId) {
        if self.routes.insert(source, id) != Some(id)
            && self.routes.values().filter(|route| **route == id).count() > ROUTES_MAX
        {
            self.routes.retain(|at, route| *at == source || *route != id);
        }
    }
}
