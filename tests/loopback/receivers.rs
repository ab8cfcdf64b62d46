//! The same encoder against two independent WHIP receivers: aiortc (Python) and whipserversrc (gst-plugins-rs).

use std::path::PathBuf;
use std::process::Command;

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
