//! What is known of the picture before its first frame: is it encoded here, and which level will the encoder declare?

use super::library::Library;
use super::template::{LaunchFile, Part};
use crate::config::Config;
use crate::media::tracks::Promise;

/// What the pipeline files of this config promise. Opens nothing: what `auto` will choose is not known yet, so each file
/// that it may take, and whose element is there, has a say.
#[must_use]
pub fn promise(config: &Config) -> Promise {
    let library = Library::of_this_machine();
    // What cannot be loaded is complained about when it is started.
    let video = library.load(Part::Video, &config.video.pipeline).ok();
    let is_passthrough = video.is_some_and(|file| file.codec().is_ok_and(|codec| codec.is_some()));
    if is_passthrough {
        return Promise { is_passthrough, level_idc: 0 };
    }
    let files: Vec<LaunchFile> = match &config.video.encoder {
        Some(name) => library.load(Part::Encoder, name).into_iter().collect(),
        None => {
            let files =
                library.names(Part::Encoder).into_iter().filter_map(|name| library.load(Part::Encoder, &name).ok());
            files.filter(|file| file.rank().is_some() && begins_with_an_element_of_ours(file)).collect()
        }
    };
    let codec = Ok(Some(config.video.codec));
    let pins = files.iter().filter(|file| file.codec() == codec).filter_map(pinned_level_idc);
    Promise { is_passthrough, level_idc: pins.max().unwrap_or(0) }
}

fn begins_with_an_element_of_ours(file: &LaunchFile) -> bool {
    file.body.split_whitespace().next().is_some_and(|name| gst::ElementFactory::find(name).is_some())
}

/// The level that the file pins: its `# level:` line, or `level=` in the caps or properties of its text.
fn pinned_level_idc(file: &LaunchFile) -> Option<u8> {
    let words = file.body.split(|c: char| c.is_whitespace() || matches!(c, ',' | '"' | ';'));
    let assigned = words.filter_map(|word| word.strip_prefix("level="));
    file.header("level").into_iter().chain(assigned).filter_map(level_idc).max()
}

/// `4`, `4.1`, `(string)4` or, as some encoders count, `40`.
fn level_idc(text: &str) -> Option<u8> {
    let text = text.trim_start_matches("(string)");
    let (whole, tenths) = text.split_once('.').unwrap_or((text, ""));
    let number: u8 = format!("{whole}{tenths}").parse().ok()?;
    let idc = if number < 10 { number * 10 } else { number };
    // From level 1 to level 6.2.
    (10..=62).contains(&idc).then_some(idc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_found_however_it_is_pinned() {
        let pinned = |text: &str| {
            let text = format!("{text}\nx264enc name=video_encoder");
            pinned_level_idc(&LaunchFile::parse(Part::Encoder, "own", &text).unwrap())
        };
        for (text, level) in [
            ("# level: 4", Some(40)),
            ("# level: 4.1", Some(41)),
            ("x ! video/x-h264,profile=constrained-baseline,level=(string)4 ! y", Some(40)),
            ("x ! video/x-h264,level=(string)5.1,profile=baseline ! y", Some(51)),
            ("x ! \"video/x-h264,level=3.1\" ! y", Some(31)),
            ("mpph264enc level=42 ! y", Some(42)),
            ("# level: 4\nx level=51 !", Some(51)),
            ("x noise-level=70 level=99 level= level=high level=1000 !", None),
            ("", None),
        ] {
            assert_eq!(pinned(text), level, "{text}");
        }
    }
}
