//! A lease for hours, in virtual time, at a TURN server without a network (`turn-server-proto`).

use turn_server_proto::api::{TurnServerApi, TurnServerPollRet};
use turn_server_proto::server::TurnServer;

use super::*;
use crate::config::units::{IceServer, Secret};
use crate::ice::turn::servers::Servers;

const PASSWORD: &str = "hunter2-of-the-lease";
/// Something is sent, and comes back, this often: a permission that was not renewed in time is over by then.
const EVERY: Duration = Duration::from_secs(310);

/// Requests, by the head of their messages, and the error of a nonce that is too old.
const REFRESH: u16 = 0x0004;
const CREATE_PERMISSION: u16 = 0x0008;
const CHANNEL_BIND: u16 = 0x0009;
const STALE_NONCE: u16 = 438;
/// For all that is sent at once.
const MOMENT: Duration = Duration::from_millis(100);

/// Our end, the server, and a far end that sends everything back.
struct Tower {
    server: TurnServer,
    begin: Instant,
    now: Instant,
    lease: Lease,
    ours: SocketAddr,
    far: SocketAddr,
    lent: Option<SocketAddr>,
    /// What has come back.
    back: u64,
    /// Error codes that the server has given.
    errors: BTreeMap<u16, u32>,
    /// Requests by their method and class, which is the head of a message.
    asked: BTreeMap<u16, u32>,
}

impl Tower {
    /// The nonce of the server is good for so long.
    fn new(nonce: Duration) -> Self {
        let [ours, at, far] = [1, 2, 3].map(|last| SocketAddr::from(([198, 51, 100, last], 1000)));
        let mut server = TurnServer::new(TransportType::Udp, at, "roamcast.test".into());
        server.add_user("van".into(), PASSWORD.into());
        server.set_nonce_expiry_duration(nonce);
        let named = IceServer {
            urls: vec![format!("turn:{at}")],
            username: Some("van".into()),
            credential: Some(Secret::new(PASSWORD.into())),
        };
        let servers = Servers::new(&[named], &[], true);
        #[allow(clippy::disallowed_methods, reason = "a beginning for virtual time")]
        let now = Instant::now();
        let lease = Lease::new(now, ours, at, &servers.turn[0], false);
        let (lent, back, errors, asked) = (None, 0, BTreeMap::new(), BTreeMap::new());
        let mut tower = Self { server, begin: now, now, lease, ours, far, lent, back, errors, asked };
        tower.until(now + MOMENT);
        tower
    }

    /// Everything that waits on either side gets where it is to go.
    fn exchange(&mut self) {
        let now = since(self.begin, self.now);
        loop {
            while let Some(packet) = self.lease.next_packet() {
                if let [high @ 0..=3, low, ..] = *packet {
                    *self.asked.entry(u16::from_be_bytes([high, low])).or_default() += 1;
                }
                self.arrives(self.ours, self.server.listen_address(), packet);
            }
            while let Some(event) = self.lease.next_event() {
                match event {
                    Event::Lent(address) => self.lent = Some(address),
                    Event::Packet { to, from, .. } => {
                        assert_eq!((Some(to), from), (self.lent, self.far));
                        self.back += 1;
                    }
                }
            }
            if let TurnServerPollRet::AllocateSocket { transport, listen_addr, client_addr, family, .. } =
                self.server.poll(now)
            {
                let socket = SocketAddr::new(listen_addr.ip(), 40_000);
                let udp = TransportType::Udp;
                self.server.allocated_socket(transport, listen_addr, client_addr, udp, family, Ok(socket), now);
            }
            let Some(packet) = self.server.poll_transmit(now) else { return };
            self.leaves(packet.from, packet.to, packet.data);
        }
    }

    /// At a socket of the server.
    fn arrives(&mut self, from: SocketAddr, to: SocketAddr, packet: Vec<u8>) {
        let transmit = Transmit::new(packet, TransportType::Udp, from, to);
        if let Some(passed_on) = self.server.recv(transmit, since(self.begin, self.now)) {
            self.leaves(passed_on.from, passed_on.to, passed_on.data.build());
        }
    }

    /// From a socket of the server.
    fn leaves(&mut self, from: SocketAddr, to: SocketAddr, packet: Vec<u8>) {
        if to == self.far {
            return self.arrives(to, from, packet);
        }
        assert_eq!(to, self.ours);
        if let Some((code, _)) = StunMessage::parse(&packet).ok().and_then(|message| message.error_code()) {
            *self.errors.entry(code).or_default() += 1;
        }
        self.lease.receive(self.now, &packet);
        self.lease.timeout(self.now);
    }

    /// Time passes.
    fn until(&mut self, at: Instant) {
        loop {
            let next = self.lease.deadline(self.now).min(at).max(self.now + Duration::from_millis(1));
            self.now = next;
            self.lease.timeout(next);
            self.exchange();
            if next >= at || self.lease.ended().is_some() {
                return;
            }
        }
    }

    fn send(&mut self) {
        self.lease.send(self.now, self.far, b"media");
        self.until(self.now + MOMENT);
    }
}

#[test]
fn a_lease_is_kept_for_hours_though_every_nonce_grows_stale() {
    let mut tower = Tower::new(Duration::from_secs(30));
    // The first packet asks for the permission, and is lost.
    tower.send();
    for round in 1..=3 * 3600 / EVERY.as_secs() {
        let at = tower.begin + EVERY * u32::try_from(round).unwrap();
        tower.until(at);
        tower.send();
        let Tower { lease, back, asked, errors, .. } = &tower;
        assert_eq!((lease.ended(), *back), (None, round), "something is lost: asked {asked:?}, errors {errors:?}");
    }
    let Tower { asked, errors, .. } = &tower;
    let kept = [REFRESH, CREATE_PERMISSION, CHANNEL_BIND].map(|kind| asked.get(&kind).copied().unwrap_or(0));
    // 3 h are 6 lives of an allocation, 36 of a permission, 18 of a channel.
    assert!(kept.iter().all(|times| *times > 6), "{asked:?}");
    assert!(errors.get(&STALE_NONCE).is_some_and(|times| *times > 30), "{errors:?}");
}
