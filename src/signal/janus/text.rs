//! Pure: the JSON of the Janus API (core and VideoRoom plugin): requests written, messages read.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::failures::JanusError;
use crate::config::JanusRoom;
use crate::config::units::Secret;

use crate::sdp::LocalCandidate;
use crate::signal::whip::text::CANDIDATES_MAX;

/// Words of the server that we show: this much fits into one sentence.
const SHOWN_CHARS_MAX: usize = 160;

/// Who speaks to whom; in the envelope of each request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Envelope<'a> {
    /// Comes back in the answer.
    pub transaction: &'a str,
    /// None for `create` alone.
    pub session: Option<u64>,
    /// For what goes to the plugin. Janus does not carry out `keepalive`, `claim` and `destroy` that have one.
    pub handle: Option<u64>,
    /// `uplink.apiSecret`
    pub api_secret: Option<&'a Secret>,
    /// For servers with `token_auth`.
    pub token: Option<&'a Secret>,
}

/// One request as text; `verb` is its `janus`.
#[must_use]
pub fn request(verb: &str, envelope: &Envelope<'_>, content: Map<String, Value>) -> String {
    let mut request = content;
    request.insert("janus".into(), verb.into());
    request.insert("transaction".into(), envelope.transaction.into());
    let ids = [("session_id", envelope.session), ("handle_id", envelope.handle)];
    for (name, id) in ids.into_iter().filter_map(|(name, id)| Some((name, id?))) {
        request.insert(name.into(), id.into());
    }
    let secrets = [("apisecret", envelope.api_secret), ("token", envelope.token)];
    for (name, secret) in secrets.into_iter().filter_map(|(name, secret)| Some((name, secret?))) {
        request.insert(name.into(), secret.expose().into());
    }
    Value::Object(request).to_string()
}

/// Content of an `attach` to the VideoRoom plugin.
#[must_use]
pub fn attach() -> Map<String, Value> {
    fields([("plugin", "janus.plugin.videoroom".into()), ("opaque_id", "roamcast".into())])
}

/// Content of a `message`: joins the room as a publisher with this offer. A token counts for the room, too.
#[must_use]
pub fn join_and_configure(room: &JanusRoom, token: Option<&Secret>, offer: &str) -> Map<String, Value> {
    let mut body = fields([
        ("request", "joinandconfigure".into()),
        ("ptype", "publisher".into()),
        ("room", room.room.into()),
        ("display", room.display.as_str().into()),
    ]);
    let secrets = [("pin", room.pin.as_ref()), ("token", token)];
    for (name, secret) in secrets.into_iter().filter_map(|(name, secret)| Some((name, secret?))) {
        body.insert(name.into(), secret.expose().into());
    }
    with_offer(body, offer)
}

/// Content of a `message`: another offer for the publisher that we are (ICE restart).
#[must_use]
pub fn configure(offer: &str) -> Map<String, Value> {
    with_offer(fields([("request", "configure".into())]), offer)
}

fn with_offer(body: Map<String, Value>, offer: &str) -> Map<String, Value> {
    let jsep = json!({ "type": "offer", "trickle": true, "sdp": offer });
    fields([("body", body.into()), ("jsep", jsep)])
}

/// Content of a `message`: asks whether the room is there.
#[must_use]
pub fn room_exists(room: &JanusRoom) -> Map<String, Value> {
    fields([("body", json!({ "request": "exists", "room": room.room }))])
}

/// Content of a `message`: makes the room, for the codecs of this offer, until Janus ends. Nothing is said about the
/// number of publishers: the default of 3 leaves room for the old and the new session of a reconnect.
#[must_use]
pub fn create_room(room: &JanusRoom, offer: &str) -> Map<String, Value> {
    let mut body = fields([("request", "create".into()), ("room", room.room.into()), ("permanent", false.into())]);
    for (name, kind) in [("audiocodec", "audio"), ("videocodec", "video")] {
        if let Some(codec) = offered_codec(offer, kind) {
            body.insert(name.into(), codec.into());
        }
    }
    if let Some(pin) = &room.pin {
        body.insert("pin".into(), pin.expose().into());
    }
    fields([("body", body.into())])
}

/// Content of a `message`: asks for all public rooms.
#[must_use]
pub fn list_rooms() -> Map<String, Value> {
    fields([("body", json!({ "request": "list" }))])
}

