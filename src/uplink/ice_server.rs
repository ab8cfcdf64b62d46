//! Pure: RTCIceServer (RFC 7064, RFC 7065 URIs) -> the URLs that webrtcbin takes.

use std::fmt;

use crate::config::units::{IceServer, Secret};

/// A server in webrtcbin's own form.
#[derive(Clone, PartialEq, Eq)]
pub enum ServerUrl {
    /// For property `stun-server` (webrtcbin knows one only).
    Stun(String),
    /// For action `add-turn-server`. Holds the password: never log it.
    Turn(String),
}

impl fmt::Debug for ServerUrl {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stun(url) => f.debug_tuple("Stun").field(url).finish(),
            Self::Turn(url) => {
                let host = url.rsplit_once('@').map_or("", |(_, host)| host);
                f.debug_tuple("Turn").field(&format_args!("***@{host}")).finish()
            }
        }
    }
}

/// `stun:host` -> `stun://host:3478`; `turn:host?transport=tcp` -> `turn://user:password@host:3478?transport=tcp`.
/// What is neither is left out; config and messenger have checked the form before.
pub fn for_webrtcbin(server: &IceServer) -> Vec<ServerUrl> {
    server.urls.iter().filter_map(|url| one(url, server)).collect()
}

fn one(url: &str, server: &IceServer) -> Option<ServerUrl> {
    let (scheme, rest) = url.split_once(':')?;
    let (address, query) = rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query)));
    let scheme = scheme.to_ascii_lowercase();
    let default_port = if scheme.ends_with('s') { 5349 } else { 3478 };
    let address = if has_port(address) { address.to_owned() } else { format!("{address}:{default_port}") };
    match scheme.as_str() {
        "stun" => Some(ServerUrl::Stun(format!("stun://{address}"))),
        "turn" | "turns" => {
            let user = escape(server.username.as_deref().unwrap_or_default());
            let password = escape(server.credential.as_ref().map_or("", Secret::expose));
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            Some(ServerUrl::Turn(format!("{scheme}://{user}:{password}@{address}{query}")))
        }
        _ => None,
    }
}

fn has_port(address: &str) -> bool {
    let after_v6 = address.rsplit_once(']').map_or(address, |(_, rest)| rest);
    after_v6.contains(':')
}

/// Percent-encodes all but the unreserved characters (RFC 3986 section 2.3): webrtcbin splits at the first `:` and `@`.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_url_reaches_webrtcbin() {
        let table = [
            ("stun:stun.example.org", ServerUrl::Stun("stun://stun.example.org:3478".into())),
            ("stun:[2001:db8::1]", ServerUrl::Stun("stun://[2001:db8::1]:3478".into())),
            (
                "turn:t.example.org:99?transport=tcp",
                ServerUrl::Turn("turn://17:a:p%40ss@t.example.org:99?transport=tcp".replace("17:a", "17%3Aa")),
            ),
            ("turns:t.example.org", ServerUrl::Turn("turns://17%3Aa:p%40ss@t.example.org:5349".into())),
        ];
        for (url, wanted) in table {
            let server = IceServer {
                urls: vec![url.into()],
                username: Some("17:a".into()),
                credential: Some(Secret::new("p@ss".into())),
            };
            let urls = for_webrtcbin(&server);
            assert!(!format!("{urls:?}").contains("p%40ss"), "{urls:?}");
            assert_eq!(urls, [wanted], "{url}");
        }
    }
}
