//! Pure: may str0m see this SDP offer?
//!
//! str0m takes some offers that contradict themselves for a fault of its own and panics, and its errors quote its parser. So
//! the offer is judged here first: its form, its sizes, and what a BUNDLE has to agree on (RFC 9143, section 9.2: a payload
//! type means the same codec with the same parameters wherever it appears).

use std::collections::{BTreeMap, BTreeSet};

/// An offer of a browser has 8 KiB, with a dozen sections 40.
pub const BYTES_MAX: usize = 64 * 1024;
/// A publisher has two, a conference a few more.
pub const SECTIONS_MAX: usize = 32;
/// More candidates than any honest client has.
const CANDIDATES_MAX: usize = super::sdp::CANDIDATES_MAX;
/// Sources of media, retransmissions and simulcast layers included; each costs state.
const SOURCES_MAX: usize = 64;
/// str0m tells sections apart by this much of their `mid`, and takes `_` for whatever is neither letter nor digit.
const MID_CHARS: usize = 16;
/// RTP has seven bits for it.
const PAYLOAD_TYPE_MAX: u8 = 127;

/// What is wrong with an offer. Lines count from 1; nothing of the offer is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// More than [`BYTES_MAX`].
    #[error("it has more than {} KiB", BYTES_MAX / 1024)]
    Long,
    /// Not `v=0` at its beginning.
    #[error("it does not begin with `v=0`")]
    NotSdp,
    /// A line that is none of SDP.
    #[error("line {0} is not of the form `x=value`")]
    NotALine(usize),
    /// An `m=` line without kind, port, protocol or formats.
    #[error("line {0} is not of the form `m=kind port protocol formats`")]
    MediaLine(usize),
    /// No media.
    #[error("it has no media section")]
    NoSections,
    /// More than [`SECTIONS_MAX`].
    #[error("it has more than {SECTIONS_MAX} media sections")]
    ManySections,
    /// Too many candidates.
    #[error("it has more than {CANDIDATES_MAX} candidates")]
    ManyCandidates,
    /// Too many sources.
    #[error("it has more than {SOURCES_MAX} media sources (`a=ssrc`, `a=rid`)")]
    ManySources,
    /// A source in two sections.
    #[error("line {0} gives a media source (`a=ssrc`) to a second media section")]
    SharedSource(usize),
    /// A section without a name.
    #[error("the media section at line {0} has no `a=mid`")]
    NoMid(usize),
    /// Two sections that cannot be told apart.
    #[error("the media section at line {0} has the `a=mid` of another one (or the same first {MID_CHARS} characters)")]
    SameMid(usize),
    /// Not all media in one BUNDLE.
    #[error("`a=group:BUNDLE` must name the media sections in their order")]
    Bundle,
    /// Nothing to check the other end by.
    #[error("it has no `a=fingerprint`")]
    NoFingerprint,
    /// Nothing to reach the other end by.
    #[error("it has no `a=ice-ufrag` and `a=ice-pwd`")]
    NoCredentials,
    /// A payload type that RTP has no room for, or none at all.
    #[error("line {0} has no payload type from 0 to {PAYLOAD_TYPE_MAX}")]
    PayloadType(usize),
    /// A payload type that means two things.
    #[error("line {0} gives a payload type another meaning than it has elsewhere in the offer")]
    TwoMeanings(usize),
}

/// One media section, as far as it matters.
#[derive(Debug, Default)]
struct Section<'a> {
    line: usize,
    kind: &'a str,
    mid: Option<&'a str>,
    maps: BTreeMap<u8, Meaning>,
}

/// What a payload type means in one section.
#[derive(Debug, Default)]
struct Meaning {
    /// Of its newest attribute.
    line: usize,
    codec: Option<String>,
    parameters: Option<BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct Offer<'a> {
    sections: Vec<Section<'a>>,
    bundle: Option<&'a str>,
    fingerprint: bool,
    ufrag: bool,
    pwd: bool,
}

/// Judges an offer.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(offer: &str) -> Result<(), Unfit> {
    let read = read(offer)?;
    let mut mids = BTreeSet::new();
    for section in &read.sections {
        let mid = section.mid.ok_or(Unfit::NoMid(section.line))?;
        if !mids.insert(as_str0m_sees(mid)) {
            return Err(Unfit::SameMid(section.line));
        }
    }
    // Sections that are rejected may be left out; that the others come in their order is for str0m to see.
    let is_there = |mid| read.sections.iter().any(|section| section.mid == Some(mid));
    if !read.bundle.is_some_and(|named| named.split_ascii_whitespace().all(is_there)) {
        return Err(Unfit::Bundle);
    }
    if !read.fingerprint {
        return Err(Unfit::NoFingerprint);
    }
    if !(read.ufrag && read.pwd) {
        return Err(Unfit::NoCredentials);
    }
    agreed(&read.sections)
}

/// Is `again` for the same media as `before`: the same sections of the same kinds in the same order, and no payload type
/// that means something else?
pub fn is_same_media(before: &str, again: &str) -> bool {
    let (Ok(before), Ok(again)) = (read(before), read(again)) else { return false };
    let shape = |offer: &Offer<'_>| -> Vec<_> {
        offer.sections.iter().map(|section| (section.kind.to_owned(), section.mid.map(str::to_owned))).collect()
    };
    let same = shape(&before) == shape(&again);
    let all: Vec<_> = before.sections.into_iter().chain(again.sections).collect();
    same && agreed(&all).is_ok()
}

