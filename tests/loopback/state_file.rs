//! The real encoder is killed, and the next one cleans up after it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::http::{Canned, Server, reply};
use crate::program::{PATIENCE, Program};
use crate::relay::Relay;

const CONFIG: &str = "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n\
    [reconnect]\nminDelay = \"200ms\"\nmaxDelay = \"500ms\"\nmaxRetries = \"unlimited\"\n";
const ON_AIR: [&str; 3] = ["signalling", "connected", "broadcasting"];
/// A server that is slow to end a session: far more than a publish takes to be refused.
const SLOW_END: Duration = Duration::from_millis(500);

async fn ingest() -> (Program, Relay) {
    let port = crate::program::free_port();
    let mut ingest = Program::with(&["ingest", "--listen", &format!("127.0.0.1:{port}")]);
    ingest.wait_for_line("watch at");
    (ingest, Relay::to(port).await)
}

fn encoder(relay: &Relay, state: &Path) -> Program {
    encoder_of(&format!("url = \"http://127.0.0.1:{}/whip/live\"\n", relay.port), state)
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
    let left: Vec<_> = std::fs::read_dir(state.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["proofs.json"], "a stop leaves nothing to take up again, and what the server has proven");
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
    left_behind(state.path(), relay.port);
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

/// The process before has left a session behind at this port.
fn left_behind(state: &Path, port: u16) {
    let file = format!(
        "{{\"version\":1,\"memory\":{{\"protocol\":\"whip\",\"resource\":\"http://127.0.0.1:{port}/ghost\"}},\
         \"server\":\"http://127.0.0.1:{port}\",\"since\":\"2999-01-01T00:00:00Z\"}}"
    );
    std::fs::write(state.join("session.json"), file).unwrap();
}

fn encoder_of(uplink: &str, state: &Path) -> Program {
    Program::encoder_with(&format!("{CONFIG}[uplink]\n{uplink}"), |command| {
        command.env("STATE_DIRECTORY", state);
    })
}

/// What this server was asked, by method and path.
fn asked(server: &Server, what: &str) -> usize {
    server.requests().iter().filter(|request| format!("{} {}", request.method, request.path) == what).count()
}

/// Codes of all BroadcastErrors so far.
fn codes(encoder: &Program) -> Vec<&str> {
    let errors = encoder.events.iter().filter(|(_, event)| event["event"] == "BroadcastError");
    errors.filter_map(|(_, event)| event["data"]["code"].as_str()).collect()
}

/// The ghost of the process before holds the slot, and the server is slow to end it: the publish is refused, and made once
/// more when the ghost is gone. Nobody hears of that.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_our_own_ghost_holds_costs_not_even_one_refusal() {
    let (_ingest, relay) = ingest().await;
    let away = format!("Location: http://127.0.0.1:{}/whip/live", relay.port);
    let (is_free, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (freed, may_end) = (Arc::clone(&is_free), Arc::clone(&refused));
    let server = Server::start(move |request| match request.method.as_str() {
        "DELETE" => {
            let (may_end, freed, ended) = (Arc::clone(&may_end), Arc::clone(&freed), Arc::new(Notify::new()));
            let tell = Arc::clone(&ended);
            tokio::spawn(async move {
                may_end.notified().await;
                tokio::time::sleep(SLOW_END).await;
                freed.store(true, Ordering::SeqCst);
                tell.notify_one();
            });
            Canned::After(ended, Box::new(reply("200 OK", &[], "")))
        }
        _ if is_free.load(Ordering::SeqCst) => reply("307 Temporary Redirect", &[&away], ""),
        _ => {
            refused.notify_one();
            reply("409 Conflict", &["Retry-After: 2"], "")
        }
    })
    .await;
    let state = tempfile::tempdir().unwrap();
    left_behind(state.path(), server.port);
    let trusted = format!("trustedOrigins = [\"http://127.0.0.1:{}\"]\n", relay.port);
    let mut encoder = encoder_of(&format!("url = \"{}\"\n{trusted}", server.url("/whip/live")), state.path());
    encoder.wait_for_message("broadcasting");
    assert_eq!((codes(&encoder), encoder.messages()), (Vec::new(), ON_AIR.map(str::to_owned).to_vec()));
    assert_eq!((asked(&server, "DELETE /ghost"), asked(&server, "POST /whip/live")), (1, 2));
}

/// The ghost is buried, and the slot is taken still: it is somebody else who has it. Or the server wants us to stay away for
/// longer than for a slot, or is busy: then it gets no second offer.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_a_stranger_holds_is_left_alone_as_long_as_the_server_says() {
    for (status, retry_after, offers, at_least, code) in [
        // 3 s, or what the server asks for: it may be the slot of our own lost session.
        ("409 Conflict", 5, 2, 5.0, "CONCURRENT_LIMIT"),
        ("409 Conflict", 60, 1, 60.0, "CONCURRENT_LIMIT"),
        ("503 Service Unavailable", 5, 1, 5.0, "SIGNALLING_FAILED"),
    ] {
        let server = Server::start(move |request| match request.method.as_str() {
            "DELETE" => reply("200 OK", &[], ""),
            _ => reply(status, &[&format!("Retry-After: {retry_after}")], ""),
        })
        .await;
        let state = tempfile::tempdir().unwrap();
        left_behind(state.path(), server.port);
        let mut encoder = encoder_of(&format!("url = \"{}\"\n", server.url("/whip/live")), state.path());
        let (_, waits) = encoder.wait_for_message("reconnecting_broadcast");
        let retry_in = waits["data"]["retryIn"].as_f64().unwrap();
        assert!((at_least..=at_least * 1.1 + 0.001).contains(&retry_in), "{waits}");
        assert_eq!(waits["data"]["waitingFor"], "serverRetryAfter");
        let asked = (asked(&server, "DELETE /ghost"), asked(&server, "POST /whip/live"));
        assert_eq!((asked, codes(&encoder)), ((1, offers), vec![code]));
    }
}

