//! Pure: the candidates of others (RFC 8839, section 5.1) - which of them are understood, and do they lead anywhere?

use std::fmt;
use std::net::IpAddr;

/// The longest candidate line we look at.
const CANDIDATE_BYTES_MAX: usize = 512;
/// RFC 8839, section 5.1: `foundation = 1*32ice-char`.
const FOUNDATION_LEN_MAX: usize = 32;
/// The longest host name (RFC 1035, section 2.3.4).
const NAME_LEN_MAX: usize = 253;

/// A candidate in its canonical form: what is said of it beyond that (RFC 8839 allows anything) does not matter to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate<'a> {
    foundation: &'a str,
    component: u16,
    is_udp: bool,
    priority: u32,
    pub(crate) host: CandidateHost<'a>,
    port: u16,
    kind: &'static str,
    related: Option<(IpAddr, u16)>,
    tcp_type: Option<&'a str>,
}

/// Where a candidate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CandidateHost<'a> {
    Ip(IpAddr),
    /// A name of DNS or, in `.local`, of multicast DNS.
    Name(&'a str),
}

impl<'a> Candidate<'a> {
    /// From the text with or without `a=` and `candidate:` in front.
    ///
    /// # Errors
    /// Half a sentence that says what is wrong with it.
    pub(crate) fn parse(text: &'a str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.len() > CANDIDATE_BYTES_MAX || text.contains(char::is_control) {
            return Err("it is too long or holds control characters");
        }
        let text = text.strip_prefix("a=").unwrap_or(text);
        let mut words = text.strip_prefix("candidate:").unwrap_or(text).split_ascii_whitespace();
        let mut next = |what| words.next().ok_or(what);
        let foundation = next("it is empty")?;
        if foundation.len() > FOUNDATION_LEN_MAX {
            return Err("its foundation is longer than 32 characters");
        }
        let component = next("it has no component")?.parse().ok().filter(|number| (1..=256).contains(number));
        let component = component.ok_or("its component is not 1 to 256")?;
        let transport = next("it has no transport")?;
        let is_udp = transport.eq_ignore_ascii_case("udp");
        if !is_udp && !transport.eq_ignore_ascii_case("tcp") {
            return Err("its transport is not `udp` or `tcp`");
        }
        let priority = next("it has no priority")?.parse().map_err(|_| "its priority is not a 32-bit number")?;
        let host = host(next("it has no address")?).ok_or("its address is no IP address and no host name")?;
        let port = next("it has no port")?.parse().map_err(|_| "its port is not a number up to 65535")?;
        let is_typ = next("it has no type")?.eq_ignore_ascii_case("typ");
        let kind = kind(next("it has no type")?).filter(|_| is_typ);
        let kind = kind.ok_or("its type is not `host`, `srflx`, `prflx` or `relay`")?;
        let mut candidate =
            Self { foundation, component, is_udp, priority, host, port, kind, related: None, tcp_type: None };
        candidate.take_extensions(words);
        Ok(candidate)
    }

    /// Pairs of name and value; those that are not known, or not understood, count for nothing.
    fn take_extensions(&mut self, mut words: impl Iterator<Item = &'a str>) {
        let (mut address, mut port) = (None, None);
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            match name {
                "raddr" => address = value.parse().ok(),
                "rport" => port = value.parse().ok(),
                "tcptype" if !self.is_udp => {
                    self.tcp_type = ["active", "passive", "so"].into_iter().find(|known| *known == value);
                }
                _ => {}
            }
        }
        self.related = address.zip(port);
    }

    /// The same candidate at an address that its name has resolved to.
    pub(crate) fn at(&self, ip: IpAddr) -> String {
        Self { host: CandidateHost::Ip(ip), ..self.clone() }.to_string()
    }

    /// What an agent that sends from UDP sockets can do with it.
    pub(crate) fn reach(&self) -> Reach {
        match self.host {
            _ if self.component != 1 || (self.is_udp && self.port == 0) => Reach::Nowhere,
            _ if !self.is_udp => Reach::Tcp,
            CandidateHost::Ip(ip) if ip.is_unspecified() || ip.is_multicast() => Reach::Nowhere,
            CandidateHost::Ip(ip) if ip.is_loopback() => Reach::Loopback,
            CandidateHost::Ip(_) | CandidateHost::Name(_) => Reach::Udp,
        }
    }
}

/// Where a candidate leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To a UDP port.
    Udp,
    /// To a UDP port of the machine that asks.
    Loopback,
    /// To TCP, which our agent does not speak.
    Tcp,
    /// To no address, to port 0, or to RTCP on a port of its own.
    Nowhere,
}

impl fmt::Display for Candidate<'_> {
    /// The attribute without `a=`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = if self.is_udp { "udp" } else { "tcp" };
        let Self { foundation, component, priority, host, port, kind, .. } = self;
        write!(f, "candidate:{foundation} {component} {transport} {priority} {host} {port} typ {kind}")?;
        if let Some((address, port)) = self.related {
            write!(f, " raddr {address} rport {port}")?;
        }
        self.tcp_type.map_or(Ok(()), |tcp_type| write!(f, " tcptype {tcp_type}"))
    }
}

