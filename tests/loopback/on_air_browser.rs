//! What a person sees who runs the demo and opens the printed address, by a headless Chromium.

use std::path::{Path, PathBuf};

use gst::prelude::*;

use super::ingest_browser::{
    WITHIN, frames_come_at_full_rate, picture, picture_and_sound_are_together, pictures_move, plays, sound_is_heard,
};
use crate::browser::Browser;
use crate::program::{Program, free_port, is_message};

/// `roamcast demo` and the page it tells of.
fn demo(more: &[&str]) -> (Program, String) {
    let arguments = [&["demo", "--listen", "127.0.0.1:0", "--events", "json"], more].concat();
    let mut demo = Program::with(&arguments);
    demo.wait_for_message("broadcasting");
    let page = demo.log().lines().find_map(|line| line.strip_prefix("watch at")).map(|page| page.trim().to_owned());
    (demo, page.expect("the demo says where to watch"))
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_shows_moving_pictures_and_sound() {
    let Some(browser) = Browser::start().await else { return };
    let (mut demo, page) = demo(&[]);
    browser.open(&page).await;
    plays(&browser).await;
    pictures_move(&browser).await;
    frames_come_at_full_rate(&browser).await;
    sound_is_heard(&browser).await;
    picture_and_sound_are_together(&browser).await;
    browser.wait_until("roamcast.status.message === 'broadcasting'", WITHIN).await;
    browser.screenshot(&picture("demo")).await;
    demo.signal("INT");
    assert_eq!(demo.wait_for_exit(), 0);
    browser.close().await;
}

/// A file with picture and sound, over its end and again from its beginning.
#[tokio::test(flavor = "multi_thread")]
async fn demo_plays_a_file_with_lips_in_time() {
    let Some(browser) = Browser::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip with a 'quoted' name.mkv");
    record(&clip);
    plays_with_lips_in_time(&browser, &clip).await;
    // Real footage with speech lies beside the clean clones of this project, and nowhere else.
    let street = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/media/street.mkv");
    match street.exists() {
        true => plays_with_lips_in_time(&browser, &street).await,
        false => println!("skipped: no real footage at {}", street.display()),
    }
    browser.close().await;
}

async fn plays_with_lips_in_time(browser: &Browser, media: &Path) {
    let (_demo, page) = demo(&["--media", media.to_str().unwrap()]);
    browser.open(&page).await;
    plays(browser).await;
    pictures_move(browser).await;
    sound_is_heard(browser).await;
    picture_and_sound_are_together(browser).await;
    let name = media.file_stem().unwrap().to_string_lossy().split(' ').next().unwrap().to_owned();
    browser.screenshot(&picture(&format!("demo-{name}"))).await;
}

/// Five seconds of test picture and tone.
fn record(to: &Path) {
    gst::init().unwrap();
    let launch = "videotestsrc pattern=ball num-buffers=150 ! video/x-raw,width=320,height=180,framerate=30/1 ! \
        x264enc speed-preset=ultrafast ! queue ! matroskamux name=mux ! filesink name=file \
        audiotestsrc num-buffers=250 samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! queue ! mux.";
    let pipeline = gst::parse::launch(launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    pipeline.by_name("file").unwrap().set_property("location", to.to_str().unwrap());
    pipeline.set_state(gst::State::Playing).unwrap();
    let ended = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(gst::ClockTime::from_seconds(60), &[gst::MessageType::Eos, gst::MessageType::Error]);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(ended.map(|message| message.type_()), Some(gst::MessageType::Eos));
}

/// The encoder is killed and comes back: the viewer's page keeps its connection and shows moving pictures again.
#[tokio::test(flavor = "multi_thread")]
async fn the_viewer_stays_while_the_encoder_is_killed_and_started_again() {
    let Some(browser) = Browser::start().await else { return };
    let port = free_port();
    let mut ingest = Program::with(&["ingest", "--listen", &format!("127.0.0.1:{port}")]);
    ingest.wait_for_line("watch at");
    let config = format!(
        "[video]\nwidth = 640\nheight = 360\nbitrate = \"800k\"\n[uplink]\nurl = \"http://127.0.0.1:{port}/whip/live\"\n\
         [reconnect]\nminDelay = \"200ms\"\nmaxDelay = \"1s\"\nmaxRetries = \"unlimited\"\n"
    );
    let mut encoder = Program::encoder(&config);
    encoder.wait_for_message("broadcasting");
    browser.open(&format!("http://127.0.0.1:{port}/live")).await;
    plays(&browser).await;
    browser.eval("window.first = roamcast.pc").await;
    encoder.kill();
    browser.wait_until("roamcast.state === 'interrupted'", WITHIN).await;
    let mut encoder = Program::encoder(&config);
    encoder.wait_for("being on air", |event| is_message(event, "broadcasting"));
    plays(&browser).await;
    pictures_move(&browser).await;
    assert_eq!(browser.eval("window.first === roamcast.pc").await, true);
    browser.close().await;
}
