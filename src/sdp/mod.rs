//! Pure: SDP and candidate text - is the answer one that we can live with, and how is it said to webrtcbin?

mod candidate;
mod description;
mod edit;
mod normal;

use std::collections::BTreeSet;

use crate::status::ErrorCode;
use crate::supervisor::event::{Failure, Phase, Retry};

use description::{Description, Section};

pub use candidate::check_candidate;
pub(crate) use candidate::{Candidate, CandidateHost, Reach};
pub use description::decode;
pub use edit::{
    ice_credentials, redact, restarted, rewrite_fingerprint, with_candidates, with_credentials, without_bundle_only,
};

/// An answer has some kilobytes; parsing more is a waste of a server's bad day.
pub const SDP_BYTES_MAX: usize = 256 * 1024;
/// Candidates of one answer that are used; more is an attack on our ICE agent.
pub const CANDIDATES_MAX: usize = 100;

/// An answer that passed all checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// One for each m-line, in order; all of them accepted.
    pub media: Vec<AnsweredMedia>,
    /// Candidates that came with the answer and are understood (0: they are trickled, or the server finds us by our checks).
    pub candidates: usize,
    /// Why others are left out, each reason once: half a sentence.
    pub left_out: Vec<&'static str>,
    /// The same answer in the words that webrtcbin takes: transport attributes in each m-line, nothing that it does not know,
    /// and nothing that we have not offered.
    pub normalised: String,
    /// Where the candidates lead.
    reach: Vec<Reach>,
    /// The server has said that there are no more candidates.
    is_complete: bool,
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

/// Why an answer will not do.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// `BadAnswer` with one sentence: to be tried again when the text is cut off or scrambled, final when the server meant it.
    pub failure: Failure,
    /// It is about the sound alone: the same server takes the picture.
    pub sound_alone: bool,
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        rejection.failure
    }
}

impl From<Failure> for Rejection {
    fn from(failure: Failure) -> Self {
        Self { failure, sound_alone: false }
    }
}

/// Checks the answer against our offer.
///
/// # Errors
/// [`Rejection`].
pub fn check_answer(offer: &str, answer: &str) -> Result<Answer, Rejection> {
    if answer.len() > SDP_BYTES_MAX {
        return Err(garbled_answer(format!("the SDP answer is longer than {SDP_BYTES_MAX} bytes")).into());
    }
    check(offer, answer).map_err(|rejection| match ends_with_a_line(answer) {
        true => rejection,
        // What is missing may be in the part that did not arrive: no reason to give up for good.
        false => garbled_answer(format!("{} (the answer seems cut off)", rejection.failure.words)).into(),
    })
}

/// A CR at the end may be half of a CR LF.
fn ends_with_a_line(answer: &str) -> bool {
    let answer = answer.trim_start().trim_end_matches([' ', '\t', '\0']);
    answer.ends_with('\n') || (answer.ends_with('\r') && !answer.contains('\n'))
}

/// After an ICE restart: is it still the same peer that answers? Its DTLS goes on, so its certificate must be the same.
///
/// # Errors
/// `BadAnswer`: somebody else answers.
pub fn check_same_peer(before: &str, now: &str) -> Result<(), Failure> {
    fn fingerprints(sdp: &str) -> BTreeSet<String> {
        description::lines(sdp)
            .filter_map(|line| line.strip_prefix("a=fingerprint:"))
            .map(|text| text.trim().to_lowercase())
            .collect()
    }
    if fingerprints(before) == fingerprints(now) {
        return Ok(());
    }
    Err(unfit_answer("the answer to the ICE restart has another `a=fingerprint`: somebody else answers"))
}

