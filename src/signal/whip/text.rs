//! Pure: the text of WHIP (RFC 9725): Link, the number of a session, the trickle fragment (RFC 8840).

use std::fmt::Write as _;

use crate::config::units::{IceServer, Secret};

use crate::sdp::LocalCandidate;

use crate::signal::origin::{ICE_SERVERS_MAX, check_ice_url};

/// An agent with more addresses than this is broken or hostile.
pub const CANDIDATES_MAX: usize = 100;

/// A header of our own in the 201 of our ingest (docs/signalling.md): the number of this session among all of the server.
pub const RETRY_SLOT: &str = "roamcast-retry-slot";

/// The value of [`RETRY_SLOT`]; `None` if it is no number from 0 to 65535.
#[must_use]
pub fn retry_slot(text: &str) -> Option<u16> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
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
    fn a_fragment_never_holds_more_lines_than_were_meant() {
        let evil = LocalCandidate { mid: "0".into(), mline: 0, candidate: "candidate:1\r\na=evil".into() };
        let offer = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n";
        let frag = sdpfrag(offer, &vec![evil; 1000], false);
        assert!(!frag.contains("\na=evil"));
        assert_eq!(frag.matches("candidate:").count(), CANDIDATES_MAX);
    }

    proptest! {
        #[test]
        fn no_link_makes_the_parser_panic(text in any::<String>(), near in any::<bool>()) {
            let (servers, _) = ice_servers([text.as_str()], near);
            prop_assert!(servers.len() <= ICE_SERVERS_MAX);
        }

        #[test]
        fn links_made_of_their_own_syntax_never_panic(text in r#"([<>;,="\\ a]|rel=|ice-server|stun:h|turn:|\?transport=udp|é){0,40}"#) {
            let (servers, _) = ice_servers([text.as_str()], false);
            prop_assert!(servers.iter().all(|server| check_ice_url(&server.urls[0], true).is_ok()));
        }

        #[test]
        fn a_quoted_credential_comes_back_as_it_was(credential in "[ -~]{1,40}") {
            let quoted = credential.replace('\\', "\\\\").replace('"', "\\\"");
            let link = format!("<turn:h.example?transport=udp>; credential=\"{quoted}\"; rel=\"ice-server\"");
            let (servers, _) = ice_servers([link.as_str()], false);
            prop_assert_eq!(servers[0].credential.as_ref().map(Secret::expose), Some(credential.as_str()));
        }

    }
}
