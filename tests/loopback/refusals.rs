//! The real encoder against servers that refuse: how often it tries, how long it waits, where its token goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::http::{Canned, Request, Server, TOKEN, reply};
use crate::program::{Program, is_message};

/// An encoder with a token that tries again after 300 ms to 1 s, three times at most.
fn encoder(server: &Server) -> Program {
    Program::encoder(&format!(
        "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n\
         [uplink]\nurl = \"{}\"\ntoken = \"{TOKEN}\"\n\
         [reconnect]\nminDelay = \"300ms\"\nmaxDelay = \"1s\"\nmaxRetries = 3\n",
        server.url("/whip/live")
    ))
}

fn posts(server: &Server) -> Vec<Request> {
    server.requests().into_iter().filter(|request| request.method == "POST").collect()
}

/// All that it has told.
fn said(encoder: &Program) -> String {
    format!("{:?}", encoder.events)
}

/// The name of the error that ended the broadcast.
fn last_error(encoder: &Program) -> String {
    let errors = encoder.events.iter().filter(|(_, event)| event["event"] == "BroadcastError");
    errors
        .map(|(_, event)| event)
        .next_back()
        .map(|event| event["data"]["code"].as_str().unwrap().to_owned())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_tried_once_more_and_no_further() {
    let server = Server::start(|_| reply("401 Unauthorized", &["WWW-Authenticate: Bearer"], "who are you?")).await;
    let mut encoder = encoder(&server);
    assert_eq!(encoder.wait_for_exit(), 77);
    assert_eq!(posts(&server).len(), 2, "{:?}", encoder.messages());
    assert_eq!(last_error(&encoder), "INVALID_TOKEN");
    for text in [encoder.log(), format!("{:?}", encoder.events)] {
        assert!(!text.contains(TOKEN), "the token is shown: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn final_refusals_are_not_retried() {
    for (status, code) in [("403 Forbidden", "AUTH_FAILED"), ("404 Not Found", "NOT_FOUND"), ("410 Gone", "NOT_FOUND")]
    {
        let server = Server::start(move |_| reply(status, &[], "")).await;
        let mut encoder = encoder(&server);
        assert_eq!(encoder.wait_for_exit(), 77, "{status}");
        assert_eq!(posts(&server).len(), 1, "{status}");
        assert_eq!(last_error(&encoder), code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured_to_the_tenth() {
    let server = Server::start(|_| reply("503 Service Unavailable", &["Retry-After: 4"], "")).await;
    let mut encoder = encoder(&server);
    let (told, wait) = encoder.wait_for_message("reconnecting_broadcast");
    let announced = wait["data"]["retryIn"].as_f64().unwrap();
    assert!((4.0..=4.4).contains(&announced), "{announced}");
    assert_eq!(wait["data"]["waitingFor"], "serverRetryAfter");
    let (tried, _) =
        encoder.wait_for("second try", |event| is_message(event, "signalling") && event["data"]["attempt"] == 1);
    let waited = tried - told;
    assert!(waited >= Duration::from_millis(3_990), "tried again after {waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_does_not_follow_a_redirect_to_a_stranger() {
    let stranger = Server::start(|_| reply("200 OK", &[], "")).await;
    let away = format!("Location: {}", stranger.url("/whip/live"));
    let server = Server::start(move |_| reply("307 Temporary Redirect", &[&away], "")).await;
    let mut encoder = encoder(&server);
    // Without TLS it may be a captive portal: not the end before all retries have failed.
    assert_eq!(encoder.wait_for_exit(), 69);
    assert!(said(&encoder).contains("uplink.trustedOrigins"), "{}", said(&encoder));
    assert!(stranger.requests().is_empty(), "the stranger was spoken to");
}

/// What a captive portal or a proxy says to whoever passes; never the end, though no media was ever acknowledged here.
#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_is_somebody_in_between_and_never_final() {
    let stranger = Server::start(|_| reply("200 OK", &[], "")).await;
    let away = format!("Location: {}", stranger.url("/login"));
    let meta = "<html><head><meta http-equiv=\"refresh\" content=\"0; url=http://portal.example/\"></head></html>";
    let html = "Content-Type: text/html; charset=utf-8";
    let pages = [
        ("401 Unauthorized", html, "<html>Log in</html>"),
        ("403 Forbidden", html, "<!DOCTYPE html><title>Blocked</title>"),
        ("405 Not Allowed", "Server: nginx", "\r\n<html>405 Not Allowed</html>"),
        ("410 Gone", html, "<html></html>"),
        ("451 Unavailable For Legal Reasons", html, "<html>Your plan does not include this</html>"),
        ("200 OK", html, meta),
        ("511 Network Authentication Required", html, meta),
        ("301 Moved Permanently", html, "<html>Moved</html>"),
        ("307 Temporary Redirect", html, "<html>Log in</html>"),
    ];
    for (status, header, body) in pages {
        let away = away.clone();
        let server = Server::start(move |_| {
            let headers = if status.starts_with('3') { vec![header, &away] } else { vec![header] };
            reply(status, &headers, body)
        })
        .await;
        let mut encoder = encoder(&server);
        assert_eq!(encoder.wait_for_exit(), 69, "{status}: {}", encoder.log());
        assert_eq!(posts(&server).len(), 4, "{status}: one try and three retries");
        let words = "something between you and the server answers with a web page (captive portal or proxy)";
        assert!(said(&encoder).contains(words), "{status}: {}", said(&encoder));
        assert!(!format!("{}{:?}", encoder.log(), encoder.events).contains(TOKEN), "the token is shown");
    }
    assert!(stranger.requests().is_empty(), "the portal was spoken to");
}

/// The same where a WebSocket was expected.
#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_instead_of_a_websocket_is_never_final_either() {
    for (protocol, status) in
        [("janus", "404 Not Found"), ("janus", "301 Moved Permanently"), ("roamcast", "403 Forbidden")]
    {
        let headers = ["Content-Type: text/html", "Location: http://portal.example/"];
        let server = Server::start(move |_| reply(status, &headers, "<html>Log in</html>")).await;
        let room = if protocol == "janus" { "room = 1234\n" } else { "" };
        let mut encoder = Program::encoder(&format!(
            "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n\
             [uplink]\nprotocol = \"{protocol}\"\nurl = \"ws://127.0.0.1:{}/x\"\n{room}\
             [reconnect]\nminDelay = \"100ms\"\nmaxDelay = \"200ms\"\nmaxRetries = 2\n",
            server.port
        ));
        assert_eq!(encoder.wait_for_exit(), 69, "{protocol} {status}: {}", encoder.log());
        assert_eq!(server.requests().len(), 3, "{protocol} {status}");
        assert!(said(&encoder).contains("captive portal or proxy"), "{protocol} {status}: {}", said(&encoder));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_answer_is_one_sentence() {
    let answers: [(&str, &str); 4] = [
        ("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n", "BAD_ANSWER"),
        ("\u{0}\u{1}not sdp at all", "BAD_ANSWER"),
        ("", "BAD_ANSWER"),
        ("<html><title>Welcome to the hotel</title></html>", "BAD_ANSWER"),
    ];
    for (body, code) in answers {
        let server = Server::start(move |_| {
            reply("201 Created", &["Location: /session/1", "Content-Type: application/sdp"], body)
        })
        .await;
        let mut encoder = encoder(&server);
        let (_, error) = encoder.wait_for("an error", |event| event["event"] == "BroadcastError");
        assert_eq!(error["data"]["code"], code, "{body:?}: {error}");
        let words = error["data"]["words"].as_str().unwrap();
        assert!(!words.contains('\n') && words.len() > 20, "{words}");
        let began = Instant::now();
        encoder.signal("TERM");
        encoder.wait_for_exit();
        assert!(began.elapsed() < Duration::from_secs(30));
        assert!(!encoder.log().contains("panicked"), "{}", encoder.log());
    }
}

/// A server that never answers holds nothing up: the end comes at once.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_while_the_server_is_silent() {
    let server = Server::start(|_| Canned::Hang).await;
    let mut encoder = encoder(&server);
    encoder.wait_for("the camera", |event| event["data"]["state"] == "flowing");
    encoder.signal("INT");
    assert_eq!(encoder.wait_for_exit(), 0);
}

/// The goodbye of a lost session fails; its ghost is deleted beside the next publish, so that it does not hold our slot.
#[tokio::test(flavor = "multi_thread")]
async fn a_ghost_is_buried_beside_the_next_publish() {
    let answer = |request: &Request| match request.method.as_str() {
        // No answer that could be used, so the session is lost at once; but it exists at the server.
        "POST" => reply("201 Created", &["Location: /session/1", "Content-Type: application/sdp"], "v=0"),
        _ => reply("503 Service Unavailable", &[], ""),
    };
    let server = Server::start(answer).await;
    let mut encoder = encoder(&server);
    encoder.wait_for("the third try", |event| is_message(event, "signalling") && event["data"]["attempt"] == 2);
    encoder.signal("TERM");
    encoder.wait_for_exit();
    // One goodbye for each session, and a burial beside each later publish.
    let deletes = server.requests().iter().filter(|request| request.method == "DELETE").count();
    assert!(deletes > posts(&server).len(), "{deletes} DELETEs for {} sessions", posts(&server).len());
}

/// A server that takes no sound: within the same try the picture is offered alone, after a goodbye to the first session.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_sound_costs_no_picture() {
    let answer = include_str!("../support/answers/pion.sdp");
    let soundless = answer.replace("BUNDLE video0 audio1", "BUNDLE video0").replace("m=audio 9", "m=audio 0");
    let picture = answer[..answer.find("m=audio").unwrap()].replace("BUNDLE video0 audio1", "BUNDLE video0");
    let offered_alone = Arc::new(Notify::new());
    let told = Arc::clone(&offered_alone);
    let server = Server::start(move |request| {
        let created = |session: &str, body: &str| {
            reply("201 Created", &[&format!("Location: /session/{session}"), "Content-Type: application/sdp"], body)
        };
        match request.method.as_str() {
            "POST" if request.body.contains("m=audio") => created("1", &soundless),
            "POST" => {
                told.notify_one();
                created("2", &picture)
            }
            _ => reply("200 OK", &[], ""),
        }
    })
    .await;
    let mut encoder = encoder(&server);
    let waited = tokio::time::timeout(Duration::from_secs(30), offered_alone.notified()).await;
    assert!(waited.is_ok(), "the picture is offered alone: {}", encoder.log());
    encoder.signal("TERM");
    assert_eq!(encoder.wait_for_exit(), 0);
    let asked = server.requests().into_iter().map(|request| format!("{} {}", request.method, request.path));
    let asked: Vec<String> = asked.filter(|line| !line.starts_with("PATCH")).take(3).collect();
    assert!(asked[0].starts_with("POST") && asked[2].starts_with("POST"), "{asked:?}");
    assert_eq!(asked[1], "DELETE /session/1");
    assert_eq!(encoder.messages().iter().filter(|message| *message == "signalling").count(), 1, "one try");
    assert_eq!(encoder.log().matches("the picture is broadcast without sound").count(), 1, "{}", encoder.log());
}