impl Answer {
    /// Is there any way to the server? For an agent that sends over UDP and is not found by others; to loopback addresses if
    /// `loopback`. `no_more`: what is not in the answer does not come later.
    ///
    /// # Errors
    /// One sentence; final when the server has said what it has.
    pub fn check_reach(&self, loopback: bool, no_more: bool) -> Result<(), Failure> {
        let leads = |reach: Reach| self.reach.contains(&reach);
        if leads(Reach::Udp) || (loopback && leads(Reach::Loopback)) || !(no_more || self.is_complete) {
            return Ok(());
        }
        if leads(Reach::Loopback) {
            return Err(unfit_answer(
                "the server offers loopback addresses only, which nobody else can reach; it must be told its own address",
            ));
        }
        if leads(Reach::Tcp) {
            return Err(unfit_answer(
                "the server offers TCP only; media needs a UDP port there (`a=candidate` with `udp`)",
            ));
        }
        // A server that has no network yet says so: that passes.
        Err(garbled_answer("the SDP answer has no usable `a=candidate`; at least one with `udp` was expected"))
    }
}

fn check(offer: &str, answer: &str) -> Result<Answer, Rejection> {
    let ours = Description::parse(offer).ok_or_else(|| garbled_answer("our own offer is broken"))?;
    let theirs = Description::parse(answer)
        .ok_or_else(|| garbled_answer("the SDP answer is scrambled or cut off; valid SDP (RFC 8866) was expected"))?;
    check_count(&ours, &theirs)?;
    let bundle = Bundle::of(&ours, &theirs);
    let pairs = ours.media.iter().zip(&theirs.media);
    let checked: Vec<_> = pairs.map(|(our, their)| (our.kind, check_media(our, their, &bundle))).collect();
    let sound_alone = checked.iter().any(|(_, result)| result.is_ok())
        && checked.iter().all(|(kind, result)| result.is_ok() || *kind == "audio");
    let agreed: Vec<Agreed<'_>> = checked
        .into_iter()
        .map(|(_, result)| result)
        .collect::<Result<_, _>>()
        .map_err(|failure| Rejection { failure, sound_alone })?;
    let found = normal::candidates(&theirs);
    Ok(Answer {
        normalised: normal::text(&ours, &theirs, &agreed, &found.usable),
        media: agreed.iter().map(Agreed::media).collect(),
        candidates: found.usable.len(),
        left_out: found.left_out,
        reach: found.usable.iter().map(Candidate::reach).collect(),
        is_complete: found.is_complete,
    })
}

fn check_count(ours: &Description<'_>, theirs: &Description<'_>) -> Result<(), Failure> {
    let (our, their) = (ours.media.len(), theirs.media.len());
    match their.cmp(&our) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(garbled_answer(format!(
            "the SDP answer has {their} m-lines instead of {our}; it is cut off, or the server dropped some"
        ))),
        std::cmp::Ordering::Greater => {
            Err(unfit_answer(format!("the SDP answer has {their} m-lines, our offer {our}; they must be the same")))
        }
    }
}

/// The m-lines that share one transport.
struct Bundle<'a> {
    offered: bool,
    tags: Vec<&'a str>,
    answer: &'a Description<'a>,
}

impl<'a> Bundle<'a> {
    /// An answer may name several groups: the one that holds most of ours.
    fn of(ours: &Description<'a>, answer: &'a Description<'a>) -> Self {
        let offered = ours.bundles().next().unwrap_or_default();
        let of_ours = |tags: &Vec<&str>| tags.iter().filter(|tag| offered.contains(tag)).count();
        let tags = answer.bundles().max_by_key(of_ours).unwrap_or_default();
        Self { offered: offered.len() > 1, tags, answer }
    }

    fn holds(&self, section: &Section<'_>) -> bool {
        section.mid().is_some_and(|mid| self.tags.contains(&mid))
    }

    /// The m-line that speaks for a bundled one: in an answer only the first of the group needs transport attributes
    /// (RFC 9143, section 7.3), and those of the others do not count.
    fn tagged(&self, section: &'a Section<'a>) -> &'a Section<'a> {
        if !self.holds(section) {
            return section;
        }
        let live = |tag: &&str| self.answer.media.iter().find(|one| one.mid() == Some(*tag) && one.port != 0);
        self.tags.iter().find_map(live).unwrap_or(section)
    }

    /// Port 0 refuses an m-line, unless another one speaks for it: some servers say 0 for all but the first.
    fn is_accepted(&self, section: &'a Section<'a>) -> bool {
        self.tagged(section).port != 0
    }

