//! Every kind of camera and encoder gets on air, or is told by its name: the real encoder against the real ingest.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use crate::cameras::Cameras;
use crate::program::{Program, free_port};

use Passed::{OnAir, Refused};

/// Rows that are tried side by side: each mostly waits, for its camera or for the far end.
const SIDE_BY_SIDE: usize = 3;

/// A camera that sends H.264 as this encoder makes it.
fn h264(source: &str, encoder: &str) -> String {
    format!("videotestsrc is-live=true ! video/x-raw,format=I420,{source} ! {encoder} ! rtph264pay name=pay0 pt=96")
}

const SMALL: &str = "width=320,height=240,framerate=15/1";
const X264: &str = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15";

/// What becomes of a camera that is passed through.
enum Passed {
    /// It gets on air, and these warnings are told, each once.
    OnAir(&'static [&'static str]),
    /// It does not, and these words are told.
    Refused(&'static str),
}

/// A camera of the table.
struct Camera {
    name: &'static str,
    launch: String,
    /// Elements that this machine must have.
    needs: &'static [&'static str],
    /// What becomes of it in `rtsp-passthrough`.
    passed: Passed,
}

fn camera(name: &'static str, launch: String, needs: &'static [&'static str], passed: Passed) -> Camera {
    Camera { name, launch, needs, passed }
}

fn cameras() -> Vec<Camera> {
    // I420: RTP carries no other MJPEG.
    let raw = |rest: &str| format!("videotestsrc is-live=true ! video/x-raw,format=I420,{SMALL} ! {rest}");
    let baseline = format!("{X264} ! video/x-h264,profile=baseline");
    let main = format!("{X264} cabac=true ! video/x-h264,profile=main");
    let high = format!("{X264} cabac=true dct8x8=true ! video/x-h264,profile=high");
    let interlaced = format!("{X264} cabac=true interlaced=true ! video/x-h264,profile=main");
    let fields = "width=720,height=576,framerate=25/1,interlace-mode=interleaved";
    let b_frames = |pyramid: &str| {
        let x264 = format!("x264enc speed-preset=ultrafast bframes=2 b-adapt=false option-string=b-pyramid={pyramid}");
        h264(SMALL, &format!("{x264} key-int-max=15 ! video/x-h264,profile=main"))
    };
    let h265 = raw("x265enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph265pay name=pay0 pt=96");
    let vp8 = raw("vp8enc deadline=1 cpu-used=8 keyframe-max-dist=15 ! rtpvp8pay name=pay0 pt=96");
    let vp9 = raw("vp9enc deadline=1 cpu-used=8 keyframe-max-dist=15 ! rtpvp9pay name=pay0 pt=96");
    let mjpeg = raw("jpegenc ! rtpjpegpay name=pay0 pt=26");
    vec![
        camera("h264-baseline", h264(SMALL, &baseline), &[], OnAir(&[])),
        camera("h264-main", h264(SMALL, &main), &[], OnAir(&["PROFILE"])),
        camera("h264-high", h264(SMALL, &high), &[], OnAir(&["PROFILE"])),
        camera("h264-1080p", h264("width=1920,height=1080,framerate=5/1", &baseline), &[], OnAir(&[])),
        camera("h264-without-timing", h264(SMALL, "openh264enc gop-size=15"), &["openh264enc"], OnAir(&[])),
        camera("h264-interlaced", h264(fields, &interlaced), &[], OnAir(&["PROFILE", "INTERLACED"])),
        camera("h264-b-frames", b_frames("none"), &[], OnAir(&["PROFILE", "B_FRAMES"])),
        camera("h264-b-pyramid", b_frames("normal"), &[], OnAir(&["PROFILE", "B_FRAMES"])),
        camera("h265", h265, &["x265enc", "avdec_h265"], Refused("sends H.265;")),
        camera("vp8", vp8, &[], Refused("sends VP8;")),
        camera("vp9", vp9, &[], Refused("sends VP9;")),
        camera("mjpeg", mjpeg, &[], Refused("sends MJPEG;")),
    ]
}

fn is_here(elements: &[&str]) -> bool {
    gst::init().unwrap();
    elements.iter().all(|element| gst::ElementFactory::find(element).is_some())
}

/// Runs them all, some side by side, and fails with every complaint at once.
fn try_each<T: Sync>(rows: &[T], name: impl Fn(&T) -> &str + Sync, run: impl Fn(&T) -> Result<(), String> + Sync) {
    let (next, complaints) = (Mutex::new(rows.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let Some(row) = next.lock().unwrap().next() else { return };
                    // What one row panics with is no reason to leave the others untried.
                    let tried = catch_unwind(AssertUnwindSafe(|| run(row)));
                    let told = tried.unwrap_or_else(|_| Err("it panicked: see above".to_owned()));
                    if let Err(why) = told {
                        complaints.lock().unwrap().push(format!("{}: {why}", name(row)));
                    }
                }
            });
        }
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), rows.len(), complaints.join("\n"));
}

