//! Pure: which STUN and TURN servers the agent may use, in the order of the lists that name them.

use std::net::IpAddr;

use url::Host;

use crate::config::units::{IceServer, Secret};
use crate::signal::origin::is_near_ip;

/// Servers that are used; signalling names ten at most, and a config hardly more.
const SERVERS_MAX: usize = 32;
/// Without a port (RFC 7064, RFC 7065).
const PORT: u16 = 3478;
const PORT_TLS: u16 = 5349;

/// How a TURN server is reached. What it lends is UDP in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ice) enum Transport {
    Udp,
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// One address of one server.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::ice) struct Server {
    pub(in crate::ice) host: Host<String>,
    pub(in crate::ice) port: u16,
    pub(in crate::ice) transport: Transport,
    /// For TURN; time-limited ones (REST) are no different.
    pub(in crate::ice) username: String,
    pub(in crate::ice) password: Secret,
    /// The config names it: nobody else can make us probe our own network with it.
    configured: bool,
    /// The server that names it lies on this machine or on a private network itself.
    near: bool,
}

impl Server {
    /// As the operator wrote it, without its secrets.
    pub(in crate::ice) fn name(&self) -> String {
        let (scheme, query) = match self.transport {
            Transport::Udp => ("turn", ""),
            Transport::Tcp => ("turn", "?transport=tcp"),
            Transport::Tls => ("turns", ""),
        };
        format!("{scheme}:{}:{}{query}", self.host, self.port)
    }

    /// May it be reached at this address, which its name has resolved to? A public server may name a host whose name
    /// resolves to an address of our own network; the door of the signalling has seen the name only.
    pub(in crate::ice) fn may_be_at(&self, ip: IpAddr) -> bool {
        self.configured || self.near || !is_near_ip(ip)
    }

    /// Time-limited credentials carry the end of their life, in seconds since 1970, before the first colon.
    pub(in crate::ice) fn ends(&self) -> Option<u64> {
        self.username.split(':').next()?.parse().ok().filter(|at| *at >= 1_000_000_000)
    }
}

/// All servers of a session.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Servers {
    pub(in crate::ice) stun: Vec<Server>,
    pub(in crate::ice) turn: Vec<Server>,
}

impl Servers {
    /// Those of the config come first. `near`: the server that names `named` lies on this machine or a private network.
    /// What is no address of a server is left out; config and signalling have checked the form before.
    pub(crate) fn new(configured: &[IceServer], named: &[IceServer], near: bool) -> Self {
        let mut all = Self::default();
        let lists = configured.iter().map(|server| (server, true)).chain(named.iter().map(|server| (server, false)));
        for (server, configured) in lists {
            for url in &server.urls {
                all.add(url, server, configured, near);
            }
        }
        all
    }

    /// Was a TURN server asked for by the operator?
    pub(in crate::ice) fn is_turn_configured(&self) -> bool {
        self.turn.iter().any(|server| server.configured)
    }

    fn add(&mut self, url: &str, server: &IceServer, configured: bool, near: bool) {
        let Some((list, transport, host, port)) = self.place(url) else { return };
        let server = Server {
            host,
            port,
            transport,
            username: server.username.clone().unwrap_or_default(),
            password: server.credential.clone().unwrap_or_else(|| Secret::new(String::new())),
            configured,
            near,
        };
        if list.len() < SERVERS_MAX && !list.contains(&server) {
            list.push(server);
        }
    }

    fn place(&mut self, url: &str) -> Option<(&mut Vec<Server>, Transport, Host<String>, u16)> {
        let (scheme, rest) = url.split_once(':')?;
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let is_tcp = query.eq_ignore_ascii_case("transport=tcp");
        let (list, transport, default) = match scheme.to_ascii_lowercase().as_str() {
            "stun" => (&mut self.stun, Transport::Udp, PORT),
            "turn" if is_tcp => (&mut self.turn, Transport::Tcp, PORT),
            "turn" => (&mut self.turn, Transport::Udp, PORT),
            // DTLS over UDP is not spoken by any server that we know.
            "turns" => (&mut self.turn, Transport::Tls, PORT_TLS),
            _ => return None,
        };
        let after_v6 = address.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match address.get(after_v6..)?.rfind(':') {
            Some(colon) => (address.get(..after_v6 + colon)?, address.get(after_v6 + colon + 1..)?.parse().ok()?),
            None => (address, default),
        };
        Some((list, transport, Host::parse(host).ok()?, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(urls: &[&str]) -> IceServer {
        IceServer {
            urls: urls.iter().map(|&url| url.to_owned()).collect(),
            username: Some("1900000000:van".into()),
            credential: Some(Secret::new("hunter2".into())),
        }
    }

    #[test]
    fn every_form_of_address_is_understood_and_the_config_comes_first() {
        let config = named(&["TURN:t.example:99?transport=TCP", "turns:[2001:db8::1]", "stun:s.example"]);
        let signalled = named(&["turn:203.0.113.7", "turn:203.0.113.7", "http://h", "turn:", "turn:h:0x1"]);
        let servers = Servers::new(&[config], &[signalled], false);
        let names: Vec<String> = servers.turn.iter().map(Server::name).collect();
        let wanted = ["turn:t.example:99?transport=tcp", "turns:[2001:db8::1]:5349", "turn:203.0.113.7:3478"];
        assert_eq!(names, wanted);
        assert_eq!((servers.stun.len(), servers.stun[0].port), (1, 3478));
        assert!(servers.is_turn_configured());
        assert_eq!(servers.turn[0].ends(), Some(1_900_000_000));
        assert!(!format!("{servers:?}").contains("hunter2"));
    }

    #[test]
    fn a_public_server_cannot_send_us_into_our_own_network() {
        let list = [named(&["turn:t.example"])];
        let (private, public) = ("10.0.0.1".parse().unwrap(), "203.0.113.7".parse().unwrap());
        for (servers, may) in [
            (Servers::new(&list, &[], false), true),
            (Servers::new(&[], &list, true), true),
            (Servers::new(&[], &list, false), false),
        ] {
            assert_eq!(servers.turn[0].may_be_at(private), may);
            assert!(servers.turn[0].may_be_at(public));
            assert!(!may || servers.turn[0].may_be_at("::1".parse().unwrap()));
        }
    }

    #[test]
    fn a_list_without_end_is_cut() {
        let urls: Vec<String> = (0..100).map(|n| format!("turn:h{n}")).collect();
        let list = IceServer { urls, username: None, credential: None };
        assert_eq!(Servers::new(&[], &[list], false).turn.len(), SERVERS_MAX);
    }
}
