//! What strangers may do to the embedded ingest while `live` is on air: nothing of it may cost `live` a packet.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use reqwest::{Client, Method};
use roamcast::ingest::{Ingest, Options};
use roamcast::server::files;
use roamcast::server::host::Hosts;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::program::{Program, free_port};
use crate::publisher::{self, Publisher};
use crate::viewer::{Door, Viewer};

const SDP: (&str, &str) = ("content-type", "application/sdp");
const FRAGMENT: (&str, &str) = ("content-type", "application/trickle-ice-sdpfrag");
/// Generous: the machine may be busy.
const WITHIN: Duration = Duration::from_secs(30);
/// Of `src/server`: a head within 10 s, a request within 20; and some for a busy machine.
const SILENT_FOR: Duration = Duration::from_secs(15);
const REQUEST_FOR: Duration = Duration::from_secs(30);
/// As many sessions as an ingest has room for, and those of them that only publishers get.
const SESSIONS: usize = 256;
const FOR_PUBLISHERS: usize = 32;

async fn ingest() -> Ingest {
    Ingest::start(Options::new("127.0.0.1:0".parse().unwrap())).await.unwrap()
}

/// The same numbers for the same seed: xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }

    /// An offer that is wrong in some way, or right in an unusual one: lines left out, doubled, moved to another section,
    /// or with another number or word in them.
    fn mutated(&mut self, offer: &str) -> String {
        const WORDS: [&str; 12] = [
            "96",
            "97",
            "111",
            "200",
            "video0",
            "audio1",
            "recvonly",
            "sendrecv",
            "H264/90000",
            "VP8/90000",
            "rtx/90000",
            "0",
        ];
        const LINES: [&str; 8] = [
            "a=rtpmap:96 H264/90000",
            "a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96",
            "a=rtpmap:200 VP8/90000",
            "a=mid:video0",
            "a=recvonly",
            "a=simulcast:send a;b",
            "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:more\r\na=rtpmap:96 H264/90000",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\na=sctp-port:5000",
        ];
        let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
        for _ in 0..=self.roll(4) {
            let (at, other) = (self.roll(lines.len()), self.roll(lines.len()));
            match self.roll(6) {
                0 => drop(lines.remove(at)),
                1 => lines.insert(other, lines[at].clone()),
                2 => lines.swap(at, other),
                3 => lines.insert(at, (*self.pick(&LINES)).to_owned()),
                4 => {
                    let mut words: Vec<_> = lines[at].split(' ').map(str::to_owned).collect();
                    let word = self.roll(words.len());
                    (*self.pick(&WORDS)).clone_into(&mut words[word]);
                    lines[at] = words.join(" ");
                }
                _ => {
                    let end = lines[at].floor_char_boundary(other);
                    lines[at].truncate(end);
                }
            }
            if lines.is_empty() {
                break;
            }
        }
        lines.join("\r\n") + "\r\n"
    }
}

/// On air as `live`, watched.
struct Live {
    ingest: Ingest,
    door: Door,
    _publisher: Publisher,
    viewer: Viewer,
}

impl Live {
    async fn start() -> Self {
        let ingest = ingest().await;
        let door = Door { address: ingest.address(), token: "" };
        let publisher = Publisher::start(&format!("http://{}/whip/live", ingest.address())).await;
        publisher.connected().await;
        let viewer = Viewer::at(door).await;
        viewer.sees(30).await;
        viewer.count_anew();
        Self { ingest, door, _publisher: publisher, viewer }
    }

    /// Nothing was lost until now, and it goes on.
    async fn goes_on(&self) {
        let before = self.door.received().await;
        self.viewer.sees(30).await;
        let after = self.door.received().await;
        assert!(after[0] > before[0], "{before:?} {after:?}");
        assert_eq!((after[1], self.viewer.seen().holes()), (0, 0), "packets are lost");
        let health =
            publisher::http_client().get(format!("http://{}/healthz", self.door.address)).send().await.unwrap();
        assert_eq!(health.status(), 200);
    }
}