fn encoder(port: u16, stream: &str, video: &str) -> Program {
    Program::encoder(&format!(
        "[video]\n{video}\n[uplink]\nurl = \"http://127.0.0.1:{port}/whip/{stream}\"\n[audio]\npipeline = \"silence\"\n"
    ))
}

/// A busy machine may lose a try (a camera that is too slow for `tcp-timeout`): what counts is that it gets there.
fn on_air(port: u16, stream: &str, video: &str) -> Program {
    let mut encoder = encoder(port, stream, video);
    encoder.wait_for_message("broadcasting");
    encoder
}

/// The words of the first error that holds these.
fn error(port: u16, stream: &str, video: &str, wanted: &str) -> String {
    let mut encoder = encoder(port, stream, video);
    let words = |event: &serde_json::Value| {
        let is_error = event["event"] == "BroadcastError";
        event["data"]["words"].as_str().filter(|_| is_error).unwrap_or_default().to_owned()
    };
    words(&encoder.wait_for(wanted, |event| words(event).contains(wanted)).1)
}

/// The picture has to be small: decoding and encoding many at once, this machine has other things to do.
const ENCODED_ANEW: &str = "pipeline = \"rtsp\"\nwidth = 320\nheight = 180\nframerate = 10\nbitrate = \"300k\"";

#[test]
fn every_ip_camera_is_decoded() {
    with_all_cameras("rtsp", |port, camera, uri| {
        drop(on_air(port, camera.name, &format!("uri = \"{uri}\"\n{ENCODED_ANEW}")));
        Ok(())
    });
}

#[test]
fn every_ip_camera_is_passed_through_or_named() {
    with_all_cameras("rtsp-passthrough", |port, camera, uri| {
        let video = format!("uri = \"{uri}\"\npipeline = \"rtsp-passthrough\"");
        match camera.passed {
            OnAir(warnings) => {
                let mut encoder = on_air(port, camera.name, &video);
                // So long that what comes later, such as the first B-frame, has come.
                encoder.wait_for("Stats", |event| event["data"]["frames"].as_u64().is_some_and(|frames| frames > 20));
                let told = encoder.events.iter().filter(|(_, event)| event["event"] == "StreamWarning");
                let told: Vec<_> = told.map(|(_, event)| event["data"]["code"].as_str().unwrap()).collect();
                let same = told.iter().collect::<BTreeSet<_>>() == warnings.iter().collect();
                if same && told.len() == warnings.len() { Ok(()) } else { Err(format!("warned of {told:?}")) }
            }
            Refused(wanted) => {
                let words = error(port, camera.name, &video, wanted);
                let is_clear = words.contains("set the camera to H.264");
                if is_clear && !words.contains("secret") { Ok(()) } else { Err(format!("told: {words}")) }
            }
        }
    });
}

