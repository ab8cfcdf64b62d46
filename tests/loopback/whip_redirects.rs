//! Redirects: the token goes to the endpoint's origin and to trusted ones, and nowhere else.

use roamcast::config::origin::TrustedOrigin;
use roamcast::status::ErrorCode;
use roamcast::supervisor::event::Retry;

use roamcast::sdp::LocalCandidate;
use roamcast::signal::{RestartError, Trickle};

use crate::captured::Captured;
use crate::http::{Canned, Request, Server, TOKEN, created, reply, signaller, uplink};

#[tokio::test]
async fn a_redirect_to_the_same_origin_is_followed_with_offer_and_token() {
    for status in ["307 Temporary Redirect", "308 Permanent Redirect"] {
        let server = Server::start(move |request| match request.path.as_str() {
            "/whip/stage" => reply(status, &["Location: node/7"], ""),
            _ => created(&["Location: session"]),
        })
        .await;
        let mut signaller = signaller(&uplink(server.url("/whip/stage"))).unwrap();
        assert_eq!(signaller.publish("v=0\r\n").await.unwrap().session_id, "/whip/node/session");
        let second = server.requests().pop().unwrap();
        assert_eq!((second.method.as_str(), second.path.as_str()), ("POST", "/whip/node/7"));
        assert_eq!(
            (second.header("authorization"), second.body.as_str()),
            (Some(&*format!("Bearer {TOKEN}")), "v=0\r\n")
        );
    }
}

#[tokio::test]
async fn a_foreign_origin_sees_no_request_at_all() {
    let stranger = Server::start(|_| created(&[])).await;
    let target = stranger.url("/whip?secret=hush");
    let server = Server::start(move |_| reply("307 Temporary Redirect", &[&format!("Location: {target}")], "")).await;
    let mut config = uplink(server.url("/whip"));
    let failure = signaller(&config).unwrap().publish("v=0\r\n").await.unwrap_err();
    assert_eq!((failure.code, failure.retry), (ErrorCode::UntrustedRedirect, Retry::Backoff));
    assert!(failure.words.contains("uplink.trustedOrigins") && !failure.words.contains("hush"), "{failure}");
    assert!(stranger.requests().is_empty());

    // The operator's list lets it through.
    config.trusted_origins = vec![TrustedOrigin::new(&stranger.url("/")).unwrap()];
    signaller(&config).unwrap().publish("v=0\r\n").await.unwrap();
    assert_eq!(stranger.requests().len(), 1);
}

#[tokio::test]
async fn a_circle_of_redirects_ends_after_five_hops() {
    let server = Server::start(|_| reply("307 Temporary Redirect", &["Location: /whip"], "")).await;
    let failure = signaller(&uplink(server.url("/whip"))).unwrap().publish("v=0\r\n").await.unwrap_err();
    assert_eq!((failure.code, failure.retry), (ErrorCode::SignallingFailed, Retry::Backoff));
    assert!(failure.words.contains("in a circle"), "{failure}");
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn a_redirect_that_would_turn_the_post_into_a_get_is_not_followed() {
    for status in ["301 Moved Permanently", "302 Found", "303 See Other"] {
        let server = Server::start(move |_| reply(status, &["Location: /there"], "")).await;
        let failure = signaller(&uplink(server.url("/whip"))).unwrap().publish("v=0\r\n").await.unwrap_err();
        assert!(failure.words.contains("into a GET") && failure.words.contains("/there"), "{failure}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_goodbye_is_not_led_astray_either() {
    let stranger = Server::start(|_| reply("200 OK", &[], "")).await;
    let target = stranger.url("/");
    let server = Server::start(move |request| match request.method.as_str() {
        "POST" => created(&["Location: /s"]),
        _ => reply("307 Temporary Redirect", &[&format!("Location: {target}")], ""),
    })
    .await;
    let mut signaller = signaller(&uplink(server.url("/whip"))).unwrap();
    signaller.publish("v=0\r\n").await.unwrap();
    let failure = signaller.goodbye().await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::UntrustedRedirect);
    assert!(stranger.requests().is_empty());
}

/// The session is made, and its address is no place for the token: that costs the goodbye, trickle and ICE restarts.
#[tokio::test]
async fn a_location_elsewhere_costs_the_goodbye_and_not_the_broadcast() {
    let stranger = Server::start(|_| reply("200 OK", &[], "")).await;
    for location in [
        stranger.url("/s?secret=hush").to_string(),
        format!("//127.0.0.1:{}/s", stranger.port),
        format!("http://me:hush@localhost:{}/s", stranger.port),
        format!("https://localhost:{}/s", stranger.port),
    ] {
        let (log, _logging) = Captured::start();
        let answer = location.clone();
        let server = Server::start(move |_| created(&[&format!("Location: {answer}")])).await;
        let mut signaller = signaller(&uplink(server.url("/whip/live"))).unwrap();
        for _session in 0..2 {
            let accepted = signaller.publish("v=0\r\nm=video 9 x 96\r\n").await.unwrap();
            assert_eq!(accepted.session_id, "/whip/live", "{location}");
            let candidate = LocalCandidate { mid: String::new(), mline: 0, candidate: "candidate:1".to_owned() };
            assert_eq!(signaller.candidates(&[candidate], true).await, Ok(Trickle::Unsupported), "{location}");
            assert!(matches!(signaller.restart("v=0\r\n").await, Err(RestartError::Refused(_))), "{location}");
            assert!(signaller.memory().is_none() && signaller.ghost().is_none(), "{location}");
            signaller.goodbye().await.unwrap();
        }
        log.says_once(&["can be ended by the server's own timeout only"]);
        assert!(!log.text().contains("hush"), "{}", log.text());
        assert_eq!(server.requests().len(), 2, "{location}");
    }
    assert!(stranger.requests().is_empty());
}

#[tokio::test]
async fn trickle_and_ice_restarts_are_not_led_astray() {
    let stranger = Server::start(|_| reply("204 No Content", &[], "")).await;
    let target = stranger.url("/s");
    let answer = move |request: &Request| -> Canned {
        match request.method.as_str() {
            "POST" => created(&["Location: /s"]),
            _ => reply("307 Temporary Redirect", &[&format!("Location: {target}")], ""),
        }
    };
    let server = Server::start(answer).await;
    let mut signaller = signaller(&uplink(server.url("/whip"))).unwrap();
    signaller.publish("v=0\r\nm=video 9 x 96\r\n").await.unwrap();
    assert_eq!(signaller.candidates(&[], true).await, Ok(Trickle::Unsupported));
    assert!(matches!(signaller.restart("v=0\r\n").await, Err(RestartError::Refused(_))));
    assert!(stranger.requests().is_empty());
}
