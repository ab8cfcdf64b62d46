//! No secret in any log, however loud: one broadcast by each protocol, and each secret that it needed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::json;
use tokio::net::UdpSocket;

use crate::http::TOKEN;
use crate::janus::{Janus, LOCKED_ROOM, PIN};
use crate::program::{Program, roamcast};
use crate::relay::Relay;
use crate::secrets_kept::TURN_PASSWORD;

const VIDEO: &str = "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n";
const API_SECRET: &str = "open-sesame";

/// What stands behind each `mark`, up to a quote, a backslash or the end of the line.
fn values(texts: &[String], mark: &str) -> Vec<String> {
    let all = texts.iter().flat_map(|text| text.split(mark).skip(1));
    let value = |after: &str| after.split(['"', '\\', '\r', '\n']).next().unwrap_or_default().to_owned();
    let mut all: Vec<String> = all.map(value).collect();
    all.sort();
    all.dedup();
    all
}

/// The secrets went over the wire, and stand nowhere else.
fn kept_secret(texts: &[String], program: (&str, &Program, &str), secrets: &[String]) {
    let (who, program, loud) = program;
    let logs = program.everything();
    assert!(logs.contains(loud), "no `{loud}` in the logs of the {who}: {logs}");
    for secret in secrets {
        assert!(texts.iter().any(|text| text.contains(secret)), "a secret was not even sent");
        let leak = logs.lines().find(|line| line.contains(secret));
        assert!(leak.is_none(), "a secret in the log of the {who}: {}", leak.unwrap_or_default());
    }
}

fn ingest(port: u16, token_file: &Path) -> Program {
    let mut ingest = roamcast();
    ingest.args(["ingest", "--listen", &format!("127.0.0.1:{port}"), "--token-file"]).arg(token_file);
    let mut ingest = Program::start(ingest, tempfile::tempdir().unwrap());
    ingest.wait_for_line("watch at");
    ingest
}

/// Also on standard error, which has a filter of its own.
fn encoder(config: &str, state: &Path) -> Program {
    Program::encoder_with(&format!("{VIDEO}{config}"), |command| {
        command.env("ROAMCAST_LOG", "trace").env("STATE_DIRECTORY", state);
    })
}

/// Waits for a state of the signalling plane.
fn signalling(encoder: &mut Program, state: &str) {
    encoder.wait_for(state, |event| event["data"]["plane"] == "signalling" && event["data"]["state"] == state);
}

