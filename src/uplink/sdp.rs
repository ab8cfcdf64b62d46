//! Pure: SDP and candidate text - is the answer one that we can live with?

mod edit;

use std::collections::BTreeSet;
use std::net::IpAddr;

use sdp_types::{Attribute, Media, Session};

use crate::supervisor::event::Failure;

use super::failure::{garbled_answer, unfit_answer};

pub use edit::{ice_credentials, redact, restarted, rewrite_fingerprint, with_candidates, with_credentials};

/// An answer has some kilobytes; parsing more is a waste of a server's bad day.
pub const SDP_BYTES_MAX: usize = 256 * 1024;
/// Candidates in one answer; more is an attack on our ICE agent.
pub const CANDIDATES_MAX: usize = 100;
/// The longest candidate line we pass on.
const CANDIDATE_BYTES_MAX: usize = 512;

/// An answer that passed all checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// One for each m-line, in order; all of them accepted.
    pub media: Vec<AnsweredMedia>,
    /// Candidates that came with the answer (0: they are trickled, or the server finds us by our checks).
    pub candidates: usize,
}

/// What the server takes on one m-line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredMedia {
    /// `audio` or `video`.
    pub kind: String,
    /// `a=mid`; empty when the offer had none.
    pub mid: String,
    /// The payload type to send, one of ours.
    pub payload_type: u8,
    /// Name of the codec, as we offered it.
    pub codec: String,
}

/// Checks the answer against our offer.
///
/// # Errors
/// `BadAnswer` with one sentence: to be tried again when the text is cut off or scrambled, final when the server meant
/// it.
pub fn check_answer(offer: &str, answer: &str) -> Result<Answer, Failure> {
    if answer.len() > SDP_BYTES_MAX {
        return Err(garbled_answer(format!("the SDP answer is longer than {SDP_BYTES_MAX} bytes")));
    }
    check(offer, answer).map_err(|failure| match answer.ends_with('\n') {
        true => failure,
        // What is missing may be in the part that did not arrive: no reason to give up for good.
        false => garbled_answer(format!("{} (the answer seems cut off)", failure.words)),
    })
}

/// After an ICE restart: is it still the same peer that answers? Its DTLS goes on, so its certificate must be the same.
///
/// # Errors
/// `BadAnswer`: somebody else answers.
pub fn check_same_peer(before: &str, now: &str) -> Result<(), Failure> {
    fn fingerprints(sdp: &str) -> BTreeSet<String> {
        sdp.lines()
            .filter_map(|line| line.strip_prefix("a=fingerprint:"))
            .map(|text| text.trim().to_lowercase())
            .collect()
    }
    if fingerprints(before) == fingerprints(now) {
        return Ok(());
    }
    Err(unfit_answer("the answer to the ICE restart has another `a=fingerprint`: somebody else answers"))
}

fn check(offer: &str, answer: &str) -> Result<Answer, Failure> {
    let ours =
        Session::parse(offer.as_bytes()).map_err(|err| garbled_answer(format!("our own offer is broken: {err}")))?;
    let theirs = Session::parse(answer.as_bytes())
        .map_err(|_| garbled_answer("the SDP answer is scrambled or cut off; valid SDP (RFC 8866) was expected"))?;
    if theirs.medias.len() < ours.medias.len() {
        let words = format!(
            "the SDP answer has {} m-lines instead of {}; it is cut off, or the server dropped some",
            theirs.medias.len(),
            ours.medias.len()
        );
        return Err(garbled_answer(words));
    }
    if theirs.medias.len() > ours.medias.len() {
        return Err(unfit_answer(format!(
            "the SDP answer has {} m-lines, our offer {}; they must be the same",
            theirs.medias.len(),
            ours.medias.len()
        )));
    }
    let candidates = check_candidates(&theirs)?;
    check_bundle(&ours, &theirs)?;
    let pairs = ours.medias.iter().zip(&theirs.medias);
    let media = pairs.map(|(our, their)| check_media(our, their, &theirs)).collect::<Result<_, _>>()?;
    Ok(Answer { media, candidates })
}

