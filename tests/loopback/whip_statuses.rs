//! Every status and transport error -> Failure.

use std::time::Duration;

use roamcast::signal::Timeouts;
use roamcast::status::ErrorCode as Code;
use roamcast::supervisor::event::{Failure, Phase, Retry};

use crate::http::{Canned, Server, TOKEN, reply, signaller, signaller_with, uplink};

const UNPROVEN: Retry = Retry::IfProven { after: None };

async fn publish(canned: Canned) -> Failure {
    let server = Server::start(move |_| canned.clone()).await;
    let timeouts = Timeouts { request: Duration::from_millis(1500), ..Timeouts::default() };
    let url = server.url("/whip/stage?password=hush");
    let failure = signaller_with(&uplink(url), timeouts).unwrap().publish("v=0\r\n").await.unwrap_err();
    assert_eq!(server.requests().len(), 1, "a messenger never retries");
    assert!(!failure.words.contains("hush") && !failure.words.contains(TOKEN), "{failure}");
    assert!(failure.words.contains("/whip/stage?..."), "{failure}");
    failure
}

#[tokio::test]
async fn each_status_says_whether_we_may_try_again() {
    let after = |secs| Retry::After(Duration::from_secs(secs));
    let cases: [(&str, &[&str], Retry, Code); 34] = [
        ("200 OK", &[], Retry::Backoff, Code::SignallingFailed),
        ("202 Accepted", &[], Retry::Backoff, Code::SignallingFailed),
        ("204 No Content", &[], Retry::Backoff, Code::SignallingFailed),
        ("301 Moved Permanently", &["Location: /there"], Retry::Backoff, Code::SignallingFailed),
        ("302 Found", &["Location: http://portal.example/login?token=hush"], Retry::Backoff, Code::SignallingFailed),
        ("303 See Other", &["Location: /there"], Retry::Backoff, Code::SignallingFailed),
        ("304 Not Modified", &[], Retry::Backoff, Code::SignallingFailed),
        ("307 Temporary Redirect", &[], Retry::Backoff, Code::SignallingFailed),
        ("307 Temporary Redirect", &["Location: ftp://[::"], Retry::Backoff, Code::SignallingFailed),
        ("400 Bad Request", &[], UNPROVEN, Code::BadAnswer),
        ("401 Unauthorized", &[], Retry::Once, Code::InvalidToken),
        ("402 Payment Required", &[], UNPROVEN, Code::AccountSuspended),
        ("403 Forbidden", &[], UNPROVEN, Code::AuthFailed),
        ("404 Not Found", &[], UNPROVEN, Code::NotFound),
        ("405 Method Not Allowed", &[], UNPROVEN, Code::NotFound),
        ("406 Not Acceptable", &[], UNPROVEN, Code::BadAnswer),
        ("407 Proxy Authentication Required", &[], Retry::Backoff, Code::SignallingFailed),
        ("408 Request Timeout", &[], Retry::Backoff, Code::SignallingFailed),
        ("409 Conflict", &[], Retry::Busy { after: None }, Code::ConcurrentLimit),
        (
            "409 Conflict",
            &["Retry-After: 5"],
            Retry::Busy { after: Some(Duration::from_secs(5)) },
            Code::ConcurrentLimit,
        ),
        ("410 Gone", &[], UNPROVEN, Code::NotFound),
        ("415 Unsupported Media Type", &[], UNPROVEN, Code::BadAnswer),
        ("418 I'm a teapot", &[], UNPROVEN, Code::SignallingFailed),
        ("422 Unprocessable Content", &[], UNPROVEN, Code::BadAnswer),
        ("425 Too Early", &[], Retry::Backoff, Code::SignallingFailed),
        ("429 Too Many Requests", &["Retry-After: 45"], after(45), Code::ConcurrentLimit),
        ("500 Internal Server Error", &[], Retry::Backoff, Code::SignallingFailed),
        ("502 Bad Gateway", &[], Retry::Backoff, Code::SignallingFailed),
        ("503 Service Unavailable", &[], Retry::Backoff, Code::SignallingFailed),
        ("503 Service Unavailable", &["Retry-After: 4"], after(4), Code::SignallingFailed),
        ("503 Service Unavailable", &["Retry-After: 0"], after(1), Code::SignallingFailed),
        ("503 Service Unavailable", &["Retry-After: 99999999999999999999999"], after(600), Code::SignallingFailed),
        (
            "503 Service Unavailable",
            &["Retry-After: Fri, 31 Dec 9999 23:59:59 GMT"],
            after(600),
            Code::SignallingFailed,
        ),
        ("504 Gateway Timeout", &["Retry-After: soon"], Retry::Backoff, Code::SignallingFailed),
    ];
    for (status, headers, retry, code) in cases {
        let failure = publish(reply(status, headers, "")).await;
        assert_eq!((failure.retry, failure.code), (retry, code), "{status} {headers:?}: {failure}");
        assert!(failure.words.contains(&status[..3]), "{failure}");
    }
}

