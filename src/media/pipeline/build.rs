//! Config -> checked plan -> GStreamer pipeline. All that can be said before a device is opened is said here.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use gst::prelude::*;
use url::Url;

use super::library::Library;
use super::packages::how_to_get;
use super::probe::rehearse;
use super::template::{self, Complaint, LaunchFile, Part, Plan, VIDEO_ENCODER, Values, codec_name};
use crate::config::{Config, Video};
use crate::status::{ErrorCode, Source};
use crate::supervisor::event::{Failure, Phase, Retry};

/// The major number of `/dev/video*` (Documentation/admin-guide/devices.txt).
const VIDEO4LINUX_MAJOR: u64 = 81;

/// All complaints about pipelines, plugins, devices and media file of this config; empty when the studio can start.
/// Opens no camera or microphone, but plays a media file up to its first picture; `encoder = "auto"` opens encoders.
/// `gst::init` must have been called.
#[must_use]
pub fn check(config: &Config) -> Vec<String> {
    let library = &Library::of_this_machine();
    let mut complaints = Vec::new();
    let mut keep = |result: Result<(), Complaint>| complaints.extend(result.err().map(|complaint| complaint.0));
    let video = library.load(Part::Video, &config.video.pipeline);
    let audio = config.audio.as_ref().map(|audio| library.load(Part::Audio, &audio.pipeline));
    let encoder = video.as_ref().map_or(Ok(None), |video| encoder_for(config, library, video));
    let mut file = None;
    if let Ok(video) = &video {
        let is_there = source_is_there(config, video);
        file = file_at_hand(config, video).ok().flatten().filter(|_| is_there.is_ok());
        keep(is_there);
    }
    match (video, encoder, audio.transpose()) {
        (Ok(video), Ok(encoder), Ok(audio)) => {
            keep(plan(config, &video, encoder.as_ref(), audio.as_ref()).and_then(|plan| {
                pipeline(&plan.launch)?;
                if file.is_some() {
                    rehearse(config, plan.audio_from_file).map_err(Complaint)?;
                }
                Ok(())
            }))
        }
        (video, encoder, audio) => {
            keep(video.map(drop));
            keep(encoder.map(drop));
            keep(audio.map(drop));
        }
    }
    // The address may be at fault twice: as a file to look at, and as a value of the pipeline.
    complaints.dedup();
    complaints
}

/// What brings the pictures.
#[must_use]
pub fn source(config: &Config) -> Source {
    // What cannot be loaded is complained about when it is started.
    Library::of_this_machine()
        .load(Part::Video, &config.video.pipeline)
        .map_or_else(|_| Source::default(), |f| f.source())
}

/// The plan and its pipeline, still in NULL.
pub(in crate::media) fn build(config: &Config, library: &Library) -> Result<(Plan, gst::Pipeline), Failure> {
    let hopeless = |code| move |complaint: Complaint| Failure::new(Phase::Capture, Retry::Never, code, complaint.0);
    let video = library.load(Part::Video, &config.video.pipeline).map_err(hopeless(ErrorCode::BadConfig))?;
    let audio = config.audio.as_ref().map(|audio| library.load(Part::Audio, &audio.pipeline)).transpose();
    let audio = audio.map_err(hopeless(ErrorCode::BadConfig))?;
    let encoder = encoder_for(config, library, &video).map_err(hopeless(ErrorCode::EncoderFailed))?;
    // A camera may be plugged in again; a file that is not there stays away.
    let (retry, code) = if video.is_media_file() {
        (Retry::Never, ErrorCode::BadConfig)
    } else {
        (Retry::Backoff, ErrorCode::CaptureLost)
    };
    source_is_there(config, &video).map_err(|complaint| Failure::new(Phase::Capture, retry, code, complaint.0))?;
    let plan = plan(config, &video, encoder.as_ref(), audio.as_ref()).map_err(hopeless(ErrorCode::BadConfig))?;
    let pipeline = pipeline(&plan.launch).map_err(hopeless(ErrorCode::BadConfig))?;
    Ok((plan, pipeline))
}

fn plan(
    config: &Config,
    video: &LaunchFile,
    encoder: Option<&LaunchFile>,
    audio: Option<&LaunchFile>,
) -> Result<Plan, Complaint> {
    template::assemble(config, uri(config)?.as_deref(), video, encoder, audio)
}

/// `video.uri` as GStreamer wants it: a path becomes a `file://` URI.
fn uri(config: &Config) -> Result<Option<String>, Complaint> {
    let Some(text) = config.video.uri.as_deref() else { return Ok(None) };
    let Some(path) = media_path(text)? else { return Ok(Some(text.to_owned())) };
    let uri = std::path::absolute(&path).ok().and_then(|path| Url::from_file_path(path).ok());
    uri.map(|uri| Some(uri.into()))
        .ok_or_else(|| Complaint("`video.uri` is empty: it needs a path or a URI".to_owned()))
}

