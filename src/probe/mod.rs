//! The scouts of the brain - one probe each time that it orders one, an answer reported, silence not.
//!
//! A probe is a TCP connect, closed as soon as it is made, or one datagram over UDP (a DNS query, a STUN binding request).
//! It leaves by the route that signalling takes, bound to no interface: whether a session can be opened is the question, and
//! signalling goes by the best route. Media, which goes by any, heals by itself.

mod packet;
mod target;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::SockRef;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use url::Host;

use crate::config::Uplink;
use crate::inbox::Inbox;
use crate::signal::origin::is_near_ip;
use crate::signal::transport::dns::Resolver;
use crate::supervisor::event::{Event, ProbeTarget};

use packet::Question;
use target::{Address, Transport, Witness};

/// An answer that takes longer is none. TCP's first SYN is repeated once within it.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);
/// Probes under way; more are not sent. Twice what the quickest brain has under way (20 a second, for 1.5 s).
const IN_FLIGHT_MAX: usize = 60;
/// Addresses of one host that are probed, and gateways: a name with a hundred of them costs no more than this.
const ADDRESSES_MAX: usize = 4;
/// Gateways mostly have a page for their owner; one that has none refuses, which is an answer too.
const GATEWAY_PORT: u16 = 80;
/// Of DNS.
const DNS_PORT: u16 = 53;
/// No answer to our questions is longer over UDP (RFC 1035, section 2.3.4).
const DATAGRAM_MAX: usize = 512;

/// Sends probes and reports answers to the inbox.
#[derive(Clone)]
pub struct Prober(Arc<Inner>);

struct Inner {
    /// By the number of the endpoint.
    servers: Vec<Address>,
    witnesses: Vec<Witness>,
    /// A name that questions can be about which no cache can answer.
    name: Option<String>,
    gateways: Option<watch::Receiver<Vec<IpAddr>>>,
    resolver: Resolver,
    in_flight: Semaphore,
    inbox: Inbox,
}

impl Prober {
    /// For the servers and witnesses of this config. `gateways`: the default gateways as the lookout sees them; `None` where
    /// the network cannot be watched.
    #[must_use]
    pub fn new(uplink: &Uplink, gateways: Option<watch::Receiver<Vec<IpAddr>>>, inbox: Inbox) -> Self {
        Self(Arc::new(Inner {
            servers: uplink.urls().filter_map(target::origin).collect(),
            witnesses: target::witnesses(uplink),
            name: target::name(uplink),
            gateways,
            resolver: Resolver::system(),
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
            inbox,
        }))
    }

    /// How many possible witnesses there are, besides the gateway.
    #[must_use]
    pub fn witnesses(&self) -> usize {
        self.0.witnesses.len()
    }

    /// Sends one probe; returns at once. `endpoint`: the server that is tried next.
    pub fn send(&self, target: ProbeTarget, endpoint: usize) {
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let Ok(_permit) = inner.in_flight.try_acquire() else { return };
            if timeout(ANSWER_TIMEOUT, inner.is_answered(target, endpoint)).await == Ok(true) {
                inner.inbox.post(Event::Answered(target));
            }
        });
    }
}

type Probe<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

impl Inner {
    async fn is_answered(&self, target: ProbeTarget, endpoint: usize) -> bool {
        match target {
            ProbeTarget::Gateway => self.gateway().await,
            ProbeTarget::Server(number) => match self.servers.get(number) {
                Some(server) => any(self.addresses(server).await.into_iter().map(|at| Box::pin(tcp(at)) as _)).await,
                None => false,
            },
            ProbeTarget::Witness(number) => match self.witnesses.get(number) {
                Some(Witness::Resolver(place)) => self.resolver(*place, endpoint).await,
                Some(Witness::Host(host)) => self.host(host, endpoint).await,
                None => false,
            },
        }
    }

    async fn gateway(&self) -> bool {
        let gateways = self.gateways.as_ref().map(|gateways| gateways.borrow().clone()).unwrap_or_default();
        let probes = gateways.into_iter().take(ADDRESSES_MAX).flat_map(|gateway| {
            let question = Question::of_root(fastrand::u16(..));
            let dns = async move {
                matches!(udp((gateway, DNS_PORT).into(), &question.query).await, Heard::Refused | Heard::Answer(_))
            };
            [Box::pin(tcp((gateway, GATEWAY_PORT).into())) as Probe<'_>, Box::pin(dns)]
        });
        any(probes).await
    }

    /// A resolver on our own link, or on this machine, answers though nothing beyond does; but not what it has to ask others
    /// for.
    async fn resolver(&self, place: usize, endpoint: usize) -> bool {
        let text = tokio::fs::read_to_string(target::RESOLV_CONF).await.unwrap_or_default();
        let Some(resolver) = target::resolvers(&text).nth(place) else { return false };
        if self.is_of_server(resolver, endpoint).await {
            return false;
        }
        let must_ask = is_near_ip(resolver);
        let question = match (&self.name, must_ask) {
            (Some(name), true) => Question::of_nobody(name, fastrand::u64(..), fastrand::u16(..)),
            (None, true) => None,
            (_, false) => Some(Question::of_root(fastrand::u16(..))),
        };
        let Some(question) = question else { return false };
        match udp((resolver, DNS_PORT).into(), &question.query).await {
            Heard::Answer(answer) => question.is_answered_by(&answer, must_ask),
            Heard::Refused => !must_ask,
            Heard::Nothing => false,
        }
    }

    async fn host(&self, host: &Address, endpoint: usize) -> bool {
        let mut probes: Vec<Probe<'_>> = Vec::new();
        for at in self.addresses(host).await {
            if !self.is_of_server(at.ip(), endpoint).await {
                probes.push(match host.transport {
                    Transport::Tcp => Box::pin(tcp(at)),
                    Transport::Stun => Box::pin(stun(at)),
                });
            }
        }
        any(probes).await
    }

    /// This is an address of the server itself, and proves nothing about anything else.
    async fn is_of_server(&self, ip: IpAddr, endpoint: usize) -> bool {
        match self.servers.get(endpoint) {
            Some(server) => self.addresses(server).await.iter().any(|at| at.ip() == ip),
            None => false,
        }
    }

    async fn addresses(&self, of: &Address) -> Vec<SocketAddr> {
        let found = match &of.host {
            Host::Ipv4(ip) => vec![IpAddr::from(*ip)],
            Host::Ipv6(ip) => vec![IpAddr::from(*ip)],
            Host::Domain(name) => self.resolver.remembered(name).await,
        };
        found.into_iter().take(ADDRESSES_MAX).map(|ip| (ip, of.port).into()).collect()
    }
}

/// Is one of them answered? The first that is ends the others.
async fn any<'a>(probes: impl IntoIterator<Item = Probe<'a>>) -> bool {
    let mut running: FuturesUnordered<_> = probes.into_iter().collect();
    while let Some(is_answered) = running.next().await {
        if is_answered {
            return true;
        }
    }
    false
}

