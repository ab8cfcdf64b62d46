//! The real encoder in its van, the real server far away: on air across a NAT and 50 ms.

use std::time::Duration;

use crate::ingest::RemoteIngest;
use crate::janus::{Janus, ROOM};
use crate::netlab::{Link, Netlab};
use crate::place::Place;
use crate::program::Program;

fn lab() -> Option<Netlab> {
    let wifi = Link::with_rtt(Duration::from_millis(50));
    Netlab::builder().uplink("wlan0", wifi.clone()).uplink("wwan0", wifi).build()
}

/// An encoder at this place with a small test picture.
fn encoder(place: &Place, uplink: &str) -> Program {
    let config = format!("[video]\nwidth = 320\nheight = 180\nbitrate = \"400k\"\n[uplink]\n{uplink}");
    Program::encoder_with(&config, |command| *command = place.wrap(command))
}

#[test]
fn the_program_broadcasts_across_the_lab_to_the_embedded_ingest() {
    let Some(lab) = lab() else { return };
    let mut ingest = RemoteIngest::start(lab.server());
    let mut encoder = encoder(lab.encoder(), &ingest.uplink());
    encoder.wait_for_message("broadcasting");
    // libnice takes either uplink.
    let carried = || ["wlan0", "wwan0"].map(|uplink| lab.stats(uplink).up.delivered).iter().sum::<u64>();
    encoder.wait_for("Stats with media on its way", |event| event["event"] == "Stats" && carried() > 200);
    encoder.signal("TERM");
    assert_eq!(encoder.wait_for_exit(), 0);
    ingest.program.catch_up();
    assert!(ingest.program.log().contains("goodbye"), "{}", ingest.program.log());
}

#[test]
fn the_program_broadcasts_across_the_lab_to_a_real_janus() {
    let Some(lab) = lab() else { return };
    let Some(janus) = Janus::start_at(lab.server(), "session_timeout = 60") else { return };
    let uplink = format!("protocol = \"janus\"\nurl = \"{}\"\nroom = {ROOM}\n", janus.url());
    let mut encoder = encoder(lab.encoder(), &uplink);
    encoder.wait_for_message("broadcasting");
    let handles = janus.handles();
    let pair = handles[0]["webrtc"]["ice"]["selected-pair"].to_string();
    let ways = ["wlan0", "wwan0"].map(|uplink| lab.public_address(uplink).to_string());
    let v6 = ["wlan0", "wwan0"].map(|uplink| lab.address_6(uplink).to_string());
    assert!(ways.iter().chain(&v6).any(|way| pair.contains(way.as_str())), "{pair} is none of {ways:?}, {v6:?}");
    assert!(!pair.contains(&lab.address("wlan0").to_string()), "behind the NAT: {pair}");
    encoder.signal("TERM");
    assert_eq!(encoder.wait_for_exit(), 0);
    assert_eq!(janus.sessions(), [0_u64; 0]);
}
