//! args -> config -> house -> exit code.

use std::process::ExitCode;

use roamcast::cli::{self, Command};

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli.command,
        Err(exit) => return exit.into(),
    };
    match command {
        Command::Run(args) => cli::run::run(&args),
        #[cfg(feature = "ingest")]
        Command::Demo(args) => cli::demo::run(&args),
        #[cfg(feature = "ingest")]
        Command::Ingest(args) => cli::ingest::run(&args),
        Command::Check(args) => cli::check::run(&args),
        Command::Devices(args) => cli::devices::run(args.json),
        Command::Completions(args) => cli::completions::run(&args),
        Command::Man => cli::man::run(),
    }
    .into()
}
