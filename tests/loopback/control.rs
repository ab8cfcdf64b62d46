//! The real encoder, and the verbs that talk to it over its control socket.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::program::{PATIENCE, Program, free_port, is_message, roamcast};

/// A running encoder with a socket, and the ingest it sends to.
struct Studio {
    encoder: Program,
    folder: tempfile::TempDir,
    _ingest: Program,
    port: u16,
}

/// What a verb said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

const QUICK: &str = "[reconnect]\nminDelay = \"200ms\"\nmaxDelay = \"500ms\"\n";

fn config(port: u16, more: &str) -> String {
    format!(
        "[broadcast]\nname = \"street\"\n[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n\
         [uplink]\nurl = \"http://127.0.0.1:{port}/whip/live\"\n{more}"
    )
}

fn encoder(folder: &Path) -> Program {
    let mut command = roamcast();
    command.env("ROAMCAST__CONTROL__SOCKET", folder.join("control.sock"));
    command.args(["run", "--events", "json", "-c"]).arg(folder.join("config.toml"));
    Program::start(command, tempfile::tempdir().unwrap())
}

fn verb(socket: &Path, line: &str) -> Said {
    let output = roamcast().args(line.split(' ')).arg("--socket").arg(socket).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

impl Studio {
    /// On air.
    fn new() -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let mut ingest = Program::with(&["ingest", "--listen", &format!("127.0.0.1:{port}")]);
        ingest.wait_for_line("watch at");
        std::fs::write(folder.path().join("config.toml"), config(port, QUICK)).unwrap();
        let mut encoder = encoder(folder.path());
        encoder.wait_for_message("broadcasting");
        Self { encoder, folder, _ingest: ingest, port }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    fn write_config(&self, more: &str) {
        std::fs::write(self.folder.path().join("config.toml"), config(self.port, more)).unwrap();
    }

    fn say(&self, line: &str) -> Said {
        verb(&self.socket(), line)
    }

    fn status(&self) -> Value {
        let said = self.say("status --json");
        assert_eq!(said.code, 0, "{}", said.err);
        serde_json::from_str(&said.out).unwrap()
    }

    /// Asks for the status until it fits; each question is a process of its own.
    fn status_with(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if fits(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "no {what}: {status:#}\n{}", self.encoder.log());
        }
    }

    fn max_retries(&self) -> u64 {
        self.status()["broadcast"]["maxRetries"].as_u64().unwrap()
    }

    /// The camera has been opened once and never again.
    fn the_camera_was_never_touched(&self) {
        let capture = self.encoder.events.iter().filter(|(_, event)| event["event"] == "CaptureStatus");
        let states: Vec<_> = capture.map(|(_, event)| &event["data"]["state"]).collect();
        assert_eq!(states, ["starting", "flowing"]);
    }
}

#[test]
fn the_status_tells_people_and_machines_what_is_on_air() {
    let mut studio = Studio::new();
    studio.encoder.wait_for("figures", |event| event["event"] == "Stats");
    let status = studio.status();
    assert_eq!((&status["name"], &status["capture"]), (&"street".into(), &"flowing".into()));
    assert_eq!(status["broadcast"]["message"], "broadcasting");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(status["config"].as_str().unwrap().ends_with("/config.toml"));
    assert!(status["uptime"].as_f64().unwrap() >= status["for"].as_f64().unwrap());
    let said = studio.say("status");
    assert_eq!((said.code, said.out.lines().next()), (0, Some("street: On air")));
    for row in ["since", "bitrate", "round trip", "loss", "session", "source", "encoder"] {
        assert!(said.out.lines().any(|line| line.trim_start().starts_with(row)), "no {row}: {}", said.out);
    }
    studio.encoder.signal("TERM");
    assert_eq!(studio.encoder.wait_for_exit(), 0);
    assert!(!studio.socket().exists(), "the socket is left behind");
    let said = studio.say("status");
    assert_eq!((said.code, said.out.as_str()), (69, ""));
    let name = studio.socket();
    let words =
        format!("error: no encoder answers at `{}`; --socket or $ROAMCAST_SOCKET names another one\n", name.display());
    assert_eq!(said.err, words);
}

