//! The real encoder against the real embedded ingest, as two processes.

use std::time::{Duration, Instant};

use crate::program::{Program, free_port, is_message};

fn config(port: u16, more: &str) -> String {
    format!(
        "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n\
         [uplink]\nurl = \"http://127.0.0.1:{port}/whip/live\"\n{more}"
    )
}

fn ingest(port: u16) -> Program {
    let mut ingest = Program::with(&["ingest", "--listen", &format!("127.0.0.1:{port}")]);
    ingest.wait_for_line("watch at");
    ingest
}

const QUICK: &str = "[reconnect]\nminDelay = \"200ms\"\nmaxDelay = \"500ms\"\nmaxRetries = \"unlimited\"\n";

/// Encoded frames since the encoder started, from its newest Stats.
fn frames(encoder: &mut Program) -> u64 {
    let (_, stats) = encoder.wait_for("Stats", |event| event["event"] == "Stats");
    stats["data"]["frames"].as_u64().unwrap()
}

#[test]
fn the_encoder_waits_for_a_server_that_boots_later() {
    let port = free_port();
    let mut encoder = Program::encoder(&config(port, QUICK));
    encoder.wait_for("third try", |event| is_message(event, "signalling") && event["data"]["attempt"] == 3);
    let _ingest = ingest(port);
    encoder.wait_for_message("broadcasting");
    let messages = encoder.messages();
    assert_eq!(messages[..2], ["signalling", "reconnecting_broadcast"]);
    assert_eq!(messages[messages.len() - 3..], ["signalling", "connected", "broadcasting"]);
}

#[test]
fn gstreamers_own_agent_can_still_be_chosen() {
    for (agent, roams) in [("libnice", false), ("roaming", true)] {
        let port = free_port();
        let _ingest = ingest(port);
        let mut encoder = Program::encoder(&config(port, &format!("iceAgent = \"{agent}\"\n{QUICK}")));
        encoder.wait_for_message("broadcasting");
        let (_, stats) = encoder.wait_for("Stats", |event| event["event"] == "Stats");
        let paths = stats["data"]["paths"].as_array().unwrap();
        assert_eq!(paths.iter().any(|path| path["selected"] == true), roams, "{agent}: {stats}");
    }
}

#[test]
fn server_dies_and_comes_back_while_the_encoder_runs_on() {
    let port = free_port();
    let mut first = ingest(port);
    let mut encoder = Program::encoder(&config(port, QUICK));
    encoder.wait_for_message("broadcasting");
    let before = frames(&mut encoder);
    first.kill();
    let (lost, _) = encoder.wait_for_message("reconnecting_broadcast");
    let refused =
        |event: &serde_json::Value| event["event"] == "BroadcastError" && event["data"]["code"] == "SIGNALLING_FAILED";
    encoder.wait_for("a refused try", refused);
    let _second = ingest(port);
    let (back, _) = encoder.wait_for_message("broadcasting");
    let after = frames(&mut encoder);
    // 30 frames a second, all the time: a restart of the encoder would begin at 0 again.
    let outage = (back - lost).as_secs();
    assert!(after > before + outage * 20, "{before} frames before, {after} after {outage} s of outage");
    // One outage: first media is silent, then ICE is to be restarted, then nobody is there to be asked.
    let mut order: Vec<String> = encoder.messages();
    order.dedup();
    assert_eq!(
        order[..5],
        ["signalling", "connected", "broadcasting", "reconnecting_broadcast", "signalling"],
        "{order:?}"
    );
    assert_eq!(order[order.len() - 3..], ["signalling", "connected", "broadcasting"]);
    let capture: Vec<_> = encoder
        .events
        .iter()
        .filter(|(_, event)| event["event"] == "CaptureStatus")
        .map(|(_, e)| &e["data"]["state"])
        .collect();
    assert_eq!(capture, ["starting", "flowing"], "the camera was opened once");
}

#[test]
fn ctrl_c_says_goodbye_and_ends() {
    let port = free_port();
    let ingest = ingest(port);
    for signal in ["INT", "TERM"] {
        let mut encoder = Program::encoder(&config(port, QUICK));
        encoder.wait_for_message("broadcasting");
        encoder.signal(signal);
        assert_eq!(encoder.wait_for_exit(), 0);
        let (_, last) = encoder.events.last().unwrap().clone();
        assert_eq!(last["event"], "BroadcastStopped");
        assert_eq!(last["data"]["reason"], "requested");
    }
    assert_eq!(ingest.log().matches("goodbye").count(), 2, "{}", ingest.log());
}

