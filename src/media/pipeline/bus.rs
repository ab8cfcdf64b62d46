//! Pure: an error of the pipeline as plain data -> [`Failure`], in words that say what to do.

use crate::status::ErrorCode;
use crate::supervisor::event::{Failure, Phase, Retry};

/// What kind of error GStreamer told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// No such device, file or server.
    NotFound,
    /// Another program has it.
    Busy,
    /// This user may not, or the server wants other credentials.
    Denied,
    /// It is there, but cannot be opened or set up.
    Open,
    /// It was open and stopped delivering.
    Read,
    /// The data is none that can be played.
    NotMedia,
    /// An element or decoder is missing.
    MissingPlugin,
    /// Anything else.
    Other,
}

/// Which part of the studio broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The video source, and all that is not told apart.
    Video,
    /// The audio source.
    Audio,
    /// The video or audio encoder.
    Encoder,
}

/// One error message from the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind.
    pub kind: FaultKind,
    /// Where.
    pub side: Side,
    /// Factory name of the element that told it, such as `v4l2src`.
    pub element: String,
    /// GStreamer's sentence. Without secrets.
    pub words: String,
    /// What a `missing-plugin` message before it named, such as `H.265 decoder`.
    pub missing: Option<String>,
    /// What the source sends in place of what its pipeline takes, such as `H.265`.
    pub sent_instead: Option<String>,
}

/// What the studio was told to open, for the sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// `video.pipeline`, and the device or URI without credentials.
    pub video: String,
    /// The same for `audio.pipeline`.
    pub audio: String,
    /// The video source is a media file: trying again does not make it another file.
    pub is_media_file: bool,
    /// The codec that goes out as the source sends it, such as `H.264`; `None`: its pictures are encoded here.
    pub passes_on: Option<&'static str>,
}

/// The failure that a fault means.
#[must_use]
pub fn failure(fault: &Fault, subject: &Subject) -> Failure {
    let gst = fault.words.trim_end_matches('.');
    if fault.side == Side::Encoder {
        let words = format!("encoder `{}` failed: {gst}", fault.element);
        return Failure::new(Phase::Capture, Retry::Backoff, ErrorCode::EncoderFailed, words);
    }
    let (what, key) = match fault.side {
        Side::Video | Side::Encoder => (format!("video source {}", subject.video), "video"),
        Side::Audio => (format!("audio source {}", subject.audio), "audio"),
    };
    // Nobody takes what it sends: rtspsrc then says now that data flow, now that reading has failed.
    if let (Side::Video, FaultKind::Other | FaultKind::Read, Some(sent)) = (fault.side, fault.kind, &fault.sent_instead)
    {
        let words = format!("{what} sends {sent}; {}", advice(subject));
        // Somebody may set the camera right, with nobody near us.
        return Failure::new(Phase::Capture, Retry::Backoff, ErrorCode::CaptureLost, words);
    }
    // A microphone beside a file may be plugged in again.
    let is_of_file = subject.is_media_file && fault.side == Side::Video;
    let same_file_again = if is_of_file { Retry::Never } else { Retry::Backoff };
    let (retry, words) = match fault.kind {
        FaultKind::NotFound => (
            same_file_again,
            format!("{what} was not found: {gst}; check `[{key}]` (`roamcast devices` lists what is plugged in)"),
        ),
        FaultKind::Open => (
            same_file_again,
            format!("{what} cannot be opened: {gst}; check `[{key}]` (`roamcast devices` lists what is plugged in)"),
        ),
        FaultKind::Busy => (Retry::Backoff, format!("{what} is in use by another program: {gst}")),
        FaultKind::Denied => (
            Retry::Backoff,
            format!(
                "{what} may not be opened: {gst}; a device needs this user in the group `{key}`, a server its user name and password in the URI"
            ),
        ),
        FaultKind::Read => (Retry::Backoff, format!("{what} stopped delivering: {gst}")),
        FaultKind::NotMedia => (same_file_again, format!("{what} gives nothing that can be played: {gst}")),
        FaultKind::MissingPlugin => {
            let missing = fault.missing.as_deref().unwrap_or(gst);
            (
                Retry::Never,
                format!(
                    "{what} needs a plugin that is not installed: {missing}; the Debian package `gstreamer1.0-libav` brings most decoders"
                ),
            )
        }
        FaultKind::Other => (Retry::Backoff, format!("{what} failed in `{}`: {gst}", fault.element)),
    };
    let code = if retry == Retry::Never { ErrorCode::BadConfig } else { ErrorCode::CaptureLost };
    Failure::new(Phase::Capture, retry, code, words)
}

