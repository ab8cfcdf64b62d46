//! Pure: the text of WHIP (RFC 9725): Location, Link, Retry-After, ETag, the trickle fragment (RFC 8840), and who may
//! see the token.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use url::{Host, Url};

use crate::config::origin::TrustedOrigin;
use crate::config::units::{IceServer, Secret};
use crate::uplink::failure::Body;

use crate::sdp::LocalCandidate;

/// More ICE servers than this only slow gathering down.
pub const ICE_SERVERS_MAX: usize = 10;
/// An agent with more addresses than this is broken or hostile.
pub const CANDIDATES_MAX: usize = 100;
/// A `Location`, `Link` target or ICE URL longer than this is nonsense.
const URL_LEN_MAX: usize = 2048;
/// A server that says "0" must not turn us into a busy loop.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// A server that says "next year" must not end the broadcast.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// What a server says in an error body: this much fits into one sentence.
const EXCERPT_CHARS_MAX: usize = 160;

/// The address for people: no userinfo, no query values, no fragment.
#[must_use]
pub fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = if url.query().is_some() { "?..." } else { "" };
    format!("{}://{host}{port}{}{query}", url.scheme(), url.path())
}

/// Why an address may not be used with the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// Neither the endpoint's origin nor one of `uplink.trustedOrigins`.
    Foreign,
    /// https to http.
    Downgrade,
}

/// May the token, sent to `from` so far, go to `target`?
///
/// # Errors
/// Says why not.
pub fn may_carry_token(endpoint: &Url, trusted: &[TrustedOrigin], from: &Url, target: &Url) -> Result<(), Distrust> {
    if target.origin() != endpoint.origin() && !trusted.iter().any(|origin| origin.covers(target)) {
        return Err(Distrust::Foreign);
    }
    if from.scheme() == "https" && target.scheme() != "https" {
        return Err(Distrust::Downgrade);
    }
    Ok(())
}

/// A `Location`, relative or absolute, as an address; userinfo and fragment are taken off. `None` if it is no http(s)
/// address.
#[must_use]
pub fn location(base: &Url, text: &str) -> Option<Url> {
    if text.is_empty() || text.len() > URL_LEN_MAX {
        return None;
    }
    let mut url = base.join(text).ok()?;
    if !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    without_userinfo(&mut url);
    url.set_fragment(None);
    Some(url)
}

/// Takes user name and password off an http(s) address.
pub fn without_userinfo(url: &mut Url) {
    // Fails only for addresses without a host, which have no userinfo either.
    let _no_host = url.set_username("");
    let _no_host = url.set_password(None);
}

/// A header of our own in the 201 of our ingest (docs/signalling.md): the number of this session among all of the server.
pub const RETRY_SLOT: &str = "roamcast-retry-slot";

/// The value of [`RETRY_SLOT`]; `None` if it is no number from 0 to 65535.
#[must_use]
pub fn retry_slot(text: &str) -> Option<u16> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `Retry-After` in seconds or as an HTTP date, clamped to 1 s ..= 10 min; `None` if it is neither.
#[must_use]
pub fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits for a number are certainly too long a wait.
        text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX))
}

/// Some editors put it before the text of a page (UTF-8).
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What a body is, by its media type and its first byte.
#[must_use]
pub fn body_kind(content_type: &str, body: &[u8]) -> Body {
    let content_type = content_type.trim().to_ascii_lowercase();
    let is_page = content_type.starts_with("text/html") || content_type.starts_with("application/xhtml");
    let start = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body).trim_ascii_start();
    if start.is_empty() {
        Body::Empty
    } else if start.starts_with(b"v=0") {
        Body::Sdp
    } else if is_page || start.starts_with(b"<") {
        Body::Html
    } else {
        Body::Other
    }
}

/// The first words of a plain text or JSON body in one line, with `secrets` masked wherever they are echoed.
#[must_use]
pub fn excerpt(content_type: &str, body: &[u8], secrets: &[&str]) -> Option<String> {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !(kind == "text/plain" || kind.ends_with("json")) {
        return None;
    }
    let mut text = String::from_utf8_lossy(body).into_owned();
    // One or two characters are no secret, and masking them would leave nothing to read.
    for secret in secrets.iter().filter(|secret| secret.len() > 2) {
        text = text.replace(secret, "***");
    }
    let line = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = line.collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(EXCERPT_CHARS_MAX).collect();
    (!cut.is_empty()).then_some(cut)
}

