//! Pure: `[uplink]`: where the media and the token go. Nothing here puts a URL in a message: it may hold a password.

use std::net::IpAddr;

use url::{Host, Url};

use crate::config::clear_text::{ClearText, is_private};
use crate::config::document::Document;
use crate::config::file::{self, OneOrMany};
use crate::config::fingerprint::Fingerprint;
use crate::config::origin::TrustedOrigin;
use crate::config::units::{IceServer, Secret};
use crate::config::words::quoted;
use crate::config::{JanusRoom, Protocol, TokenSource, Uplink};

pub(super) fn check(
    document: &mut Document<'_>,
    file: &file::Uplink,
    name: &str,
    is_own: &dyn Fn(IpAddr) -> bool,
) -> Option<Uplink> {
    let door = ClearTextDoor { allowed: file.allow_clear_text, is_own };
    let url = server(document, "uplink.url", &file.url, file.protocol);
    let fallback_urls = fallback_urls(document, file);
    let janus = janus(document, file, name);
    let token = token(document, file, &door);
    let trusted_origins = trusted_origins(document, &file.trusted_origins);
    if token.is_some() || file.api_secret.is_some() || file.room_pin.is_some() {
        let what = if token.is_some() { "token" } else { "secret" };
        keep_off_the_clear(document, what, &door, url.as_ref(), &fallback_urls, &trusted_origins);
    }
    let fingerprints = fingerprints(document, file.fingerprint.as_ref());
    let ice_servers = ice_servers(document, &file.ice_servers);
    let relay_only = file.ice_transport == file::IceTransport::Relay;
    let has_turn = ice_servers.iter().flat_map(|server| &server.urls).any(|url| is_turn(url));
    if relay_only && !has_turn && document.is_clean("uplink.iceServers") {
        let words = "`uplink.iceTransport` is \"relay\", but `uplink.iceServers` has no TURN server";
        let help = "iceServers = [{ urls = [\"turn:host\"], username = \"...\", credential = \"...\" }]";
        document.complain("uplink.iceTransport", words, Some(help));
    }
    Some(Uplink {
        protocol: file.protocol,
        url: url?,
        fallback_urls,
        janus,
        token,
        ca_file: file.ca_file.as_ref().map(Into::into),
        fingerprints,
        allow_clear_text: file.allow_clear_text,
        ice_servers,
        relay_only,
        dtls_certificate: file.dtls_certificate,
        trusted_origins: trusted_origins.into_iter().map(|(_, origin)| origin).collect(),
    })
}

/// One server, or a complaint.
fn server(document: &mut Document<'_>, key: &str, text: &str, protocol: Protocol) -> Option<Url> {
    let url = match protocol {
        Protocol::Whip => parse_url(text, HTTP, "https://host/whip/name"),
        Protocol::Janus => parse_url(text, WEBSOCKET, "wss://host:8989"),
        Protocol::Roamcast => parse_url(text, WEBSOCKET_OF_HTTP, "wss://host/roamcast/name"),
    };
    url.map_err(|words| document.complain(key, format!("`{key}` {words}"), None)).ok()
}

fn fallback_urls(document: &mut Document<'_>, file: &file::Uplink) -> Vec<Url> {
    let texts = file.fallback_urls.iter().enumerate();
    texts
        .filter_map(|(index, text)| server(document, &format!("uplink.fallbackUrls[{index}]"), text, file.protocol))
        .collect()
}

/// The room when the protocol is `janus`; its keys mean nothing to the others.
fn janus(document: &mut Document<'_>, file: &file::Uplink, name: &str) -> Option<JanusRoom> {
    let keys = [
        ("uplink.room", file.room.is_some()),
        ("uplink.roomCreate", file.room_create),
        ("uplink.roomPin", file.room_pin.is_some()),
        ("uplink.apiSecret", file.api_secret.is_some()),
        ("uplink.display", file.display.is_some()),
    ];
    match file.protocol {
        Protocol::Whip | Protocol::Roamcast => {
            for (key, _) in keys.iter().filter(|(_, set)| *set) {
                let words = format!("`{key}` belongs to the protocol `janus` alone");
                document.complain(key, words, Some("protocol = \"janus\", or leave the key out"));
            }
            None
        }
        Protocol::Janus => {
            if file.room.is_none() && document.is_clean("uplink.room") {
                let words = "the protocol `janus` needs `uplink.room`, the number of the room";
                document.complain("uplink.protocol", words, Some("room = 1234"));
            }
            Some(JanusRoom {
                room: file.room?,
                create: file.room_create,
                pin: file.room_pin.clone(),
                api_secret: file.api_secret.clone(),
                display: file.display.clone().unwrap_or_else(|| name.to_owned()),
            })
        }
    }
}