fn check_media(our: &Media, their: &Media, answer: &Session) -> Result<AnsweredMedia, Failure> {
    let kind = &our.media;
    if *kind != their.media {
        return Err(unfit_answer(format!(
            "the SDP answer says `m={}` where our offer says `m={kind}`; the order must be the same",
            plain(&their.media)
        )));
    }
    let mid = value(&our.attributes, "mid").unwrap_or_default();
    check_accepted(our, their)?;
    if value(&their.attributes, "mid").unwrap_or_default() != mid {
        return Err(unfit_answer(format!("the SDP answer gives our {kind} another `a=mid`; `{mid}` was expected")));
    }
    let codec = check_codec(our, their)?;
    if flag(&our.attributes, "rtcp-mux") && !transport_flag(answer, their, "rtcp-mux") {
        return Err(unfit_answer(format!(
            "the SDP answer wants RTCP of our {kind} on a port of its own; `a=rtcp-mux` is needed"
        )));
    }
    check_transport(answer, their)?;
    Ok(AnsweredMedia { kind: kind.clone(), mid: mid.to_owned(), payload_type: codec.payload_type, codec: codec.name })
}

fn check_accepted(our: &Media, their: &Media) -> Result<(), Failure> {
    let kind = &our.media;
    if their.port == 0 || flag(&their.attributes, "inactive") {
        let offered = offered_codecs(our);
        let advice = if kind == "audio" { "`audio.enabled = false`" } else { "another `video.codec`" };
        return Err(unfit_answer(format!("the server refuses our {kind} ({offered}); {advice} may suit it")));
    }
    // RFC 3264 wants `recvonly` here; `sendrecv` or nothing is sloppy, but takes our media all the same.
    if flag(&their.attributes, "sendonly") {
        return Err(unfit_answer(format!(
            "the server wants to send {kind} instead of receiving it; `a=recvonly` was expected"
        )));
    }
    Ok(())
}

struct Codec {
    payload_type: u8,
    /// As in `a=rtpmap`, such as `H264`.
    name: String,
    clock_rate: u32,
}

/// Repair formats, which carry no media of their own.
const REPAIR: [&str; 5] = ["rtx", "red", "ulpfec", "flexfec-03", "telephone-event"];

/// All `a=rtpmap` of the formats in the m-line, in its order of preference, without repair formats.
fn codecs(media: &Media) -> Vec<Codec> {
    let maps: Vec<Codec> = values(&media.attributes, "rtpmap").filter_map(rtpmap).collect();
    let mut found: Vec<Codec> = Vec::new();
    for format in media.fmt.split_ascii_whitespace() {
        let Ok(wanted) = format.parse::<u8>() else { continue };
        if let Some(map) = maps.iter().find(|map| map.payload_type == wanted)
            && !REPAIR.iter().any(|repair| map.name.eq_ignore_ascii_case(repair))
        {
            found.push(Codec { payload_type: wanted, name: map.name.clone(), clock_rate: map.clock_rate });
        }
    }
    found
}

/// `96 H264/90000`
fn rtpmap(text: &str) -> Option<Codec> {
    let (payload_type, encoding) = text.split_once(' ')?;
    let mut parts = encoding.trim().split('/');
    let (name, clock_rate) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?);
    Some(Codec { payload_type: payload_type.parse().ok()?, name, clock_rate })
}

fn offered_codecs(our: &Media) -> String {
    codecs(our).into_iter().map(|codec| codec.name).collect::<Vec<_>>().join(", ")
}

