//! Real servers of devices: PulseAudio, an X screen; and fifty studios that leave nothing behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};

use gst::ClockTime;
use gst::prelude::*;
use roamcast::media::input::devices;
use roamcast::media::pipeline::library::BUILT_IN;
use roamcast::media::pipeline::template::{LaunchFile, Part, Values};

use super::media_kit::{Rig, assert_rising, config};

/// Ends a server with the test.
struct Server<F: FnMut()>(F);

impl<F: FnMut()> Drop for Server<F> {
    fn drop(&mut self) {
        self.0();
    }
}

#[test]
fn every_pipeline_whose_elements_are_installed_is_understood_by_gstreamer() {
    gst::init().unwrap();
    let mut config = config();
    config.video.device = Some("/dev/video0".into());
    config.audio.as_mut().unwrap().device = Some("hw:0".into());
    let values = Values::new(&config.video, config.audio.as_ref(), Some("file:///srv/a.mkv"));
    let mut understood = 0;
    for (part, name, text) in BUILT_IN {
        let file = LaunchFile::parse(*part, name, text).unwrap();
        let mut launch = file.fill(&values).unwrap() + " ! fakesink";
        if file.header("with") == Some("file") {
            launch = format!("uridecodebin name=file {launch}");
        }
        let mut context = gst::ParseContext::new();
        match gst::parse::launch_full(&launch, Some(&mut context), gst::ParseFlags::FATAL_ERRORS) {
            Ok(_) => understood += 1,
            Err(_) if !context.missing_elements().is_empty() => {
                println!("skipped: {} `{name}` needs {:?}", part.folder(), context.missing_elements());
            }
            Err(error) => panic!("{} `{name}`: {error}\n{launch}", part.folder()),
        }
    }
    assert!(understood >= 15, "{understood} of {} could be tried", BUILT_IN.len());
}

#[test]
fn a_value_stays_one_value_whatever_it_holds() {
    gst::init().unwrap();
    let text = "videotestsrc name=video_source ! textoverlay name=victim {text=device?} ! queue name=after";
    let file = LaunchFile::parse(Part::Video, "hostile", text).unwrap();
    for hostile in [
        "/dev/video0 ! filesink location=/tmp/x",
        "a\" ! fakesink \"",
        "back\\slash\\ in \\\\ it",
        "\\\" ! fakesink",
        "it's 'quoted' name=after",
        "(queue) [x] {y} a=b,c;d:e @f #g $h `i` ~j",
        "Überwachung läuft \u{1F3A5}",
        "!",
        " ",
        "\u{a0}\u{2003}!",
    ] {
        let mut config = config();
        config.video.device = Some(hostile.into());
        let launch = file.fill(&Values::new(&config.video, None, None)).unwrap();
        let pipeline = gst::parse::launch(&launch).unwrap_or_else(|error| panic!("{hostile:?}: {error}: {launch}"));
        let bin = pipeline.downcast_ref::<gst::Bin>().unwrap();
        assert_eq!(bin.children().len(), 3, "{hostile:?} added an element: {launch}");
        assert_eq!(bin.by_name("victim").unwrap().property::<String>("text"), hostile);
    }
}

