//! What must never be shown: every secret that this process knows, masked in whatever text leaves it.
//!
//! Servers, proxies and drivers quote what they were sent: an error of Janus may hold the API secret, the reason of a
//! WebSocket close the token. So the masking stands where all words pass: the way into the brain, and the log.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

/// Shorter ones would blank ordinary words; a PIN has four digits.
const CHARS_MIN: usize = 4;
/// Ones shorter than this are masked only where they stand alone: `1234` not within `12345`.
const CHARS_UNMISTAKABLE: usize = 8;
/// Tokens are renewed, for days on end: the oldest are forgotten.
const KNOWN_MAX: usize = 256;
/// What stands in place of a secret.
const MASK: &str = "***";

static KNOWN: RwLock<VecDeque<Arc<str>>> = RwLock::new(VecDeque::new());

/// From now on this text is masked, as it is and as it stands in JSON.
pub fn remember(secret: &str) {
    let in_json = serde_json::to_string(secret).unwrap_or_default();
    let in_json = in_json.get(1..in_json.len().saturating_sub(1)).unwrap_or_default();
    for form in [secret, in_json] {
        let known = |forms: &VecDeque<Arc<str>>| forms.iter().any(|other| &**other == form);
        if form.len() < CHARS_MIN || known(&KNOWN.read().unwrap_or_else(PoisonError::into_inner)) {
            continue;
        }
        let mut forms = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        if forms.len() == KNOWN_MAX {
            forms.pop_front();
        }
        forms.push_back(form.into());
    }
}

/// The text without the secrets of this process, and without characters that turn the direction of writing: with those a
/// line reads as what it is not (CVE-2021-42574).
#[must_use]
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut clean = Cow::Borrowed(text);
    if clean.contains(turns_direction) {
        clean = Cow::Owned(clean.replace(turns_direction, ""));
    }
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let mut found: Vec<_> = known.iter().filter(|secret| clean.contains(&***secret)).collect();
    // One secret may be part of another: the longest first.
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in found {
        clean = Cow::Owned(without(&clean, secret));
    }
    clean
}

fn without(text: &str, secret: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(secret) {
        let (before, after) = (&rest[..at], &rest[at + secret.len()..]);
        let is_within_word = before.ends_with(char::is_alphanumeric) || after.starts_with(char::is_alphanumeric);
        clean.push_str(before);
        clean.push_str(if secret.len() < CHARS_UNMISTAKABLE && is_within_word { secret } else { MASK });
        rest = after;
    }
    clean + rest
}

/// Marks, embeddings, overrides and isolates of the Unicode bidirectional algorithm (UAX #9).
const fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_server_quotes_of_our_secrets_is_masked() {
        for secret in ["apisec-S1-9931", "7742", "quo\"ted\\secret", "7742-and-more"] {
            remember(secret);
        }
        for (text, shown) in [
            ("Unauthorized: apisec-S1-9931 7742", "Unauthorized: *** ***"),
            ("xapisec-S1-9931x", "x***x"),
            ("port 17742, pin 7742", "port 17742, pin ***"),
            ("pin 7742-and-more", "pin ***"),
            (r#"{"words":"it says quo\"ted\\secret"}"#, r#"{"words":"it says ***"}"#),
            ("nothing to hide", "nothing to hide"),
            ("evil\u{202e}txt.exe\u{2066}", "eviltxt.exe"),
        ] {
            assert_eq!(masked(text), shown);
        }
    }

    #[test]
    fn old_tokens_are_forgotten() {
        remember("the-first-of-many-tokens");
        (0..2 * KNOWN_MAX).for_each(|n| remember(&format!("one-of-many-tokens-{n}")));
        assert!(KNOWN.read().unwrap().len() <= KNOWN_MAX);
        assert_eq!(masked(&format!("one-of-many-tokens-{}", 2 * KNOWN_MAX - 1)), "***");
    }

    proptest! {
        #[test]
        fn a_long_secret_is_in_no_text(before in ".{0,40}", secret in "[!-~]{8,40}", after in ".{0,40}") {
            remember(&secret);
            let clean = masked(&format!("{before}{secret}{after}")).into_owned();
            prop_assert!(!clean.contains(&secret), "{}", clean);
        }

        #[test]
        fn json_stays_json(before in ".{0,40}", secret in "[!#-~]{8,40}", after in ".{0,40}") {
            prop_assume!(!secret.contains('\\'));
            remember(&secret);
            let text = format!("{before}{secret}{after}");
            let json = serde_json::to_string(&text).unwrap();
            let read: String = serde_json::from_str(&masked(&json)).unwrap();
            prop_assert!(!read.contains(&secret), "{}", read);
        }
    }
}