    /// The values of a transport attribute: of the m-line that speaks for this one, else of the session. Its own are the last
    /// resort: they do not count where another one speaks.
    fn values(&self, section: &'a Section<'a>, name: &str) -> Vec<&'a str> {
        let places = [&self.tagged(section).attributes, &self.answer.attributes, &section.attributes];
        let found = places.into_iter().map(|attributes| attributes.values(name).collect::<Vec<_>>());
        found.into_iter().find(|values| !values.is_empty()).unwrap_or_default()
    }
}

/// One m-line on which both sides agree.
struct Agreed<'a> {
    our: &'a Section<'a>,
    their: &'a Section<'a>,
    codec: Codec<'a>,
    transport: Transport<'a>,
}

impl Agreed<'_> {
    fn media(&self) -> AnsweredMedia {
        AnsweredMedia {
            kind: self.our.kind.to_owned(),
            mid: self.our.mid().unwrap_or_default().to_owned(),
            payload_type: self.codec.payload_type,
            codec: self.codec.name.to_owned(),
        }
    }
}

fn check_media<'a>(our: &'a Section<'a>, their: &'a Section<'a>, bundle: &Bundle<'a>) -> Result<Agreed<'a>, Failure> {
    let kind = our.kind;
    if kind != their.kind {
        return Err(unfit_answer(format!(
            "the SDP answer says `m={}` where our offer says `m={kind}`; the order must be the same",
            plain(their.kind)
        )));
    }
    check_accepted(our, their, bundle)?;
    let mid = our.mid().unwrap_or_default();
    // With one m-line there is no doubt which one is meant.
    let is_alone = bundle.answer.media.len() == 1 && their.mid().is_none();
    if their.mid().unwrap_or_default() != mid && !is_alone {
        return Err(unfit_answer(format!("the SDP answer gives our {kind} another `a=mid`; `{mid}` was expected")));
    }
    // Several m-lines share one transport with us; a server that wants one each would wait for ever.
    if bundle.offered && !bundle.holds(their) {
        return Err(unfit_answer(format!(
            "the SDP answer leaves our {kind} (mid {mid}) out of `a=group:BUNDLE`; one transport for all is needed"
        )));
    }
    let codec = check_codec(our, their)?;
    if our.attributes.has("rtcp-mux") && bundle.values(their, "rtcp-mux").is_empty() {
        return Err(unfit_answer(format!(
            "the SDP answer wants RTCP of our {kind} on a port of its own; `a=rtcp-mux` is needed"
        )));
    }
    let transport = check_transport(their, bundle)?;
    Ok(Agreed { our, their, codec, transport })
}

fn check_accepted<'a>(our: &Section<'a>, their: &'a Section<'a>, bundle: &Bundle<'a>) -> Result<(), Failure> {
    let kind = our.kind;
    let direction = their.attributes.direction().or_else(|| bundle.answer.attributes.direction());
    let is_empty_handed = their.port == 0 && check_codec(our, their).is_err();
    if direction == Some("inactive") || !bundle.is_accepted(their) || is_empty_handed {
        let offered = codecs(our).into_iter().map(|codec| codec.name).collect::<Vec<_>>().join(", ");
        let advice = if kind == "audio" { "`audio.enabled = false`" } else { "another `video.codec`" };
        return Err(unfit_answer(format!("the server refuses our {kind} ({offered}); {advice} may suit it")));
    }
    // RFC 3264 wants `recvonly` here; `sendrecv` or nothing is sloppy, but takes our media all the same.
    if direction == Some("sendonly") {
        return Err(unfit_answer(format!(
            "the server wants to send {kind} instead of receiving it; `a=recvonly` was expected"
        )));
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Codec<'a> {
    payload_type: u8,
    /// As in `a=rtpmap`, such as `H264`.
    name: &'a str,
    clock_rate: u32,
}

/// Repair formats, which carry no media of their own.
const REPAIR: [&str; 5] = ["rtx", "red", "ulpfec", "flexfec-03", "telephone-event"];