/// What to do about a source that sends something else.
fn advice(subject: &Subject) -> String {
    match subject.passes_on {
        Some(codec) => format!(
            "this pipeline passes on nothing but {codec}: set the camera to {codec}, or take a pipeline that decodes and \
             encodes anew (for an IP camera `video.pipeline = \"rtsp\"`)"
        ),
        None => "set the camera to send its picture, too, or name the address of its picture".to_owned(),
    }
}

/// The failure of a source that ended though it should not.
#[must_use]
pub fn ended_early(subject: &Subject) -> Failure {
    let words = format!("video source {} ended the stream", subject.video);
    Failure::new(Phase::Capture, Retry::Backoff, ErrorCode::CaptureLost, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: FaultKind, side: Side, is_media_file: bool) -> Failure {
        let words = "It broke.".into();
        let fault = Fault { kind, side, element: "v4l2src".into(), words, missing: None, sent_instead: None };
        failure(&fault, &subject(is_media_file))
    }

    fn subject(is_media_file: bool) -> Subject {
        Subject {
            video: "`v4l2` (`/dev/video0`)".into(),
            audio: "`pulse`".into(),
            is_media_file,
            passes_on: Some("H.264"),
        }
    }

    #[test]
    fn a_camera_of_another_codec_is_told_by_its_name_with_what_to_do() {
        let fault = |sent: &str| Fault {
            kind: FaultKind::Other,
            side: Side::Video,
            element: "rtspsrc".into(),
            words: "Internal data stream error.".into(),
            missing: None,
            sent_instead: Some(sent.into()),
        };
        let told = failure(&fault("H.265"), &subject(false));
        assert_eq!((told.retry, told.code), (Retry::Backoff, ErrorCode::CaptureLost));
        assert_eq!(
            told.words,
            "video source `v4l2` (`/dev/video0`) sends H.265; this pipeline passes on nothing but H.264: set the camera to \
             H.264, or take a pipeline that decodes and encodes anew (for an IP camera `video.pipeline = \"rtsp\"`)"
        );
        let decoded = Subject { passes_on: None, ..subject(false) };
        let told = failure(&fault("sound alone, no picture"), &decoded);
        assert!(told.words.contains("sends sound alone, no picture; set the camera"), "{told}");
    }

    #[test]
    fn each_kind_of_fault_is_one_sentence_that_names_the_source() {
        use FaultKind::{Busy, Denied, MissingPlugin, NotFound, NotMedia, Open, Other, Read};
        for kind in [NotFound, Busy, Denied, Open, Read, NotMedia, MissingPlugin, Other] {
            let failure = told(kind, Side::Video, false);
            assert!(failure.words.starts_with("video source `v4l2` (`/dev/video0`) "), "{failure}");
            assert!(failure.words.contains("It broke"), "{failure}");
            let is_hopeless = failure.retry == Retry::Never;
            assert_eq!(failure.code, if is_hopeless { ErrorCode::BadConfig } else { ErrorCode::CaptureLost });
            assert!(told(kind, Side::Audio, false).words.starts_with("audio source `pulse` "));
        }
    }

    #[test]
    fn a_camera_may_come_back_but_a_bad_file_stays_bad() {
        assert_eq!(told(FaultKind::NotFound, Side::Video, false).retry, Retry::Backoff);
        assert_eq!(told(FaultKind::NotFound, Side::Video, true).retry, Retry::Never);
        let bad_file = told(FaultKind::NotMedia, Side::Video, true);
        assert_eq!((bad_file.retry, bad_file.code), (Retry::Never, ErrorCode::BadConfig));
        assert_eq!(told(FaultKind::NotFound, Side::Audio, true).retry, Retry::Backoff, "a microphone beside a file");
        assert_eq!(told(FaultKind::MissingPlugin, Side::Video, false).retry, Retry::Never);
    }

    #[test]
    fn a_broken_encoder_is_not_a_lost_camera() {
        let failure = told(FaultKind::Other, Side::Encoder, false);
        assert_eq!((failure.code, failure.retry), (ErrorCode::EncoderFailed, Retry::Backoff));
        assert_eq!(failure.words, "encoder `v4l2src` failed: It broke");
    }
}
