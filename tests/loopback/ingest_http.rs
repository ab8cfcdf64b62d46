//! The embedded ingest's HTTP: every refusal has the right status and one sentence.

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use roamcast::ingest::{Ingest, IngestError, Options, addresses};

use crate::publisher;

const SDP: (&str, &str) = ("content-type", "application/sdp");
const FRAGMENT: (&str, &str) = ("content-type", "application/trickle-ice-sdpfrag");

struct Server {
    ingest: Ingest,
    client: Client,
}

impl Server {
    async fn start(token: Option<&str>) -> Self {
        let options = Options { token: token.map(Into::into), ..Options::new("127.0.0.1:0".parse().unwrap()) };
        Self { ingest: Ingest::start(options).await.unwrap(), client: publisher::http_client() }
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("http://{}{path}", self.ingest.address()))
    }
}

async fn status(request: RequestBuilder) -> u16 {
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    if status.is_client_error() && status != StatusCode::METHOD_NOT_ALLOWED {
        assert_eq!(text.trim_end().lines().count(), 1, "one sentence, not: {text}");
    }
    status.as_u16()
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_in_one_sentence() {
    let server = Server::start(None).await;
    let offer = publisher::offer().await;
    let no_codec = offer.replace("H264/90000", "H999/90000").replace("OPUS/48000", "SPEEX/48000");
    let watcher = offer.replace("a=sendrecv", "a=recvonly").replace("a=sendonly", "a=recvonly");
    let binary: Vec<u8> = vec![0xff; 100];
    let big = "a=x\r\n".repeat(60_000);
    let post = |path: &str, body: &[u8]| server.request("POST", path).header(SDP.0, SDP.1).body(body.to_vec());
    let patch = |body: &str| {
        let request = server.request("PATCH", "/whip/live/none").header(FRAGMENT.0, FRAGMENT.1);
        request.header("if-match", "\"1\"").body(body.to_owned())
    };
    for (what, request, expected) in [
        ("no content type", server.request("POST", "/whip/live").body(offer.clone()), 415),
        ("JSON", server.request("POST", "/whip/live").header(SDP.0, "application/json").body("{}"), 415),
        ("an empty offer", post("/whip/live", b""), 422),
        ("no SDP", post("/whip/live", b"hello"), 422),
        ("half an offer", post("/whip/live", &offer.as_bytes()[..offer.len() / 3]), 422),
        ("no fingerprint", post("/whip/live", offer.replace("a=fingerprint", "a=x").as_bytes()), 422),
        ("bytes", post("/whip/live", &binary), 400),
        ("a huge body", post("/whip/live", big.as_bytes()), 413),
        ("codecs that nobody knows", post("/whip/live", no_codec.as_bytes()), 422),
        ("an offer that sends nothing", post("/whip/live", watcher.as_bytes()), 422),
        ("a name with a space", post("/whip/a%20b", offer.as_bytes()), 404),
        ("a long name", post(&format!("/whip/{}", "a".repeat(65)), offer.as_bytes()), 404),
        ("a page with a dot", server.request("GET", "/favicon.ico"), 404),
        ("GET of an endpoint", server.request("GET", "/whip/live"), 405),
        ("PUT to an endpoint", server.request("PUT", "/whep/live"), 405),
        ("POST to a resource", post("/whip/live/none", offer.as_bytes()), 405),
        ("DELETE of an unknown session", server.request("DELETE", "/whip/live/none"), 404),
        ("PATCH of an unknown session", patch("a=end-of-candidates"), 404),
        ("PATCH with nonsense", patch("hello"), 400),
        ("PATCH with nothing", patch(""), 400),
        ("PATCH with SDP", server.request("PATCH", "/whip/live/none").header(SDP.0, SDP.1), 415),
        (
            "PATCH without If-Match",
            server.request("PATCH", "/whip/live/none").header(FRAGMENT.0, FRAGMENT.1).body("a=end-of-candidates"),
            404,
        ),
        ("an offer that can be answered", post("/whip/live", offer.as_bytes()), 201),
        ("an offer to watch", post("/whep/live", watcher.as_bytes()), 201),
        ("the health check", server.request("GET", "/healthz"), 200),
        ("the page", server.request("GET", "/live"), 200),
        ("the list", server.request("GET", "/"), 200),
    ] {
        assert_eq!(status(request).await, expected, "{what}");
    }
    server.ingest.stop().await;
}

#[tokio::test]
async fn a_session_lives_from_post_to_delete() {
    let server = Server::start(None).await;
    let offer = publisher::offer().await;
    let post = |path: &str| server.request("POST", path).header(SDP.0, SDP.1).body(offer.clone());

    let created = post("/whip/live").send().await.unwrap();
    assert_eq!(created.status(), 201);
    assert_eq!(created.headers()["content-type"], "application/sdp");
    assert_eq!(created.headers()["accept-patch"], FRAGMENT.1);
    let etag = created.headers()["etag"].to_str().unwrap().to_owned();
    let resource = created.headers()["location"].to_str().unwrap().to_owned();
    assert!(resource.starts_with("/whip/live/"), "{resource}");
    assert!(created.text().await.unwrap().starts_with("v=0"));

    assert_eq!(status(post("/whip/live")).await, 409, "a second publisher");
    assert_eq!(status(post("/whip/other")).await, 201, "another name");

    let patch = |tag: &str, body: &str| {
        let request = server.request("PATCH", &resource).header(FRAGMENT.0, FRAGMENT.1);
        request.header("if-match", tag).body(body.to_owned())
    };
    let candidate = "a=candidate:1 1 UDP 2122260223 127.0.0.1 61764 typ host\r\n";
    let credentials = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n";
    assert_eq!(status(patch(&etag, candidate)).await, 204, "trickle");
    assert_eq!(status(patch(&etag, "a=candidate:nonsense\r\n")).await, 204, "a candidate of no use is skipped");
    assert_eq!(status(patch("\"other\"", candidate)).await, 412, "another ICE session");
    assert_eq!(status(patch(&etag, credentials)).await, 412, "new credentials need a star");
    let unguarded = |body: &str| {
        let request = server.request("PATCH", &resource).header(FRAGMENT.0, FRAGMENT.1);
        request.body(body.to_owned())
    };
    assert_eq!(status(unguarded(candidate)).await, 204, "a client that trickles without If-Match");
    assert_eq!(status(unguarded(credentials)).await, 428, "an ICE restart is guarded");
    let restarted = patch("\"*\"", credentials).send().await.unwrap();
    assert_eq!(restarted.status(), 200);
    assert_eq!(restarted.headers()["content-type"], FRAGMENT.1);
    let new_etag = restarted.headers()["etag"].to_str().unwrap().to_owned();
    assert_ne!(new_etag, etag);
    let fragment = restarted.text().await.unwrap();
    assert!(fragment.contains("a=ice-ufrag:") && fragment.contains("a=candidate:"), "{fragment}");
    assert_eq!(status(patch(&etag, candidate)).await, 412, "the old ICE session");
    assert_eq!(status(patch(&new_etag, candidate)).await, 204);

    assert_eq!(status(server.request("DELETE", &resource.replace("whip", "whep"))).await, 404, "not a viewer's");
    assert_eq!(status(server.request("DELETE", &resource)).await, 200);
    assert_eq!(status(server.request("DELETE", &resource)).await, 404, "twice");
    assert_eq!(status(post("/whip/live")).await, 201, "the name is free again");
    server.ingest.stop().await;
}

#[tokio::test]
async fn web_clients_are_told_what_they_may_do() {
    let server = Server::start(None).await;
    for (path, allow, accept) in [
        ("/whip/live", "POST, OPTIONS", ("accept-post", SDP.1)),
        ("/whep/live", "POST, OPTIONS", ("accept-post", SDP.1)),
        ("/whip/live/none", "PATCH, DELETE, OPTIONS", ("accept-patch", FRAGMENT.1)),
        ("/whep/live/none", "PATCH, DELETE, OPTIONS", ("accept-patch", FRAGMENT.1)),
    ] {
        for origin in [None, Some("http://localhost:3000")] {
            let request = server.request("OPTIONS", path);
            let answer = origin.into_iter().fold(request, |request, origin| request.header("origin", origin)).send();
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 204, "{path}");
            let header = |name: &str| answer.headers()[name].to_str().unwrap();
            assert_eq!((header("allow"), header(accept.0)), (allow, accept.1), "{path} {origin:?}");
            assert!(header("access-control-allow-methods").contains("PATCH"), "{path} {origin:?}");
            assert!(
                origin.is_none() || header("access-control-expose-headers").contains("Access-Control-Allow-Methods")
            );
        }
    }
    server.ingest.stop().await;
}