/// The ICE servers of the `Link` headers, and one sentence for each that was left out.
///
/// `near` says that the server that names them is itself on this machine or a private network: then it may name private
/// addresses. From a public server they would make us probe our own network.
#[must_use]
pub fn ice_servers<'a>(links: impl IntoIterator<Item = &'a str>, near: bool) -> (Vec<IceServer>, Vec<String>) {
    let (mut servers, mut left_out) = (Vec::new(), Vec::new());
    for link in links.into_iter().flat_map(parse_links) {
        if !link.has_rel("ice-server") {
            continue;
        }
        match check_ice_url(&link.target, near) {
            Err(why) => left_out.push(why),
            Ok(()) if servers.len() == ICE_SERVERS_MAX => {
                left_out.push(format!("more than {ICE_SERVERS_MAX} ICE servers are named: the rest is left out"));
                break;
            }
            Ok(()) => servers.push(link.into_ice_server()),
        }
    }
    (servers, left_out)
}

/// May this address of an ICE server, named by a server, be used? `near` as in [`ice_servers`].
///
/// # Errors
/// One sentence: it is left out, and why.
pub fn check_ice_url(url: &str, near: bool) -> Result<(), String> {
    match ice_host(url) {
        Err(why) => Err(format!("an ICE server that the server names is left out: {why}")),
        Ok(host) if !near && is_near(&host) => Err(format!(
            "the ICE server at `{host}` is left out: a public server may not name an address of our own network"
        )),
        Ok(_) => Ok(()),
    }
}

/// Does this host lie on this machine or on a private network, as far as its name tells?
#[must_use]
pub fn is_near(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
        Host::Ipv4(ip) => is_near_ip(IpAddr::V4(*ip)),
        Host::Ipv6(ip) => is_near_ip(IpAddr::V6(*ip)),
    }
}

/// Is this an address of this machine, of its link, or of a private network?
#[must_use]
pub fn is_near_ip(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let carrier_nat = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
            let this_network = ip.octets()[0] == 0;
            this_network
                || carrier_nat
                || ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
        }
        IpAddr::V6(ip) => match embedded_v4(ip) {
            Some(v4) => is_near_ip(IpAddr::V4(v4)),
            None => {
                ip.is_loopback()
                    || ip.is_unspecified()
                    || ip.is_multicast()
                    || ip.is_unique_local()
                    || ip.is_unicast_link_local()
            }
        },
    }
}

/// The IPv4 address inside an IPv4-mapped address or a NAT64 one (64:ff9b::/96).
fn embedded_v4(ip: Ipv6Addr) -> Option<std::net::Ipv4Addr> {
    let nat64 = ip.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let [.., a, b, c, d] = ip.octets();
    ip.to_ipv4_mapped().or_else(|| nat64.then(|| [a, b, c, d].into()))
}

/// The host of a `stun:`, `turn:` or `turns:` address (RFC 7064, 7065). `stuns:` is none: webrtcbin speaks no STUN over TLS.
fn ice_host(target: &str) -> Result<Host<String>, &'static str> {
    if target.len() > URL_LEN_MAX || target.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err("its address is too long or holds blanks");
    }
    let (scheme, rest) = target.split_once(':').ok_or("its address has no scheme")?;
    if !["stun", "turn", "turns"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return Err("its scheme is not `stun`, `turn` or `turns`");
    }
    let (host_port, query) = rest.split_once('?').unwrap_or((rest, "transport=udp"));
    if !["transport=udp", "transport=tcp"].contains(&query.to_ascii_lowercase().as_str()) {
        return Err("its query is not `transport=udp` or `transport=tcp`");
    }
    let after_bracket = host_port.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match host_port[after_bracket..].rfind(':') {
        Some(colon) => (&host_port[..after_bracket + colon], Some(&host_port[after_bracket + colon + 1..])),
        None => (host_port, None),
    };
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port != 0)) {
        return Err("its port is not a number from 1 to 65535");
    }
    Host::parse(host).map_err(|_| "its host is no name and no address")
}

/// One value of a `Link` header (RFC 8288).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    target: String,
    params: Vec<(String, String)>,
}

