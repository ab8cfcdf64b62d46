//! Pure: pipelines/*.launch + [`Config`] -> launch line, or one clear complaint. The contract is pipelines/README.md.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::placeholder::{Placeholder, escape};
use crate::config::{Audio, Config, Video, VideoCodec, nearest};
use crate::status::Source;

/// What is wrong with a pipeline, as one sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint(pub String);

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The three folders of pipeline files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Where pictures come from.
    Video,
    /// Where sound comes from.
    Audio,
    /// What makes H.264, VP8 or VP9 of raw pictures.
    Encoder,
}

impl Part {
    /// Name of the folder below `pipelines/`.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Encoder => "encoder",
        }
    }

    /// The config key that names a file of this folder.
    #[must_use]
    pub const fn config_key(self) -> &'static str {
        match self {
            Self::Video => "video.pipeline",
            Self::Audio => "audio.pipeline",
            Self::Encoder => "video.encoder",
        }
    }

    /// Name of the element that the text must hold.
    #[must_use]
    pub const fn contract_element(self) -> &'static str {
        match self {
            Self::Video => VIDEO_SOURCE,
            Self::Audio => AUDIO_SOURCE,
            Self::Encoder => VIDEO_ENCODER,
        }
    }
}

/// Contract name: the element that brings the pictures.
pub const VIDEO_SOURCE: &str = "video_source";
/// Contract name: the element that brings the sound.
pub const AUDIO_SOURCE: &str = "audio_source";
/// Contract name: the video encoder.
pub const VIDEO_ENCODER: &str = "video_encoder";
/// Contract name: the Opus encoder (ours, not in a file).
pub const AUDIO_ENCODER: &str = "audio_encoder";
/// Contract name: the appsink of encoded pictures (ours, not in a file).
pub const VIDEO_OUT: &str = "video_out";
/// Contract name: the appsink of encoded sound (ours, not in a file).
pub const AUDIO_OUT: &str = "audio_out";
/// Contract name: the element at which raw pictures enter our part of the pipeline (ours, not in a file).
pub const RAW_VIDEO: &str = "raw_video";
/// Contract name: the demuxing element of a `# kind: file` pipeline.
pub const FILE: &str = "file";

/// A pipeline file, split into what machines read (`# key: value`) and the launch text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchFile {
    part: Part,
    name: String,
    header: BTreeMap<String, String>,
    /// The text, comment lines blanked, so that line numbers stay true.
    pub(in crate::media) body: String,
}

impl LaunchFile {
    /// Splits the text. `name` is what the config calls it: a bare name or a path.
    ///
    /// # Errors
    /// When an element of the contract is missing.
    pub fn parse(part: Part, name: &str, text: &str) -> Result<Self, Complaint> {
        let mut header = BTreeMap::new();
        let mut body = String::new();
        for line in text.lines() {
            if let Some(comment) = line.trim_start().strip_prefix('#') {
                if let Some((key, value)) = comment.split_once(": ") {
                    header.entry(key.trim().to_owned()).or_insert_with(|| value.trim().to_owned());
                }
            } else {
                body.push_str(line);
            }
            body.push('\n');
        }
        let file = Self { part, name: name.to_owned(), header, body };
        for element in [Some(part.contract_element()), file.is_media_file().then_some(FILE)].into_iter().flatten() {
            if !file.body.split_whitespace().any(|token| token.strip_prefix("name=") == Some(element)) {
                return Err(file.complaint(format_args!("has no element `name={element}`, by which roamcast finds it")));
            }
        }
        Ok(file)
    }

    /// The value of a `# key: value` line.
    #[must_use]
    pub fn header(&self, key: &str) -> Option<&str> {
        self.header.get(key).map(String::as_str)
    }

    /// What the config calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `# kind: file`: it is paced, can be repeated, and its end is an end, not a fault.
    #[must_use]
    pub fn is_media_file(&self) -> bool {
        self.source() == Source::File
    }

