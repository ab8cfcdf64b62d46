//! A WHIP session from POST to DELETE, as a healthy, a sloppy and a strict server see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use roamcast::config::TokenSource;
use roamcast::config::origin::TrustedOrigin;
use roamcast::sdp::LocalCandidate;
use roamcast::signal::{RestartError, Timeouts, Trickle, Word};
use roamcast::status::ErrorCode;
use roamcast::supervisor::event::{Phase, Retry, RetrySlot};
use tokio::sync::Notify;

use crate::captured::Captured;
use crate::http::{ANSWER, Canned, Server, TOKEN, created, reply, signaller, signaller_with, uplink};

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE video0 audio1\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:video0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:audio1\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";

fn candidate(mline: u32) -> LocalCandidate {
    let mid = ["video0", "audio1"][mline as usize].to_owned();
    LocalCandidate {
        mid,
        mline,
        candidate: format!("candidate:{mline} 1 UDP 2122260223 192.0.2.1 5000{mline} typ host"),
    }
}

#[tokio::test]
async fn offer_trickle_and_goodbye_reach_the_server_with_the_token() {
    let server = Server::start(|request| match request.method.as_str() {
        "POST" => created(&["Location: /whip/session/1?key=hidden", "ETag: \"xyzzy\""]),
        _ => reply("204 No Content", &[], ""),
    })
    .await;
    let mut signaller = signaller(&uplink(server.url("/whip/stage?user=me"))).unwrap();
    let accepted = signaller.publish(OFFER).await.unwrap();
    assert_eq!((accepted.answer.as_str(), accepted.session_id.as_str()), (ANSWER, "/whip/session/1"));
    assert_eq!(signaller.candidates(&[candidate(1)], true).await.unwrap(), Trickle::Taken);
    assert!(signaller.ghost().is_some());
    signaller.goodbye().await.unwrap();
    signaller.goodbye().await.unwrap();
    assert!(signaller.ghost().is_none());

    let requests = server.requests();
    let asked: Vec<_> = requests.iter().map(|request| (request.method.as_str(), request.path.as_str())).collect();
    let resource = "/whip/session/1?key=hidden";
    assert_eq!(asked, [("POST", "/whip/stage?user=me"), ("PATCH", resource), ("DELETE", resource)]);
    assert!(requests.iter().all(|request| request.header("authorization") == Some(&format!("Bearer {TOKEN}"))));
    assert_eq!((requests[0].header("content-type"), requests[0].body.as_str()), (Some("application/sdp"), OFFER));
    assert_eq!(requests[1].header("content-type"), Some("application/trickle-ice-sdpfrag"));
    assert_eq!(requests[1].header("if-match"), Some("\"xyzzy\""));
    insta::assert_snapshot!(requests[1].body.replace('\r', ""), @r"
    a=group:BUNDLE video0 audio1
    a=ice-ufrag:abcd
    a=ice-pwd:0123456789012345678901
    m=video 9 UDP/TLS/RTP/SAVPF 96
    a=mid:video0
    a=ice-ufrag:abcd
    a=ice-pwd:0123456789012345678901
    a=end-of-candidates
    m=audio 9 UDP/TLS/RTP/SAVPF 111
    a=mid:audio1
    a=ice-ufrag:abcd
    a=ice-pwd:0123456789012345678901
    a=candidate:1 1 UDP 2122260223 192.0.2.1 50001 typ host
    a=end-of-candidates
    ");
}

/// Our ingest numbers its sessions; other servers do not, and nonsense costs nothing but one line in the log.
#[tokio::test]
async fn a_number_in_the_answer_is_told_and_a_bad_one_is_named_once_and_ignored() {
    let (log, _guard) = Captured::start();
    for (value, told) in
        [("17", Some(17)), ("0", Some(0)), (" 65535 ", Some(u16::MAX)), ("", None), ("65536", None), ("-1", None)]
    {
        let header = format!("Roamcast-Retry-Slot: {value}");
        let server = Server::start(move |_| created(&[&header])).await;
        let mut signaller = signaller(&uplink(server.url("/whip"))).unwrap();
        for _ in 0..2 {
            signaller.publish(OFFER).await.unwrap();
        }
        let heard = tokio::time::timeout(Duration::from_millis(100), signaller.next()).await;
        assert_eq!(heard.ok(), told.map(|slot| Word::RetrySlot(RetrySlot(slot))), "{value}");
        let named = format!("`{}` names a `roamcast-retry-slot`", server.url("/whip"));
        assert_eq!(log.text().matches(&named).count(), usize::from(told.is_none()), "{value}: {}", log.text());
    }
    let server = Server::start(|_| created(&[])).await;
    let mut signaller = signaller(&uplink(server.url("/whip"))).unwrap();
    signaller.publish(OFFER).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), signaller.next()).await.is_err(), "there is no number");
}

