//! STUN and TURN servers as the engine sees them: when they are asked, and what they say.

pub(super) mod allocation;
pub(super) mod connection;
pub(super) mod relays;
pub(super) mod servers;
pub(super) mod stun;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use tokio::sync::mpsc;
use tracing::debug;

use crate::config::Uplink;
use crate::supervisor::event::LocalAddress;

use super::types::{IceState, SocketId};
use super::wire::Packet;
use relays::{HELP_AFTER, News, Relays};
use servers::{Server, Servers};
use stun::Mirrors;

/// What comes from the tasks.
pub(super) enum Word {
    Relay(News),
    /// A STUN server is at this address.
    StunServer(SocketAddr),
}

/// The helpers of a session.
pub(super) struct Helpers {
    uplink: Uplink,
    incoming: mpsc::Sender<Packet>,
    /// `None` before the servers are known.
    relays: Option<Relays>,
    mirrors: Mirrors,
    /// Open sockets, and the relays behind each.
    open: BTreeMap<SocketId, (LocalAddress, Vec<SocketId>)>,
    /// Media has no way: relays are asked for then.
    help_at: Option<Instant>,
    news: (mpsc::UnboundedSender<News>, mpsc::UnboundedReceiver<News>),
    stun: (mpsc::UnboundedSender<SocketAddr>, mpsc::UnboundedReceiver<SocketAddr>),
}

impl Helpers {
    /// `incoming`: where packets from relays are put.
    pub(super) fn new(uplink: Uplink, incoming: mpsc::Sender<Packet>) -> Self {
        Self {
            uplink,
            incoming,
            relays: None,
            mirrors: Mirrors::default(),
            open: BTreeMap::new(),
            help_at: None,
            news: mpsc::unbounded_channel(),
            stun: mpsc::unbounded_channel(),
        }
    }

    pub(super) fn is_relay_only(&self) -> bool {
        self.uplink.relay_only
    }

    /// These are the servers. Of a later list the TURN servers alone are looked at: what a STUN server sees of us, it has
    /// said.
    pub(super) fn use_servers(&mut self, servers: Servers) {
        if let Some(relays) = &mut self.relays {
            return relays.renew(servers.turn);
        }
        for server in servers.stun.iter().filter(|_| !self.uplink.relay_only) {
            tokio::spawn(find(server.clone(), self.stun.0.clone()));
        }
        let mut relays = Relays::new(servers, self.uplink.clone(), self.news.0.clone(), self.incoming.clone());
        for (socket, (address, _)) in &self.open {
            relays.opened(*socket, address.clone());
        }
        self.relays = Some(relays);
    }

    /// The next word of a task. May be dropped at any time.
    pub(super) async fn next(&mut self) -> Word {
        tokio::select! {
            Some(news) = self.news.1.recv() => Word::Relay(news),
            Some(server) = self.stun.1.recv() => Word::StunServer(server),
            else => std::future::pending().await,
        }
    }

    pub(super) fn mirror(&mut self, server: SocketAddr) {
        self.mirrors.add(server);
    }

    pub(super) fn opened(&mut self, socket: SocketId, bound: SocketAddr, address: LocalAddress) {
        self.mirrors.opened(socket, bound);
        if let Some(relays) = &mut self.relays {
            relays.opened(socket, address.clone());
        }
        self.open.insert(socket, (address, Vec::new()));
    }

    /// A relay is there. False: its socket has been closed meanwhile.
    pub(super) fn lent(&mut self, relay: SocketId, base: SocketId) -> bool {
        self.open.get_mut(&base).map(|(_, relays)| relays.push(relay)).is_some()
    }

    /// A relay is no more.
    pub(super) fn lost(&mut self, relay: SocketId) {
        self.open.values_mut().for_each(|(_, relays)| relays.retain(|one| *one != relay));
    }

    /// Is any lent to us just now?
    pub(super) fn has_relay(&self) -> bool {
        self.open.values().any(|(_, relays)| !relays.is_empty())
    }

    /// A socket was closed; the relays behind it.
    pub(super) fn closed(&mut self, socket: SocketId) -> Vec<SocketId> {
        self.mirrors.closed(socket);
        if let Some(relays) = &mut self.relays {
            relays.closed(socket);
        }
        self.open.remove(&socket).map(|(_, relays)| relays).unwrap_or_default()
    }

    /// The connection stands like this.
    pub(super) fn stands(&mut self, now: Instant, state: IceState) {
        self.help_at = match state {
            IceState::New | IceState::Connected => None,
            IceState::Checking => Some(now + HELP_AFTER),
            IceState::Disconnected | IceState::Failed => Some(now),
        };
    }

    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        [self.mirrors.deadline(now), self.help_at].into_iter().flatten().min()
    }

    /// Questions for STUN servers that are due, and help if that is.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(SocketId, SocketAddr, Vec<u8>)> {
        if self.help_at.is_some_and(|at| at <= now) {
            self.help_at = None;
            self.relays.iter_mut().for_each(Relays::help);
        }
        self.mirrors.due(now)
    }

    /// The answer of a STUN server to a question of ours.
    pub(super) fn answer(&mut self, socket: SocketId, from: SocketAddr, packet: &[u8]) -> Option<SocketAddr> {
        self.mirrors.answer(socket, from, packet)
    }
}

/// Both families: which one a socket needs is not known yet.
async fn find(server: Server, found: mpsc::UnboundedSender<SocketAddr>) {
    for family in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        match connection::resolve(&server, family).await {
            Ok(at) => {
                let _session_over = found.send(at);
            }
            Err(why) => debug!("the STUN server at `{}` is left out: {why}", server.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With relays alone, refused credentials end a session that has none left, and no other.
    #[tokio::test]
    async fn a_relay_counts_until_it_or_its_socket_is_gone() {
        let uplink = crate::config::load("", "defaults", std::iter::empty()).unwrap().uplink;
        let mut helpers = Helpers::new(uplink, mpsc::channel(1).0);
        let (wifi, modem) = (SocketId(1), SocketId(2));
        for socket in [wifi, modem] {
            let (ip, bound) = (IpAddr::from([192, 0, 2, 1]), SocketAddr::from(([192, 0, 2, 1], 4000)));
            helpers.opened(socket, bound, LocalAddress { interface: "wlan0".into(), ip });
        }
        assert!(!helpers.has_relay());
        assert!(helpers.lent(SocketId(11), wifi) && helpers.lent(SocketId(12), modem));
        helpers.lost(SocketId(11));
        assert!(helpers.has_relay());
        assert_eq!(helpers.closed(modem), [SocketId(12)]);
        assert!(!helpers.has_relay());
        assert!(!helpers.lent(SocketId(13), modem), "its socket is gone");
    }
}