/// Content of a `trickle`.
#[must_use]
pub fn trickle(parts: &[LocalCandidate], end_of_candidates: bool) -> Map<String, Value> {
    let candidate = |part: &LocalCandidate| {
        let text = part.candidate.trim();
        let text = text.strip_prefix("a=").unwrap_or(text);
        json!({ "sdpMid": part.mid, "sdpMLineIndex": part.mline, "candidate": text })
    };
    let mut candidates: Vec<Value> = parts.iter().take(CANDIDATES_MAX).map(candidate).collect();
    if end_of_candidates {
        candidates.push(json!({ "completed": true }));
    }
    fields([("candidates", candidates.into())])
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The codec that an offer names first for `audio` or `video`, as Janus writes it.
fn offered_codec(offer: &str, kind: &str) -> Option<String> {
    let section = offer.split("\nm=").skip(1).find(|section| section.starts_with(kind))?;
    let first = section.lines().next()?.split_ascii_whitespace().nth(3)?;
    let map =
        section.lines().find_map(|line| line.strip_prefix("a=rtpmap:")?.strip_prefix(first)?.strip_prefix(' '))?;
    let name = map.split('/').next().unwrap_or_default().trim();
    Some(name.to_ascii_lowercase())
}

/// One message of the server.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Of the request that it answers.
    pub transaction: Option<String>,
    /// The session that it is about.
    pub session: Option<u64>,
    /// What it says.
    pub said: Said,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// It is done; with the number of what was made, if something was.
    Success(Option<u64>),
    /// It was heard; if there is more to say, that comes later.
    Ack,
    /// It was refused, by the core or by the plugin.
    Error(JanusError),
    /// The plugin says something, perhaps with an SDP answer.
    Plugin(Room, Option<String>),
    /// ICE and DTLS are up.
    WebRtcUp,
    /// Media of this m-line come in, or have stopped to.
    Media {
        /// `a=mid`
        mid: String,
        /// Do they come in?
        receiving: bool,
    },
    /// Many packets get lost.
    SlowLink {
        /// Since it was last said.
        lost: u64,
    },
    /// The peer connection is down; says why.
    Hangup(String),
    /// The session has expired.
    Timeout,
    /// The handle is gone.
    Detached,
    /// A candidate of the server.
    Candidate {
        /// Number of its m-line.
        mline: u32,
        /// The attribute without `a=`.
        candidate: String,
    },
    /// Something that we do not know; its name.
    Unknown(String),
}

/// What the VideoRoom plugin says.
#[derive(Debug, Clone, PartialEq)]
pub enum Room {
    /// We are in, as the publisher of this number or name.
    Joined(String),
    /// A `configure` is done.
    Configured,
    /// Whether the room is there.
    Exists(bool),
    /// The room is made.
    Created,
    /// The public rooms.
    List(Vec<RoomCodecs>),
    /// An administrator threw us out.
    Kicked,
    /// The room is gone.
    Destroyed,
    /// Something that does not concern us (other publishers come and go), or that we do not know.
    Other,
}

/// What a room takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomCodecs {
    /// Number of the room, or its name.
    pub room: String,
    /// Such as `opus,pcmu`.
    pub audio: String,
    /// Such as `vp8`.
    pub video: String,
}

#[derive(Deserialize)]
struct Raw {
    janus: String,
    transaction: Option<String>,
    session_id: Option<u64>,
    data: Option<RawData>,
    plugindata: Option<RawPlugin>,
    jsep: Option<RawJsep>,
    error: Option<RawError>,
    candidate: Option<RawCandidate>,
    mid: Option<String>,
    receiving: Option<bool>,
    lost: Option<u64>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct RawData {
    id: Option<u64>,
}

#[derive(Deserialize)]
struct RawPlugin {
    #[serde(default)]
    data: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawJsep {
    #[serde(rename = "type")]
    kind: String,
    sdp: String,
}

#[derive(Deserialize)]
struct RawError {
    code: u32,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct RawCandidate {
    #[serde(rename = "sdpMLineIndex")]
    mline: Option<u32>,
    candidate: Option<String>,
}

/// Reads one message.
///
/// # Errors
/// Half a sentence that says what is wrong, and quotes nothing of it.
pub fn read(text: &str) -> Result<Message, &'static str> {
    let raw: Raw = serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => "it is no message of Janus",
        serde_json::error::Category::Eof => "it is cut off",
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "it is no JSON",
    })?;
    let (transaction, session) = (raw.transaction.clone(), raw.session_id);
    Ok(Message { transaction, session, said: said(raw)? })
}

