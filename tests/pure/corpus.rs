//! Every file of `fuzz/corpus` through its parser: what the fuzzer once found stays found, and the corpus stays alive.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::parsers::{PARSERS, Parser};

/// Larger than anything that a parser of words from a server takes (256 KiB).
const HUGE_BYTES: usize = 300 * 1024;
/// A parser that needs more for one input, on a busy machine and unoptimised, would hold a broadcast up.
const SOON: Duration = Duration::from_secs(20);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name")).collect()
}

/// Runs it on a thread of its own: a parser that hangs must not hang the tests.
fn run(name: &'static str, parser: Parser, data: Vec<u8>, what: &str) {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        parser(&data);
        let _gave_up = tell.send(());
    });
    match told.recv_timeout(SOON) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("{name} hangs at {what}"),
        Ok(()) | Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
            assert!(thread.join().is_ok(), "{name} panics at {what}");
        }
    }
}

fn corpus() -> impl Iterator<Item = (&'static str, Parser, String, Vec<u8>)> {
    PARSERS.iter().flat_map(|(name, parser)| {
        let folder = root().join("corpus").join(name);
        let files = names(&folder);
        assert!(files.len() >= 3, "`fuzz/corpus/{name}` holds too little to begin with");
        files.into_iter().map(move |file| {
            let data = fs::read(folder.join(&file)).expect("a file of the corpus can be read");
            (*name, *parser, file, data)
        })
    })
}

#[test]
fn every_parser_has_its_target_and_its_corpus() {
    let parsers: BTreeSet<String> = PARSERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(parsers.len(), PARSERS.len());
    assert_eq!(names(&root().join("corpus")), parsers, "folders of fuzz/corpus");
    let files: BTreeSet<String> = parsers.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names(&root().join("fuzz_targets")), files, "files of fuzz/fuzz_targets");
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("fuzz/Cargo.toml");
    let bins = manifest.split("[[bin]]").skip(1).filter_map(|section| section.split('"').nth(1));
    assert_eq!(bins.map(str::to_owned).collect::<BTreeSet<_>>(), parsers, "targets of fuzz/Cargo.toml");
    for name in &parsers {
        let target = fs::read_to_string(root().join(format!("fuzz_targets/{name}.rs"))).expect("a target");
        assert!(target.contains(&format!("roamcast_fuzz::{name}(")), "{target}");
    }
}

/// A new `text.rs` of signalling must not be forgotten here.
#[test]
fn every_file_of_words_has_a_parser_here() {
    let signal = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/signal");
    let folders: Vec<_> =
        names(&signal).into_iter().filter(|name| signal.join(name).join("text.rs").exists()).collect();
    assert!(folders.len() > 3, "the text of three protocols and of the tokens: {folders:?}");
    for folder in folders {
        let name = format!("{folder}_text");
        assert!(PARSERS.iter().any(|(parser, _)| *parser == name), "src/signal/{folder}/text.rs has no fuzz target");
    }
}

#[test]
fn the_corpus_goes_through_its_parsers() {
    for (name, parser, file, data) in corpus() {
        run(name, parser, data, &file);
    }
}

#[test]
fn cut_off_doubled_and_huge_it_goes_through_as_well() {
    for (name, parser, file, data) in corpus().filter(|(.., data)| !data.is_empty()) {
        run(name, parser, data[..data.len() / 2].to_vec(), &format!("{file}, cut off"));
        run(name, parser, data.repeat(2), &format!("{file}, twice"));
    }
    for (name, parser) in PARSERS {
        let (.., first) = corpus().find(|(other, ..)| other == name).expect("it has files");
        let seed = if first.is_empty() { b"x".to_vec() } else { first };
        run(name, *parser, seed.repeat(HUGE_BYTES / seed.len() + 1), "something huge");
        for byte in [b'{', b'[', b'<', b'"', b'a', b'\n', 0xff] {
            run(name, *parser, vec![byte; HUGE_BYTES], &format!("nothing but {byte:#x}"));
        }
    }
}