/// Behind a proxy on this machine the address that HTTP has come to is no use to the other end.
#[tokio::test]
async fn behind_a_proxy_the_addresses_of_the_machine_are_offered() {
    let loopback = Options::new("127.0.0.1:0".parse().unwrap());
    let public = vec!["203.0.113.9".parse().unwrap()];
    for (what, options, everywhere) in [
        ("alone", loopback.clone(), false),
        ("a token", Options { token: Some("secret".into()), ..loopback.clone() }, true),
        ("a public address", Options { public_addresses: public.clone(), ..loopback }, true),
        ("everywhere", Options { token: Some("secret".into()), ..Options::new("0.0.0.0:0".parse().unwrap()) }, true),
    ] {
        let mut expected = vec!["127.0.0.1".parse().unwrap()];
        expected.extend(options.public_addresses.iter().copied());
        if everywhere {
            expected.extend(addresses::of_this_machine().into_iter().filter(std::net::IpAddr::is_ipv4));
        }
        let server = Server { ingest: Ingest::start(options).await.unwrap(), client: publisher::http_client() };
        let port = server.ingest.media_address().port();
        assert_eq!(server.ingest.media_address().ip().is_unspecified(), everywhere, "{what}");
        let url = format!("http://127.0.0.1:{}/whip/live", server.ingest.address().port());
        let request = server.client.post(url).header(SDP.0, SDP.1).header("authorization", "Bearer secret");
        let answer = request.body(publisher::offer().await).send().await.unwrap().text().await.unwrap();
        for ip in expected {
            assert!(answer.contains(&format!(" {ip} {port} typ host")), "{what}: {ip}: {answer}");
        }
        server.ingest.stop().await;
    }
}

