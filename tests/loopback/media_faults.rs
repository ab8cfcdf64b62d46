//! What breaks in the studio is told in one clear sentence, and the next studio goes on where it stopped.

use std::fs;
use std::path::Path;
use std::time::Duration;

use gst::ClockTime;
use roamcast::config::Config;
use roamcast::media;
use roamcast::status::ErrorCode;
use roamcast::supervisor::event::{MediaEvent, Phase, Retry};

use super::media_kit::{Rig, assert_rising, config};

/// A config whose video pipeline is this text.
fn with_source(folder: &Path, text: &str) -> Config {
    let path = folder.join("own.launch");
    fs::write(&path, text).unwrap();
    let mut config = config();
    config.video.pipeline = path.to_str().unwrap().into();
    config
}

#[test]
fn a_broken_camera_is_told_and_a_new_studio_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let broken = with_source(
        folder.path(),
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=30/1 ! identity name=video_source error-after=20",
    );
    let rig = Rig::new();
    let studio = rig.start(1, &broken).unwrap();
    assert_eq!(rig.next(), (1, MediaEvent::Flowing));
    let failure = rig.failure();
    assert_eq!((failure.phase, failure.retry, failure.code), (Phase::Capture, Retry::Backoff, ErrorCode::CaptureLost));
    assert!(failure.words.starts_with("video source `"), "{failure}");
    studio.stop();
    assert_eq!(rig.next(), (1, MediaEvent::Stopped));
    let mut frames = rig.video.drain();
    let studio = rig.start(2, &config()).unwrap();
    assert_eq!(rig.next(), (2, MediaEvent::Flowing));
    frames.extend(rig.video.hear_for(ClockTime::from_seconds(1)));
    assert_rising(&frames);
    studio.stop();
}

#[test]
fn a_silent_camera_has_stalled_and_flows_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut slow = with_source(
        folder.path(),
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=1/2 ! identity name=video_source",
    );
    slow.capture_timeout = Duration::from_millis(500);
    slow.audio = None;
    let rig = Rig::new();
    let studio = rig.start(1, &slow).unwrap();
    assert_eq!(rig.next(), (1, MediaEvent::Flowing));
    assert_eq!(rig.next(), (1, MediaEvent::Stalled));
    assert_eq!(rig.next(), (1, MediaEvent::Flowing));
    studio.stop();
}

#[test]
fn a_camera_that_never_delivers_has_stalled() {
    let folder = tempfile::tempdir().unwrap();
    let mut dead = with_source(folder.path(), "appsrc name=video_source is-live=true caps=video/x-raw");
    dead.capture_timeout = Duration::from_millis(500);
    let rig = Rig::new();
    let studio = rig.start(1, &dead).unwrap();
    assert_eq!(rig.next(), (1, MediaEvent::Stalled));
    studio.stop();
}

#[test]
fn a_live_source_that_ends_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut short = with_source(folder.path(), "videotestsrc name=video_source is-live=true num-buffers=10");
    short.audio = None;
    let rig = Rig::new();
    let studio = rig.start(1, &short).unwrap();
    let failure = rig.failure();
    assert!(failure.words.ends_with("ended the stream"), "{failure}");
    assert_eq!(failure.retry, Retry::Backoff);
    studio.stop();
}

#[test]
fn keyframe_wishes_are_merged_and_none_is_lost() {
    let rig = Rig::new();
    let mut config = config();
    config.video.keyframe_interval = Duration::from_secs(60);
    config.audio = None;
    let studio = rig.start(1, &config).unwrap();
    rig.video.hear_for(ClockTime::from_seconds(1));
    for _ in 0..20 {
        studio.force_keyframe();
    }
    let frames = rig.video.hear_for(ClockTime::from_seconds(3));
    let keys: Vec<_> = frames.iter().filter(|frame| frame.is_key).map(|frame| frame.pts).collect();
    assert_eq!(keys.len(), 2, "one at once, one for the 19 wishes that followed: {keys:?}");
    assert!(keys[1] - keys[0] > ClockTime::from_mseconds(400), "{keys:?}");
    studio.stop();
}

/// What is wrong, the config, a part of the sentence, may we try again?
type Row = (&'static str, Config, &'static str, Retry);

