//! The Janus messenger against a server that says what it should not, or not when it should.

use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use roamcast::config::units::Secret;
use roamcast::config::{JanusRoom, Protocol, TokenSource, Uplink};
use roamcast::signal::{Signaller, Timeouts, Word};
use roamcast::status::ErrorCode;
use roamcast::supervisor::event::{Failure, Retry};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use url::Url;

use crate::captured::Captured;
use crate::http::{self, Server, TOKEN, reply};
use crate::program::PATIENCE;

const SECRET: &str = "s3cret-of-the-api";
const OFFER: &str = include_str!("../support/offer.sdp");
const ANSWER: &str = include_str!("../support/answer.sdp");

fn uplink(url: Url) -> Uplink {
    let api_secret = Some(Secret::new(SECRET.to_owned()));
    let room = JanusRoom { room: 7, create: false, pin: None, api_secret, display: "van".to_owned() };
    Uplink { protocol: Protocol::Janus, janus: Some(room), ..http::uplink(url) }
}

/// Says `noise` around each answer of a healthy Janus, and `last` after the one to the publish.
struct Canned {
    url: Url,
    task: JoinHandle<()>,
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn canned(noise: Vec<String>, last: Vec<Message>) -> Canned {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let task = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        #[allow(clippy::result_large_err, reason = "the callback's type is not ours")]
        let agree = |request: &Request, mut response: Response| {
            assert_eq!(request.headers()["sec-websocket-protocol"], "janus-protocol");
            assert_eq!(request.headers()["authorization"], format!("Bearer {TOKEN}"));
            response.headers_mut().insert("sec-websocket-protocol", "janus-protocol".parse().unwrap());
            Ok(response)
        };
        let mut socket = accept_hdr_async(tcp, agree).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else { continue };
            let request: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&request["apisecret"], &request["token"]), (&json!(SECRET), &json!(TOKEN)));
            let answer = answer(&request);
            for text in noise.iter().chain([&answer]).chain(&noise).chain([&answer]) {
                socket.send(Message::text(text.clone())).await.unwrap();
            }
            if request["janus"] == "message" {
                for message in &last {
                    socket.send(message.clone()).await.unwrap();
                }
            }
        }
    });
    Canned { url, task }
}

fn answer(request: &Value) -> String {
    let transaction = &request["transaction"];
    match request["janus"].as_str().unwrap() {
        "create" => json!({ "janus": "success", "transaction": transaction, "data": { "id": 11 } }),
        "attach" => json!({ "janus": "success", "transaction": transaction, "session_id": 11, "data": { "id": 12 } }),
        "message" => json!({ "janus": "event", "transaction": transaction, "session_id": 11, "sender": 12,
            "plugindata": { "plugin": "janus.plugin.videoroom", "data": { "videoroom": "joined", "id": 13 } },
            "jsep": { "type": "answer", "sdp": ANSWER } }),
        _ => json!({ "janus": "success", "transaction": transaction, "session_id": 11 }),
    }
    .to_string()
}

#[tokio::test]
async fn nonsense_late_and_doubled_messages_are_named_once_each_and_disturb_nothing() {
    let (log, _guard) = Captured::start();
    let noise = [
        "no json at all",
        "",
        "[]",
        r#"{"janus":"event"#,
        r#"{"janus":"tomorrow","session_id":11}"#,
        r#"{"janus":"error","transaction":"attach-999","error":{"code":490,"reason":"late"}}"#,
        r#"{"janus":"timeout","session_id":99}"#,
        r#"{"janus":"ack"}"#,
        r#"{"janus":"media","session_id":11,"mid":"video0","receiving":false}"#,
        r#"{"janus":"event","session_id":11,"plugindata":{"data":{"videoroom":"event","publishers":[]}}}"#,
    ];
    let server = canned(noise.map(str::to_owned).to_vec(), Vec::new()).await;
    let mut signaller = crate::http::signaller(&uplink(server.url.clone())).unwrap();
    assert_eq!(signaller.publish(OFFER).await.unwrap().session_id, "7/13");
    signaller.candidates(&[], true).await.unwrap();
    signaller.goodbye().await.unwrap();

    log.says_once(&[
        "it is no JSON",
        "it is cut off",
        "it is no message of Janus",
        "`tomorrow` is not known",
        "error 490 answers nothing",
        "a session that is not ours",
        "late or twice",
    ]);
    let log = log.text();
    for secret in [SECRET, TOKEN, "a=ice-pwd"] {
        assert!(!log.contains(secret), "{log}");
    }
}

