//! Studio -> hatch, with real encoders.

use gst::ClockTime;
use roamcast::config::VideoCodec;
use roamcast::config::units::Bitrate;
use roamcast::media::tracks::TrackKind;
use roamcast::supervisor::event::MediaEvent;

use super::media_kit::{Rig, assert_rising, config};

#[test]
fn test_pipeline_yields_pictures_and_opus_on_running_time() {
    for (codec, name) in
        [(VideoCodec::H264, "video/x-h264"), (VideoCodec::Vp8, "video/x-vp8"), (VideoCodec::Vp9, "video/x-vp9")]
    {
        let rig = Rig::new();
        let mut config = config();
        config.video.codec = codec;
        let before = rig.clock.now();
        let studio = rig.start(1, &config).unwrap();
        let video = rig.video.hear_for(ClockTime::from_seconds(1));
        let audio = rig.audio.hear_for(ClockTime::from_seconds(1));
        assert_eq!(rig.next(), (1, MediaEvent::Flowing));
        assert!(video[0].is_key, "the first frame a session gets can be decoded alone");
        assert!(video.len() >= 15, "{name}: {} frames in a second", video.len());
        for frames in [&video, &audio] {
            assert_rising(frames);
            assert!(
                before <= frames[0].pts + ClockTime::from_mseconds(100) && frames[0].pts <= rig.clock.now(),
                "{name}: starts at {}",
                frames[0].pts
            );
        }
        let caps = rig.hatch.track(TrackKind::Video).unwrap().caps().unwrap();
        let caps = caps.structure(0).unwrap();
        assert_eq!(caps.name(), name);
        if codec == VideoCodec::H264 {
            assert_eq!(caps.get::<&str>("profile"), Ok("constrained-baseline"));
            assert_eq!(caps.get::<&str>("stream-format"), Ok("byte-stream"));
            assert_eq!(caps.get::<&str>("alignment"), Ok("au"));
        }
        let caps = rig.hatch.track(TrackKind::Audio).unwrap().caps().unwrap();
        assert_eq!(caps.structure(0).unwrap().name(), "audio/x-opus");
        studio.stop();
        assert_eq!(rig.next(), (1, MediaEvent::Stopped));
    }
}

#[test]
fn a_new_bitrate_takes_effect_while_playing() {
    for codec in [VideoCodec::H264, VideoCodec::Vp8] {
        let rig = Rig::new();
        let mut config = config();
        config.video.codec = codec;
        config.video.bitrate = Bitrate::from_bps(1_500_000);
        let studio = rig.start(1, &config).unwrap();
        let bytes = |span| rig.video.hear_for(ClockTime::from_seconds(span)).iter().map(|f| f.size).sum::<usize>();
        bytes(1);
        let high = bytes(3);
        studio.set_bitrate(Bitrate::from_bps(200_000));
        bytes(2);
        let low = bytes(3);
        assert!(low * 2 < high, "{codec:?}: {high} bytes in 3 s at 1500 kb/s, {low} at 200 kb/s");
        studio.stop();
    }
}

#[test]
fn running_time_goes_on_through_a_rebuilt_studio() {
    let rig = Rig::new();
    let mut last = [ClockTime::ZERO; 2];
    for number in 1..=3 {
        let started = rig.clock.now();
        let studio = rig.start(number, &config()).unwrap();
        let heard = [&rig.video, &rig.audio].map(|ear| ear.hear_for(ClockTime::from_mseconds(700)));
        studio.stop();
        for (frames, last) in heard.iter().zip(&mut last) {
            assert_rising(frames);
            assert!(frames[0].pts >= *last, "studio {number} goes back from {last} to {}", frames[0].pts);
            let lateness = started.saturating_sub(frames[0].pts);
            assert!(lateness < ClockTime::from_mseconds(100), "studio {number} starts {lateness} in the past");
            *last = frames[frames.len() - 1].pts;
        }
        rig.video.drain();
        rig.audio.drain();
    }
}
