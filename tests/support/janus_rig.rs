//! The real encoder on air at a real Janus, over a relay that can be cut, with viewers.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::forward::Forward;
use crate::janus::{Janus, ROOM};
use crate::program::{Program, is_message};
use crate::relay::Relay;

/// Quick retries, so that a test need not wait for them.
pub(crate) const QUICK: &str = "[reconnect]\nminDelay = \"100ms\"\nmaxDelay = \"500ms\"\nmaxRetries = \"unlimited\"\n\
     [signalling]\nminDelay = \"100ms\"\nmaxDelay = \"1s\"\n";

/// Config of an encoder that does not cost much.
pub(crate) fn config(url: &str, room: u64, more: &str) -> String {
    format!(
        "[video]\nwidth = 320\nheight = 180\nframerate = 15\nbitrate = \"400k\"\n\
         [uplink]\nprotocol = \"janus\"\nurl = \"{url}\"\nroom = {room}\n{more}"
    )
}

pub(crate) struct Rig {
    pub(crate) encoder: Program,
    pub(crate) viewers: Forward,
    pub(crate) relay: Relay,
    pub(crate) janus: Janus,
}

impl Rig {
    /// On air in [`ROOM`], with these lines in the section `general` of `janus.jcfg`, and these in the encoder's config.
    /// `None`, with the reason printed, where there is no Janus.
    pub(crate) async fn on_air(general: &str, more: &str) -> Option<Self> {
        let janus = Janus::start_with(general)?;
        let relay = Relay::to_address(janus.address).await;
        let viewers = Forward::of(janus.overseer.clone(), ROOM);
        let url = format!("ws://{}:{}/", janus.address.ip(), relay.port);
        let mut encoder = Program::encoder(&config(&url, ROOM, more));
        encoder.wait_for_message("broadcasting");
        viewers.wait_for_frames(10, Instant::now());
        Some(Self { encoder, viewers, relay, janus })
    }

    /// Breaks every connection of the signalling for so long, and waits until it is back.
    pub(crate) fn cut_for(&mut self, length: Duration) {
        self.relay.cut();
        self.signalling("disconnected");
        std::thread::sleep(length);
        self.relay.heal();
        self.signalling("connected");
    }

    /// Waits for a ConnectionState of the signalling plane.
    pub(crate) fn signalling(&mut self, state: &str) {
        signalling(&mut self.encoder, state);
    }

    /// The session that is on air, as the encoder names it, must be the one publisher of the room.
    pub(crate) fn assert_one_publisher(&self) {
        let live: Vec<String> = self.janus.publishers(ROOM).iter().map(|id| format!("{ROOM}/{id}")).collect();
        assert_eq!(live, [session(&self.encoder)]);
        let (most, looks) = self.viewers.most_publishers();
        assert!(most == 1 && looks > 10, "{most} publishers at once, in {looks} looks");
    }
}

/// Waits for a ConnectionState of the signalling plane.
pub(crate) fn signalling(encoder: &mut Program, state: &str) {
    encoder.wait_for(&format!("signalling {state}"), |event| {
        event["event"] == "ConnectionState" && event["data"]["plane"] == "signalling" && event["data"]["state"] == state
    });
}

/// Room and publisher that were on air last.
pub(crate) fn session(encoder: &Program) -> String {
    let mut on_air = encoder.events.iter().rev().filter(|(_, event)| is_message(event, "broadcasting"));
    on_air.find_map(|(_, event)| event["data"]["sessionId"].as_str()).unwrap_or_default().to_owned()
}

/// Waits until another session than `before` is on air.
pub(crate) fn wait_for_another(encoder: &mut Program, before: &str) -> Instant {
    let is_another = |event: &Value| is_message(event, "broadcasting") && event["data"]["sessionId"] != before;
    encoder.wait_for("another session on air", is_another).0
}

/// Codes of all BroadcastErrors so far.
pub(crate) fn codes(encoder: &Program) -> Vec<&str> {
    let errors = encoder.events.iter().filter(|(_, event)| event["event"] == "BroadcastError");
    errors.filter_map(|(_, event)| event["data"]["code"].as_str()).collect()
}