    /// What it is called in front of people: `# kind: file`, `screen` or `test`; else a camera.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::of_kind(self.header("kind"))
    }

    /// `# rank: 0..`: the highest usable encoder is what `auto` takes; without a rank it is never taken by `auto`.
    #[must_use]
    pub fn rank(&self) -> Option<u32> {
        self.header("rank")?.parse().ok()
    }

    /// `# codec:` of an encoder, `# gives:` of a source that is encoded already; `None`: raw, or not said.
    ///
    /// # Errors
    /// When it is a word that no codec has.
    pub fn codec(&self) -> Result<Option<VideoCodec>, Complaint> {
        let key = if self.part == Part::Encoder { "codec" } else { "gives" };
        match self.header(key) {
            None | Some("raw") => Ok(None),
            Some("h264") => Ok(Some(VideoCodec::H264)),
            Some("vp8") => Ok(Some(VideoCodec::Vp8)),
            Some("vp9") => Ok(Some(VideoCodec::Vp9)),
            Some(other) => {
                Err(self.complaint(format_args!("says `# {key}: {other}`; known are `h264`, `vp8` and `vp9`")))
            }
        }
    }

    /// How a new bitrate is told to the encoder of this file.
    ///
    /// # Errors
    /// When the `# bitrate:` line is missing or malformed.
    pub fn bitrate_control(&self) -> Result<BitrateControl, Complaint> {
        let line = self.header("bitrate").unwrap_or_default();
        let (target, bits_per_unit) = match line.split_once(' ') {
            Some((target, "bps")) => (target, 1),
            Some((target, "kbps")) => (target, 1000),
            Some(_) | None => {
                return Err(self.complaint(format_args!(
                    "needs a line `# bitrate: PROPERTY bps` or `# bitrate: PROPERTY kbps`, by which the bitrate is set"
                )));
            }
        };
        let (property, field) = match target.split_once('.') {
            Some((property, field)) => (property, Some(field.to_owned())),
            None => (target, None),
        };
        Ok(BitrateControl { property: property.to_owned(), field, bits_per_unit })
    }

    /// The launch text with every placeholder replaced by its escaped value.
    ///
    /// # Errors
    /// An unknown placeholder, a value that is missing from the config, or one that cannot be escaped.
    pub fn fill(&self, values: &Values) -> Result<String, Complaint> {
        let mut filled = String::new();
        let mut in_quotes = false;
        let mut rest = self.body.as_str();
        while let Some(at) = rest.find(['{', '"']) {
            let (before, tail) = rest.split_at(at);
            filled.push_str(before);
            if let Some(tail) = tail.strip_prefix('"') {
                in_quotes = !in_quotes;
                filled.push('"');
                rest = tail;
                continue;
            }
            let placeholder =
                tail.split_once('}').and_then(|(inner, after)| Some((Placeholder::parse(&inner[1..])?, after)));
            let Some((placeholder, after)) = placeholder else {
                // A list of GStreamer's own, such as `format={I420,NV12}`.
                filled.push('{');
                rest = &tail[1..];
                continue;
            };
            let line = self.body[..self.body.len() - tail.len()].matches('\n').count() + 1;
            self.put(&mut filled, &placeholder, values, line, in_quotes)?;
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled.trim().to_owned())
    }

    fn put(
        &self,
        filled: &mut String,
        placeholder: &Placeholder<'_>,
        values: &Values,
        line: usize,
        in_quotes: bool,
    ) -> Result<(), Complaint> {
        let name = placeholder.name;
        let Some(value) = values.get(self.part, name) else {
            let known: Vec<_> = values.names(self.part).collect();
            return Err(self.complaint(format_args!(
                "line {line}: unknown placeholder `{{{name}}}`{}; known here: `{}`",
                did_you_mean(name, known.iter().copied()),
                known.join("`, `")
            )));
        };
        let text = match (value, placeholder.property) {
            (Value::Number(number), _) => number.to_string(),
            (Value::Text(_), _) if in_quotes => {
                return Err(self.complaint(format_args!(
                    "line {line}: `{{{name}}}` must not stand in quotes; roamcast quotes its value itself"
                )));
            }
            (Value::Text(text), _) => escape(text).ok_or_else(|| {
                Complaint(format!(
                    "`{}.{name}` holds a control character or ends in a backslash, which no pipeline text can carry",
                    self.part.folder()
                ))
            })?,
            (Value::Unset, Some(_)) => return Ok(()),
            (Value::Unset, None) => {
                let example =
                    self.header("example").map(|example| format!(", for example `{example}`")).unwrap_or_default();
                return Err(Complaint(format!(
                    "`{}.{name}` is missing: the {} pipeline `{}` needs it{example}",
                    self.part.folder(),
                    self.part.folder(),
                    self.name
                )));
            }
        };
        if let Some(property) = placeholder.property {
            filled.push_str(property);
            filled.push('=');
        }
        filled.push_str(&text);
        Ok(())
    }

    fn complaint(&self, words: fmt::Arguments<'_>) -> Complaint {
        let folder = if self.name.contains('/') { String::new() } else { format!("{}/", self.part.folder()) };
        Complaint(format!("pipeline file `{folder}{}`: {words}", self.name))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(u64),
    Text(String),
    Unset,
}

