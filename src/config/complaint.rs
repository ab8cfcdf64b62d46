//! Pure: complaints about a config: what is wrong, where, and what would be right; drawn as rustc draws them. No secret
//! gets in: the line that is shown has the values of secret keys masked before a complaint is made.

use std::fmt;
use std::ops::Range;

use super::words::is_secret_text;
use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// What stands in place of a secret; a secret before the caret keeps its width, because the column tells it anyway.
const MASK: &str = "***";

/// One thing that is wrong with a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Key path, such as `video.width` or `uplink.iceServers[0].urls[1]`; empty for a syntax error.
    pub key: String,
    /// What is wrong: one sentence without a full stop.
    pub words: String,
    /// What would be right, when `words` does not say so already.
    pub help: Option<String>,
    /// Where it is.
    pub place: Place,
}

/// Where a complaint points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the text.
    Text {
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// The line itself, secrets masked.
        source: String,
        /// The part of `source` that is meant, in bytes.
        caret: Range<usize>,
    },
    /// An environment variable, by its name.
    Env(String),
    /// `roamcast set` of this key.
    Set(String),
}

/// Everything that is wrong with a config; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaints {
    /// Name of the text, usually the path of the file.
    name: String,
    list: Vec<Complaint>,
}

impl Complaints {
    pub(super) fn new(name: &str, list: Vec<Complaint>) -> Self {
        Self { name: name.into(), list }
    }

    /// In the order of the text; those of the environment last.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Complaint> {
        self.list.iter()
    }

    /// Draws all of them, a blank line between two, with ANSI colours if `colour`.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let drawn: Vec<String> = self.list.iter().map(|one| renderer.render(&[one.group(&self.name)])).collect();
        drawn.join("\n\n")
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Complaints {}

impl Complaint {
    fn group<'a>(&'a self, name: &'a str) -> Group<'a> {
        let title = Level::ERROR.primary_title(self.words.as_str());
        let group = match &self.place {
            Place::Env(variable) => title.element(Origin::path(format!("environment variable `{variable}`"))),
            Place::Set(key) => title.element(Origin::path(format!("`set {key}`"))),
            Place::Text { line, column: _, source, caret } => {
                let caret = AnnotationKind::Primary.span(caret.clone());
                title.element(Snippet::source(source.as_str()).line_start(*line).path(name).annotation(caret))
            }
        };
        match &self.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        }
    }
}

/// Where a finding points, before its line is cut out and masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Spot {
    /// Bytes of the text.
    Text(Range<usize>),
    /// The name of a variable.
    Env(String),
    /// The key that an operator sets.
    Set(String),
}

/// The line around `span`, with every range of `secrets` masked.
pub(super) fn place(text: &str, span: &Range<usize>, secrets: &[Range<usize>]) -> Place {
    let floor = |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let start = floor(span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let line_end = line_start + text[line_start..line_end].trim_end_matches('\r').len();
    let start = start.min(line_end);
    let end = floor(span.end).clamp(start, line_end);

    let mut secrets: Vec<_> = secrets.iter().filter(|s| s.start < line_end && s.end > line_start).collect();
    secrets.sort_by_key(|secret| secret.start);
    let (mut source, mut done) = (String::new(), line_start);
    // The caret moves with what is masked before it; where it cuts a secret it takes the whole mask.
    let (mut caret_start, mut caret_end) = (None, None);
    for secret in secrets {
        let (from, to) = (secret.start.max(done), secret.end.min(line_end));
        if from >= to {
            continue;
        }
        let shown = source.len();
        caret_start = caret_start.or((start < from).then(|| shown + start - done));
        caret_end = caret_end.or((end <= from).then(|| shown + end - done));
        source.push_str(&text[done..from]);
        caret_start = caret_start.or((start < to).then_some(source.len()));
        match caret_start {
            Some(_) => source.push_str(MASK),
            None => source.extend(text[from..to].chars().map(|_| '*')),
        }
        caret_end = caret_end.or((end <= to).then_some(source.len()));
        done = to;
    }
    let shown = source.len();
    let caret =
        caret_start.unwrap_or(shown + start - done.min(start))..caret_end.unwrap_or(shown + end - done.min(end));
    source.push_str(&text[done..line_end]);
    Place::Text {
        line: text[..line_start].matches('\n').count() + 1,
        column: text[line_start..start].chars().count() + 1,
        source,
        caret,
    }
}

/// May a key of this name hold a secret? Misspelt names count, and `tokenFile` does not: it holds a path.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = super::words::plain(key);
    if key == "tokenfile" || key.len() > 200 {
        return key.len() > 200;
    }
    ["token", "credential", "password", "passwd", "secret", "bearer", "apikey", "auth"].iter().any(|w| key.contains(w))
        || key.ends_with("pin")
        || ["token", "credential", "password"].iter().any(|word| strsim::osa_distance(&key, word) <= 2)
}

