//! What a session does with tokens: asks, sends, is refused, asks again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use roamcast::config::{TokenSource, Uplink};
use roamcast::signal::Signaller;
use roamcast::signal::token::Tokens;
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
    let failure = signaller.publish("v=0\r\n").await.unwrap_err();
    assert!(failure.words.ends_with("gave the same token that the server has just refused"), "{failure}");
}
