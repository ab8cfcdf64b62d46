//! Pure: what every HTTP server says alike, whatever the protocol: Location, Retry-After, the kind of a body, an excerpt of it.

use std::time::{Duration, SystemTime};

use url::Url;

use super::super::failure::Body;
use super::super::origin::{URL_LEN_MAX, without_userinfo};

/// A server that says "0" must not turn us into a busy loop.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// A server that says "next year" must not end the broadcast.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// What a server says in an error body: this much fits into one sentence.
const EXCERPT_CHARS_MAX: usize = 160;

/// Some editors put it before the text of a page (UTF-8).
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
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
    fn an_excerpt_is_one_short_line_of_text_without_the_token() {
        let said = |kind, body: &str| excerpt(kind, body.as_bytes(), &["hush", "x", ""]);
        assert_eq!(said("text/plain; charset=utf-8", "a\r\n b\x1b hush").as_deref(), Some("a b ***"));
        assert_eq!(said("application/problem+json", "{}").as_deref(), Some("{}"));
        assert_eq!(said("text/html", "<h1>no</h1>"), None);
        assert_eq!(said("text/plain", " \n"), None);
        assert_eq!(said("text/plain", &"é".repeat(1000)).unwrap().chars().count(), EXCERPT_CHARS_MAX);
    }

    proptest! {
        #[test]
        fn no_header_makes_a_parser_panic(text in any::<String>()) {
            let _any = location(&url("https://h.example/whip"), &text);
            let wait = retry_after(&text, SystemTime::UNIX_EPOCH);
            prop_assert!(wait.is_none_or(|wait| (RETRY_AFTER_MIN..=RETRY_AFTER_MAX).contains(&wait)));
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
