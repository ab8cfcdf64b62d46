//! `roamcast devices [--json]`: cameras, microphones, encoders, network interfaces.

use std::fmt::Write as _;
use std::io;

use super::{Exit, print};
use crate::media;
use crate::media::input::devices;
use crate::media::input::devices::{Device, Devices, InterfaceKind};

/// Runs the command.
#[must_use]
pub fn run(json: bool) -> Exit {
    if let Err(words) = media::start_gstreamer() {
        print::err(&format!("error: {words}"));
        return Exit::INTERNAL;
    }
    let devices = devices::list();
    let text = if json {
        // Strings and booleans always have a JSON form.
        serde_json::to_string_pretty(&devices).unwrap_or_default()
    } else {
        for_people(&devices)
    };
    match print::out(text.trim_end()) {
        // A closed pipe (`| head`) is the reader's wish, not a fault.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::INTERNAL,
        Ok(()) | Err(_) => Exit::SUCCESS,
    }
}

fn for_people(devices: &Devices) -> String {
    let mut text = String::new();
    list_of(&mut text, "Cameras", &devices.cameras);
    list_of(&mut text, "Microphones", &devices.microphones);
    section(
        &mut text,
        "Encoders",
        devices.encoders.iter().map(|encoder| {
            let state = encoder.problem.as_deref().unwrap_or("works");
            format!("{:<16} {:<6} {state}", encoder.name, encoder.codec)
        }),
    );
    section(
        &mut text,
        "Network interfaces",
        devices.interfaces.iter().map(|interface| {
            let kind = match interface.kind {
                InterfaceKind::Ethernet => "Ethernet",
                InterfaceKind::Wifi => "Wi-Fi",
                InterfaceKind::Modem => "modem",
                InterfaceKind::Loopback => "loopback",
                InterfaceKind::Virtual => "virtual",
            };
            let state = if interface.up { "up" } else { "down" };
            format!("{:<16} {kind:<9} {state:<5} {}", interface.name, interface.addresses.join(" "))
        }),
    );
    text
}

fn list_of(text: &mut String, title: &str, devices: &[Device]) {
    section(
        text,
        title,
        devices.iter().map(|device| {
            let choose = device.device.as_ref().map(|device| format!(", device = \"{device}\"")).unwrap_or_default();
            format!("{}\n      pipeline = \"{}\"{choose}", device.name, device.pipeline)
        }),
    );
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let _infallible = writeln!(text, "{title}");
    let before = text.len();
    for line in lines {
        let _infallible = writeln!(text, "  {}", line.trim_end());
    }
    if text.len() == before {
        text.push_str("  none found\n");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::input::devices::{Encoder, Interface};

    #[test]
    fn people_see_what_to_write_into_the_config() {
        let devices = Devices {
            cameras: vec![Device { name: "C920".into(), pipeline: "v4l2".into(), device: Some("/dev/video0".into()) }],
            microphones: Vec::new(),
            encoders: vec![
                Encoder { name: "x264enc".into(), codec: "H.264".into(), problem: None },
                Encoder { name: "vah264enc".into(), codec: "H.264".into(), problem: Some("no GPU".into()) },
            ],
            interfaces: vec![Interface {
                name: "wwan0".into(),
                kind: InterfaceKind::Modem,
                up: true,
                addresses: vec!["192.0.2.7".into()],
            }],
        };
        insta::assert_snapshot!(for_people(&devices), @r#"
        Cameras
          C920
              pipeline = "v4l2", device = "/dev/video0"

        Microphones
          none found

        Encoders
          x264enc          H.264  works
          vah264enc        H.264  no GPU

        Network interfaces
          wwan0            modem     up    192.0.2.7
        "#);
    }
}
