//! `roamcast run`: the encoder.

use std::process::ExitCode;

use crate::config::Config;
use crate::house::board::{Board, Output};
use crate::house::{self};

/// Runs the broadcast that `config` describes and gives back its exit code.
#[must_use]
pub fn run(config: Config, output: Output) -> ExitCode {
    super::logging::start(&config.log);
    super::with_runtime(async { house::run(config, Board::new(output, None), None).await })
        .map_or_else(|failed| failed, |reason| ExitCode::from(reason.exit_code()))
}
