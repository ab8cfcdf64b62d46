//! The control API itself, byte by byte: who may come in, what is refused and how, readers who do not read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use roamcast::config::{self, Loaded};
use roamcast::control::Windows;
use roamcast::control::desk::{Desk, Origin};
use roamcast::control::feed::{Feed, Told, feed};
use roamcast::inbox::Inbox;
use roamcast::status::Status;
use roamcast::supervisor::event::{Command, Event};
use roamcast::supervisor::policy::Retries;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::program::free_port;

/// Windows without an encoder behind them.
struct House {
    windows: Windows,
    feed: Feed,
    inbox: Inbox,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

/// `more`: lines of `[control]`.
async fn house(more: &str) -> Result<House, String> {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    let text = format!("[control]\nsocket = '{}'\n{more}", socket.display());
    let loaded = config::load_with(&text, "config.toml", std::iter::empty(), &BTreeMap::new(), |_| false);
    let Loaded { config, file } = loaded.map_err(|complaints| complaints.to_string())?;
    let (inbox, (feed, view)) = (Inbox::default(), feed());
    let read = {
        let text = text.clone();
        Box::new(move || Ok(text.clone()))
    };
    let name = "config.toml".to_owned();
    let origin = Origin { name, text, file, env: Vec::new(), read, is_own: |_| false, log_level: Box::new(|_| {}) };
    let desk = Arc::new(Desk::new(&config, origin, inbox.clone(), view));
    let windows = Windows::open(&config.control, &desk).await?;
    Ok(House { windows, feed, inbox, socket, _folder: folder })
}

/// Sends one request and gives status and body back.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, head: &str, body: &str) -> (u16, String) {
    let request = format!("{head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn unix(socket: &Path, line: &str, body: &str) -> (u16, String) {
    talk(UnixStream::connect(socket).await.unwrap(), &format!("{line} HTTP/1.1\r\nHost: localhost"), body).await
}

async fn tcp(port: u16, line: &str, headers: &[&str]) -> (u16, String) {
    let headers: String = headers.iter().map(|header| format!("\r\n{header}")).collect();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    talk(stream, &format!("{line} HTTP/1.1{headers}"), "").await
}

fn error(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {body}"));
    body["error"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_request_gets_its_status_and_one_sentence() {
    let house = house("").await.unwrap();
    let long = format!("{{\"key\":\"log.level\",\"value\":\"{}\"}}", "x".repeat(20_000));
    for (line, body, status, words) in [
        ("GET /", "", 404, "there is nothing here; the API is at /api/v1"),
        ("GET /api/v1/stop", "", 405, "this path takes another method"),
        (
            "POST /api/v1/set",
            "",
            400,
            "the body must be JSON such as {\"key\": \"reconnect.maxRetries\", \"value\": 20}",
        ),
        ("POST /api/v1/set", "{\"key\":\"a\"}", 400, "the body must be JSON such as"),
        ("POST /api/v1/set", "{\"key\":\"a\",\"value\":1,\"x\":2}", 400, "the body must be JSON such as"),
        ("POST /api/v1/set", &long, 413, "the body cannot be taken: "),
        ("POST /api/v1/set", "{\"key\":\"a\",\"value\":[]}", 422, "`value` must be text, a number, `true` or `false`"),
        ("POST /api/v1/set", "{\"key\":\"a.b\",\"value\":1}", 422, "unknown key `a.b`"),
        ("POST /api/v1/set", "{\"key\":\"video.width\",\"value\":640}", 409, "`video.width` cannot change while"),
        ("POST /api/v1/reconnect", "", 409, "there is nothing to reconnect"),
    ] {
        let (code, answer) = unix(&house.socket, line, body).await;
        assert_eq!(code, status, "{line} {answer}");
        let sentence = error(&answer);
        assert!(sentence.starts_with(words) && !sentence.contains('\n'), "{line}: {sentence}");
    }
    let (code, body) = unix(&house.socket, "GET /readyz", "").await;
    assert_eq!((code, body.as_str()), (503, "Off air\n"));
    assert_eq!(unix(&house.socket, "GET /healthz", "").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_reach_the_brain_in_its_own_words() {
    let house = house("").await.unwrap();
    let body = "{\"key\":\"reconnect.maxRetries\",\"value\":20}";
    for (line, body, status) in [("start", "", 202), ("stop", "", 202), ("set", body, 200), ("reload", "", 200)] {
        assert_eq!(unix(&house.socket, &format!("POST /api/v1/{line}"), body).await.0, status, "{line}");
    }
    assert_eq!(house.inbox.next().await, Event::Command(Command::Start));
    assert_eq!(house.inbox.next().await, Event::Command(Command::Stop));
    for retries in [20, 10] {
        let Event::Command(Command::Policy(policy)) = house.inbox.next().await else { panic!("no policy") };
        assert_eq!(policy.max_retries, Retries::AtMost(retries), "a reload forgets what was set");
    }
    drop(house.feed);
    house.windows.close().await;
    assert!(!house.socket.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_without_a_token_takes_this_machine_and_no_web_page() {
    let port = free_port();
    let _house = house(&format!("listen = '127.0.0.1:{port}'")).await.unwrap();
    let here = format!("Host: 127.0.0.1:{port}");
    for (headers, status) in [
        (vec![here.as_str()], 200),
        (vec!["Host: localhost"], 200),
        (vec!["Host: evil.example"], 421),
        (vec![&here, "Origin: https://evil.example"], 403),
        (vec![&here, "Origin: null"], 403),
        (vec![&here, &format!("Origin: http://127.0.0.1:{port}")], 200),
    ] {
        let (code, body) = tcp(port, "GET /api/v1/status", &headers).await;
        assert_eq!(code, status, "{headers:?} {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_and_read_anew_each_time() {
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    let file = folder.path().join("token");
    let open = format!("listen = '0.0.0.0:{port}'\n");
    let refused = house(&open).await.err().unwrap();
    assert!(refused.contains("`control.listen` is open to other machines: it needs `control.tokenFile`"), "{refused}");

    let _house = house(&format!("{open}tokenFile = '{}'", file.display())).await.unwrap();
    let host = "Host: encoder.example";
    let status = async |headers: &[&str]| tcp(port, "GET /api/v1/status", headers).await;
    let (code, body) = status(&[host, "Authorization: Bearer f1rst-c0ntrol"]).await;
    assert_eq!((code, error(&body).as_str()), (503, "`control.tokenFile` cannot be read, or is empty"));
    std::fs::write(&file, " \n").unwrap();
    assert_eq!(status(&[host, "Authorization: Bearer "]).await.0, 503, "no token lets nobody in");
    std::fs::write(&file, "f1rst-c0ntrol\n").unwrap();
    assert_eq!(status(&[host]).await.0, 401);
    for wrong in ["Bearer", "Bearer f1rst-c0ntro", "Bearer f1rst-c0ntrol2", "Basic f1rst-c0ntrol", "f1rst-c0ntrol"] {
        let (code, body) = status(&[host, &format!("Authorization: {wrong}")]).await;
        assert_eq!(code, 401, "{wrong}");
        assert!(!body.contains("f1rst"), "{body}");
    }
    assert_eq!(status(&[host, "Authorization: Bearer f1rst-c0ntrol"]).await.0, 200);
    std::fs::write(&file, "sec0nd-c0ntrol").unwrap();
    assert_eq!(status(&[host, "Authorization: Bearer f1rst-c0ntrol"]).await.0, 401);
    assert_eq!(status(&[host, "authorization: bearer sec0nd-c0ntrol"]).await.0, 200);
    assert_eq!(tcp(port, "GET /healthz", &[host]).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_the_form_that_is_asked_for() {
    let house = house("").await.unwrap();
    let told = |seq: u64, line: Option<&str>| Told {
        seq,
        json: format!("{{\"seq\":{seq}}}").into(),
        line: line.map(Into::into),
        is_scene: seq == 1,
    };
    let House { feed, socket, windows: _windows, .. } = &house;
    feed.publish(&Status::default(), vec![told(1, Some("On air")), told(2, None)]);
    for (accept, expected) in
        [("*/*", "id: 1\ndata: {\"seq\":1}\n\n"), ("application/x-ndjson", "{\"seq\":1}\n"), ("text/plain", "On air\n")]
    {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut heard = String::new();
        while !heard.contains(expected) {
            let mut bytes = [0; 1024];
            let length = stream.read(&mut bytes).await.unwrap();
            assert!(length > 0, "{accept}: {heard}");
            heard.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
    }
}

/// More events than socket and queue can hold, to a reader who only reads afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_does_not_read_is_dropped_and_holds_nobody_up() {
    const EVENTS: u64 = 20_000;
    let house = house("").await.unwrap();
    let padding = "x".repeat(500);
    let told = |seq: u64| Told { seq, json: format!("{seq} {padding}").into(), line: None, is_scene: seq == 0 };
    house.feed.publish(&Status::default(), vec![told(0)]);
    let mut stream = UnixStream::connect(&house.socket).await.unwrap();
    let request = "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut heard = vec![0; 1024];
    let length = stream.read(&mut heard).await.unwrap();
    heard.truncate(length);
    for seq in 1..=EVENTS {
        house.feed.publish(&Status::default(), vec![told(seq)]);
    }
    // The end comes although the feed goes on: the server has hung up.
    stream.read_to_end(&mut heard).await.unwrap();
    let heard = String::from_utf8(heard).unwrap();
    let count = heard.matches("data: ").count() as u64;
    assert!((1..EVENTS).contains(&count), "{count} events");
    assert_eq!(unix(&house.socket, "GET /api/v1/status", "").await.0, 200);
}

/// Strangers at the TCP door: connections that say nothing, and readers of events in every seat.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_over_tcp_locks_nobody_out() {
    let port = free_port();
    let house = house(&format!("listen = '127.0.0.1:{port}'")).await.unwrap();
    let host = format!("Host: 127.0.0.1:{port}");
    let mut readers = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(format!("GET /api/v1/events HTTP/1.1\r\n{host}\r\n\r\n").as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        readers.push(stream);
    }
    assert_eq!(tcp(port, "GET /api/v1/events", &[&host]).await.0, 503, "every seat is taken");
    let mut crowd = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nX: ").await.unwrap();
        crowd.push(stream);
    }
    assert_eq!(tcp(port, "GET /api/v1/status", &[&host]).await.0, 200, "who says nothing makes way");
    assert_eq!(unix(&house.socket, "GET /api/v1/status", "").await.0, 200);
    let mut operator = UnixStream::connect(&house.socket).await.unwrap();
    operator.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut status = [0; 12];
    operator.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200", "the operator has seats of their own");
    let mut first = Vec::new();
    crowd.swap_remove(0).read_to_end(&mut first).await.unwrap();
    assert!(first.is_empty(), "the first of the crowd was sent away");
    drop(readers);
    house.windows.close().await;
}