/// What to mask in comments: a key that is commented out may still be secret, and so may what follows a secret.
pub(super) fn secrets_of_comments(text: &str) -> impl Iterator<Item = Range<usize>> {
    lines(text).filter_map(|(start, line)| {
        let at = line.find('#').filter(|_| may_be_secret(line))?;
        Some(start + at + 1..start + line.len())
    })
}

/// What to mask in a text that is not TOML: what follows a secret key on its line and on the lines up to the next sound
/// key, whole lines inside of `"""` and `'''`, and lines with text that may be secret.
pub(super) fn secrets_of_broken_text(text: &str) -> Vec<Range<usize>> {
    let (mut secrets, mut quoted, mut goes_on) = (Vec::new(), false, false);
    for (start, line) in lines(text) {
        let fences = line.matches("\"\"\"").count() + line.matches("'''").count();
        let opens = may_be_secret(line) || line.contains('\\');
        goes_on = opens || (goes_on && !begins_anew(line));
        if quoted {
            secrets.push(start..start + line.len());
        } else if goes_on {
            let value = if opens { line.find(['=', ':']).map_or(0, |at| at + 1) } else { 0 };
            secrets.push(start + value..start + line.len());
        }
        quoted ^= fences % 2 == 1;
    }
    secrets
}

/// Is this a line that cannot belong to the value before it: `[section]` or `key = value`? (`c2VjcmV0==` is base64.)
fn begins_anew(line: &str) -> bool {
    let is_key = |key: &str| {
        let key = key.trim();
        key.starts_with(|c: char| c.is_ascii_alphabetic())
            && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
    };
    match line.split_once('=') {
        Some((key, value)) => is_key(key) && !value.trim().is_empty() && !value.starts_with('='),
        None => line.trim().strip_prefix('[').is_some_and(|name| is_key(name.trim_matches(['[', ']']))),
    }
}

/// Each line with where it begins.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |end, line| {
        *end += line.len();
        Some((*end - line.len(), line))
    })
}

fn may_be_secret(line: &str) -> bool {
    let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
    is_secret_text(line) || words.any(is_secret_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str, span: Range<usize>, secret: &Range<usize>) -> (String, String) {
        let secrets = std::slice::from_ref(secret);
        let Place::Text { source, caret, .. } = place(text, &span, secrets) else { panic!("no text") };
        let caret = source[caret].to_owned();
        (source, caret)
    }

    #[test]
    fn the_caret_stays_on_its_word_when_something_before_it_is_masked() {
        let text = "a\r\n{ token = \"abc\", urls = 3 }\r\n";
        let urls = text.find("urls").unwrap();
        let token = text.find("\"abc\"").unwrap();
        let secret = token..token + 5;
        let masked = "{ token = ***, urls = 3 }".to_owned();
        let wide = "{ token = *****, urls = 3 }".to_owned();
        assert_eq!(source(text, urls..urls + 4, &secret), (wide, "urls".into()));
        assert_eq!(source(text, token..token + 5, &secret), (masked.clone(), "***".into()));
        assert_eq!(source(text, 5..10, &secret), (masked, "token".into()));
    }

    #[test]
    fn broken_text_shows_no_secret() {
        for text in [
            "token = \"hunter2",
            "tokn = hunter2",
            "x = { credential: \"hunter2\" ",
            "a = \"\"\"\nhunter2\n",
            "token =\n\nhunter2\n",
            "token\n= hunter2\n",
            "token =\n=\nhunter2==\n",
            "url = http://me:hunter2@host",
            "\"to\\u006ben\" = hunter2",
        ] {
            let secrets = secrets_of_broken_text(text);
            for at in 0..=text.len() {
                let Place::Text { source, .. } = place(text, &(at..at), &secrets) else { panic!("no text") };
                assert!(!source.contains("hunter2"), "{text}: {source}");
            }
        }
    }

    #[test]
    fn words_that_are_near_a_secret_key_are_secret_too() {
        for key in ["token", "Token", "tokn", "bearer_token", "credntial", "password", "tokenfil"] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["tokenFile", "token_file", "url", "bitrate", "codec", "audio"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }
}
