//! Raw pictures of any make: whatever the source tells or leaves out, the broadcast gets pictures, and the process lives.
//!
//! An assertion inside GStreamer would end this whole test program: that is the failure that these tests are for.

use std::path::Path;

use gst::ClockTime;
use roamcast::config::Config;
use roamcast::media;

use super::media_kit::{Rig, assert_rising, config};

/// The config of a camera whose pipeline file holds this text.
fn camera(folder: &Path, name: &str, launch: &str) -> Config {
    let path = folder.join(format!("{name}.launch"));
    std::fs::write(&path, format!("# kind: camera\n{launch}\n")).unwrap();
    let mut config = config();
    config.video.pipeline = path.to_str().unwrap().into();
    config.video.bitrate = roamcast::config::units::Bitrate::from_bps(300_000);
    config
}

/// Frames for so long, from a source that this text describes.
fn on_air(folder: &Path, name: &str, launch: &str, span: ClockTime) -> usize {
    let rig = Rig::new();
    println!("{name}: {launch}");
    let studio = rig.start(1, &camera(folder, name, launch)).unwrap_or_else(|failure| panic!("{name}: {failure}"));
    let frames = rig.video.hear_for(span);
    assert!(frames[0].is_key, "{name}");
    assert_rising(&frames);
    studio.stop();
    frames.len()
}

const HALF: ClockTime = ClockTime::from_mseconds(500);

#[test]
fn sources_that_tell_no_rate_no_duration_or_no_time_get_on_air() {
    let folder = tempfile::tempdir().unwrap();
    let live = "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=30/1";
    let bare = "video/x-raw,format=I420,width=320,height=240";
    for (name, launch) in [
        ("vp8_over_rtp", format!("{live} ! vp8enc deadline=1 ! rtpvp8pay ! rtpvp8depay ! vp8dec name=video_source")),
        ("raw_over_rtp", format!("{live} ! rtpvrawpay ! rtpvrawdepay name=video_source")),
        ("rate_0", format!("{live} ! capssetter name=video_source caps=video/x-raw,framerate=0/1")),
        ("no_rate", format!("{live} ! capssetter name=video_source replace=true caps={bare}")),
        (
            "no_time",
            format!(
                "fakesrc name=video_source is-live=true format=time sizetype=fixed sizemax=115200 filltype=zero \
                 ! identity sleep-time=20000 ! {bare},framerate=0/1,pixel-aspect-ratio=1/1,interlace-mode=progressive"
            ),
        ),
        (
            "bytes_alone",
            format!(
                "fakesrc name=video_source is-live=true sizetype=fixed sizemax=115200 filltype=zero \
                 ! identity sleep-time=20000 ! {bare},framerate=0/1,pixel-aspect-ratio=1/1,interlace-mode=progressive"
            ),
        ),
    ] {
        on_air(folder.path(), name, &launch, HALF);
    }
}

#[test]
fn a_source_that_tells_its_rate_too_low_keeps_its_frames() {
    let folder = tempfile::tempdir().unwrap();
    let launch = "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 \
                  ! capssetter name=video_source caps=video/x-raw,framerate=1/1";
    let frames = on_air(folder.path(), "slow_by_its_word", launch, ClockTime::from_seconds(1));
    assert!(frames >= 15, "{frames} frames of 30 in a second");
}

#[test]
fn a_source_that_is_too_fast_is_thinned_out() {
    let folder = tempfile::tempdir().unwrap();
    let launch = "videotestsrc name=video_source is-live=true ! video/x-raw,width=320,height=240,framerate=120/1";
    let frames = on_air(folder.path(), "fast", launch, ClockTime::from_seconds(1));
    assert!(frames <= 33, "{frames} frames in a second, 30 are wanted");
}

#[test]
fn interlaced_pictures_are_made_progressive() {
    let folder = tempfile::tempdir().unwrap();
    for (format, mode) in [("UYVY", "interleaved"), ("v210", "interleaved"), ("I420", "mixed"), ("P010_10LE", "mixed")]
    {
        let launch = format!(
            "videotestsrc name=video_source is-live=true \
             ! video/x-raw,format={format},width=720,height=576,framerate=25/1,interlace-mode={mode}"
        );
        for framerate in [25, 50] {
            let mut config = camera(folder.path(), &format!("{format}_{mode}"), &launch);
            config.video.framerate = framerate;
            let rig = Rig::new();
            let studio = rig.start(1, &config).unwrap();
            let frames = rig.video.hear_for(ClockTime::from_seconds(1));
            assert_rising(&frames);
            let gap = (frames[frames.len() - 1].pts - frames[0].pts) / (frames.len() as u64 - 1);
            let fields = if framerate == 50 && mode == "interleaved" { 50 } else { 25 };
            assert!(gap >= ClockTime::from_mseconds(900 / fields), "{format} {mode}: a frame each {gap}");
            studio.stop();
        }
    }
}

/// A small generator (`SplitMix64`): the same seed gives the same sources, on every machine.
struct Seed(u64);