async fn published(last: Vec<Message>) -> (Canned, Signaller) {
    let server = canned(Vec::new(), last).await;
    let mut signaller = crate::http::signaller(&uplink(server.url.clone())).unwrap();
    signaller.publish(OFFER).await.unwrap();
    (server, signaller)
}

#[tokio::test]
async fn a_close_code_and_a_huge_message_end_the_connection_each_in_its_own_words() {
    let close = |code: u16| Message::Close(Some(CloseFrame { code: code.into(), reason: "so there".into() }));
    for (last, code, words) in [
        (close(4020), ErrorCode::AdminDisconnect, "with 4020"),
        (close(1001), ErrorCode::SignallingFailed, "so there"),
        (Message::text("x".repeat(256 * 1024 + 1)), ErrorCode::SignallingFailed, "a message longer than 262144 bytes"),
    ] {
        let (_server, mut signaller) = published(vec![last]).await;
        let word = timeout(PATIENCE, signaller.next()).await.unwrap();
        let Word::Lost(failure) = word else { panic!("{word:?}") };
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.words.contains(words), "{failure}");
    }
}

/// Janus takes the media down before it says why: the reason counts, in whatever order, and once.
#[tokio::test]
async fn a_hangup_is_explained_by_what_follows_it() {
    let say = |words: &str| Message::text(words.replace('{', r#"{"session_id":11,"sender":12,"#));
    let hangup = || say(r#"{"janus":"hangup","reason":"DTLS alert"}"#);
    let detached = || say(r#"{"janus":"detached"}"#);
    let kicked = || {
        let data = json!({ "videoroom": "event", "room": 7, "leaving": "ok", "reason": "kicked" });
        let event = json!({ "janus": "event", "session_id": 11, "sender": 12,
            "plugindata": { "plugin": "janus.plugin.videoroom", "data": data } });
        Message::text(event.to_string())
    };
    let bye = || Message::Close(Some(CloseFrame { code: 1001.into(), reason: "so there".into() }));
    for (last, code, then_lost) in [
        (vec![hangup()], ErrorCode::IceConnectionDisconnected, false),
        (vec![hangup(), hangup()], ErrorCode::IceConnectionDisconnected, false),
        (vec![hangup(), detached()], ErrorCode::NetworkDisconnect, false),
        (vec![detached(), hangup()], ErrorCode::NetworkDisconnect, false),
        (vec![hangup(), kicked(), detached()], ErrorCode::AdminDisconnect, false),
        (vec![hangup(), bye()], ErrorCode::IceConnectionDisconnected, true),
    ] {
        let (_server, mut signaller) = published(last.clone()).await;
        let word = timeout(PATIENCE, signaller.next()).await.unwrap();
        let Word::Ended(failure) = word else { panic!("{last:?}: {word:?}") };
        assert_eq!(failure.code, code, "{last:?}: {failure}");
        // Longer than a hangup is held: nothing is told twice.
        let more = timeout(std::time::Duration::from_millis(400), signaller.next()).await;
        assert_eq!(matches!(more, Ok(Word::Lost(_))), then_lost, "{last:?}: {more:?}");
        assert!(then_lost || more.is_err(), "{last:?}: {more:?}");
    }
}

async fn handshake(status: &'static str, headers: &'static [&'static str]) -> Failure {
    let server = Server::start(move |_| reply(status, headers, "")).await;
    let mut url = server.url("/janus?key=hidden");
    url.set_scheme("ws").unwrap();
    let failure = crate::http::signaller(&uplink(url)).unwrap().publish(OFFER).await.unwrap_err();
    assert_eq!(server.requests().len(), 1, "{failure}");
    assert!(!failure.words.contains("hidden") && !failure.words.contains(TOKEN), "{failure}");
    failure
}

#[tokio::test]
async fn a_refused_handshake_is_a_failure_of_the_table() {
    use std::time::Duration;
    for (status, headers, retry, code) in [
        ("401 Unauthorized", &[][..], Retry::Once, ErrorCode::InvalidToken),
        ("403 Forbidden", &[], Retry::IfProven { after: None }, ErrorCode::AuthFailed),
        ("404 Not Found", &[], Retry::IfProven { after: None }, ErrorCode::NotFound),
        ("302 Found", &["Location: http://127.0.0.1:9/"], Retry::Backoff, ErrorCode::SignallingFailed),
        (
            "503 Service Unavailable",
            &["Retry-After: 7"],
            Retry::After(Duration::from_secs(7)),
            ErrorCode::SignallingFailed,
        ),
        ("200 OK", &[], Retry::Backoff, ErrorCode::SignallingFailed),
    ] {
        let failure = handshake(status, headers).await;
        assert_eq!((failure.retry, failure.code), (retry, code), "{failure}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_another_protocol_is_told_from_a_dead_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("ws://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let serving = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let _hung_up = tokio_tungstenite::accept_async(tcp).await;
    });
    let failure = crate::http::signaller(&uplink(url.clone())).unwrap().publish(OFFER).await.unwrap_err();
    assert!(
        failure.retry == Retry::IfProven { after: None } && failure.words.contains("`janus-protocol`"),
        "{failure}"
    );
    serving.await.unwrap();
    let failure = crate::http::signaller(&uplink(url)).unwrap().publish(OFFER).await.unwrap_err();
    assert!(failure.retry == Retry::Backoff && failure.words.contains("nothing listens"), "{failure}");
}

#[tokio::test]
async fn a_ghost_elsewhere_never_sees_our_secrets() {
    let stranger = Server::start(|_| reply("200 OK", &[], "")).await;
    let memory = json!({ "protocol": "janus", "url": stranger.url("/").as_str().replace("http", "ws"),
        "sessionId": 1, "handleId": 2 });
    let ghost = roamcast::signal::Ghost(serde_json::from_value(memory).unwrap());
    let mut config = uplink("ws://127.0.0.1:9/".parse().unwrap());
    config.token = Some(TokenSource::Value(Secret::new(TOKEN.to_owned())));
    let failure = crate::http::signaller(&config).unwrap().bury(ghost).await.unwrap_err();
    assert_eq!((failure.code, failure.retry), (ErrorCode::UntrustedRedirect, Retry::Never), "{failure}");
    assert!(stranger.requests().is_empty());
}

/// Janus wants the token in every request, so a new one needs no new connection.
#[tokio::test]
async fn a_live_session_renews_its_token_in_place() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let provider = Server::start(move |_| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let token = format!("{{\"token\":\"token-{number}\",\"expiresIn\":2}}");
        reply("200 OK", &["Content-Type: application/json"], &token)
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        #[allow(clippy::result_large_err, reason = "the callback's type is not ours")]
        let agree = |_: &Request, mut response: Response| {
            response.headers_mut().insert("sec-websocket-protocol", "janus-protocol".parse().unwrap());
            Ok(response)
        };
        let mut socket = accept_hdr_async(tcp, agree).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else { continue };
            let request: Value = serde_json::from_str(&text).unwrap();
            let verb = request["janus"].as_str().unwrap().to_owned();
            record.lock().unwrap().push((verb, request["token"].as_str().unwrap().to_owned()));
            socket.send(Message::text(answer(&request))).await.unwrap();
        }
    });
    let config = Uplink { token: Some(TokenSource::Url(provider.url("/"))), ..uplink(url) };
    let timeouts = Timeouts { inactivity: std::time::Duration::from_secs(3), ..Timeouts::default() };
    let mut signaller = http::signaller_with(&config, timeouts).unwrap();
    signaller.publish(OFFER).await.unwrap();
    assert!(seen.lock().unwrap().iter().all(|(_, token)| token == "token-1"));
    let renewed = async {
        while !seen.lock().unwrap().iter().any(|(verb, token)| verb == "keepalive" && token == "token-2") {
            let said = timeout(std::time::Duration::from_millis(50), signaller.next()).await;
            assert!(said.is_err(), "{said:?}");
        }
    };
    timeout(PATIENCE, renewed).await.unwrap_or_else(|_| panic!("{:?}", seen.lock().unwrap()));
    task.abort();
}