/// The path, if the text is one, or the `file:` URI of one (RFC 8089: percent-encoded, of this machine); else `None`.
fn media_path(text: &str) -> Result<Option<PathBuf>, Complaint> {
    match text.split_once(':') {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("file") => {
            let path = Url::parse(text).ok().and_then(|uri| uri.to_file_path().ok());
            path.map(Some).ok_or_else(|| {
                Complaint(format!("`video.uri`: `{text}` names no file of this machine: write `file:///folder/file`"))
            })
        }
        Some((_, rest)) if rest.starts_with("//") => Ok(None),
        Some(_) | None => Ok(Some(PathBuf::from(text))),
    }
}

/// The media file, when it is one on this machine.
fn file_at_hand(config: &Config, video: &LaunchFile) -> Result<Option<PathBuf>, Complaint> {
    match config.video.uri.as_deref() {
        Some(uri) if video.is_media_file() => media_path(uri),
        Some(_) | None => Ok(None),
    }
}

/// Looks at the media file or the device node, without opening the device.
fn source_is_there(config: &Config, video: &LaunchFile) -> Result<(), Complaint> {
    let complain = |words: String| Err(Complaint(words));
    if let Some(path) = file_at_hand(config, video)? {
        let shown = path.display();
        return match File::open(&path).and_then(|file| file.metadata()) {
            Err(error) => complain(format!("`video.uri`: media file `{shown}` cannot be read: {error}")),
            Ok(metadata) if metadata.is_dir() => {
                complain(format!("`video.uri`: `{shown}` is a folder, not a media file"))
            }
            Ok(metadata) if metadata.len() == 0 => complain(format!("`video.uri`: media file `{shown}` is empty")),
            Ok(_) => Ok(()),
        };
    }
    if video.header("device") == Some("v4l2")
        && let Some(device) = &config.video.device
    {
        const ADVICE: &str = "`roamcast devices` lists the cameras";
        return match fs::metadata(device) {
            Err(error) => complain(format!("`video.device`: camera `{device}` is not there: {error}; {ADVICE}")),
            Ok(node) if !node.file_type().is_char_device() || (node.rdev() >> 8) & 0xfff != VIDEO4LINUX_MAJOR => {
                complain(format!("`video.device`: `{device}` is not a video device; {ADVICE}"))
            }
            Ok(_) => Ok(()),
        };
    }
    Ok(())
}

/// The encoder file that the config names or `auto` finds; `None` for a source that is encoded already.
fn encoder_for(config: &Config, library: &Library, video: &LaunchFile) -> Result<Option<LaunchFile>, Complaint> {
    if video.codec()?.is_some() {
        return Ok(None);
    }
    if let Some(name) = &config.video.encoder {
        return library.load(Part::Encoder, name).map(Some);
    }
    let codec = config.video.codec;
    let mut files: Vec<LaunchFile> =
        library.names(Part::Encoder).iter().filter_map(|name| library.load(Part::Encoder, name).ok()).collect();
    files.retain(|file| file.codec() == Ok(Some(codec)) && file.rank().is_some());
    files.sort_by_key(|file| std::cmp::Reverse(file.rank()));
    let mut why_not = Vec::new();
    for file in files {
        match try_encoder(&config.video, &file) {
            Ok(()) => return Ok(Some(file)),
            Err(complaint) => why_not.push(format!("`{}`: {complaint}", file.name())),
        }
    }
    Err(Complaint(format!("no encoder for {} works on this machine ({})", codec_name(codec), why_not.join("; "))))
}

/// Opens the encoder as far as READY: that is where hardware encoders find out whether their hardware is there.
///
/// # Errors
/// Why it does not work here.
pub(in crate::media) fn try_encoder(video: &Video, file: &LaunchFile) -> Result<(), Complaint> {
    let pipeline = pipeline(&format!("{} ! fakesink", file.fill(&Values::new(video, None, None))?))?;
    let opened = pipeline.by_name(VIDEO_ENCODER).is_some_and(|encoder| {
        let opened = encoder.set_state(gst::State::Ready).is_ok();
        let _always_closes_from_ready = encoder.set_state(gst::State::Null);
        opened
    });
    if opened { Ok(()) } else { Err(Complaint("it is installed, but its hardware cannot be opened".to_owned())) }
}

/// Launch text -> pipeline, or the sentence that says which element is missing.
fn pipeline(launch: &str) -> Result<gst::Pipeline, Complaint> {
    let mut context = gst::ParseContext::new();
    let parsed = gst::parse::launch_full(launch, Some(&mut context), gst::ParseFlags::FATAL_ERRORS);
    let missing = context.missing_elements();
    match parsed {
        Err(error) if error.matches(gst::ParseError::NoSuchElement) && !missing.is_empty() => {
            let advice: Vec<_> =
                missing.iter().map(|name| format!("element `{name}` is missing: {}", how_to_get(name))).collect();
            Err(Complaint(advice.join("; ")))
        }
        Err(error) => Err(Complaint(format!("the pipeline text is not understood: {}", error.message()))),
        Ok(element) => {
            // A text of a single element comes back bare.
            element.downcast::<gst::Pipeline>().or_else(|element| {
                let pipeline = gst::Pipeline::new();
                pipeline.add(&element).map(|()| pipeline).map_err(|error| Complaint(error.to_string()))
            })
        }
    }
}
