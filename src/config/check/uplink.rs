//! Pure: `[uplink]`: where the media and the token go. Nothing here puts a URL in a message: it may hold a password.

use url::{Host, Url};

use crate::config::document::Document;
use crate::config::file;
use crate::config::units::{IceServer, Secret};
use crate::config::words::quoted;
use crate::config::{Protocol, TokenSource, Uplink};

pub(super) fn check(document: &mut Document<'_>, file: &file::Uplink) -> Option<Uplink> {
    let url = match parse_url(&file.url) {
        Ok(url) => Some(url),
        Err(words) => {
            document.complain("uplink.url", format!("`uplink.url` {words}"), None);
            None
        }
    };
    let token = token(document, file);
    let trusted_origins = trusted_origins(document, &file.trusted_origins);
    if file.token.is_some() || file.token_file.is_some() {
        keep_off_the_clear(document, url.as_ref(), &trusted_origins);
    }
    let ice_servers = ice_servers(document, &file.ice_servers);
    let relay_only = file.ice_transport == file::IceTransport::Relay;
    let has_turn = ice_servers.iter().flat_map(|server| &server.urls).any(|url| is_turn(url));
    if relay_only && !has_turn && document.is_clean("uplink.iceServers") {
        let words = "`uplink.iceTransport` is \"relay\", but `uplink.iceServers` has no TURN server";
        let help = "iceServers = [{ urls = [\"turn:host\"], username = \"...\", credential = \"...\" }]";
        document.complain("uplink.iceTransport", words, Some(help));
    }
    match file.protocol {
        Protocol::Whip | Protocol::Janus | Protocol::Roamcast => Some(Uplink {
            protocol: file.protocol,
            url: url?,
            janus: None,
            token,
            ca_file: file.ca_file.as_ref().map(Into::into),
            ice_servers,
            relay_only,
            dtls_certificate: file.dtls_certificate,
            trusted_origins: trusted_origins.iter().map(Url::origin).collect(),
        }),
    }
}

/// http and https, and `whip` and `whips` as other names for them.
fn parse_url(text: &str) -> Result<Url, String> {
    const WANTED: &str = "must be a URL such as \"https://host/whip/name\"";
    let scheme = text.split_once("://").ok_or(WANTED)?.0.to_ascii_lowercase();
    let rest = &text[scheme.len()..];
    let url = match scheme.as_str() {
        "http" | "whip" => Url::parse(&format!("http{rest}")),
        "https" | "whips" => Url::parse(&format!("https{rest}")),
        _ => return Err(format!("must begin with https, http, whips or whip, not {}", quoted(&scheme))),
    };
    let url = url.map_err(|error| format!("{WANTED}: {error}"))?;
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

fn token(document: &mut Document<'_>, file: &file::Uplink) -> Option<TokenSource> {
    match (&file.token, &file.token_file) {
        (Some(_), Some(_)) => {
            document.complain("uplink.tokenFile", "`uplink.token` and `uplink.tokenFile` exclude each other", None);
            None
        }
        (Some(token), None) => {
            // RFC 6750, section 2.1; anything else cannot stand in an HTTP header or would end it.
            if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
                let words = "`uplink.token` must be visible ASCII characters without spaces";
                document.complain("uplink.token", words, Some("write the token alone, without `Bearer`"));
            }
            Some(TokenSource::Value(Secret::clone(token)))
        }
        (None, Some(path)) => Some(TokenSource::File(path.into())),
        (None, None) => None,
    }
}

/// A token over http is for everyone on the way to read.
fn keep_off_the_clear(document: &mut Document<'_>, url: Option<&Url>, trusted: &[Url]) {
    let in_the_clear = |url: &Url| url.scheme() == "http" && !is_loopback(url);
    if url.is_some_and(in_the_clear) {
        document.complain("uplink.url", "`uplink.url` would send the token in the clear", Some("use https"));
    }
    // After a complaint about an origin the indices do not fit any more; the next run tells.
    if document.is_clean("uplink.trustedOrigins") {
        for (index, _) in trusted.iter().enumerate().filter(|(_, url)| in_the_clear(url)) {
            let key = format!("uplink.trustedOrigins[{index}]");
            document.complain(&key, format!("`{key}` would send the token in the clear"), Some("use https"));
        }
    }
}

fn trusted_origins(document: &mut Document<'_>, file: &[String]) -> Vec<Url> {
    let mut origins = Vec::new();
    for (index, text) in file.iter().enumerate() {
        match parse_url(text) {
            Ok(url) if url.path() == "/" && url.query().is_none() => origins.push(url),
            Ok(_) | Err(_) => {
                let key = format!("uplink.trustedOrigins[{index}]");
                let words = format!("`{key}` must be an origin such as \"https://host:8443\", without a path");
                document.complain(&key, words, None);
            }
        }
    }
    origins
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

/// RFC 7064 and RFC 7065: `scheme:host[:port]`, for TURN also `?transport=udp|tcp`.
fn check_ice_url(url: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    let turn = match scheme {
        "stun" | "stuns" => false,
        "turn" | "turns" => true,
        _ => return Err("must begin with `stun:`, `stuns:`, `turn:` or `turns:`".into()),
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
        for url in
            ["stun:h", "stun:h.example:3478", "stuns:1.2.3.4", "turn:h?transport=tcp", "turns:[::1]:5349?transport=udp"]
        {
            assert_eq!(check_ice_url(url), Ok(()), "{url}");
        }
        for url in
            ["", "h", "stun:", "stun://h", "turn:u@h", "stun:h?transport=udp", "turn:h?x", "turn:h:0", "turn:h:p"]
        {
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
        assert_eq!(parse_url("whip://h/a").unwrap().as_str(), "http://h/a");
        assert_eq!(parse_url("WHIPS://h/a").unwrap().as_str(), "https://h/a");
    }

    proptest! {
        #[test]
        fn no_url_panics(text: String, tail in "(http|whips|turn|stun)(://|:)[\\[\\]:a-z0-9@?#%.]{0,20}") {
            let _ = (parse_url(&text), check_ice_url(&text), parse_url(&tail), check_ice_url(&tail));
        }
    }
}
