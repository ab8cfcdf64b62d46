//! Pure: addresses of cameras and servers as people may see them: where, and never with what password.
//!
//! Cameras take their password in the user info, in the query (`?user=admin&password=...`) and in the path
//! (`/user=admin_password=..._channel=1`); some even accept it unescaped. So of an address on a network no more is shown
//! than scheme, host and port.

/// The address for people. Paths and `file:` URIs, which hold no password, are shown whole.
#[must_use]
pub fn shown_address(address: &str) -> String {
    match split(address) {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("file") => address.to_owned(),
        Some((scheme, rest)) => format!("{scheme}://{}", host_of(rest)),
        None => address.to_owned(),
    }
}

/// A sentence of others (GStreamer, a driver), with each address in it as [`shown_address`] shows it.
#[must_use]
pub fn with_shown_addresses(words: &str) -> String {
    let shown = |word: &str| match word.find("://") {
        Some(at) => {
            let from = word[..at]
                .rfind(|c: char| !is_scheme(c))
                .map_or(0, |before| before + word[before..].chars().next().map_or(1, char::len_utf8));
            let to = word.trim_end_matches(['"', '\'', '`', '.', ',', ')', ';', ':']).len().max(from);
            format!("{}{}{}", &word[..from], shown_address(&word[from..to]), &word[to..])
        }
        None => word.to_owned(),
    };
    words.split(' ').map(shown).collect::<Vec<_>>().join(" ")
}

/// All of an address on a network that may hold a password, for the mask: others quote parts of it.
#[must_use]
pub fn secrets_of(address: &str) -> Vec<&str> {
    const NAMES: [&str; 9] = ["password=", "passwd=", "pass=", "pwd=", "token=", "secret=", "auth=", "key=", "pw="];
    let Some((_, rest)) = split(address).filter(|(scheme, _)| !scheme.eq_ignore_ascii_case("file")) else {
        return Vec::new();
    };
    let mut secrets = Vec::new();
    if let Some((user_info, _)) = rest.rsplit_once('@') {
        secrets.push(user_info);
        secrets.extend(user_info.split_once(':').map(|(_, password)| password));
    }
    let path = rest.find(['/', '?', '#']).map_or("", |at| &rest[at..]);
    if path.contains('=') {
        secrets.push(path);
    }
    let lower = rest.to_ascii_lowercase();
    for name in NAMES {
        for (at, _) in lower.match_indices(name) {
            let value = &rest[at + name.len()..];
            secrets.push(value.split(['&', '/', '?', '#', ';']).next().unwrap_or(value));
            secrets.push(value.split(['&', '/', '?', '#', ';', '_']).next().unwrap_or(value));
        }
    }
    secrets.retain(|secret| !secret.is_empty());
    secrets
}

fn split(address: &str) -> Option<(&str, &str)> {
    address.split_once("://").filter(|(scheme, _)| !scheme.is_empty() && scheme.chars().all(is_scheme))
}

const fn is_scheme(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')
}

/// Host and port, and three dots for all the rest.
fn host_of(rest: &str) -> String {
    const DOTS: &str = "...";
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // `admin:pass/word@camera`: what looks like host and port is user and password.
    if path.contains('@') {
        return DOTS.to_owned();
    }
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let port =
        host.rsplit_once(':').filter(|(name, _)| !name.contains(':') || name.ends_with(']')).map(|(_, port)| port);
    if port.is_some_and(|port| !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return DOTS.to_owned();
    }
    if path.len() > 1 { format!("{host}/{DOTS}") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_part_that_may_hold_a_password_is_shown() {
        for (address, shown) in [
            ("rtsp://192.0.2.7/live", "rtsp://192.0.2.7/..."),
            ("rtsp://192.0.2.7:554/", "rtsp://192.0.2.7:554"),
            ("rtsp://admin:hush1@192.0.2.7:554/live", "rtsp://192.0.2.7:554/..."),
            ("rtsp://admin:p@ss@192.0.2.7/live", "rtsp://192.0.2.7/..."),
            ("rtsp://admin:hush1/x@192.0.2.7/live", "rtsp://..."),
            ("rtsp://admin:1234/x@192.0.2.7/live", "rtsp://..."),
            ("rtsp://admin:hush1?x@192.0.2.7/live", "rtsp://..."),
            ("rtsp://admin:hush1#192.0.2.7", "rtsp://..."),
            ("rtsp://192.0.2.7/live?user=admin&password=hush1", "rtsp://192.0.2.7/..."),
            ("rtsp://192.0.2.7/user=admin_password=hush1_channel=1.sdp", "rtsp://192.0.2.7/..."),
            ("rtsp://[2001:db8::7]:554/hush1", "rtsp://[2001:db8::7]:554/..."),
            ("srt://studio:9000?passphrase=hush1", "srt://studio:9000/..."),
            ("/srv/media/film@home.mkv", "/srv/media/film@home.mkv"),
            ("file:///srv/a@b.mkv", "file:///srv/a@b.mkv"),
            ("/dev/video0", "/dev/video0"),
        ] {
            assert_eq!(shown_address(address), shown);
        }
    }

    #[test]
    fn addresses_in_sentences_of_others_are_shown_the_same_way() {
        let words =
            "Could not connect to rtsp://admin:p@ss@192.0.2.7/live (via http://u:p@proxy), \"rtsp://cam/hush1\".";
        let shown = "Could not connect to rtsp://192.0.2.7/... (via http://proxy), \"rtsp://cam/...\".";
        assert_eq!(with_shown_addresses(words), shown);
        assert_eq!(with_shown_addresses("file:///srv/a@b.mkv is gone"), "file:///srv/a@b.mkv is gone");
        assert_eq!(with_shown_addresses("no address: at all"), "no address: at all");
    }

    #[test]
    fn passwords_are_found_wherever_cameras_take_them() {
        for (address, secret) in [
            ("rtsp://admin:hush1@cam/live", "hush1"),
            ("rtsp://admin:hush1/x@cam/live", "hush1/x"),
            ("rtsp://cam/live?user=admin&password=hush1&channel=2", "hush1"),
            ("rtsp://cam/user=admin_password=hush1_channel=1_stream=0.sdp", "hush1"),
            ("rtsp://cam/user=admin_PASSWORD=hush_1/ch1", "hush_1"),
            ("http://cam/snap?pwd=hush1", "hush1"),
        ] {
            assert!(secrets_of(address).contains(&secret), "{address}: {:?}", secrets_of(address));
        }
        assert!(secrets_of("/srv/password=hush1.mkv").is_empty());
        assert!(secrets_of("rtsp://cam/live").is_empty());
    }

    proptest! {
        #[test]
        fn whatever_the_address_no_password_is_shown(
            user in "[a-z]{0,5}", password in "[A-Z!$&'()*+,;=/?#%.-]{5,12}", path in "[a-z/]{0,8}",
        ) {
            for address in [
                format!("rtsp://{user}:{password}@cam/{path}"),
                format!("rtsp://cam/{path}{password}"),
                format!("rtsp://cam?{user}={password}"),
            ] {
                prop_assert!(!shown_address(&address).contains(&password), "{}", address);
                prop_assert!(!with_shown_addresses(&format!("no route to {address}")).contains(&password), "{}", address);
            }
        }

        #[test]
        fn any_text_is_taken(text in ".{0,80}") {
            let _ = (with_shown_addresses(&text), shown_address(&text), secrets_of(&text));
        }
    }
}