#[tokio::test]
async fn without_the_token_nobody_publishes_or_watches() {
    let server = Server::start(Some("correct horse")).await;
    for (method, path) in [
        ("POST", "/whip/live"),
        ("POST", "/whep/live"),
        ("PATCH", "/whip/live/none"),
        ("DELETE", "/whep/live/none"),
        ("GET", "/api/live/events"),
    ] {
        for token in
            [None, Some("Bearer"), Some("Bearer wrong"), Some("Bearer correct horse battery"), Some("correct horse")]
        {
            let request = server.request(method, path);
            let request = token.into_iter().fold(request, |request, token| request.header("authorization", token));
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 401, "{method} {path} {token:?}");
            assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        }
        let right = server.request(method, path).header("authorization", "bearer correct horse");
        assert_ne!(right.send().await.unwrap().status(), 401, "{method} {path}");
    }
    server.ingest.stop().await;
}

#[tokio::test]
async fn pages_of_strangers_are_let_in_only_where_a_token_guards() {
    for (token, origin, allowed) in [
        (None, "https://evil.example", false),
        (None, "http://127.0.0.1.evil.example", false),
        (None, "null", false),
        (None, "http://localhost:3000", true),
        (None, "http://[::1]:3000", true),
        (Some("secret"), "https://studio.example", true),
    ] {
        let server = Server::start(token).await;
        let response = server.request("OPTIONS", "/whip/live").header("origin", origin).send().await.unwrap();
        assert_eq!(response.status(), if allowed { 204 } else { 403 });
        assert_eq!(response.headers().contains_key("access-control-allow-origin"), allowed, "{origin}");
        server.ingest.stop().await;
    }
}

#[tokio::test]
async fn a_server_for_others_needs_a_token() {
    let everywhere = Options::new("0.0.0.0:0".parse().unwrap());
    let refused = Ingest::start(everywhere.clone()).await.unwrap_err();
    assert!(matches!(refused, IngestError::TokenRequired(_)), "{refused}");
    let empty = Options { token: Some("".into()), ..everywhere.clone() };
    assert!(matches!(Ingest::start(empty).await, Err(IngestError::EmptyToken)));
    Ingest::start(Options { token: Some("secret".into()), ..everywhere }).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_taken_port_is_one_clear_sentence() {
    let first = Server::start(None).await;
    let same = Ingest::start(Options::new(first.ingest.address())).await.unwrap_err();
    assert!(same.to_string().starts_with("the ingest cannot listen on `127.0.0.1:"), "{same}");
    let media_port = first.ingest.media_address().port();
    let options = Options { media_port, ..Options::new("127.0.0.1:0".parse().unwrap()) };
    let same = Ingest::start(options).await.unwrap_err();
    assert!(same.to_string().starts_with("the ingest cannot receive media on UDP `127.0.0.1:"), "{same}");
    first.ingest.stop().await;
}

#[tokio::test]
async fn viewers_are_told_what_the_encoder_says() {
    let (encoder, feed) = tokio::sync::watch::channel(r#"{"message":"signalling","attempt":1}"#.to_owned());
    let options = Options { status_feed: Some(feed), ..Options::new("127.0.0.1:0".parse().unwrap()) };
    let ingest = Ingest::start(options).await.unwrap();
    let events = publisher::http_client().get(format!("http://{}/api/live/events", ingest.address()));
    let mut events = events.send().await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while !text.contains("signalling") {
        text += &String::from_utf8_lossy(&events.chunk().await.unwrap().expect("the stream goes on"));
    }
    let state = r#"data: {"data":{"liveFor":null,"state":"waiting"},"event":"BroadcastState"}"#;
    assert!(text.starts_with(state), "{text}");
    encoder.send(r#"{"message":"broadcasting"}"#.to_owned()).unwrap();
    while !text.contains("broadcasting") {
        text += &String::from_utf8_lossy(&events.chunk().await.unwrap().expect("the stream goes on"));
    }
    ingest.stop().await;
    while events.chunk().await.is_ok_and(|chunk| chunk.is_some()) {}
}
