//! What the audience sees of a network that breaks: a real browser watches.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::browser::Browser;
use crate::netlab::Netlab;
use crate::roaming_rig::{Kind, Van, WIFI_FIRST, two_uplinks};

/// For each step of the browser; the machine may be busy.
const WITHIN: Duration = Duration::from_secs(40);
/// The longest time that a picture may stand still, in seconds.
const FREEZE_MAX: f64 = 0.2;
/// How long the picture is looked at after a fault, which is over much sooner.
const LOOK: Duration = Duration::from_secs(3);

/// What Chromium counts as a picture that stands still (W3C webrtc-stats).
const FREEZES: &str = "(async () => [...(await roamcast.pc.getStats()).values()]\
    .find((r) => r.type === 'inbound-rtp' && r.kind === 'video'))()";

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Freezes {
    freeze_count: u64,
    /// Seconds.
    total_freezes_duration: f64,
    frames_decoded: u64,
}

/// Chromium in the place of the embedded ingest.
struct Audience(Arc<Browser>);

impl Audience {
    /// It sees the picture. `None`, with the reason printed, where there is no Chromium.
    fn of(van: &Van) -> Option<Self> {
        let browser = Arc::new(van.beside(Browser::start_by(van.lab.server().command("chromedriver")))?);
        let (there, page) = (Arc::clone(&browser), van.page());
        van.beside(async move {
            there.open(&page).await;
            let plays = "roamcast.pc?.connectionState === 'connected' && roamcast.stats.frames > 90";
            there.wait_until(plays, WITHIN).await;
        });
        Some(Self(browser))
    }

    fn freezes(&self, van: &Van) -> Freezes {
        let browser = Arc::clone(&self.0);
        let report: Value = van.beside(async move { browser.eval(FREEZES).await });
        serde_json::from_value(report.clone()).unwrap_or_else(|error| panic!("{error}: {report}"))
    }
}

#[test]
fn a_browser_sees_no_freeze_when_the_wifi_of_a_redundant_pair_dies() {
    let network = format!("{WIFI_FIRST}redundancy = \"always\"\n");
    let Some(mut van) = Van::on_air(Kind::Ingest, two_uplinks(), &network) else { return };
    let Some(audience) = Audience::of(&van) else { return };
    let [down, up]: [fn(&Netlab, &str); 2] = [Netlab::link_down, Netlab::link_up];
    for (fault, mend, from, to, how) in [
        (down, up, "wlan0", "wwan0", "Wi-Fi down"),
        (Netlab::silent_drop, Netlab::heal, "wwan0", "wlan0", "modem silent"),
    ] {
        van.is_good(to);
        let (before, mark) = (audience.freezes(&van), van.mark());
        fault(&van.lab, from);
        van.moves_to(&mark, to);
        van.drives_on(LOOK);
        let after = audience.freezes(&van);
        van.seen(&format!("a_browser_sees_no_freeze ({how})"), &mark);
        let frozen = after.total_freezes_duration - before.total_freezes_duration;
        let (count, frames) = (after.freeze_count - before.freeze_count, after.frames_decoded - before.frames_decoded);
        println!(
            "FIGURE a_browser_sees_no_freeze ({how}) Chromium: {count} freezes, {frozen} s in all, {frames} frames"
        );
        assert!(frozen <= FREEZE_MAX, "{before:?}, {after:?}");
        assert!(frames > 45, "Chromium has decoded {frames} frames in {LOOK:?}");
        mend(&van.lab, from);
    }
    van.is_still_the_same_session();
}
