//! `roamcast check`: every complaint about a config.

use std::path::Path;

use super::args::Check;
use super::{Exit, load_config, print};
use crate::config::{Config, TokenSource};
use crate::media;

/// Prints the complaints; exit 0 when there is none, else 78.
#[must_use]
pub fn run(args: &Check) -> Exit {
    let config = match load_config(args.config.config.as_deref()) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let complaints = if args.offline { Vec::new() } else { extra_complaints(&config) };
    for complaint in &complaints {
        print::err(&format!("error: {complaint}"));
    }
    if !complaints.is_empty() {
        return Exit::CONFIG;
    }
    let _ = print::out(if args.offline { "the text of the config is good" } else { "the config is good" });
    Exit::SUCCESS
}

/// What only a look at this machine tells: one sentence each. The text has been checked before.
#[must_use]
pub fn extra_complaints(config: &Config) -> Vec<String> {
    let token_file = match &config.uplink.token {
        Some(TokenSource::File(path)) => Some(path),
        Some(TokenSource::Value(_) | TokenSource::Command(_) | TokenSource::Url(_) | TokenSource::Credential(_))
        | None => None,
    };
    let files = [("uplink.tokenFile", token_file), ("uplink.caFile", config.uplink.ca_file.as_ref())];
    let unreadable = files.into_iter().filter_map(|(key, path)| unreadable(key, path?));
    let capture = match media::start_gstreamer() {
        Ok(()) => media::check(config),
        Err(words) => vec![words],
    };
    unreadable.chain(capture).collect()
}

fn unreadable(key: &str, path: &Path) -> Option<String> {
    let read = std::fs::File::open(path).and_then(|file| file.metadata());
    match read {
        Ok(file) if file.is_dir() => Some(format!("`{key}` names a folder, not a file: {}", path.display())),
        Ok(_) => None,
        Err(error) => Some(format!("`{key}` names a file that cannot be opened: {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("ca.pem");
        std::fs::write(&there, "").unwrap();
        let text = format!("[uplink]\ntokenFile = '{}'\ncaFile = '{}'", folder.path().display(), there.display());
        let config = crate::config::load(&text, "", std::iter::empty()).unwrap();
        let folder_named = format!("`uplink.tokenFile` names a folder, not a file: {}", folder.path().display());
        assert_eq!(extra_complaints(&config), [folder_named]);
        std::fs::remove_file(&there).unwrap();
        assert!(extra_complaints(&config)[1].starts_with("`uplink.caFile` names a file that cannot be opened"));
    }
}