impl Value {
    fn text(text: Option<&str>) -> Self {
        text.map_or(Self::Unset, |text| Self::Text(text.to_owned()))
    }
}

/// What placeholders stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    values: BTreeMap<(Part, &'static str), Value>,
}

impl Values {
    /// The values of `[video]` and `[audio]`. `uri` is `video.uri` as GStreamer wants it: a path made into a `file://` URI.
    #[must_use]
    pub fn new(video: &Video, audio: Option<&Audio>, uri: Option<&str>) -> Self {
        let Video { width, height, framerate, bitrate, .. } = video;
        let mut values = BTreeMap::from([
            ((Part::Video, "device"), Value::text(video.device.as_deref())),
            ((Part::Video, "uri"), Value::text(uri)),
            ((Part::Encoder, "bitrate_bps"), Value::Number(bitrate.bps().into())),
            ((Part::Encoder, "bitrate_kbps"), Value::Number(bitrate.kbps().into())),
            ((Part::Encoder, "keyframe_frames"), Value::Number(keyframe_frames(video))),
        ]);
        for part in [Part::Video, Part::Encoder] {
            for (name, number) in [("width", width), ("height", height), ("framerate", framerate)] {
                values.insert((part, name), Value::Number((*number).into()));
            }
        }
        if let Some(audio) = audio {
            values.insert((Part::Audio, "device"), Value::text(audio.device.as_deref()));
            values.insert((Part::Audio, "channels"), Value::Number(audio.channels.into()));
        }
        Self { values }
    }

    fn get(&self, part: Part, name: &str) -> Option<&Value> {
        self.values.iter().find(|((p, n), _)| *p == part && *n == name).map(|(_, value)| value)
    }

    fn names(&self, part: Part) -> impl Iterator<Item = &'static str> {
        self.values.keys().filter(move |(p, _)| *p == part).map(|(_, name)| *name)
    }
}

/// `video.keyframeInterval` in frames, at least 1.
fn keyframe_frames(video: &Video) -> u64 {
    let frames = video.keyframe_interval.as_millis() * u128::from(video.framerate) / 1000;
    u64::try_from(frames).unwrap_or(u64::MAX).clamp(1, i32::MAX as u64)
}

/// The property of the encoder that holds its bitrate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BitrateControl {
    /// Name of the property.
    pub property: String,
    /// Field inside the property, when that is a GstStructure (V4L2's `extra-controls`).
    pub field: Option<String>,
    /// 1 or 1000.
    pub bits_per_unit: u32,
}

/// What the studio builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The whole pipeline, for `gst_parse_launch`.
    pub launch: String,
    /// `None` when the source is encoded already.
    pub bitrate: Option<BitrateControl>,
    /// The source is a media file.
    pub is_media_file: bool,
    /// The sound comes out of the same file.
    pub audio_from_file: bool,
    /// What the source must give when it is encoded already; `None`: raw pictures of any kind.
    pub passes_on: Option<VideoCodec>,
}

/// Joins the parts into one launch line. `encoder` is not looked at when the source is encoded already.
///
/// # Errors
/// Any complaint about the files or the config values that they ask for.
pub fn assemble(
    config: &Config,
    uri: Option<&str>,
    video: &LaunchFile,
    encoder: Option<&LaunchFile>,
    audio: Option<&LaunchFile>,
) -> Result<Plan, Complaint> {
    let values = Values::new(&config.video, config.audio.as_ref(), uri);
    let codec = config.video.codec;
    let mut launch = video.fill(&values)?;
    let mut bitrate = None;
    match (video.codec()?, encoder) {
        (Some(given), _) if given != codec => {
            return Err(video.complaint(format_args!(
                "gives {}, but `video.codec` is {}",
                codec_name(given),
                codec_name(codec)
            )));
        }
        (Some(_), _) => write_passthrough(&mut launch, codec),
        (None, None) => return Err(Complaint(format!("no encoder for {} was chosen", codec_name(codec)))),
        (None, Some(encoder)) => {
            let made = encoder.codec()?;
            if made != Some(codec) {
                let made = made.map_or("nothing (no `# codec:` line)", codec_name);
                return Err(encoder.complaint(format_args!("makes {made}, but `video.codec` is {}", codec_name(codec))));
            }
            bitrate = Some(encoder.bitrate_control()?);
            write_encoded(&mut launch, &config.video, &encoder.fill(&values)?);
        }
    }
    let mut audio_from_file = false;
    if let (Some(settings), Some(audio)) = (&config.audio, audio) {
        audio_from_file = audio.header("with") == Some(FILE);
        if audio_from_file && !video.is_media_file() {
            return Err(Complaint(format!(
                "`audio.pipeline` = `{}` plays the sound of the file in `video.uri`, so `video.pipeline` must be `file`, not `{}`",
                audio.name, video.name
            )));
        }
        write_audio(&mut launch, settings, &audio.fill(&values)?);
    }
    Ok(Plan { launch, bitrate, is_media_file: video.is_media_file(), audio_from_file, passes_on: video.codec()? })
}