/// A payload type means the same everywhere.
fn agreed(sections: &[Section<'_>]) -> Result<(), Unfit> {
    let mut agreed: BTreeMap<u8, &Meaning> = BTreeMap::new();
    for (payload_type, meaning) in sections.iter().flat_map(|section| &section.maps) {
        let other = agreed.entry(*payload_type).or_insert(meaning);
        if (&other.codec, &other.parameters) != (&meaning.codec, &meaning.parameters) {
            return Err(Unfit::TwoMeanings(meaning.line));
        }
    }
    Ok(())
}

fn read(text: &str) -> Result<Offer<'_>, Unfit> {
    if text.len() > BYTES_MAX {
        return Err(Unfit::Long);
    }
    if text.lines().next().map(str::trim_end) != Some("v=0") {
        return Err(Unfit::NotSdp);
    }
    let mut offer = Offer::default();
    let (mut candidates, mut sources) = (BTreeSet::new(), BTreeMap::new());
    for (number, line) in (1..).zip(text.lines().map(str::trim_end)) {
        let (kind, value) = split(line).ok_or(Unfit::NotALine(number))?;
        match kind {
            'm' => offer.sections.push(media_line(value, number)?),
            'a' => attribute(&mut offer, value, number, &mut candidates, &mut sources)?,
            _ => {}
        }
        match () {
            () if offer.sections.len() > SECTIONS_MAX => return Err(Unfit::ManySections),
            () if candidates.len() > CANDIDATES_MAX => return Err(Unfit::ManyCandidates),
            () if sources.len() > SOURCES_MAX => return Err(Unfit::ManySources),
            () => {}
        }
    }
    if offer.sections.is_empty() { Err(Unfit::NoSections) } else { Ok(offer) }
}

fn split(line: &str) -> Option<(char, &str)> {
    let (kind, value) = line.split_once('=')?;
    let kind = kind.parse::<char>().ok()?;
    kind.is_ascii_lowercase().then_some((kind, value))
}

fn media_line(value: &str, line: usize) -> Result<Section<'_>, Unfit> {
    let mut words = value.split(' ');
    let (kind, port) = words.next().zip(words.next()).ok_or(Unfit::MediaLine(line))?;
    let protocol = words.next().unwrap_or_default();
    let formats: Vec<_> = words.collect();
    let is_port = port.split('/').all(|number| number.parse::<u16>().is_ok());
    if kind.is_empty() || !is_port || protocol.is_empty() || formats.is_empty() {
        return Err(Unfit::MediaLine(line));
    }
    if matches!(kind, "audio" | "video") {
        formats.iter().try_for_each(|format| payload_type(format, line).map(drop))?;
    }
    Ok(Section { line, kind, ..Section::default() })
}

/// Sources by their SSRC, or by a `rid` and its section; with the section that has it.
type Sources<'a> = BTreeMap<(Option<usize>, &'a str), usize>;

fn attribute<'a>(
    offer: &mut Offer<'a>,
    value: &'a str,
    line: usize,
    candidates: &mut BTreeSet<&'a str>,
    sources: &mut Sources<'a>,
) -> Result<(), Unfit> {
    let (name, value) = value.split_once(':').unwrap_or((value, ""));
    let section = offer.sections.len();
    match name {
        "fingerprint" => offer.fingerprint = true,
        "ice-ufrag" => offer.ufrag = true,
        "ice-pwd" => offer.pwd = true,
        "group" if section == 0 => offer.bundle = offer.bundle.or_else(|| value.strip_prefix("BUNDLE ")),
        "candidate" => drop(candidates.insert(value)),
        "ssrc" => {
            let ssrc = value.split(' ').next().unwrap_or_default();
            if *sources.entry((None, ssrc)).or_insert(section) != section {
                return Err(Unfit::SharedSource(line));
            }
        }
        "rid" => drop(sources.insert((Some(section), value), section)),
        "mid" => {
            if let Some(section) = offer.sections.last_mut() {
                section.mid.get_or_insert(value);
            }
        }
        "rtpmap" | "fmtp" => {
            let (number, value) = value.split_once(' ').unwrap_or((value, ""));
            let number = payload_type(number, line)?;
            if let Some(section) = offer.sections.last_mut() {
                meaning(section.maps.entry(number).or_default(), name, value, line)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// An attribute may come twice only if it says the same.
fn meaning(meaning: &mut Meaning, name: &str, value: &str, line: usize) -> Result<(), Unfit> {
    meaning.line = line;
    let same = if name == "rtpmap" {
        let codec = value.trim().to_ascii_lowercase();
        *meaning.codec.get_or_insert_with(|| codec.clone()) == codec
    } else {
        let parameters = parameters(value);
        let retransmits = parameters.iter().filter(|parameter| parameter.starts_with("apt=")).count();
        retransmits <= 1 && *meaning.parameters.get_or_insert_with(|| parameters.clone()) == parameters
    };
    if same { Ok(()) } else { Err(Unfit::TwoMeanings(line)) }
}

/// Without `sprop-...`: these tell of the stream of one section (RFC 6184, section 8.2.2), not of what the payload type means.
fn parameters(value: &str) -> BTreeSet<String> {
    let all = value.split(';').map(|parameter| parameter.trim().to_ascii_lowercase());
    all.filter(|parameter| !parameter.is_empty() && !parameter.starts_with("sprop-")).collect()
}

fn payload_type(text: &str, line: usize) -> Result<u8, Unfit> {
    text.parse().ok().filter(|number| *number <= PAYLOAD_TYPE_MAX).ok_or(Unfit::PayloadType(line))
}

fn as_str0m_sees(mid: &str) -> String {
    mid.chars().take(MID_CHARS).map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests;