/// All `a=rtpmap` of the formats in the m-line, in its order of preference.
fn formats<'a>(media: &Section<'a>) -> Vec<Codec<'a>> {
    let maps: Vec<Codec<'_>> = media.attributes.values("rtpmap").filter_map(rtpmap).collect();
    let wanted = media.formats.iter().filter_map(|format| format.parse::<u8>().ok());
    wanted.filter_map(|wanted| maps.iter().find(|map| map.payload_type == wanted).copied()).collect()
}

/// Without repair formats.
fn codecs<'a>(media: &Section<'a>) -> Vec<Codec<'a>> {
    let is_repair = |codec: &Codec<'_>| REPAIR.iter().any(|repair| codec.name.eq_ignore_ascii_case(repair));
    formats(media).into_iter().filter(|codec| !is_repair(codec)).collect()
}

/// `96 H264/90000`
fn rtpmap(text: &str) -> Option<Codec<'_>> {
    let mut words = text.split_ascii_whitespace();
    let payload_type = words.next()?.parse().ok()?;
    let mut parts = words.next()?.split('/');
    Some(Codec { payload_type, name: parts.next()?, clock_rate: parts.next()?.parse().ok()? })
}

impl Codec<'_> {
    fn is(&self, other: &Codec<'_>) -> bool {
        self.payload_type == other.payload_type
            && self.clock_rate == other.clock_rate
            && self.name.eq_ignore_ascii_case(other.name)
    }
}

/// The first format of our offer that the answer takes, under our number.
fn check_codec<'a>(our: &Section<'a>, their: &Section<'_>) -> Result<Codec<'a>, Failure> {
    let (offered, answered) = (codecs(our), codecs(their));
    let described = |codecs: &[Codec<'_>]| {
        let each = codecs.iter().map(|codec| format!("{} as {}", plain(codec.name), codec.payload_type));
        each.collect::<Vec<_>>().join(", ")
    };
    offered.iter().find(|ours| answered.iter().any(|theirs| ours.is(theirs))).copied().ok_or_else(|| {
        let wants = if answered.is_empty() { "no codec".to_owned() } else { described(&answered) };
        let offered = described(&offered);
        unfit_answer(format!("the SDP answer takes {wants} for our {}, but we offered {offered}", our.kind))
    })
}

/// How the media get there.
struct Transport<'a> {
    setup: &'static str,
    ufrag: &'a str,
    pwd: &'a str,
    fingerprints: Vec<&'a str>,
}

/// Fingerprint, DTLS role and ICE credentials; webrtcbin < 1.28.5 accepted answers without a fingerprint (CVE-2026-14935).
fn check_transport<'a>(media: &'a Section<'a>, bundle: &Bundle<'a>) -> Result<Transport<'a>, Failure> {
    let kind = media.kind;
    let mut fingerprints = bundle.values(media, "fingerprint");
    if fingerprints.is_empty() {
        return Err(unfit_answer(format!(
            "the SDP answer has no `a=fingerprint` for {kind}, so nobody could tell who receives it"
        )));
    }
    fingerprints.retain(|fingerprint| is_strong_fingerprint(fingerprint));
    if fingerprints.is_empty() {
        return Err(unfit_answer(format!(
            "the SDP answer has no valid `a=fingerprint` for {kind} of sha-256 or better"
        )));
    }
    let Some(setup) = bundle.values(media, "setup").first().copied() else {
        return Err(unfit_answer("the SDP answer has no `a=setup`; `active` or `passive` was expected"));
    };
    let Some(setup) = ["active", "passive"].into_iter().find(|role| setup.eq_ignore_ascii_case(role)) else {
        let other = plain(setup);
        return Err(unfit_answer(format!("the SDP answer says `a=setup:{other}`; `active` or `passive` was expected")));
    };
    let credential = |name, least| {
        let credential = bundle.values(media, name).first().copied().unwrap_or_default();
        if is_ice_credential(credential, least) {
            return Ok(credential);
        }
        Err(unfit_answer(format!(
            "the SDP answer has no valid `a={name}` for {kind}; {least} ice-chars or more were expected"
        )))
    };
    let (ufrag, pwd) = (credential("ice-ufrag", ICE_UFRAG_MIN)?, credential("ice-pwd", ICE_PWD_MIN)?);
    Ok(Transport { setup, ufrag, pwd, fingerprints })
}