#[allow(clippy::too_many_lines, reason = "a table")]
fn rows(folder: &Path) -> Vec<Row> {
    let named = |pipeline: &str, set: &dyn Fn(&mut Config)| {
        let mut config = config();
        config.video.pipeline = pipeline.into();
        set(&mut config);
        config
    };
    let file = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        named("file", &|config| config.video.uri = Some(path.to_str().unwrap().into()))
    };
    let own = |name: &str, text: &str| {
        let folder = folder.join(name);
        fs::create_dir(&folder).unwrap();
        with_source(&folder, text)
    };
    vec![
        ("slip in the name", named("tset", &|_| {}), "did you mean `test`?", Retry::Never),
        ("no such path", named("/nowhere/a.launch", &|_| {}), "`/nowhere/a.launch` cannot be read", Retry::Never),
        ("no uri", named("file", &|_| {}), "`video.uri` is missing", Retry::Never),
        (
            "no file",
            named("file", &|c| c.video.uri = Some("/nowhere/a.mkv".into())),
            "media file `/nowhere/a.mkv` cannot be read",
            Retry::Never,
        ),
        ("a folder", named("file", &|c| c.video.uri = Some("/".into())), "is a folder", Retry::Never),
        ("empty file", file("empty.mkv", b""), "is empty", Retry::Never),
        (
            "no camera",
            named("v4l2", &|c| c.video.device = Some("/dev/video99".into())),
            "camera `/dev/video99` is not there",
            Retry::Backoff,
        ),
        (
            "not a camera",
            named("v4l2", &|c| c.video.device = Some("/dev/null".into())),
            "`/dev/null` is not a video device",
            Retry::Backoff,
        ),
        ("missing element", own("a", "mpph264dec name=video_source"), "element `mpph264dec` is missing", Retry::Never),
        (
            "bad syntax",
            own("b", "videotestsrc name=video_source ! !"),
            "the pipeline text is not understood",
            Retry::Never,
        ),
        (
            "bad property",
            own("c", "videotestsrc name=video_source colour=red"),
            "the pipeline text is not understood",
            Retry::Never,
        ),
        ("no contract element", own("d", "videotestsrc"), "has no element `name=video_source`", Retry::Never),
        (
            "unknown placeholder",
            own("e", "# x\nvideotestsrc name=video_source\n ! {widht}"),
            "e/own.launch`: line 3: unknown placeholder `{widht}`; did you mean `width`?",
            Retry::Never,
        ),
        (
            "unknown encoder",
            named("test", &|c| c.video.encoder = Some("x265enc".into())),
            "did you mean `x264enc`?",
            Retry::Never,
        ),
        (
            "encoder of another codec",
            named("test", &|c| c.video.encoder = Some("vp8enc".into())),
            "makes VP8, but `video.codec` is H.264",
            Retry::Never,
        ),
        (
            "sound of no file",
            named("test", &|c| c.audio.as_mut().unwrap().pipeline = "file".into()),
            "`video.pipeline` must be `file`, not `test`",
            Retry::Never,
        ),
        (
            "unknown microphone pipeline",
            named("test", &|c| c.audio.as_mut().unwrap().pipeline = "puls".into()),
            "did you mean `pulse`?",
            Retry::Never,
        ),
    ]
}

#[test]
fn what_cannot_start_is_one_clear_sentence_from_start_and_from_check() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new();
    for (what, config, part, retry) in rows(folder.path()) {
        let failure = rig.start(1, &config).err().unwrap_or_else(|| panic!("{what}: it started"));
        assert!(failure.words.contains(part), "{what}: {failure}");
        assert!(!failure.words.contains('\n'), "{what}: {failure}");
        assert_eq!(failure.retry, retry, "{what}: {failure}");
        let code = match retry {
            Retry::Never if what == "unknown encoder" => ErrorCode::EncoderFailed,
            Retry::Never => ErrorCode::BadConfig,
            Retry::Backoff | Retry::After(_) | Retry::Busy { .. } | Retry::IfProven { .. } | Retry::Once => {
                ErrorCode::CaptureLost
            }
        };
        assert_eq!(failure.code, code, "{what}: {failure}");
        let complaints = media::check(&config);
        assert!(complaints.len() == 1 && complaints[0].contains(part), "{what}: {complaints:?}");
    }
    assert_eq!(media::check(&config()), Vec::<String>::new(), "the test pipelines have nothing to complain about");
}

#[test]
fn a_file_that_is_no_media_is_refused_for_good() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in
        [("noise.mkv", &[0xA5; 4096][..]), ("text.mp4", b"It is not a film.\n"), ("cut.mkv", b"\x1A\x45\xDF\xA3")]
    {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let mut config = config();
        config.video.pipeline = "file".into();
        config.video.uri = Some(path.to_str().unwrap().into());
        let rig = Rig::new();
        let failure = match rig.start(1, &config) {
            Err(failure) => failure,
            Ok(studio) => {
                let failure = rig.failure();
                studio.stop();
                failure
            }
        };
        assert!(failure.words.contains(name) && !failure.words.contains('\n'), "{failure}");
        assert_eq!((failure.retry, failure.code), (Retry::Never, ErrorCode::BadConfig), "{failure}");
        assert_eq!(media::check(&config), [failure.words], "`roamcast check` says the same");
    }
}

#[test]
fn a_missing_hardware_encoder_is_told_as_such() {
    gst::init().unwrap();
    if gst::ElementFactory::find("nvh264enc").is_some() {
        println!("skipped: this machine has the element `nvh264enc`, so it cannot be missing");
        return;
    }
    let mut config = config();
    config.video.encoder = Some("nvh264enc".into());
    let complaints = media::check(&config);
    assert!(complaints[0].contains("it needs its hardware and the driver of that"), "{complaints:?}");
}