impl Link {
    fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn has_rel(&self, rel: &str) -> bool {
        self.param("rel").is_some_and(|rels| rels.split_ascii_whitespace().any(|one| one.eq_ignore_ascii_case(rel)))
    }

    fn into_ice_server(self) -> IceServer {
        let username = self.param("username").map(str::to_owned);
        let credential = self.param("credential").map(|text| Secret::new(text.to_owned()));
        IceServer { urls: vec![self.target], username, credential }
    }
}

/// The links of one header line. Commas inside `<...>` and quotes are text; what cannot be read is skipped.
fn parse_links(header: &str) -> Vec<Link> {
    let mut links = Vec::new();
    let mut rest = header;
    while let Some(start) = rest.find('<') {
        let Some((target, after)) = rest[start + 1..].split_once('>') else { break };
        let (params, after) = parse_params(after);
        links.push(Link { target: target.trim().to_owned(), params });
        rest = after;
    }
    links
}

/// `; name=value; name="value"` up to the comma that ends the link; gives what follows it.
fn parse_params(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut params = Vec::new();
    loop {
        rest = rest.trim_start();
        match rest.as_bytes().first() {
            None => return (params, rest),
            Some(b',') => return (params, &rest[1..]),
            Some(b';') => rest = &rest[1..],
            Some(_) => {
                let end = rest.find(['=', ';', ',']).unwrap_or(rest.len());
                let name = rest[..end].trim().to_ascii_lowercase();
                rest = &rest[end..];
                let value;
                (value, rest) = match rest.strip_prefix('=') {
                    Some(after) => parse_value(after.trim_start()),
                    None => (String::new(), rest),
                };
                params.push((name, value));
            }
        }
    }
}

/// A token or a quoted string with backslash escapes; gives what follows it.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// The body of a trickle PATCH: credentials of `offer`, then the m-lines that have candidates.
///
/// The credentials stand at session and at media level, as receivers look for them in either place.
#[must_use]
pub fn sdpfrag(offer: &str, candidates: &[LocalCandidate], end_of_candidates: bool) -> String {
    let mut frag = String::new();
    let credentials = offer_lines(offer, &["a=ice-ufrag:", "a=ice-pwd:"], 2);
    let bundle = offer_lines(offer, &["a=group:BUNDLE"], 1);
    for line in bundle.iter().chain(&credentials) {
        push_line(&mut frag, line);
    }
    for (mline, section) in offer.split("\nm=").skip(1).enumerate() {
        let mid = section.lines().find_map(|line| line.strip_prefix("a=mid:")).map(str::trim);
        let of_this = |candidate: &&LocalCandidate| match mid {
            Some(mid) if !candidate.mid.is_empty() => candidate.mid == mid,
            _ => usize::try_from(candidate.mline) == Ok(mline),
        };
        let mine: Vec<_> = candidates.iter().take(CANDIDATES_MAX).filter(of_this).collect();
        // With max-bundle the first m-line carries the transport, so the end is told there even without a candidate.
        if mine.is_empty() && !(end_of_candidates && mline == 0) {
            continue;
        }
        let first = section.lines().next().unwrap_or_default().trim();
        push_line(&mut frag, &format!("m={first}"));
        if let Some(mid) = mid {
            push_line(&mut frag, &format!("a=mid:{mid}"));
        }
        credentials.iter().for_each(|line| push_line(&mut frag, line));
        for candidate in mine {
            let text = candidate.candidate.trim();
            push_line(&mut frag, &format!("a={}", text.strip_prefix("a=").unwrap_or(text)));
        }
        if end_of_candidates {
            push_line(&mut frag, "a=end-of-candidates");
        }
    }
    frag
}

/// The body of a PATCH that restarts ICE: credentials and candidates of the new offer. More candidates may follow.
#[must_use]
pub fn restart_frag(offer: &str) -> String {
    let found = offer.lines().map(str::trim_end).filter(|line| line.starts_with("a=candidate:"));
    let candidates: Vec<LocalCandidate> =
        found.map(|line| LocalCandidate { mid: String::new(), mline: 0, candidate: line.to_owned() }).collect();
    let frag = sdpfrag(offer, &candidates, true);
    frag.split_inclusive('\n').filter(|line| !line.starts_with("a=end-of-candidates")).collect()
}

