//! What a person may get wrong: each gets one clear sentence and the right exit code, from `check` and from `run`.

use std::path::Path;
use std::process::{Command, Output};

use crate::program::roamcast;

fn config(folder: &Path, text: &str) -> String {
    let path = folder.join("config.toml");
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

fn run(mut command: Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = String::from_utf8_lossy(&stderr).into_owned() + &String::from_utf8_lossy(&stdout);
    assert!(!text.contains("panicked"), "{text}");
    (status.code().unwrap_or(-1), text)
}

/// (what the config says, what the sentence must name)
fn table(folder: &Path) -> Vec<(String, Vec<&'static str>)> {
    let text_file = folder.join("notes.txt");
    std::fs::write(&text_file, "this is no media").unwrap();
    let broken = folder.join("broken.launch");
    std::fs::write(&broken, "videotestsrc name=video_source ! no_such_element_anywhere").unwrap();
    let placeholder = folder.join("placeholder.launch");
    std::fs::write(&placeholder, "videotestsrc name=video_source pattern={patern}").unwrap();
    let file =
        |path: &Path| format!("[video]\npipeline = \"file\"\nuri = '{}'\n[audio]\nenabled = false\n", path.display());
    let launch = |path: &Path| format!("[video]\npipeline = '{}'\n", path.display());
    vec![
        ("[video]\nwidht = 640\n".into(), vec!["widht", "width", "config.toml:2:1"]),
        ("[video\n".into(), vec!["config.toml:1"]),
        (file(&folder.join("nothing.mkv")), vec!["nothing.mkv"]),
        (file(&text_file), vec!["notes.txt"]),
        (launch(&folder.join("none.launch")), vec!["none.launch"]),
        (launch(&broken), vec!["no_such_element_anywhere"]),
        (launch(&placeholder), vec!["patern"]),
        ("[video]\npipeline = \"tset\"\n".into(), vec!["tset", "test"]),
        ("[video]\npipeline = \"v4l2\"\ndevice = \"/dev/video99\"\n".into(), vec!["/dev/video99"]),
        ("[video]\npipeline = \"v4l2\"\ndevice = \"/dev/null\"\n".into(), vec!["/dev/null"]),
        ("[video]\nencoder = \"x265enc\"\n".into(), vec!["x265enc"]),
    ]
}

#[test]
fn check_names_what_is_wrong_and_exits_78() {
    let folder = tempfile::tempdir().unwrap();
    for (text, names) in table(folder.path()) {
        let mut command = roamcast();
        command.args(["check", "-c", &config(folder.path(), &text)]);
        let (code, said) = run(command);
        assert_eq!(code, 78, "{text}\n{said}");
        for name in names {
            assert!(said.contains(name), "`{name}` is not named for\n{text}\n{said}");
        }
    }
    let mut command = roamcast();
    command.args(["check", "-c", &config(folder.path(), "")]);
    assert_eq!(run(command).0, 0);
}

/// Nothing listens at the address; whether the config or the reconnecting ends it, it ends in time with the right code.
#[test]
fn run_stops_at_once_where_trying_again_cannot_help() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = format!("[uplink]\nurl = \"http://127.0.0.1:{}/whip/x\"\n", crate::program::free_port());
    for (text, names) in table(folder.path()) {
        let mut command = roamcast();
        command.args(["run", "-c", &config(folder.path(), &format!("{text}\n{elsewhere}"))]);
        command.env("ROAMCAST__RECONNECT__MAXRETRIES", "unlimited");
        // A camera that is not there may be plugged in later: that is waited for.
        if text.contains("/dev/") {
            continue;
        }
        let (code, said) = run(command);
        assert_eq!(code, 78, "{text}\n{said}");
        for name in names {
            assert!(said.contains(name), "`{name}` is not named for\n{text}\n{said}");
        }
    }
}

#[test]
fn usage_errors_exit_64_and_missing_configs_78() {
    for (arguments, wanted) in [
        (&["fly"][..], 64),
        (&["run", "--events", "xml"], 64),
        (&["demo", "--listen", "nowhere"], 64),
        (&["run", "-c", "/no/such/file.toml"], 78),
        (&["ingest", "--listen", "0.0.0.0:0"], 78),
        (&["ingest", "--listen", "127.0.0.1:0", "--token-file", "/no/such/token"], 78),
    ] {
        let mut command = roamcast();
        command.args(arguments);
        let (code, said) = run(command);
        assert_eq!(code, wanted, "{arguments:?}\n{said}");
        assert!(said.lines().count() >= 1 && said.len() > 20, "{arguments:?}: {said}");
    }
}
