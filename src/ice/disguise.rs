//! Pure: ICE credentials of servers on their way through webrtcbin.
//!
//! RFC 8839 (section 5.4) has letters, digits, `+` and `/` for them. Some servers (ZLMediaKit) use `-`, `_` and `=` as well, which
//! browsers take. GStreamer 1.28 refuses the whole answer for it, though the credentials are the business of the agent alone.
//! So webrtcbin sees them in hexadecimal digits, and the agent gets back what the server has said.

use std::borrow::Cow;
use std::fmt::Write;

/// What a credential in disguise begins with; no server has been seen to begin one so.
const MARK: &str = "roamcast/hex/";
/// RFC 8839, section 5.4: no credential is longer.
const LENGTH_MAX: usize = 256;

/// The answer, each credential of other characters than the RFC's in disguise.
pub(crate) fn disguised(answer: &str) -> Cow<'_, str> {
    let credential = |line: &str| {
        let (name, value) =
            ["a=ice-ufrag:", "a=ice-pwd:"].into_iter().find_map(|name| Some((name, line.strip_prefix(name)?)))?;
        Some((name.len(), hidden(value.trim_end())?))
    };
    if !answer.lines().any(|line| credential(line).is_some()) {
        return Cow::Borrowed(answer);
    }
    let lines = answer.lines().map(|line| match credential(line) {
        Some((name, value)) => format!("{}{value}\r\n", &line[..name]),
        None => format!("{line}\r\n"),
    });
    Cow::Owned(lines.collect())
}

/// `None`: it needs no disguise, or there is no room for one.
fn hidden(credential: &str) -> Option<String> {
    let is_ice_char = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    if credential.bytes().all(is_ice_char) || MARK.len() + 2 * credential.len() > LENGTH_MAX {
        return None;
    }
    let mut hidden = MARK.to_owned();
    for byte in credential.bytes() {
        let _to_a_string = write!(hidden, "{byte:02x}");
    }
    Some(hidden)
}

/// What the server has said.
pub(super) fn undisguised(credential: &str) -> String {
    let bytes = credential.strip_prefix(MARK).and_then(|digits| {
        let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
        pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<Vec<u8>>>()
    });
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| credential.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_rfc_has_passes_as_it_is_and_all_else_comes_back_whole() {
        for plain in ["abcd", "user+/0189", "roamcast/hex/zz"] {
            assert_eq!((hidden(plain), undisguised(plain)), (None, plain.to_owned()));
        }
        for odd in ["zlm_1", "a-b=", "==========================", "a:b", "é"] {
            let hidden = hidden(odd).unwrap();
            assert!(hidden.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte)), "{hidden}");
            assert_eq!(undisguised(&hidden), odd);
        }
        assert_eq!(hidden(&"-".repeat(200)), None);
    }

    #[test]
    fn nothing_but_credentials_is_changed_in_an_answer() {
        let answer = "v=0\r\na=ice-ufrag:a_b\r\na=ice-pwd:0123456789012345678901\r\na=mid:a_b\r\n";
        let hidden = disguised(answer);
        assert_eq!(
            hidden,
            "v=0\r\na=ice-ufrag:roamcast/hex/615f62\r\na=ice-pwd:0123456789012345678901\r\na=mid:a_b\r\n"
        );
        let plain = "v=0\r\na=ice-ufrag:abcd\r\na=mid:a_b\r\n";
        assert!(matches!(disguised(plain), Cow::Borrowed(same) if same == plain));
    }
}
