//! An IP camera, decoded or passed through; and what is told when it goes away.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use gst::ClockTime;
use roamcast::supervisor::event::{MediaEvent, Retry};

use super::media_kit::{Rig, assert_rising, config};

/// The camera and its URI; `None`, with the reason printed, where it cannot be had.
fn camera() -> Option<(Child, String)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/loopback/rtsp_camera.py");
    // Debian's own Python: another one on the PATH does not see Debian's python3-gi.
    let spawned = Command::new("/usr/bin/python3").arg(script).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            println!("skipped: `python3` cannot be started: {error}");
            return None;
        }
    };
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
    if port.is_empty() {
        child.wait().unwrap();
        println!("skipped: `rtsp_camera.py` needs the Debian packages `python3-gi` and `gir1.2-gst-rtsp-server-1.0`");
        return None;
    }
    Some((child, format!("rtsp://user:secret@127.0.0.1:{}/live", port.trim())))
}

#[test]
fn an_ip_camera_is_decoded_or_passed_through_and_its_loss_is_told() {
    for pipeline in ["rtsp", "rtsp-passthrough"] {
        let Some((mut camera, uri)) = camera() else { return };
        let rig = Rig::new();
        let mut config = config();
        config.video.pipeline = pipeline.into();
        config.video.uri = Some(uri);
        let studio = rig.start(1, &config).unwrap();
        let frames = rig.video.hear_for(ClockTime::from_seconds(2));
        assert!(frames[0].is_key, "{pipeline}");
        assert_rising(&frames);
        assert_eq!(rig.next(), (1, MediaEvent::Flowing), "{pipeline}");
        camera.kill().unwrap();
        camera.wait().unwrap();
        let failure = rig.failure();
        assert_eq!(failure.retry, Retry::Backoff, "{pipeline}: {failure}");
        assert!(!failure.words.contains("secret"), "{pipeline}: {failure}");
        studio.stop();
    }
}
