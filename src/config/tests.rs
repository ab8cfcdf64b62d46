//! The front door as a whole: exact words for malformed configs, the example, and texts that nobody would write.

use std::net::IpAddr;

use super::*;
use crate::supervisor::policy::Retries;
use file::File;
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../../config.example.toml");

fn read(text: &str, env: &[(&str, &str)]) -> Result<Config, Complaints> {
    load(text, "config.toml", env.iter().map(|(name, value)| ((*name).into(), (*value).into())))
}

/// `line:column words (help)` of each complaint; `variable: ...` for those of the environment.
fn complaints(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    let Err(complaints) = read(text, env) else { return Vec::new() };
    let show = |one: &Complaint| {
        let place = match &one.place {
            Place::Text { line, column, .. } => format!("{line}:{column}"),
            Place::Env(name) | Place::Set(name) => format!("{name}:"),
        };
        let help = one.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
        format!("{place} {}{help}", one.words)
    };
    complaints.iter().map(show).collect()
}

#[test]
fn each_malformed_config_gets_its_sentence() {
    for (text, expected) in CASES {
        assert_eq!(complaints(text, &[]).join("\n"), *expected, "{text}");
    }
}

#[test]
fn each_malformed_variable_gets_its_sentence() {
    for (env, expected) in ENV_CASES {
        assert_eq!(complaints("", env).join("\n"), *expected, "{env:?}");
    }
}

#[test]
fn complaints_are_drawn_as_rustc_draws_them_and_show_no_secret() {
    let text =
        "[uplink]\ncaFile = 3 # the CA\niceServers = [{ credential = \"hunter2\", url = 3 }]\ntokem = \"hunter2\"\n";
    let drawn = read(text, &[("ROAMCAST__AUDIO__CHANNELS", "5")]).unwrap_err();
    assert!(drawn.render(true).contains("\u{1b}["));
    assert_eq!(drawn.to_string(), DRAWN);
}

#[test]
fn the_example_is_the_defaults() {
    let (_, file) = document::Document::read(EXAMPLE, std::iter::empty(), &BTreeMap::new());
    assert_eq!(file, File::default());
    assert_eq!(read(EXAMPLE, &[]).unwrap(), read("", &[]).unwrap());
}

/// Lines `key = value` and `# key = value` of the example, with their section.
fn example_keys() -> Vec<(&'static str, &'static str)> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        let line = line.strip_prefix("# ").unwrap_or(line);
        if line.split_once(" = ").is_some_and(|(key, _)| key.chars().all(char::is_alphanumeric)) {
            keys.push((section, line));
        }
    }
    keys
}

#[test]
fn the_example_shows_every_key_once() {
    let path = |(section, line): (&str, &str)| format!("{section}.{}", line.split_once(' ').unwrap().0);
    let mut shown: Vec<String> = example_keys().into_iter().map(path).collect();
    shown.sort();
    let schema = schema();
    assert_eq!(shown, schema::catalog(&schema).into_keys().collect::<Vec<_>>());
}

#[test]
fn every_line_of_the_example_is_valid_alone_commented_or_not() {
    for (section, line) in example_keys() {
        // The keys of a room are for a protocol that needs more than one key.
        let janus = if line.contains("room") || line.contains("apiSecret") || line.contains("display") {
            let room = if line.starts_with("room =") { "" } else { "room = 1\n" };
            format!("protocol = \"janus\"\nurl = \"ws://localhost:8188\"\n{room}")
        } else {
            String::new()
        };
        assert_eq!(complaints(&format!("[{section}]\n{janus}{line}\n"), &[]), [""; 0], "{line}");
    }
}

#[test]
fn a_variable_wins_over_the_text_however_its_key_is_spelt() {
    let text = "[reconnect]\nmaxRetries = 5\n[uplink]\niceServers = [{ urls = [\"stun:a\"] }]";
    let retries = |variable, value| read(text, &[(variable, value)]).unwrap().policy.max_retries;
    for variable in
        ["ROAMCAST__RECONNECT__MAX_RETRIES", "ROAMCAST__RECONNECT__MAXRETRIES", "ROAMCAST__reconnect__maxRetries"]
    {
        assert_eq!(retries(variable, "7"), Retries::AtMost(7));
    }
    assert_eq!(retries("ROAMCAST__RECONNECT__MAX_RETRIES", "unlimited"), Retries::Unlimited);
    assert_eq!(retries("ROAMCAST_LOG", "debug"), Retries::AtMost(5));
    let servers = read(text, &[("ROAMCAST__UPLINK__ICE_SERVERS", "[]")]).unwrap().uplink.ice_servers;
    assert_eq!(servers, []);
}