impl fmt::Display for CandidateHost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// An address, or a name that may resolve to some.
fn host(text: &str) -> Option<CandidateHost<'_>> {
    if let Ok(ip) = text.parse() {
        return Some(CandidateHost::Ip(ip));
    }
    let is_name = text.len() <= NAME_LEN_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    is_name.then_some(CandidateHost::Name(text))
}

/// The types that are known, whatever their case (strings of ABNF have none).
fn kind(text: &str) -> Option<&'static str> {
    ["host", "srflx", "prflx", "relay"].into_iter().find(|known| text.eq_ignore_ascii_case(known))
}

/// Is this the text of a candidate (RFC 8839), with or without `a=` and `candidate:` in front?
///
/// # Errors
/// Half a sentence that says what is wrong with it.
pub fn check_candidate(text: &str) -> Result<(), &'static str> {
    Candidate::parse(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_told_from_nonsense() {
        for (good, canonical) in [
            ("candidate:1 1 UDP 2130706431 192.0.2.9 8189 typ host", "1 1 udp 2130706431 192.0.2.9 8189 typ host"),
            (
                "a=candidate:842163049 1 udp 1677729535 2001:db8::1 46154 typ srflx raddr 10.0.0.5 rport 46154 generation 0",
                "842163049 1 udp 1677729535 2001:db8::1 46154 typ srflx raddr 10.0.0.5 rport 46154",
            ),
            (
                "candidate:0 2 TCP 2105458943 192.0.2.9 9 typ host tcptype active",
                "0 2 tcp 2105458943 192.0.2.9 9 typ host tcptype active",
            ),
            (
                "candidate:9 1 udp 2122260223 4f2c9b1e-aaaa.local 50000 typ host network-cost 999",
                "9 1 udp 2122260223 4f2c9b1e-aaaa.local 50000 typ host",
            ),
            ("candidate:9 1 udp 1 studio-box 5 TYP HOST generation", "9 1 udp 1 studio-box 5 typ host"),
            ("candidate:9 1 udp 1 ::1 5 typ relay raddr x.example rport 5", "9 1 udp 1 ::1 5 typ relay"),
        ] {
            let canonical = format!("candidate:{canonical}");
            assert_eq!(Candidate::parse(good).map(|one| one.to_string()), Ok(canonical.clone()), "{good}");
            assert_eq!(Candidate::parse(&canonical).map(|one| one.to_string()), Ok(canonical), "{good}");
        }
        for bad in [
            "",
            "candidate:1",
            "candidate:1 0 UDP 1 192.0.2.9 8189 typ host",
            "candidate:1 1 SCTP 1 192.0.2.9 8189 typ host",
            "candidate:1 1 ssltcp 1 192.0.2.9 443 typ host",
            "candidate:1 1 UDP 99999999999 192.0.2.9 8189 typ host",
            "candidate:1 1 UDP 1 fe80::1%eth0 8189 typ host",
            "candidate:1 1 UDP 1 300.0.0.1 8189 typ host",
            "candidate:1 1 UDP 1 caf\u{e9}.example 8189 typ host",
            "candidate:1 1 UDP 1 192.0.2.9 70000 typ host",
            "candidate:1 1 UDP 1 192.0.2.9 8189 typ hostess",
            "candidate:1 1 UDP 1 192.0.2.9 8189 of host",
            "candidate:1 1 UDP 1 192.0.2.9 8189 typ host\r\na=evil",
        ] {
            assert!(check_candidate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn where_a_candidate_leads() {
        for (text, reach) in [
            ("1 1 udp 1 192.0.2.9 8189 typ host", Reach::Udp),
            ("1 1 udp 1 server.example 8189 typ host", Reach::Udp),
            ("1 1 udp 1 127.0.0.2 8189 typ host", Reach::Loopback),
            ("1 1 udp 1 ::1 8189 typ host", Reach::Loopback),
            ("1 1 tcp 1 192.0.2.9 443 typ host tcptype passive", Reach::Tcp),
            ("1 2 udp 1 192.0.2.9 8189 typ host", Reach::Nowhere),
            ("1 1 udp 1 192.0.2.9 0 typ host", Reach::Nowhere),
            ("1 1 udp 1 0.0.0.0 8189 typ host", Reach::Nowhere),
            ("1 1 udp 1 ff02::1 8189 typ host", Reach::Nowhere),
        ] {
            assert_eq!(Candidate::parse(text).map(|one| one.reach()), Ok(reach), "{text}");
        }
        let named = Candidate::parse("1 1 udp 7 server.example 8189 typ host").unwrap();
        assert_eq!(named.at([192, 0, 2, 1].into()), "candidate:1 1 udp 7 192.0.2.1 8189 typ host");
    }
}
