//! What the encoders of this machine declare in their stream, against what a session would have offered before it came.

use std::time::Duration;

use roamcast::config::units::Bitrate;
use roamcast::media;
use roamcast::media::tracks::TrackKind;
use roamcast::media::tracks::h264::{Profile, ProfileLevelId};
use roamcast::uplink::offered::Offered;

use super::media_kit::{Rig, config};

#[test]
fn no_encoder_makes_more_than_was_offered() {
    let settings = [
        (320, 180, 30, 500_000),
        (640, 360, 30, 20_000_000),
        (1280, 720, 30, 14_000_000),
        (1280, 720, 30, 16_000_000),
        (1280, 720, 60, 4_000_000),
        (1920, 1080, 15, 60_000_000),
        (2048, 128, 5, 300_000),
    ];
    for encoder in ["x264enc", "openh264enc"] {
        gst::init().unwrap();
        if gst::ElementFactory::find(encoder).is_none() {
            println!("skipped: levels of {encoder}: this machine lacks it");
            continue;
        }
        for (width, height, framerate, bitrate) in settings {
            let mut config = config();
            config.audio = None;
            let video = &mut config.video;
            (video.width, video.height, video.framerate) = (width, height, framerate);
            video.bitrate = Bitrate::from_bps(bitrate);
            video.encoder = Some(encoder.to_owned());
            let rig = Rig::new();
            let studio = rig.start(1, &config).unwrap();
            assert!(rig.video.hear().is_key);
            let made = rig.hatch.track(TrackKind::Video).unwrap().made().expect("a parameter set in the first frame");
            studio.stop();
            let offered = |made| Offered::new(&config.video, media::promise(&config), made, false).profile_level_id;
            let what = format!("{encoder}, {width}x{height} at {framerate}, {bitrate} b/s: makes {made}");
            assert_eq!(made.profile(), Profile::ConstrainedBaseline, "{what}");
            for offered in [offered(None), offered(Some(made))] {
                assert_eq!(offered.profile(), Profile::ConstrainedBaseline, "{what}, offers {offered}");
                assert!(offered.level_idc() >= made.level_idc(), "{what}, offers {offered}");
            }
        }
    }
}

/// The level that a board's encoder always declares is offered before the first frame.
#[test]
fn a_pinned_level_is_offered_at_once() {
    gst::init().unwrap();
    let mut config = config();
    for (encoder, offered) in [("v4l2h264enc", "42e028"), ("mpph264enc", "42e028"), ("x264enc", "42e01f")] {
        config.video.encoder = Some(encoder.to_owned());
        let now = Offered::new(&config.video, media::promise(&config), None, false).profile_level_id;
        assert_eq!(Some(now), ProfileLevelId::parse(offered), "{encoder}");
    }
    config.video.pipeline = "rtsp-passthrough".to_owned();
    assert!(media::promise(&config).is_passthrough);
}

/// Who waits for a camera gets what it says, and at once when it has said it.
#[tokio::test]
async fn a_stream_is_waited_for_until_it_has_said_what_it_is() {
    let rig = tokio::task::spawn_blocking(Rig::new).await.unwrap();
    let track = rig.hatch.track(TrackKind::Video).unwrap().clone();
    let waiter = tokio::spawn({
        let track = track.clone();
        async move { track.wait_until_made().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiter.is_finished() && track.made().is_none());
    let (rig, studio) = tokio::task::spawn_blocking(move || {
        let studio = rig.start(1, &config()).unwrap();
        (rig, studio)
    })
    .await
    .unwrap();
    tokio::time::timeout(Duration::from_secs(30), waiter).await.expect("the wait ends").unwrap();
    tokio::time::timeout(Duration::from_secs(1), track.wait_until_made()).await.expect("known already");
    assert!(track.made().is_some());
    tokio::task::spawn_blocking(move || {
        studio.stop();
        drop(rig);
    })
    .await
    .unwrap();
}
