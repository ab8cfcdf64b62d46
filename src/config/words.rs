//! Pure: the words of complaints: what was meant, what is allowed, and what may be quoted.

use serde_json::Value;

use super::schema;

/// A key without case, `_` and `-`: how people misspell camelCase.
pub(super) fn plain(key: &str) -> String {
    key.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// Do both spell the same key?
#[must_use]
pub fn is_same_key(one: &str, other: &str) -> bool {
    plain(one) == plain(other)
}

/// The known word that `word` was probably meant to be: at most one slip in three letters.
pub(crate) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    // No known word is longer; and the distance costs the product of both lengths.
    const LENGTH_MAX: usize = 64;
    if word.len() > LENGTH_MAX {
        return None;
    }
    let word = plain(word);
    let near = known.filter(|known| strsim::osa_distance(&word, &plain(known)) <= known.len().div_ceil(3));
    // Jaro-Winkler weighs the beginning: `maxRetry` is nearer to `maxRetries` than to `maxDelay`.
    let likeness = |known: &str| strsim::jaro_winkler(&word, &plain(known));
    near.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

/// What the schema wants, as the end of `must be ...`.
pub(super) fn wanted(schema: &Value) -> String {
    let words = schema::words(schema);
    if !words.is_empty() {
        return one_of(&words);
    }
    let names = schema::types(schema).map(|name| match name {
        "string" => "text in quotes",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" => "an array",
        _ => "a table",
    });
    names.collect::<Vec<_>>().join(" or ")
}

/// `"a"`, or `one of "a", "b"`
pub(super) fn one_of(words: &[&str]) -> String {
    match words {
        [only] => format!("\"{only}\""),
        _ => format!("one of {}", words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")),
    }
}

/// `` `a`, `b` ``
pub(super) fn list<'w>(keys: impl Iterator<Item = &'w str>) -> String {
    keys.map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

/// A value in a message: short, printable, and not if it may be secret.
pub(super) fn quoted(text: &str) -> String {
    if is_secret_text(text) { "***".into() } else { format!("\"{}\"", clip(text)) }
}

/// Text of strangers in a message: printable and short.
pub(super) fn clip(text: &str) -> String {
    const LENGTH_MAX: usize = 60;
    let mut clipped: String = text.chars().take(LENGTH_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(LENGTH_MAX).is_some() {
        clipped.push_str("...");
    }
    clipped
}

/// May this text hold a secret whatever its key? User information and queries of URLs often do.
pub(super) fn is_secret_text(text: &str) -> bool {
    text.contains('@') || (text.contains("://") && text.contains('?'))
}
