//! Pure: what stands in braces in a pipeline file, and how its value is written so that it stays one value.

/// `{name}`, or `{property=name?}`: the whole assignment, left out when the value is unset.
pub(in crate::media) struct Placeholder<'a> {
    pub(in crate::media) name: &'a str,
    pub(in crate::media) property: Option<&'a str>,
}

impl<'a> Placeholder<'a> {
    pub(in crate::media) fn parse(inner: &'a str) -> Option<Self> {
        let is_word = |text: &str| {
            text.starts_with(|first: char| first.is_ascii_lowercase())
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
        };
        let (property, name) = match inner.strip_suffix('?').and_then(|optional| optional.split_once('=')) {
            Some((property, name)) => (Some(property), name),
            None => (None, inner),
        };
        (is_word(name) && property.is_none_or(is_word)).then_some(Self { name, property })
    }
}

/// A value for gst-launch, unquoted, that stays one value whatever it holds: each unusual character gets a backslash.
///
/// `None` for what gst-launch's lexer cannot carry: a control character, and a backslash at the end, which it would
/// take, escaped or quoted, as the escape of what follows.
pub(in crate::media) fn escape(value: &str) -> Option<String> {
    if value.ends_with('\\') {
        return None;
    }
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_control() {
            return None;
        }
        if c.is_ascii() && !c.is_ascii_alphanumeric() && !"/._-".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    Some(escaped)
}