/// RFC 8839, section 5.4.
const ICE_UFRAG_MIN: usize = 4;
const ICE_PWD_MIN: usize = 22;
const ICE_CREDENTIAL_MAX: usize = 256;

/// Letters, digits, `+` and `/` are ice-chars; servers in the field send `-`, `_` and `=`, too.
fn is_ice_credential(text: &str, least: usize) -> bool {
    let is_ice_char = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=');
    (least..=ICE_CREDENTIAL_MAX).contains(&text.len()) && text.bytes().all(is_ice_char)
}

/// `sha-256 AB:CD:...` with the right number of bytes.
fn is_strong_fingerprint(text: &str) -> bool {
    let mut words = text.split_ascii_whitespace();
    let (Some(hash), Some(bytes), None) = (words.next(), words.next(), words.next()) else { return false };
    let expected = match hash.to_ascii_lowercase().as_str() {
        "sha-256" => 32,
        "sha-384" => 48,
        "sha-512" => 64,
        _ => return false,
    };
    let is_byte = |byte: &str| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
    let bytes: Vec<_> = bytes.split(':').collect();
    bytes.len() == expected && bytes.into_iter().all(is_byte)
}

/// A word of the server's, short and printable enough for one of our sentences.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() && *c != '`').take(32).collect()
}

/// The answer is SDP, but cut off or scrambled: worth another try.
#[must_use]
pub fn garbled_answer(words: impl Into<String>) -> Failure {
    Failure::new(Phase::Negotiate, Retry::Backoff, ErrorCode::BadAnswer, words)
}

/// The answer is sound SDP that we cannot live with: the server will say the same again, unless it is one that has given us
/// better ones and is being replaced.
#[must_use]
pub fn unfit_answer(words: impl Into<String>) -> Failure {
    Failure::new(Phase::Negotiate, Retry::IfProven { after: None }, ErrorCode::BadAnswer, words)
}