#[test]
fn nothing_listens_and_the_retries_are_used_up() {
    let limits = "[reconnect]\nminDelay = \"300ms\"\nmaxDelay = \"1s\"\nmaxRetries = 3\n";
    let mut encoder = Program::encoder(&config(free_port(), limits));
    assert_eq!(encoder.wait_for_exit(), 69);
    let tries = encoder.messages().iter().filter(|message| *message == "signalling").count();
    assert_eq!(tries, 1 + 3, "{:?}", encoder.messages());
    let waits = encoder.events.iter().filter(|(_, event)| is_message(event, "reconnecting_broadcast"));
    let waits: Vec<f64> = waits.filter_map(|(_, event)| event["data"]["retryIn"].as_f64()).collect();
    assert_eq!(waits.len(), 3);
    assert!(waits.iter().all(|wait| (0.3..=1.0).contains(wait)), "{waits:?}");
    let codes: Vec<_> = encoder.events.iter().filter_map(|(_, event)| event["data"]["code"].as_str()).collect();
    assert_eq!(codes.last(), Some(&"RECONNECTION_EXHAUSTED"));
}

/// The time counts from the start of the program, and a busy machine may need more than 3 s to be on air: then it is given
/// longer, so that it is on air when it ends.
#[test]
fn the_demo_ends_by_itself() {
    for seconds in [3, 12, 40] {
        let began = Instant::now();
        let limit = format!("{seconds}s");
        let mut demo = Program::with(&["demo", "--listen", "127.0.0.1:0", "--events", "json", "--for", &limit]);
        assert_eq!(demo.wait_for_exit(), 0, "{}", demo.log());
        let (ended, last) = demo.events.last().unwrap();
        assert_eq!((&last["event"], &last["data"]["reason"]), (&"BroadcastStopped".into(), &"requested".into()));
        assert!(*ended - began >= Duration::from_secs(seconds), "it ended after {:?}", *ended - began);
        if demo.messages().contains(&"broadcasting".to_owned()) {
            return;
        }
        println!("not on air within {seconds} s");
    }
    panic!("the demo was never on air");
}

/// `roamcast run --events json | less`, and nobody scrolls: the events wait or are lost, the broadcast is not. A pipe holds
/// 64 KiB; a try writes more than 1 kB of events.
#[test]
fn a_reader_that_stalls_does_not_stall_the_broadcast() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("config.toml");
    let often = "[reconnect]\nminDelay = \"100ms\"\nmaxDelay = \"100ms\"\nmaxRetries = \"unlimited\"\n";
    std::fs::write(&path, config(server.local_addr().unwrap().port(), often)).unwrap();
    let mut command = crate::program::roamcast();
    command.args(["run", "--events", "json", "-c"]).arg(&path).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let nobody_reads = child.stdout.take();
    for _try in 0..100 {
        drop(server.accept().unwrap());
    }
    let told = std::process::Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
    assert!(told.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(nobody_reads);
}

/// READY at the start, the BroadcastStatus as STATUS, the watchdog fed while frames move, STOPPING at the end.
#[test]
fn systemd_is_told_and_its_watchdog_is_fed() {
    let port = free_port();
    let _ingest = ingest(port);
    let files = tempfile::tempdir().unwrap();
    let (config_path, socket_path) = (files.path().join("config.toml"), files.path().join("notify"));
    std::fs::write(&config_path, config(port, QUICK)).unwrap();
    let systemd = std::os::unix::net::UnixDatagram::bind(&socket_path).unwrap();
    systemd.set_read_timeout(Some(crate::program::PATIENCE)).unwrap();
    let mut command = crate::program::roamcast();
    command.args(["run", "--events", "json", "-c"]).arg(&config_path);
    command.env("NOTIFY_SOCKET", &socket_path).env("WATCHDOG_USEC", "1000000");
    let mut encoder = Program::start(command, files);
    let hear = |wanted: &str| {
        let deadline = Instant::now() + crate::program::PATIENCE;
        let mut buffer = [0; 1024];
        let mut told = String::new();
        while !told.contains(wanted) {
            assert!(Instant::now() < deadline, "`{wanted}` was not told:\n{told}");
            let length = systemd.recv(&mut buffer).unwrap_or_else(|_| panic!("`{wanted}` was not told:\n{told}"));
            told.push_str(&String::from_utf8_lossy(&buffer[..length]));
            told.push('\n');
        }
    };
    hear("READY=1");
    hear("STATUS=On air");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    encoder.signal("TERM");
    hear("STOPPING=1");
    assert_eq!(encoder.wait_for_exit(), 0);
}
