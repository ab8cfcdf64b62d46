//! README.md says nothing that the program does not do: its commands, keys, codes, words and links are held against the
//! types and the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use roamcast::cli::Cli;
use roamcast::config;
use roamcast::status::{Broadcast, Message, StopReason};
use serde_json::Value;

use crate::page::{Page, no_complaints, root};

fn readme() -> Page {
    Page::read("README.md")
}

/// Every `roamcast COMMAND ...` in it, up to where the shell takes over.
fn commands() -> Vec<String> {
    let page = readme();
    let lines = page.block_lines("sh").into_iter().chain(page.spans()).filter(|line| line.starts_with("roamcast "));
    lines
        .map(|line| {
            line.split([' ', '\t'])
                .take_while(|word| !matches!(*word, "|" | ">" | "#" | "&"))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

#[test]
fn every_command_is_one_that_the_program_takes() {
    let commands = commands();
    for command in ["run", "demo", "ingest", "check", "devices", "completions", "man"] {
        assert!(
            commands.iter().any(|line| line.split(' ').nth(1) == Some(command)),
            "README shows no `roamcast {command}`"
        );
    }
    let wrong =
        |line: &String| Cli::try_parse_from(line.split_whitespace()).err().map(|error| format!("`{line}`: {error}"));
    no_complaints(&commands.iter().filter_map(wrong).collect::<Vec<_>>());
}

#[test]
fn every_flag_is_one_that_some_command_has() {
    let cli = Cli::command();
    let known: BTreeSet<String> = cli
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .filter_map(clap::Arg::get_long)
        .map(|long| format!("--{long}"))
        .collect();
    let shown: Vec<String> = readme()
        .spans()
        .iter()
        .filter_map(|span| span.split(' ').next())
        .filter(|word| word.starts_with("--"))
        .map(str::to_owned)
        .collect();
    assert!(!shown.is_empty(), "README shows no flag");
    no_complaints(&shown.into_iter().filter(|flag| !known.contains(flag)).collect::<Vec<_>>());
}

#[test]
fn every_config_is_accepted_as_it_stands() {
    let configs = readme().blocks("toml");
    assert!(configs.len() >= 4, "{configs:?}");
    for text in configs {
        if let Err(complaints) = config::load(&text, "README.md", std::iter::empty()) {
            panic!("{text}\n{complaints}");
        }
    }
}

#[test]
fn every_key_and_variable_named_exists() {
    let schema = config::schema();
    let sections = schema["properties"].as_object().expect("sections");
    let mut complaints = Vec::new();
    let mut seen = 0;
    for span in readme().spans() {
        let name = span.split(' ').next().unwrap_or_default();
        let Some((section, key)) = name.split_once('.') else { continue };
        let Some(keys) = sections.get(section) else { continue };
        seen += 1;
        if keys["properties"].get(key).is_none() {
            complaints.push(format!("`{name}` is no key of the config"));
        }
    }
    assert!(seen > 10, "only {seen} keys");
    for span in readme().spans().iter().filter(|span| span.starts_with("ROAMCAST__") && !span.contains("SECTION")) {
        let (name, value) = span.split_once('=').unwrap_or((span, "1"));
        let variable = (name.to_owned(), value.to_owned());
        if let Err(wrong) = config::load("", "", [variable].into_iter()) {
            complaints.push(format!("`{span}`: {wrong}"));
        }
    }
    no_complaints(&complaints);
}

#[test]
fn the_table_of_statuses_is_complete() {
    use Message::{Broadcasting, Connected, Reconnecting, ReconnectingBroadcast, Signalling};
    let all = [Signalling, Connected, Broadcasting, ReconnectingBroadcast, Reconnecting];
    let all: BTreeSet<String> =
        all.iter().map(|message| serde_json::to_value(message).unwrap().as_str().unwrap().to_owned()).collect();
    let shown: BTreeSet<String> =
        readme().table("`data.message`").iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(shown, all);
}

#[test]
fn every_event_shown_has_the_shape_of_today() {
    let lines = readme().block_lines("json");
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.len() >= 3, "{lines:?}");
    for line in lines.iter().filter(|line| line["event"] == "BroadcastStatus") {
        let broadcast: Broadcast = serde_json::from_value(line["data"].clone()).expect("a BroadcastStatus");
        // A key that is gone, or new, shows here.
        assert_eq!(serde_json::to_value(broadcast).unwrap(), line["data"]);
    }
}

#[test]
fn the_exit_codes_are_those_of_the_program() {
    use StopReason::{BadConfig, EndOfMedia, Internal, ReconnectionExhausted, Refused, Requested};
    let shown: BTreeSet<u8> = readme().table("exit code").iter().map(|row| row[0].parse().expect("a number")).collect();
    let help = Cli::command().get_after_help().expect("the help ends with the exit codes").to_string();
    let helped = help.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok());
    assert_eq!(shown, helped.collect(), "README and `roamcast --help`");
    let reasons = [BadConfig, EndOfMedia, Internal, ReconnectionExhausted, Refused, Requested];
    const USAGE: u8 = 64;
    assert_eq!(
        shown,
        reasons.iter().map(|reason| reason.exit_code()).chain([USAGE]).collect(),
        "README and StopReason"
    );
}

/// All that may print words, with Rust's line continuations joined.
fn sources() -> String {
    fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
        for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() { walk(&path, into) } else { into.push(path) }
        }
    }
    let mut paths = vec![root().join("Makefile"), root().join("scripts/packages")];
    walk(&root().join("src"), &mut paths);
    let text: String = paths.iter().map(|path| fs::read_to_string(path).expect("text")).collect();
    let mut pieces = text.split("\\\n");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |joined, piece| joined + piece.trim_start())
}

#[test]
fn the_program_says_the_words_that_troubleshooting_explains() {
    let sources = sources();
    let rows = readme().table("it says");
    assert!(rows.len() > 20, "{} rows", rows.len());
    let mut complaints = Vec::new();
    for row in &rows {
        let words = row[0].trim_matches('`');
        for piece in words.split('…').map(|piece| piece.trim_matches([' ', ';', ':'])).filter(|piece| piece.len() > 1)
        {
            if !sources.contains(piece) {
                complaints.push(format!("nothing says `{piece}`"));
            }
        }
    }
    no_complaints(&complaints);
}

#[test]
fn every_link_leads_to_a_file() {
    let page = readme();
    let links = page.links();
    assert!(links.len() > 5, "{links:?}");
    let dead = links.into_iter().filter(|link| !link.contains("://") && !root().join(link).exists());
    no_complaints(&dead.map(str::to_owned).collect::<Vec<_>>());
}
