//! Text for people. A closed pipe (`roamcast devices | head -1`) is no reason to panic, as `println!` would.

use std::io::{self, IsTerminal, Write};

pub use crate::app::stdout::out;

/// A line on stderr. When that is closed there is nobody left to tell; once the log goes there, the line waits its turn.
pub fn err(text: &str) {
    if !super::log_sink::write_behind_log(text) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Does stderr show colours? Only a terminal does, and only without `$NO_COLOR` (see no-color.org).
#[must_use]
pub fn is_colourful() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
