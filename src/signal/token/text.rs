//! Pure: what providers of tokens say - is it a bearer token, when does it expire, what of it may be shown?

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::config::units::Secret;
use crate::signal::failure::no_token;
use crate::supervisor::event::Failure;

/// HTTP servers refuse headers longer than this anyway.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// What a program says about its failure: this much fits into one sentence.
const EXCERPT_CHARS_MAX: usize = 160;
/// Unbroken runs of letters and digits from this length on are taken for keys: words of people are shorter.
const KEY_CHARS_MIN: usize = 20;
/// 100 years: numbers beyond are no time at all, and must not overflow.
const LIFETIME_MAX: f64 = 3.2e9;

/// When a token stops being valid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Expiry {
    /// Nobody said.
    Unknown,
    /// At this time of the wall clock.
    At(SystemTime),
    /// So long after it was given.
    After(Duration),
}

/// A token as its provider gave it.
#[derive(Debug, PartialEq)]
pub struct Given {
    /// Fit for a header.
    pub token: Secret,
    /// As far as the token, or who gave it, says.
    pub expiry: Expiry,
}

/// A text that holds the token and nothing else; `name` says in the failure where it comes from.
///
/// # Errors
/// `TokenProviderFailed`, to be tried again: a file may be written just now.
pub fn plain(text: &str, name: &str) -> Result<Given, Failure> {
    let token = text.trim();
    if token.is_empty() {
        return Err(no_token(format!("{name} is empty; a bearer token was expected")));
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(no_token(format!("{name} is longer than {TOKEN_BYTES_MAX} bytes; that is no bearer token")));
    }
    if token.lines().count() > 1 {
        return Err(no_token(format!(
            "{name} has {} lines; it must hold the bearer token alone, on one",
            token.lines().count()
        )));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(no_token(format!("{name} holds blanks or characters that no bearer token has (RFC 6750)")));
    }
    let expiry = jwt_exp(token).map_or(Expiry::Unknown, Expiry::At);
    Ok(Given { token: Secret::new(token.to_owned()), expiry })
}

/// What a token URL answers: the token alone, or `{"token": ..., "expiresIn": seconds | "expiresAt": ...}`.
///
/// # Errors
/// As [`plain`].
pub fn answer(body: &[u8], name: &str) -> Result<Given, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        #[serde(alias = "access_token")] // RFC 6749, section 5.1
        token: Secret,
        #[serde(alias = "expires_in")]
        expires_in: Option<f64>,
        expires_at: Option<Time>,
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return Err(no_token(format!("{name} is no text; a bearer token was expected")));
    };
    if !text.trim_start().starts_with('{') {
        return plain(text, name);
    }
    // The error of the parser could quote the token.
    let answer: Answer = serde_json::from_str(text).map_err(|_| {
        no_token(format!("{name} is JSON without a `token` (and `expiresIn` or `expiresAt`) we understand"))
    })?;
    let mut given = plain(answer.token.expose(), name)?;
    if let Some(expiry) = answer.expires_in.and_then(seconds).map(Expiry::After) {
        given.expiry = expiry;
    } else if let Some(at) = answer.expires_at.and_then(Time::read) {
        given.expiry = Expiry::At(at);
    }
    Ok(given)
}

/// A point in time as APIs write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Time {
    /// Seconds since 1970-01-01T00:00Z.
    Unix(f64),
    /// RFC 3339.
    Text(String),
}

impl Time {
    fn read(self) -> Option<SystemTime> {
        match self {
            Self::Unix(time) => seconds(time).and_then(|time| SystemTime::UNIX_EPOCH.checked_add(time)),
            Self::Text(text) => humantime::parse_rfc3339(&text).ok(),
        }
    }
}

fn seconds(number: f64) -> Option<Duration> {
    (0.0..=LIFETIME_MAX).contains(&number).then(|| Duration::from_secs_f64(number))
}

/// `exp` of a JSON Web Token (RFC 7519, section 4.1.4), read without a look at the signature: it only says when to ask for
/// the next one.
fn jwt_exp(token: &str) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let mut parts = token.split('.');
    let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Time::Unix(claims.exp).read()
}

/// What a program or server said, in one line that may be shown: `secrets` and whatever looks like one are masked.
pub fn excerpt(said: &[u8], secrets: &[&str]) -> Option<String> {
    let mut text = String::from_utf8_lossy(said).into_owned();
    // One or two characters are no secret, and masking them would leave nothing to read.
    for secret in secrets.iter().filter(|secret| secret.len() > 2) {
        text = text.replace(secret, "***");
    }
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let after_name = |at: usize| at > 0 && words.get(at - 1).is_some_and(|name| names_a_secret(name));
    let masked = words.iter().enumerate().map(|(at, word)| if after_name(at) { "***".to_owned() } else { mask(word) });
    let line: String = masked.collect::<Vec<_>>().join(" ").chars().take(EXCERPT_CHARS_MAX).collect();
    (!line.is_empty()).then_some(line)
}

/// `Bearer`, `token:`, `"password":`, `--secret` - the word after it is not for eyes.
fn names_a_secret(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let is_label = word.ends_with([':', '=']) || word.starts_with("--");
    word.ends_with("bearer")
        || (is_label && ["token", "secret", "password", "key"].iter().any(|name| word.contains(name)))
}

