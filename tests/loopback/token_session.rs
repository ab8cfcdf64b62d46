//! What a session does with tokens: asks, sends, is refused, asks again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use roamcast::config::{TokenSource, Uplink};
use roamcast::signal::token::Tokens;
use roamcast::signal::{Ghost, Memory, Signaller};
use roamcast::status::ErrorCode;
use roamcast::supervisor::event::Retry;

use crate::http::{Server, created, reply, uplink};

fn bearers(server: &Server) -> Vec<String> {
    server.requests().iter().map(|request| request.header("authorization").unwrap_or_default().to_owned()).collect()
}

/// A provider that gives `token-1`, `token-2`, ...
async fn provider() -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |_| reply("200 OK", &[], &format!("token-{}", count.fetch_add(1, Ordering::Relaxed) + 1))).await
}

#[tokio::test]
async fn one_token_serves_a_session_and_its_ghost_and_the_next_try_gets_a_new_one() {
    let provider = provider().await;
    let server = Server::start(|_| created(&["Location: /s"])).await;
    let config = Uplink { token: Some(TokenSource::Url(provider.url("/"))), ..uplink(server.url("/whip")) };
    let tokens = Arc::new(Tokens::new(&config, |_| {}));
    let mut first = Signaller::new(&config, Arc::clone(&tokens)).unwrap();
    first.publish("v=0\r\n").await.unwrap();
    let ghost = first.ghost().unwrap();
    let mut second = Signaller::new(&config, tokens).unwrap();
    let burial = second.bury(ghost);
    let (published, buried) = tokio::join!(second.publish("v=0\r\n"), burial);
    published.unwrap();
    buried.unwrap();
    second.goodbye().await.unwrap();
    assert_eq!(bearers(&server)[0], "Bearer token-1");
    assert_eq!(bearers(&server)[1..], ["Bearer token-2"; 3]);
    assert_eq!(provider.requests().len(), 2);
}

#[tokio::test]
async fn a_refused_token_is_replaced_and_one_that_comes_again_is_named() {
    let server = Server::start(|request| match request.header("authorization") {
        Some("Bearer token-2") => created(&["Location: /s"]),
        _ => reply("401 Unauthorized", &[], ""),
    })
    .await;
    let provider = provider().await;
    let config = Uplink { token: Some(TokenSource::Url(provider.url("/"))), ..uplink(server.url("/whip")) };
    let mut signaller = crate::http::signaller(&config).unwrap();
    let failure = signaller.publish("v=0\r\n").await.unwrap_err();
    assert_eq!((failure.code, failure.retry), (ErrorCode::InvalidToken, Retry::Once));
    assert!(!failure.words.contains("same token"), "{failure}");
    signaller.publish("v=0\r\n").await.unwrap();

    // Its own token in the config, which is always the same.
    let mut signaller = crate::http::signaller(&uplink(server.url("/whip"))).unwrap();
    signaller.publish("v=0\r\n").await.unwrap_err();
    let asked = server.requests().len();
    let failure = signaller.publish("v=0\r\n").await.unwrap_err();
    assert_eq!((failure.code, failure.retry), (ErrorCode::TokenProviderFailed, Retry::Backoff));
    assert_eq!(server.requests().len(), asked, "it was not sent again without a pause");
    let failure = signaller.publish("v=0\r\n").await.unwrap_err();
    assert!(failure.words.ends_with("gave the same token that the server has just refused"), "{failure}");
}

/// A provider of tokens that live for 2 s.
async fn brief() -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        let token = format!("{{\"token\":\"token-{number}\",\"expiresIn\":2}}");
        reply("200 OK", &["Content-Type: application/json"], &token)
    })
    .await
}

/// Lets the signaller do what it does by itself until this holds.
async fn idle_until(signaller: &mut Signaller, done: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + crate::program::PATIENCE;
    while !done() {
        assert!(std::time::Instant::now() < deadline, "it never happened");
        let said = tokio::time::timeout(std::time::Duration::from_millis(50), signaller.next()).await;
        assert!(said.is_err(), "{said:?}");
    }
}

#[tokio::test]
async fn a_live_whip_session_renews_its_token_before_it_ends() {
    let provider = brief().await;
    let server = Server::start(|_| created(&["Location: /s"])).await;
    let config = Uplink { token: Some(TokenSource::Url(provider.url("/"))), ..uplink(server.url("/whip")) };
    let mut signaller = crate::http::signaller(&config).unwrap();
    signaller.publish("v=0\r\n").await.unwrap();
    idle_until(&mut signaller, || provider.requests().len() >= 3).await;
    signaller.goodbye().await.unwrap();
    let bearers = bearers(&server);
    assert_eq!((bearers.len(), bearers[0].as_str()), (2, "Bearer token-1"));
    assert_ne!(bearers[1], "Bearer token-1", "the goodbye carries a good one");
}

#[tokio::test]
async fn a_ghost_at_another_server_of_ours_is_buried_there_and_nowhere_else() {
    let first = Server::start(|_| created(&["Location: /s"])).await;
    let second = Server::start(|_| created(&["Location: /s"])).await;
    let stranger = Server::start(|_| created(&["Location: /s"])).await;
    let config = Uplink { fallback_urls: vec![second.url("/whip")], ..uplink(first.url("/whip")) };
    for (at, ghost_at) in [(0, &second), (1, &first)] {
        let signaller = crate::http::signaller(&config.at(at)).unwrap();
        signaller.bury(Ghost(Memory::Whip { resource: ghost_at.url("/ghost").to_string() })).await.unwrap();
        let asked = ghost_at.requests();
        assert_eq!((asked.len(), asked[0].method.as_str(), asked[0].path.as_str()), (1, "DELETE", "/ghost"));
        let ghost = Ghost(Memory::Whip { resource: stranger.url("/ghost").to_string() });
        assert_eq!(signaller.bury(ghost).await.unwrap_err().retry, Retry::Never);
    }
    assert!(stranger.requests().is_empty());
}