#[tokio::test]
async fn an_absolute_location_of_the_same_origin_is_followed() {
    let server = Server::start(|request| {
        let host = request.header("host").unwrap();
        created(&[&format!("Location: http://user:pass@{host}/elsewhere/7#fragment")])
    })
    .await;
    let mut signaller = signaller(&uplink(server.url("/whip"))).unwrap();
    assert_eq!(signaller.publish(OFFER).await.unwrap().session_id, "/elsewhere/7");
    // Answers 201 to the DELETE, which is strange, but a success.
    signaller.goodbye().await.unwrap();
    let goodbye = server.requests().pop().unwrap();
    assert_eq!((goodbye.method.as_str(), goodbye.path.as_str()), ("DELETE", "/elsewhere/7"));
    assert_eq!(goodbye.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
}

#[tokio::test]
async fn a_location_on_a_foreign_origin_is_left_alone_unless_trusted() {
    let stranger = Server::start(|_| reply("200 OK", &[], "")).await;
    let location = format!("Location: {}", stranger.url("/session"));
    let server = Server::start(move |_| created(&[&location])).await;
    let mut config = uplink(server.url("/whip"));
    let mut signaller = signaller(&config).unwrap();
    signaller.publish(OFFER).await.unwrap();
    signaller.goodbye().await.unwrap();
    assert!(stranger.requests().is_empty());

    config.trusted_origins = vec![TrustedOrigin::new(&stranger.url("/")).unwrap()];
    let mut signaller = crate::http::signaller(&config).unwrap();
    signaller.publish(OFFER).await.unwrap();
    signaller.goodbye().await.unwrap();
    assert_eq!(stranger.requests().len(), 1);
}

#[tokio::test]
async fn without_a_location_the_broadcast_runs_but_cannot_be_ended() {
    let server = Server::start(|_| created(&[])).await;
    let mut signaller = signaller(&uplink(server.url("/whip/stage"))).unwrap();
    assert_eq!(signaller.publish(OFFER).await.unwrap().session_id, "/whip/stage");
    assert_eq!(signaller.candidates(&[candidate(0)], true).await.unwrap(), Trickle::Unsupported);
    assert!(signaller.ghost().is_none());
    signaller.goodbye().await.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_server_that_says_200_with_an_sdp_answer_is_understood() {
    let server = Server::start(|_| reply("200 OK", &["Content-Type: application/sdp"], ANSWER)).await;
    let accepted = signaller(&uplink(server.url("/whip"))).unwrap().publish(OFFER).await.unwrap();
    assert_eq!(accepted.answer, ANSWER);
}

#[tokio::test]
async fn a_server_without_trickle_is_asked_once() {
    for status in ["405 Method Not Allowed", "501 Not Implemented", "404 Not Found", "415 Unsupported Media Type"] {
        let server = Server::start(move |request| match request.method.as_str() {
            "PATCH" => reply(status, &[], ""),
            _ => created(&["Location: /s"]),
        })
        .await;
        let mut signaller = signaller(&uplink(server.url("/whip"))).unwrap();
        signaller.publish(OFFER).await.unwrap();
        for _ in 0..2 {
            assert_eq!(signaller.candidates(&[candidate(0)], false).await.unwrap(), Trickle::Unsupported, "{status}");
        }
        assert_eq!(server.requests().len(), 2, "{status}");
    }
}

#[tokio::test]
async fn a_trickle_that_the_server_could_not_take_just_now_is_a_failure() {
    let server = Server::start(|request| match request.method.as_str() {
        "PATCH" => reply("503 Service Unavailable", &["Retry-After: 4"], ""),
        _ => created(&["Location: /s"]),
    })
    .await;
    let mut signaller = signaller(&uplink(server.url("/whip"))).unwrap();
    signaller.publish(OFFER).await.unwrap();
    let failure = signaller.candidates(&[candidate(0)], false).await.unwrap_err();
    assert_eq!(failure.retry, Retry::After(std::time::Duration::from_secs(4)));
}

#[tokio::test]
async fn a_session_that_is_gone_already_counts_as_ended() {
    let server = Server::start(|request| match request.method.as_str() {
        "DELETE" => reply("404 Not Found", &[], ""),
        _ => created(&["Location: /s"]),
    })
    .await;
    let mut signaller = signaller(&uplink(server.url("/whip"))).unwrap();
    signaller.publish(OFFER).await.unwrap();
    signaller.goodbye().await.unwrap();
}

#[tokio::test]
async fn a_ghost_is_buried_beside_the_new_publish() {
    // The second POST is answered only once the DELETE has come: they must really run side by side.
    let buried = Arc::new(Notify::new());
    let posts = AtomicU32::new(0);
    let server = Server::start(move |request| match request.method.as_str() {
        "DELETE" => {
            buried.notify_one();
            reply("200 OK", &[], "")
        }
        _ if posts.fetch_add(1, Ordering::SeqCst) == 0 => created(&["Location: /s/1"]),
        _ => Canned::After(Arc::clone(&buried), Box::new(created(&["Location: /s/2"]))),
    })
    .await;
    let mut signaller = signaller(&uplink(server.url("/whip"))).unwrap();
    signaller.publish(OFFER).await.unwrap();
    let burial = signaller.bury(signaller.ghost().unwrap());
    let (published, buried) = tokio::join!(signaller.publish(OFFER), burial);
    buried.unwrap();
    assert_eq!(published.unwrap().session_id, "/s/2");
    let gone = server.requests().into_iter().find(|request| request.method == "DELETE").unwrap();
    assert_eq!(gone.path, "/s/1");
}

#[tokio::test]
async fn ice_servers_of_the_link_header_are_passed_on() {
    let server = Server::start(|_| {
        created(&[
            "Location: /s",
            "Link: <stun:stun.example.net>; rel=\"ice-server\", <turn:h.example.net?transport=udp>; \
             rel=\"ice-server\"; username=\"a, b\"; credential=\"p\\\"w\"; credential-type=\"password\"",
            "Link: <https://example.net/>; rel=\"help\"",
            "Link: <turns:192.168.1.9:5349?transport=tcp>;rel=ice-server;username=u;credential=c",
        ])
    })
    .await;
    let accepted = signaller(&uplink(server.url("/whip"))).unwrap().publish(OFFER).await.unwrap();
    let servers: Vec<_> = accepted
        .ice_servers
        .iter()
        .map(|server| {
            (server.urls[0].as_str(), server.username.as_deref(), server.credential.as_ref().map(|c| c.expose()))
        })
        .collect();
    assert_eq!(
        servers,
        [
            ("stun:stun.example.net", None, None),
            ("turn:h.example.net?transport=udp", Some("a, b"), Some("p\"w")),
            // A private address is fine from a server on this machine.
            ("turns:192.168.1.9:5349?transport=tcp", Some("u"), Some("c")),
        ]
    );
}

#[tokio::test]
async fn a_token_file_renewed_between_two_requests_counts_at_once() {
    let server = Server::start(|_| created(&["Location: /s"])).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut config = uplink(server.url("/whip"));
    config.token = Some(TokenSource::File(file.path().to_owned()));
    let mut signaller = signaller(&config).unwrap();
    for token in ["one", "two"] {
        std::fs::write(file.path(), format!("{token}\n")).unwrap();
        signaller.publish(OFFER).await.unwrap();
        let request = server.requests().pop().unwrap();
        assert_eq!(request.header("authorization"), Some(format!("Bearer {token}").as_str()));
    }
    std::fs::remove_file(file.path()).unwrap();
    let failure = signaller.publish(OFFER).await.unwrap_err();
    assert_eq!((failure.code, failure.retry), (ErrorCode::TokenProviderFailed, Retry::Backoff));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn without_a_token_none_is_sent() {
    let server = Server::start(|_| created(&["Location: /s"])).await;
    let mut config = uplink(server.url("/whip"));
    config.token = None;
    signaller(&config).unwrap().publish(OFFER).await.unwrap();
    assert_eq!(server.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_server_that_hangs_up_in_the_middle_is_a_backoff() {
    let cut = "HTTP/1.1 201 Created\r\nContent-Length: 4000\r\n\r\nv=0\r\n";
    let server = Server::start(move |_| Canned::Raw(cut.to_owned())).await;
    let failure = signaller(&uplink(server.url("/whip"))).unwrap().publish(OFFER).await.unwrap_err();
    assert_eq!((failure.code, failure.retry), (ErrorCode::SignallingFailed, Retry::Backoff), "{failure}");
}

/// What the server says to the PATCH of an ICE restart.
async fn restart(canned: Canned) -> RestartError {
    restart_within(Timeouts::default(), canned).await
}

async fn restart_within(timeouts: Timeouts, canned: Canned) -> RestartError {
    let server = Server::start(move |request| match request.method.as_str() {
        "POST" => created(&["Location: /whip/session/1", "ETag: \"1\""]),
        _ => canned.clone(),
    })
    .await;
    let mut signaller = signaller_with(&uplink(server.url("/whip/stage")), timeouts).unwrap();
    signaller.publish(OFFER).await.unwrap();
    let error = signaller.restart(OFFER).await.unwrap_err();
    let stars = server
        .requests()
        .iter()
        .filter_map(|request| request.header("if-match").map(str::to_owned))
        .collect::<Vec<_>>();
    let told =
        matches!(&error, RestartError::Refused(why) if ["412", "422"].iter().any(|code| why.words.contains(code)));
    let expected = if told { vec!["\"*\"", "*"] } else { vec!["\"*\""] };
    assert_eq!(stars, expected, "a messenger never retries: the two ways to write the star are one request");
    error
}

/// LiveKit takes the star without quotes alone; others with quotes alone.
#[tokio::test]
async fn the_star_of_an_ice_restart_is_written_as_the_server_wants_it() {
    let fragment = "a=ice-ufrag:next\r\na=ice-pwd:0123456789abcdefghijkl-_\r\n";
    for (wanted, refused, stars) in [
        ("*", "412 Precondition Failed", vec!["\"*\"", "*", "*"]),
        ("*", "422 Unprocessable Content", vec!["\"*\"", "*", "*"]),
        ("\"*\"", "412 Precondition Failed", vec!["\"*\"", "\"*\""]),
    ] {
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" => created(&["Location: /s/1"]),
            _ if request.header("if-match") == Some(wanted) => reply("200 OK", &["ETag: \"2\""], fragment),
            _ => reply(refused, &[], ""),
        })
        .await;
        let mut signaller = signaller(&uplink(server.url("/whip"))).unwrap();
        signaller.publish(OFFER).await.unwrap();
        for _restart in 0..2 {
            signaller.restart(OFFER).await.unwrap();
        }
        let patches = server.requests().into_iter().filter(|request| request.method == "PATCH");
        let asked: Vec<_> = patches.filter_map(|request| request.header("if-match").map(str::to_owned)).collect();
        assert_eq!(asked, stars, "{refused}");
    }
}

/// With an SDP answer there is no doubt what a success means, whatever its number and its bytes.
#[tokio::test]
async fn any_success_with_an_sdp_answer_is_an_answer() {
    for status in ["200 OK", "201 Created", "202 Accepted", "203 Non-Authoritative Information", "207 Multi-Status"] {
        for body in ["v=0\r\ns=-\r\n", "\r\nv=0\n", "\u{feff}v=0\r"] {
            let canned = reply(status, &["Location: /s/1", "Content-Type: text/plain"], body);
            let server = Server::start(move |_| canned.clone()).await;
            let accepted = signaller(&uplink(server.url("/whip"))).unwrap().publish(OFFER).await.unwrap();
            assert_eq!((accepted.answer.as_str(), accepted.session_id.as_str()), (body, "/s/1"), "{status}");
        }
        let canned = reply(status, &["Location: /s/1"], "{}");
        let server = Server::start(move |_| canned.clone()).await;
        signaller(&uplink(server.url("/whip"))).unwrap().publish(OFFER).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_server_that_knows_no_ice_restart_is_told_from_one_that_is_busy() {
    for status in [
        "400 Bad Request",
        "404 Not Found",
        "405 Method Not Allowed",
        "412 Precondition Failed",
        "415 Unsupported Media Type",
        "422 Unprocessable Content",
        "428 Precondition Required",
        "501 Not Implemented",
        // Taken for a trickle: no credentials come back.
        "204 No Content",
    ] {
        let error = restart(reply(status, &[], "")).await;
        assert!(
            matches!(&error, RestartError::Refused(why) if status.starts_with("204") || why.words.contains(&status[..3])),
            "{error:?}"
        );
    }
    for status in [
        "408 Request Timeout",
        "425 Too Early",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
    ] {
        let error = restart(reply(status, &[], "")).await;
        assert!(matches!(&error, RestartError::Failed(why) if why.retry == Retry::Backoff), "{status}: {error:?}");
    }
    let error = restart(reply("429 Too Many Requests", &["Retry-After: 45"], "")).await;
    let after = Retry::After(Duration::from_secs(45));
    assert!(matches!(&error, RestartError::Failed(why) if why.retry == after), "{error:?}");
}

/// The path is dead, and the session may go on when it heals: that is no server which has ended.
#[tokio::test]
async fn an_ice_restart_that_nobody_hears_is_no_refusal() {
    let timeouts = |connect, request| Timeouts {
        connect: Duration::from_millis(connect),
        request: Duration::from_millis(request),
        ..Timeouts::default()
    };
    assert_eq!(restart_within(timeouts(1000, 1500), Canned::Hang).await, RestartError::Silence);
    // Earlier than a connection is given up: somebody has had a hand in it.
    let early = restart_within(timeouts(60_000, 1500), Canned::Hang).await;
    assert!(matches!(&early, RestartError::Failed(why) if why.phase == Phase::Dial), "{early:?}");
}

#[tokio::test]
async fn candidates_after_an_ice_restart_belong_to_the_new_etag() {
    let restarts = AtomicU32::new(1);
    let server = Server::start(move |request| match (request.method.as_str(), request.header("if-match")) {
        ("POST", _) => created(&["Location: /whip/session/1", "ETag: \"1\""]),
        (_, Some("\"*\"")) => {
            let number = restarts.fetch_add(1, Ordering::Relaxed) + 1;
            // The third time it names none: candidates then go without a condition.
            let etag = format!("ETag: \"{number}\"");
            let etags: &[&str] = if number < 3 { &[&etag] } else { &[] };
            reply("200 OK", etags, &format!("a=ice-ufrag:new{number}\r\na=ice-pwd:{number}234567890123456789012\r\n"))
        }
        _ => reply("204 No Content", &[], ""),
    })
    .await;
    let mut signaller = signaller(&uplink(server.url("/whip/stage"))).unwrap();
    signaller.publish(OFFER).await.unwrap();
    signaller.candidates(&[candidate(0)], false).await.unwrap();
    for _ in 0..2 {
        signaller.restart(&OFFER.replace("abcd", "efgh")).await.unwrap();
        signaller.candidates(&[candidate(0)], false).await.unwrap();
    }
    let requests = server.requests();
    let conditions: Vec<_> = requests.iter().map(|request| request.header("if-match")).collect();
    let any = Some("\"*\"");
    assert_eq!(conditions, [None, Some("\"1\""), any, Some("\"2\""), any, None]);
    assert!(requests[3].body.contains("a=ice-ufrag:efgh"), "{}", requests[3].body);
}
