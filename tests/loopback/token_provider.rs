//! Providers of tokens: files, programs and servers, well and unwell.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use roamcast::config::units::Secret;
use roamcast::config::{TokenSource, Uplink};
use roamcast::signal::token::Tokens;
use roamcast::status::ErrorCode;
use roamcast::supervisor::event::{Retry, TokenEvent};
use url::Url;

use crate::http::{Canned, Server, reply, uplink};

/// A provider, and what it reported.
struct Asked {
    tokens: Tokens,
    reports: Arc<Mutex<Vec<TokenEvent>>>,
}

impl Asked {
    fn new(source: TokenSource) -> Self {
        Self::with(&Uplink { token: Some(source), ..uplink("http://127.0.0.1:9/whip".parse().unwrap()) })
    }

    fn with(uplink: &Uplink) -> Self {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&reports);
        Self { tokens: Tokens::new(uplink, move |event| heard.lock().unwrap().push(event)), reports }
    }

    async fn fresh(&self) -> String {
        self.tokens.fresh().await.unwrap().unwrap().expose().to_owned()
    }

    async fn present(&self) -> String {
        self.tokens.present().await.unwrap().unwrap().expose().to_owned()
    }

    async fn failure(&self) -> String {
        let failure = self.tokens.fresh().await.unwrap_err();
        assert_eq!((failure.code, failure.retry), (ErrorCode::TokenProviderFailed, Retry::Backoff), "{failure}");
        failure.words
    }

    fn reports(&self) -> usize {
        self.reports.lock().unwrap().len()
    }
}

/// A shell line that prints `token-1`, `token-2`, ... and says so in JSON-less plain text.
fn counting(dir: &Path) -> TokenSource {
    let count = dir.join("count");
    let count = count.display();
    TokenSource::Command(format!("echo x >> '{count}'; echo token-$(wc -l < '{count}')"))
}

fn jwt_ending_in(life: Duration) -> String {
    let exp = (SystemTime::now() + life).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    // Rounded down: a life of zero is over when it begins.
    let exp = (exp * 1000.0).floor() / 1000.0;
    // base64url of `{"exp":...}` by hand: no crate for one line.
    let claims = format!("{{\"exp\":{exp:.3}}}");
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let encoded: String = claims
        .as_bytes()
        .chunks(3)
        .flat_map(|chunk| {
            let bits = chunk.iter().fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
            (0..=chunk.len()).map(move |at| alphabet[(bits >> (18 - 6 * at)) as usize & 63] as char)
        })
        .collect();
    format!("eyJhbGciOiJub25lIn0.{encoded}.c2ln")
}

#[tokio::test]
async fn a_program_is_run_for_each_try_but_not_for_each_request() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Asked::new(counting(dir.path()));
    assert_eq!((asked.fresh().await, asked.fresh().await), ("token-1".into(), "token-2".into()));
    assert_eq!(asked.present().await, "token-2");
    // What the server refused is not used again.
    assert!(!asked.tokens.rejected(&Secret::new("token-2".into())));
    assert_eq!(asked.present().await, "token-3");
    assert_eq!(asked.reports(), 0);
}

#[tokio::test]
async fn a_token_that_was_refused_and_comes_again_is_noticed() {
    let asked = Asked::new(TokenSource::Value(Secret::new("same".into())));
    let first = asked.tokens.fresh().await.unwrap().unwrap();
    assert!(!asked.tokens.rejected(&first));
    assert!(asked.failure().await.contains("the token that the server has just refused; it is tried once more"));
    assert_eq!(asked.reports(), 0, "the provider has not failed");
    let second = asked.tokens.fresh().await.unwrap().unwrap();
    assert!(asked.tokens.rejected(&second));
    assert_eq!(asked.fresh().await, "same", "said once, until another token was refused");
    assert!(!asked.tokens.rejected(&Secret::new("another".into())));
}

#[tokio::test]
async fn failures_are_reported_one_by_one_and_recovery_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let asked = Asked::new(TokenSource::File(path.clone()));
    for _failure in 0..3 {
        assert!(asked.failure().await.contains("cannot be read: entity not found"));
    }
    std::fs::write(&path, "t\n").unwrap();
    assert_eq!((asked.fresh().await, asked.fresh().await), ("t".into(), "t".into()));
    let reports = asked.reports.lock().unwrap();
    assert!(matches!(reports[..3], [TokenEvent::Failed(_), TokenEvent::Failed(_), TokenEvent::Failed(_)]));
    assert_eq!(reports[3..], [TokenEvent::Recovered]);
}

