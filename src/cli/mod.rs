//! The commands, one file each; what they share is here: reading the command line, finding the config, exit codes.

pub mod args;
pub mod check;
mod client;
pub mod completions;
#[cfg(feature = "ingest")]
pub mod demo;
pub mod devices;
pub mod events;
#[cfg(feature = "ingest")]
pub mod ingest;
mod journal;
pub mod log_sink;
pub mod logging;
pub mod man;
pub mod print;
pub mod run;
pub mod status;
pub mod wish;
mod world;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

pub use args::{Cli, Command};

use crate::config::{self, Config, Loaded};
use crate::control::{self, desk::Origin};
use crate::signal::is_own_address;
use crate::status::StopReason;

/// Where the config is when neither `-c` nor `$ROAMCAST_CONFIG` says.
const CONFIG_PATH: &str = "/etc/roamcast/config.toml";
/// No config is nearly as large; a device file or a recording given by mistake is.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// An exit code; the words have been printed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// All is well.
    pub const SUCCESS: Self = Self(0);
    /// The command line is wrong: EX_USAGE of sysexits(3).
    pub const USAGE: Self = Self(64);
    /// No encoder answers: EX_UNAVAILABLE.
    pub const UNAVAILABLE: Self = Self(69);
    /// roamcast itself is broken: EX_SOFTWARE.
    pub const INTERNAL: Self = Self(70);
    /// The config is wrong: EX_CONFIG.
    pub const CONFIG: Self = Self(78);
}

impl From<StopReason> for Exit {
    fn from(reason: StopReason) -> Self {
        Self(reason.exit_code())
    }
}

/// How the process ends after a broadcast. One that could not begin is told here.
fn exit_of(ended: Result<StopReason, String>) -> Exit {
    let reason = ended.unwrap_or_else(|words| {
        print::err(&format!("error: {words}"));
        StopReason::BadConfig
    });
    reason.into()
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// Reads the command line.
///
/// # Errors
/// [`Exit::USAGE`] after telling what is wrong, [`Exit::SUCCESS`] after `--help` or `--version`.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Exit> {
    Cli::try_parse_from(args).map_err(|error| {
        // The reader may be gone; the exit code tells all the same.
        let _ = error.print();
        if error.use_stderr() { Exit::USAGE } else { Exit::SUCCESS }
    })
}

/// Finds, reads and checks the config: `given` (`-c`), else `$ROAMCAST_CONFIG`, else `/etc/roamcast/config.toml`. The log
/// is not there yet: [`Origin::log_level`] does nothing.
///
/// # Errors
/// [`Exit::CONFIG`] after printing every complaint on stderr.
pub fn load_config(given: Option<&Path>) -> Result<(Config, Origin), Exit> {
    let path = config_path(given, std::env::var_os("ROAMCAST_CONFIG"));
    open_config(path.display().to_string(), Box::new(move || read_config(&path)))
}

/// The config that an empty file would make, with the overrides of the environment: what `demo` starts from.
///
/// # Errors
/// [`Exit::CONFIG`] after printing every complaint on stderr.
pub fn default_config() -> Result<(Config, Origin), Exit> {
    open_config("the defaults".to_owned(), Box::new(|| Ok(String::new())))
}

fn open_config(name: String, read: control::desk::Read) -> Result<(Config, Origin), Exit> {
    let text = read().map_err(|words| {
        print::err(&format!("error: {words}"));
        Exit::CONFIG
    })?;
    let env: Vec<_> = environment().collect();
    let loaded = config::load_with(&text, &name, env.iter().cloned(), &BTreeMap::new(), is_own_address);
    let loaded = loaded.map_err(|complaints| {
        print::err(&complaints.render(print::is_colourful()));
        let count = complaints.iter().len();
        print::err(&format!("\nerror: {count} complaint{} about {name}", if count == 1 { "" } else { "s" }));
        Exit::CONFIG
    })?;
    let Loaded { config, file } = loaded;
    Ok((config, Origin { name, text, file, env, read, is_own: is_own_address, log_level: Box::new(|_| {}) }))
}

/// The variables of the config. What is not Unicode gets replacement characters, which a key then refuses.
fn environment() -> impl Iterator<Item = (String, String)> {
    let lossy = |text: OsString| text.to_string_lossy().into_owned();
    let all = std::env::vars_os().map(move |(name, value)| (lossy(name), lossy(value)));
    all.filter(|(name, _)| name.starts_with(config::ENV_PREFIX))
}

fn config_path(given: Option<&Path>, variable: Option<OsString>) -> PathBuf {
    match (given, variable) {
        (Some(path), _) => path.into(),
        (None, Some(path)) if !path.is_empty() => path.into(),
        (None, _) => CONFIG_PATH.into(),
    }
}

/// One sentence when it cannot be read.
fn read_config(path: &Path) -> Result<String, String> {
    let name = path.display();
    let file = std::fs::File::open(path).map_err(|error| {
        let hint =
            if path == Path::new(CONFIG_PATH) { "; name another one with -c FILE or $ROAMCAST_CONFIG" } else { "" };
        format!("the config `{name}` cannot be opened: {error}{hint}")
    })?;
    let mut bytes = Vec::new();
    let read = file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("the config `{name}` cannot be read: {error}"))?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(format!("the config `{name}` is larger than 1 MiB: is it the right file?"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("the config `{name}` is not UTF-8 text: line {line} has bytes that are none")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_wins_over_the_variable_and_the_variable_over_the_default() {
        assert_eq!(config_path(Some(Path::new("a")), Some("b".into())), Path::new("a"));
        assert_eq!(config_path(None, Some("b".into())), Path::new("b"));
        assert_eq!(config_path(None, Some("".into())), Path::new(CONFIG_PATH));
        assert_eq!(config_path(None, None), Path::new(CONFIG_PATH));
    }

    #[test]
    fn a_config_that_cannot_be_read_gets_one_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        assert!(read_config(&path).unwrap_err().contains("cannot be opened: No such file"));
        assert!(read_config(folder.path()).unwrap_err().contains("cannot be read: Is a directory"));
        std::fs::write(&path, b"a = 1\nb = \"\xff\"\n").unwrap();
        assert!(read_config(&path).unwrap_err().ends_with("is not UTF-8 text: line 2 has bytes that are none"));
        assert!(read_config(Path::new("/dev/zero")).unwrap_err().contains("larger than 1 MiB"));
    }

    #[test]
    fn usage_errors_exit_64_and_help_exits_0() {
        let exit = |line: &str| parse(line.split_whitespace().map(OsString::from)).unwrap_err();
        assert_eq!(exit("roamcast fly"), Exit::USAGE);
        assert_eq!(exit("roamcast"), Exit::USAGE);
        assert_eq!(exit("roamcast --help"), Exit::SUCCESS);
        assert_eq!(exit("roamcast --version"), Exit::SUCCESS);
    }
}
