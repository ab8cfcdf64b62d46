//! Pure: the SHA-256 fingerprint of a certificate (`uplink.fingerprint`).

use std::fmt;

/// SHA-256 over the DER of a certificate. Prints as `openssl x509 -fingerprint -sha256` does: pairs of capital hex digits
/// with colons between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of this digest.
    #[must_use]
    pub const fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// Reads 64 hex digits, plain or as 32 pairs with colons between; white space around them does not count.
    ///
    /// # Errors
    /// What is wrong with `text`, as the end of a sentence that begins with the name of the key.
    pub fn parse(text: &str) -> Result<Self, String> {
        const HOW: &str = "`openssl x509 -in cert.pem -noout -fingerprint -sha256` prints it";
        let text = text.trim();
        let pairs: Vec<&[u8]> = match text.contains(':') {
            true => text.split(':').map(str::as_bytes).collect(),
            false => text.as_bytes().chunks(2).collect(),
        };
        let bytes: Option<Vec<u8>> = pairs.into_iter().map(byte).collect();
        let Some(bytes) = bytes else {
            return Err(format!("must be 64 hex digits, with or without colons between the pairs: {HOW}"));
        };
        bytes.as_slice().try_into().map(Self).map_err(|_| match bytes.len() {
            20 => format!("is a SHA-1 fingerprint (40 hex digits); that of SHA-256 has 64: {HOW}"),
            count => format!("must have 64 hex digits (SHA-256), not {}: {HOW}", count * 2),
        })
    }
}

/// Two hex digits.
fn byte(pair: &[u8]) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match pair {
        [high, low] => Some(digit(*high)? * 16 + digit(*low)?),
        _ => None,
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_sha_256_is_told_apart() {
        let words = |text: &str| Fingerprint::parse(text).unwrap_err();
        assert!(words(&"ab".repeat(20)).starts_with("is a SHA-1 fingerprint"));
        assert!(words(&"ab".repeat(31)).starts_with("must have 64 hex digits (SHA-256), not 62"));
        for text in ["", "xy", "a", "ab:", ":ab", "a:bc", "AB CD", "ä", "sha256 Fingerprint=AB"] {
            let words = words(text);
            assert!(words.starts_with("must be 64 hex") || words.starts_with("must have 64 hex"), "{text}: {words}");
        }
    }

    proptest! {
        #[test]
        fn every_spelling_is_read_back(bytes: [u8; 32], lower: bool, colons: bool) {
            let fingerprint = Fingerprint::new(bytes);
            let mut text = fingerprint.to_string();
            if lower { text = text.to_lowercase(); }
            if !colons { text = text.replace(':', ""); }
            prop_assert_eq!(Fingerprint::parse(&format!(" {text}\n")), Ok(fingerprint));
        }

        #[test]
        fn no_text_panics(text: String, hex in "[0-9a-fA-F:]{0,100}") {
            let _any = (Fingerprint::parse(&text), Fingerprint::parse(&hex));
        }
    }
}