#[test]
fn a_variable_for_a_text_key_is_text_whatever_it_looks_like() {
    let config = read("", &[("ROAMCAST__BROADCAST__NAME", "42"), ("ROAMCAST__UPLINK__TOKEN", "true")]).unwrap();
    assert_eq!(config.name, "42");
    assert_eq!(config.uplink.token, Some(TokenSource::Value(Secret::new("true".into()))));
}

/// `key: words (help)` of each complaint about what an operator sets.
fn refused(set: &[(&str, &str)]) -> String {
    let set = set.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let env = [("ROAMCAST__RECONNECT__MAX_DELAY".to_owned(), "10".to_owned())];
    let Err(complaints) = load_with("[reconnect]\nminDelay = 1", "config.toml", env.into_iter(), &set, |_| false)
    else {
        return String::new();
    };
    let show = |one: &Complaint| {
        assert_eq!(one.place, Place::Set(one.key.clone()));
        format!("{}{}", one.words, one.help.as_ref().map_or(String::new(), |help| format!(" ({help})")))
    };
    complaints.iter().map(show).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_an_operator_sets_wins_over_everything_and_gets_the_same_complaints() {
    assert_eq!(refused(&[("reconnect.maxRetries", "20"), ("reconnect.max_delay", "11")]), "");
    for (key, value, words) in [
        ("reconnect.maxRetries", "many", r#"`reconnect.maxRetries` must be a whole number or "unlimited", not "many""#),
        ("reconnect.maxRetry", "3", "unknown key `reconnect.maxRetry` (did you mean `reconnect.maxRetries`?)"),
        ("", "3", "unknown key `` (its form is `section.key`)"),
        ("reconnect", "3", "unknown key `reconnect` (its form is `section.key`)"),
        ("reconnect.minDelay", "20", "`reconnect.minDelay` (20s) must not be longer than `reconnect.maxDelay` (10s)"),
        ("signalling.jitter", "2", "`signalling.jitter` must be between 0 and 1, not 2"),
        // What is not cut in silence is refused: the agent knows no longer patience.
        ("mediaPlane.suspectAfter", "1", "`mediaPlane.suspectAfter` must be between 100ms and 500ms, not 1"),
        ("signalling.keepMediaOnLoss", "perhaps", "`signalling.keepMediaOnLoss` must be `true` or `false`, not text"),
    ] {
        assert_eq!(refused(&[(key, value)]), words);
    }
    let set = BTreeMap::from([("reconnect.maxRetries".to_owned(), "20".to_owned())]);
    let loaded = load_with("[reconnect]\nmaxRetries = 5", "", std::iter::empty(), &set, |_| false).unwrap();
    assert_eq!(loaded.config.policy.max_retries, Retries::AtMost(20));
    let drawn = load_with("", "", std::iter::empty(), &BTreeMap::from([("x".to_owned(), String::new())]), |_| false)
        .unwrap_err();
    assert!(drawn.to_string().contains("`set x`"), "{drawn}");
}

#[test]
fn the_keys_of_signalling_are_the_policy_of_signalling() {
    let config = read(
        "[signalling]\nkeepMediaOnLoss = false\nminDelay = \"1s\"\nmaxDelay = 9\njitter = 0.25\n\
         maxAttempts = \"unlimited\"\ninactivityTimeout = \"2m\"",
        &[],
    );
    let expected = crate::supervisor::policy::SignallingPolicy {
        keep_media_on_loss: false,
        min_delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(9),
        jitter_percent: 25,
        max_attempts: Retries::Unlimited,
        inactivity_timeout: Duration::from_secs(120),
    };
    assert_eq!(config.unwrap().policy.signalling, expected);
    assert_eq!(read("", &[]).unwrap().policy.signalling, crate::supervisor::policy::SignallingPolicy::default());
}

#[test]
fn a_janus_room_is_what_its_keys_say() {
    let uplink =
        "[broadcast]\nname = \"street\"\n[uplink]\nprotocol = \"janus\"\nurl = \"wss://h/janus\"\nroom = 1234\n";
    let janus = |more: &str| read(&format!("{uplink}{more}"), &[]).unwrap().uplink.janus.unwrap();
    let bare = JanusRoom { room: 1234, create: false, pin: None, api_secret: None, display: "street".into() };
    assert_eq!(janus(""), bare);
    let secret = |text: &str| Some(Secret::new(text.into()));
    let full = JanusRoom { room: 1234, create: true, pin: secret("p"), api_secret: secret("s"), display: "me".into() };
    assert_eq!(janus("roomCreate = true\nroomPin = \"p\"\napiSecret = \"s\"\ndisplay = \"me\""), full);
    assert_eq!(read("", &[]).unwrap().uplink.janus, None);
}

#[test]
fn every_source_of_tokens_is_understood() {
    for (line, source) in [
        ("tokenFile = \"/t\"", TokenSource::File("/t".into())),
        ("tokenCommand = \"pass show t\"", TokenSource::Command("pass show t".into())),
        ("tokenUrl = \"https://h/t\"", TokenSource::Url(Url::parse("https://h/t").unwrap())),
        ("tokenUrl = \"http://[::1]:1/t\"", TokenSource::Url(Url::parse("http://[::1]:1/t").unwrap())),
        ("tokenCredential = \"street-token\"", TokenSource::Credential("street-token".into())),
    ] {
        assert_eq!(read(&format!("[uplink]\n{line}"), &[]).unwrap().uplink.token, Some(source));
    }
}

#[test]
fn the_control_socket_is_off_here_or_where_the_house_finds_it() {
    let socket = |text: &str| read(text, &[]).unwrap().control.socket;
    assert_eq!(socket(""), ControlSocket::Default);
    assert_eq!(socket("[control]\nsocket = \"\""), ControlSocket::Off);
    assert_eq!(socket("[control]\nsocket = \"/a/b\""), ControlSocket::At("/a/b".into()));
    let open = read("[control]\nlisten = \"0.0.0.0:1\"\ntokenFile = \"/t\"", &[]).unwrap().control;
    assert_eq!(open.listen, Some("0.0.0.0:1".parse().unwrap()));
    let mapped = read("[control]\nlisten = \"[::ffff:127.0.0.1]:1\"", &[]);
    assert!(mapped.is_ok());
}

#[test]
fn fallback_servers_count_as_endpoints() {
    let config = read("[uplink]\nurl = \"https://a/\"\nfallbackUrls = [\"whips://b/\", \"https://c/\"]", &[]).unwrap();
    assert_eq!(config.policy.endpoints, 3);
    let urls: Vec<&str> = config.uplink.urls().map(Url::as_str).collect();
    assert_eq!(urls, ["https://a/", "https://b/", "https://c/"]);
}

#[test]
fn only_a_server_on_this_machine_needs_no_network() {
    assert!(!read("", &[]).unwrap().policy.needs_network);
    assert!(read("[uplink]\nurl = \"https://h/whip\"", &[]).unwrap().policy.needs_network);
    let one_here = "[uplink]\nurl = \"https://h/whip\"\nfallbackUrls = [\"http://localhost/whip\"]";
    assert!(!read(one_here, &[]).unwrap().policy.needs_network);
}

#[test]
fn a_hostile_file_gets_a_hundred_complaints_and_no_more() {
    let text: String = (0..10_000).map(|n| format!("key{n} = {n}\n")).collect();
    assert_eq!(complaints(&text, &[]).len(), 100);
}

/// Complaints point into the text: the line exists, the column is on it or one past its end.
fn point_into(text: &str) {
    let Err(complaints) = read(text, &[]) else { return };
    let lines: Vec<&str> = text.split('\n').collect();
    assert!(complaints.iter().len() > 0);
    for one in complaints.iter() {
        let Place::Text { line, column, source, caret } = &one.place else { panic!("{one:?}") };
        assert!(*column <= lines[line - 1].chars().count() + 1, "{one:?}");
        assert!(source.get(caret.clone()).is_some(), "{one:?}");
    }
    let _ = complaints.render(true);
}

proptest! {
    #[test]
    fn no_text_panics(text: String) {
        point_into(&text);
    }

    #[test]
    fn no_toml_panics(text in "([\\[\\]{}=,.#'\"\n 0-9]|video|uplink|token|urls|iceServers|width|true|\\\\|é){0,40}") {
        point_into(&text);
    }

    #[test]
    fn no_mutation_of_the_example_panics(at in 0..EXAMPLE.len(), length in 0usize..40, put in "[\\[\\]{}=\"'\n a-zA-Z0-9.#-]{0,8}") {
        let end = (at + length).min(EXAMPLE.len());
        point_into(&format!("{}{put}{}", &EXAMPLE[..at], &EXAMPLE[end..]));
    }

    #[test]
    fn no_variable_panics(name: String, value: String, key in "(VIDEO__WIDTH|UPLINK__ICE_SERVERS|RECONNECT__MAX_RETRIES|LOG__LEVEL)") {
        let _ = read("", &[(&format!("ROAMCAST__{name}"), &value)]);
        let _ = read("", &[(&format!("ROAMCAST__{key}"), &value)]).map_err(|complaints| complaints.render(true));
    }

    // No letters are put in: they could make another key, whose value is no secret that anyone could know of.
    #[test]
    fn a_secret_is_never_shown(at in 0..SECRETS.len(), put in "[\\[\\]{}=\"'\n 0-9.,#]{0,4}") {
        let text = format!("{}{put}{}", &SECRETS[..at], &SECRETS[at..]);
        let is_intact = text.matches("token = ").count() == 2 && text.contains("credential = ");
        if let Err(complaints) = read(&text, &[]) {
            prop_assert!(!is_intact || !complaints.to_string().contains("hunter2"), "{}", complaints);
        }
    }
}

/// Secrets among keys that are wrong.
const SECRETS: &str = "[uplink]
url = \"http://h/\" # token = \"hunter2\"
token = \"hunter2\"
iceTransport = \"relay\"
iceServers = [{ urls = [\"turn:h\", 3], username = \"me\", credential = \"hunter2\" }]
caFile = 3
";

/// What a person sees.
const DRAWN: &str = "\
error: `uplink.caFile` must be text in quotes, not a whole number
 --> config.toml:2:10
  |
2 | caFile = 3 # the CA
  |          ^

error: `uplink.iceServers[0]` needs the key `urls`
 --> config.toml:3:15
  |
3 | iceServers = [{ credential = ***, url = 3 }]
  |               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

error: unknown key `uplink.iceServers[0].url`
 --> config.toml:3:41
  |
3 | iceServers = [{ credential = *********, url = 3 }]
  |                                         ^^^
  |
  = help: did you mean `urls`?

error: unknown key `uplink.tokem`
 --> config.toml:4:1
  |
4 | tokem = ***
  | ^^^^^
  |
  = help: did you mean `token`?

error: `audio.channels` must be between 1 and 2, not 5
--> environment variable `ROAMCAST__AUDIO__CHANNELS`";

/// A text, and its complaints.
const CASES: &[(&str, &str)] = &[
    (r"video = 3", r"1:9 `video` must be a table, not a whole number"),
    (
        r"[vidio]
width = 1280",
        r"1:2 unknown key `vidio` (did you mean `video`?)",
    ),
    (r"width = 3", r"1:1 unknown key `width` (`width` belongs in `[video]`)"),
    (
        r"[video]
bitrat = 3
frame_rate = 3
zzz = 1",
        r"2:1 unknown key `video.bitrat` (did you mean `bitrate`?)
3:1 unknown key `video.frame_rate` (did you mean `framerate`?)
4:1 unknown key `video.zzz` (the keys of `video` are `bitrate`, `codec`, `device`, `encoder`, `framerate`, `height`, `keyframeInterval`, `pipeline`, `repeat`, `uri`, `width`)",
    ),
    (
        r#"[video]
width = "a"
height = 1.5
repeat = 1
codec = "h265"
uri = true"#,
        r#"2:9 `video.width` must be a whole number, not text
3:10 `video.height` must be a whole number, not a number with a fraction
4:10 `video.repeat` must be `true` or `false`, not a whole number
5:9 `video.codec` must be one of "h264", "vp8", "vp9", not "h265"
6:7 `video.uri` must be text in quotes, not a boolean"#,
    ),
    (
        r#"[video]
width = 8
height = 721
framerate = -1
keyframeInterval = "2 days"
bitrate = 2500"#,
        r#"2:9 `video.width` must be between 16 and 7680, not 8
3:10 `video.height` must be an even number, not 721
4:13 `video.framerate` must be between 1 and 120, not -1
5:20 `video.keyframeInterval` must be a time such as 2 (seconds), "500ms", "2s", "20m" or "1h", not "2 days"
6:11 `video.bitrate` must be between 50k and 100M, not 2.5k (a plain number is bits per second; for kilobits write "2500k")"#,
    ),
    (
        r#"[video]
bitrate = "2500 kB/s"
pipeline = "file""#,
        r#"2:11 `video.bitrate` counts bits, not bytes: write `b` for bits, as in "2500 kb/s", not "2500 kB/s"
3:12 the pipeline `file` needs `video.uri` (uri = "/path/to/media.mkv")"#,
    ),
    (
        r#"[video]
bitrate = "fast"
pipeline = ""
width = 99999999999999999999"#,
        r#"2:11 `video.bitrate` must be a bitrate such as "2500k", "2.5M" or "2500 kb/s", not "fast"
3:12 `video.pipeline` must not be empty
4:9 `video.width` is too large a number"#,
    ),
    (
        r#"[video]
bitrate = inf
pipeline = "rtsp"
uri = 3
keyframeInterval = 1979-05-27"#,
        r"2:11 `video.bitrate` must be a finite number
4:7 `video.uri` must be text in quotes, not a whole number
5:20 `video.keyframeInterval` must be a number or text in quotes, not a date or time",
    ),
    (
        r#"[audio]
channels = 3
bitrate = "1M"
codec = "aac""#,
        r#"2:12 `audio.channels` must be between 1 and 2, not 3
3:11 `audio.bitrate` must be between 6k and 510k, not 1M
4:9 `audio.codec` must be "opus", not "aac""#,
    ),
    (
        r#"[uplink]
url = "ftp://me:hunter2@h/""#,
        r#"2:7 `uplink.url` must begin with https, http, whips or whip, not "ftp""#,
    ),
    (
        r#"[uplink]
url = "example.com""#,
        r#"2:7 `uplink.url` must be a URL such as "https://host/whip/name""#,
    ),
    (
        r#"[uplink]
url = "https://me:hunter2@h/""#,
        r"2:7 `uplink.url` must not hold a user name or password: use `uplink.token` or `uplink.tokenFile`",
    ),
    (
        r#"[uplink]
url = "https://""#,
        r#"2:7 `uplink.url` must be a URL such as "https://host/whip/name": empty host"#,
    ),
    (
        r#"[uplink]
url = "https://h/#a""#,
        r"2:7 `uplink.url` must not have a fragment (`#...`): no server would see it",
    ),
    (
        r#"[uplink]
url = "whip://example.com/live"
token = "hunter2""#,
        r"2:7 `uplink.url` would send the token in the clear (use https; on a private network or VPN: allowClearText = true)",
    ),
    (
        r#"[uplink]
url = "http://203.0.113.7/live"
token = "hunter2"
allowClearText = true"#,
        r"2:7 `uplink.url` would send the token in the clear (use https)",
    ),
    (
        r#"[uplink]
url = "http://192.168.1.7/live"
token = "hunter2""#,
        r"2:7 `uplink.url` would send the token in the clear (use https; on a private network or VPN: allowClearText = true)",
    ),
    (
        r#"[uplink]
fingerprint = "AB:CD""#,
        r"2:15 `uplink.fingerprint` must have 64 hex digits (SHA-256), not 4: `openssl x509 -in cert.pem -noout -fingerprint -sha256` prints it",
    ),
    (
        r#"[uplink]
fingerprint = ["hush", 1]"#,
        r"2:24 `uplink.fingerprint[1]` must be text in quotes, not a whole number",
    ),
    (
        r#"[uplink]
fingerprint = 5"#,
        r"2:15 `uplink.fingerprint` must be text in quotes or an array, not a whole number",
    ),
    (
        r#"[uplink]
url = "https://h/"
trustedOrigins = ["https://*", "https://*.com", "https://*.co.uk", "https://*.github.io", "https://a.*.net", "https://*x.net", "http://*.h.net"]"#,
        r#"3:19 `uplink.trustedOrigins[0]` may have one `*`, for the first part of the host: "https://*.example.com"
3:32 `uplink.trustedOrigins[1]` would trust everybody below `com`, where anyone can have a host; name a domain of one owner, such as "https://*.example.com"
3:49 `uplink.trustedOrigins[2]` would trust everybody below `co.uk`, where anyone can have a host; name a domain of one owner, such as "https://*.example.com"
3:68 `uplink.trustedOrigins[3]` would trust everybody below `github.io`, where anyone can have a host; name a domain of one owner, such as "https://*.example.com"
3:91 `uplink.trustedOrigins[4]` may have one `*`, for the first part of the host: "https://*.example.com"
3:110 `uplink.trustedOrigins[5]` may have one `*`, for the first part of the host: "https://*.example.com"
3:128 `uplink.trustedOrigins[6]` stands for hosts that nobody has named: that is possible with https only"#,
    ),
    (
        r#"[uplink]
token = "hunter2"
tokenFile = "/t""#,
        r"3:13 `uplink.token` and `uplink.tokenFile` exclude each other",
    ),
    (
        r#"[uplink]
tokenFile = "/t"
tokenCommand = "t"
tokenUrl = "https://h/t"
tokenCredential = "t""#,
        r"3:16 `uplink.tokenFile` and `uplink.tokenCommand` exclude each other
4:12 `uplink.tokenFile` and `uplink.tokenUrl` exclude each other
5:19 `uplink.tokenFile` and `uplink.tokenCredential` exclude each other",
    ),
    (
        r#"[uplink]
tokenUrl = "http://h/hunter2""#,
        r"2:12 `uplink.tokenUrl` would fetch the token in the clear: use https; on a private network or VPN: allowClearText = true",
    ),
    (
        r#"[uplink]
tokenUrl = "wss://h/t""#,
        r#"2:12 `uplink.tokenUrl` must begin with https or http, not "wss""#,
    ),
    (
        r#"[uplink]
tokenCredential = "/run/credentials/t""#,
        r"2:19 `uplink.tokenCredential` must be the name of a credential, not a path (LoadCredential=NAME:/path in the unit)",
    ),
    (
        r#"[uplink]
protocol = "janus"
url = "https://h/janus""#,
        r#"2:12 the protocol `janus` needs `uplink.room`, the number of the room (room = 1234)
3:7 `uplink.url` must begin with wss or ws, not "https""#,
    ),
    (
        r#"[uplink]
protocol = "janus"
url = "ws://h/"
room = 0
roomPin = 7"#,
        r"4:8 `uplink.room` must be at least 1, not 0
5:11 `uplink.roomPin` must be text in quotes, not a whole number",
    ),
    (
        r#"[uplink]
protocol = "janus"
url = "ws://h/"
room = 1
apiSecret = "hunter2"
fallbackUrls = ["wss://h2/", "ws://h3/"]"#,
        r"3:7 `uplink.url` would send the secret in the clear (use wss; on a private network or VPN: allowClearText = true)
6:30 `uplink.fallbackUrls[1]` would send the secret in the clear (use wss; on a private network or VPN: allowClearText = true)",
    ),
    (
        r#"[uplink]
url = "https://h/"
room = 1
roomCreate = true
roomPin = "hunter2"
apiSecret = "hunter2"
display = "me""#,
        r#"3:8 `uplink.room` belongs to the protocol `janus` alone (protocol = "janus", or leave the key out)
4:14 `uplink.roomCreate` belongs to the protocol `janus` alone (protocol = "janus", or leave the key out)
5:11 `uplink.roomPin` belongs to the protocol `janus` alone (protocol = "janus", or leave the key out)
6:13 `uplink.apiSecret` belongs to the protocol `janus` alone (protocol = "janus", or leave the key out)
7:11 `uplink.display` belongs to the protocol `janus` alone (protocol = "janus", or leave the key out)"#,
    ),
    (
        r#"[uplink]
protocol = "roamcast"
url = "whip://h/"
fallbackUrls = ["https://h/", "ftp://me:hunter2@h/"]"#,
        r#"3:7 `uplink.url` must begin with wss, ws, https or http, not "whip"
4:31 `uplink.fallbackUrls[1]` must begin with wss, ws, https or http, not "ftp""#,
    ),
    (
        r#"[uplink]
protocol = "rtmp""#,
        r#"2:12 `uplink.protocol` must be one of "whip", "janus", "roamcast", not "rtmp""#,
    ),
    (
        r#"[signalling]
minDelay = 40
jitter = 1.5
maxAttempts = "forever"
inactivityTimeout = 0
keepMediaOnLoss = 1"#,
        r#"2:12 `signalling.minDelay` (40s) must not be longer than `signalling.maxDelay` (30s)
3:10 `signalling.jitter` must be between 0 and 1, not 1.5
4:15 `signalling.maxAttempts` must be a whole number or "unlimited", not "forever"
5:21 `signalling.inactivityTimeout` must be between 1s and 1h, not 0
6:19 `signalling.keepMediaOnLoss` must be `true` or `false`, not a whole number"#,
    ),
    (
        r#"[control]
socket = "control.sock"
listen = "localhost:8470""#,
        r#"2:10 `control.socket` must be a path from the root, not "control.sock" ("" turns the socket off)
3:10 `control.listen` must be `address:port`, such as "127.0.0.1:8470", not "localhost:8470""#,
    ),
    (
        r#"[control]
listen = "0.0.0.0:8470""#,
        r"2:10 `control.listen` is open to other machines: it needs `control.tokenFile` (or listen on 127.0.0.1)",
    ),
    (
        r"[uplink]
token = 12345",
        r"2:9 `uplink.token` must be text in quotes, not a whole number",
    ),
    (
        r#"[uplink]
token = "Bearer hunter2"
tokn = "hunter2""#,
        r"2:9 `uplink.token` must be visible ASCII characters without spaces (write the token alone, without `Bearer`)
3:1 unknown key `uplink.tokn` (did you mean `token`?)",
    ),
    (
        r#"[uplink]
iceTransport = "relay"
iceServers = [{ urls = ["stun:h"] }]"#,
        r#"2:16 `uplink.iceTransport` is "relay", but `uplink.iceServers` has no TURN server (iceServers = [{ urls = ["turn:host"], username = "...", credential = "..." }])"#,
    ),
    (
        r#"[[uplink.iceServers]]
urls = []
[[uplink.iceServers]]
url = "stun:h"
[[uplink.iceServers]]
urls = ["turn:h", "http://h", "turn:h?transport=x"]
credential = "hunter2"
[[uplink.iceServers]]
urls = ["turn:h"]"#,
        r"2:8 `uplink.iceServers[0].urls` must not be empty
3:1 `uplink.iceServers[1]` needs the key `urls`
4:1 unknown key `uplink.iceServers[1].url` (did you mean `urls`?)",
    ),
    (
        r#"[uplink]
iceServers = 3
iceTransport = "relay""#,
        r"2:14 `uplink.iceServers` must be an array, not a whole number",
    ),
    (
        r#"[uplink]
url = "https://h/"
token = "x"
trustedOrigins = ["https://h/path", 3]"#,
        r"4:37 `uplink.trustedOrigins[1]` must be text in quotes, not a whole number",
    ),
    (
        r#"[uplink]
url = "https://h/"
token = "x"
trustedOrigins = ["http://h", "h"]"#,
        r#"4:31 `uplink.trustedOrigins[1]` must be an origin such as "https://host:8443", without a path"#,
    ),
    (
        r#"[uplink]
url = "https://h/"
token = "x"
trustedOrigins = ["http://h"]"#,
        r"4:19 `uplink.trustedOrigins[0]` would send the token in the clear (use https; on a private network or VPN: allowClearText = true)",
    ),
    (
        r"[reconnect]
minDelay = 20",
        r"2:12 `reconnect.minDelay` (20s) must not be longer than `reconnect.maxDelay` (15s)",
    ),
    (
        r"[reconnect]
maxDelay = 1",
        r"2:12 `reconnect.minDelay` (2s) must not be longer than `reconnect.maxDelay` (1s)",
    ),
    (
        r#"[reconnect]
minDelay = 20
maxDelay = "x""#,
        r#"3:12 `reconnect.maxDelay` must be a time such as 2 (seconds), "500ms", "2s", "20m" or "1h", not "x""#,
    ),
    (
        r#"[reconnect]
maxRetries = -1
giveUpAfter = 0
stuckAfter = "2d""#,
        r#"2:14 `reconnect.maxRetries` must be between 0 and 4294967295, not -1
3:15 `reconnect.giveUpAfter` must be at least 1s, not 0
4:14 `reconnect.stuckAfter` must be a time such as 2 (seconds), "500ms", "2s", "20m" or "1h", not "2d""#,
    ),
    (
        r#"[reconnect]
maxRetries = "forever""#,
        r#"2:14 `reconnect.maxRetries` must be a whole number or "unlimited", not "forever""#,
    ),
    (
        r"[reconnect]
maxRetries = 1.5",
        r"2:14 `reconnect.maxRetries` must be a whole number or text in quotes, not a number with a fraction",
    ),
    (
        r#"[mediaPlane]
disconnectedTimeout = "1h"
statusGrace = [1]
[fallback]
captureTimeout = 0"#,
        r"2:23 `mediaPlane.disconnectedTimeout` must be between 100ms and 5m, not 1h
3:15 `mediaPlane.statusGrace` must be a number or text in quotes, not an array
5:18 `fallback.captureTimeout` must be between 500ms and 5m, not 0",
    ),
    (
        r#"[log]
level = "inof"
format = "xml""#,
        r#"2:9 `log.level` must be one of error, warn, info, debug, trace, off, or a filter, not "inof"
3:10 `log.format` must be one of "text", "json", "journald", not "xml""#,
    ),
    (
        r#"[log]
level = "info,=x[""#,
        r#"2:9 `log.level` is not a filter such as "info,roamcast::signal=debug": "info,=x[""#,
    ),
    (
        r#"[broadcast]
name = "a"
name = "b""#,
        r"3:1 this is not TOML: duplicate key",
    ),
    (
        r#"[uplink
token = "hunter2""#,
        r"1:8 this is not TOML: unclosed table, expected `]`",
    ),
    (
        r#"[uplink]
token = "hunter2"#,
        r#"2:17 this is not TOML: invalid basic string, expected `"`"#,
    ),
    (
        r"[video]
width = ",
        r"2:9 this is not TOML: string values must be quoted, expected literal string",
    ),
    (
        r#"[recording]
enabled = true"#,
        r"1:2 unknown key `recording` (the sections are `audio`, `broadcast`, `control`, `fallback`, `log`, `mediaPlane`, `network`, `reconnect`, `signalling`, `uplink`, `video`)",
    ),
    (
        r"[video]
channels = 2",
        r"2:1 unknown key `video.channels` (`channels` belongs in `[audio]`)",
    ),
    (
        r#"[uplink]
iceServers = [{ credential = "hunter2", username = 3 }]"#,
        r"2:15 `uplink.iceServers[0]` needs the key `urls`
2:52 `uplink.iceServers[0].username` must be text in quotes, not a whole number",
    ),
];

/// Variables, and their complaints.
const ENV_CASES: &[(&[(&str, &str)], &str)] = &[
    (
        &[("ROAMCAST__RECONNECT__MAX_RETRY", "3")],
        r"ROAMCAST__RECONNECT__MAX_RETRY: the environment variable `ROAMCAST__RECONNECT__MAX_RETRY` sets no key: its form is `ROAMCAST__SECTION__KEY` (did you mean `ROAMCAST__RECONNECT__MAX_RETRIES`?)",
    ),
    (
        &[("ROAMCAST__X", "3")],
        r"ROAMCAST__X: the environment variable `ROAMCAST__X` sets no key: its form is `ROAMCAST__SECTION__KEY`",
    ),
    (&[("ROAMCAST__VIDEO__WIDTH", "wide")], r"ROAMCAST__VIDEO__WIDTH: `video.width` must be a whole number, not text"),
    (
        &[("ROAMCAST__RECONNECT__MAXRETRIES", "3"), ("ROAMCAST__RECONNECT__MAX_RETRIES", "4")],
        r"ROAMCAST__RECONNECT__MAX_RETRIES: `reconnect.maxRetries` is set twice: by `ROAMCAST__RECONNECT__MAXRETRIES` and by `ROAMCAST__RECONNECT__MAX_RETRIES`",
    ),
    (
        &[("ROAMCAST__UPLINK__TOKEN", "a b")],
        r"ROAMCAST__UPLINK__TOKEN: `uplink.token` must be visible ASCII characters without spaces (write the token alone, without `Bearer`)",
    ),
    (
        &[("ROAMCAST__UPLINK__ICE_SERVERS", "[{urls=[\"x\"], foo=3}]")],
        r"ROAMCAST__UPLINK__ICE_SERVERS: unknown key `uplink.iceServers[0].foo` (the keys of `uplink.iceServers[0]` are `credential`, `urls`, `username`)
ROAMCAST__UPLINK__ICE_SERVERS: `uplink.iceServers[0].urls[0]` must begin with `stun:`, `turn:` or `turns:`",
    ),
    (
        &[("ROAMCAST__RECONNECT__MIN_DELAY", "20")],
        r"ROAMCAST__RECONNECT__MIN_DELAY: `reconnect.minDelay` (20s) must not be longer than `reconnect.maxDelay` (15s)",
    ),
];

#[test]
fn a_token_may_go_in_the_clear_to_oneself_and_where_the_operator_lets_it() {
    let own: IpAddr = "192.168.1.7".parse().unwrap();
    let good = |url: &str, more: &str| {
        let text = format!("[uplink]\nurl = \"{url}\"\ntoken = \"x\"\n{more}");
        load_with(&text, "", std::iter::empty(), &BTreeMap::new(), |ip| ip == own).is_ok()
    };
    for url in ["http://192.168.1.7:8889/x", "http://127.0.0.1/x", "http://localhost/x", "http://0.0.0.0:8080/x"] {
        assert!(good(url, ""), "{url}");
    }
    for url in
        ["http://192.168.1.8/x", "http://10.0.0.1/x", "http://[fd00::1]/x", "http://studio/x", "http://100.99.1.1/x"]
    {
        assert!(!good(url, ""), "{url}");
        assert!(good(url, "allowClearText = true"), "{url}");
    }
    for url in ["http://8.8.8.8/x", "http://100.128.0.1/x", "http://[2001:db8::1]/x", "http://[::ffff:8.8.8.8]/x"] {
        assert!(!good(url, "allowClearText = true"), "{url}");
    }
}

#[test]
fn fingerprints_are_one_or_many() {
    let (one, two) = ("ab".repeat(32), "CD:".repeat(31) + "CD");
    let count = |value: &str| {
        let text = format!("[uplink]\nfingerprint = {value}");
        load(&text, "", std::iter::empty()).unwrap().uplink.fingerprints.len()
    };
    assert_eq!(count(&format!("\"{one}\"")), 1);
    assert_eq!(count(&format!("[\"{one}\", \"{two}\"]")), 2);
    let variable = ("ROAMCAST__UPLINK__FINGERPRINT".to_owned(), two);
    assert_eq!(load("", "", [variable].into_iter()).unwrap().uplink.fingerprints.len(), 1);
}