#[test]
fn readers_of_events_hear_what_stdout_says_in_the_same_order() {
    let mut studio = Studio::new();
    let socket = studio.socket();
    let socket = socket.to_str().unwrap();
    let mut machine = Program::with(&["events", "--json", "--socket", socket]);
    let mut person = Program::with(&["events", "--socket", socket]);
    // What comes first is where the broadcast is: then both are connected.
    machine.wait_for_message("broadcasting");
    person.wait_for_line("On air");
    studio.encoder.reconnect();
    studio.encoder.signal("TERM");
    assert_eq!(studio.encoder.wait_for_exit(), 0);
    assert_eq!(machine.wait_for_exit(), 0, "{}", machine.log());
    assert_eq!(person.wait_for_exit(), 0, "{}", person.log());
    let heard: Vec<&Value> = machine.events.iter().map(|(_, event)| event).collect();
    let all: Vec<&Value> = studio.encoder.events.iter().map(|(_, event)| event).collect();
    assert!(all.contains(&heard[0]));
    let from = all.iter().position(|event| *event == heard[1]).expect("the second event is one of stdout's");
    assert_eq!(heard[1..], all[from..], "nothing is missing, nothing is told twice");
    assert_eq!(heard.last().unwrap()["event"], "BroadcastStopped");
    let lines = person.text.join("\n");
    assert!(lines.contains("An operator asked for a new connection"), "{lines}");
    assert!(lines.ends_with("Off air: stopped on request"), "{lines}");
}

#[test]
fn an_operator_reconnects_stops_and_starts() {
    let mut studio = Studio::new();
    let before = studio.status()["broadcast"]["sessionId"].clone();
    assert_eq!(studio.say("reconnect").code, 0);
    studio.encoder.wait_for_message("reconnecting_broadcast");
    studio.encoder.wait_for_message("broadcasting");
    assert_ne!(studio.status()["broadcast"]["sessionId"], before);
    studio.the_camera_was_never_touched();

    let said = studio.say("stop");
    assert_eq!((said.code, said.out.as_str()), (0, "leaving the air; `roamcast start` goes on air again\n"));
    studio.encoder.wait_for("the end", |event| event["event"] == "BroadcastStopped");
    let status = studio.status_with("closed camera", |status| status["capture"] == "stopped");
    assert_eq!((&status["broadcast"], &status["stopped"]), (&Value::Null, &"requested".into()));
    let said = studio.say("reconnect");
    let words =
        "error: there is nothing to reconnect: the broadcast is off air; `roamcast start` goes on air\n".to_owned();
    assert_eq!((said.code, said.err), (78, words));

    assert_eq!(studio.say("start --json").out, "{\"accepted\":\"start\"}\n");
    studio.encoder.wait_for_message("broadcasting");
    assert_eq!(studio.status()["stopped"], Value::Null);
}

/// product.md: "stuck 30 s: ReconnectStuck; `roamcast reconnect` / SIGUSR1 retries at once".
#[test]
fn a_stuck_encoder_tries_again_at_once_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    // By itself it would try again after the patience of this test.
    let slow = "stuckAfter = \"1s\"\nminDelay = \"10m\"\nmaxDelay = \"10m\"\n";
    let text = config(free_port(), &format!("[reconnect]\n{slow}"));
    std::fs::write(folder.path().join("config.toml"), text).unwrap();
    let mut encoder = encoder(folder.path());
    encoder.wait_for("the notice", |event| event["event"] == "ReconnectStuck");
    let refused = |event: &Value| event["event"] == "BroadcastError" && event["data"]["code"] == "SIGNALLING_FAILED";
    let tries = |encoder: &Program| encoder.events.iter().filter(|(_, event)| refused(event)).count();
    if tries(&encoder) == 0 {
        // The first try of a process loads plugins: on a busy machine that alone takes a second.
        encoder.wait_for("first try", refused);
    }
    assert_eq!(tries(&encoder), 1);
    let said = verb(&folder.path().join("control.sock"), "reconnect");
    assert_eq!(said.code, 0, "{}", said.err);
    encoder.wait_for("second try", refused);
    encoder.signal("USR1");
    encoder.wait_for("third try", refused);
    assert_eq!(encoder.log().matches("an operator wants: reconnect").count(), 2, "{}", encoder.log());
}

