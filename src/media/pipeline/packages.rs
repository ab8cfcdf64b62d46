//! Pure: which Debian package brings a GStreamer element.

/// Elements that the pipelines use and that a fresh machine may lack.
const PACKAGES: &[(&str, &[&str])] = &[
    ("gstreamer1.0-alsa", &["alsasrc"]),
    ("gstreamer1.0-libav", &["avdec_h264", "avdec_aac", "avdec_h265"]),
    ("gstreamer1.0-libcamera", &["libcamerasrc"]),
    ("gstreamer1.0-nice", &["nicesrc", "nicesink"]),
    ("gstreamer1.0-pipewire", &["pipewiresrc", "pipewiredeviceprovider"]),
    (
        "gstreamer1.0-plugins-bad",
        &["webrtcbin", "dtlsdec", "srtpenc", "openh264enc", "h264parse", "vah264enc", "nvh264enc"],
    ),
    (
        "gstreamer1.0-plugins-base",
        &[
            "videotestsrc",
            "audiotestsrc",
            "videoconvert",
            "videoconvertscale",
            "audioconvert",
            "audioresample",
            "volume",
            "opusenc",
            "appsink",
            "appsrc",
            "uridecodebin",
            "decodebin",
        ],
    ),
    (
        "gstreamer1.0-plugins-good",
        &[
            "v4l2src",
            "pulsesrc",
            "v4l2h264enc",
            "vp8enc",
            "vp9enc",
            "vp8dec",
            "vp9dec",
            "ximagesrc",
            "rtspsrc",
            "jpegdec",
            "rtph264depay",
            "capssetter",
            "deinterlace",
            "imagefreeze",
            "pngdec",
            "matroskademux",
            "qtdemux",
        ],
    ),
    ("gstreamer1.0-plugins-ugly", &["x264enc"]),
    ("gstreamer1.0-x", &["timeoverlay", "textoverlay", "clockoverlay"]),
    ("libgstreamer1.0-0", &["queue", "identity", "capsfilter", "tee", "clocksync"]),
];

/// Elements that register only where their hardware and its driver are there, whatever is installed.
const NEED_HARDWARE: &[&str] = &["vah264enc", "nvh264enc", "v4l2h264enc", "nvv4l2h264enc", "nvvidconv", "mpph264enc"];

/// The package, if the table knows the element.
#[must_use]
pub fn debian_package(element: &str) -> Option<&'static str> {
    PACKAGES.iter().find(|(_, elements)| elements.contains(&element)).map(|(package, _)| *package)
}

/// What to do about a missing element: `install the Debian package ...`.
#[must_use]
pub fn how_to_get(element: &str) -> String {
    match debian_package(element) {
        _ if NEED_HARDWARE.contains(&element) => "it needs its hardware and the driver of that".to_owned(),
        Some(package) => format!("install the Debian package `{package}`"),
        None => "install the GStreamer plugin that brings it, or put it on `GST_PLUGIN_PATH`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_x264enc_is_plugins_ugly() {
        assert_eq!(debian_package("x264enc"), Some("gstreamer1.0-plugins-ugly"));
        assert!(how_to_get("x264enc").contains("`gstreamer1.0-plugins-ugly`"));
    }

    #[test]
    fn an_unknown_element_gets_general_advice() {
        assert_eq!(debian_package("quantumsrc"), None);
        assert!(how_to_get("quantumsrc").contains("GST_PLUGIN_PATH"));
    }
}
