//! Real servers of devices: PulseAudio, an X screen; and fifty studios that leave nothing behind.

use std::fs;
use std::process::{Child, Command, Stdio};

use gst::ClockTime;
use gst::prelude::*;
use roamcast::media::devices;
use roamcast::media::library::{BUILT_IN, Library};
use roamcast::media::template::{LaunchFile, Part, Values};

use super::media_kit::{DEADLINE, Rig, assert_rising, config};

/// A server process that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _already_gone = self.0.wait();
    }
}

fn start(command: &mut Command) -> Option<Server> {
    match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(child) => Some(Server(child)),
        Err(error) => {
            println!("skipped: `{}` cannot be started: {error}", command.get_program().display());
            None
        }
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
        let mut launch = file.fill(&values).unwrap();
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
    assert!(understood >= 12, "{understood} of {} could be tried", BUILT_IN.len());
}
