//! Pure: the SDP text that the ingest reads and writes itself - trickle fragments (RFC 8840), ICE restarts, one stream id.

use std::fmt::Write;

/// More candidates than any honest client has; the rest of a longer fragment is refused.
pub const CANDIDATES_MAX: usize = 100;

/// What an `application/trickle-ice-sdpfrag` body says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fragment {
    /// `a=ice-ufrag`.
    pub ufrag: Option<String>,
    /// `a=ice-pwd`.
    pub pwd: Option<String>,
    /// The `candidate:` attributes, without the leading `a=`.
    pub candidates: Vec<String>,
}

/// Why a fragment cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// A line is no line of SDP.
    #[error("line {0} of the fragment is not of the form `x=value`")]
    NotALine(usize),
    /// A user fragment or password has characters or a length that none has.
    #[error("line {0} of the fragment: `{1}` must be 4 to 256 letters, digits, `+` or `/`")]
    BadCredential(usize, &'static str),
    /// One of user fragment and password is missing.
    #[error("the fragment must have `a=ice-ufrag` and `a=ice-pwd`, or neither")]
    HalfCredentials,
    /// It says nothing.
    #[error("the fragment has neither candidates nor ICE credentials")]
    Empty,
    /// More candidates than [`CANDIDATES_MAX`].
    #[error("the fragment has more than {CANDIDATES_MAX} candidates")]
    TooMany,
}

impl Fragment {
    /// Reads a fragment. Attributes that we do not use are skipped; lines that are no SDP are an error.
    ///
    /// # Errors
    /// [`FragmentError`], with the line number where there is one.
    pub fn parse(text: &str) -> Result<Self, FragmentError> {
        let mut fragment = Self::default();
        let mut ended = false;
        for (number, line) in (1..).zip(text.lines().map(str::trim_end)) {
            if line.is_empty() {
                continue;
            }
            let value = sdp_line(line).ok_or(FragmentError::NotALine(number))?;
            match value.split_once(':').unwrap_or((value, "")) {
                ("ice-ufrag", text) => fragment.ufrag = Some(credential(text, "ice-ufrag", 4, number)?),
                ("ice-pwd", text) => fragment.pwd = Some(credential(text, "ice-pwd", 22, number)?),
                ("candidate", _) if fragment.candidates.len() == CANDIDATES_MAX => return Err(FragmentError::TooMany),
                ("candidate", _) => fragment.candidates.push(value.to_owned()),
                ("end-of-candidates", _) => ended = true,
                _ => {}
            }
        }
        if fragment.ufrag.is_some() != fragment.pwd.is_some() {
            return Err(FragmentError::HalfCredentials);
        }
        if fragment.ufrag.is_none() && fragment.candidates.is_empty() && !ended {
            return Err(FragmentError::Empty);
        }
        Ok(fragment)
    }

    /// The ICE part of a whole description: credentials and candidates of its first media section.
    pub fn of_description(sdp: &str) -> Self {
        let attribute = |name: &str| attributes(sdp).find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let candidates = attributes(sdp).filter(|line| line.starts_with("candidate:"));
        let mut candidates: Vec<_> = candidates.map(str::to_owned).collect();
        candidates.sort_unstable();
        candidates.dedup();
        Self { ufrag: attribute("ice-ufrag:"), pwd: attribute("ice-pwd:"), candidates }
    }

    /// As the body of an answer to an ICE restart (RFC 9725, section 4.3.3): one section stands for the whole bundle.
    pub fn to_text(&self, mid: &str) -> String {
        let mut text = String::new();
        let credentials = [("ice-ufrag", &self.ufrag), ("ice-pwd", &self.pwd)];
        for (name, value) in credentials.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            let _ = write!(text, "a={name}:{value}\r\n");
        }
        let _ = write!(text, "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}\r\n");
        for candidate in &self.candidates {
            let _ = write!(text, "a={candidate}\r\n");
        }
        text.push_str("a=end-of-candidates\r\n");
        text
    }
}

/// The offer as it would read if it were made again with the ICE credentials and candidates of `fragment`.
pub fn restarted_offer(offer: &str, fragment: &Fragment) -> String {
    let mut text = String::with_capacity(offer.len());
    for line in offer.lines() {
        match (line.split_once(':').unwrap_or((line, "")).0, &fragment.ufrag, &fragment.pwd) {
            ("a=candidate" | "a=end-of-candidates", _, _) => continue,
            ("a=ice-ufrag", Some(ufrag), _) => text.push_str(&format!("a=ice-ufrag:{ufrag}")),
            ("a=ice-pwd", _, Some(pwd)) => text.push_str(&format!("a=ice-pwd:{pwd}")),
            _ => text.push_str(line),
        }
        text.push_str("\r\n");
    }
    text
}

/// `a=mid` of each media section.
pub fn mids(sdp: &str) -> impl Iterator<Item = &str> {
    attributes(sdp).filter_map(|line| line.strip_prefix("mid:"))
}

/// The answer with all tracks in one stream: browsers play only tracks of the same stream in lip-sync, and str0m answers
/// a `recvonly` offer with a stream of its own for each track.
pub fn in_one_stream(answer: &str) -> String {
    const STREAM: &str = "roamcast";
    let mut text = String::with_capacity(answer.len());
    for line in answer.lines() {
        match line.split_once("msid:") {
            Some((head, ids)) if head == "a=" || head.starts_with("a=ssrc:") => {
                let track = ids.split_once(' ').map_or(ids, |(_, track)| track);
                text.push_str(&format!("{head}msid:{STREAM} {track}"));
            }
            Some(_) | None => text.push_str(line),
        }
        text.push_str("\r\n");
    }
    text
}