/// Raw pictures never queue up: two wait while one is encoded, then the oldest is dropped.
///
/// Interlaced pictures (SDI and HDMI grabbers, broadcast files) are made progressive: WebRTC knows no fields. The first
/// converter is there for pixel formats that `deinterlace` does not know; progressive pictures pass both untouched.
fn write_encoded(launch: &mut String, video: &Video, encoder: &str) {
    let Video { width, height, framerate, codec, .. } = video;
    let caps = match codec {
        VideoCodec::H264 => "video/x-h264,stream-format=byte-stream,alignment=au,profile=constrained-baseline",
        VideoCodec::Vp8 => "video/x-vp8",
        VideoCodec::Vp9 => "video/x-vp9,profile=(string)0",
    };
    // 25 interlaced frames a second hold 50 moments: all of them only for who wants more than 30 a second.
    let fields = if *framerate > 30 { "all" } else { "top" };
    let _infallible = write!(
        launch,
        "\n  ! videoconvert name={RAW_VIDEO} ! deinterlace mode=auto-strict fields={fields} ! videoconvertscale \
         ! video/x-raw,width={width},height={height},pixel-aspect-ratio=1/1,interlace-mode=progressive \
         ! queue max-size-buffers=2 max-size-bytes=0 max-size-time=0 leaky=downstream\n  ! {encoder}\n  ! {caps} \
         ! appsink name={VIDEO_OUT}"
    );
}

/// What the camera encoded goes out as it is, in the form that payloaders take.
fn write_passthrough(launch: &mut String, codec: VideoCodec) {
    let caps = match codec {
        VideoCodec::H264 => "video/x-h264,stream-format=byte-stream,alignment=au",
        VideoCodec::Vp8 => "video/x-vp8",
        VideoCodec::Vp9 => "video/x-vp9",
    };
    let _infallible = write!(launch, "\n  ! {caps} ! appsink name={VIDEO_OUT}");
}

/// 200 ms of raw sound may wait, then the oldest is dropped; in-band FEC carries speech over single lost packets.
fn write_audio(launch: &mut String, audio: &Audio, source: &str) {
    let Audio { bitrate, channels, .. } = audio;
    let _infallible = write!(
        launch,
        "\n{source}\n  ! audioconvert ! audioresample ! audio/x-raw,format=S16LE,rate=48000,channels={channels} \
         ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=200000000 leaky=downstream \
         ! opusenc name={AUDIO_ENCODER} bitrate={} bitrate-type=constrained-vbr inband-fec=true ! appsink name={AUDIO_OUT}",
        bitrate.bps()
    );
}

/// How people write the codec.
#[must_use]
pub const fn codec_name(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::H264 => "H.264",
        VideoCodec::Vp8 => "VP8",
        VideoCodec::Vp9 => "VP9",
    }
}

/// The complaint about a pipeline name that no file has.
#[must_use]
pub fn unknown_name(part: Part, name: &str, known: &[String]) -> Complaint {
    Complaint(format!(
        "`{}` = `{name}`: there is no such pipeline{}; there are `{}`, or give a path to a `.launch` file",
        part.config_key(),
        did_you_mean(name, known.iter().map(String::as_str)),
        known.join("`, `")
    ))
}

