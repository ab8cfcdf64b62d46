//! Pure: the few edits that an SDP of ours needs before it goes out, or into the log. Everything else stays as it was.

use crate::sdp::LocalCandidate;

use super::description::lines;
use super::{CANDIDATES_MAX, ICE_PWD_MIN, ICE_UFRAG_MIN, check_candidate, is_ice_credential};

/// Puts `fingerprint` (such as `sha-256 AB:CD:...`) into every `a=fingerprint` line. webrtcbin 1.22 publishes a wrong one
/// when its certificate was set from outside.
#[must_use]
pub fn rewrite_fingerprint(offer: &str, fingerprint: &str) -> String {
    map_lines(offer, |line| line.starts_with("a=fingerprint:").then(|| format!("a=fingerprint:{fingerprint}")))
}

/// The offer with port 9 in m-lines that have port 0 because they share the transport of another (`a=bundle-only`,
/// RFC 9143, section 6): browsers write it so, and servers are built for browsers; some take 0 for a refusal.
#[must_use]
pub fn without_bundle_only(offer: &str) -> String {
    let live = |mut section: String| {
        if lines(&section).any(|line| line == "a=bundle-only") {
            let head = section.lines().next().map_or(0, str::len);
            section.replace_range(..head, &section[..head].replacen(" 0 ", " 9 ", 1));
            section.split_inclusive('\n').filter(|line| line.trim_end() != "a=bundle-only").collect()
        } else {
            section
        }
    };
    sections(offer).into_iter().map(live).collect()
}

