//! Everything in roamcast that reads words from outside, as functions of any bytes. The fuzz targets run them, and
//! `tests/pure/corpus.rs` does with every file of `corpus/`.
//!
//! A parser must come back, soon, and without a panic. What it says of bad input must be fit for one line of a log.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use roamcast::config::units::{IceServer, Secret};
use roamcast::config::{self, Uplink};
use roamcast::ice;
use roamcast::ingest::rehearsal::offers as ingest_offers;
use roamcast::ingest::sdp::{self as ingest_sdp, Fragment};
use roamcast::media::pipeline::template::{LaunchFile, Part, Values};
use roamcast::rtp::rtcp;
use roamcast::sdp;
use roamcast::sdp::LocalCandidate;
use roamcast::signal::janus::text as janus_text;
use roamcast::signal::roamcast::text as roamcast_text;
use roamcast::signal::roamcast::text::{Message, ToClient, ToServer};
use roamcast::signal::transport::headers;
use roamcast::signal::whip::text as whip_text;
use roamcast::signal::{origin, state, token};
use roamcast::uplink::ice_server;
use url::Url;

/// Takes any bytes; panics when something is found.
pub type Parser = fn(&[u8]);

/// Name of the target, of its folder in `corpus/`, and what it runs.
pub const PARSERS: &[(&str, Parser)] = &[
    ("config", config),
    ("datagram", datagram),
    ("ice_server", ice_server),
    ("ingest_sdp", ingest_sdp),
    ("janus_text", janus_text),
    ("launch_file", launch_file),
    ("roamcast_text", roamcast_text),
    ("rtcp", rtcp),
    ("sdp_answer", sdp_answer),
    ("settings", settings),
    ("state_file", state_file),
    ("token_text", token_text),
    ("whip_text", whip_text),
];

/// What webrtcbin offers.
const OFFER: &str = include_str!("../../tests/support/offer.sdp");
/// Long enough that no parser says it by itself.
const SECRET: &str = "s3cret-of-the-fuzzer";

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// One line, and not a long one: `most` bytes.
#[track_caller]
fn fit_for_the_log(words: &str, most: usize) {
    assert!(words.len() <= most, "{} bytes: {words:.200}", words.len());
    assert!(!words.contains(char::is_control), "{words:?}");
}

/// A config file, whole.
pub fn config(data: &[u8]) {
    match config::load(&text(data), "config.toml", std::iter::empty()) {
        Ok(config) => assert!(!format!("{config:?}").is_empty()),
        // As `check` shows it: with the line, and a mark under the place.
        Err(complaints) => assert!(!complaints.to_string().is_empty()),
    }
}

/// Lines `KEY=VALUE`: `roamcast set`, and the same keys in the environment.
pub fn settings(data: &[u8]) {
    const PRESENT: &str = "[uplink]\nurl = \"https://h.example/whip\"\n";
    let text = text(data);
    let pairs = || text.lines().take(20).filter_map(|line| line.split_once('='));
    let set: BTreeMap<String, String> = pairs().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let before =
        config::load_with(PRESENT, "", std::iter::empty(), &BTreeMap::new(), |_| false).expect("a good config");
    match config::load_with(PRESENT, "", std::iter::empty(), &set, |_| false) {
        Ok(after) => assert!(config::changed_keys(&before.file, &after.file).len() <= set.len()),
        Err(complaints) => complaints.iter().for_each(|one| assert!(!one.words.is_empty())),
    }
    let variable = |key: &str| format!("{}{}", config::ENV_PREFIX, key.replace('.', "__").to_uppercase());
    let env: Vec<(String, String)> = pairs().map(|(key, value)| (variable(key), value.to_owned())).collect();
    if let Err(complaints) = config::load(PRESENT, "", env.into_iter()) {
        assert!(!complaints.to_string().is_empty());
    }
}

/// A pipeline file: its head, and its placeholders.
pub fn launch_file(data: &[u8]) {
    let text = text(data);
    let config = config::load("", "", std::iter::empty()).expect("the defaults are good");
    let values = Values::new(&config.video, config.audio.as_ref(), Some("file:///a \"b\\c'"));
    for part in [Part::Video, Part::Audio, Part::Encoder] {
        let Ok(file) = LaunchFile::parse(part, "x", &text) else { continue };
        let _any = (file.rank(), file.codec(), file.bitrate_control(), file.is_media_file(), file.fill(&values));
    }
}