/// The first format of the answer that is one of ours, under our number.
fn check_codec(our: &Media, their: &Media) -> Result<Codec, Failure> {
    let (offered, answered) = (codecs(our), codecs(their));
    let same = |a: &Codec, b: &Codec| {
        a.payload_type == b.payload_type && a.clock_rate == b.clock_rate && a.name.eq_ignore_ascii_case(&b.name)
    };
    offered.into_iter().find(|ours| answered.iter().any(|theirs| same(ours, theirs))).ok_or_else(|| {
        let wants = answered.iter().map(|codec| format!("{} as {}", plain(&codec.name), codec.payload_type));
        let wants = wants.collect::<Vec<_>>().join(", ");
        let wants = if wants.is_empty() { "no codec".to_owned() } else { wants };
        unfit_answer(format!("the SDP answer takes {wants} for our {}, but we offered {}", our.media, described(our)))
    })
}

fn described(our: &Media) -> String {
    codecs(our).iter().map(|codec| format!("{} as {}", codec.name, codec.payload_type)).collect::<Vec<_>>().join(", ")
}

/// Fingerprint, DTLS role and ICE credentials; webrtcbin < 1.28.5 accepted answers without a fingerprint (CVE-2026-14935).
fn check_transport(answer: &Session, media: &Media) -> Result<(), Failure> {
    let kind = &media.media;
    let fingerprints: Vec<&str> = transport_values(answer, media, "fingerprint");
    if fingerprints.is_empty() {
        return Err(unfit_answer(format!(
            "the SDP answer has no `a=fingerprint` for {kind}, so nobody could tell who receives it"
        )));
    }
    if !fingerprints.iter().any(|fingerprint| is_strong_fingerprint(fingerprint)) {
        return Err(unfit_answer(format!(
            "the SDP answer has no valid `a=fingerprint` for {kind} of sha-256 or better"
        )));
    }
    match transport_values(answer, media, "setup").first().copied() {
        Some("active" | "passive") => {}
        Some(other) => {
            let other = plain(other);
            return Err(unfit_answer(format!(
                "the SDP answer says `a=setup:{other}`; `active` or `passive` was expected"
            )));
        }
        None => return Err(unfit_answer("the SDP answer has no `a=setup`; `active` or `passive` was expected")),
    }
    for (name, least) in [("ice-ufrag", ICE_UFRAG_MIN), ("ice-pwd", ICE_PWD_MIN)] {
        let credential = transport_values(answer, media, name).first().copied().unwrap_or_default();
        let is_ice_char = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=');
        if !(least..=ICE_CREDENTIAL_MAX).contains(&credential.len()) || !credential.bytes().all(is_ice_char) {
            return Err(unfit_answer(format!(
                "the SDP answer has no valid `a={name}` for {kind}; {least} ice-chars or more were expected"
            )));
        }
    }
    Ok(())
}

/// RFC 8839, section 5.4.
const ICE_UFRAG_MIN: usize = 4;
const ICE_PWD_MIN: usize = 22;
const ICE_CREDENTIAL_MAX: usize = 256;

/// `sha-256 AB:CD:...` with the right number of bytes.
fn is_strong_fingerprint(text: &str) -> bool {
    let Some((hash, bytes)) = text.trim().split_once(' ') else { return false };
    let expected = match hash.to_ascii_lowercase().as_str() {
        "sha-256" => 32,
        "sha-384" => 48,
        "sha-512" => 64,
        _ => return false,
    };
    let is_byte = |byte: &str| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
    let bytes: Vec<_> = bytes.trim().split(':').collect();
    bytes.len() == expected && bytes.into_iter().all(is_byte)
}

/// Several m-lines share one transport with us; a server that wants one each would wait for ever.
fn check_bundle(ours: &Session, theirs: &Session) -> Result<(), Failure> {
    let Some(offered) = bundle(ours).filter(|mids| mids.len() > 1) else { return Ok(()) };
    let answered = bundle(theirs).unwrap_or_default();
    let mids = ours.medias.iter().filter_map(|our| value(&our.attributes, "mid"));
    let left_out = mids.zip(&theirs.medias).find(|(mid, their)| {
        let is_accepted = their.port != 0;
        is_accepted && offered.contains(mid) && !answered.contains(mid)
    });
    match left_out {
        None => Ok(()),
        Some((mid, their)) => Err(unfit_answer(format!(
            "the SDP answer leaves our {} (mid {mid}) out of `a=group:BUNDLE`; one transport for all is needed",
            plain(&their.media)
        ))),
    }
}

