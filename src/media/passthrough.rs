//! What a source gives when it is not what its pipeline passes on.

use gst::prelude::*;

/// What the source sends in place of pictures in the codec `wanted` (as people write it); `None` when it does send them,
/// or when that cannot be told.
pub(super) fn sent_instead(source: &gst::Element, wanted: Option<&str>) -> Option<String> {
    let mut sent = Vec::new();
    for pad in source.src_pads() {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        if !caps.is_any() {
            sent.extend(caps.iter().filter_map(|format| Some((is_picture(format), codec_name(format)?))));
        }
    }
    let pictures = sent.iter().filter(|(is_picture, _)| *is_picture).map(|(_, name)| name.as_str());
    let mut pictures: Vec<&str> = pictures.collect();
    pictures.sort_unstable();
    pictures.dedup();
    match wanted {
        _ if sent.is_empty() => None,
        _ if pictures.is_empty() => Some("sound alone, no picture".to_owned()),
        Some(wanted) if !pictures.contains(&wanted) => Some(pictures.join(" or ")),
        Some(_) | None => None,
    }
}

fn is_picture(format: &gst::StructureRef) -> bool {
    match format.get::<&str>("media") {
        Ok(media) => media == "video",
        Err(_) => ["video/", "image/"].iter().any(|kind| format.name().starts_with(kind)),
    }
}

/// How people write the codec of this format; `None` for RTP that is no stream of media.
fn codec_name(format: &gst::StructureRef) -> Option<String> {
    let name = match format.name().as_str() {
        "application/x-rtp" => format.get::<&str>("encoding-name").ok()?,
        other => other,
    };
    // Encoding names of RTP (IANA, "RTP payload format media types"), and the media types of GStreamer.
    let known = match name {
        "H264" | "video/x-h264" => "H.264",
        "H265" | "video/x-h265" => "H.265",
        "H266" | "video/x-h266" => "H.266",
        "H263" | "H263-1998" | "H263-2000" | "video/x-h263" => "H.263",
        "VP8" | "video/x-vp8" => "VP8",
        "VP9" | "video/x-vp9" => "VP9",
        "AV1" | "video/x-av1" => "AV1",
        "JPEG" | "image/jpeg" => "MJPEG",
        "MP4V-ES" => "MPEG-4 Part 2",
        "MPV" => "MPEG-2",
        "MP2T" => "an MPEG transport stream",
        "video/mpeg" if format.get::<i32>("mpegversion") == Ok(4) => "MPEG-4 Part 2",
        "video/mpeg" => "MPEG-2",
        "video/x-raw" => "raw pictures",
        _ => "",
    };
    // A camera's own word, short and printable enough for a sentence.
    let plain = || name.chars().filter(char::is_ascii_graphic).take(32).collect();
    Some(if known.is_empty() { plain() } else { known.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(formats: &[&str]) -> gst::Element {
        gst::init().unwrap();
        let source = gst::Bin::new();
        for (number, format) in formats.iter().enumerate() {
            let caps: gst::Caps = format.parse().unwrap();
            let template = gst::PadTemplate::new("src_%u", gst::PadDirection::Src, gst::PadPresence::Sometimes, &caps);
            let pad = gst::GhostPad::builder_from_template(&template.unwrap()).name(format!("src_{number}")).build();
            source.add_pad(&pad).unwrap();
        }
        source.upcast()
    }

    #[test]
    fn what_a_source_sends_instead_is_named() {
        const AUDIO: &str = "application/x-rtp,media=audio,encoding-name=PCMA";
        let rtp = |name: &str| format!("application/x-rtp,media=video,encoding-name={name}");
        for (formats, instead) in [
            (vec![rtp("H265")], Some("H.265")),
            (vec![AUDIO.to_owned(), rtp("JPEG")], Some("MJPEG")),
            (vec![rtp("H265"), rtp("H264")], None),
            (vec![rtp("H265"), rtp("JPEG")], Some("H.265 or MJPEG")),
            (vec![rtp("X-VND-42")], Some("X-VND-42")),
            (vec![AUDIO.to_owned()], Some("sound alone, no picture")),
            (vec!["image/jpeg;video/x-raw".to_owned()], Some("MJPEG or raw pictures")),
            (vec!["video/mpeg,mpegversion=4;video/mpeg,mpegversion=2".to_owned()], Some("MPEG-2 or MPEG-4 Part 2")),
            (vec!["image/jpeg;video/x-h264".to_owned()], None),
            (vec!["ANY".to_owned()], None),
            (vec![], None),
        ] {
            let formats: Vec<&str> = formats.iter().map(String::as_str).collect();
            assert_eq!(sent_instead(&source(&formats), Some("H.264")).as_deref(), instead, "{formats:?}");
        }
        assert_eq!(sent_instead(&source(&["video/x-raw"]), None), None, "a pipeline that decodes takes anything");
    }
}
