//! All logs of all tests, searched for every secret of every test when the run is over.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use aho_corasick::AhoCorasick;

use crate::secrets_kept as kept;

/// What stands right before a secret wherever one is written. What follows must be masked.
const MARKS: &[(&str, &str)] = &[
    ("ICE password", "a=ice-pwd:"),
    ("resume token", "resumeToken\":\""),
    ("TURN password", "credential\":\""),
    ("bearer token", "Authorization: Bearer "),
    ("bearer token", "authorization: Bearer "),
    ("bearer token", "authorization\": \"Bearer "),
    ("secret of the Janus API", "apisecret\":\""),
    ("pin of a room", "pin\":\""),
];
/// So much of a line is shown.
const SHOWN_CHARS_MAX: usize = 200;

/// What a search has seen.
#[derive(Debug, Default)]
struct Searched {
    logs: usize,
    lines: usize,
    bytes: usize,
    secrets: usize,
    /// File, line and kind of each secret that was found; the secret itself is masked.
    leaks: Vec<String>,
}

/// Searches every log of the folder.
fn search(folder: &Path) -> Searched {
    let secrets = kept::all(folder);
    let finder = AhoCorasick::new(secrets.iter().map(|(_, secret)| secret)).unwrap();
    let mut searched = Searched { secrets: secrets.len(), ..Searched::default() };
    let Ok(entries) = fs::read_dir(folder) else { return searched };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    for path in paths {
        let text = fs::read(&path).unwrap();
        searched.logs += 1;
        searched.bytes += text.len();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            searched.lines += 1;
            let line = String::from_utf8_lossy(line);
            if let Some(kind) = leak(&finder, &secrets, &line) {
                let name = path.file_name().unwrap().to_string_lossy();
                searched.leaks.push(format!("{name}:{number}: a {kind}: {}", masked(&secrets, &line)));
            }
        }
    }
    searched
}

/// The kind of the first secret in this line.
fn leak<'s>(finder: &AhoCorasick, secrets: &'s [(String, String)], line: &str) -> Option<&'s str> {
    if let Some(found) = finder.find(line) {
        return Some(&secrets[found.pattern().as_usize()].0);
    }
    // JSON within JSON, and text in the form of `Debug`.
    let plain = line.replace('\\', "");
    MARKS.iter().find(|(_, mark)| plain.split(mark).skip(1).any(is_word)).map(|(kind, _)| *kind)
}

/// Does it begin with something that could be a secret?
fn is_word(after: &str) -> bool {
    after.starts_with(|c: char| c.is_ascii_alphanumeric() || "+/-_=".contains(c))
}

fn masked(secrets: &[(String, String)], line: &str) -> String {
    let plain = line.replace('\\', "");
    let mut line = secrets.iter().fold(plain, |line, (_, secret)| line.replace(secret, "***"));
    for (_, mark) in MARKS {
        // The first one may be masked already, and a later one not.
        if let Some((head, _)) = line.split_once(mark) {
            line = format!("{head}{mark}***, and more");
        }
    }
    line.chars().take(SHOWN_CHARS_MAX).collect()
}

/// `scripts/test` asks for it by name after all other tests.
#[test]
#[ignore = "looks at the logs of a whole run: scripts/test runs it last"]
fn no_secret_is_in_any_log_of_the_whole_run() {
    let Searched { logs, lines, bytes, secrets, leaks } = search(&kept::folder());
    println!("searched {logs} logs ({lines} lines, {} MB) for {secrets} secrets", bytes / 1_000_000);
    let fixed = kept::FIXED.len();
    assert!(
        logs > 0 && lines > logs && secrets > fixed,
        "no run is there to be searched: run the loopback tests first"
    );
    let shown = leaks.iter().take(30).fold(String::new(), |mut shown, leak| {
        let _never = writeln!(shown, "{leak}");
        shown
    });
    assert!(leaks.is_empty(), "{} lines of logs hold secrets:\n{shown}", leaks.len());
}

#[test]
fn a_secret_in_a_log_is_found_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("secrets", "resume token\tr3sume-0123\n");
    write("1.log", "all is well\nDEBUG a=ice-pwd:***\\r\\n Bearer of news, authorization: Bearer ***\n");
    write("2.txt", "no log: r3sume-0123\n");
    let clean = search(folder.path());
    assert_eq!((clean.logs, clean.lines, clean.leaks), (1, 3, vec![]));
    for (line, kind, secret) in [
        ("x r3sume-0123 y".to_owned(), "resume token", "r3sume-0123"),
        (format!("token={}", crate::http::TOKEN), "bearer token", crate::http::TOKEN),
        ("turn://u:turn-p%40ss%3Aw0rd@h".to_owned(), "TURN password", "w0rd"),
        ("sdp: v=0\\r\\na=ice-pwd:unknown0\\r\\n".to_owned(), "ICE password", "unknown0"),
        (r#"{"message":"{\"resumeToken\":\"unknown1\"}"}"#.to_owned(), "resume token", "unknown1"),
        ("authorization: Bearer unknown2".to_owned(), "bearer token", "unknown2"),
    ] {
        write("3.log", &format!("one\n{line}\n"));
        let found = search(folder.path()).leaks;
        assert_eq!(found.len(), 1, "{line}");
        assert!(found[0].starts_with(&format!("3.log:2: a {kind}")) && !found[0].contains(secret), "{}", found[0]);
    }
}
