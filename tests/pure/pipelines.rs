//! Every pipeline file keeps the contract of pipelines/README.md.

use std::fs;
use std::path::Path;

use roamcast::media::pipeline::library::BUILT_IN;
use roamcast::media::pipeline::template::{LaunchFile, Part};
use roamcast::status::Source;

const PARTS: [Part; 3] = [Part::Video, Part::Audio, Part::Encoder];

fn files() -> Vec<(Part, String, String)> {
    let mut files = Vec::new();
    for part in PARTS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(part.folder());
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(path.extension().unwrap(), "launch", "{}: a stranger in the folder", path.display());
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            files.push((part, name, fs::read_to_string(path).unwrap()));
        }
    }
    files
}

#[test]
fn every_file_is_built_into_the_program() {
    let files = files();
    for (part, name, text) in &files {
        let built_in = BUILT_IN.iter().find(|(p, n, _)| p == part && n == name);
        let (_, _, built_in) = built_in.unwrap_or_else(|| panic!("{part:?} `{name}` is missing in library.rs"));
        assert_eq!(built_in, text);
    }
    assert_eq!(files.len(), BUILT_IN.len());
}

#[test]
fn every_file_has_the_elements_and_lines_of_the_contract() {
    for (part, name, text) in files() {
        let file = LaunchFile::parse(part, &name, &text).unwrap_or_else(|complaint| panic!("{complaint}"));
        let codec = file.codec().unwrap_or_else(|complaint| panic!("{complaint}"));
        if part == Part::Encoder {
            assert!(codec.is_some(), "{name}: no `# codec:` line");
            assert!(file.rank().is_some(), "{name}: no `# rank:` line");
            file.bitrate_control().unwrap_or_else(|complaint| panic!("{complaint}"));
        }
        assert!(text.starts_with("# "), "{name}: the first line says in words what it is");
    }
}

#[test]
fn people_are_told_of_the_right_kind_of_source() {
    for (_, name, text) in files().into_iter().filter(|(part, _, _)| *part == Part::Video) {
        let source = match name.as_str() {
            "file" => Source::File,
            "screen" => Source::Screen,
            "test" => Source::TestPicture,
            _ => Source::Camera,
        };
        assert_eq!(LaunchFile::parse(Part::Video, &name, &text).map(|file| file.source()), Ok(source), "{name}");
    }
}

#[test]
fn every_file_is_named_in_the_readme() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/README.md")).unwrap();
    for (_, name, _) in files() {
        assert!(readme.contains(&format!("`{name}`")), "pipelines/README.md does not name `{name}`");
    }
}