#[tokio::test]
async fn a_retry_after_date_is_counted_from_now() {
    let soon = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(unix_now() + 300);
    let header = format!("Retry-After: {}", httpdate::fmt_http_date(soon));
    let failure = publish(reply("503 Service Unavailable", &[&header], "")).await;
    let Retry::After(wait) = failure.retry else { panic!("{failure:?}") };
    assert!(wait > Duration::from_secs(200) && wait <= Duration::from_secs(300), "{wait:?}");
}

#[allow(clippy::disallowed_methods, reason = "a date in a header is wall-clock time")]
fn unix_now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

#[tokio::test]
async fn what_the_server_says_is_quoted_without_the_token() {
    let body = format!("{{\"status\":\"error\",\r\n \"error\":\"token {TOKEN} has no codec at ?password=hush\"}}");
    let failure = publish(reply("400 Bad Request", &["Content-Type: application/json"], &body)).await;
    assert!(
        failure
            .words
            .contains("it says: {\"status\":\"error\", \"error\":\"token *** has no codec at ?password=***\"}"),
        "{failure}"
    );

    let body = "someone is already publishing to path 'stage'";
    let failure = publish(reply("400 Bad Request", &["Content-Type: text/plain"], body)).await;
    assert_eq!((failure.retry, failure.code), (Retry::Busy { after: None }, Code::ConcurrentLimit));
}

#[tokio::test]
async fn bodies_that_are_no_answer_are_told_apart() {
    let cases = [
        ("200 OK", "text/html", "<html>Please log in</html>", Code::SignallingFailed, "captive portal"),
        ("201 Created", "application/sdp", "", Code::BadAnswer, "is empty"),
        ("201 Created", "application/sdp", "<html>", Code::BadAnswer, "is a web page"),
        ("201 Created", "application/json", "{}", Code::BadAnswer, "is no SDP"),
    ];
    for (status, kind, body, code, words) in cases {
        let failure = publish(reply(status, &["Location: /s", &format!("Content-Type: {kind}")], body)).await;
        assert_eq!((failure.retry, failure.code), (Retry::Backoff, code), "{failure}");
        assert!(failure.words.contains(words), "{failure}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let failure = publish(reply("201 Created", &["Location: /s"], &"v=0\r\n".repeat(60_000))).await;
    assert_eq!((failure.retry, failure.code), (Retry::Backoff, Code::BadAnswer), "{failure}");
    assert!(failure.words.contains("longer than 262144 bytes"), "{failure}");
}

#[tokio::test]
async fn a_slow_server_is_not_waited_for_for_ever() {
    let head = "HTTP/1.1 201 Created\r\nContent-Length: 100000\r\n";
    let cases = [Canned::Hang, Canned::Drip(head.to_owned()), Canned::Drip(format!("{head}\r\n"))];
    for canned in cases {
        // Generous: the request itself may take 1.5 s.
        let failure = tokio::time::timeout(Duration::from_secs(60), publish(canned.clone())).await.expect("an end");
        assert_eq!((failure.phase, failure.retry), (Phase::Dial, Retry::Backoff), "{canned:?}: {failure}");
        assert!(failure.words.contains("came in time"), "{failure}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_told() {
    let failure = publish(Canned::Raw("SSH-2.0-OpenSSH_9.2\r\n".to_owned())).await;
    assert_eq!((failure.retry, failure.code), (Retry::Backoff, Code::SignallingFailed), "{failure}");
    assert!(failure.words.contains("no valid HTTP answer"), "{failure}");
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_says_why() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let closed = format!("http://127.0.0.1:{port}/whip").parse().unwrap();
    let unknown = "http://no-such-host.invalid/whip".parse().unwrap();
    for (url, words) in [(closed, "nothing listens"), (unknown, "does not resolve")] {
        let failure = signaller(&uplink(url)).unwrap().publish("v=0\r\n").await.unwrap_err();
        assert_eq!((failure.phase, failure.retry, failure.code), (Phase::Dial, Retry::Backoff, Code::SignallingFailed));
        assert!(failure.words.contains(words), "{failure}");
    }
}
