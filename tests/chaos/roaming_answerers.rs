//! Paths die while pion, or Chromium that answers WHIP itself, receives: neither has ever heard of roaming.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::answerer::{Answerer, Figures, Kind};
use crate::netlab::Netlab;
use crate::program::Program;
use crate::roaming_rig::{WIFI_FIRST, two_uplinks};

/// Frames of two seconds.
const MORE: u64 = 60;

/// The encoder behind two uplinks, on air at a far end.
struct Air {
    encoder: Program,
    answerer: Answerer,
    kind: Kind,
    lab: Netlab,
}

impl Air {
    /// `None`, with the reason printed, where the lab or the far end is not to be had.
    fn of(kind: Kind, redundancy: &str) -> Option<Self> {
        let lab = two_uplinks().build()?;
        let mut answerer = Answerer::start(kind, lab.server())?;
        let config = format!(
            "[video]\nwidth = 320\nheight = 180\nframerate = 30\nbitrate = \"400k\"\nkeyframeInterval = \"1m\"\n\
             [network]\n{WIFI_FIRST}redundancy = \"{redundancy}\"\n[uplink]\nurl = \"{}\"\n",
            answerer.url()
        );
        let mut encoder = Program::encoder_with(&config, |command| *command = lab.encoder().wrap(command));
        encoder.wait_for_message("broadcasting");
        answerer.figures_that("picture", |figures| figures.frames >= MORE);
        Some(Self { encoder, answerer, kind, lab })
    }

    /// Waits until media leaves by this interface, and all of these are good.
    fn leaves_by(&mut self, interface: &str, good: &[&str]) {
        let is = |path: &Value, key: &str, value: Value, interface: &str| {
            path["interface"] == interface && path[key] == value
        };
        self.encoder.wait_for("good paths", |event| {
            let paths = event["data"]["paths"].as_array().cloned().unwrap_or_default();
            let any = |key: &str, value: Value, interface: &str| {
                paths.iter().any(|path| is(path, key, value.clone(), interface))
            };
            any("selected", true.into(), interface) && good.iter().all(|name| any("state", "good".into(), name))
        });
    }

    /// The Wi-Fi breaks in this way; what came since the picture before goes on by the modem, in the same session.
    fn breaks(&mut self, what: &str, fault: fn(&Netlab, &str), why: &str) -> Figures {
        self.leaves_by("wlan0", &["wlan0", "wwan0"]);
        let (before, began) = (self.answerer.figures(), Instant::now());
        fault(&self.lab, "wlan0");
        let moved = self.encoder.wait_for("move", |event| event["event"] == "PathChanged");
        assert_eq!((&moved.1["data"]["to"], &moved.1["data"]["why"]), (&"wwan0".into(), &why.into()));
        let after = self.answerer.figures_that("more", |figures| figures.frames >= before.frames + MORE);
        let lost = after.lost - before.lost;
        println!(
            "FIGURE {what} {:?}: {lost} packets lost, moved {} ms after the fault",
            self.kind,
            (moved.0 - began).as_millis()
        );
        assert_eq!((after.session, after.restarts), (before.session, before.restarts), "the same session");
        Figures { lost, ..after }
    }

    /// RTCP comes by the path in use: a wish for a keyframe is heard.
    fn hears_wishes(&mut self) {
        if self.kind != Kind::Pion {
            return; // Chromium asks when it likes.
        }
        let requests = |event: &Value| event["data"]["keyframeRequests"].as_u64();
        let (_, stats) = self.encoder.wait_for("Stats", |event| event["event"] == "Stats");
        let before = requests(&stats);
        self.answerer.ask_for_keyframe();
        self.encoder.wait_for("wish", |event| event["event"] == "Stats" && requests(event) > before);
    }

    fn was_on_air_all_the_time(&mut self) {
        self.encoder.catch_up();
        let messages = self.encoder.messages();
        let on_air = messages.iter().position(|message| message == "broadcasting").unwrap();
        assert_eq!(messages[on_air..], ["broadcasting"], "{}", self.encoder.log());
    }
}

/// Link down, and silent while the link stays up. What left in the silence has left once more.
fn the_wifi_dies(kind: Kind) {
    let Some(mut air) = Air::of(kind, "handover") else { return };
    let seen = air.breaks("the_wifi_dies (link down)", Netlab::link_down, "addressLost");
    assert_eq!(seen.lost, 0, "{seen:?}");
    air.hears_wishes();
    air.lab.link_up("wlan0");
    let seen = air.breaks("the_wifi_dies (silent)", Netlab::silent_drop, "silent");
    assert_eq!(seen.lost, 0, "{seen:?}");
    air.hears_wishes();
    air.was_on_air_all_the_time();
}

/// With copies nothing is missed at all, and the session does not notice.
fn one_of_a_redundant_pair_dies(kind: Kind) {
    let Some(mut air) = Air::of(kind, "always") else { return };
    let seen = air.breaks("one_of_a_redundant_pair_dies (link down)", Netlab::link_down, "addressLost");
    assert_eq!(seen.lost, 0, "{seen:?}");
    air.lab.link_up("wlan0");
    let seen = air.breaks("one_of_a_redundant_pair_dies (silent)", Netlab::silent_drop, "silent");
    assert_eq!(seen.lost, 0, "{seen:?}");
    // Longer than the pauses between reports that would be taken for a stall, had RTCP stayed behind.
    let until = Instant::now() + Duration::from_secs(12);
    air.encoder.wait_for_stats_after(until);
    air.was_on_air_all_the_time();
}

mod pion {
    use super::*;

    #[test]
    fn the_wifi_dies() {
        super::the_wifi_dies(Kind::Pion);
    }

    #[test]
    fn one_of_a_redundant_pair_dies() {
        super::one_of_a_redundant_pair_dies(Kind::Pion);
    }
}

mod chromium {
    use super::*;

    #[test]
    fn the_wifi_dies() {
        super::the_wifi_dies(Kind::Chromium);
    }

    #[test]
    fn one_of_a_redundant_pair_dies() {
        super::one_of_a_redundant_pair_dies(Kind::Chromium);
    }
}