fn attributes(sdp: &str) -> impl Iterator<Item = &str> {
    sdp.lines().filter_map(|line| line.trim_end().strip_prefix("a="))
}

/// The value of a line `x=value`.
fn sdp_line(line: &str) -> Option<&str> {
    let (kind, value) = line.split_once('=')?;
    (kind.len() == 1 && kind.chars().all(|c| c.is_ascii_lowercase())).then_some(value)
}

/// An ice-char string (RFC 8839, section 5.4) of at least `min` characters.
fn credential(text: &str, name: &'static str, min: usize, line: usize) -> Result<String, FragmentError> {
    let fits = (min..=256).contains(&text.len());
    // `-` and `_` and `=` are not ice-chars, but clients in the field send them.
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/-_=".contains(&b));
    if fits && plain { Ok(text.to_owned()) } else { Err(FragmentError::BadCredential(line, name)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CANDIDATE: &str = "candidate:1 1 UDP 2122260223 192.0.2.1 61764 typ host";

    #[test]
    fn a_fragment_of_rfc_9725_is_read() {
        let text = format!(
            "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:EsAw\r\n\
             a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na={CANDIDATE}\r\na=end-of-candidates\r\n"
        );
        let fragment = Fragment::parse(&text).unwrap();
        assert_eq!(fragment.ufrag.as_deref(), Some("EsAw"));
        assert_eq!(fragment.candidates, [CANDIDATE]);
    }

    #[test]
    fn what_is_no_fragment_is_refused() {
        let many = format!("a={CANDIDATE}\n").repeat(CANDIDATES_MAX + 1);
        for (text, error) in [
            ("", FragmentError::Empty),
            ("m=audio 9 UDP/TLS/RTP/SAVPF 0", FragmentError::Empty),
            ("a=mid:0\nhello", FragmentError::NotALine(2)),
            ("{\"a\":1}", FragmentError::NotALine(1)),
            ("a=ice-ufrag:EsAw", FragmentError::HalfCredentials),
            ("a=ice-ufrag:E s\na=ice-pwd:x", FragmentError::BadCredential(1, "ice-ufrag")),
            ("a=ice-ufrag:EsAw\na=ice-pwd:short", FragmentError::BadCredential(2, "ice-pwd")),
            (many.as_str(), FragmentError::TooMany),
        ] {
            assert_eq!(Fragment::parse(text), Err(error), "{text:.60}");
        }
    }

    #[test]
    fn a_restarted_offer_has_the_new_credentials_and_no_old_candidates() {
        let offer =
            format!("v=0\r\nm=audio 9 X 0\r\na=ice-ufrag:old1\r\na=ice-pwd:old2\r\na={CANDIDATE}\r\na=mid:a0\r\n");
        let fragment = Fragment { ufrag: Some("newu".into()), pwd: Some("newp".into()), candidates: vec![] };
        let again = restarted_offer(&offer, &fragment);
        assert_eq!(again, "v=0\r\nm=audio 9 X 0\r\na=ice-ufrag:newu\r\na=ice-pwd:newp\r\na=mid:a0\r\n");
        assert!(mids(&again).eq(["a0"]));
    }

    #[test]
    fn all_tracks_of_an_answer_share_one_stream() {
        let answer =
            "a=msid-semantic:WMS *\r\na=msid:s1 t1\r\na=ssrc:5 msid:s1 t1\r\na=ssrc:5 cname:c\r\na=msid:s2 t2\r\n";
        let one = in_one_stream(answer);
        assert_eq!(
            one,
            "a=msid-semantic:WMS *\r\na=msid:roamcast t1\r\na=ssrc:5 msid:roamcast t1\r\na=ssrc:5 cname:c\r\n\
             a=msid:roamcast t2\r\n"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = Fragment::parse(&text);
        }

        #[test]
        fn near_fragments_are_read_or_refused(lines in proptest::collection::vec(
            prop_oneof![
                "a=ice-ufrag:[a-z+/ ]{0,9}", "a=ice-pwd:[a-z+/]{0,30}", "a=candidate:[0-9a-z .:]{0,40}",
                "a=end-of-candidates", "m=audio 9 X 0", "a=mid:[0-9]", "[a-z]{0,3}=?"
            ], 0..12)
        ) {
            if let Ok(fragment) = Fragment::parse(&lines.join("\r\n")) {
                prop_assert_eq!(fragment.ufrag.is_some(), fragment.pwd.is_some());
            }
        }

        #[test]
        fn what_we_write_we_read(ufrag in "[a-z]{4,20}", pwd in "[a-z]{22,40}", ports in proptest::collection::vec(1u16.., 0..5)) {
            let candidates = ports.iter().map(|p| format!("candidate:1 1 UDP 1 192.0.2.1 {p} typ host")).collect();
            let fragment = Fragment { ufrag: Some(ufrag), pwd: Some(pwd), candidates };
            prop_assert_eq!(Fragment::parse(&fragment.to_text("0")), Ok(fragment));
        }
    }
}
