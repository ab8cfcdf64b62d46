//! `roamcast completions SHELL`

use clap::CommandFactory;

use super::args::{Cli, Completions};
use super::{Exit, print};

/// Prints the script for the shell.
#[must_use]
pub fn run(args: &Completions) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "roamcast", &mut script);
    let _ = print::out(String::from_utf8_lossy(&script).trim_end());
    Exit::SUCCESS
}