#[test]
fn a_pulseaudio_source_is_a_microphone() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("pulse.sock");
    let pulseaudio = || {
        let mut command = Command::new("pulseaudio");
        command.envs(["XDG_RUNTIME_DIR", "HOME"].map(|name| (name, folder.path())));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    // As a daemon it comes back when it is ready.
    let started = pulseaudio()
        .args(["-n", "--daemonize=yes", "--exit-idle-time=-1", "--load=module-null-sink sink_name=room"])
        .arg("--load=module-sine sink=room frequency=440")
        .arg(format!("--load=module-native-protocol-unix auth-anonymous=1 socket={}", socket.display()))
        .status();
    if !started.as_ref().is_ok_and(ExitStatus::success) {
        println!("skipped: `pulseaudio` cannot be started: {started:?}");
        return;
    }
    let server = Server(|| drop(pulseaudio().arg("--kill").status()));
    let rig = Rig::new();
    let mut config = config();
    config.audio.as_mut().unwrap().pipeline =
        with_property("pulse", &format!("server=unix:{}", socket.display()), &folder);
    config.audio.as_mut().unwrap().device = Some("room.monitor".into());
    let studio = rig.start(1, &config).unwrap();
    let frames = rig.audio.hear_for(ClockTime::from_seconds(2));
    assert_rising(&frames);
    assert!(frames.iter().any(|frame| frame.size > 20), "a tone takes more bytes than silence: {frames:?}");
    studio.stop();
    drop(server);

    let mut config = config;
    config.audio.as_mut().unwrap().device = Some("no.such.source".into());
    let words = match rig.start(2, &config) {
        Err(failure) => failure.words,
        Ok(_) => rig.failure().words,
    };
    assert!(words.starts_with("audio source `"), "{words}");
}

/// The audio pipeline of this name with one more property, as a file of the user's.
fn with_property(name: &str, property: &str, folder: &tempfile::TempDir) -> String {
    let (_, _, text) = BUILT_IN.iter().find(|(part, n, _)| *part == Part::Audio && *n == name).unwrap();
    let path = folder.path().join("own.launch");
    fs::write(&path, text.replace("name=audio_source", &format!("name=audio_source {property}"))).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_x_screen_is_a_camera() {
    let mut command = Command::new("Xvfb");
    command.args(["-displayfd", "1", "-screen", "0", "640x360x24", "-nolisten", "tcp"]);
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("skipped: `Xvfb` cannot be started: {error}");
            return;
        }
    };
    let mut display = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut display).unwrap();
    let _server = Server(|| {
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let display = format!(":{}", display.trim());
    let rig = Rig::new();
    let mut config = config();
    config.video.pipeline = "screen".into();
    config.video.device = Some(display);
    let studio = rig.start(1, &config).unwrap();
    let frames = rig.video.hear_for(ClockTime::from_seconds(2));
    assert_rising(&frames);
    assert!(frames.len() > 20, "{} frames in 2 s", frames.len());
    studio.stop();
}

#[test]
fn fifty_studios_leave_no_thread_and_no_file_behind() {
    let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    // Other tests come and go in this process: the numbers only mean something in a process of one's own.
    const CHILD: &str = "ROAMCAST_TEST_SOAK";
    if std::env::var_os(CHILD).is_none() {
        let name = "media_devices::fifty_studios_leave_no_thread_and_no_file_behind";
        let program = std::env::current_exe().unwrap();
        let status = Command::new(program).args(["--exact", name, "--nocapture"]).env(CHILD, "1").status().unwrap();
        assert!(status.success());
        return;
    }
    let rig = Rig::new();
    let mut base = (0, 0);
    for number in 0..50 {
        let studio = rig.start(number, &config()).unwrap();
        rig.video.hear();
        rig.audio.hear();
        studio.stop();
        if number == 4 {
            base = (count("task"), count("fd"));
        }
    }
    let end = (count("task"), count("fd"));
    println!("threads, files after 5 studios: {base:?}, after 50: {end:?}");
    assert!(end.0 <= base.0 + 2 && end.1 <= base.1 + 2, "threads, files: {base:?} became {end:?}");
}

#[test]
fn devices_lists_encoders_that_work_and_the_loopback_interface() {
    gst::init().unwrap();
    let devices = devices::list();
    let x264 = devices.encoders.iter().find(|encoder| encoder.name == "x264enc").unwrap();
    assert_eq!(x264.problem, None);
    assert!(devices.encoders.windows(2).any(|pair| pair[0].name == "vp8enc" || pair[1].name == "vp8enc"));
    let loopback = devices.interfaces.iter().find(|interface| interface.name == "lo").unwrap();
    assert_eq!(loopback.kind, devices::InterfaceKind::Loopback);
    assert!(loopback.addresses.contains(&"127.0.0.1".to_owned()));
}
