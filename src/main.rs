//! args -> config -> house -> exit code.

use std::process::ExitCode;

use roamcast::cli::{self, Command};

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli.command,
        Err(exit) => return exit.into(),
    };
    let exit = match command {
        Command::Run(args) => cli::run::run(&args),
        #[cfg(feature = "ingest")]
        Command::Demo(args) => cli::demo::run(&args),
        #[cfg(feature = "ingest")]
        Command::Ingest(args) => cli::ingest::run(&args),
        Command::Check(args) => cli::check::run(&args),
        Command::Status(args) => cli::status::run(&args),
        Command::Events(args) => cli::events::run(&args),
        Command::Reconnect(args) => cli::wish::run(&args, cli::wish::Wish::Reconnect),
        Command::Start(args) => cli::wish::run(&args, cli::wish::Wish::Start),
        Command::Stop(args) => cli::wish::run(&args, cli::wish::Wish::Stop),
        Command::Set(args) => cli::wish::set(&args),
        Command::Reload(args) => cli::wish::run(&args, cli::wish::Wish::Reload),
        Command::Devices(args) => cli::devices::run(args.json),
        Command::Completions(args) => cli::completions::run(&args),
        Command::Man => cli::man::run(),
    };
    cli::log_sink::flush();
    exit.into()
}
