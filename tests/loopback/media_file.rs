//! Media files: repeated without a gap, played once, with and without sound or picture.

use std::path::Path;

use gst::ClockTime;
use gst::prelude::*;
use roamcast::config::Config;
use roamcast::media;
use roamcast::status::ErrorCode;
use roamcast::supervisor::event::{MediaEvent, Retry};

use super::media_kit::{Frame, Rig, assert_rising, config};

const PICTURE: &str = "videotestsrc num-buffers=60 ! video/x-raw,width=320,height=180,framerate=30/1 ! x264enc \
                       speed-preset=ultrafast key-int-max=30 ! h264parse ! mux.";
const SOUND: &str = "audiotestsrc num-buffers=200 samplesperbuffer=480 ! audio/x-raw,rate=48000 ! opusenc ! mux.";

/// Two seconds of media.
fn make_file(path: &Path, mux: &str, streams: &[&str]) {
    write(path, &format!("{mux} name=mux ! filesink name=out {}", streams.join(" ")));
}

/// One picture, made and encoded by this text.
pub(crate) fn make_picture(path: &Path, encoded: &str) {
    write(path, &format!("videotestsrc num-buffers=1 ! {encoded} ! filesink name=out"));
}

fn write(path: &Path, launch: &str) {
    gst::init().unwrap();
    let pipeline = gst::parse::launch(launch).unwrap();
    let bin = pipeline.downcast_ref::<gst::Bin>().unwrap();
    bin.by_name("out").unwrap().set_property("location", path.to_str().unwrap());
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let message =
        bus.timed_pop_filtered(ClockTime::from_seconds(30), &[gst::MessageType::Eos, gst::MessageType::Error]);
    assert_eq!(message.unwrap().type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
}

fn playing(path: &Path, repeat: bool) -> Config {
    let mut config = config();
    config.video.pipeline = "file".into();
    config.video.uri = Some(path.to_str().unwrap().into());
    config.video.repeat = repeat;
    config.audio.as_mut().unwrap().pipeline = "file".into();
    config
}

fn widest_gap(frames: &[Frame]) -> ClockTime {
    frames.windows(2).map(|pair| pair[1].pts - pair[0].pts).max().unwrap()
}

#[test]
fn a_repeated_file_goes_on_over_three_rounds_with_lips_in_sync() {
    for (mux, name) in
        [("matroskamux", "loop me.mkv"), ("mp4mux", "it's \"quoted\" ! 100%.mp4"), ("mpegtsmux", "loop.ts")]
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        make_file(&path, mux, &[PICTURE, SOUND]);
        let rig = Rig::new();
        let studio = rig.start(1, &playing(&path, true)).unwrap();
        let video = rig.video.hear_for(ClockTime::from_mseconds(6500));
        let audio = rig.audio.hear_for(ClockTime::from_mseconds(6500));
        assert_eq!(rig.next(), (1, MediaEvent::Flowing), "{name}");
        assert_rising(&video);
        assert_rising(&audio);
        // The gap that a round leaves on its own clock; frames that a busy machine dropped come on top.
        assert!(widest_gap(&video) < ClockTime::from_mseconds(400), "{name}: picture gap {}", widest_gap(&video));
        assert!(widest_gap(&audio) < ClockTime::from_mseconds(400), "{name}: sound gap {}", widest_gap(&audio));
        let (v, a) = (video[0].pts, audio[0].pts);
        let offset = v.max(a) - v.min(a);
        assert!(offset < ClockTime::from_mseconds(150), "{name}: starts {offset} apart");
        // Round n of picture and sound is placed by the same offset; the picture must not drift against the clock.
        let late = rig.clock.now().saturating_sub(video[video.len() - 1].pts);
        assert!(late < ClockTime::from_seconds(2), "{name}: the last frame is {late} behind the clock");
        studio.stop();
    }
}

#[test]
fn a_file_played_once_ends() {
    let folder = tempfile::tempdir().unwrap();
    for (name, streams) in [("both.mkv", &[PICTURE, SOUND][..]), ("mute.mkv", &[PICTURE])] {
        let path = folder.path().join(name);
        make_file(&path, "matroskamux", streams);
        assert_eq!(media::check(&playing(&path, false)), [""; 0], "{name}: `roamcast check` has no complaint");
        let rig = Rig::new();
        let studio = rig.start(4, &playing(&path, false)).unwrap();
        assert_eq!(rig.next(), (4, MediaEvent::Flowing), "{name}");
        assert_eq!(rig.next(), (4, MediaEvent::Ended), "{name}");
        let video = rig.video.drain();
        assert!(video.len() >= 30, "{name}: {} of 60 frames", video.len());
        studio.stop();
        assert_eq!(rig.next(), (4, MediaEvent::Stopped), "{name}");
    }
}

#[test]
fn a_file_without_sound_is_sent_with_silence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mute.mkv");
    make_file(&path, "matroskamux", &[PICTURE]);
    let rig = Rig::new();
    let studio = rig.start(1, &playing(&path, true)).unwrap();
    assert_rising(&rig.video.hear_for(ClockTime::from_seconds(3)));
    assert_rising(&rig.audio.hear_for(ClockTime::from_seconds(3)));
    studio.stop();
}

#[test]
fn a_file_without_picture_is_refused_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("radio.mkv");
    make_file(&path, "matroskamux", &[SOUND]);
    let rig = Rig::new();
    let studio = rig.start(1, &playing(&path, true)).unwrap();
    let failure = rig.failure();
    assert!(failure.words.ends_with("has no picture"), "{failure}");
    assert_eq!((failure.retry, failure.code), (Retry::Never, ErrorCode::BadConfig));
    assert_eq!(media::check(&playing(&path, true)), [failure.words], "`roamcast check` says the same");
    studio.stop();
}

#[test]
fn the_picture_of_a_file_goes_with_another_sound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both.mkv");
    make_file(&path, "matroskamux", &[PICTURE, SOUND]);
    let rig = Rig::new();
    let mut config = playing(&path, true);
    config.audio.as_mut().unwrap().pipeline = "silence".into();
    let studio = rig.start(1, &config).unwrap();
    assert_rising(&rig.video.hear_for(ClockTime::from_mseconds(4500)));
    assert_rising(&rig.audio.hear_for(ClockTime::from_seconds(1)));
    assert_eq!(rig.next(), (1, MediaEvent::Flowing));
    studio.stop();
    assert_eq!(rig.next(), (1, MediaEvent::Stopped));

    config.video.repeat = false;
    let studio = rig.start(2, &config).unwrap();
    assert_eq!(rig.next(), (2, MediaEvent::Flowing));
    assert_eq!(rig.next(), (2, MediaEvent::Ended), "though silence never ends");
    studio.stop();
}