fn bundle(session: &Session) -> Option<Vec<&str>> {
    let group = values(&session.attributes, "group").find_map(|group| group.strip_prefix("BUNDLE"))?;
    Some(group.split_ascii_whitespace().collect())
}

fn check_candidates(answer: &Session) -> Result<usize, Failure> {
    let lines = answer.medias.iter().flat_map(|media| values(&media.attributes, "candidate"));
    let mut count = 0;
    for line in lines {
        count += 1;
        if count > CANDIDATES_MAX {
            return Err(unfit_answer(format!("the SDP answer has more than {CANDIDATES_MAX} candidates")));
        }
        check_candidate(line).map_err(|why| garbled_answer(format!("the SDP answer has a bad candidate: {why}")))?;
    }
    Ok(count)
}

/// Is this the text of a candidate (RFC 8839), with or without `a=` and `candidate:` in front?
///
/// # Errors
/// Half a sentence that says what is wrong with it.
pub fn check_candidate(text: &str) -> Result<(), &'static str> {
    if text.len() > CANDIDATE_BYTES_MAX || text.contains(char::is_control) {
        return Err("it is too long or holds control characters");
    }
    let text = text.trim();
    let text = text.strip_prefix("a=").unwrap_or(text);
    let mut words = text.strip_prefix("candidate:").unwrap_or(text).split_ascii_whitespace();
    let mut next = |what| words.next().ok_or(what);
    let foundation = next("it is empty")?;
    if foundation.len() > 32 {
        return Err("its foundation is longer than 32 characters");
    }
    let is_component = |n: u16| (1..=256).contains(&n);
    next("it has no component")?.parse().ok().filter(|n| is_component(*n)).ok_or("its component is not 1 to 256")?;
    if !["udp", "tcp"].contains(&next("it has no transport")?.to_ascii_lowercase().as_str()) {
        return Err("its transport is not `udp` or `tcp`");
    }
    next("it has no priority")?.parse::<u32>().map_err(|_| "its priority is not a 32-bit number")?;
    let address = next("it has no address")?;
    let is_name = address.contains('.') && address.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if address.parse::<IpAddr>().is_err() && !is_name {
        return Err("its address is no IP address and no host name");
    }
    next("it has no port")?.parse::<u16>().map_err(|_| "its port is not a number up to 65535")?;
    match (next("it has no type")?, next("it has no type")?) {
        ("typ", "host" | "srflx" | "prflx" | "relay") => Ok(()),
        _ => Err("its type is not `host`, `srflx`, `prflx` or `relay`"),
    }
}

/// The m-line that speaks for a bundled one: in an answer only the first of the group needs transport attributes (RFC 9143).
fn tagged<'a>(answer: &'a Session, media: &'a Media) -> &'a Media {
    let mids = bundle(answer).unwrap_or_default();
    let mid = |media: &'a Media| value(&media.attributes, "mid").unwrap_or_default();
    if !mids.contains(&mid(media)) {
        return media;
    }
    answer.medias.iter().find(|other| Some(&mid(other)) == mids.first()).unwrap_or(media)
}

/// The values of a transport attribute: of this m-line, else of the one that speaks for it, else of the session.
fn transport_values<'a>(answer: &'a Session, media: &'a Media, name: &'static str) -> Vec<&'a str> {
    [&media.attributes, &tagged(answer, media).attributes, &answer.attributes]
        .into_iter()
        .map(|attributes| values(attributes, name).collect::<Vec<_>>())
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