/// What stands before the first m-line, then each m-line with what follows it.
fn sections(sdp: &str) -> Vec<String> {
    sdp.split_inclusive('\n').fold(vec![String::new()], |mut sections, line| {
        if line.starts_with("m=") {
            sections.push(String::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push_str(line);
        }
        sections
    })
}

/// The first `(ice-ufrag, ice-pwd)` of an SDP.
#[must_use]
pub fn ice_credentials(sdp: &str) -> Option<(String, String)> {
    let find = |start| lines(sdp).find_map(|line| line.strip_prefix(start)).map(|value: &str| value.trim().to_owned());
    Some((find("a=ice-ufrag:")?, find("a=ice-pwd:")?))
}

/// The SDP with these ICE credentials in place of its own.
#[must_use]
pub fn with_credentials(sdp: &str, ufrag: &str, pwd: &str) -> String {
    map_lines(sdp, |line| {
        let ufrag = line.starts_with("a=ice-ufrag:").then(|| format!("a=ice-ufrag:{ufrag}"));
        ufrag.or_else(|| line.starts_with("a=ice-pwd:").then(|| format!("a=ice-pwd:{pwd}")))
    })
}

/// The answer that a server would give after an ICE restart, from the one before and the fragment that it sent (RFC 9725,
/// section 4.3.3). Candidates of the fragment take the place of the old ones. `None`: it holds no credentials.
#[must_use]
pub fn restarted(answer: &str, fragment: &str) -> Option<String> {
    let (ufrag, pwd) = ice_credentials(fragment)?;
    if !is_ice_credential(&ufrag, ICE_UFRAG_MIN) || !is_ice_credential(&pwd, ICE_PWD_MIN) {
        return None;
    }
    // What follows looks for whole lines, which may have ended in CR alone.
    let whole = if answer.contains('\n') {
        answer.to_owned()
    } else {
        lines(answer).map(|line| line.to_owned() + "\r\n").collect()
    };
    let again = with_credentials(&whole, &ufrag, &pwd);
    let found = |line: &&str| line.starts_with("a=candidate:") && check_candidate(line).is_ok();
    let candidates: Vec<LocalCandidate> = (lines(fragment).filter(found))
        .map(|line| LocalCandidate { mid: String::new(), mline: 0, candidate: line.to_owned() })
        .collect();
    if candidates.is_empty() {
        return Some(again);
    }
    let is_old = |line: &str| line.starts_with("a=candidate:") || line.starts_with("a=end-of-candidates");
    let without: String = again.split_inclusive('\n').filter(|line| !is_old(line)).collect();
    Some(with_candidates(&without, &candidates))
}

/// The SDP with these candidates at the end of their m-lines (and `a=end-of-candidates` everywhere), for a server that
/// takes no trickle. Candidates that the SDP has already are not repeated.
#[must_use]
pub fn with_candidates(sdp: &str, candidates: &[LocalCandidate]) -> String {
    let mut sections = sections(sdp);
    for (mline, section) in sections.iter_mut().skip(1).enumerate() {
        let mid = section.lines().find_map(|line| line.strip_prefix("a=mid:")).map(|mid| mid.trim().to_owned());
        if !section.ends_with('\n') {
            section.push_str("\r\n");
        }
        for candidate in candidates.iter().take(CANDIDATES_MAX) {
            let is_mine = match &mid {
                Some(mid) if !candidate.mid.is_empty() => candidate.mid == *mid,
                _ => usize::try_from(candidate.mline) == Ok(mline),
            };
            let text = candidate.candidate.trim();
            let line = format!("a={}", text.strip_prefix("a=").unwrap_or(text));
            if is_mine && check_candidate(&line).is_ok() && !section.lines().any(|other| other == line) {
                section.push_str(&line);
                section.push_str("\r\n");
            }
        }
        if !section.contains("a=end-of-candidates") {
            section.push_str("a=end-of-candidates\r\n");
        }
    }
    sections.concat()
}

/// The SDP for the log: ICE credentials, and user fragments in candidates, are masked.
#[must_use]
pub fn redact(sdp: &str) -> String {
    map_lines(sdp, |line| {
        let start = ["a=ice-pwd:", "a=ice-ufrag:", "a=crypto:", "k="].into_iter().find(|start| line.starts_with(start));
        let masked_end = || line.find(" ufrag ").map(|at| format!("{} ufrag ***", &line[..at]));
        start.map(|start| format!("{start}***")).or_else(masked_end)
    })
}

/// Replaces whole lines and keeps line ends as they are: CR alone ends one, too, for those who read SDP that way.
fn map_lines(text: &str, replace: impl Fn(&str) -> Option<String>) -> String {
    text.split_inclusive(['\r', '\n']).fold(String::with_capacity(text.len()), |mut out, whole| {
        let line = whole.trim_end_matches(['\r', '\n']);
        match replace(line) {
            Some(new) => {
                out.push_str(&new);
                out.push_str(&whole[line.len()..]);
            }
            None => out.push_str(whole),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SDP: &str = "v=0\r\ns=-\r\nm=video 9 X 96\r\na=mid:v\r\na=ice-ufrag:user\r\na=ice-pwd:hush\r\n\
        a=fingerprint:sha-256 BAD\r\na=candidate:1 1 UDP 1 192.0.2.1 1 typ host ufrag user\r\nm=audio 9 X 111\r\na=mid:a\r\n\
        a=fingerprint:sha-256 BAD";

    fn candidate(mid: &str, mline: u32, candidate: &str) -> LocalCandidate {
        LocalCandidate { mid: mid.into(), mline, candidate: candidate.into() }
    }

    #[test]
    fn each_fingerprint_is_rewritten_and_nothing_else() {
        let expected = SDP.replace("sha-256 BAD", "sha-256 AB:CD");
        assert_eq!(rewrite_fingerprint(SDP, "sha-256 AB:CD"), expected);
    }

    #[test]
    fn the_answer_after_an_ice_restart_differs_in_credentials_and_candidates_alone() {
        let fragment =
            "a=ice-lite\r\nm=audio 9 X 0\r\na=mid:v\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefghijkl\r\n";
        let wanted = SDP.replace("ice-ufrag:user", "ice-ufrag:abcd").replace(":hush", ":0123456789abcdefghijkl");
        assert_eq!(restarted(SDP, fragment), Some(wanted));
        let moved = format!("{fragment}a=candidate:3 1 UDP 1 192.0.2.9 9 typ host\r\n");
        let answer = restarted(SDP, &moved).unwrap();
        assert!(answer.contains("192.0.2.9 9") && !answer.contains("192.0.2.1 1"), "{answer}");
        // The same ice-chars as in an answer, and the same line ends.
        let odd = "a=ice-ufrag:a-b_c= \ra=ice-pwd:0123456789-_=defghijkl\r";
        let wanted = SDP.replace("ice-ufrag:user", "ice-ufrag:a-b_c=").replace(":hush", ":0123456789-_=defghijkl");
        assert_eq!(restarted(SDP, odd).as_ref(), Some(&wanted));
        assert_eq!(restarted(&SDP.replace("\r\n", "\r"), odd), Some(wanted + "\r\n"));
        for nothing in ["", "a=candidate:3 1 UDP 1 192.0.2.9 9 typ host\r\n", "a=ice-ufrag:abcd\r\na=ice-pwd:short\r\n"]
        {
            assert_eq!(restarted(SDP, nothing), None, "{nothing}");
        }
    }

    #[test]
    fn what_shares_a_transport_has_a_port_like_the_others() {
        let offer = "v=0\r\ns= 0 \r\nm=video 9 X 96\r\na=mid:v\r\nm=audio 0 X 0 8\r\na=bundle-only\r\na=mid:a\r\n\
            m=application 0 X 0\r\nm=text 0 X 1\r\na=bundle-only\r\n";
        let wanted = "v=0\r\ns= 0 \r\nm=video 9 X 96\r\na=mid:v\r\nm=audio 9 X 0 8\r\na=mid:a\r\n\
            m=application 0 X 0\r\nm=text 9 X 1\r\n";
        assert_eq!(without_bundle_only(offer), wanted);
        assert_eq!(without_bundle_only(wanted), wanted);
    }

    #[test]
    fn ice_credentials_are_found() {
        assert_eq!(ice_credentials(SDP), Some(("user".to_owned(), "hush".to_owned())));
        assert_eq!(ice_credentials("v=0\r\na=ice-ufrag:user\r\n"), None);
    }

    #[test]
    fn candidates_go_to_their_m_lines_once() {
        let host = "candidate:2 1 UDP 1 192.0.2.1 2 typ host";
        let candidates = [
            candidate("a", 1, host),
            candidate("", 0, host),
            candidate("v", 0, "candidate:1 1 UDP 1 192.0.2.1 1 typ host ufrag user"),
            candidate("v", 0, "candidate:evil\r\nm=video"),
        ];
        let out = with_candidates(SDP, &candidates);
        let (video, audio) = out.split_at(out.find("m=audio").unwrap());
        assert_eq!((video.matches("a=candidate:1 ").count(), video.matches("a=candidate:2 ").count()), (1, 1));
        assert!(audio.ends_with(
            "a=fingerprint:sha-256 BAD\r\na=candidate:2 1 UDP 1 192.0.2.1 2 typ host\r\na=end-of-candidates\r\n"
        ));
        assert!(!out.contains("evil"));
        assert_eq!(with_candidates(&out, &candidates), out, "a second time changes nothing");
    }

    #[test]
    fn a_redacted_sdp_holds_no_credential() {
        let out = redact(SDP);
        assert!(!out.contains("hush") && !out.contains("user"), "{out}");
        assert_eq!(out.lines().count(), SDP.lines().count());
        // Found by fuzzing.
        for ends in ["\r", "\n", "\r\r\n", "\n\r"] {
            let out = redact(&SDP.replace("\r\n", ends));
            assert!(!out.contains("hush") && !out.contains("user"), "{out:?}");
        }
    }

    proptest! {
        #[test]
        fn edits_take_any_text(sdp in any::<String>(), text in any::<String>()) {
            let _any = (rewrite_fingerprint(&sdp, &text), ice_credentials(&sdp));
            let _any = (with_candidates(&sdp, &[candidate("", 0, &text)]), without_bundle_only(&sdp));
            prop_assert_eq!(redact(&sdp).lines().count(), sdp.lines().count());
        }
    }
}