/// Schemes as people write them -> as they are.
type Schemes = &'static [(&'static str, &'static str)];

/// http and https, and `whip` and `whips` as other names for them.
const HTTP: Schemes = &[("https", "https"), ("http", "http"), ("whips", "https"), ("whip", "http")];
/// Janus has a transport over http, too, elsewhere and of another kind: https is not another name for wss.
const WEBSOCKET: Schemes = &[("wss", "wss"), ("ws", "ws")];
/// roamcast signalling begins as an HTTP request.
const WEBSOCKET_OF_HTTP: Schemes = &[("wss", "wss"), ("ws", "ws"), ("https", "wss"), ("http", "ws")];

fn parse_url(text: &str, schemes: Schemes, example: &str) -> Result<Url, String> {
    let wanted = || format!("must be a URL such as \"{example}\"");
    let scheme = text.split_once("://").ok_or_else(wanted)?.0.to_ascii_lowercase();
    let Some((_, meant)) = schemes.iter().find(|(known, _)| *known == scheme) else {
        let known: Vec<&str> = schemes.iter().map(|(known, _)| *known).collect();
        let (last, others) = known.split_last().unwrap_or((&"", &[]));
        return Err(format!("must begin with {} or {last}, not {}", others.join(", "), quoted(&scheme)));
    };
    let url =
        Url::parse(&format!("{meant}{}", &text[scheme.len()..])).map_err(|error| format!("{}: {error}", wanted()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password: use `uplink.token` or `uplink.tokenFile`".into());
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment (`#...`): no server would see it".into());
    }
    Ok(url)
}

/// Is the server this machine itself?
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// The one source that is set. Of several each after the first gets a complaint.
fn token(document: &mut Document<'_>, file: &file::Uplink, door: &ClearTextDoor<'_>) -> Option<TokenSource> {
    let token = file.token.as_ref().map(|token| {
        // RFC 6750, section 2.1; anything else cannot stand in an HTTP header or would end it.
        if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            let words = "`uplink.token` must be visible ASCII characters without spaces";
            document.complain("uplink.token", words, Some("write the token alone, without `Bearer`"));
        }
        TokenSource::Value(Secret::clone(token))
    });
    let sources = [
        ("uplink.token", token),
        ("uplink.tokenFile", file.token_file.as_ref().map(|path| TokenSource::File(path.into()))),
        ("uplink.tokenCommand", file.token_command.clone().map(TokenSource::Command)),
        ("uplink.tokenUrl", file.token_url.as_ref().and_then(|text| token_url(document, text, door))),
        ("uplink.tokenCredential", file.token_credential.as_ref().and_then(|name| credential(document, name))),
    ];
    let mut set = sources.into_iter().filter_map(|(key, source)| Some((key, source?)));
    let (first, source) = set.next()?;
    for (key, _) in set {
        document.complain(key, format!("`{first}` and `{key}` exclude each other"), None);
    }
    Some(source)
}

fn token_url(document: &mut Document<'_>, text: &str, door: &ClearTextDoor<'_>) -> Option<TokenSource> {
    const SCHEMES: Schemes = &[("https", "https"), ("http", "http")];
    let words = match parse_url(text, SCHEMES, "https://host/token") {
        Ok(url) => match door.objection(&url) {
            None => return Some(TokenSource::Url(url)),
            Some(how) => format!("would fetch the token in the clear: use https{how}"),
        },
        Err(words) => words,
    };
    document.complain("uplink.tokenUrl", format!("`uplink.tokenUrl` {words}"), None);
    None
}

/// systemd makes a file of that name in `$CREDENTIALS_DIRECTORY`.
fn credential(document: &mut Document<'_>, name: &str) -> Option<TokenSource> {
    if name.contains('/') || matches!(name, "." | "..") || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        let words = "`uplink.tokenCredential` must be the name of a credential, not a path";
        document.complain("uplink.tokenCredential", words, Some("LoadCredential=NAME:/path in the unit"));
        return None;
    }
    Some(TokenSource::Credential(name.to_owned()))
}