fn transport_flag(answer: &Session, media: &Media, name: &str) -> bool {
    [&media.attributes, &tagged(answer, media).attributes, &answer.attributes].into_iter().any(|all| flag(all, name))
}

fn values<'a>(attributes: &'a [Attribute], name: &'static str) -> impl Iterator<Item = &'a str> {
    attributes.iter().filter(move |one| one.attribute == name).filter_map(|one| one.value.as_deref().map(str::trim))
}

fn value<'a>(attributes: &'a [Attribute], name: &'static str) -> Option<&'a str> {
    values(attributes, name).next()
}

fn flag(attributes: &[Attribute], name: &str) -> bool {
    attributes.iter().any(|one| one.attribute == name)
}

/// A word of the server's, short and printable enough for one of our sentences.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() && *c != '`').take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::ErrorCode;
    use crate::supervisor::event::Retry;
    use proptest::prelude::*;

    const FINGERPRINT: &str =
        "sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF";

    fn offer() -> String {
        let head = "v=0\no=- 1 0 IN IP4 0.0.0.0\ns=-\nt=0 0\na=ice-options:trickle\na=group:BUNDLE video0 audio1\n";
        let video = "m=video 9 UDP/TLS/RTP/SAVPF 96 97\nc=IN IP4 0.0.0.0\na=mid:video0\na=sendonly\na=rtpmap:96 H264/90000\n\
                     a=fmtp:96 packetization-mode=1;profile-level-id=42c01f\na=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\n";
        let audio =
            "m=audio 9 UDP/TLS/RTP/SAVPF 111\nc=IN IP4 0.0.0.0\na=mid:audio1\na=sendonly\na=rtpmap:111 OPUS/48000/2\n";
        let transport = format!(
            "a=rtcp-mux\na=setup:actpass\na=ice-ufrag:ours\na=ice-pwd:{}\na=fingerprint:{FINGERPRINT}\n",
            "p".repeat(24)
        );
        format!("{head}{video}{transport}{audio}{transport}").replace('\n', "\r\n")
    }

    fn good_answer() -> String {
        offer().replace("a=sendonly", "a=recvonly").replace("OPUS", "opus").replace("actpass", "passive").replace(
            "a=setup:passive\r\n",
            "a=setup:passive\r\na=candidate:1 1 UDP 2130706431 192.0.2.9 8189 typ host\r\n",
        )
    }

    fn refusal(answer: &str) -> Failure {
        let failure = check_answer(&offer(), answer).unwrap_err();
        assert_eq!(failure.code, ErrorCode::BadAnswer, "{failure}");
        failure
    }

    #[test]
    fn a_good_answer_names_what_the_server_takes() {
        let answer = check_answer(&offer(), &good_answer()).unwrap();
        assert_eq!(answer.candidates, 2);
        let media: Vec<_> =
            answer.media.iter().map(|one| (&*one.kind, &*one.mid, one.payload_type, &*one.codec)).collect();
        assert_eq!(media, [("video", "video0", 96, "H264"), ("audio", "audio1", 111, "OPUS")]);
    }

    #[test]
    fn sloppy_but_workable_answers_are_accepted() {
        type Edit = fn(String) -> String;
        let cases: [(&str, Edit); 7] = [
            ("bare line feeds", |text| text.replace("\r\n", "\n")),
            ("sendrecv", |text| text.replace("a=recvonly", "a=sendrecv")),
            ("no direction", |text| text.replace("a=recvonly\r\n", "")),
            ("no candidate", |text| {
                text.lines().filter(|line| !line.contains("candidate")).map(|line| format!("{line}\r\n")).collect()
            }),
            ("no rtx", |text| text.replace("96 97", "96").replace("a=rtpmap:97 rtx/90000\r\n", "")),
            ("transport at session level", |text| {
                let line = format!("a=fingerprint:{FINGERPRINT}\r\n");
                text.replace(&line, "").replace("a=group", &format!("{line}a=group"))
            }),
            ("transport in the tagged m-line only (RFC 9143)", |text| {
                let (video, audio) = text.split_at(text.find("m=audio").unwrap());
                let keep = |line: &&str| {
                    ["a=ice", "a=setup", "a=fingerprint", "a=rtcp-mux"].iter().all(|start| !line.starts_with(start))
                };
                let audio: String = audio.lines().filter(keep).map(|line| format!("{line}\r\n")).collect();
                format!("{video}{audio}")
            }),
        ];
        for (name, edit) in cases {
            let answer = check_answer(&offer(), &edit(good_answer()));
            assert!(answer.is_ok(), "{name}: {answer:?}");
        }
    }

    #[test]
    fn an_unfit_answer_is_final_and_says_what_would_be_right() {
        let cases = [
            ("m=video 9", "m=video 0", "refuses our video (H264)"),
            ("m=audio 9", "m=audio 0", "refuses our audio (OPUS)"),
            ("a=recvonly", "a=inactive", "refuses our video (H264)"),
            ("a=recvonly", "a=sendonly", "`a=recvonly` was expected"),
            ("a=mid:audio1", "a=mid:audio2", "`audio1` was expected"),
            ("BUNDLE video0 audio1", "BUNDLE video0", "out of `a=group:BUNDLE`"),
            ("H264", "VP8", "takes VP8 as 96 for our video, but we offered H264 as 96"),
            ("m=video 9 UDP/TLS/RTP/SAVPF 96 97", "m=video 9 UDP/TLS/RTP/SAVPF 97", "takes no codec for our video"),
            ("rtpmap:111 opus/48000", "rtpmap:111 opus/8000", "takes opus as 111"),
            ("a=rtcp-mux\r\n", "", "`a=rtcp-mux` is needed"),
            ("a=setup:passive\r\n", "", "no `a=setup`"),
            ("a=setup:passive", "a=setup:actpass", "`a=setup:actpass`"),
            ("a=setup:passive", "a=setup:holdconn", "`a=setup:holdconn`"),
            ("a=fingerprint:", "a=fingerprints:", "has no `a=fingerprint`"),
            ("a=fingerprint:sha-256", "a=fingerprint:sha-1", "sha-256 or better"),
            (":EE:FF\r\n", ":EE\r\n", "sha-256 or better"),
            ("a=ice-ufrag:ours", "a=ice-ufrag:our", "no valid `a=ice-ufrag`"),
            ("a=ice-pwd:pppp", "a=ice-pwd:p p", "no valid `a=ice-pwd`"),
            ("a=ice-pwd:", "a=ice-pws:", "no valid `a=ice-pwd`"),
        ];
        for (from, to, words) in cases {
            let answer = good_answer().replace(from, to);
            assert_ne!(answer, good_answer(), "{from}");
            let failure = refusal(&answer);
            assert!(failure.words.contains(words), "{from} -> {to}: {failure}");
            assert_eq!(failure.retry, Retry::IfProven { after: None }, "{failure}");
        }
        let swapped =
            good_answer().replace("m=video", "m=tmp").replace("m=audio", "m=video").replace("m=tmp", "m=audio");
        assert!(refusal(&swapped).words.contains("the order must be the same"));
        assert!(refusal(&format!("{}m=video 9 X 96\r\n", good_answer())).words.contains("has 3 m-lines, our offer 2"));
        let flood = format!("{}{}", good_answer(), "a=candidate:1 1 UDP 1 192.0.2.9 8189 typ host\r\n".repeat(100));
        assert!(refusal(&flood).words.contains("more than 100 candidates"));
    }

    #[test]
    fn a_scrambled_or_cut_off_answer_is_worth_another_try() {
        let good = good_answer();
        let audio = good.find("m=audio").unwrap();
        let cut = (0..good.len()).filter(|at| good.is_char_boundary(*at)).map(|at| good[..at].to_owned());
        // Cut right after a line end of the last m-line, it looks whole: that is a refusal, not a cut.
        let cut = cut.filter(|text| !(text.len() > audio && text.ends_with('\n')));
        let others = [String::new(), "<html>".to_owned(), "v=0\r\n".to_owned(), "x".repeat(SDP_BYTES_MAX + 1)];
        for answer in others.into_iter().chain(cut) {
            if let Err(failure) = check_answer(&offer(), &answer) {
                assert_eq!(failure.retry, Retry::Backoff, "{failure} at {}", answer.len());
            }
        }
        assert_eq!(refusal(&good.replace("192.0.2.9", "nowhere")).retry, Retry::Backoff);
    }

    #[test]
    fn candidates_are_told_from_nonsense() {
        for good in [
            "candidate:1 1 UDP 2130706431 192.0.2.9 8189 typ host",
            "a=candidate:842163049 1 udp 1677729535 2001:db8::1 46154 typ srflx raddr 10.0.0.5 rport 46154 generation 0",
            "candidate:0 2 TCP 2105458943 192.0.2.9 9 typ host tcptype active",
            "candidate:9 1 udp 2122260223 4f2c9b1e-aaaa.local 50000 typ host",
        ] {
            assert_eq!(check_candidate(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "candidate:1",
            "candidate:1 0 UDP 1 192.0.2.9 8189 typ host",
            "candidate:1 1 SCTP 1 192.0.2.9 8189 typ host",
            "candidate:1 1 UDP 99999999999 192.0.2.9 8189 typ host",
            "candidate:1 1 UDP 1 nowhere 8189 typ host",
            "candidate:1 1 UDP 1 192.0.2.9 70000 typ host",
            "candidate:1 1 UDP 1 192.0.2.9 8189 typ hostess",
            "candidate:1 1 UDP 1 192.0.2.9 8189 typ host\r\na=evil",
        ] {
            assert!(check_candidate(bad).is_err(), "{bad}");
        }
    }

    prop_compose! {
        /// A good answer with one to four lines dropped, doubled, moved or written over.
        fn mutated()(edits in prop::collection::vec((0..40usize, 0..5u8, any::<String>(), 0..60usize), 1..5)) -> String {
            let answer = good_answer();
            let mut lines: Vec<String> = answer.split("\r\n").map(str::to_owned).collect();
            for (at, kind, junk, column) in edits {
                let at = at % lines.len();
                let column = lines[at].char_indices().map(|(index, _)| index).nth(column).unwrap_or(lines[at].len());
                match kind {
                    0 => drop(lines.remove(at)),
                    1 => lines.insert(at, lines[at].clone()),
                    2 => lines.swap(at, 0),
                    3 => lines[at].truncate(column),
                    _ => lines[at].replace_range(column.., &junk),
                }
                if lines.is_empty() {
                    lines.push(String::new());
                }
            }
            lines.join("\r\n")
        }
    }

    fn accepted_or_one_sentence(answer: &str) -> Result<(), TestCaseError> {
        if let Err(failure) = check_answer(&offer(), answer) {
            prop_assert_eq!(failure.code, ErrorCode::BadAnswer);
            prop_assert!(!failure.words.is_empty() && failure.words.len() < 400, "{}", failure.words);
            prop_assert!(!failure.words.contains(char::is_control), "{}", failure.words);
            prop_assert!(!failure.words.contains(&"p".repeat(24)), "{}", failure.words);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_mutated_answer_is_accepted_or_gets_one_sentence(answer in mutated()) {
            accepted_or_one_sentence(&answer)?;
        }

        #[test]
        fn any_text_gets_one_sentence(answer in any::<String>(), offer in any::<String>()) {
            accepted_or_one_sentence(&answer)?;
            let _any = check_answer(&offer, &answer);
            let _any = check_candidate(&answer);
        }
    }
}
