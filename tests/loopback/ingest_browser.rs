//! The embedded ingest as browsers see it: a bare webrtcbin publishes, a headless Chromium watches.

use std::path::PathBuf;
use std::time::Duration;

use roamcast::ingest::{Ingest, Options};

use crate::browser::Browser;
use crate::publisher::Publisher;

/// For each step; the machine may be busy.
pub(super) const WITHIN: Duration = Duration::from_secs(40);

/// The latest inbound-rtp reports, by kind.
const INBOUND: &str = "Object.fromEntries([...(await roamcast.pc.getStats()).values()]\
    .filter((r) => r.type === 'inbound-rtp').map((r) => [r.kind, r]))";

/// How many more frames the viewer must decode before it counts as playing.
const SECOND_OF_FRAMES: u32 = 30;

async fn start() -> Ingest {
    let listen = "127.0.0.1:0".parse().unwrap();
    Ingest::start(Options::new(listen)).await.unwrap()
}

/// Pictures kept for people to look at.
pub(super) fn picture(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    folder.join(format!("{name}.png"))
}

/// Waits until the page in front has decoded some more frames.
pub(super) async fn plays(browser: &Browser) {
    let decoded = "roamcast.stats.frames ?? 0";
    let before = browser.eval(decoded).await.as_f64().unwrap_or(0.0);
    let moving = format!("roamcast.pc?.connectionState === 'connected' && ({decoded}) > {before} + {SECOND_OF_FRAMES}");
    browser.wait_until(&moving, WITHIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_plays_what_is_published() {
    let Some(browser) = Browser::start().await else { return };
    let ingest = start().await;
    let url = format!("http://{}/live", ingest.address());

    // The viewer is there first.
    browser.open(&url).await;
    browser.wait_until("roamcast.pc?.connectionState === 'connected'", WITHIN).await;
    assert_eq!(browser.eval("roamcast.state").await, "waiting");
    browser.screenshot(&picture("viewer-waiting")).await;
    let publisher = Publisher::start(&format!("http://{}/whip/live", ingest.address())).await;
    plays(&browser).await;
    browser.wait_until("roamcast.state === 'live' && roamcast.status.message === 'broadcasting'", WITHIN).await;

    pictures_move(&browser).await;
    frames_come_at_full_rate(&browser).await;
    sound_is_heard(&browser).await;
    picture_and_sound_are_together(&browser).await;
    browser.screenshot(&picture("viewer-live")).await;

    browser
        .in_another_window(async |browser| {
            browser.open(&url).await;
            browser.wait_until("video.videoWidth > 0 && roamcast.stats.frames > 0", WITHIN).await;
        })
        .await;

    publisher.stop().await;
    browser.wait_until("roamcast.state === 'offline'", WITHIN).await;
    ingest.stop().await;
    browser.close().await;
}

pub(super) async fn pictures_move(browser: &Browser) {
    let first = browser.screenshot_of("video").await;
    plays(browser).await;
    let second = browser.screenshot_of("video").await;
    assert!(first != second, "two pictures of the playing video are the same");
}

/// 30 frames a second are sent; at least 25 are decoded, by Chromium's own clock, once the machine has a quiet moment.
pub(super) async fn frames_come_at_full_rate(browser: &Browser) {
    let fast = format!(
        "(async () => {{ const {{ video: a }} = {INBOUND}; await sleep(4000); const {{ video: b }} = {INBOUND}; \
         const rate = 1000 * (b.framesDecoded - a.framesDecoded) / (b.timestamp - a.timestamp); return rate >= 25 && rate }})()"
    );
    let rate = browser.wait_until(&fast, WITHIN).await;
    println!("frames decoded per second: {rate}");
}

pub(super) async fn sound_is_heard(browser: &Browser) {
    // What is muted is not decoded.
    browser.wait_until("!$('sound').hidden && ($('sound').click(), !video.muted)", WITHIN).await;
    let heard =
        format!("(async () => {{ const level = ({INBOUND}).audio?.audioLevel; return level > 0.01 && level }})()");
    let level = browser.wait_until(&heard, WITHIN).await;
    println!("audio level: {level}");
}

/// Lips of the clock: the sender's time that is being played is the same for picture and sound. Chromium brings them together
/// in steps after each hiccup of the machine, so the median of some seconds counts, once it has settled.
pub(super) async fn picture_and_sound_are_together(browser: &Browser) {
    let settled = format!(
        "(async () => {{ const offsets = []; for (let i = 0; i < 15; i++) {{ await sleep(200); const r = {INBOUND}; \
         offsets.push(r.video.estimatedPlayoutTimestamp - r.audio.estimatedPlayoutTimestamp); }} \
         const median = offsets.sort((a, b) => a - b)[7]; return Math.abs(median) < 40 && {{ median }} }})()"
    );
    let found = browser.wait_until(&settled, 3 * WITHIN).await;
    println!("picture minus sound: {} ms", found["median"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_stay_connected_when_another_publisher_takes_the_place() {
    let Some(browser) = Browser::start().await else { return };
    let ingest = start().await;
    let endpoint = format!("http://{}/whip/live", ingest.address());
    let publisher = Publisher::start(&endpoint).await;
    browser.open(&format!("http://{}/live", ingest.address())).await;
    plays(&browser).await;
    browser.eval("window.first = roamcast.pc").await;

    drop(publisher);
    browser.wait_until("roamcast.state === 'interrupted'", WITHIN).await;
    browser.screenshot(&picture("viewer-interrupted")).await;
    let _second = Publisher::start(&endpoint).await;
    browser.wait_until("roamcast.state === 'live'", WITHIN).await;
    plays(&browser).await;
    pictures_move(&browser).await;
    assert_eq!(browser.eval("window.first === roamcast.pc && roamcast.connections").await, 1);

    ingest.stop().await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_come_back_by_themselves_when_the_server_restarts() {
    let Some(browser) = Browser::start().await else { return };
    let ingest = start().await;
    let address = ingest.address();
    let publisher = Publisher::start(&format!("http://{address}/whip/live")).await;
    browser.open(&format!("http://{address}/live")).await;
    plays(&browser).await;

    ingest.stop().await;
    browser.wait_until("!online", WITHIN).await;
    drop(publisher);
    let ingest = Ingest::start(Options::new(address)).await.expect("the port is free at once");
    let _publisher = Publisher::start(&format!("http://{address}/whip/live")).await;
    browser.wait_until("roamcast.connections > 1 && roamcast.state === 'live'", WITHIN).await;
    plays(&browser).await;

    ingest.stop().await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_is_asked_for_the_token_once() {
    let Some(browser) = Browser::start().await else { return };
    let options = Options { token: Some("open sesame".into()), ..Options::new("127.0.0.1:0".parse().unwrap()) };
    let ingest = Ingest::start(options).await.unwrap();
    let url = format!("http://{}/live", ingest.address());
    let connected = "roamcast.pc?.connectionState === 'connected' && roamcast.state === 'waiting' && $('login').hidden";
    let give = |token: &str| format!("($('token').value = '{token}', $('login').requestSubmit(), true)");

    browser.open(&url).await;
    browser.wait_until("!$('login').hidden", WITHIN).await;
    browser.eval(&give("wrong")).await;
    browser.wait_until("!$('login').hidden && $('detail').textContent.includes('not the right one')", WITHIN).await;
    browser.screenshot(&picture("viewer-token")).await;
    browser.eval(&give("open sesame")).await;
    browser.wait_until(connected, WITHIN).await;

    let link = format!("{url}#token=open%20sesame");
    browser
        .in_another_window(async |browser| {
            browser.open(&link).await;
            browser.wait_until(connected, WITHIN).await;
            assert_eq!(browser.eval("location.hash").await, "", "the token does not stay in the address bar");
        })
        .await;

    ingest.stop().await;
    browser.close().await;
}

/// RFC 9725, section 4.3.3, as a client does it that has roamed: new credentials by PATCH, DTLS and media go on.
#[tokio::test(flavor = "multi_thread")]
async fn ice_restarts_by_patch_while_the_picture_goes_on() {
    let Some(browser) = Browser::start().await else { return };
    let ingest = start().await;
    let _publisher = Publisher::start(&format!("http://{}/whip/live", ingest.address())).await;
    browser.open(&format!("http://{}/live", ingest.address())).await;
    plays(&browser).await;

    let restart = "(async () => {
        const { pc } = roamcast;
        window.pairBefore = [...(await pc.getStats()).values()].find((r) => r.type === 'candidate-pair' && r.nominated).id;
        await pc.setLocalDescription(await pc.createOffer({ iceRestart: true }));
        const line = (sdp, name) => sdp.match(new RegExp(`^a=${name}:(.*?)\\\\r?$`, 'm'))[1];
        const ours = pc.localDescription.sdp;
        const response = await fetch(session.url, {
            method: 'PATCH',
            headers: { 'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': '\"*\"' },
            body: `a=ice-ufrag:${line(ours, 'ice-ufrag')}\\r\\na=ice-pwd:${line(ours, 'ice-pwd')}\\r\\na=end-of-candidates\\r\\n`,
        });
        const theirs = await response.text();
        if (response.status !== 200) return [response.status, theirs];
        const answer = pc.currentRemoteDescription.sdp
            .replace(/^a=ice-ufrag:.*$/gm, `a=ice-ufrag:${line(theirs, 'ice-ufrag')}`)
            .replace(/^a=ice-pwd:.*$/gm, `a=ice-pwd:${line(theirs, 'ice-pwd')}`);
        await pc.setRemoteDescription({ type: 'answer', sdp: answer });
        return [response.status, response.headers.get('ETag')];
    })()";
    assert_eq!(browser.eval(restart).await, serde_json::json!([200, "\"2\""]));
    let moved = "[...(await roamcast.pc.getStats()).values()].some((r) => r.type === 'candidate-pair' && r.nominated \
                 && r.state === 'succeeded' && r.id !== window.pairBefore)";
    browser.wait_until(moved, WITHIN).await;
    plays(&browser).await;
    assert_eq!(browser.eval("roamcast.connections").await, 1);

    ingest.stop().await;
    browser.close().await;
}
