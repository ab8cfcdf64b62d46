//! The laws of the house as tests (law 12 in the architecture; the map is `src/lib.rs`).

mod circles;

use std::fs;
use std::path::{Path, PathBuf};

/// Code lines a file may have (law 10).
const FILE_LINES_MAX: usize = 400;
/// Files that may be longer: tables.
const TABLES: &[&str] = &["status/conditions.rs"];
/// Files that may hold `unsafe` (law 13), each with its reason in the file.
const MAY_BE_UNSAFE: &[&str] = &["ice/gst/mod.rs", "ice/gst/methods.rs"];

/// One file under `src`.
struct Source {
    /// Path below `src`, such as `status/mod.rs`.
    path: String,
    text: String,
}

impl Source {
    /// The room it belongs to: the first part of its path.
    fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or(&self.path);
        first.trim_end_matches(".rs")
    }

    /// Without its tests, comments and blank lines.
    fn code(&self) -> impl Iterator<Item = &str> {
        let lines: Vec<&str> = self.text.lines().collect();
        let end = (0..lines.len()).find(|&at| begins_tests(&lines[at..])).unwrap_or(lines.len());
        let product = lines.into_iter().take(end).map(str::trim);
        product.filter(|line| !line.is_empty() && !line.starts_with("//"))
    }

    fn product(&self) -> String {
        self.code().collect::<Vec<_>>().join("\n")
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    fn is_pure(&self) -> bool {
        self.text.starts_with("//! Pure:")
    }
}

/// `#[cfg(test)]`, perhaps more attributes, and a module with a body.
fn begins_tests(lines: &[&str]) -> bool {
    let mut after = lines.iter().skip_while(|line| line.starts_with("#["));
    lines.first() == Some(&"#[cfg(test)]")
        && after.next().is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("src can be read").map(|entry| entry.expect("entry").path()) {
            if entry.is_dir() {
                walk(&entry, into);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                into.push(entry);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    let source = |path: PathBuf| Source {
        path: path.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/"),
        text: fs::read_to_string(&path).expect("a source file can be read"),
    };
    paths.into_iter().map(source).collect()
}

/// Fails with every complaint at once.
#[track_caller]
fn no_complaints(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Every path that code names behind `crate::`, groups taken apart: `crate::a::{b, c}` gives `a::b` and `a::c`.
fn crate_paths(code: &str) -> Vec<String> {
    let paths = |rest: &str| {
        let path: String = rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
        let group = rest.get(path.len()..).and_then(|rest| rest.strip_prefix('{')?.split('}').next());
        match group {
            Some(group) => group.split(',').map(|name| format!("{path}{}", name.trim())).collect(),
            None => vec![path],
        }
    };
    let named = |path: &String| !path.is_empty() && !path.ends_with("::");
    code.split("crate::").skip(1).flat_map(paths).filter(named).collect()
}

#[test]
fn paths_are_taken_apart() {
    let code =
        "use crate::status::{self, ErrorCode,\nReason,};\nlet x = crate::inbox::Inbox::default();\nuse crate::{cli};";
    assert_eq!(
        crate_paths(code),
        ["status::self", "status::ErrorCode", "status::Reason", "inbox::Inbox::default", "cli"]
    );
}

/// What a room may name besides itself: whole rooms, or some modules of theirs. There is no room without a list, and no
/// exception (`circles` holds this table against itself).
fn allowed(room: &str) -> &'static [&'static str] {
    match room {
        // The ground floor: they name nobody.
        "status" | "server" | "rtp" => &[],
        "supervisor" | "systemd" => &["status"],
        "config" => &["supervisor::policy"],
        "inbox" => &["supervisor::event", "config::mask"],
        "sdp" => &["supervisor::event", "status"],
        "network" => &["supervisor::event", "config", "inbox"],
        "media" => &["supervisor::event", "status", "config", "inbox"],
        "signal" => &["supervisor::event", "status", "config", "sdp"],
        "probe" => &["supervisor::event", "config", "inbox", "signal::transport::dns", "signal::origin"],
        "ice" => &["supervisor::event", "status", "config", "signal", "sdp", "rtp"],
        "uplink" => &["supervisor::event", "status", "config", "inbox", "signal", "sdp", "rtp", "ice", "media::tracks"],
        "control" => &["status", "supervisor::event", "supervisor::policy", "config", "inbox", "server"],
        "ingest" => &["server", "signal::whip::text", "signal::roamcast::text"],
        "app" => &[
            "config",
            "control",
            "inbox",
            "media",
            "network",
            "probe",
            "signal",
            "status",
            "supervisor",
            "systemd",
            "uplink",
        ],
        "cli" => &["app", "config", "control", "ingest", "media", "server", "signal", "status"],
        // The root of the library declares the rooms, the program calls `cli` by the name of the crate.
        "lib" | "main" => &[],
        room => panic!("`src/{room}` is a new room: say here what it may name"),
    }
}

/// Is `path` the module `prefix`, or in it?
fn is_within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn the_arrows_between_rooms_point_one_way() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let (room, allowed) = (source.room(), allowed(source.room()));
        for path in crate_paths(&source.product()) {
            if !is_within(&path, room) && !allowed.iter().any(|prefix| is_within(&path, prefix)) {
                complaints.push(format!("src/{} names `crate::{path}`; it may name {allowed:?}", source.path));
            }
        }
    }
    no_complaints(&complaints);
}

