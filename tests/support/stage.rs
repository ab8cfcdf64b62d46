//! A broadcast on air over roamcast signalling: the real ingest, a relay before its WebSocket, the real encoder, and a
//! viewer that counts. Each plane can be broken by itself.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::program::{Program, free_port};
use crate::publisher::http_client;
use crate::relay::Relay;
use crate::viewer::{Door, Viewer};

/// Retries that do not take longer than the faults of the tests.
pub(crate) const QUICK: &str = "[reconnect]\nminDelay = \"300ms\"\nmaxDelay = \"1s\"\nmaxRetries = \"unlimited\"\n\
    [signalling]\nmaxDelay = \"2s\"\n";

/// `roamcast ingest --faults` on this port of 127.0.0.1.
pub(crate) fn ingest(port: u16) -> Program {
    let mut ingest = Program::with(&["ingest", "--faults", "--listen", &format!("127.0.0.1:{port}")]);
    ingest.wait_for_line("watch at");
    ingest
}

/// All of it.
pub(crate) struct Stage {
    pub(crate) port: u16,
    pub(crate) ingest: Program,
    pub(crate) relay: Relay,
    pub(crate) encoder: Program,
    pub(crate) viewer: Viewer,
}

impl Stage {
    /// On air and watched; `more`: of the encoder's config.
    pub(crate) async fn on_air(more: &str) -> Self {
        let port = free_port();
        let ingest = block_in_place(|| ingest(port));
        let relay = Relay::to(port).await;
        let mut encoder = Program::encoder(&format!(
            "[video]\nwidth = 320\nheight = 180\nframerate = 15\nbitrate = \"300k\"\n\
             [uplink]\nprotocol = \"roamcast\"\nurl = \"ws://127.0.0.1:{}/signal/live\"\n{more}",
            relay.port
        ));
        block_in_place(|| encoder.wait_for_message("broadcasting"));
        let viewer = Viewer::of(port).await;
        viewer.hears("live").await;
        // From here on nothing may be missing: the first pictures are past.
        viewer.sees(15).await;
        viewer.count_anew();
        viewer.sees(1).await;
        Self { port, ingest, relay, encoder, viewer }
    }

    /// Tells the ingest to make this fault, past the relay.
    pub(crate) async fn fault(&mut self, fault: Value) {
        let url = format!("http://127.0.0.1:{}/faults/live", self.port);
        let request = http_client().post(url).header("content-type", "application/json").body(fault.to_string());
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{fault}: {}", response.text().await.unwrap());
    }

    /// No datagram of the publisher gets through for this long.
    pub(crate) async fn black_hole(&mut self, seconds: u64) {
        self.fault(json!({ "blackHoleMedia": seconds })).await;
    }

    /// What the ingest has counted of the present publisher: `[frames, lost packets]` of the picture.
    pub(crate) async fn received(&mut self) -> [u64; 2] {
        Door { address: (Ipv4Addr::LOCALHOST, self.port).into(), token: "" }.received().await
    }

    /// Waits for a ConnectionState of the signalling plane.
    pub(crate) fn signalling(&mut self, state: &str) -> Instant {
        let fits = |event: &Value| {
            let data = &event["data"];
            event["event"] == "ConnectionState" && data["plane"] == "signalling" && data["state"] == state
        };
        block_in_place(|| self.encoder.wait_for(&format!("signalling {state}"), fits)).0
    }

    /// Waits for a BroadcastStatus with this message.
    pub(crate) fn message(&mut self, message: &str) -> Instant {
        block_in_place(|| self.encoder.wait_for_message(message)).0
    }

    /// Waits for the next Gap and gives its seconds.
    pub(crate) fn gap(&mut self) -> f64 {
        let (_, gap) = block_in_place(|| self.encoder.wait_for("Gap", |event| event["event"] == "Gap"));
        let time = |key: &str| humantime::parse_rfc3339(gap["data"][key].as_str().unwrap()).unwrap();
        let seconds = gap["data"]["seconds"].as_f64().unwrap();
        let dated = time("to").duration_since(time("from")).unwrap();
        assert!(dated.abs_diff(Duration::from_secs_f64(seconds)) < Duration::from_millis(5), "{gap}");
        seconds
    }

    /// How often an event of this name was told so far.
    pub(crate) fn told(&self, name: &str) -> usize {
        self.encoder.events.iter().filter(|(_, event)| event["event"] == name).count()
    }

    /// The session that the encoder last named.
    pub(crate) fn session(&self) -> String {
        let mut statuses = self.encoder.events.iter().rev().filter(|(_, event)| event["event"] == "BroadcastStatus");
        let newest = statuses.find_map(|(_, event)| event["data"]["sessionId"].as_str());
        newest.expect("a session").to_owned()
    }
}