/// A connection of roamcast signalling, welcome.
struct Stranger(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Stranger {
    async fn come(ingest: &Ingest, name: &str) -> Self {
        let mut request = format!("ws://{}/signal/{name}", ingest.address()).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "roamcast.v1".parse().unwrap());
        let mut stranger = Self(connect_async(request).await.unwrap().0);
        let welcome = stranger.ask(&json!({ "type": "hello", "versions": [1], "name": name })).await;
        assert_eq!(welcome["type"], "welcome");
        stranger
    }

    async fn ask(&mut self, message: &Value) -> Value {
        self.0.send(Message::text(message.to_string())).await.unwrap();
        match tokio::time::timeout(WITHIN, self.0.next()).await.expect("the server says something") {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

impl Stranger {
    /// Says goodbye and waits until that was heard: who just hangs up is expected back, and keeps the name for a while.
    async fn leave(mut self) {
        self.0.send(Message::text(r#"{"type":"bye"}"#)).await.unwrap();
        let end = async { while self.0.next().await.is_some_and(|message| message.is_ok()) {} };
        tokio::time::timeout(WITHIN, end).await.expect("the server closes after a goodbye");
    }
}

async fn post(client: &Client, ingest: &Ingest, path: &str, offer: &str) -> (u16, Option<String>) {
    let request = client.post(format!("http://{}{path}", ingest.address())).header(SDP.0, SDP.1);
    let response = request.body(offer.to_owned()).send().await.unwrap();
    let location = response.headers().get("location").map(|location| location.to_str().unwrap().to_owned());
    let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
    assert!(matches!(status, 201 | 422), "{status} {text}: {offer}");
    assert!(
        status == 201 || (text.lines().count() == 1 && !text.contains("0x")),
        "one sentence, and no address: {text}"
    );
    (status, location)
}

/// Offers that no client makes, by each way in.
async fn offers_of(seed: u64, count: usize, live: &Live, offer: &str) -> [usize; 2] {
    println!("seed {seed}");
    let (mut dice, client, ingest) = (Dice(seed | 1), publisher::http_client(), &live.ingest);
    let watch = offer.replace("a=sendrecv", "a=recvonly").replace("a=sendonly", "a=recvonly");
    let mut taken = [0; 2];
    for number in 0..count {
        // A name of its own: whom the server hangs up on for his words is expected back, and keeps his for `resumeWindow`.
        let name = format!("n{seed}-{number}");
        for (path, offer) in [("whip", offer), ("whep", &watch)] {
            let (_, resource) = post(&client, ingest, &format!("/{path}/{name}"), &dice.mutated(offer)).await;
            let Some(resource) = resource else { continue };
            taken[0] += 1;
            let restart = "a=ice-ufrag:newnew\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n".to_owned();
            let fragment = restart + "a=candidate:1 1 UDP 1 127.0.0.1 9 typ host\r\na=mid:\u{1F4A5}\r\n";
            let url = format!("http://{}{resource}", ingest.address());
            let patch = client.patch(&url).header(FRAGMENT.0, FRAGMENT.1).header("if-match", "*").body(fragment);
            let status = patch.send().await.unwrap().status().as_u16();
            assert!(matches!(status, 200 | 422), "{status}");
            assert!(client.delete(&url).send().await.unwrap().status().is_success() || status == 422);
        }
        let mut stranger = Stranger::come(ingest, &name).await;
        let first = if number % 2 == 0 { offer.to_owned() } else { dice.mutated(offer) };
        let answer = stranger.ask(&json!({ "type": "publish", "sdp": first })).await;
        for _ in 0..3 {
            let again = if dice.roll(2) == 0 { dice.mutated(&first) } else { dice.mutated(&watch) };
            let restarted = stranger.ask(&json!({ "type": "iceRestart", "sdp": again })).await;
            taken[1] += usize::from(restarted["type"] == "answer");
            let words = restarted["message"].as_str().unwrap_or_default();
            assert!(!words.contains("0x"), "{restarted}");
        }
        assert!(matches!(answer["type"].as_str(), Some("answer" | "error")), "{answer}");
        stranger.leave().await;
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn offers_that_no_client_makes_cost_live_nothing() {
    let live = Live::start().await;
    let offer = publisher::offer().await;
    let fresh = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let mut taken = [0; 2];
    for seed in [1, fresh.into()] {
        let more = offers_of(seed, 25, &live, &offer).await;
        taken = [taken[0] + more[0], taken[1] + more[1]];
    }
    assert!(taken.iter().all(|taken| *taken > 0), "some are unusual, but right: {taken:?}");
    live.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_without_end_are_refused_and_live_goes_on() {
    let live = Live::start().await;
    let (client, offer) = (publisher::http_client(), publisher::offer().await);
    let watch = offer.replace("a=sendrecv", "a=recvonly").replace("a=sendonly", "a=recvonly");
    let ask = async |path: &str, offer: &str| {
        let url = format!("http://{}{path}", live.ingest.address());
        client.post(url).header(SDP.0, SDP.1).body(offer.to_owned()).send().await.unwrap()
    };
    // They end by themselves after a while, so that one more than fits may be there.
    let mut refused = None;
    for number in 0..4 * SESSIONS {
        let response = ask("/whep/live", &watch).await;
        if response.status() != 201 {
            refused = Some((number, response));
            break;
        }
    }
    let (number, response) = refused.expect("there is an end");
    assert!(number >= SESSIONS - FOR_PUBLISHERS - 2, "{number}");
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "5"));
    assert_eq!(response.text().await.unwrap().lines().count(), 1);
    assert_eq!(ask("/whip/other", &offer).await.status(), 201, "publishers have seats of their own");
    live.goes_on().await;
}

/// A page whose name is rebound to our address.
#[tokio::test]
async fn by_a_name_that_anybody_may_own_nothing_is_reached() {
    let ways = [
        ("GET", "/"),
        ("GET", "/live"),
        ("GET", "/healthz"),
        ("GET", "/api/live/stats"),
        ("GET", "/api/live/events"),
        ("POST", "/whip/live"),
        ("POST", "/whep/live"),
        ("OPTIONS", "/whep/live"),
        ("PATCH", "/whip/live/none"),
        ("DELETE", "/whep/live/none"),
        ("GET", "/signal/live"),
        ("GET", "/no/such/thing"),
    ];
    let client = publisher::http_client();
    let named =
        || Options { hosts: Hosts::with(["studio.local".into()]), ..Options::new("127.0.0.1:0".parse().unwrap()) };
    let guarded = Options { token: Some("secret".into()), ..Options::new("127.0.0.1:0".parse().unwrap()) };
    for (options, host, origin, refused) in [
        (named(), "evil.example", None, Some(421)),
        (named(), "evil.example:8080", Some("http://evil.example:8080"), Some(421)),
        (named(), "studio.local.evil.example", None, Some(421)),
        (named(), "127.0.0.1", Some("https://evil.example"), Some(403)),
        (named(), "studio.local", Some("null"), Some(403)),
        (named(), "studio.local:8080", Some("http://studio.local:8080"), None),
        (named(), "localhost", Some("http://localhost:3000"), None),
        (named(), "[::1]:8080", None, None),
        (named(), "192.0.2.7", Some("https://192.0.2.7"), None),
        (guarded, "ingest.example", Some("https://studio.example"), None),
    ] {
        let ingest = Ingest::start(options).await.unwrap();
        for (method, path) in ways {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let request = client.request(method, format!("http://{}{path}", ingest.address())).header("host", host);
            let request = origin.into_iter().fold(request, |request, origin| request.header("origin", origin));
            let status = request.send().await.unwrap().status().as_u16();
            let judged = matches!(status, 403 | 421).then_some(status);
            assert_eq!(judged, refused, "{host} {origin:?} {path}: {status}");
        }
        ingest.stop().await;
    }
}

/// Until the other end hangs up; gives what it said, and when.
async fn hung_up(mut stream: TcpStream, within: Duration) -> (String, Duration) {
    let (began, mut said) = (Instant::now(), Vec::new());
    let read = tokio::time::timeout(within, stream.read_to_end(&mut said)).await;
    assert!(read.is_ok(), "it is still open after {within:?}");
    (String::from_utf8_lossy(&said).into_owned(), began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_or_says_it_slowly_is_hung_up_on() {
    let ingest = ingest().await;
    let say = async |text: &str| {
        let mut stream = TcpStream::connect(ingest.address()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    };
    let silent = say("").await;
    let half = say("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ").await;
    let idle = say("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await;
    let head =
        "POST /whip/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/sdp\r\nContent-Length: 9000\r\n\r\nv=0";
    let body = say(head).await;
    let mut dripping = say("GET /healthz HTTP/1.1\r\n").await;
    let drip = async {
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        while dripping.write_all(b"X: y\r\n").await.is_ok() {
            assert!(began.elapsed() < SILENT_FOR + Duration::from_secs(5), "it may drip for ever");
            tick.tick().await;
        }
    };
    let (silent, half, idle, body, ()) = tokio::join!(
        hung_up(silent, SILENT_FOR),
        hung_up(half, SILENT_FOR),
        hung_up(idle, SILENT_FOR),
        hung_up(body, REQUEST_FOR),
        drip,
    );
    assert!(idle.0.starts_with("HTTP/1.1 200 "), "{}", idle.0);
    assert!(body.0.starts_with("HTTP/1.1 408 "), "{}", body.0);
    assert!([silent, half, idle].iter().all(|(_, after)| *after > Duration::from_secs(5)), "nobody is hurried");
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_lock_nobody_out() {
    files::raise_limit();
    let ingest = ingest().await;
    let mut crowd = Vec::new();
    for _ in 0..1300 {
        let mut stream = TcpStream::connect(ingest.address()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        crowd.push(stream);
    }
    let client = publisher::http_client();
    for _ in 0..3 {
        let health = client.get(format!("http://{}/healthz", ingest.address())).send().await.unwrap();
        assert_eq!(health.status(), 200);
    }
    let (_, after) = hung_up(crowd.swap_remove(0), Duration::from_secs(5)).await;
    assert!(after < Duration::from_secs(5), "the first of the crowd made way");
    ingest.stop().await;
}

/// A fault of ours in the loop that all share: the process ends, so that it is started again.
#[test]
fn a_dead_loop_is_told_and_ends_the_process() {
    let address = format!("127.0.0.1:{}", free_port());
    let mut ingest = Program::with(&["ingest", "--faults", "--listen", &address]);
    ingest.wait_for_line("watch at");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = publisher::http_client();
        let order = client.post(format!("http://{address}/faults/live")).header("content-type", "application/json");
        assert_eq!(order.body(r#"{"panic":true}"#).send().await.unwrap().status(), 204);
        // It may be gone already.
        if let Ok(health) = client.get(format!("http://{address}/healthz")).send().await {
            assert!(matches!(health.status().as_u16(), 200 | 503), "{health:?}");
        }
    });
    assert_eq!(ingest.wait_for_exit(), 70);
    assert!(ingest.log().contains("the media loop of the ingest is dead"), "{}", ingest.log());
}