#[test]
fn the_brain_and_the_notice_board_stand_on_std_and_serde_alone() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("Cargo.toml");
    let section = manifest.split("\n[dependencies]\n").nth(1).and_then(|rest| rest.split("\n[").next());
    let crates = section.expect("dependencies").lines().filter_map(|line| line.split_once(" = "));
    let crates: Vec<String> = crates.map(|(name, _)| name.replace('-', "_") + "::").collect();
    assert!(crates.contains(&"tokio::".to_owned()), "the manifest was not understood: {crates:?}");
    let mut complaints = Vec::new();
    for source in
        sources().iter().filter(|source| matches!(source.room(), "supervisor" | "status") && !source.is_test())
    {
        if !source.is_pure() {
            complaints.push(format!("src/{} does not begin with `//! Pure:`", source.path));
        }
        for line in source.code() {
            for name in crates.iter().filter(|name| names(line, name)) {
                if source.room() == "supervisor" || !name.starts_with("serde") {
                    complaints.push(format!("src/{}: `{line}`", source.path));
                }
            }
        }
    }
    no_complaints(&complaints);
}

#[test]
fn only_media_uplink_and_ice_know_gstreamer() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| !matches!(source.room(), "media" | "uplink" | "ice")) {
        for line in source.code().filter(|line| ["gst::", "gst_", "gstreamer"].iter().any(|name| names(line, name))) {
            complaints.push(format!("src/{}: `{line}`", source.path));
        }
    }
    no_complaints(&complaints);
}

/// `name` begins a word in `line`, outside of text in quotes.
fn names(line: &str, name: &str) -> bool {
    let unquoted: String = line.split('"').step_by(2).collect();
    unquoted.match_indices(name).any(|(at, _)| {
        let before = unquoted[..at].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && before != '_')
    })
}

#[test]
fn pure_files_touch_no_world() {
    const WORLD: &[&str] = &[
        "Instant::now",
        "SystemTime::now",
        "tokio::",
        "std::fs",
        "fs::",
        "std::net::Tcp",
        "std::net::Udp",
        "TcpStream",
        "UdpSocket",
        "Mutex",
        "RwLock",
        "Atomic",
        "thread::",
        "process::",
        "env::",
        "rand::",
        "fastrand",
        "reqwest",
        "gst::",
        "println!",
        "eprintln!",
    ];
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.is_pure() && !source.is_test()) {
        for line in source.code() {
            for word in WORLD.iter().filter(|word| names(line, word)) {
                complaints.push(format!("src/{} is `Pure:` and names `{word}`: `{line}`", source.path));
            }
        }
    }
    no_complaints(&complaints);
}

#[test]
fn files_are_small() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test() && !TABLES.contains(&source.path.as_str())) {
        let lines = source.code().count();
        if lines > FILE_LINES_MAX {
            complaints
                .push(format!("src/{} has {lines} code lines, more than {FILE_LINES_MAX}: split it", source.path));
        }
    }
    no_complaints(&complaints);
}

#[test]
fn unsafe_lives_in_one_file() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| !MAY_BE_UNSAFE.contains(&source.path.as_str())) {
        for line in source.code().filter(|line| names(line, "unsafe") && !line.contains("unsafe_code")) {
            complaints.push(format!("src/{}: `{line}`", source.path));
        }
    }
    no_complaints(&complaints);
}

/// `mod.rs` is on the map as its folder.
#[test]
fn the_map_names_every_file() {
    let sources = sources();
    let map = sources.iter().find(|source| source.path == "lib.rs").map_or("", |source| &source.text);
    let map: String = map.lines().filter(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n");
    let on_the_map = |source: &&Source| {
        let mut parts = source.path.rsplit('/');
        match (parts.next(), parts.next()) {
            (Some("lib.rs"), None) => true,
            (Some("mod.rs"), Some(folder)) => map.contains(&format!("{folder}/")),
            (Some(file), _) => names(&map, file),
            (None, _) => false,
        }
    };
    let missing = sources.iter().filter(|source| !source.is_test()).filter(|source| !on_the_map(source));
    let missing: Vec<String> =
        missing.map(|source| format!("the map in src/lib.rs lacks src/{}", source.path)).collect();
    no_complaints(&missing);
}
