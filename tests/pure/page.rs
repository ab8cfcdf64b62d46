//! A page of Markdown, taken apart: so that what it shows can be held against the program.

use std::fs;
use std::path::Path;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of one page.
pub(crate) struct Page(pub(crate) String);

impl Page {
    /// `path`: from the root of the project.
    pub(crate) fn read(path: &str) -> Self {
        Self(fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}")))
    }

    /// The fenced blocks of one language (`""`: those that name none).
    pub(crate) fn blocks(&self, language: &str) -> Vec<String> {
        let fenced = self.0.split("```").skip(1).step_by(2);
        let of_language = fenced.filter_map(|block| block.split_once('\n')).filter(|(name, _)| *name == language);
        of_language.map(|(_, body)| body.to_owned()).collect()
    }

    /// The lines of [`Page::blocks`].
    pub(crate) fn block_lines(&self, language: &str) -> Vec<String> {
        self.blocks(language).iter().flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// What stands between single backticks, outside of fenced blocks.
    pub(crate) fn spans(&self) -> Vec<String> {
        let prose = self.0.split("```").step_by(2);
        prose.flat_map(|part| part.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// The rows of the table with this first heading, cell by cell.
    pub(crate) fn table(&self, heading: &str) -> Vec<Vec<String>> {
        let text = &self.0;
        let from = text.find(&format!("\n| {heading} |"));
        let from = from.unwrap_or_else(|| panic!("a table that begins with `{heading}`"));
        let rows = text[from + 1..].lines().take_while(|line| line.starts_with('|')).skip(2);
        rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
    }

    /// Where its links lead to.
    pub(crate) fn links(&self) -> Vec<&str> {
        self.0.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
    }
}

/// Fails with every complaint at once.
#[track_caller]
pub(crate) fn no_complaints(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
