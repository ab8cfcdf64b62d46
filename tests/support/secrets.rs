//! Every secret that a test uses, and every log that the program writes while the tests run: both are kept in
//! `target/test-logs`, and `loopback/logs.rs` searches the ones for the others when all tests have run.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};

use roamcast::cli::logging::without_secrets;
use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

/// Are logs kept? Not by benchmarks, which would measure the writing of them.
pub(crate) const WANTED: bool = true;
/// The token of most tests; must never be seen where it does not belong.
pub(crate) const TOKEN: &str = "s3cret-t0ken";

/// What the secrets are, and the secrets that stand in the tests themselves. Some are short: each is a word that nothing
/// else in a log has.
pub(crate) const FIXED: &[(&str, &str)] = &[
    ("bearer token", TOKEN),
    ("bearer token", "old-token"),
    ("bearer token", "new-token"),
    ("bearer token", "t0ken"),
    ("bearer token", "t1ken"),
    ("wrong token", "wr0ng"),
    ("token of the config", "hunter2"),
    ("token of the control API", "f1rst-c0ntrol"),
    ("token of the control API", "sec0nd-c0ntrol"),
    ("token of Janus", "fr3sh-of-janus"),
    ("pin of a room", crate::janus::PIN),
    ("secret of the Janus API", "s3cret-of-the-api"),
    ("secret of the Janus API", "open-sesame"),
    ("TURN password", TURN_PASSWORD),
    ("TURN password", "wrong-turn-passw0rd"),
    ("secret of TURN passwords", "s3cret-of-the-relay"),
    ("key of a token URL", "key=hush"),
    ("password of a camera", "user:secret@"),
    ("ICE password", "abcdefghijklmnopqrstuvwx"),
];

/// Of the TURN server that tests name; in an URL it reads otherwise.
pub(crate) const TURN_PASSWORD: &str = "turn-p@ss:w0rd";
/// Learned words that are shorter could be part of anything.
const LEARNED_LEN_MIN: usize = 8;
/// In the folder of the logs; no log.
const LEARNED_FILE: &str = "secrets";

/// Where the logs of this run are.
pub(crate) fn folder() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join("test-logs")
}

/// The path of a new log.
pub(crate) fn new_log(kind: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    std::fs::create_dir_all(folder()).unwrap();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    folder().join(format!("{}-{count:04}-{kind}.log", std::process::id()))
}

/// Whatever the product's code logs in the process of the tests is kept, too, as the program itself would log it.
pub(crate) fn keep_own_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let file = File::create(new_log("tests")).unwrap();
        let layer = fmt::layer().with_writer(Mutex::new(file)).with_ansi(false).with_filter(without_secrets());
        let _another_is_there = registry().with(layer).try_init();
    });
}

/// Remembers a secret of this run.
pub(crate) fn learn(kind: &str, secret: &str) {
    static KNOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let secret = secret.trim();
    let is_one = secret.len() >= LEARNED_LEN_MIN && !secret.contains(char::is_whitespace);
    if !is_one || FIXED.iter().any(|(_, fixed)| *fixed == secret) || !KNOWN.lock().unwrap().insert(secret.to_owned()) {
        return;
    }
    std::fs::create_dir_all(folder()).unwrap();
    let path = folder().join(LEARNED_FILE);
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).unwrap();
    file.write_all(format!("{kind}\t{secret}\n").as_bytes()).unwrap();
}

/// Kind and text of every secret: fixed, and learned in the run whose logs are in `folder`.
pub(crate) fn all(folder: &Path) -> Vec<(String, String)> {
    let learned = std::fs::read_to_string(folder.join(LEARNED_FILE)).unwrap_or_default();
    let learned = learned.lines().filter_map(|line| line.split_once('\t'));
    let all = FIXED.iter().copied().chain(learned).map(|(kind, secret)| (kind.to_owned(), secret.to_owned()));
    // As it stands in the URLs of webrtcbin.
    let in_urls = |(kind, secret): (String, String)| {
        let escaped = secret.replace('@', "%40").replace(':', "%3A").replace('+', "%2B").replace('/', "%2F");
        let escaped = (escaped != secret).then_some((kind.clone(), escaped));
        [Some((kind, secret)), escaped].into_iter().flatten()
    };
    all.flat_map(in_urls).collect()
}

/// Learns what secrets stand in words that went over the wire.
pub(crate) fn learn_from_wire(words: &str) {
    for (kind, mark) in [
        ("ICE password", "a=ice-pwd:"),
        ("resume token", r#""resumeToken":""#),
        ("TURN password", r#""credential":""#),
        ("TURN password", r#"credential=""#),
        ("token", r#""token":""#),
        ("secret of the Janus API", r#""apisecret":""#),
        ("pin of a room", r#""pin":""#),
        ("bearer token", "Bearer "),
    ] {
        for after in words.split(mark).skip(1) {
            let secret = after.split(|c: char| c == '"' || c == '\\' || c.is_whitespace()).next().unwrap_or_default();
            learn(kind, secret);
        }
    }
}

/// Learns what secrets a config names, itself or by files.
pub(crate) fn learn_from_config(config: &str) {
    fn walk(key: &str, value: &toml::Value) {
        match value {
            toml::Value::String(text) if key == "tokenFile" => learn_from_file(Path::new(text)),
            toml::Value::String(text) if ["token", "roomPin", "apiSecret", "credential"].contains(&key) => {
                learn(key, text);
            }
            toml::Value::Table(table) => table.iter().for_each(|(key, value)| walk(key, value)),
            toml::Value::Array(array) => array.iter().for_each(|value| walk(key, value)),
            _ => {}
        }
    }
    // Some tests have broken configs.
    if let Ok(table) = config.parse::<toml::Table>() {
        walk("", &toml::Value::Table(table));
    }
}

/// Learns the token that is the file's one word.
pub(crate) fn learn_from_file(path: &Path) {
    learn("token of a file", &std::fs::read_to_string(path).unwrap_or_default());
}

/// Learns the resume token in this folder's state file, if there is one just now.
pub(crate) fn learn_from_state(folder: &Path) {
    let text = std::fs::read_to_string(folder.join("session.json")).unwrap_or_default();
    let document: Value = serde_json::from_str(&text).unwrap_or_default();
    if let Some(token) = document["memory"]["resumeToken"].as_str() {
        learn("resume token", token);
    }
}