#[test]
fn retries_are_set_while_media_flows_on() {
    let mut studio = Studio::new();
    let (_, first) = studio.encoder.wait_for("figures", |event| event["event"] == "Stats");
    let said = studio.say("set reconnect.maxRetries=20");
    assert_eq!((said.code, said.out.as_str()), (0, "changed: reconnect.maxRetries\n"));
    assert_eq!(studio.say("set reconnect.max_retries=20").out, "nothing has changed\n");
    studio.encoder.signal("USR1");
    let (_, next) = studio.encoder.wait_for_message("reconnecting_broadcast");
    assert_eq!(next["data"]["maxRetries"], 20);
    studio.encoder.wait_for_message("broadcasting");
    let frames = |event: &Value| event["data"]["frames"].as_u64();
    let (_, last) = studio.encoder.wait_for("figures", |event| event["event"] == "Stats");
    assert!(frames(&last) > frames(&first), "the encoder began anew: {first} {last}");
    studio.the_camera_was_never_touched();
}

#[test]
fn what_cannot_be_set_is_refused_in_one_sentence_and_changes_nothing() {
    let studio = Studio::new();
    for (pair, words) in [
        ("video.width=640", "`video.width` cannot change while the encoder runs: restart it; nothing was changed"),
        (
            "uplink.token=hunter2",
            "`uplink.token` cannot change while the encoder runs: restart it; nothing was changed",
        ),
        ("reconnect.maxRetries=many", "`reconnect.maxRetries` must be a whole number or \"unlimited\", not \"many\""),
        ("reconnect.minDelay=99", "`reconnect.minDelay` (99s) must not be longer than `reconnect.maxDelay` (500ms)"),
        ("reconnect.maxRetry=3", "unknown key `reconnect.maxRetry`"),
        ("signalling.jitter=2", "`signalling.jitter` must be between 0 and 1, not 2"),
    ] {
        let said = studio.say(&format!("set {pair}"));
        assert_eq!((said.code, said.out.as_str()), (78, ""), "{pair}: {}", said.err);
        assert!(said.err.starts_with(&format!("error: {words}\n")), "{pair}: {}", said.err);
        assert!(!said.err.contains("hunter2"), "{}", said.err);
    }
    assert_eq!(studio.say("set reconnect.maxRetries").code, 64);
    assert_eq!(studio.max_retries(), 10);
    // One bad wish does not stick to the next one.
    assert_eq!(studio.say("set reconnect.maxRetries=3").code, 0);
}

#[test]
fn a_config_that_is_read_again_counts_when_it_is_good() {
    let mut studio = Studio::new();
    assert_eq!(studio.say("set reconnect.maxRetries=20").code, 0);
    studio.write_config(&format!("{QUICK}maxRetries = \"5\"\n"));
    let said = studio.say("reload");
    assert_eq!(said.code, 78);
    assert!(said.err.contains("must be a whole number or \"unlimited\", not \"5\""), "{}", said.err);
    assert!(said.err.contains("config.toml:12:14"), "{}", said.err);
    std::fs::remove_file(studio.folder.path().join("config.toml")).unwrap();
    assert!(studio.say("reload").err.contains("cannot be opened"));
    // Nothing has been changed by either.
    studio.status_with("old number", |status| status["broadcast"]["maxRetries"] == 20);

    studio.write_config(&format!("{QUICK}maxRetries = 5\n"));
    assert_eq!(studio.say("reload").out, "changed: reconnect.maxRetries\n");
    studio.status_with("new number", |status| status["broadcast"]["maxRetries"] == 5);

    studio.write_config(&format!("{QUICK}maxRetries = 6\n[signalling]\nmaxAttempts = \"unlimited\"\n"));
    studio.encoder.signal("HUP");
    studio.status_with("number of SIGHUP", |status| status["broadcast"]["maxRetries"] == 6);
    studio.write_config("[nonsense]\n");
    studio.encoder.signal("HUP");
    studio.status_with("complaint", |_| studio.encoder.log().contains("unknown key `nonsense`"));
    assert_eq!(studio.max_retries(), 6);
    studio.encoder.signal("USR1");
    studio.encoder.wait_for("next try", |event| is_message(event, "reconnecting_broadcast"));
    studio.encoder.wait_for_message("broadcasting");
    studio.the_camera_was_never_touched();
}