fn said(raw: Raw) -> Result<Said, &'static str> {
    let answer = raw.jsep.filter(|jsep| jsep.kind == "answer").map(|jsep| jsep.sdp);
    Ok(match raw.janus.as_str() {
        "success" => match raw.plugindata {
            Some(plugindata) => plugin(&plugindata.data, answer),
            None => Said::Success(raw.data.and_then(|data| data.id)),
        },
        "event" => plugin(&raw.plugindata.ok_or("it is an `event` without `plugindata`")?.data, answer),
        "ack" => Said::Ack,
        "error" => {
            let error = raw.error.ok_or("it is an error without `error`")?;
            Said::Error(JanusError { code: error.code, reason: shown(&error.reason) })
        }
        "webrtcup" => Said::WebRtcUp,
        "media" => Said::Media {
            mid: shown(&raw.mid.unwrap_or_default()),
            receiving: raw.receiving.ok_or("it is a `media` without `receiving`")?,
        },
        "slowlink" => Said::SlowLink { lost: raw.lost.unwrap_or_default() },
        "hangup" => Said::Hangup(shown(&raw.reason.unwrap_or_default())),
        "timeout" => Said::Timeout,
        "detached" => Said::Detached,
        "trickle" => match raw.candidate {
            Some(RawCandidate { mline, candidate: Some(candidate) }) => {
                Said::Candidate { mline: mline.unwrap_or_default(), candidate }
            }
            // The end of the candidates; nobody waits for it.
            Some(RawCandidate { candidate: None, .. }) => Said::Ack,
            None => return Err("it is a `trickle` without `candidate`"),
        },
        other => Said::Unknown(shown(other)),
    })
}

fn plugin(data: &Map<String, Value>, answer: Option<String>) -> Said {
    let text = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default();
    if let Some(code) = data.get("error_code").and_then(Value::as_u64) {
        let code = u32::try_from(code).unwrap_or(u32::MAX);
        return Said::Error(JanusError { code, reason: shown(text("error")) });
    }
    let room = match text("videoroom") {
        "joined" => Room::Joined(number_or_name(data.get("id"))),
        "created" => Room::Created,
        "destroyed" => Room::Destroyed,
        "event" if text("leaving") == "ok" && text("reason") == "kicked" => Room::Kicked,
        "event" if text("configured") == "ok" => Room::Configured,
        "success" => match (data.get("list"), data.get("exists")) {
            (Some(Value::Array(list)), _) => Room::List(list.iter().map(room_codecs).collect()),
            (_, Some(Value::Bool(exists))) => Room::Exists(*exists),
            _ => Room::Other,
        },
        _ => Room::Other,
    };
    Said::Plugin(room, answer)
}

fn room_codecs(room: &Value) -> RoomCodecs {
    let text = |name: &str| shown(room.get(name).and_then(Value::as_str).unwrap_or_default());
    RoomCodecs { room: number_or_name(room.get("room")), audio: text("audiocodec"), video: text("videocodec") }
}

/// Rooms and publishers have numbers, or names where the server has `string_ids`.
fn number_or_name(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(name)) => shown(name),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => String::new(),
    }
}

