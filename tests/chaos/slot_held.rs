//! UDP alone is blocked, and the server takes one publisher at a time: while it believes in the session whose media is lost,
//! it answers another POST with 400, and has no other word for that.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::ingest::{RemoteIngest, TOKEN};
use crate::netlab::{Families, Link, Netlab, SERVER};
use crate::program::{Program, is_message};

/// What a WHIP server in front of the ingest knows and has said.
#[derive(Default)]
struct OneHost {
    /// The session that has the slot.
    host: Mutex<Option<String>>,
    refused: AtomicUsize,
    deleted: AtomicUsize,
}

impl OneHost {
    /// Runs beside the ingest; the answer is where.
    fn start(lab: &Netlab, ingest: SocketAddr) -> (Arc<Self>, SocketAddr) {
        let one = Arc::new(Self::default());
        let serving = Arc::clone(&one);
        let address = lab.in_server(move || {
            let listener = TcpListener::bind((SERVER, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            // It inherits the place, and ends with the process.
            std::thread::spawn(move || {
                for near in listener.incoming().map_while(Result::ok) {
                    let serving = Arc::clone(&serving);
                    std::thread::spawn(move || serving.serve(near, ingest));
                }
            });
            address
        });
        (one, address)
    }

    fn serve(&self, mut near: TcpStream, ingest: SocketAddr) -> Option<()> {
        let (head, body) = read_request(&mut near)?;
        let mut words = head.split(' ');
        let (method, path) = (words.next()?, words.next()?.to_owned());
        let is_restart = method == "PATCH" && head.to_ascii_lowercase().contains("if-match: \"*\"");
        if is_restart {
            return refuse(&mut near, "405 Method Not Allowed", "no ICE restarts here");
        }
        if method == "POST" && self.host.lock().unwrap().is_some() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return refuse(&mut near, "400 Bad Request", "already has a host");
        }
        let mut far = TcpStream::connect(ingest).ok()?;
        // No token goes over http to another machine, so the proxy has it.
        let ours = format!("\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n");
        far.write_all(head.replacen("\r\n", &ours, 1).as_bytes()).ok()?;
        far.write_all(&body).ok()?;
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).ok()?;
        let said = String::from_utf8_lossy(&answer).into_owned();
        let location = said.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
        });
        let mut host = self.host.lock().unwrap();
        if method == "POST" && said.starts_with("HTTP/1.1 201") {
            *host = location;
        } else if method == "DELETE" && host.as_ref().is_some_and(|host| host.ends_with(&path)) {
            *host = None;
            self.deleted.fetch_add(1, Ordering::Relaxed);
        }
        drop(host);
        near.write_all(&answer).ok()
    }
}

fn read_request(near: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        match near.read(&mut part).ok()? {
            0 => return None,
            length => bytes.extend_from_slice(&part[..length]),
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8(bytes).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    while body.len() < length.unwrap_or(0) {
        match near.read(&mut part).ok()? {
            0 => return None,
            length => body.extend_from_slice(&part[..length]),
        }
    }
    Some((head, body))
}

fn refuse(near: &mut TcpStream, status: &str, words: &str) -> Option<()> {
    let length = words.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{words}"
    );
    near.write_all(answer.as_bytes()).ok()
}

#[test]
fn a_session_that_holds_the_slot_without_media_makes_way_and_is_no_end() {
    let Some(lab) = Netlab::builder().uplink_of("wlan0", Link::default(), Families::V4).build() else { return };
    let ingest = RemoteIngest::start(lab.server());
    let (one, address) = OneHost::start(&lab, ingest.behind());
    let config = format!(
        "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n[uplink]\nurl = \"http://{address}/whip/live\"\n\
         [reconnect]\nminDelay = \"300ms\"\nmaxDelay = \"1s\"\nmaxRetries = \"unlimited\"\n\
         [mediaPlane]\ndisconnectedTimeout = \"500ms\"\n"
    );
    let mut encoder = Program::encoder_with(&config, |command| *command = lab.encoder().wrap(command));
    encoder.wait_for_message("broadcasting");
    lab.block_udp("wlan0");
    let refused = |event: &serde_json::Value| {
        event["event"] == "BroadcastError"
            && event["data"]["words"].as_str().is_some_and(|words| words.contains("already has a host"))
    };
    let (_, told) = encoder.wait_for("the refusal", refused);
    assert_ne!(told["data"]["retry"], "never", "{told}");
    encoder.wait_for("another session", |event| {
        is_message(event, "reconnecting_broadcast") || is_message(event, "signalling")
    });
    lab.heal("wlan0");
    encoder.wait_for_message("broadcasting");
    assert!(one.refused.load(Ordering::Relaxed) > 0);
    assert!(one.deleted.load(Ordering::Relaxed) > 0, "the session that held the slot was told goodbye");
}