/// A word with the parts masked that look like keys.
fn mask(word: &str) -> String {
    if let Some((name, value)) = word.split_once(['=', ':'])
        && names_a_secret(&format!("{name}="))
        && !value.is_empty()
    {
        return format!("{name}=***");
    }
    let is_key = |part: &str| {
        let mixed = part.bytes().any(|b| b.is_ascii_digit()) && part.bytes().any(|b| b.is_ascii_alphabetic());
        part.starts_with("eyJ") || (mixed && part.len() >= KEY_CHARS_MIN)
    };
    let parts: Vec<&str> = word.split('/').map(|part| if is_key(part) { "***" } else { part }).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::ErrorCode;
    use crate::supervisor::event::Retry;

    fn at(seconds: u64) -> Expiry {
        Expiry::At(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn jwt(claims: &str) -> String {
        format!("eyJhbGciOiJub25lIn0.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn an_unusable_text_is_a_provider_failure_that_tells_no_secret() {
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        for text in ["", " \r\n", "hush hush", "hush\u{1}", "hüsh", &long] {
            let failure = plain(text, "the thing").unwrap_err();
            assert_eq!((failure.code, failure.retry), (ErrorCode::TokenProviderFailed, Retry::Backoff));
            assert!(failure.words.starts_with("the thing ") && !failure.words.contains("hush"), "{failure}");
        }
        assert_eq!(plain("  t \r\n", "x").unwrap().token.expose(), "t");
    }

    #[test]
    fn the_expiry_of_a_jwt_is_read_and_nothing_else_counts_as_one() {
        assert_eq!(plain(&jwt(r#"{"sub":"me","exp":1893456000}"#), "x").unwrap().expiry, at(1_893_456_000));
        assert_eq!(plain(&jwt(r#"{"exp":12.5}"#), "x").unwrap().expiry, {
            Expiry::At(SystemTime::UNIX_EPOCH + Duration::from_millis(12_500))
        });
        for claims in ["{}", "[]", "", r#"{"exp":"soon"}"#, r#"{"exp":-1}"#, r#"{"exp":1e300}"#] {
            assert_eq!(plain(&jwt(claims), "x").unwrap().expiry, Expiry::Unknown, "{claims}");
        }
        for token in ["opaque", "a.b", "a.b.c", "..", "a.%.c"] {
            assert_eq!(plain(token, "x").unwrap().expiry, Expiry::Unknown, "{token}");
        }
    }

    #[test]
    fn the_answers_of_token_urls() {
        for (body, token, expiry) in [
            ("plain\n", "plain", Expiry::Unknown),
            (r#"{"token":"t"}"#, "t", Expiry::Unknown),
            (r#" {"token":"t","expiresIn":90}"#, "t", Expiry::After(Duration::from_secs(90))),
            (
                r#"{"access_token":"t","token_type":"Bearer","expires_in":90}"#,
                "t",
                Expiry::After(Duration::from_secs(90)),
            ),
            (r#"{"token":"t","expiresAt":1893456000}"#, "t", at(1_893_456_000)),
            (r#"{"token":"t","expiresAt":"2030-01-01T00:00:00Z"}"#, "t", at(1_893_456_000)),
            (r#"{"token":"t","expiresIn":-5}"#, "t", Expiry::Unknown),
            (r#"{"token":"t","expiresIn":null,"expiresAt":null}"#, "t", Expiry::Unknown),
        ] {
            let given = answer(body.as_bytes(), "the answer").unwrap();
            assert_eq!((given.token.expose(), given.expiry), (token, expiry), "{body}");
        }
        for body in
            ["", "{", r#"{"tok":"hush"}"#, r#"{"token":"hush hush"}"#, r#"{"token":["hush"]}"#, "<html>hush</html> x"]
        {
            let failure = answer(body.as_bytes(), "the answer").unwrap_err();
            assert!(!failure.words.contains("hush"), "{failure}");
        }
        answer(b"\xff\xfe", "the answer").unwrap_err();
    }

    #[test]
    fn what_a_program_says_is_shown_without_what_looks_like_a_secret() {
        for (said, shown) in [
            ("cannot reach\nvault:  timeout\n", "cannot reach vault: timeout"),
            ("old s3cret refused", "old *** refused"),
            ("sent Bearer abc and -H authorization:", "sent Bearer *** and -H authorization:"),
            ("token=abc PASSWORD:abc --api-key abc x", "token=*** PASSWORD=*** --api-key *** x"),
            ("got eyJhbGciOiJub25lIn0.e30.c2ln", "got ***"),
            ("key AKIAIOSFODNN7EXAMPLE9 rejected", "key *** rejected"),
            (
                "/usr/lib/x86_64-linux-gnu/libfoo.so.1: no such file",
                "/usr/lib/x86_64-linux-gnu/libfoo.so.1: no such file",
            ),
        ] {
            assert_eq!(excerpt(said.as_bytes(), &["s3cret"]).as_deref(), Some(shown));
        }
        assert_eq!(excerpt(b" \n\x01", &[]), None);
        assert_eq!(excerpt("ä".repeat(1000).as_bytes(), &[]).unwrap().chars().count(), EXCERPT_CHARS_MAX);
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _any = answer(&body, "x");
            let _any = excerpt(&body, &["abc"]);
        }
    }
}
