//! Tokens and slots, with the real encoder: what is tried at once, what is left alone, and what media never notices.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::program::{Program, free_port, is_message};
use crate::publisher;

const VIDEO: &str = "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n";

fn ingest(port: u16, token_file: Option<&Path>) -> Program {
    let listen = format!("127.0.0.1:{port}");
    let mut args = vec!["ingest", "--faults", "--listen", &listen];
    args.extend(token_file.iter().flat_map(|path| ["--token-file", path.to_str().unwrap()]));
    let mut ingest = Program::with(&args);
    ingest.wait_for_line("watch at");
    ingest
}

/// The codes of all BroadcastErrors so far.
fn errors(encoder: &Program) -> Vec<String> {
    let errors = encoder.events.iter().filter(|(_, event)| event["event"] == "BroadcastError");
    errors.map(|(_, event)| event["data"]["code"].as_str().unwrap().to_owned()).collect()
}

fn is_error(event: &Value, code: &str) -> bool {
    event["event"] == "BroadcastError" && event["data"]["code"] == code
}

/// A shell line that prints `wrong`, and from its second run on `then`.
fn token_command(files: &Path, then: &str) -> String {
    let mark = files.join("asked");
    let mark = mark.display();
    format!("if [ -e {mark} ]; then echo {then}; else touch {mark}; echo wrong; fi")
}