/// Headers and bodies of a WHIP server: the first line is a `Location`, a `Retry-After` and a media type, the rest a
/// `Link` header, a body, an offer to make a trickle fragment of.
pub fn whip_text(data: &[u8]) {
    let text = text(data);
    let (line, rest) = text.split_once('\n').unwrap_or((&text, &text));
    let base: Url = "https://h.example/whip?key=1".parse().expect("an address");
    if let Some(url) = headers::location(&base, line) {
        assert!(matches!(url.scheme(), "http" | "https") && url.password().is_none(), "{url}");
        fit_for_the_log(&origin::shown(&url), 8 * 1024);
        let _any = origin::may_carry_token(&base, &[], &base, &url);
    }
    if let Some(wait) = headers::retry_after(line, SystemTime::UNIX_EPOCH) {
        assert!((Duration::from_secs(1)..=Duration::from_secs(600)).contains(&wait), "{wait:?}");
    }
    let _any = (headers::body_kind(line, rest.as_bytes()), whip_text::retry_slot(line));
    let echoed = format!("{rest}{SECRET}");
    for kind in [line, "text/plain"] {
        if let Some(said) = headers::excerpt(kind, echoed.as_bytes(), &[SECRET]) {
            fit_for_the_log(&said, 160 * 4);
            assert!(!said.contains(SECRET), "{said}");
        }
    }
    for near in [false, true] {
        let (servers, left_out) = whip_text::ice_servers(rest.lines(), near);
        assert!(servers.len() <= origin::ICE_SERVERS_MAX);
        for server in &servers {
            assert!(!ice_server::for_webrtcbin(server).is_empty(), "{server:?}");
        }
        left_out.iter().for_each(|why| fit_for_the_log(why, 4 * 1024));
    }
    let candidate = LocalCandidate { mid: String::new(), mline: 0, candidate: line.to_owned() };
    let frag = whip_text::sdpfrag(rest, &[candidate], true);
    assert!(frag.split("\r\n").all(|line| !line.contains(char::is_control)), "{frag:?}");
}

/// One message of a Janus server.
pub fn janus_text(data: &[u8]) {
    use janus_text::{Room, Said};
    match janus_text::read(&text(data)) {
        Err(why) => fit_for_the_log(why, 100),
        Ok(message) => match message.said {
            Said::Error(error) => fit_for_the_log(&error.reason, 160 * 4),
            Said::Hangup(words) | Said::Unknown(words) | Said::Plugin(Room::Joined(words), _) => {
                fit_for_the_log(&words, 160 * 4);
            }
            Said::Candidate { candidate, .. } => {
                let _any = sdp::check_candidate(&candidate);
            }
            _ => {}
        },
    }
}

/// One message of either side of roamcast signalling.
pub fn roamcast_text(data: &[u8]) {
    let text = text(data);
    if let Some(ToClient::Welcome { ice_servers, .. } | ToClient::IceServers { ice_servers }) =
        both_ways::<ToClient>(&text)
    {
        for near in [false, true] {
            let (_, left_out) = roamcast_text::usable(ice_servers.clone(), near);
            left_out.iter().for_each(|why| fit_for_the_log(why, 4 * 1024));
        }
    }
    both_ways::<ToServer>(&text);
}

/// What was read is written, and reads the same.
fn both_ways<M: Message + PartialEq + std::fmt::Debug>(text: &str) -> Option<M> {
    match roamcast_text::parse::<M>(text) {
        Err(why) => {
            fit_for_the_log(&why.to_string(), 400);
            None
        }
        Ok(message) => {
            let again = roamcast_text::format(&message);
            // Fractions of `stats` may differ in the last bit.
            if !again.starts_with(r#"{"type":"stats""#) {
                assert_eq!(roamcast_text::parse::<M>(&again).as_ref(), Ok(&message), "{again}");
            }
            Some(message)
        }
    }
}

/// An SDP answer to our offer; candidates; an SDP to be edited.
pub fn sdp_answer(data: &[u8]) {
    let text = text(data);
    match sdp::check_answer(OFFER, &text) {
        Err(rejection) => fit_for_the_log(&rejection.failure.words, 1024),
        // What is said to webrtcbin is an answer, too, and says the same.
        Ok(answer) => {
            let again = sdp::check_answer(OFFER, &answer.normalised).expect("a normalised answer is accepted");
            assert_eq!((again.media, &again.normalised), (answer.media, &answer.normalised));
        }
    }
    for line in text.lines().take(200) {
        let candidates = [LocalCandidate { mid: String::new(), mline: 0, candidate: line.to_owned() }];
        if sdp::check_candidate(line).is_ok() {
            let edited = sdp::with_candidates(OFFER, &candidates);
            assert!(!edited.contains(SECRET) || line.contains(SECRET));
        }
    }
    let shown = sdp::redact(&text);
    assert_eq!(shown.lines().count(), text.lines().count());
    let is_open = |line: &str| line.starts_with("a=ice-pwd:") && line != "a=ice-pwd:***";
    assert!(!shown.split(['\r', '\n']).any(is_open), "{shown}");
    let _any = (sdp::decode(data), sdp::without_bundle_only(&text));
    let _any = (sdp::ice_credentials(&text), sdp::rewrite_fingerprint(&text, "sha-256 AB"));
}

