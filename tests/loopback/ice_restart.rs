//! The network path of the media dies and comes back while the server can still be asked: ICE is restarted in the same
//! session, or, where the server will not, another session takes its place.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cut::Cut;
use crate::janus_rig::{self, Rig};
use crate::program::{Program, free_port, is_message};
use crate::publisher::http_client;
use crate::stage::{QUICK, ingest};
use crate::viewer::{Door, Viewer};

/// Longer than `mediaPlane.disconnectedTimeout` and the 1 s until ICE says so, so that rungs are made; shorter than the 12 s
/// for which the ingest keeps a silent publisher.
const BLACK_HOLE_S: u64 = 8;

struct Air {
    port: u16,
    _ingest: Program,
    encoder: Program,
    viewer: Viewer,
}

impl Air {
    /// On air and watched.
    async fn of(protocol: &str) -> Self {
        let port = free_port();
        let ingest = ingest(port);
        let url = match protocol {
            "whip" => format!("http://127.0.0.1:{port}/whip/live"),
            _ => format!("ws://127.0.0.1:{port}/signal/live"),
        };
        let mut encoder = Program::encoder(&format!(
            "[video]\nwidth = 320\nheight = 180\nframerate = 15\nbitrate = \"300k\"\n\
             [uplink]\nprotocol = \"{protocol}\"\nurl = \"{url}\"\n{QUICK}"
        ));
        encoder.wait_for_message("broadcasting");
        let viewer = Viewer::of(port).await;
        viewer.sees(30).await;
        Self { port, _ingest: ingest, encoder, viewer }
    }

    async fn fault(&self, fault: Value) {
        let url = format!("http://127.0.0.1:{}/faults/live", self.port);
        let request = http_client().post(url).header("content-type", "application/json").body(fault.to_string());
        assert!(request.send().await.unwrap().status().is_success(), "{fault}");
    }

    /// Frames that the ingest has of the present peer connection: another one begins at 0.
    async fn frames(&self) -> u64 {
        let door = Door { address: (Ipv4Addr::LOCALHOST, self.port).into(), token: "" };
        let [frames, _] = door.received().await;
        frames
    }
}

/// The rungs that were told of, and the sessions that were on air.
fn rungs_and_sessions(encoder: &Program) -> (Vec<u64>, Vec<String>) {
    let rungs = encoder.events.iter().filter_map(|(_, event)| event["data"]["iceRestart"].as_u64()).collect();
    let on_air = encoder.events.iter().filter(|(_, event)| is_message(event, "broadcasting"));
    let mut sessions: Vec<String> =
        on_air.filter_map(|(_, event)| event["data"]["sessionId"].as_str().map(str::to_owned)).collect();
    sessions.dedup();
    (rungs, sessions)
}

fn errors(encoder: &Program) -> Vec<String> {
    let errors = encoder.events.iter().filter(|(_, event)| event["event"] == "BroadcastError");
    errors.map(|(_, event)| event["data"]["words"].to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn media_is_swallowed_for_8_s_and_an_ice_restart_heals_the_same_session() {
    for protocol in ["whip", "roamcast"] {
        let mut air = Air::of(protocol).await;
        let before = air.frames().await;
        let cut = Instant::now();
        air.fault(json!({ "blackHoleMedia": BLACK_HOLE_S })).await;
        air.encoder.wait_for_message("reconnecting_broadcast");
        let (back, _) = air.encoder.wait_for_message("broadcasting");
        air.viewer.sees(30).await;
        assert!(air.frames().await > before, "{protocol}: another peer connection");
        let (rungs, sessions) = rungs_and_sessions(&air.encoder);
        println!("{protocol}: rungs {rungs:?}, back {:.1?} after the cut of {BLACK_HOLE_S} s", back - cut);
        assert!(!rungs.is_empty(), "{protocol}: no ICE restart");
        assert_eq!((sessions.len(), errors(&air.encoder)), (1, vec![]), "{protocol}: {sessions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whip_server_that_refuses_the_patch_gets_a_new_session() {
    let mut air = Air::of("whip").await;
    air.fault(json!({ "refusePatch": 405, "blackHoleMedia": BLACK_HOLE_S })).await;
    air.encoder.wait_for_message("reconnecting_broadcast");
    air.encoder.wait_for_message("broadcasting");
    air.viewer.sees(1).await;
    let (rungs, sessions) = rungs_and_sessions(&air.encoder);
    println!("rungs {rungs:?}, {sessions:?}, {:?}", errors(&air.encoder));
    assert_eq!((rungs.iter().max(), sessions.len()), (Some(&1), 2), "{sessions:?}");
    assert!(errors(&air.encoder)[0].contains("405"), "{:?}", errors(&air.encoder));
}

#[tokio::test(flavor = "multi_thread")]
async fn media_to_a_real_janus_is_cut_for_8_s_and_an_ice_restart_heals_the_same_session() {
    if let Some(reason) = Cut::missing() {
        println!("skipped: media_to_a_real_janus_is_cut_for_8_s_and_an_ice_restart_heals_the_same_session: {reason}");
        return;
    }
    let Some(mut rig) = Rig::on_air("session_timeout = 60\nreclaim_session_timeout = 60", janus_rig::QUICK).await
    else {
        return;
    };
    let before = (janus_rig::session(&rig.encoder), rig.janus.sessions());
    let port = rig.janus.media_port();
    let (since, cut) = (Instant::now(), Cut::of(port));
    rig.encoder.wait_for_message("reconnecting_broadcast");
    std::thread::sleep(Duration::from_secs(BLACK_HOLE_S).saturating_sub(since.elapsed()));
    drop(cut);
    let healed = Instant::now();
    let (back, _) = rig.encoder.wait_for_message("broadcasting");
    rig.viewers.wait_for_frames(10, healed);
    let (rungs, sessions) = rungs_and_sessions(&rig.encoder);
    println!("Janus: rungs {rungs:?}, acknowledged {:.1?} after the heal", back.saturating_duration_since(healed));
    assert!(!rungs.is_empty(), "no ICE restart");
    assert_eq!((sessions.len(), errors(&rig.encoder)), (1, vec![]), "{sessions:?}");
    assert_eq!((janus_rig::session(&rig.encoder), rig.janus.sessions()), before);
    assert_eq!(rig.janus.media_port(), port, "another handle, so another DTLS");
}