/// `minDelay` is far longer than anything else takes.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_401_is_followed_at_once_by_another_token() {
    let files = tempfile::tempdir().unwrap();
    let servers = files.path().join("servers");
    std::fs::write(&servers, "right").unwrap();
    let port = free_port();
    let _ingest = ingest(port, Some(&servers));
    let mut encoder = Program::encoder(&format!(
        "{VIDEO}[uplink]\nurl = \"http://127.0.0.1:{port}/whip/live\"\ntokenCommand = '{}'\n\
         [reconnect]\nminDelay = 50\nmaxDelay = 50\n",
        token_command(files.path(), "right")
    ));
    let (refused, _) = encoder.wait_for("INVALID_TOKEN", |event| is_error(event, "INVALID_TOKEN"));
    let (on_air, _) = encoder.wait_for_message("broadcasting");
    assert!(on_air - refused < Duration::from_secs(40), "it waited for {:?}", on_air - refused);
    assert_eq!(errors(&encoder), ["INVALID_TOKEN"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_gives_the_refused_token_again_is_told_and_401_twice_is_the_end() {
    let files = tempfile::tempdir().unwrap();
    let servers = files.path().join("servers");
    std::fs::write(&servers, "right").unwrap();
    let port = free_port();
    let ingest = ingest(port, Some(&servers));
    for token in ["token = 'wrong'".to_owned(), format!("tokenCommand = '{}'", token_command(files.path(), "wrong"))] {
        let mut encoder = Program::encoder(&format!(
            "{VIDEO}[uplink]\nurl = \"http://127.0.0.1:{port}/whip/live\"\n{token}\n[reconnect]\nminDelay = \"1s\"\n"
        ));
        assert_eq!(encoder.wait_for_exit(), 77);
        assert_eq!(errors(&encoder), ["INVALID_TOKEN", "TOKEN_PROVIDER_FAILED", "INVALID_TOKEN"], "{token}");
        let said = format!("{:?}\n{}", encoder.events, encoder.log());
        assert!(said.contains("the server has just refused; it is tried once more"), "{said}");
        assert!(!said.contains("wrong"), "a token is shown: {said}");
    }
    drop(ingest);
}

/// Three failures in a row are told, each further one is tried, and media never stops.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_is_told_and_live_media_goes_on() {
    let files = tempfile::tempdir().unwrap();
    let token = files.path().join("token");
    std::fs::write(&token, "right").unwrap();
    let port = free_port();
    let ingest = ingest(port, Some(&token));
    let mut encoder = Program::encoder(&format!(
        "{VIDEO}[uplink]\nprotocol = \"roamcast\"\nurl = \"ws://127.0.0.1:{port}/signal/live\"\ntokenFile = '{}'\n\
         [signalling]\nminDelay = \"200ms\"\nmaxDelay = \"500ms\"\n",
        token.display()
    ));
    encoder.wait_for_message("broadcasting");
    std::fs::remove_file(&token).unwrap();
    crate::reconnect_table::fault(port, "right", serde_json::json!({ "dropWebSocket": true })).await;
    let (_, told) = encoder.wait_for("TokenProviderError", |event| event["event"] == "TokenProviderError");
    assert_eq!(told["data"]["consecutiveFailures"], 3);
    encoder.wait_for("a fifth failure", |event| {
        event["event"] == "TokenProviderError" && event["data"]["consecutiveFailures"] == 5
    });
    std::fs::write(&token, "right").unwrap();
    encoder.wait_for("signalling again", |event| {
        event["event"] == "ConnectionState"
            && event["data"]["plane"] == "signalling"
            && event["data"]["state"] == "connected"
    });
    assert_eq!(encoder.messages(), ["signalling", "connected", "broadcasting"], "media was dropped");
    assert_eq!(ingest.log().matches("joined").count(), 1, "{}", ingest.log());
}

/// Somebody else has the slot: told, left alone for 30 s, and then tried once - which succeeds, as he has left.
#[tokio::test(flavor = "multi_thread")]
async fn a_taken_slot_is_left_alone_for_thirty_seconds_and_tried_again() {
    let port = free_port();
    let ingest = ingest(port, None);
    let config = format!(
        "{VIDEO}[uplink]\nprotocol = \"roamcast\"\nurl = \"ws://127.0.0.1:{port}/signal/live\"\n\
         [reconnect]\nminDelay = \"300ms\"\nmaxDelay = \"1s\"\n"
    );
    let mut first = Program::encoder(&config);
    first.wait_for_message("broadcasting");
    let mut second = Program::encoder(&config);
    let (refused, _) = second.wait_for("CONCURRENT_LIMIT", |event| is_error(event, "CONCURRENT_LIMIT"));
    assert_eq!(first.messages(), ["signalling", "connected", "broadcasting"], "the first was disturbed");
    first.signal("TERM");
    assert_eq!(first.wait_for_exit(), 0);
    // Whoever is impatient: the floor is the server's.
    second.signal("USR1");
    let (tried, _) =
        second.wait_for("the next try", |event| is_message(event, "signalling") && event["data"]["attempt"] == 1);
    assert!(tried - refused >= Duration::from_millis(29_900), "tried again after {:?}", tried - refused);
    second.wait_for_message("broadcasting");
    assert_eq!(errors(&second), ["CONCURRENT_LIMIT"]);
    assert_eq!(ingest.log().matches("joined").count(), 2, "{}", ingest.log());
}

/// Ten others are there already, so this encoder over WHIP is number 10 of its ingest, and gives way to them by a second when
/// all have lost it: 3 s, where dice would say 2 to 2.4.
#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_over_whip_takes_its_turn_when_the_server_dies() {
    let port = free_port();
    let mut ingest = ingest(port, None);
    let offer = publisher::offer().await;
    for number in 0..10 {
        let request = publisher::http_client().post(format!("http://127.0.0.1:{port}/whip/other{number}"));
        let answer = request.header("content-type", "application/sdp").body(offer.clone()).send().await.unwrap();
        assert_eq!(answer.headers()["roamcast-retry-slot"], number.to_string().as_str());
    }
    let mut encoder = Program::encoder(&format!("{VIDEO}[uplink]\nurl = \"http://127.0.0.1:{port}/whip/live\"\n"));
    encoder.wait_for_message("broadcasting");
    ingest.kill();
    let waits = |event: &Value| is_message(event, "reconnecting_broadcast") && event["data"]["retryIn"].is_f64();
    let (_, waiting) = encoder.wait_for("wait", waits);
    let wait = waiting["data"]["retryIn"].as_f64().unwrap();
    assert!((2.9..=3.0).contains(&wait), "{waiting}");
}
