//! Pure: a checked answer in the words that webrtcbin takes. It looks for transport attributes in each m-line alone, takes
//! `a=group` for the bundle whatever its kind, and trips over what it does not know: so nothing is copied that was not
//! understood.

use std::fmt::Write;

use super::candidate::Candidate;
use super::description::Description;
use super::{Agreed, CANDIDATES_MAX, formats};

/// What an answer says of addresses.
pub(super) struct Candidates<'a> {
    pub(super) usable: Vec<Candidate<'a>>,
    /// Why others are none, each reason once.
    pub(super) left_out: Vec<&'static str>,
    /// There are no more.
    pub(super) is_complete: bool,
}

/// All candidates of an answer, wherever they stand, each once: the m-lines share one transport. Those that are not
/// understood are ignored (RFC 8839, section 5.1).
pub(super) fn candidates<'a>(answer: &Description<'a>) -> Candidates<'a> {
    let mut found = Candidates { usable: Vec::new(), left_out: Vec::new(), is_complete: false };
    let sections = answer.media.iter().map(|section| &section.attributes);
    for attributes in sections.chain([&answer.attributes]) {
        found.is_complete |= attributes.has("end-of-candidates");
        for text in attributes.values("candidate") {
            match Candidate::parse(text) {
                Ok(candidate) if found.usable.contains(&candidate) => {}
                Ok(candidate) if found.usable.len() < CANDIDATES_MAX => found.usable.push(candidate),
                Ok(_) => note(&mut found.left_out, "there are too many of them"),
                Err(why) => note(&mut found.left_out, why),
            }
        }
    }
    found
}

fn note(reasons: &mut Vec<&'static str>, why: &'static str) {
    if !reasons.contains(&why) {
        reasons.push(why);
    }
}

/// The whole answer. Candidates stand in the first m-line, which carries the transport of all.
pub(super) fn text(
    ours: &Description<'_>,
    theirs: &Description<'_>,
    agreed: &[Agreed<'_>],
    candidates: &[Candidate<'_>],
) -> String {
    let mut text = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n".to_owned();
    if let Some(tags) = ours.bundles().next() {
        push(&mut text, &format!("a=group:BUNDLE {}", tags.join(" ")));
    }
    let is_lite = theirs.attributes.has("ice-lite") || theirs.media.iter().any(|one| one.attributes.has("ice-lite"));
    if is_lite {
        push(&mut text, "a=ice-lite");
    }
    for (at, media) in agreed.iter().enumerate() {
        push_media(&mut text, media);
        if at == 0 {
            candidates.iter().for_each(|candidate| push(&mut text, &format!("a={candidate}")));
        }
    }
    text
}

fn push_media(text: &mut String, media: &Agreed<'_>) {
    let Agreed { our, their, transport, .. } = media;
    let answered = formats(their);
    let mut kept: Vec<&str> = Vec::new();
    for codec in formats(our).into_iter().filter(|codec| answered.iter().any(|other| codec.is(other))) {
        kept.extend(our.formats.iter().filter(|format| format.parse() == Ok(codec.payload_type)));
    }
    push(text, &format!("m={} 9 {} {}", our.kind, our.protocol, kept.join(" ")));
    push(text, "c=IN IP4 0.0.0.0");
    our.mid().into_iter().for_each(|mid| push(text, &format!("a=mid:{mid}")));
    push(text, "a=recvonly");
    if our.attributes.has("rtcp-mux") {
        push(text, "a=rtcp-mux");
    }
    if our.attributes.has("rtcp-rsize") && their.attributes.has("rtcp-rsize") {
        push(text, "a=rtcp-rsize");
    }
    push(text, &format!("a=setup:{}", transport.setup));
    push(text, &format!("a=ice-ufrag:{}", transport.ufrag));
    push(text, &format!("a=ice-pwd:{}", transport.pwd));
    for fingerprint in &transport.fingerprints {
        push(text, &format!("a=fingerprint:{fingerprint}"));
    }
    push_formats(text, media, &kept);
}

/// What is said of the formats that both sides know: their names as we have offered them, and what the answer wants of them.
fn push_formats(text: &mut String, media: &Agreed<'_>, kept: &[&str]) {
    let Agreed { our, their, .. } = media;
    for line in our.attributes.values("rtpmap").filter(|value| split(value).is_some_and(|(pt, _)| kept.contains(&pt))) {
        push(text, &format!("a=rtpmap:{line}"));
    }
    for (format, parameters) in their.attributes.values("fmtp").filter_map(split) {
        let parameters = parameters.split(';').map(str::trim).filter(|one| is_parameter(one));
        let parameters = parameters.collect::<Vec<_>>().join(";");
        if kept.contains(&format) && !parameters.is_empty() {
            push(text, &format!("a=fmtp:{format} {parameters}"));
        }
    }
    for (format, wish) in our.attributes.values("rtcp-fb").filter_map(split) {
        let is_answered =
            |other: (&str, &str)| (other.0 == format || other.0 == "*") && other.1.eq_ignore_ascii_case(wish);
        if kept.contains(&format) && their.attributes.values("rtcp-fb").filter_map(split).any(is_answered) {
            push(text, &format!("a=rtcp-fb:{format} {wish}"));
        }
    }
    let extension = |value| split(value).map(|(id, uri)| (id.split('/').next().unwrap_or(id), uri));
    for (id, uri) in our.attributes.values("extmap").filter_map(extension) {
        if their.attributes.values("extmap").filter_map(extension).any(|other| other == (id, uri)) {
            push(text, &format!("a=extmap:{id} {uri}"));
        }
    }
}

/// The first word, and the rest.
fn split(value: &str) -> Option<(&str, &str)> {
    let (first, rest) = value.trim().split_once([' ', '\t'])?;
    Some((first, rest.trim()))
}

/// `name=value`, or a value alone, of characters that need no thought.
fn is_parameter(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

fn push(text: &mut String, line: &str) {
    // Writing into a String cannot fail.
    let _never = write!(text, "{line}\r\n");
}