#[test]
fn the_log_gets_louder_and_quieter_while_media_flows() {
    let studio = Studio::new();
    assert_eq!(studio.say("set log.level=loud").code, 78);
    // What changes is logged as `info`, the first time to nobody.
    for (level, retries) in [("warn", 11), ("info", 12)] {
        assert_eq!(studio.say(&format!("set log.level={level}")).out, "changed: log.level\n");
        assert_eq!(studio.say(&format!("set reconnect.maxRetries={retries}")).code, 0);
    }
    let words = "an operator has changed reconnect.maxRetries";
    studio.status_with("line in the log", |_| studio.encoder.log().contains(words));
    assert_eq!(studio.encoder.log().matches(words).count(), 1, "{}", studio.encoder.log());
}

#[test]
fn a_second_encoder_leaves_the_socket_to_the_first() {
    let studio = Studio::new();
    let mut second = encoder(studio.folder.path());
    assert_eq!(second.wait_for_exit(), 78);
    let socket = studio.socket();
    let words =
        format!("another encoder answers at `{}`: give each one a `control.socket` of its own", socket.display());
    assert!(second.log().contains(&words), "{}", second.log());
    assert_eq!(studio.status()["broadcast"]["message"], "broadcasting");
}

#[test]
fn a_socket_of_an_encoder_that_was_killed_makes_way() {
    let mut studio = Studio::new();
    studio.encoder.kill();
    assert!(studio.socket().exists(), "kill -9 leaves it behind");
    studio.encoder = encoder(studio.folder.path());
    studio.encoder.wait_for_message("broadcasting");
    assert_eq!(studio.status()["broadcast"]["message"], "broadcasting");
}

/// Started by hand, by someone who may not write to /run: not worth a broadcast.
#[test]
fn the_socket_that_nobody_named_is_not_worth_a_broadcast() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.toml"), config(free_port(), QUICK)).unwrap();
    let mut command = roamcast();
    command.env_remove("ROAMCAST__CONTROL__SOCKET").env("RUNTIME_DIRECTORY", "/proc/nowhere");
    command.args(["run", "--events", "json", "-c"]).arg(folder.path().join("config.toml"));
    let mut encoder = Program::start(command, tempfile::tempdir().unwrap());
    encoder.wait_for_message("reconnecting_broadcast");
    let lines = encoder.log();
    assert_eq!(
        lines.matches("cannot reach this encoder: the socket `/proc/nowhere/control.sock`").count(),
        1,
        "{lines}"
    );
    encoder.signal("TERM");
    assert_eq!(encoder.wait_for_exit(), 0);
}

#[test]
fn systemd_says_where_the_socket_is() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.toml"), config(free_port(), QUICK)).unwrap();
    let mut command = roamcast();
    command.env_remove("ROAMCAST__CONTROL__SOCKET").env("RUNTIME_DIRECTORY", folder.path());
    command.args(["run", "--events", "json", "-c"]).arg(folder.path().join("config.toml"));
    let mut encoder = Program::start(command, tempfile::tempdir().unwrap());
    encoder.wait_for_message("reconnecting_broadcast");
    let said = roamcast().arg("status").env("ROAMCAST_SOCKET", folder.path().join("control.sock")).output().unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("street: "), "{said:?}");
}
