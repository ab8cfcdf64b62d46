//! roamcast signalling with words that make no sense: neither side panics, hangs or believes them.

use std::time::{Duration, SystemTime};

use futures_util::{SinkExt, StreamExt};
use roamcast::config::{Protocol, TokenSource, Uplink};
use roamcast::ingest::{Ingest, Options};
use roamcast::signal::{Signaller, Timeouts, Word};
use roamcast::supervisor::event::{Failure, Retry};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, accept_hdr_async, connect_async};

use crate::captured::Captured;
use crate::{http, publisher};

/// Generous: the machine may be busy.
const WITHIN: Duration = Duration::from_secs(30);

async fn ingest() -> Ingest {
    Ingest::start(Options::new("127.0.0.1:0".parse().unwrap())).await.unwrap()
}

/// A client that says what a test tells it to say.
struct Raw(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Raw {
    async fn open(ingest: &Ingest) -> Self {
        Self(Self::try_open(ingest, &[("sec-websocket-protocol", "roamcast.v1")]).await.unwrap())
    }

    async fn try_open(
        ingest: &Ingest,
        headers: &[(&'static str, &'static str)],
    ) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, Error> {
        let mut request = format!("ws://{}/signal/live", ingest.address()).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        Ok(connect_async(request).await?.0)
    }

    async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next message, or the code of the close.
    async fn hear(&mut self) -> Result<Value, u16> {
        match tokio::time::timeout(WITHIN, self.0.next()).await.expect("the server says something") {
            Some(Ok(Message::Text(text))) => Ok(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(Some(frame)))) => Err(frame.code.into()),
            other => panic!("{other:?}"),
        }
    }

    async fn ask(&mut self, text: &str) -> Value {
        self.say(text).await;
        self.hear().await.unwrap()
    }

    async fn welcomed(ingest: &Ingest) -> Self {
        let mut raw = Self::open(ingest).await;
        let welcome = raw.ask(r#"{"type":"hello","versions":[7,1],"name":"live","mood":["good"]}"#).await;
        assert_eq!((&welcome["type"], &welcome["version"]), (&json!("welcome"), &json!(1)));
        raw
    }
}

#[tokio::test]
async fn messages_that_make_no_sense_are_answered_and_ignored() {
    let ingest = ingest().await;
    let mut raw = Raw::open(&ingest).await;
    let error = raw.ask(r#"{"type":"publish","sdp":"v=0"}"#).await;
    assert_eq!(error["name"], "outOfOrder", "before hello");
    drop(raw);
    let mut raw = Raw::welcomed(&ingest).await;
    for (text, name) in [
        ("hello", "malformed"),
        ("[]", "malformed"),
        (r#"{"type":"publish"}"#, "malformed"),
        (r#"{"type":"candidate","candidate":7}"#, "malformed"),
        (r#"{"type":"fly"}"#, "unknownType"),
        (r#"{"type":"welcome"}"#, "unknownType"),
        (r#"{"type":"hello","versions":[1],"name":"live"}"#, "outOfOrder"),
        (r#"{"type":"candidate","candidate":"candidate:1"}"#, "outOfOrder"),
        (r#"{"type":"iceRestart","sdp":"v=0"}"#, "outOfOrder"),
        (r#"{"type":"publish","sdp":"v=0"}"#, "badOffer"),
        (r#"{"type":"resume","sessionId":"none","resumeToken":"none"}"#, "resumeRefused"),
    ] {
        let error = raw.ask(text).await;
        assert_eq!((&error["type"], &error["name"]), (&json!("error"), &json!(name)), "{text}");
    }
    raw.0.send(Message::binary(vec![0xff])).await.unwrap();
    assert_eq!(raw.hear().await.unwrap()["name"], "malformed", "binary");
    raw.say(r#"{"type":"stats","fps":30,"mood":1}"#).await;
    raw.say(r#"{"type":"pong"}"#).await;
    assert_eq!(raw.ask(r#"{"type":"ping"}"#).await["type"], "pong");
    let publish = json!({ "type": "publish", "sdp": publisher::offer().await }).to_string();
    for _ in 0..3 {
        assert_eq!(raw.ask(&publish).await["type"], "answer", "again and again");
        raw.say(r#"{"type":"candidate","candidate":"candidate:nonsense","sdpMid":"x","sdpMLineIndex":99}"#).await;
    }
    raw.say(r#"{"type":"bye"}"#).await;
    assert_eq!(raw.hear().await, Err(1000));
    ingest.stop().await;
}

#[tokio::test]
async fn too_much_nonsense_ends_the_connection() {
    let ingest = ingest().await;
    let mut raw = Raw::welcomed(&ingest).await;
    for _ in 0..20 {
        assert_eq!(raw.ask("{}").await["name"], "malformed");
    }
    raw.say("{}").await;
    assert_eq!(raw.hear().await, Err(1002));

    let mut raw = Raw::welcomed(&ingest).await;
    raw.say(&"x".repeat(256 * 1024 + 1)).await;
    assert_eq!(raw.hear().await, Err(1009));
    Raw::welcomed(&ingest).await;
}

#[tokio::test]
async fn without_a_version_in_common_there_is_no_session() {
    let ingest = ingest().await;
    for versions in ["[]", "[2,3]"] {
        let mut raw = Raw::open(&ingest).await;
        let hello = format!(r#"{{"type":"hello","versions":{versions},"name":"live"}}"#);
        assert_eq!(raw.ask(&hello).await["name"], "versionUnsupported");
        assert_eq!(raw.hear().await, Err(1002));
    }
    let mut raw = Raw::open(&ingest).await;
    assert_eq!(raw.ask(r#"{"type":"hello","versions":[1],"name":"other"}"#).await["code"], 4003);
    assert_eq!(raw.hear().await, Err(4003));
}

#[tokio::test]
async fn who_does_not_speak_the_protocol_is_not_let_in() {
    let ingest = ingest().await;
    for (headers, status) in [
        (&[][..], 400),
        (&[("sec-websocket-protocol", "chat")][..], 400),
        (&[("sec-websocket-protocol", "roamcast.v1"), ("origin", "https://evil.example")][..], 403),
    ] {
        let Err(Error::Http(response)) = Raw::try_open(&ingest, headers).await else { panic!("{headers:?}") };
        assert_eq!(response.status(), status, "{headers:?}");
    }
    let page = [("sec-websocket-protocol", "chat, roamcast.v1"), ("origin", "http://localhost:3000")];
    assert!(Raw::try_open(&ingest, &page).await.is_ok());
    let url = format!("http://{}/signal/live", ingest.address());
    let plain = publisher::http_client().get(&url).header("sec-websocket-protocol", "roamcast.v1");
    assert_eq!(plain.send().await.unwrap().status(), 426);
    let faults = publisher::http_client().post(url.replace("signal", "faults"));
    assert_eq!(faults.send().await.unwrap().status(), 404, "not without --faults");
}

type Line = WebSocketStream<TcpStream>;

/// A server that says what a test tells it to say, once.
async fn server<F: Future<Output = ()> + Send>(talk: impl FnOnce(Line) -> F + Send + 'static) -> Uplink {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/signal/live", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        #[allow(clippy::result_large_err, reason = "the library wants it so")]
        let agree = |_: &Request, mut response: Response| {
            response.headers_mut().insert("sec-websocket-protocol", "roamcast.v1".parse().unwrap());
            Ok(response)
        };
        talk(accept_hdr_async(socket, agree).await.unwrap()).await;
    });
    Uplink { protocol: Protocol::Roamcast, ..http::uplink(url) }
}

async fn say(line: &mut Line, message: &Value) {
    // The client may have hung up, which some tests are about.
    let _gone = line.send(Message::text(message.to_string())).await;
}

async fn hear(line: &mut Line) -> Value {
    match line.next().await {
        Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn welcome() -> Value {
    json!({ "type": "welcome", "version": 1, "sessionId": "s", "resumeToken": "r", "resumeWindowMs": 1, "later": [1] })
}

async fn publish(uplink: &Uplink) -> Result<Signaller, Failure> {
    let timeouts = Timeouts { connect: WITHIN, request: Duration::from_secs(2), ..Timeouts::default() };
    let mut signaller = crate::http::signaller_with(uplink, timeouts).unwrap();
    tokio::time::timeout(WITHIN, signaller.publish("v=0\r\n")).await.expect("an end").map(|_| signaller)
}

/// It answers the pings of RFC 6455, and nothing else; told by the setting of that moment.
#[tokio::test]
async fn a_server_that_hangs_behind_a_connection_that_stands_is_found() {
    let uplink = server(async |mut line| {
        hear(&mut line).await;
        say(&mut line, &welcome()).await;
        hear(&mut line).await;
        say(&mut line, &json!({ "type": "answer", "sdp": "v=0\r\n" })).await;
        for _ in 0..3 {
            assert_eq!(hear(&mut line).await["type"], "ping");
            say(&mut line, &json!({ "type": "pong" })).await;
        }
        while let Some(Ok(_)) = line.next().await {}
    })
    .await;
    let timeouts = Timeouts { inactivity: Duration::from_secs(3600), ..Timeouts::default() };
    let mut signaller = crate::http::signaller_with(&uplink, timeouts).unwrap();
    signaller.publish("v=0\r\n").await.unwrap();
    signaller.set_inactivity(Duration::from_secs(2));
    let began = std::time::Instant::now();
    let word = tokio::time::timeout(WITHIN, signaller.next()).await.expect("found");
    let Word::Lost(failure) = word else { panic!("{word:?}") };
    assert!(failure.words.contains("has answered nothing for 2 s, though the connection stands"), "{failure}");
    assert!(began.elapsed() >= Duration::from_millis(3_500), "kept as long as it answered: {:?}", began.elapsed());
}

#[tokio::test]
async fn nonsense_from_a_server_is_ignored_until_the_answer_comes() {
    let uplink = server(async |mut line| {
        hear(&mut line).await;
        for nonsense in ["", "[]", "{}", r#"{"type":"fly"}"#, r#"{"type":"answer"}"#, r#"{"type":"goingAway"}"#] {
            line.send(Message::text(nonsense)).await.unwrap();
        }
        line.send(Message::binary(vec![1, 2, 3])).await.unwrap();
        say(&mut line, &json!({ "type": "answer", "sdp": "too early" })).await;
        say(&mut line, &welcome()).await;
        assert_eq!(hear(&mut line).await["type"], "publish");
        say(&mut line, &welcome()).await;
        say(&mut line, &json!({ "type": "candidate", "candidate": "nonsense" })).await;
        say(&mut line, &json!({ "type": "output", "state": "reconnecting" })).await;
        say(&mut line, &json!({ "type": "answer", "sdp": "v=0\r\n" })).await;
        say(&mut line, &json!({ "type": "answer", "sdp": "twice" })).await;
        say(&mut line, &json!({ "type": "ping" })).await;
        assert_eq!(hear(&mut line).await["type"], "pong");
        line.close(None).await.unwrap();
    })
    .await;
    let mut signaller = publish(&uplink).await.unwrap();
    assert_eq!(signaller.next().await, Word::Output { reconnecting: true });
    let word = tokio::time::timeout(WITHIN, signaller.next()).await.expect("the end");
    let Word::Lost(failure) = word else { panic!("{word:?}") };
    assert!(failure.words.contains("1005"), "closed by the server, which has seen the pong: {failure}");
}

/// Malformed, late, doubled and out of order, and all of that twice.
#[tokio::test]
async fn each_kind_of_nonsense_from_a_server_is_named_once() {
    let (log, _guard) = Captured::start();
    let noise = [
        json!(""),
        json!({ "type": "fly" }),
        json!({ "type": "goingAway" }),
        json!({ "type": "resumed", "sessionId": "x", "resumeToken": "y" }),
        json!({ "type": "error", "code": 409, "name": "outOfOrder", "message": "late" }),
        json!({ "type": "candidate", "candidate": "nonsense" }),
        json!({ "type": "candidate", "candidate": "x".repeat(2000) }),
    ];
    let uplink = server(async move |mut line| {
        hear(&mut line).await;
        say(&mut line, &welcome()).await;
        hear(&mut line).await;
        say(&mut line, &json!({ "type": "answer", "sdp": "v=0\r\n" })).await;
        for message in noise.iter().chain(&noise).chain([&welcome(), &welcome()]) {
            say(&mut line, message).await;
        }
        line.close(None).await.unwrap();
    })
    .await;
    let mut signaller = publish(&uplink).await.unwrap();
    let word = tokio::time::timeout(WITHIN, signaller.next()).await.expect("the end");
    assert!(matches!(word, Word::Lost(_)), "{word:?}");
    log.says_once(&[
        "the message is no JSON object with a `type`",
        "a message of the type `fly` is not known",
        "a `goingAway` message is not well-formed: missing field `retryAfterMs`",
        "an answer comes late or twice",
        "the error `outOfOrder` answers nothing that we wait for",
        "a candidate is of no use",
        "the `candidate` of the message is longer than 1024",
    ]);
}

#[tokio::test]
async fn each_kind_of_nonsense_from_a_publisher_is_named_once() {
    let (log, _guard) = Captured::start();
    let ingest = ingest().await;
    let mut raw = Raw::welcomed(&ingest).await;
    for text in [
        "hello",
        r#"{"type":"fly"}"#,
        r#"{"type":"publish"}"#,
        r#"{"type":"hello","versions":[1],"name":"live"}"#,
        r#"{"type":"candidate","candidate":"candidate:1"}"#,
    ] {
        for _twice in 0..2 {
            assert_eq!(raw.ask(text).await["type"], "error", "{text}");
        }
    }
    ingest.stop().await;
    log.says_once(&[
        "the message is no JSON object with a `type`",
        "a message of the type `fly` is not known",
        "a `publish` message is not well-formed: missing field `sdp`",
        "`hello` comes once",
        "`publish` comes first",
    ]);
}

#[tokio::test]
async fn a_server_that_says_nothing_or_too_much_is_tried_again() {
    let silent = server(async |mut line| {
        hear(&mut line).await;
        std::future::pending().await
    })
    .await;
    let huge = server(async |mut line| {
        hear(&mut line).await;
        say(&mut line, &json!({ "type": "welcome", "x": "x".repeat(300 * 1024) })).await;
        while line.next().await.is_some_and(|heard| heard.is_ok()) {}
    })
    .await;
    let answerless = server(async |mut line| {
        hear(&mut line).await;
        say(&mut line, &welcome()).await;
        while line.next().await.is_some_and(|heard| heard.is_ok()) {}
    })
    .await;
    let unknown = server(async |mut line| {
        hear(&mut line).await;
        let error = json!({ "type": "error", "code": 499, "name": "tooBlue", "message": "hm\u{7}m" });
        say(&mut line, &error).await;
        while line.next().await.is_some_and(|heard| heard.is_ok()) {}
    })
    .await;
    for uplink in [silent, huge, answerless, unknown] {
        let failure = publish(&uplink).await.unwrap_err();
        assert_eq!(failure.retry, Retry::Backoff, "{failure}");
        assert!(!failure.words.contains(http::TOKEN) && !failure.words.contains('\u{7}'), "{failure}");
    }
}

#[tokio::test]
async fn a_fresh_token_is_sent_before_the_old_one_expires() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "t0ken").unwrap();
    let path = file.path().to_owned();
    let (tell, told) = tokio::sync::oneshot::channel();
    let uplink = server(async move |mut line| {
        assert_eq!(hear(&mut line).await["token"], "t0ken");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let mut welcome = welcome();
        let expires = now.as_millis() as u64 + 2000;
        welcome["tokenExpiresAt"] = json!(expires);
        say(&mut line, &welcome).await;
        hear(&mut line).await;
        std::fs::write(path, "t1ken").unwrap();
        say(&mut line, &json!({ "type": "answer", "sdp": "v=0\r\n" })).await;
        let refresh = hear(&mut line).await;
        say(&mut line, &json!({ "type": "tokenRefreshed", "tokenExpiresAt": null })).await;
        tell.send(refresh).unwrap();
        std::future::pending().await
    })
    .await;
    let uplink = Uplink { token: Some(TokenSource::File(file.path().to_owned())), ..uplink };
    let mut signaller = publish(&uplink).await.unwrap();
    tokio::select! {
        word = signaller.next() => panic!("{word:?}"),
        refresh = told => assert_eq!(refresh.unwrap(), json!({ "type": "tokenRefresh", "token": "t1ken" })),
    }
}
