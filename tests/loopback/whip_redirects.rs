//! Redirects: the token goes to the endpoint's origin and to trusted ones, and nowhere else.

use roamcast::config::origin::TrustedOrigin;
use roamcast::status::ErrorCode;
use roamcast::supervisor::event::Retry;

use crate::http::{Server, TOKEN, created, reply, signaller, uplink};

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
    assert_eq!((failure.code, failure.retry), (ErrorCode::UntrustedRedirect, Retry::Never));
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
