//! The classic reconnect tests: the real encoder, roamcast signalling, and an ingest that is told which fault to make. The
//! two that take a minute (long drop, suspend and resume) are in long_minute.rs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::program::{Program, free_port, is_message};
use crate::stage::ingest;

struct Rig {
    port: u16,
    ingest: Program,
    encoder: Program,
}

/// Tells the ingest at this port to make this fault for `live`.
pub(crate) async fn fault(port: u16, token: &str, fault: Value) {
    let client = crate::publisher::http_client();
    let request = client.post(format!("http://127.0.0.1:{port}/faults/live")).body(fault.to_string());
    let response = request
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .send()
        .await
        .unwrap();
    assert!(response.status().is_success(), "{fault}: {}", response.text().await.unwrap());
}

impl Rig {
    /// On air, with quick retries.
    fn on_air(more: &str) -> Self {
        let port = free_port();
        let ingest = ingest(port);
        let mut encoder = Program::encoder(&format!(
            "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n\
             [uplink]\nprotocol = \"roamcast\"\nurl = \"ws://127.0.0.1:{port}/signal/live\"\n{more}"
        ));
        encoder.wait_for_message("broadcasting");
        Self { port, ingest, encoder }
    }

    /// Tells the ingest to make this fault.
    async fn fault(&self, fault: Value) {
        self::fault(self.port, "old-token", fault).await;
    }

    /// What viewers are told, from now on until it is dropped.
    async fn viewer(&self) -> Arc<Mutex<String>> {
        let url = format!("http://127.0.0.1:{}/api/live/events", self.port);
        let mut stream = crate::publisher::http_client().get(url).send().await.unwrap();
        let heard = Arc::new(Mutex::new(String::new()));
        let teller = Arc::downgrade(&heard);
        tokio::spawn(async move {
            while let (Ok(Some(chunk)), Some(heard)) = (stream.chunk().await, teller.upgrade()) {
                heard.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk));
            }
        });
        heard
    }

    /// Waits for a ConnectionState of the signalling plane.
    fn signalling(&mut self, state: &str) {
        self.encoder.wait_for(&format!("signalling {state}"), |event| {
            event["event"] == "ConnectionState"
                && event["data"]["plane"] == "signalling"
                && event["data"]["state"] == state
        });
    }

    fn session(&self) -> String {
        let mut statuses = self.encoder.events.iter().rev().filter(|(_, event)| event["event"] == "BroadcastStatus");
        let newest = statuses.find_map(|(_, event)| event["data"]["sessionId"].as_str());
        newest.unwrap_or_default().to_owned()
    }
}

const QUICK: &str = "[reconnect]\nminDelay = \"300ms\"\nmaxDelay = \"1s\"\nmaxRetries = \"unlimited\"\n";

/// Brief drop: only the WebSocket breaks; media and session go on and nothing else is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_brief_drop_of_the_signalling_is_no_outage() {
    let mut rig = Rig::on_air(QUICK);
    let before = rig.session();
    for _drop in 0..3 {
        rig.fault(serde_json::json!({ "dropWebSocket": true })).await;
        rig.signalling("disconnected");
        rig.signalling("connected");
    }
    assert_eq!(rig.encoder.messages(), ["signalling", "connected", "broadcasting"], "the status flickered");
    assert_eq!(rig.session(), before);
    assert_eq!(rig.ingest.log().matches("joined").count(), 1, "{}", rig.ingest.log());
}

/// Server-initiated close 4020 and token revocation 4001: final, no retry.
#[tokio::test(flavor = "multi_thread")]
async fn final_closes_end_the_broadcast() {
    for (close, code) in [(4020, "ADMIN_DISCONNECT"), (4001, "INVALID_TOKEN"), (4012, "ACCOUNT_SUSPENDED")] {
        let mut rig = Rig::on_air(QUICK);
        rig.fault(serde_json::json!({ "close": close })).await;
        assert_eq!(rig.encoder.wait_for_exit(), 77, "{close}");
        let codes: Vec<_> = rig.encoder.events.iter().filter_map(|(_, event)| event["data"]["code"].as_str()).collect();
        assert!(codes.contains(&code), "{close}: {codes:?}");
        assert_eq!(rig.encoder.messages(), ["signalling", "connected", "broadcasting"], "{close}: it was tried again");
    }
}

/// The token expires while on air: 4002, a fresh token from the provider, the same session, no outage.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_replaced_by_a_fresh_one() {
    let files = tempfile::tempdir().unwrap();
    let (servers, ours) = (files.path().join("servers"), files.path().join("ours"));
    std::fs::write(&servers, "old-token").unwrap();
    std::fs::write(&ours, "old-token").unwrap();
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let mut ingest =
        Program::with(&["ingest", "--faults", "--listen", &listen, "--token-file", servers.to_str().unwrap()]);
    ingest.wait_for_line("watch at");
    let mut encoder = Program::encoder(&format!(
        "[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n[uplink]\nprotocol = \"roamcast\"\n\
         url = \"ws://{listen}/signal/live\"\ntokenFile = '{}'\n{QUICK}",
        ours.display()
    ));
    encoder.wait_for_message("broadcasting");
    let mut rig = Rig { port, ingest, encoder };
    rig.fault(serde_json::json!({ "addToken": "new-token" })).await;
    std::fs::write(&ours, "new-token").unwrap();
    rig.fault(serde_json::json!({ "expireToken": 3 })).await;
    rig.encoder.wait_for("TOKEN_EXPIRED", |event| event["data"]["code"] == "TOKEN_EXPIRED");
    rig.signalling("connected");
    assert_eq!(rig.encoder.messages(), ["signalling", "connected", "broadcasting"], "the status flickered");
    for text in [rig.encoder.log(), format!("{:?}", rig.encoder.events)] {
        assert!(!text.contains("-token"), "a token is shown: {text}");
    }
}