impl Seed {
    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        of[usize::try_from((mixed ^ (mixed >> 31)) % of.len() as u64).unwrap()]
    }

    /// What pictures say of themselves, odd in one way or several.
    fn caps(&mut self) -> String {
        let format = self.one(&["I420", "NV12", "YUY2", "UYVY", "BGRx", "RGB16", "GRAY8", "v210", "I420_10LE", "Y444"]);
        let size = self.one(&[
            "320,height=240",
            "2,height=2",
            "321,height=243",
            "1,height=1",
            "640,height=16",
            "720,height=576",
        ]);
        let mode = self.one(&["progressive", "progressive", "interleaved", "mixed"]);
        format!("video/x-raw,format={format},width={size},framerate=30/1,interlace-mode={mode}")
    }

    fn told(&mut self) -> String {
        let rate = self.one(&["0/1", "1/1", "1/2147483647", "24000/1001", "60/1", "1000/1", "2147483647/1", "25/1"]);
        let pixels = self.one(&["1/1", "1/1", "16/11", "2147483647/1", "1/2147483647", "59/54"]);
        let colours = self.one(&["bt601", "bt709", "sRGB", "1:1:0:0", "1:4:17:1", "none-such"]);
        let site = self.one(&["mpeg2", "jpeg", "none-such", "dv"]);
        format!(
            "video/x-raw,framerate={rate},pixel-aspect-ratio={pixels},colorimetry=(string){colours},chroma-site=(string){site}"
        )
    }

    /// A source that changes all of it after half a second.
    fn source(&mut self) -> String {
        let (first, told) = (self.caps(), self.told());
        let (second, then_told) = (self.caps(), self.told());
        format!(
            "concat name=video_source videotestsrc num-buffers=15 ! {first} ! capssetter caps=\"{told}\" ! video_source. \
             videotestsrc ! {second} ! capssetter caps=\"{then_told}\" ! video_source. video_source. ! clocksync"
        )
    }
}

#[test]
fn pictures_of_any_caps_that_change_in_mid_stream_get_on_air() {
    let fresh = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seeds: 1 and {fresh}");
    let folder = tempfile::tempdir().unwrap();
    for seed in [1, u64::from(fresh)] {
        let mut source = Seed(seed);
        for number in 0..12 {
            let launch = source.source();
            on_air(folder.path(), &format!("seed_{seed}_{number}"), &launch, ClockTime::from_mseconds(900));
        }
    }
}

#[test]
fn a_still_picture_is_a_broadcast() {
    let folder = tempfile::tempdir().unwrap();
    for (encoder, name, size) in [
        ("pngenc", "still.png", "640,height=360"),
        ("jpegenc", "large still.jpg", "4000,height=3000"),
        ("pngenc", "odd.png", "33,height=101"),
        ("jpegenc", "without extension", "16,height=16"),
    ] {
        let path = folder.path().join(name);
        super::media_file::make_picture(&path, &format!("video/x-raw,width={size} ! videoconvert ! {encoder}"));
        for repeat in [true, false] {
            let mut config = config();
            config.video.pipeline = "file".into();
            config.video.uri = Some(path.to_str().unwrap().into());
            config.video.repeat = repeat;
            config.audio.as_mut().unwrap().pipeline = "file".into();
            assert_eq!(media::check(&config), [""; 0], "{name}: `roamcast check` has no complaint");
            let rig = Rig::new();
            let studio = rig.start(1, &config).unwrap();
            let frames = rig.video.hear_for(ClockTime::from_seconds(1));
            assert_rising(&frames);
            assert!((10..=33).contains(&frames.len()), "{name}: {} frames in a second", frames.len());
            assert_rising(&rig.audio.hear_for(ClockTime::from_seconds(1)));
            studio.stop();
        }
    }
}

#[test]
fn a_file_uri_is_percent_encoded_and_a_path_is_not() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["my film.png", "100%.png", "%41.png", "ä ö#?.png"] {
        let path = folder.path().join(name);
        super::media_file::make_picture(&path, "video/x-raw,width=64,height=64 ! videoconvert ! pngenc");
        let uri = url::Url::from_file_path(&path).unwrap();
        let of_path = uri.as_str().strip_prefix("file://").unwrap();
        for text in
            [path.to_str().unwrap(), uri.as_str(), &format!("FILE://localhost{of_path}"), &format!("file:{of_path}")]
        {
            let mut config = config();
            config.video.pipeline = "file".into();
            config.video.uri = Some(text.into());
            config.audio = None;
            assert_eq!(media::check(&config), [""; 0], "{text}");
        }
    }
    let mut config = config();
    config.video.pipeline = "file".into();
    config.audio = None;
    for (text, complaint) in [
        (
            "file://server/film.mkv",
            "`video.uri`: `file://server/film.mkv` names no file of this machine: write `file:///folder/file`",
        ),
        (
            "file:///no%20such.mkv",
            "`video.uri`: media file `/no such.mkv` cannot be read: No such file or directory (os error 2)",
        ),
    ] {
        config.video.uri = Some(text.into());
        assert_eq!(media::check(&config), [complaint]);
    }
}
