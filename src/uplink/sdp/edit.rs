//! Pure: the few edits that an SDP of ours needs before it goes out, or into the log. Everything else stays as it was.

use crate::signal::LocalCandidate;

use super::{CANDIDATES_MAX, check_candidate};

/// Puts `fingerprint` (such as `sha-256 AB:CD:...`) into every `a=fingerprint` line. webrtcbin 1.22 publishes a wrong one
/// when its certificate was set from outside.
#[must_use]
pub fn rewrite_fingerprint(offer: &str, fingerprint: &str) -> String {
    map_lines(offer, |line| line.starts_with("a=fingerprint:").then(|| format!("a=fingerprint:{fingerprint}")))
}

/// The first `(ice-ufrag, ice-pwd)` of an SDP.
#[must_use]
pub fn ice_credentials(sdp: &str) -> Option<(String, String)> {
    let find = |start| sdp.lines().find_map(|line| line.strip_prefix(start)).map(|value: &str| value.trim().to_owned());
    Some((find("a=ice-ufrag:")?, find("a=ice-pwd:")?))
}

/// The SDP with these candidates at the end of their m-lines (and `a=end-of-candidates` everywhere), for a server that
/// takes no trickle. Candidates that the SDP has already are not repeated.
#[must_use]
pub fn with_candidates(sdp: &str, candidates: &[LocalCandidate]) -> String {
    let mut sections = sdp.split_inclusive('\n').fold(vec![String::new()], |mut sections, line| {
        if line.starts_with("m=") {
            sections.push(String::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push_str(line);
        }
        sections
    });
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

/// Replaces whole lines and keeps line ends as they are.
fn map_lines(text: &str, replace: impl Fn(&str) -> Option<String>) -> String {
    text.split_inclusive('\n').fold(String::with_capacity(text.len()), |mut out, whole| {
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