/// A refusal comes from the host itself. What says that a host or network is unreachable comes from somebody on the way,
/// perhaps from our own kernel.
async fn tcp(at: SocketAddr) -> bool {
    match TcpStream::connect(at).await {
        Ok(stream) => {
            // A reset leaves nothing behind at either end; where it cannot be had, it is closed as usual.
            let _as_usual = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            true
        }
        Err(error) => is_refusal(&error),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}

async fn stun(at: SocketAddr) -> bool {
    let transaction = fastrand::u128(..);
    match udp(at, &packet::binding_request(transaction)).await {
        Heard::Answer(answer) => packet::is_binding_response(&answer, transaction),
        Heard::Refused => true,
        Heard::Nothing => false,
    }
}

enum Heard {
    Answer(Vec<u8>),
    /// Its host is there, and nobody listens.
    Refused,
    Nothing,
}

/// One datagram there, and the first that comes back.
async fn udp(to: SocketAddr, datagram: &[u8]) -> Heard {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let exchange = async {
        let socket = UdpSocket::bind(any).await?;
        socket.connect(to).await?;
        socket.send(datagram).await?;
        let mut answer = vec![0; DATAGRAM_MAX];
        let length = socket.recv(&mut answer).await?;
        answer.truncate(length);
        io::Result::Ok(answer)
    };
    match exchange.await {
        Ok(answer) => Heard::Answer(answer),
        Err(error) if is_refusal(&error) => Heard::Refused,
        Err(_) => Heard::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// Does the brain hear of an answer?
    async fn is_heard(prober: &Prober, inbox: &Inbox, target: ProbeTarget, endpoint: usize) -> bool {
        prober.send(target, endpoint);
        match timeout(ANSWER_TIMEOUT * 2, inbox.next()).await {
            Ok(event) => event == Event::Answered(target),
            Err(_) => false,
        }
    }

    fn prober(toml: &str) -> (Prober, Inbox) {
        let config = crate::config::load(toml, "", std::iter::empty()).expect("a good config");
        let inbox = Inbox::default();
        (Prober::new(&config.uplink, None, inbox.clone()), inbox)
    }

    #[tokio::test]
    async fn who_listens_and_who_refuses_is_there_and_who_is_silent_is_not() {
        let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        // Its queue is full, so SYNs are dropped.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = socket.listen(1).unwrap();
        let at = silent.local_addr().unwrap();
        let mut filling = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(300), TcpStream::connect(at)).await {
            filling.push(connected.unwrap());
        }
        for (at, is_there) in [(listening.local_addr().unwrap(), true), (refusing, true), (at, false)] {
            let (prober, inbox) = prober(&format!("[uplink]\nurl = \"http://{at}/whip\"\n"));
            assert_eq!(is_heard(&prober, &inbox, ProbeTarget::Server(0), 0).await, is_there, "{at}");
            assert!(!is_heard(&prober, &inbox, ProbeTarget::Server(7), 0).await, "a server that is none");
        }
    }

    #[tokio::test]
    async fn a_stun_server_is_a_witness_but_not_on_the_address_of_the_server() {
        let stun = UdpSocket::bind("127.0.0.2:0").await.unwrap();
        let at = stun.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let mut request = [0; 100];
            loop {
                let (length, from) = stun.recv_from(&mut request).await.unwrap();
                let answer = [&[1, 1][..], &request[2..length]].concat();
                stun.send_to(&answer, from).await.unwrap();
            }
        });
        for (server, is_witness) in [("127.0.0.1", true), ("127.0.0.2", false)] {
            let toml =
                format!("[uplink]\nurl = \"http://{server}:9/whip\"\n[[uplink.iceServers]]\nurls = [\"stun:{at}\"]\n");
            let (prober, inbox) = prober(&toml);
            let witness = ProbeTarget::Witness(prober.witnesses() - 1);
            assert_eq!(is_heard(&prober, &inbox, witness, 0).await, is_witness, "{server}");
        }
        answering.abort();
    }
}