/// Server deploy: the hint is kept, then it comes back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_deploy_is_waited_for_as_long_as_the_server_says() {
    let mut rig = Rig::on_air(QUICK);
    rig.fault(serde_json::json!({ "goingAway": 3000 })).await;
    let (told, going) = rig.encoder.wait_for("GoingAway", |event| event["event"] == "GoingAway");
    assert_eq!(going["data"]["retryAfterMs"], 3000);
    rig.ingest.kill();
    rig.ingest = ingest(rig.port);
    let again = |event: &Value| {
        (is_message(event, "signalling") && event["data"]["attempt"] == 1)
            || (event["event"] == "ConnectionState" && event["data"]["state"] == "connected")
    };
    let (tried, _) = rig.encoder.wait_for("the next try", again);
    assert!(tried - told >= Duration::from_millis(2_950), "tried again after {:?}", tried - told);
    rig.encoder.wait_for_message("broadcasting");
}

/// The server evicts us: a new session, without a person.
#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_encoder_joins_again() {
    let mut rig = Rig::on_air(QUICK);
    rig.fault(serde_json::json!({ "evict": true })).await;
    rig.encoder.wait_for("NETWORK_DISCONNECT", |event| event["data"]["code"] == "NETWORK_DISCONNECT");
    rig.encoder.wait_for_message("broadcasting");
}

/// The server's own onward leg.
#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_output_is_told() {
    let mut rig = Rig::on_air(QUICK);
    rig.fault(serde_json::json!({ "output": "reconnecting" })).await;
    rig.encoder.wait_for_message("reconnecting");
    rig.fault(serde_json::json!({ "output": "ok" })).await;
    rig.encoder.wait_for_message("broadcasting");
}

/// The server refuses every resume, also the one of the session that is to come: a new one takes over while the old one
/// feeds. Viewers see nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_server_forgot_feeds_until_the_new_one_is_proven() {
    let mut rig = Rig::on_air(QUICK);
    let viewer = rig.viewer().await;
    let before = rig.session();
    rig.fault(serde_json::json!({ "refuseResume": true })).await;
    for round in 1..=3 {
        let before = rig.session();
        rig.fault(serde_json::json!({ "dropWebSocket": true })).await;
        rig.encoder.wait_for("another session", |event| {
            is_message(event, "broadcasting") && event["data"]["sessionId"].as_str().is_some_and(|id| id != before)
        });
        // The new one is the only one by the time the next round begins.
        let left = |log: &str| log.matches("left").count();
        let deadline = std::time::Instant::now() + crate::program::PATIENCE;
        while left(&rig.ingest.log()) < round {
            assert!(std::time::Instant::now() < deadline, "the old one stays: {}", rig.ingest.log());
            tokio::task::yield_now().await;
        }
    }
    assert_ne!(rig.session(), before);
    let mut messages = rig.encoder.messages();
    messages.dedup();
    assert_eq!(messages, ["signalling", "connected", "broadcasting"], "the status flickered");
    let codes: Vec<_> = rig.encoder.events.iter().filter_map(|(_, event)| event["data"]["code"].as_str()).collect();
    assert!(!codes.contains(&"CONCURRENT_LIMIT"), "{codes:?}");
    assert_eq!(rig.ingest.log().matches("joined").count(), 4, "{}", rig.ingest.log());
    let heard = viewer.lock().unwrap().clone();
    let states: Vec<_> = heard.lines().filter(|line| line.contains("BroadcastState\"")).collect();
    assert_eq!(states.len(), 1, "viewers noticed: {states:#?}");
    assert!(states[0].contains("\"live\""), "{states:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ingest_shows_what_the_encoder_tells_of_itself() {
    let rig = Rig::on_air(QUICK);
    let viewer = rig.viewer().await;
    let deadline = std::time::Instant::now() + crate::program::PATIENCE;
    loop {
        let heard = viewer.lock().unwrap().clone();
        let events = heard.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        let told: Vec<_> = events.filter(|event| event["event"] == "PublisherStats").collect();
        let sends = |event: &Value| {
            event["data"]["bitrate"].as_u64().is_some_and(|rate| rate > 100_000)
                && event["data"]["fps"].as_f64().is_some_and(|fps| fps > 5.0)
        };
        if told.len() >= 3 && told.iter().any(sends) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{heard}\n{}", rig.encoder.log());
        tokio::task::yield_now().await;
    }
}