fn end(program: &mut Program) {
    program.signal("TERM");
    assert_eq!(program.wait_for_exit(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whip_keeps_token_and_ice_passwords_to_itself() {
    let files = tempfile::tempdir().unwrap();
    let token_file = files.path().join("token");
    std::fs::write(&token_file, TOKEN).unwrap();
    let port = crate::program::free_port();
    let mut ingest = ingest(port, &token_file);
    let relay = Relay::to(port).await;
    let (port, token) = (relay.port, token_file.display());
    let config = format!("[uplink]\nurl = \"http://127.0.0.1:{port}/whip/live\"\ntokenFile = \"{token}\"\n");
    let mut encoder = encoder(&config, files.path());
    encoder.wait_for_message("broadcasting");
    encoder.reconnect();
    end(&mut encoder);
    end(&mut ingest);

    let texts = relay.texts();
    let mut secrets = values(&texts, "a=ice-pwd:");
    assert!(secrets.len() >= 4, "two sessions, two sides: {}", secrets.len());
    secrets.push(TOKEN.to_owned());
    kept_secret(&texts, ("encoder", &encoder, "TRACE"), &secrets);
    kept_secret(&texts, ("ingest", &ingest, "joined"), &secrets);
}

#[tokio::test(flavor = "multi_thread")]
async fn roamcast_signalling_keeps_its_resume_tokens_to_itself() {
    let files = tempfile::tempdir().unwrap();
    let token_file = files.path().join("token");
    std::fs::write(&token_file, TOKEN).unwrap();
    let port = crate::program::free_port();
    let mut ingest = ingest(port, &token_file);
    let relay = Relay::to(port).await;
    let (port, token) = (relay.port, token_file.display());
    let config = format!(
        "[uplink]\nprotocol = \"roamcast\"\nurl = \"ws://127.0.0.1:{port}/signal/live\"\ntokenFile = \"{token}\"\n"
    );
    let mut encoder = encoder(&config, files.path());
    encoder.wait_for_message("broadcasting");
    relay.cut();
    signalling(&mut encoder, "disconnected");
    relay.heal();
    signalling(&mut encoder, "connected");
    end(&mut encoder);
    end(&mut ingest);

    let texts = relay.texts();
    assert!(texts.iter().any(|text| text.contains("\"type\":\"resumed\"")), "the session was not resumed");
    let mut secrets = values(&texts, "\"resumeToken\":\"");
    assert!(!secrets.is_empty(), "no resume token");
    let passwords = values(&texts, "a=ice-pwd:");
    assert!(passwords.len() >= 2, "two sides: {}", passwords.len());
    secrets.extend(passwords);
    secrets.push(TOKEN.to_owned());
    kept_secret(&texts, ("encoder", &encoder, "TRACE"), &secrets);
    kept_secret(&texts, ("ingest", &ingest, "joined"), &secrets);
}

#[tokio::test(flavor = "multi_thread")]
async fn janus_hears_pin_secret_and_token_and_no_log_does() {
    let Some(janus) = Janus::start_with(&format!("api_secret = \"{API_SECRET}\"\ntoken_auth = true")) else { return };
    janus.admin(json!({ "janus": "add_token", "token": TOKEN }));
    let relay = Relay::between(Ipv4Addr::LOCALHOST.into(), janus.address).await;
    let config = format!(
        "[uplink]\nprotocol = \"janus\"\nurl = \"ws://127.0.0.1:{}/\"\ntoken = \"{TOKEN}\"\n\
         room = {LOCKED_ROOM}\nroomPin = \"{PIN}\"\napiSecret = \"{API_SECRET}\"\n",
        relay.port
    );
    let state = tempfile::tempdir().unwrap();
    // Secrets go to loopback in the clear, where this Janus takes no media; nobody waits for that here.
    let mut encoder = encoder(&config, state.path());
    signalling(&mut encoder, "connected");
    relay.cut();
    signalling(&mut encoder, "disconnected");
    relay.heal();
    signalling(&mut encoder, "connected");
    end(&mut encoder);

    let texts = relay.texts();
    let mut secrets = values(&texts, "a=ice-pwd:");
    assert!(secrets.len() >= 2, "two sides: {}", secrets.len());
    secrets.extend([TOKEN, PIN, API_SECRET].map(str::to_owned));
    kept_secret(&texts, ("encoder", &encoder, "TRACE"), &secrets);
}

/// A TURN server that wants to know who is there, and then lets nobody in. Tells when it was told.
async fn turn_server() -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    const REFUSED: &[u8] = b"\x00\x09\x00\x04\x00\x00\x04\x01\x00\x14\x00\x04none\x00\x15\x00\x04once";
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut asked = [0; 1500];
        loop {
            let (length, who) = socket.recv_from(&mut asked).await.unwrap();
            let asked = &asked[..length];
            if asked.windows(5).any(|window| window == b"van-7") {
                return asked.to_vec();
            }
            // An Allocate error response (RFC 8656) with the transaction that was asked.
            let length = u8::try_from(REFUSED.len()).unwrap();
            let answer = [&[0x01, 0x13, 0x00, length], &asked[4..20], REFUSED].concat();
            socket.send_to(&answer, who).await.unwrap();
        }
    });
    (address, serving)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_a_turn_server_is_used_and_not_shown() {
    let files = tempfile::tempdir().unwrap();
    let token_file = files.path().join("token");
    std::fs::write(&token_file, TOKEN).unwrap();
    let port = crate::program::free_port();
    let mut ingest = ingest(port, &token_file);
    let (turn, told) = turn_server().await;
    let config = format!(
        "[uplink]\nurl = \"http://127.0.0.1:{port}/whip/live\"\ntoken = \"{TOKEN}\"\n\
         iceServers = [{{ urls = [\"turn:{turn}?transport=udp\"], username = \"van-7\", credential = \"{TURN_PASSWORD}\" }}]\n"
    );
    let mut encoder = encoder(&config, files.path());
    encoder.wait_for_message("broadcasting");
    tokio::time::timeout(crate::program::PATIENCE, told).await.expect("the TURN server is told who is there").unwrap();
    end(&mut encoder);
    end(&mut ingest);
    let escaped = TURN_PASSWORD.replace('@', "%40").replace(':', "%3A");
    // The password itself never goes over the wire: only what is computed from it does.
    let sent = [format!("{TURN_PASSWORD} {escaped}")];
    kept_secret(&sent, ("encoder", &encoder, "TRACE"), &[TURN_PASSWORD.to_owned(), escaped]);
}
