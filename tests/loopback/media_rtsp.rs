//! An IP camera, decoded or passed through; and what is told when it goes away.

use gst::ClockTime;
use roamcast::supervisor::event::{MediaEvent, Retry};

use super::cameras::Cameras;
use super::media_kit::{Rig, assert_rising, config};

const CAMERA: &str = "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=30/1 \
    ! x264enc tune=zerolatency key-int-max=15 ! video/x-h264,profile=constrained-baseline ! rtph264pay name=pay0 pt=96 \
    audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1 pt=8";

#[test]
fn an_ip_camera_is_decoded_or_passed_through_and_its_loss_is_told() {
    for pipeline in ["rtsp", "rtsp-passthrough"] {
        let Some(mut camera) = Cameras::start(&[("live", CAMERA.to_owned())]) else { return };
        let rig = Rig::new();
        let mut config = config();
        config.video.pipeline = pipeline.into();
        config.video.uri = Some(camera.uri("live"));
        let studio = rig.start(1, &config).unwrap();
        let frames = rig.video.hear_for(ClockTime::from_seconds(2));
        assert!(frames[0].is_key, "{pipeline}");
        assert_rising(&frames);
        assert_eq!(rig.next(), (1, MediaEvent::Flowing), "{pipeline}");
        camera.unplug();
        let failure = rig.failure();
        assert_eq!(failure.retry, Retry::Backoff, "{pipeline}: {failure}");
        assert!(!failure.words.contains("secret"), "{pipeline}: {failure}");
        studio.stop();
    }
}

/// Two B-frames between the frames that others need: one in three goes out, and time goes only up.
#[test]
fn b_frames_of_a_camera_are_left_out() {
    let launch = "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 \
        ! x264enc speed-preset=ultrafast bframes=2 b-adapt=false option-string=b-pyramid=none key-int-max=15 \
        ! video/x-h264,profile=main ! rtph264pay name=pay0 pt=96";
    let Some(camera) = Cameras::start(&[("live", launch.to_owned())]) else { return };
    let rig = Rig::new();
    let mut config = config();
    config.video.pipeline = "rtsp-passthrough".into();
    config.video.uri = Some(camera.uri("live"));
    let studio = rig.start(1, &config).unwrap();
    let frames = rig.video.hear_for(ClockTime::from_seconds(2));
    assert_rising(&frames);
    // 61 of 30 a second, less what a GOP of 15 has no room for.
    assert!((18..=32).contains(&frames.len()), "{} frames", frames.len());
    studio.stop();
}