/// Addresses of ICE servers, one a line, with a user name and a password before them: what passes the door is taken.
pub fn ice_server(data: &[u8]) {
    let text = text(data);
    let mut lines = text.lines();
    let (username, password) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    for url in lines.take(20) {
        let credential = Some(Secret::new(password.to_owned()));
        let server = IceServer { urls: vec![url.to_owned()], username: Some(username.to_owned()), credential };
        let urls = ice_server::for_webrtcbin(&server);
        for near in [false, true] {
            match origin::check_ice_url(url, near) {
                Ok(()) => assert_eq!(urls.len(), 1, "{url}"),
                Err(why) => fit_for_the_log(&why, 4 * 1024),
            }
        }
        for one in urls {
            let ice_server::ServerUrl::Turn(one) = one else { continue };
            // webrtcbin splits there.
            let userinfo = one.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(info, _)| info);
            assert_eq!(userinfo.map(|info| info.matches(':').count()), Some(1), "{one}");
        }
    }
}

/// The state file of the process before.
pub fn state_file(data: &[u8]) {
    let config = "[uplink]\nurl = \"https://h.example/whip\"\n";
    let uplink: Uplink = config::load(config, "", std::iter::empty()).expect("a good config").uplink;
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    if let Err(why) = state::understood(data, &uplink, now) {
        fit_for_the_log(&why, 200);
    }
}

/// What a provider of tokens says: a file, an answer, the words of a failure.
pub fn token_text(data: &[u8]) {
    use token::text;
    for given in [text::answer(data, "it"), text::plain(&self::text(data), "it")] {
        match given {
            Ok(given) => assert!(given.token.expose().bytes().all(|byte| byte.is_ascii_graphic())),
            Err(failure) => fit_for_the_log(&failure.words, 400),
        }
    }
    let echoed = [data, SECRET.as_bytes()].concat();
    if let Some(said) = text::excerpt(&echoed, &[SECRET]) {
        fit_for_the_log(&said, 160 * 4);
        assert!(!said.contains(SECRET), "{said}");
    }
}

/// What a publisher or a viewer sends to the embedded ingest: fragments, offers; and what str0m makes of them. A line `--`
/// ends the first offer, and what follows it is offered again, as an ICE restart. str0m's panics are caught: what is found
/// here got past that.
pub fn ingest_sdp(data: &[u8]) {
    let text = text(data);
    match Fragment::parse(&text) {
        Err(why) => fit_for_the_log(&why.to_string(), 200),
        Ok(fragment) => {
            assert!(fragment.candidates.len() <= ingest_sdp::CANDIDATES_MAX);
            let again = Fragment::parse(&fragment.to_text("0")).expect("what was written is read");
            assert_eq!(again, fragment);
            let _any = ingest_sdp::restarted_offer(OFFER, &fragment);
        }
    }
    let whole = Fragment::of_description(&text);
    let restarted = ingest_sdp::restarted_offer(&text, &whole);
    assert!(ingest_sdp::mids(&restarted).count() <= text.len());
    assert_eq!(ingest_sdp::in_one_stream(&text).lines().count(), text.lines().count());
    let (first, again) = text.split_once("\n--\n").unwrap_or((&text, &restarted));
    for outcome in ingest_offers(first, again) {
        outcome.refused.iter().for_each(|words| fit_for_the_log(words, 200));
    }
}

/// A compound packet of RTCP, decrypted.
pub fn rtcp(data: &[u8]) {
    let feedback = rtcp::read(data);
    assert!(feedback.reports.len() <= data.len() / 24);
}

/// What arrives on the UDP sockets of the agent, and on its connections to TURN servers.
pub fn datagram(data: &[u8]) {
    let lent = ice::fuzz::arrives(data);
    assert!(lent <= 2, "{lent} addresses of one lease");
}