/// `; did you mean ...?` for the nearest of the known names, if one is near enough to be a slip.
fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::units::Bitrate;

    fn video() -> Video {
        Video {
            pipeline: "own".into(),
            device: None,
            uri: None,
            repeat: false,
            width: 1280,
            height: 720,
            framerate: 30,
            codec: VideoCodec::H264,
            encoder: None,
            bitrate: Bitrate::from_bps(2_500_999),
            keyframe_interval: Duration::from_millis(2_000),
        }
    }

    fn fill(part: Part, text: &str, video: &Video) -> Result<String, String> {
        let file = LaunchFile::parse(part, "own", &format!("{text} name={}", part.contract_element()));
        let file = file.map_err(|complaint| complaint.0)?;
        file.fill(&Values::new(video, None, None))
            .map(|launch| launch.replace(&format!(" name={}", part.contract_element()), ""))
            .map_err(|complaint| complaint.0)
    }

    #[test]
    fn placeholders_become_values() {
        let text =
            "enc b={bitrate_bps} k={bitrate_kbps} g={keyframe_frames} q=\"a={bitrate_bps};\" size={width}x{height}";
        assert_eq!(
            fill(Part::Encoder, text, &video()),
            Ok("enc b=2500999 k=2500 g=60 q=\"a=2500999;\" size=1280x720".into())
        );
    }

    #[test]
    fn an_optional_assignment_is_left_out_when_unset() {
        let mut video = video();
        assert_eq!(fill(Part::Video, "src {device=device?} a=1", &video), Ok("src  a=1".into()));
        video.device = Some("/dev/video0".into());
        assert_eq!(
            fill(Part::Video, "src {camera-name=device?} a=1", &video),
            Ok("src camera-name=/dev/video0 a=1".into())
        );
    }

    #[test]
    fn lists_of_gstreamer_are_left_alone() {
        let text = "src ! video/x-raw,format={I420,NV12},framerate={ 30/1, 25/1 },x={} {";
        assert_eq!(fill(Part::Video, text, &video()), Ok(text.into()));
    }

    #[test]
    fn comments_are_not_launch_text_but_count_as_lines() {
        let text = "# {nonsense}\n  # more: of it\nsrc {bogus}";
        assert_eq!(
            fill(Part::Video, text, &video()).unwrap_err(),
            "pipeline file `video/own`: line 3: unknown placeholder `{bogus}`; known here: `device`, `framerate`, \
             `height`, `uri`, `width`"
        );
    }

    #[test]
    fn a_missing_value_is_told_with_its_key_and_an_example() {
        let text = "# example: video.uri = \"rtsp://camera\"\nsrc location={uri}";
        assert_eq!(
            fill(Part::Video, text, &video()).unwrap_err(),
            "`video.uri` is missing: the video pipeline `own` needs it, for example `video.uri = \"rtsp://camera\"`"
        );
    }

    #[test]
    fn a_text_in_quotes_or_one_that_cannot_be_escaped_is_refused() {
        let mut video = video();
        video.device = Some("/dev/video0".into());
        assert!(fill(Part::Video, "src device=\"{device}\"", &video).unwrap_err().contains("must not stand in quotes"));
        video.device = Some("/dev/video0\n! fakesink".into());
        assert!(fill(Part::Video, "src device={device}", &video).unwrap_err().contains("control character"));
        video.device = Some("COM1\\".into());
        assert!(fill(Part::Video, "src device={device}", &video).unwrap_err().contains("ends in a backslash"));
    }

    #[test]
    fn a_bitrate_line_names_property_field_and_unit() {
        let control = |line: &str| {
            let text = format!("# bitrate: {line}\nenc name=video_encoder");
            LaunchFile::parse(Part::Encoder, "own", &text).unwrap().bitrate_control()
        };
        let plain = BitrateControl { property: "bitrate".into(), field: None, bits_per_unit: 1000 };
        assert_eq!(control("bitrate kbps"), Ok(plain));
        let field = BitrateControl { property: "extra-controls".into(), field: Some("rate".into()), bits_per_unit: 1 };
        assert_eq!(control("extra-controls.rate bps"), Ok(field));
        assert!(control("bitrate Mbps").is_err());
        assert!(control("").is_err());
    }

    #[test]
    fn the_nearest_name_is_offered_only_if_it_is_near() {
        let names = ["test".to_owned(), "v4l2".to_owned()];
        assert!(unknown_name(Part::Video, "v4l", &names).0.contains("did you mean `v4l2`?"));
        assert!(!unknown_name(Part::Video, "webcam", &names).0.contains("did you mean"));
    }
}
