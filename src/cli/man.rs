//! `roamcast man`

use clap::CommandFactory;

use super::args::Cli;
use super::{Exit, print};

/// Prints one page (roff) with every command.
#[must_use]
pub fn run() -> Exit {
    let page = page();
    let _ = print::out(String::from_utf8_lossy(&page).trim_end());
    Exit::SUCCESS
}

/// The page of roamcast itself, then of each command the parts that differ.
fn page() -> Vec<u8> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    // Writing to memory does not fail.
    let _ = clap_mangen::Man::new(command.clone()).render(&mut page);
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let man = clap_mangen::Man::new(sub.clone());
        page.extend(format!(".SH \"ROAMCAST {}\"\n", sub.get_name().to_uppercase()).into_bytes());
        let _ = man.render_description_section(&mut page);
        let _ = man.render_synopsis_section(&mut page);
        let _ = man.render_options_section(&mut page);
        let _ = man.render_extra_section(&mut page);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_command_and_the_exit_codes() {
        let page = String::from_utf8(page()).unwrap();
        for word in ["ROAMCAST RUN", "ROAMCAST CHECK", "token\\-file", "Exit codes", "ROAMCAST_CONFIG"] {
            assert!(page.contains(word), "{word}: {page}");
        }
    }
}
