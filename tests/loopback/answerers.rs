//! The same encoder against pion and against Chromium that answers WHIP itself: codecs, ICE restarts, and far ends that
//! report seldom or never.

use std::time::{Duration, Instant};

use crate::answerer::{Answerer, Kind};
use crate::cut::Cut;
use crate::place::Place;
use crate::program::{Program, is_message};

/// Longer than any pause after which media was once taken for stalled (3 s) and the slowest of our sender reports (7 s).
const WATCHED: Duration = Duration::from_secs(16);

fn encoder(url: &str, video: &str, more: &str) -> Program {
    Program::encoder(&format!(
        "[video]\nwidth = 320\nheight = 180\nframerate = 15\nbitrate = \"300k\"\n{video}\n[uplink]\nurl = \"{url}\"\n\
         [reconnect]\nminDelay = \"200ms\"\nmaxDelay = \"500ms\"\n{more}"
    ))
}

/// In VP8, VP9 and H.264, picture and sound, with a goodbye each time.
fn takes_every_codec(kind: Kind) {
    let Some(mut answerer) = Answerer::start(kind, &Place::loopback()) else { return };
    for codec in ["vp8", "vp9", "h264"] {
        let mut encoder = encoder(&answerer.url(), &format!("codec = \"{codec}\""), "");
        let (_, status) = encoder.wait_for_message("broadcasting");
        assert!(status["data"].get("unproven").is_none(), "{kind:?} reports: {status}");
        let came = answerer.figures_that(codec, |figures| {
            figures.codec.eq_ignore_ascii_case(&format!("video/{codec}")) && figures.frames >= 30 && figures.audio >= 50
        });
        println!("{kind:?}: {came:?}");
        encoder.signal("TERM");
        assert_eq!(encoder.wait_for_exit(), 0);
    }
}

/// UDP is blocked until ICE is being restarted; the same session goes on.
fn an_ice_restart_heals_the_same_session(kind: Kind) {
    if let Some(reason) = Cut::missing() {
        println!("skipped: an_ice_restart_heals_the_same_session ({kind:?}): {reason}");
        return;
    }
    let Some(mut answerer) = Answerer::start(kind, &Place::loopback()) else { return };
    let mut encoder = encoder(&answerer.url(), "", "[mediaPlane]\ndisconnectedTimeout = \"500ms\"\n");
    encoder.wait_for_message("broadcasting");
    let before = answerer.figures_that("picture", |figures| figures.frames >= 15);
    let cut = Cut::of_all(&answerer.media_ports());
    encoder.wait_for("an ICE restart", |event| event["data"]["iceRestart"].as_u64().is_some());
    drop(cut);
    let healed = Instant::now();
    encoder.wait_for_message("broadcasting");
    let after = answerer.figures_that("an ICE restart and more of the picture", |figures| {
        figures.restarts >= 1 && figures.frames >= before.frames + 30
    });
    println!("{kind:?}: {after:?} {:.1?} after the heal", healed.elapsed());
    assert_eq!(after.session, before.session, "another session");
    let errors = encoder.events.iter().filter(|(_, event)| event["event"] == "BroadcastError");
    assert_eq!(errors.count(), 0, "{}", encoder.log());
}

mod pion {
    use super::*;

    #[test]
    fn takes_every_codec() {
        super::takes_every_codec(Kind::Pion);
    }

    #[test]
    fn an_ice_restart_heals_the_same_session() {
        super::an_ice_restart_heals_the_same_session(Kind::Pion);
    }

    #[test]
    fn that_reports_only_when_we_do_or_never_is_not_taken_for_stalled() {
        let both = ["on-sr", "none"].map(|reports| {
            let answerer = Answerer::pion(&Place::loopback(), reports)?;
            let encoder = encoder(&answerer.url(), "", "");
            Some((reports, answerer, encoder))
        });
        for (reports, mut answerer, mut encoder) in both.into_iter().flatten() {
            let (since, status) = encoder.wait_for_message("broadcasting");
            assert_eq!(status["data"]["unproven"].as_bool(), (reports == "none").then_some(true), "{status}");
            encoder.wait_for_stats_after(since + WATCHED);
            assert_eq!(encoder.messages().last().unwrap(), "broadcasting", "{reports}: {:?}", encoder.messages());
            let told = |(_, event): &&(Instant, serde_json::Value)| {
                is_message(event, "reconnecting_broadcast")
                    || event["event"] == "Gap"
                    || event["event"] == "BroadcastError"
            };
            assert_eq!(encoder.events.iter().find(told), None, "{reports}");
            let came = answerer.figures();
            assert_eq!((came.session, came.restarts), (1, 0), "{reports}");
            assert!(came.frames >= 15 * WATCHED.as_secs() - 30, "{reports}: {came:?}");
        }
    }
}

mod chromium {
    use super::*;

    #[test]
    fn takes_every_codec() {
        super::takes_every_codec(Kind::Chromium);
    }

    #[test]
    fn an_ice_restart_heals_the_same_session() {
        super::an_ice_restart_heals_the_same_session(Kind::Chromium);
    }
}
