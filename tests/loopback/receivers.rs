//! The same encoder against two independent WHIP receivers: aiortc (Python) and whipserversrc (gst-plugins-rs).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::program::{Program, free_port};

/// `None`, with the reason, where `scripts/peers` has not brought the receiver.
fn receiver(program: &str, arguments: &[String]) -> Option<Program> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.join(program);
    if !path.exists() {
        println!("skipped: {} is not there; `scripts/peers` brings it", path.display());
        return None;
    }
    let mut command = Command::new(path);
    command.args(arguments).current_dir(root);
    let mut receiver = Program::start(command, tempfile::tempdir().unwrap());
    receiver.wait_for_line("ready");
    Some(receiver)
}

/// Waits until the receiver has counted that many of a kind.
fn counts(receiver: &mut Program, kind: &str, wanted: u64) {
    let prefix = format!("{kind} ");
    receiver.wait_until(&format!("{wanted} of {kind}"), |line| {
        line.strip_prefix(&prefix).and_then(|count| count.parse::<u64>().ok()).is_some_and(|count| count >= wanted)
    });
}

fn encoder(url: &str, more: &str) -> Program {
    Program::encoder(&format!(
        "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n{more}\n[uplink]\nurl = \"{url}\"\n\
         [reconnect]\nminDelay = \"200ms\"\nmaxDelay = \"500ms\"\n"
    ))
}

/// aiortc as DTLS client offers ECDSA cipher suites only: this holds with our own certificate alone.
#[test]
fn aiortc_gets_picture_and_sound_and_a_goodbye() {
    let port = free_port();
    let arguments = ["tests/peers/aiortc/receiver.py", "127.0.0.1", &port.to_string()].map(str::to_owned);
    let Some(mut receiver) = receiver("target/peers/aiortc/bin/python", &arguments) else { return };
    for codec in ["h264", "vp8"] {
        let mut encoder = encoder(&format!("http://127.0.0.1:{port}/whip"), &format!("codec = \"{codec}\""));
        encoder.wait_for_message("broadcasting");
        counts(&mut receiver, "video", 60);
        counts(&mut receiver, "audio", 60);
        encoder.signal("TERM");
        assert_eq!(encoder.wait_for_exit(), 0);
        receiver.wait_until("goodbye", |line| line == "deleted");
    }
}

/// The far end closes DTLS: that is heard at once. Silence would be noticed after 3 s at the earliest.
#[test]
fn a_receiver_that_hangs_up_is_heard_at_once() {
    let port = free_port();
    let arguments = ["tests/peers/aiortc/receiver.py", "127.0.0.1", &port.to_string()].map(str::to_owned);
    let Some(mut receiver) = receiver("target/peers/aiortc/bin/python", &arguments) else { return };
    let mut encoder = encoder(&format!("http://127.0.0.1:{port}/whip"), "");
    let (_, status) = encoder.wait_for_message("broadcasting");
    let session = status["data"]["sessionId"].as_str().unwrap();
    let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(server, "DELETE {session} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    server.read_to_end(&mut Vec::new()).unwrap();
    let closed = Instant::now();
    receiver.wait_until("its end", |line| line == "deleted");
    let (heard, error) = encoder.wait_for("the end", |event| event["event"] == "BroadcastError");
    let words = error["data"]["words"].as_str().unwrap();
    assert!(words.starts_with("the server has ended the session"), "{words}");
    let late = heard.saturating_duration_since(closed);
    println!("heard {late:?} after the close");
    assert!(late < Duration::from_secs(2), "{late:?}");
    encoder.wait_for_message("broadcasting");
}

#[test]
fn whipserversrc_gets_picture_and_sound() {
    let port = free_port();
    let Some(mut receiver) = receiver("target/debug/whipserversrc-peer", &[format!("127.0.0.1:{port}")]) else {
        return;
    };
    let mut encoder = encoder(&format!("http://127.0.0.1:{port}/whip/endpoint"), "");
    encoder.wait_for_message("broadcasting");
    counts(&mut receiver, "video", 60);
    counts(&mut receiver, "audio", 60);
    encoder.signal("TERM");
    assert_eq!(encoder.wait_for_exit(), 0);
}
