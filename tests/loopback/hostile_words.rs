//! Who reads our log may stall, what others say may quote our secrets: neither costs the broadcast, and nothing is told.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::program::{PATIENCE, Program, free_port, roamcast};

const VIDEO: &str = "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n";

fn ingest(port: u16) -> Program {
    let mut ingest = Program::with(&["ingest", "--listen", &format!("127.0.0.1:{port}")]);
    ingest.wait_for_line("watch at");
    ingest
}

#[test]
fn a_log_that_nobody_reads_stops_neither_reconnects_nor_the_end() {
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    let _ingest = ingest(port);
    let (socket, config) = (folder.path().join("control.sock"), folder.path().join("config.toml"));
    let text = format!("{VIDEO}[uplink]\nurl = \"http://127.0.0.1:{port}/whip/live\"\n");
    std::fs::write(&config, text).unwrap();
    // A reader that never reads, behind a pipe that is full from the start.
    let (_reader, mut full) = UnixStream::pair().unwrap();
    full.set_nonblocking(true).unwrap();
    while full.write(&[b'x'; 1024]).is_ok() {}
    full.set_nonblocking(false).unwrap();
    let mut command = roamcast();
    command
        .args(["run", "--events", "json", "-c"])
        .arg(&config)
        .env("ROAMCAST_LOG", "debug")
        .env("ROAMCAST__CONTROL__SOCKET", &socket);
    let mut encoder =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(std::os::fd::OwnedFd::from(full)).spawn().unwrap();
    let mut events = std::io::BufRead::lines(std::io::BufReader::new(encoder.stdout.take().unwrap()));
    let mut on_air = || events.by_ref().map_while(Result::ok).any(|line| line.contains("\"broadcasting\""));
    assert!(on_air(), "the encoder ended before it was on air");
    for round in 0..3 {
        let done = roamcast().args(["reconnect", "--socket"]).arg(&socket).status().unwrap();
        assert!(done.success(), "reconnect {round}: {done}");
        assert!(on_air(), "the encoder ended in round {round}");
    }
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(encoder.id().try_into().unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    // Reads to the end of standard output: that is when the process ends. A hang is ended by the deadline of the whole run.
    let started = Instant::now();
    assert_eq!(events.by_ref().map_while(Result::ok).filter(|line| line.contains("\"broadcasting\"")).count(), 0);
    assert!(encoder.wait().unwrap().success());
    assert!(started.elapsed() < PATIENCE, "the end took {:?}", started.elapsed());
}

const API_SECRET: &str = "apisec-S1-9931";
const PIN: &str = "pin-S2-7742";
const TOKEN: &str = "tok-\"S3\"\\5513";

/// A server of Janus that quotes all that it was sent: in its error, or as the reason of the close.
async fn quoting(closes: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            #[allow(clippy::result_large_err, reason = "the callback's type is not ours")]
            let agree = |_: &Request, mut response: Response| {
                response.headers_mut().insert("sec-websocket-protocol", "janus-protocol".parse().unwrap());
                Ok(response)
            };
            let mut socket = accept_hdr_async(tcp, agree).await.unwrap();
            let Some(Ok(Message::Text(text))) = socket.next().await else { continue };
            let request: Value = serde_json::from_str(&text).unwrap();
            let reason = format!("Unauthorized\u{202e}: {API_SECRET} {PIN} {TOKEN}");
            let last = if closes {
                Message::Close(Some(CloseFrame { code: 1008.into(), reason: reason.into() }))
            } else {
                let error = json!({"code": 403, "reason": reason});
                Message::text(
                    json!({"janus": "error", "transaction": request["transaction"], "error": error}).to_string(),
                )
            };
            let _gone = socket.send(last).await;
            while socket.next().await.is_some_and(|message| message.is_ok()) {}
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_quotes_our_secrets_gets_none_of_them_shown() {
    for closes in [false, true] {
        let port = quoting(closes).await;
        let config = format!(
            "{VIDEO}[uplink]\nprotocol = \"janus\"\nurl = \"ws://127.0.0.1:{port}/\"\nroom = 1\nroomPin = \"{PIN}\"\n\
             apiSecret = \"{API_SECRET}\"\ntoken = {}\n[reconnect]\nmaxRetries = 0\n",
            json!(TOKEN)
        );
        let mut encoder = Program::encoder(&config);
        let (_, error) = encoder.wait_for("the refusal", |event| event["event"] == "BroadcastError");
        let words = error["data"]["words"].as_str().unwrap();
        assert!(words.contains("***") && !words.contains('\u{202e}'), "{words}");
        assert_ne!(encoder.wait_for_exit(), 0);
        let all = format!("{:?} {:?} {}", encoder.events, encoder.text, encoder.log());
        for secret in [API_SECRET, PIN, "5513"] {
            assert!(!all.contains(secret), "`{secret}` is shown (closes: {closes}): {all}");
        }
    }
}

#[test]
fn no_password_of_a_camera_is_shown_wherever_it_stands_in_the_address() {
    let closed = free_port();
    for address in [
        "/live?user=admin&password=hush1-Camera",
        "/user=admin_password=hush1-Camera_channel=1_stream=0.sdp",
        "/Streaming/hush1-Camera/101",
    ]
    .map(|path| format!("rtsp://127.0.0.1:{closed}{path}"))
    .into_iter()
    .chain(
        ["admin:hush1-Camera", "admin:hush1-Camera/x", "admin:x@hush1-Camera", "hush1-Camera:"]
            .map(|user| format!("rtsp://{user}@127.0.0.1:{closed}/live")),
    ) {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = format!(
            "[video]\npipeline = \"rtsp\"\nuri = \"{address}\"\n[uplink]\nurl = \"http://127.0.0.1:{port}/whip/live\"\n"
        );
        let mut encoder = Program::encoder_with(&config, |command| {
            command.env("ROAMCAST__CONTROL__SOCKET", folder.path().join("s"));
        });
        encoder.wait_for("the camera is lost", |event| {
            event["event"] == "CaptureStatus" && event["data"]["words"].is_string()
                || event["event"] == "BroadcastError"
        });
        let status = roamcast().args(["status", "--json", "--socket"]).arg(folder.path().join("s")).output().unwrap();
        let all = format!(
            "{:?} {:?} {} {}",
            encoder.events,
            encoder.text,
            encoder.log(),
            String::from_utf8_lossy(&status.stdout)
        );
        assert!(all.contains("rtsp") && !all.contains("hush1-Camera"), "{address}: {all}");
    }
}

#[test]
fn a_second_encoder_in_one_state_folder_leaves_the_first_alone_and_says_so() {
    let (port, state) = (free_port(), tempfile::tempdir().unwrap());
    let _ingest = ingest(port);
    let encoder = |name: &str| {
        let config = format!("{VIDEO}[uplink]\nurl = \"http://127.0.0.1:{port}/whip/{name}\"\n");
        Program::encoder_with(&config, |command| {
            command.env("STATE_DIRECTORY", state.path());
        })
    };
    let mut first = encoder("first");
    first.wait_for_message("broadcasting");
    let mut second = encoder("second");
    second.wait_for_message("broadcasting");
    assert!(second.log().contains("another encoder uses the state folder"), "{}", second.log());
    first.catch_up();
    assert_eq!(first.messages(), ["signalling", "connected", "broadcasting"]);
    // The kernel lets go of the folder however an encoder ends.
    first.kill();
    let mut third = encoder("third");
    third.wait_for_message("broadcasting");
    assert!(!third.log().contains("another encoder"), "{}", third.log());
}