#[test]
fn a_camera_that_sends_sound_alone_is_told() {
    let launch = "audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0 pt=8".to_owned();
    let Some(cameras) = Cameras::start(&[("radio", launch)]) else { return };
    for pipeline in ["rtsp", "rtsp-passthrough"] {
        let video = format!("uri = \"{}\"\npipeline = \"{pipeline}\"", cameras.uri("radio"));
        let words = error(free_port(), "radio", &video, "sends sound alone, no picture;");
        assert!(!words.contains("secret"), "{pipeline}: {words}");
    }
}

/// Each camera that this machine can be, with the port of an ingest and its own address.
fn with_all_cameras(pipeline: &str, run: impl Fn(u16, &Camera, &str) -> Result<(), String> + Sync) {
    let rows = cameras();
    let started: Vec<_> = rows.iter().map(|camera| (camera.name, camera.launch.clone())).collect();
    let Some(cameras) = Cameras::start(&started) else { return };
    let (port, _ingest) = ingest();
    try_each(
        &rows,
        |camera| camera.name,
        |camera| {
            if !is_here(camera.needs) {
                println!("skipped: {} in {pipeline}: this machine lacks one of {:?}", camera.name, camera.needs);
                return Ok(());
            }
            run(port, camera, &cameras.uri(camera.name))
        },
    );
}

fn ingest() -> (u16, Program) {
    let port = free_port();
    let mut ingest = Program::with(&["ingest", "--listen", &format!("127.0.0.1:{port}")]);
    ingest.wait_for_line("watch at");
    (port, ingest)
}

/// What an encoder declares is not what a table says it should: pinned levels, levels left out, bitrates beyond the level
/// of the picture.
#[test]
fn every_encoder_setting_gets_on_air() {
    let files = tempfile::tempdir().unwrap();
    // The caps of v4l2h264enc.launch, behind an encoder that is here.
    let pinned = |level: &str| {
        let path = files.path().join(format!("pinned-{level}.launch"));
        let text = format!(
            "# codec: h264\n# bitrate: bitrate kbps\nx264enc name=video_encoder tune=zerolatency speed-preset=ultrafast \
             byte-stream=true bitrate={{bitrate_kbps}} key-int-max={{keyframe_frames}}\n\
             ! video/x-h264,profile=constrained-baseline,level=(string){level}\n! h264parse config-interval=-1\n"
        );
        std::fs::write(&path, text).unwrap();
        format!("encoder = \"{}\"\n", path.display())
    };
    let size = |width: u32, height: u32, framerate: u32, bitrate: &str| {
        format!("width = {width}\nheight = {height}\nframerate = {framerate}\nbitrate = \"{bitrate}\"\n")
    };
    let rows = [
        ("openh264enc", "encoder = \"openh264enc\"\n".to_owned() + &size(640, 360, 15, "600k")),
        ("x264-20m", "encoder = \"x264enc\"\n".to_owned() + &size(640, 360, 15, "20M")),
        ("openh264-20m", "encoder = \"openh264enc\"\n".to_owned() + &size(640, 360, 15, "20M")),
        ("pi-720p30", pinned("4") + &size(1280, 720, 30, "1M")),
        ("pi-360p15", pinned("4") + &size(640, 360, 15, "1M")),
        ("level-51", pinned("5.1") + &size(320, 180, 15, "300k")),
        ("vp8", "codec = \"vp8\"\n".to_owned() + &size(320, 180, 15, "300k")),
        ("vp9", "codec = \"vp9\"\n".to_owned() + &size(320, 180, 15, "300k")),
    ];
    let (port, _ingest) = ingest();
    try_each(
        &rows,
        |row| row.0,
        |(name, video)| {
            if name.starts_with("openh264") && !is_here(&["openh264enc"]) {
                println!("skipped: on_air_from {name}: this machine lacks `openh264enc`");
                return Ok(());
            }
            drop(on_air(port, name, video));
            Ok(())
        },
    );
}
