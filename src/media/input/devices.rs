//! What is plugged in: cameras, microphones, encoders that work here, network interfaces.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use gst::prelude::*;
use serde::Serialize;

use crate::config::units::Bitrate;
use crate::config::{Video, VideoCodec};
use crate::media::pipeline::build::try_encoder;
use crate::media::pipeline::library::Library;
use crate::media::pipeline::template::{Complaint, Part, codec_name};

/// All of it, as `roamcast devices --json` writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Devices {
    /// Sources of pictures.
    pub cameras: Vec<Device>,
    /// Sources of sound.
    pub microphones: Vec<Device>,
    /// All encoder files of `pipelines/encoder`, best first.
    pub encoders: Vec<Encoder>,
    /// Network interfaces.
    pub interfaces: Vec<Interface>,
}

/// A camera or a microphone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// As its maker calls it.
    pub name: String,
    /// What to write for `pipeline`.
    pub pipeline: String,
    /// What to write for `device`; `None`: the pipeline finds it alone.
    pub device: Option<String>,
}

/// An encoder file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Encoder {
    /// What to write for `video.encoder`.
    pub name: String,
    /// What it makes.
    pub codec: String,
    /// Why it does not work on this machine; `None`: it works.
    pub problem: Option<String>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Such as `wwan0`.
    pub name: String,
    /// What it is.
    pub kind: InterfaceKind,
    /// Has it a link?
    pub up: bool,
    /// IP addresses.
    pub addresses: Vec<String>,
}

/// What an interface is, as far as the kernel tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum InterfaceKind {
    /// A cable.
    Ethernet,
    /// Wireless LAN.
    Wifi,
    /// A modem (LTE, 5G).
    Modem,
    /// The machine itself.
    Loopback,
    /// Tunnels, bridges and other software.
    Virtual,
}

/// Looks at everything. Blocks, up to seconds when a sound server does not answer. `gst::init` must have been called.
#[must_use]
pub fn list() -> Devices {
    Devices {
        cameras: capture_devices("Video/Source"),
        microphones: capture_devices("Audio/Source"),
        encoders: encoders(&Library::of_this_machine()),
        interfaces: interfaces(),
    }
}

/// GStreamer's elements for devices, our pipelines for them, and the property that chooses the device.
const SOURCES: &[(&str, &str, &str)] = &[
    ("v4l2src", "v4l2", "device"),
    ("libcamerasrc", "libcamera", "camera-name"),
    ("pipewiresrc", "pipewire", "target-object"),
    ("pulsesrc", "pulse", "device"),
    ("alsasrc", "alsa", "device"),
];

fn capture_devices(class: &str) -> Vec<Device> {
    let monitor = gst::DeviceMonitor::new();
    monitor.add_filter(Some(class), None);
    if monitor.start().is_err() {
        return Vec::new();
    }
    let found = monitor.devices();
    let devices = found.iter().filter_map(|device| {
        let element = device.create_element(None).ok()?;
        let factory = element.factory()?.name();
        let (_, pipeline, property) = SOURCES.iter().find(|(source, _, _)| *source == factory.as_str())?;
        let chosen = element.find_property(property).and_then(|_| element.property::<Option<String>>(property));
        Some(Device { name: device.display_name().to_string(), pipeline: (*pipeline).to_owned(), device: chosen })
    });
    let devices = devices.collect();
    monitor.stop();
    devices
}

fn encoders(library: &Library) -> Vec<Encoder> {
    let mut files: Vec<_> =
        library.names(Part::Encoder).iter().filter_map(|name| library.load(Part::Encoder, name).ok()).collect();
    files.sort_by_key(|file| std::cmp::Reverse(file.rank()));
    let encoders = files.iter().map(|file| {
        let (codec, problem) = match file.codec() {
            Ok(Some(codec)) => (codec_name(codec), try_encoder(&any_video(codec), file).err()),
            Ok(None) => ("?", Some(Complaint("it has no `# codec:` line".to_owned()))),
            Err(complaint) => ("?", Some(complaint)),
        };
        Encoder { name: file.name().to_owned(), codec: codec.to_owned(), problem: problem.map(|complaint| complaint.0) }
    });
    let mut encoders: Vec<Encoder> = encoders.collect();
    // What works first; the order of rank stays among them.
    encoders.sort_by_key(|encoder| encoder.problem.is_some());
    encoders
}

/// Opening an encoder takes some numbers; any will do.
fn any_video(codec: VideoCodec) -> Video {
    Video {
        pipeline: String::new(),
        device: None,
        uri: None,
        repeat: false,
        width: 1280,
        height: 720,
        framerate: 30,
        codec,
        encoder: None,
        bitrate: Bitrate::from_bps(2_000_000),
        keyframe_interval: Duration::from_secs(2),
    }
}

fn interfaces() -> Vec<Interface> {
    let mut addresses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let of_interface = addresses.entry(entry.interface_name).or_default();
        let Some(address) = entry.address else { continue };
        if let Some(v4) = address.as_sockaddr_in() {
            of_interface.push(v4.ip().to_string());
        } else if let Some(v6) = address.as_sockaddr_in6() {
            of_interface.push(v6.ip().to_string());
        }
    }
    let interfaces = addresses.into_iter().map(|(name, addresses)| {
        let folder = Path::new("/sys/class/net").join(&name);
        let up =
            fs::read_to_string(folder.join("operstate")).is_ok_and(|state| matches!(state.trim(), "up" | "unknown"));
        Interface { kind: interface_kind(&folder), name, up, addresses }
    });
    interfaces.collect()
}

fn interface_kind(folder: &Path) -> InterfaceKind {
    let read = |file| fs::read_to_string(folder.join(file)).unwrap_or_default();
    // ARPHRD_LOOPBACK of <linux/if_arp.h>.
    if read("type").trim() == "772" {
        InterfaceKind::Loopback
    } else if read("uevent").lines().any(|line| line == "DEVTYPE=wwan") {
        InterfaceKind::Modem
    } else if folder.join("wireless").exists() || folder.join("phy80211").exists() {
        InterfaceKind::Wifi
    } else if folder.join("device").exists() {
        InterfaceKind::Ethernet
    } else {
        InterfaceKind::Virtual
    }
}