/// One local ICE candidate on its way to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCandidate {
    /// `a=mid` of its m-line.
    pub mid: String,
    /// Number of its m-line.
    pub mline: u32,
    /// The candidate attribute without the leading `a=`.
    pub candidate: String,
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
        let failure = check_answer(&offer(), answer).unwrap_err().failure;
        assert_eq!(failure.code, ErrorCode::BadAnswer, "{failure}");
        failure
    }

    #[test]
    fn a_good_answer_names_what_the_server_takes() {
        let answer = check_answer(&offer(), &good_answer()).unwrap();
        assert_eq!(answer.candidates, 1, "the same in both m-lines");
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
            ("m=audio 9 UDP/TLS/RTP/SAVPF 111", "m=audio 0 UDP/TLS/RTP/SAVPF 0", "refuses our audio (OPUS)"),
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
        for (kind, words) in [("video", "refuses our video (H264)"), ("audio", "refuses our audio (OPUS)")] {
            let zero = good_answer().replace(&format!("m={kind} 9"), &format!("m={kind} 0"));
            assert!(check_answer(&offer(), &zero).is_ok(), "another m-line of its group speaks for it");
            let refused = zero.replace(&format!(" {kind}{}", usize::from(kind == "audio")), "");
            assert!(refusal(&refused).words.contains(words), "{}", refusal(&refused));
        }
        let nothing = good_answer().replace("m=video 9", "m=video 0").replace("m=audio 9", "m=audio 0");
        assert!(refusal(&nothing).words.contains("refuses our video (H264)"));
    }

    #[test]
    fn a_refused_sound_is_told_from_a_refused_picture() {
        for (from, to, sound_alone) in [
            ("m=audio 9 UDP/TLS/RTP/SAVPF 111", "m=audio 0 UDP/TLS/RTP/SAVPF 111\r\na=inactive", true),
            ("m=video 9 UDP/TLS/RTP/SAVPF 96 97", "m=video 0 UDP/TLS/RTP/SAVPF 96 97\r\na=inactive", false),
            ("rtpmap:111 opus", "rtpmap:111 PCMU", true),
            ("rtpmap:96 H264", "rtpmap:96 H265", false),
            ("a=mid:audio1", "a=mid:audio2", true),
            ("BUNDLE video0 audio1", "BUNDLE video0", true),
            ("BUNDLE video0 audio1", "BUNDLE audio1", false),
            ("a=recvonly", "a=inactive", false),
            ("a=ice-ufrag:ours", "a=ice-ufrag:no", false),
            ("m=audio", "m=text", true),
        ] {
            let answer = good_answer().replace(from, to);
            let rejection = check_answer(&offer(), &answer).unwrap_err();
            assert_eq!(rejection.sound_alone, sound_alone, "{from} -> {to}: {rejection:?}");
            let cut = check_answer(&offer(), answer.trim_end()).unwrap_err();
            assert!(!cut.sound_alone, "cut off: {cut:?}");
        }
    }

    #[test]
    fn an_answer_that_leads_nowhere_is_judged_at_once() {
        let at = |candidates: &[&str]| {
            let lines: String = candidates.iter().map(|text| format!("a=candidate:{text}\r\n")).collect();
            let answer = good_answer().replace("a=candidate:1 1 UDP 2130706431 192.0.2.9 8189 typ host\r\n", "");
            check_answer(&offer(), &format!("{answer}{lines}")).unwrap()
        };
        let (udp, tcp) = ("1 1 udp 1 192.0.2.9 8189 typ host", "2 1 tcp 1 192.0.2.9 443 typ host tcptype passive");
        let (lo, rtcp, odd) = ("3 1 udp 1 127.0.0.1 8189 typ host", "4 2 udp 1 192.0.2.9 8190 typ host", "5 1 quic");
        for (candidates, loopback, words) in [
            (&[udp][..], false, None),
            (&[tcp, odd, lo, udp], false, None),
            (&["6 1 udp 1 server.example 8189 typ host"], false, None),
            (&[lo], true, None),
            (&[tcp], true, Some(("the server offers TCP only", Retry::IfProven { after: None }))),
            (&[tcp, rtcp, odd], false, Some(("the server offers TCP only", Retry::IfProven { after: None }))),
            (&[lo], false, Some(("loopback addresses only", Retry::IfProven { after: None }))),
            (&[rtcp], false, Some(("no usable `a=candidate`", Retry::Backoff))),
            (&[odd], false, Some(("no usable `a=candidate`", Retry::Backoff))),
            (&[], false, Some(("no usable `a=candidate`", Retry::Backoff))),
        ] {
            let judged = at(candidates).check_reach(loopback, true);
            match (&judged, words) {
                (Ok(()), None) => {}
                (Err(failure), Some((words, retry))) => {
                    assert!(failure.words.contains(words) && failure.retry == retry, "{candidates:?}: {failure}");
                }
                other => panic!("{candidates:?}: {other:?}"),
            }
            assert_eq!(at(candidates).check_reach(loopback, false), Ok(()), "others may follow");
        }
        assert_eq!(at(&[odd, odd]).left_out, ["its transport is not `udp` or `tcp`"]);
    }

    #[test]
    fn more_candidates_than_anybody_needs_are_left_out() {
        let flood: String =
            (1..=200).map(|port| format!("a=candidate:1 1 UDP 1 192.0.2.7 {port} typ host\r\n")).collect();
        let answer = check_answer(&offer(), &format!("{}{flood}", good_answer())).unwrap();
        assert_eq!((answer.candidates, answer.left_out.len()), (CANDIDATES_MAX, 1));
        assert_eq!(answer.normalised.matches("a=candidate:").count(), CANDIDATES_MAX);
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
            if let Err(Rejection { failure, .. }) = check_answer(&offer(), &answer) {
                assert_eq!(failure.retry, Retry::Backoff, "{failure} at {}", answer.len());
            }
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
        if let Err(Rejection { failure, .. }) = check_answer(&offer(), answer) {
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