/// Which addresses may be spoken to in the clear, as far as a text tells: what a name stands for is looked at when it is dialled.
struct ClearTextDoor<'a> {
    /// `uplink.allowClearText`
    allowed: bool,
    is_own: &'a dyn Fn(IpAddr) -> bool,
}

impl ClearTextDoor<'_> {
    /// `None`: a secret may go there. Else what else there is besides encryption, as the end of a sentence.
    fn objection(&self, url: &Url) -> Option<&'static str> {
        let rule = if self.allowed { ClearText::PrivateNetworks } else { ClearText::ThisMachine };
        if matches!(url.scheme(), "https" | "wss") || is_loopback(url) {
            return None;
        }
        let ip = match url.host()? {
            Host::Domain(_) if self.allowed => return None,
            Host::Domain(_) => None,
            Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
            Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
        };
        match ip {
            // On Linux this means: here.
            Some(ip) if ip.is_unspecified() || rule.allows(ip, self.is_own) => None,
            Some(ip) if !is_private(ip) => Some(""),
            Some(_) | None => Some("; on a private network or VPN: allowClearText = true"),
        }
    }
}

/// A token over http is for everyone on the way to read.
fn keep_off_the_clear(
    document: &mut Document<'_>,
    what: &str,
    door: &ClearTextDoor<'_>,
    url: Option<&Url>,
    fallback: &[Url],
    trusted: &[(Url, TrustedOrigin)],
) {
    let secure = match url.map(Url::scheme) {
        Some("ws" | "wss") => "use wss",
        Some(_) | None => "use https",
    };
    if let Some(how) = url.and_then(|url| door.objection(url)) {
        let words = format!("`uplink.url` would send the {what} in the clear");
        document.complain("uplink.url", words, Some(&format!("{secure}{how}")));
    }
    let trusted: Vec<&Url> = trusted.iter().map(|(url, _)| url).collect();
    for (list, urls) in [("uplink.fallbackUrls", fallback.iter().collect()), ("uplink.trustedOrigins", trusted)] {
        // After a complaint about one of the list the indices do not fit any more; the next run tells.
        if document.is_clean(list) {
            for (index, how) in urls.iter().enumerate().filter_map(|(index, url)| Some((index, door.objection(url)?))) {
                let key = format!("{list}[{index}]");
                let words = format!("`{key}` would send the {what} in the clear");
                document.complain(&key, words, Some(&format!("{secure}{how}")));
            }
        }
    }
}

/// Each as an address, too.
fn trusted_origins(document: &mut Document<'_>, file: &[String]) -> Vec<(Url, TrustedOrigin)> {
    let mut origins = Vec::new();
    for (index, text) in file.iter().enumerate() {
        let checked = match parse_url(text, HTTP, "https://host") {
            Ok(url) if url.path() == "/" && url.query().is_none() => {
                TrustedOrigin::new(&url).map(|origin| (url, origin))
            }
            Ok(_) | Err(_) => Err("must be an origin such as \"https://host:8443\", without a path".to_owned()),
        };
        match checked {
            Ok(origin) => origins.push(origin),
            Err(words) => {
                let key = format!("uplink.trustedOrigins[{index}]");
                document.complain(&key, format!("`{key}` {words}"), None);
            }
        }
    }
    origins
}

fn fingerprints(document: &mut Document<'_>, file: Option<&OneOrMany>) -> Vec<Fingerprint> {
    let texts: Vec<(String, &String)> = match file {
        None => Vec::new(),
        Some(OneOrMany::One(text)) => vec![("uplink.fingerprint".to_owned(), text)],
        Some(OneOrMany::Many(texts)) => {
            texts.iter().enumerate().map(|(at, text)| (format!("uplink.fingerprint[{at}]"), text)).collect()
        }
    };
    let mut good = Vec::new();
    for (key, text) in texts {
        match Fingerprint::parse(text) {
            Ok(fingerprint) => good.push(fingerprint),
            Err(words) => document.complain(&key, format!("`{key}` {words}"), None),
        }
    }
    good
}