#[tokio::test]
async fn while_the_provider_is_away_the_token_before_does_if_it_is_valid_for_sure() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let asked = Asked::new(TokenSource::File(path.clone()));
    let token = jwt_ending_in(Duration::from_secs(3600));
    std::fs::write(&path, &token).unwrap();
    assert_eq!(asked.fresh().await, token);
    let renewal = asked.tokens.expires_in().unwrap();
    assert!((Duration::from_secs(3500)..Duration::from_secs(3571)).contains(&renewal), "{renewal:?}");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(asked.fresh().await, token);
    assert_eq!(asked.reports(), 1);
    // Not after the server has refused it.
    asked.tokens.rejected(&Secret::new(token));
    asked.failure().await;

    // Nor when nobody knows how long it lives, or when its time is over.
    for token in ["opaque".to_owned(), jwt_ending_in(Duration::ZERO)] {
        let asked = Asked::new(TokenSource::File(path.clone()));
        std::fs::write(&path, &token).unwrap();
        assert_eq!((asked.fresh().await, asked.tokens.expires_in()), (token, None));
        std::fs::remove_file(&path).unwrap();
        asked.failure().await;
    }
}

#[tokio::test]
async fn a_server_of_tokens_is_asked_with_a_post_and_the_token_before() {
    let count = AtomicUsize::new(0);
    let provider = Server::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => reply("200 OK", &["Content-Type: text/plain"], "first\n"),
        1 => reply("200 OK", &["Content-Type: application/json"], r#"{"token":"second","expiresIn":100}"#),
        _ => reply("307 Temporary Redirect", &["Location: /token?user=me"], ""),
    })
    .await;
    let address = provider.url("/token?user=me");
    let base = uplink(provider.url("/whip"));
    let asked = Asked::with(&Uplink { token: Some(TokenSource::Url(address)), ..base });
    assert_eq!((asked.fresh().await.as_str(), asked.tokens.expires_in()), ("first", None));
    assert_eq!(asked.fresh().await, "second");
    assert!(asked.tokens.expires_in().unwrap() <= Duration::from_secs(90));
    // In a circle: the second one is still good.
    assert_eq!(asked.fresh().await, "second");
    let requests = provider.requests();
    assert!(requests.iter().all(|request| request.method == "POST" && request.path == "/token?user=me"));
    let sent: Vec<_> = requests.iter().take(3).map(|request| request.header("authorization")).collect();
    assert_eq!(sent, [None, Some("Bearer first"), Some("Bearer second")]);
    assert_eq!(requests.len(), 2 + 6);
}

#[tokio::test]
async fn the_token_goes_to_no_stranger_even_if_he_gives_tokens() {
    let provider = Server::start(|_| reply("200 OK", &[], "given")).await;
    let asked = Asked::new(TokenSource::Url(provider.url("/token")));
    assert_eq!((asked.fresh().await, asked.fresh().await), ("given".into(), "given".into()));
    assert!(provider.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn a_server_of_tokens_that_is_unwell_is_one_sentence_without_secrets() {
    let long = "x".repeat(300 * 1024);
    let cases: [(Canned, &str); 6] = [
        (
            reply("500 Oops", &["Content-Type: text/plain"], "key hush is wrong"),
            "answered with 500 (it says: key *** is wrong)",
        ),
        (reply("401 No", &[], ""), "answered with 401"),
        (reply("200 OK", &[], ""), "is empty"),
        (reply("200 OK", &["Content-Type: text/html"], "<html> hush </html>"), "no bearer token has"),
        (reply("200 OK", &[], &long), "longer than 262144 bytes"),
        (reply("302 Found", &["Location: /login"], ""), "into a GET"),
    ];
    for (answer, words) in cases {
        let provider = Server::start(move |_| answer.clone()).await;
        let said = Asked::new(TokenSource::Url(provider.url("/token?key=hush"))).failure().await;
        assert!(said.contains("`uplink.tokenUrl`") && said.contains(words), "{said}");
        assert!(!said.contains("hush"), "{said}");
    }
    let stranger = Server::start(|_| reply("200 OK", &[], "t")).await;
    let away = format!("Location: {}", stranger.url("/"));
    let provider = Server::start(move |_| reply("307 Temporary Redirect", &[&away], "")).await;
    let said = Asked::new(TokenSource::Url(provider.url("/token"))).failure().await;
    assert!(said.contains("uplink.trustedOrigins") && stranger.requests().is_empty(), "{said}");
}

#[tokio::test]
async fn a_token_is_not_fetched_in_the_clear_from_another_machine() {
    let in_the_clear = "in the clear: its address is not one of this machine";
    // Names of no machine (RFC 2606) may resolve where a provider catches them: then by their address.
    for (address, words) in [
        ("http://192.0.2.1/token", [in_the_clear; 2]),
        ("http://tokens.example/", [in_the_clear, "does not resolve"]),
        ("http://localhost.example/", [in_the_clear, "does not resolve"]),
    ] {
        let said = Asked::new(TokenSource::Url(Url::parse(address).unwrap())).failure().await;
        assert!(words.iter().any(|words| said.contains(words)), "{said}");
    }
}

#[tokio::test]
async fn nothing_of_a_token_is_in_debug() {
    let asked = Asked::new(TokenSource::Value(Secret::new("hush".into())));
    assert_eq!(asked.fresh().await, "hush");
    assert!(!format!("{:?}", asked.tokens).contains("hush"));
}