/// The first `count` lines that start with one of these, without their line ends.
fn offer_lines<'a>(offer: &'a str, starts: &[&str], count: usize) -> Vec<&'a str> {
    let wanted = |line: &&str| starts.iter().any(|start| line.starts_with(start));
    offer.lines().map(str::trim_end).filter(wanted).take(count).collect()
}

/// One line; whatever would break the line structure is taken out.
fn push_line(frag: &mut String, line: &str) {
    let clean: String = line.chars().filter(|c| !c.is_control()).collect();
    // Writing into a String cannot fail.
    let _never = write!(frag, "{clean}\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_shown_without_userinfo_and_query_values() {
        for (address, expected) in [
            ("https://user:pass@h.example/whip/x?token=hush#part", "https://h.example/whip/x?..."),
            ("http://[::1]:8080/whip", "http://[::1]:8080/whip"),
        ] {
            assert_eq!(shown(&url(address)), expected);
        }
    }

    #[test]
    fn a_location_is_resolved_against_the_address_that_answered() {
        let base = url("https://h.example/whip/stage?user=me");
        let too_long = format!("/{}", "x".repeat(URL_LEN_MAX));
        for (text, expected) in [
            ("session/1", Some("https://h.example/whip/session/1")),
            ("/s/1?x=y#z", Some("https://h.example/s/1?x=y")),
            ("//other.example/s", Some("https://other.example/s")),
            ("http://a:b@h.example:81/s", Some("http://h.example:81/s")),
            ("", None),
            ("ftp://h.example/s", None),
            ("javascript:alert(1)", None),
            ("http://[::", None),
            (too_long.as_str(), None),
        ] {
            assert_eq!(location(&base, text).as_ref().map(Url::as_str), expected, "{text}");
        }
    }

    #[test]
    fn the_token_goes_to_the_endpoint_and_to_trusted_origins_only() {
        let endpoint = url("https://h.example/whip");
        let trusted =
            ["https://cdn.example", "http://lan.example:8889"].map(|text| TrustedOrigin::new(&url(text)).unwrap());
        let verdict = |target: &str| may_carry_token(&endpoint, &trusted, &endpoint, &url(target));
        assert_eq!(verdict("https://h.example:443/else"), Ok(()));
        assert_eq!(verdict("https://cdn.example/x"), Ok(()));
        assert_eq!(verdict("https://h.example:444/whip"), Err(Distrust::Foreign));
        assert_eq!(verdict("https://sub.h.example/whip"), Err(Distrust::Foreign));
        assert_eq!(verdict("http://h.example/whip"), Err(Distrust::Foreign));
        assert_eq!(verdict("http://lan.example:8889/"), Err(Distrust::Downgrade));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_is_clamped() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, expected) in [
            ("120", Some(120)),
            (" 4 ", Some(4)),
            ("0", Some(1)),
            ("601", Some(600)),
            ("99999999999999999999999999", Some(600)),
            ("Sun, 06 Nov 1994 08:50:00 GMT", Some(23)),
            ("Sunday, 06-Nov-94 08:50:00 GMT", Some(23)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(1)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(600)),
            ("-5", None),
            ("4.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn ice_servers_are_read_from_all_forms_of_link() {
        let urls = |link: &str| {
            let (servers, _) = ice_servers([link], true);
            servers.into_iter().flat_map(|server| server.urls).collect::<Vec<_>>()
        };
        for (link, expected) in [
            ("<stun:a.example>; rel=\"ice-server\"", vec!["stun:a.example"]),
            ("<stun:a.example>;REL=Ice-Server", vec!["stun:a.example"]),
            ("<turn:a.example?transport=udp>; rel=\"help ice-server\"", vec!["turn:a.example?transport=udp"]),
            (
                "<stun:a.example>; x=\"a,b;<c>\\\"\"; rel=ice-server, <stun:b.example:3478>; rel=ice-server",
                vec!["stun:a.example", "stun:b.example:3478"],
            ),
            ("<stun:[2001:db8::1]:3478>; rel=ice-server", vec!["stun:[2001:db8::1]:3478"]),
            ("<stun:a.example>; rel=help", vec![]),
            ("<stun:a.example>", vec![]),
            ("<http://a.example>; rel=ice-server", vec![]),
            ("<stun:a.example:0>; rel=ice-server", vec![]),
            ("<stun:a.example:99999>; rel=ice-server", vec![]),
            ("<turn:a.example?transport=sctp>; rel=ice-server", vec![]),
            ("<stun:>; rel=ice-server", vec![]),
            ("<stun:a.example; rel=ice-server", vec![]),
            ("; rel=ice-server", vec![]),
        ] {
            assert_eq!(urls(link), expected, "{link}");
        }
    }

    #[test]
    fn a_public_server_may_not_name_addresses_of_our_own_network() {
        for host in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "2130706433",
            "[::1]",
            "[fe80::1]",
            "[fd00::1]",
            "[::ffff:10.0.0.1]",
            "[64:ff9b::a00:1]",
            "localhost",
            "x.LOCALHOST.",
        ] {
            let link = format!("<turn:{host}:3478>; rel=ice-server");
            let (servers, left_out) = ice_servers([link.as_str()], false);
            assert!(servers.is_empty() && left_out.len() == 1, "{host}: {servers:?} {left_out:?}");
            assert_eq!(ice_servers([link.as_str()], true).0.len(), 1, "{host}");
        }
        let (servers, left_out) = ice_servers(["<turn:203.0.113.7>; rel=ice-server"], false);
        assert!(servers.len() == 1 && left_out.is_empty());
    }

    #[test]
    fn more_than_ten_ice_servers_are_left_out() {
        let links = vec!["<stun:a.example>; rel=ice-server"; 50];
        let (servers, left_out) = ice_servers(links, false);
        assert_eq!((servers.len(), left_out.len()), (ICE_SERVERS_MAX, 1));
    }

    #[test]
    fn an_excerpt_is_one_short_line_of_text_without_the_token() {
        let said = |kind, body: &str| excerpt(kind, body.as_bytes(), &["hush", "x", ""]);
        assert_eq!(said("text/plain; charset=utf-8", "a\r\n b\x1b hush").as_deref(), Some("a b ***"));
        assert_eq!(said("application/problem+json", "{}").as_deref(), Some("{}"));
        assert_eq!(said("text/html", "<h1>no</h1>"), None);
        assert_eq!(said("text/plain", " \n"), None);
        assert_eq!(said("text/plain", &"é".repeat(1000)).unwrap().chars().count(), EXCERPT_CHARS_MAX);
    }

    #[test]
    fn a_fragment_never_holds_more_lines_than_were_meant() {
        let evil = LocalCandidate { mid: "0".into(), mline: 0, candidate: "candidate:1\r\na=evil".into() };
        let offer = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n";
        let frag = sdpfrag(offer, &vec![evil; 1000], false);
        assert!(!frag.contains("\na=evil"));
        assert_eq!(frag.matches("candidate:").count(), CANDIDATES_MAX);
    }

    proptest! {
        #[test]
        fn no_header_makes_a_parser_panic(text in any::<String>(), near in any::<bool>()) {
            let (servers, _) = ice_servers([text.as_str()], near);
            prop_assert!(servers.len() <= ICE_SERVERS_MAX);
            let _any = location(&url("https://h.example/whip"), &text);
            let wait = retry_after(&text, SystemTime::UNIX_EPOCH);
            prop_assert!(wait.is_none_or(|wait| (RETRY_AFTER_MIN..=RETRY_AFTER_MAX).contains(&wait)));
        }

        #[test]
        fn links_made_of_their_own_syntax_never_panic(text in r#"([<>;,="\\ a]|rel=|ice-server|stun:h|turn:|\?transport=udp|é){0,40}"#) {
            let (servers, _) = ice_servers([text.as_str()], false);
            prop_assert!(servers.iter().all(|server| ice_host(&server.urls[0]).is_ok()));
        }

        #[test]
        fn a_quoted_credential_comes_back_as_it_was(credential in "[ -~]{1,40}") {
            let quoted = credential.replace('\\', "\\\\").replace('"', "\\\"");
            let link = format!("<turn:h.example?transport=udp>; credential=\"{quoted}\"; rel=\"ice-server\"");
            let (servers, _) = ice_servers([link.as_str()], false);
            prop_assert_eq!(servers[0].credential.as_ref().map(Secret::expose), Some(credential.as_str()));
        }

        #[test]
        fn a_location_never_leaves_http(text in any::<String>()) {
            if let Some(found) = location(&url("https://h.example/whip/x"), &text) {
                prop_assert!(matches!(found.scheme(), "http" | "https"));
                prop_assert!(found.username().is_empty() && found.password().is_none());
            }
        }
    }
}