fn ice_servers(document: &mut Document<'_>, file: &[file::IceServer]) -> Vec<IceServer> {
    for (index, server) in file.iter().enumerate() {
        let key = format!("uplink.iceServers[{index}]");
        for (index, url) in server.urls.iter().enumerate() {
            if let Err(words) = check_ice_url(url) {
                let key = format!("{key}.urls[{index}]");
                document.complain(&key, format!("`{key}` {words}"), None);
            }
        }
        // W3C WebRTC, section 4.2.4: a TURN server without both is an InvalidAccessError.
        let named = server.username.is_some() && server.credential.is_some();
        if server.urls.iter().any(|url| is_turn(url)) && !named && document.is_clean(&key) {
            document.complain(&key, format!("`{key}` is a TURN server: it needs `username` and `credential`"), None);
        }
    }
    let checked = |server: &file::IceServer| IceServer {
        urls: server.urls.clone(),
        username: server.username.clone(),
        credential: server.credential.clone(),
    };
    file.iter().map(checked).collect()
}

fn is_turn(url: &str) -> bool {
    url.starts_with("turn:") || url.starts_with("turns:")
}

/// RFC 7064 and RFC 7065: `scheme:host[:port]`, for TURN also `?transport=udp|tcp`. Not `stuns:`: webrtcbin speaks no STUN
/// over TLS, and would do without the server.
fn check_ice_url(url: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    let turn = match scheme {
        "stun" => false,
        "turn" | "turns" => true,
        _ => return Err("must begin with `stun:`, `turn:` or `turns:`".into()),
    };
    if rest.starts_with("//") {
        return Err(format!("must not have `//` after `{scheme}:`"));
    }
    if rest.contains('@') {
        return Err("must not hold a user name: use `username` and `credential`".into());
    }
    let (address, query) = match rest.split_once('?') {
        Some((address, query)) => (address, Some(query)),
        None => (rest, None),
    };
    match query {
        None => {}
        Some("transport=udp" | "transport=tcp") if turn => {}
        Some(_) if turn => return Err("may end with `?transport=udp` or `?transport=tcp` only".into()),
        Some(_) => return Err("must not have a `?`: STUN URLs take none".into()),
    }
    check_address(address).ok_or_else(|| format!("must be `{scheme}:host` or `{scheme}:host:port`"))
}

/// `host`, `host:port`, `1.2.3.4`, `[::1]:port`
fn check_address(address: &str) -> Option<()> {
    let bracket = address.rfind(']').unwrap_or(0);
    let (host, port) = match address[bracket..].rfind(':') {
        Some(colon) => (&address[..bracket + colon], Some(&address[bracket + colon + 1..])),
        None => (address, None),
    };
    let port_is_good = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    (port_is_good && Host::parse(host).is_ok()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ice_urls_follow_their_rfcs() {
        for url in ["stun:h", "stun:h.example:3478", "turn:h?transport=tcp", "turns:[::1]:5349?transport=udp"] {
            assert_eq!(check_ice_url(url), Ok(()), "{url}");
        }
        for url in [
            "",
            "h",
            "stun:",
            "stun://h",
            "turn:u@h",
            "stun:h?transport=udp",
            "turn:h?x",
            "stuns:1.2.3.4",
            "turn:h:0",
            "turn:h:p",
        ] {
            assert!(check_ice_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn loopback_is_recognised_in_every_spelling() {
        for url in [
            "http://localhost",
            "http://a.localhost:1",
            "http://127.1.2.3",
            "http://[::1]",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
        for url in ["http://example.com", "http://10.0.0.1", "http://localhost.example", "http://[fe80::1]"] {
            assert!(!is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
    }

    #[test]
    fn whip_schemes_are_other_names_for_http() {
        assert_eq!(parse_url("whip://h/a", HTTP, "").unwrap().as_str(), "http://h/a");
        assert_eq!(parse_url("WHIPS://h/a", HTTP, "").unwrap().as_str(), "https://h/a");
        assert_eq!(parse_url("https://h/a", WEBSOCKET_OF_HTTP, "").unwrap().as_str(), "wss://h/a");
    }

    proptest! {
        #[test]
        fn no_url_panics(text: String, tail in "(http|whips|turn|stun)(://|:)[\\[\\]:a-z0-9@?#%.]{0,20}") {
            for text in [&text, &tail] {
                let _ = (parse_url(text, HTTP, ""), parse_url(text, WEBSOCKET, ""), check_ice_url(text));
            }
        }
    }
}
