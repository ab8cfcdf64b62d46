//! The real encoder is killed, and the next one cleans up after it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use crate::program::{PATIENCE, Program};
use crate::relay::Relay;

const CONFIG: &str = "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n\
    [reconnect]\nminDelay = \"200ms\"\nmaxDelay = \"500ms\"\nmaxRetries = \"unlimited\"\n";

async fn ingest() -> (Program, Relay) {
    let port = crate::program::free_port();
    let mut ingest = Program::with(&["ingest", "--listen", &format!("127.0.0.1:{port}")]);
    ingest.wait_for_line("watch at");
    (ingest, Relay::to(port).await)
}

fn encoder(relay: &Relay, state: &Path) -> Program {
    let config = format!("{CONFIG}[uplink]\nurl = \"http://127.0.0.1:{}/whip/live\"\n", relay.port);
    Program::encoder_with(&config, |command| {
        command.env("STATE_DIRECTORY", state);
    })
}

/// The path of the session that the file remembers, once there is one other than `before`.
async fn remembered(state: &Path, before: Option<&str>) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(state.join("session.json")).unwrap_or_default();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(url) = document["memory"]["resource"].as_str()
            && let Ok(url) = url::Url::parse(url)
            && Some(url.path()) != before
        {
            return url.path().to_owned();
        }
        assert!(Instant::now() < deadline, "nothing is remembered: {text}");
        tokio::task::yield_now().await; // Another process writes the file.
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_the_next_start_buries_the_ghost_beside_its_own_publish() {
    let (_ingest, relay) = ingest().await;
    let state = tempfile::tempdir().unwrap();
    let mut first = encoder(&relay, state.path());
    first.wait_for_message("broadcasting");
    let ghost = remembered(state.path(), None).await;
    let mode = std::fs::metadata(state.path().join("session.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    first.kill();
    let before = relay.requests().len();

    let mut second = encoder(&relay, state.path());
    second.wait_for_message("broadcasting");
    let own = remembered(state.path(), Some(&ghost)).await;
    let asked = relay.requests()[before..].to_vec();
    assert_eq!(asked.iter().filter(|request| **request == format!("DELETE {ghost}")).count(), 1, "{asked:?}");
    assert!(asked.iter().any(|request| request == "POST /whip/live"), "{asked:?}");

    second.signal("TERM");
    assert_eq!(second.wait_for_exit(), 0);
    assert!(relay.requests().contains(&format!("DELETE {own}")), "{:?}", relay.requests());
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0, "a stop leaves nothing to take up again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_state_file_is_one_warning_and_the_broadcast_goes_on() {
    let (_ingest, relay) = ingest().await;
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("session.json"), "{\"version\":1,\"memory\":{\"protocol\":\"whip\"").unwrap();
    let mut encoder = encoder(&relay, state.path());
    encoder.wait_for_message("broadcasting");
    remembered(state.path(), None).await;
    let log = encoder.log();
    assert_eq!(log.matches("is ignored: it is corrupt").count(), 1, "{log}");
    assert!(state.path().join("session.json.ignored").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_place_to_write_the_broadcast_goes_on_with_one_warning() {
    let (_ingest, relay) = ingest().await;
    let state = tempfile::NamedTempFile::new().unwrap();
    let mut encoder = encoder(&relay, state.path());
    encoder.wait_for_message("broadcasting");
    encoder.reconnect();
    encoder.signal("TERM");
    assert_eq!(encoder.wait_for_exit(), 0);
    let log = encoder.log();
    assert_eq!(log.matches("cannot be written").count(), 1, "{log}");
}

/// The box boots after a power loss, and the server is not reached at once: the ghost is not forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_ghost_waits_until_the_server_is_reached() {
    let port = crate::program::free_port();
    let relay = Relay::to(port).await;
    let state = tempfile::tempdir().unwrap();
    let file = format!(
        "{{\"version\":1,\"memory\":{{\"protocol\":\"whip\",\"resource\":\"http://127.0.0.1:{0}/ghost\"}},\
         \"server\":\"http://127.0.0.1:{0}\",\"since\":\"2999-01-01T00:00:00Z\"}}",
        relay.port
    );
    std::fs::write(state.path().join("session.json"), file).unwrap();
    let mut encoder = encoder(&relay, state.path());
    encoder.wait_for("third try", |event| {
        crate::program::is_message(event, "signalling") && event["data"]["attempt"] == 3
    });
    assert_eq!(relay.requests(), [""; 0]);
    let mut ingest = Program::with(&["ingest", "--listen", &format!("127.0.0.1:{port}")]);
    ingest.wait_for_line("watch at");
    encoder.wait_for_message("broadcasting");
    let buried = relay.requests().iter().filter(|request| *request == "DELETE /ghost").count();
    assert_eq!(buried, 1, "{:?}", relay.requests());
}

/// The ghost of the process before holds the slot: it is buried, and the next try does not wait for the 30 s that a slot of
/// somebody else would be left alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_our_own_ghost_holds_is_tried_again_at_once() {
    let posts = std::sync::atomic::AtomicUsize::new(0);
    let server = crate::http::Server::start(move |request| match request.method.as_str() {
        "DELETE" => crate::http::reply("200 OK", &[], ""),
        _ if posts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => {
            crate::http::reply("409 Conflict", &[], "")
        }
        _ => crate::http::reply("403 Forbidden", &[], "that will do"),
    })
    .await;
    let state = tempfile::tempdir().unwrap();
    let file = format!(
        "{{\"version\":1,\"memory\":{{\"protocol\":\"whip\",\"resource\":\"{}\"}},\
         \"server\":\"http://127.0.0.1:{}\",\"since\":\"2999-01-01T00:00:00Z\"}}",
        server.url("/ghost"),
        server.port
    );
    std::fs::write(state.path().join("session.json"), file).unwrap();
    let config = format!("{CONFIG}[uplink]\nurl = \"{}\"\n", server.url("/whip/live"));
    let mut encoder = Program::encoder_with(&config, |command| {
        command.env("STATE_DIRECTORY", state.path());
    });
    let (refused, error) = encoder.wait_for("CONCURRENT_LIMIT", |event| event["data"]["code"] == "CONCURRENT_LIMIT");
    assert!(error["data"]["words"].as_str().unwrap().contains("a session of ours"), "{error}");
    let (again, _) = encoder.wait_for("AUTH_FAILED", |event| event["data"]["code"] == "AUTH_FAILED");
    assert!(again - refused < std::time::Duration::from_secs(20), "it waited for {:?}", again - refused);
    assert_eq!(encoder.wait_for_exit(), 77);
    let asked: Vec<_> = server.requests().into_iter().map(|request| request.method + " " + &request.path).collect();
    let count = |what: &str| asked.iter().filter(|asked| *asked == what).count();
    assert_eq!((count("DELETE /ghost"), count("POST /whip/live")), (1, 2), "{asked:?}");
}