/// One short line.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OFFER: &str = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 97 96\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 H264/90000\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 OPUS/48000/2\r\n";

    fn room() -> JanusRoom {
        let pin = Some(Secret::new("1234".into()));
        JanusRoom { room: 7, create: true, pin, api_secret: None, display: "van".into() }
    }

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_request_carries_its_envelope_and_nothing_that_was_not_asked_for() {
        let secret = Secret::new("hush".into());
        let envelope =
            Envelope { transaction: "t1", session: Some(5), api_secret: Some(&secret), ..Envelope::default() };
        assert_eq!(
            value(&request("keepalive", &envelope, Map::new())),
            json!({ "janus": "keepalive", "transaction": "t1", "session_id": 5, "apisecret": "hush" })
        );
        let envelope = Envelope { transaction: "t2", ..Envelope::default() };
        assert_eq!(value(&request("create", &envelope, Map::new())), json!({ "janus": "create", "transaction": "t2" }));
    }

    #[test]
    fn joining_brings_pin_token_and_offer() {
        let token = Secret::new("tok".into());
        assert_eq!(
            Value::from(join_and_configure(&room(), Some(&token), "v=0")),
            json!({
                "body": { "request": "joinandconfigure", "ptype": "publisher", "room": 7, "display": "van",
                    "pin": "1234", "token": "tok" },
                "jsep": { "type": "offer", "trickle": true, "sdp": "v=0" },
            })
        );
    }

    #[test]
    fn a_room_is_made_for_the_codecs_that_are_offered_first() {
        assert_eq!(
            Value::from(create_room(&room(), OFFER)),
            json!({ "body": { "request": "create", "room": 7, "permanent": false, "videocodec": "h264",
                "audiocodec": "opus", "pin": "1234" } })
        );
        for scrambled in
            ["", "v=0", "m=video", "\nm=video 9", "\nm=video 9 X 96\r\na=rtpmap:96", "\nm=video 9 X 9\na=rtpmap:96 A/1"]
        {
            assert_eq!(create_room(&room(), scrambled)["body"].get("videocodec"), None, "{scrambled}");
        }
    }

    #[test]
    fn candidates_go_in_one_message_with_their_end() {
        let part = |candidate: &str| LocalCandidate { mid: "video0".into(), mline: 0, candidate: candidate.into() };
        assert_eq!(
            Value::from(trickle(&[part("a=candidate:1 1 udp 1 h 9 typ host")], true)),
            json!({ "candidates": [
                { "sdpMid": "video0", "sdpMLineIndex": 0, "candidate": "candidate:1 1 udp 1 h 9 typ host" },
                { "completed": true },
            ] })
        );
        let many = vec![part("candidate:1"); 1000];
        assert_eq!(trickle(&many, false)["candidates"].as_array().unwrap().len(), CANDIDATES_MAX);
    }

    #[test]
    fn what_janus_answers_is_understood() {
        let error = |code, reason: &str| Said::Error(JanusError { code, reason: reason.into() });
        let joined = Room::Joined("3484".into());
        for (text, expected) in [
            (r#"{"janus":"success","data":{"id":3588723385142201}}"#, Said::Success(Some(3_588_723_385_142_201))),
            (r#"{"janus":"success","session_id":1}"#, Said::Success(None)),
            (r#"{"janus":"ack"}"#, Said::Ack),
            (r#"{"janus":"error","error":{"code":458,"reason":"No such\nsession"}}"#, error(458, "No suchsession")),
            (
                r#"{"janus":"event","sender":2,"plugindata":{"plugin":"p","data":{"videoroom":"joined","id":3484}},
                    "jsep":{"type":"answer","sdp":"v=0"}}"#,
                Said::Plugin(joined, Some("v=0".into())),
            ),
            (
                r#"{"janus":"event","plugindata":{"data":{"videoroom":"joined","id":"van"}},"jsep":{"type":"offer","sdp":"v=0"}}"#,
                Said::Plugin(Room::Joined("van".into()), None),
            ),
            (
                r#"{"janus":"event","plugindata":{"data":{"videoroom":"event","error_code":426,"error":"No such room (7)"}}}"#,
                error(426, "No such room (7)"),
            ),
            (
                r#"{"janus":"success","plugindata":{"data":{"videoroom":"created","room":7,"permanent":false}}}"#,
                Said::Plugin(Room::Created, None),
            ),
            (
                r#"{"janus":"success","plugindata":{"data":{"videoroom":"success","room":7,"exists":true}}}"#,
                Said::Plugin(Room::Exists(true), None),
            ),
            (
                r#"{"janus":"event","plugindata":{"data":{"videoroom":"event","room":7,"configured":"ok"}}}"#,
                Said::Plugin(Room::Configured, None),
            ),
            (
                r#"{"janus":"event","plugindata":{"data":{"videoroom":"event","leaving":"ok","reason":"kicked"}}}"#,
                Said::Plugin(Room::Kicked, None),
            ),
            (
                r#"{"janus":"event","plugindata":{"data":{"videoroom":"event","leaving":"ok"}}}"#,
                Said::Plugin(Room::Other, None),
            ),
            (
                r#"{"janus":"event","plugindata":{"data":{"videoroom":"destroyed","room":7}}}"#,
                Said::Plugin(Room::Destroyed, None),
            ),
            (r#"{"janus":"event","plugindata":{"data":{}}}"#, Said::Plugin(Room::Other, None)),
            (
                r#"{"janus":"success","plugindata":{"data":{"videoroom":"success","list":[{"room":7,"videocodec":"vp8","audiocodec":"opus"},4]}}}"#,
                Said::Plugin(
                    Room::List(vec![
                        RoomCodecs { room: "7".into(), audio: "opus".into(), video: "vp8".into() },
                        RoomCodecs { room: String::new(), audio: String::new(), video: String::new() },
                    ]),
                    None,
                ),
            ),
        ] {
            assert_eq!(read(text).map(|message| message.said), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_janus_says_unasked_is_understood() {
        for (text, expected) in [
            (r#"{"janus":"webrtcup","sender":2}"#, Said::WebRtcUp),
            (
                r#"{"janus":"media","mid":"video0","type":"video","receiving":false,"seconds":1}"#,
                Said::Media { mid: "video0".into(), receiving: false },
            ),
            (r#"{"janus":"slowlink","media":"video","uplink":true,"lost":12}"#, Said::SlowLink { lost: 12 }),
            (r#"{"janus":"hangup","reason":"DTLS alert"}"#, Said::Hangup("DTLS alert".into())),
            (r#"{"janus":"timeout","session_id":1}"#, Said::Timeout),
            (r#"{"janus":"detached"}"#, Said::Detached),
            (
                r#"{"janus":"trickle","candidate":{"sdpMid":"0","sdpMLineIndex":1,"candidate":"candidate:1"}}"#,
                Said::Candidate { mline: 1, candidate: "candidate:1".into() },
            ),
            (r#"{"janus":"trickle","candidate":{"completed":true}}"#, Said::Ack),
            (r#"{"janus":"to\u0007morrow","new":[{}]}"#, Said::Unknown("tomorrow".into())),
        ] {
            assert_eq!(read(text).map(|message| message.said), Ok(expected), "{text}");
        }
    }

    #[test]
    fn malformed_messages_are_named_and_not_quoted() {
        for (text, words) in [
            ("", "it is cut off"),
            (r#"{"janus":"ack""#, "it is cut off"),
            ("hello", "it is no JSON"),
            ("[]", "it is no message of Janus"),
            ("null", "it is no message of Janus"),
            (r#"{"janus":7}"#, "it is no message of Janus"),
            (r#"{"janus":"ack","janus":"ack"}"#, "it is no message of Janus"),
            (r#"{"janus":"ack","session_id":-1}"#, "it is no message of Janus"),
            (r#"{"janus":"success","data":{"id":1e300}}"#, "it is no message of Janus"),
            (r#"{"janus":"error"}"#, "it is an error without `error`"),
            (r#"{"janus":"event","session_id":1}"#, "it is an `event` without `plugindata`"),
            (r#"{"janus":"media"}"#, "it is a `media` without `receiving`"),
            (r#"{"janus":"trickle"}"#, "it is a `trickle` without `candidate`"),
        ] {
            assert_eq!(read(text), Err(words), "{text}");
        }
        let deep = format!(r#"{{"janus":"event","plugindata":{{"data":{{"a":{}"#, "[".repeat(100_000));
        assert!(read(&deep).is_err());
        let huge = format!(r#"{{"janus":"hangup","reason":"{}"}}"#, "é".repeat(100_000));
        let Ok(Message { said: Said::Hangup(reason), .. }) = read(&huge) else { panic!("not understood") };
        assert_eq!(reason.chars().count(), SHOWN_CHARS_MAX);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in any::<String>()) {
            let _any = read(&text);
            let _any = offered_codec(&text, "video");
        }

        #[test]
        fn no_message_made_of_its_own_words_makes_the_reader_panic(
            verb in "(success|ack|error|event|media|hangup|trickle|timeout|x)",
            name in "(data|plugindata|jsep|error|candidate|mid|receiving|lost|reason|transaction|session_id)",
            value in r#"(null|true|-1|1|18446744073709551616|1e9|""|"x"|\[\]|\{\}|\{"id":1\}|\{"data":\{"videoroom":"joined"\}\}|\{"data":\{"error_code":-4\}\}|\{"code":4\}|\{"type":"answer","sdp":""\})"#,
        ) {
            let text = format!(r#"{{"janus":"{verb}","{name}":{value}}}"#);
            if let Ok(message) = read(&text) {
                prop_assert!(verb == "x" || !matches!(message.said, Said::Unknown(_)));
            }
        }

        #[test]
        fn a_secret_never_breaks_out_of_its_string(secret in any::<String>()) {
            let token = Secret::new(secret.clone());
            let envelope = Envelope { transaction: "t", token: Some(&token), ..Envelope::default() };
            let text = request("create", &envelope, Map::new());
            prop_assert_eq!(value(&text), json!({ "janus": "create", "transaction": "t", "token": secret }));
        }
    }
}