/// It is refused, and a person asks for another try while the ghost is being ended: then the first one is over, and offers
/// nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_nobody_waits_for_offers_nothing_again() {
    let ended = Arc::new(Notify::new());
    let end = Arc::clone(&ended);
    let posts = AtomicUsize::new(0);
    let server = Server::start(move |request| match request.method.as_str() {
        "DELETE" => Canned::After(Arc::clone(&end), Box::new(reply("200 OK", &[], ""))),
        _ if posts.fetch_add(1, Ordering::SeqCst) == 0 => reply("409 Conflict", &[], ""),
        _ => reply("503 Service Unavailable", &[], ""),
    })
    .await;
    let state = tempfile::tempdir().unwrap();
    left_behind(state.path(), server.port);
    let mut encoder = encoder_of(&format!("url = \"{}\"\n", server.url("/whip/live")), state.path());
    let deadline = Instant::now() + PATIENCE;
    while (asked(&server, "DELETE /ghost"), asked(&server, "POST /whip/live")) != (1, 1) {
        assert!(Instant::now() < deadline, "{:?}", server.requests());
        tokio::task::yield_now().await; // Another process asks.
    }
    encoder.signal("USR1");
    let mut refused = || encoder.wait_for("a refusal", |event| event["data"]["code"] == "SIGNALLING_FAILED");
    refused();
    ended.notify_one();
    refused();
    refused();
    let posts = server.requests().into_iter().filter(|request| request.method == "POST");
    let offers: Vec<String> = posts.map(|request| request.body).collect();
    let different: std::collections::BTreeSet<&String> = offers.iter().collect();
    assert_eq!((offers.len() >= 4, offers.len()), (true, different.len()));
}

/// The first server hangs with a ghost of ours in it, and another one takes us: nobody waits for the burial.
#[tokio::test(flavor = "multi_thread")]
async fn a_ghost_at_a_server_that_hangs_does_not_keep_us_off_air() {
    let (_ingest, relay) = ingest().await;
    let hanging = Server::start(|_| Canned::Hang).await;
    let state = tempfile::tempdir().unwrap();
    left_behind(state.path(), hanging.port);
    let uplink = format!(
        "url = \"http://127.0.0.1:{}/whip/live\"\nfallbackUrls = [\"{}\"]\n",
        relay.port,
        hanging.url("/whip/live")
    );
    let mut encoder = encoder_of(&uplink, state.path());
    encoder.wait_for_message("broadcasting");
    // It is given up after 10 s, and that is told in the log at level debug.
    let everything = encoder.everything();
    assert!(!everything.contains("the session before is not ended yet"), "the burial was waited for: {everything}");
    assert_eq!((asked(&hanging, "DELETE /ghost"), codes(&encoder)), (1, Vec::new()));
}
