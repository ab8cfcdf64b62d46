//! Pure: text and environment -> [`File`]. Every key is held against the schema, so that every unknown key and every value
//! of a wrong type is found at once, where serde would stop at the first one.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::complaint::{self, Complaint, Place, Spot, is_secret_key};
use super::file::File;
use super::words::{clip, is_secret_text, list, nearest, one_of, plain, quoted, wanted};
use super::{ENV_PREFIX as PREFIX, schema};

/// More complaints than this help nobody, and collecting them from a hostile file would take long.
const COMPLAINTS_MAX: usize = 100;

/// What is known about a text besides its values: where they stand, and what is wrong with them.
pub(super) struct Document<'a> {
    text: &'a str,
    /// Key path -> where its value stands.
    spots: BTreeMap<String, Spot>,
    /// Ranges of the text that are never shown.
    secrets: Vec<Range<usize>>,
    findings: Vec<Finding>,
}

struct Finding {
    key: String,
    words: String,
    help: Option<String>,
    spot: Spot,
}

impl<'a> Document<'a> {
    /// Reads all of it; what is wrong is kept for [`Document::into_complaints`], and defaults stand in its place.
    pub(super) fn read(
        text: &'a str,
        env: impl Iterator<Item = (String, String)>,
        set: &BTreeMap<String, String>,
    ) -> (Self, File) {
        let empty = Self { text, spots: BTreeMap::new(), secrets: Vec::new(), findings: Vec::new() };
        let schema = schema::schema();
        let mut walk = Walk { document: empty, source: None, root: &schema };
        let mut values = match DeTable::parse(text) {
            Ok(table) => {
                walk.document.hide(table.get_ref());
                walk.document.secrets.extend(complaint::secrets_of_comments(text));
                walk.table("", table.get_ref(), &schema)
            }
            Err(error) => {
                walk.document.syntax_error(&error);
                Map::new()
            }
        };
        walk.environment(env, &mut values);
        walk.operator(set, &mut values);
        let mut document = walk.document;
        let file = serde_json::from_value(Value::Object(values)).unwrap_or_else(|_| {
            // Nothing gets here that the schema refuses. If the two ever disagree, say so without quoting the value.
            document.complain("", "the config does not have the form that the schema describes", None);
            File::default()
        });
        (document, file)
    }

    /// Adds a complaint about the value of `key`, or, when no one has set it, about the nearest table around it.
    pub(super) fn complain(&mut self, key: &str, words: impl Into<String>, help: Option<&str>) {
        let mut around = Some(key);
        let spot = loop {
            match around {
                None => break Spot::Text(0..0),
                Some(path) => match self.spots.get(path) {
                    Some(spot) => break spot.clone(),
                    None => around = path.rfind(['.', '[']).map(|end| &path[..end]),
                },
            }
        };
        self.find(key, words.into(), help.map(Into::into), spot);
    }

    /// Was `key` set by the text or the environment?
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.spots.contains_key(key)
    }

    /// Is there no complaint about `key` or anything in it? Rules that join two keys ask first. The key of a syntax error
    /// is empty.
    pub(super) fn is_clean(&self, key: &str) -> bool {
        !self
            .findings
            .iter()
            .any(|f| f.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.'])))
    }

    /// In the order of the text, those of the environment last.
    pub(super) fn into_complaints(mut self) -> Vec<Complaint> {
        self.findings.sort_by_key(|finding| match &finding.spot {
            Spot::Text(span) => (0, span.start),
            Spot::Env(_) => (1, 0),
            Spot::Set(_) => (2, 0),
        });
        let (text, secrets) = (self.text, self.secrets);
        let finish = |Finding { key, words, help, spot }| {
            let place = match spot {
                Spot::Text(span) => complaint::place(text, &span, &secrets),
                Spot::Env(name) => Place::Env(name),
                Spot::Set(key) => Place::Set(key),
            };
            Complaint { key, words, help, place }
        };
        self.findings.into_iter().map(finish).collect()
    }

    fn find(&mut self, key: &str, words: String, help: Option<String>, spot: Spot) {
        if self.findings.len() < COMPLAINTS_MAX {
            self.findings.push(Finding { key: key.into(), words, help, spot });
        }
    }

    fn syntax_error(&mut self, error: &toml::de::Error) {
        self.secrets = complaint::secrets_of_broken_text(self.text);
        let span = error.span().unwrap_or(0..0);
        self.find("", format!("this is not TOML: {}", error.message()), None, Spot::Text(span));
    }

    /// Notes every value that may be secret, known key or not.
    fn hide(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            if is_secret_key(key.get_ref()) {
                self.secrets.push(value.span());
            } else {
                self.hide_in(value);
            }
        }
    }

    fn hide_in(&mut self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.hide(table),
            DeValue::Array(items) => items.iter().for_each(|item| self.hide_in(item)),
            DeValue::String(text) if is_secret_text(text) => self.secrets.push(value.span()),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
}

/// Goes through the tables of the text, then through the variables, then through what an operator sets.
struct Walk<'t, 's> {
    document: Document<'t>,
    /// The variable or operator's wish whose value is being read; `None` while it is the text.
    source: Option<Spot>,
    /// The schema of the whole config.
    root: &'s Value,
}

impl Walk<'_, '_> {
    fn spot(&self, span: Range<usize>) -> Spot {
        self.source.clone().unwrap_or(Spot::Text(span))
    }

    fn wrong(&mut self, path: &str, what: &str, span: Range<usize>) {
        let spot = self.spot(span);
        self.document.find(path, format!("`{path}` {what}"), None, spot);
    }

    /// The good part of a table.
    fn table(&mut self, path: &str, table: &DeTable<'_>, schema: &Value) -> Map<String, Value> {
        let mut good = Map::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let full = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            match schema["properties"].get(name) {
                None => self.unknown(path, name, schema, key.span()),
                Some(schema) => {
                    let spot = self.spot(value.span());
                    self.document.spots.insert(full.clone(), spot);
                    if let Some(value) = self.value(&full, value, schema) {
                        good.insert(name.to_owned(), value);
                    }
                }
            }
        }
        good
    }

    fn unknown(&mut self, path: &str, name: &str, schema: &Value, span: Range<usize>) {
        let known = schema::keys(schema).map(|(key, _)| key);
        let homes = schema::keys(self.root).filter(|(_, section)| section["properties"].get(name).is_some());
        let homes: Vec<String> = homes.map(|(section, _)| format!("`[{section}]`")).collect();
        let help = match nearest(name, known.clone()) {
            Some(key) => format!("did you mean `{key}`?"),
            None if !homes.is_empty() => format!("`{name}` belongs in {}", homes.join(" or ")),
            None if path.is_empty() => format!("the sections are {}", list(known)),
            None => format!("the keys of `{path}` are {}", list(known)),
        };
        let name = clip(name);
        let full = if path.is_empty() { name } else { format!("{path}.{name}") };
        let spot = self.spot(span);
        self.document.find(&full, format!("unknown key `{full}`"), Some(help), spot);
    }

    /// The value, if it is all good.
    fn value(&mut self, path: &str, value: &Spanned<DeValue<'_>>, schema: &Value) -> Option<Value> {
        let span = value.span();
        let (kind, article) = match value.get_ref() {
            DeValue::String(_) => ("string", "text"),
            DeValue::Integer(_) => ("integer", "a whole number"),
            DeValue::Float(_) => ("number", "a number with a fraction"),
            DeValue::Boolean(_) => ("boolean", "a boolean"),
            DeValue::Datetime(_) => ("datetime", "a date or time"),
            DeValue::Array(_) => ("array", "an array"),
            DeValue::Table(_) => ("object", "a table"),
        };
        if !schema::accepts(schema, kind) {
            self.wrong(path, &format!("must be {}, not {article}", wanted(schema)), span);
            return None;
        }
        match value.get_ref() {
            DeValue::String(text) => self.text(path, text, schema, span),
            DeValue::Integer(number) => {
                let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
                let Some(number) = number else {
                    self.wrong(path, "is too large a number", span);
                    return None;
                };
                #[allow(clippy::cast_precision_loss, reason = "only compared with limits far below 2^53")]
                self.in_range(path, number as f64, schema, span).then(|| number.into())
            }
            DeValue::Float(number) => {
                let number = number.as_str().parse().ok().filter(|number: &f64| number.is_finite());
                let Some(number) = number else {
                    self.wrong(path, "must be a finite number", span);
                    return None;
                };
                self.in_range(path, number, schema, span).then(|| number.into())
            }
            DeValue::Boolean(answer) => Some((*answer).into()),
            DeValue::Datetime(_) => None,
            DeValue::Array(items) => self.array(path, items, schema, span),
            DeValue::Table(table) => self.complete_table(path, table, schema, span),
        }
    }

    /// A table that has all its required keys.
    fn complete_table(&mut self, path: &str, table: &DeTable<'_>, schema: &Value, span: Range<usize>) -> Option<Value> {
        let good = self.table(path, table, schema);
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let lost: Vec<&str> = required.filter(|key| !good.contains_key(*key)).collect();
        for key in lost.iter().filter(|key| !table.contains_key(**key)) {
            self.wrong(path, &format!("needs the key `{key}`"), span.clone());
        }
        lost.is_empty().then_some(Value::Object(good))
    }

    /// An array is good when every item is: dropping one would move the others to a place that is not theirs.
    fn array(
        &mut self,
        path: &str,
        items: &[Spanned<DeValue<'_>>],
        schema: &Value,
        span: Range<usize>,
    ) -> Option<Value> {
        let mut good = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let spot = self.spot(item.span());
            self.document.spots.insert(path.clone(), spot);
            good.extend(self.value(&path, item, &schema["items"]));
        }
        if schema["minItems"].as_u64().is_some_and(|min| (items.len() as u64) < min) {
            self.wrong(path, "must not be empty", span);
            return None;
        }
        (good.len() == items.len()).then_some(Value::Array(good))
    }

    fn text(&mut self, path: &str, text: &str, schema: &Value, span: Range<usize>) -> Option<Value> {
        let words = schema::words(schema);
        let length = text.chars().count() as u64;
        if !words.is_empty() && !words.contains(&text) {
            self.wrong(path, &format!("must be {}, not {}", one_of(&words), quoted(text)), span);
        } else if schema["minLength"].as_u64().is_some_and(|min| length < min) {
            self.wrong(path, "must not be empty", span);
        } else if let Some(max) = schema["maxLength"].as_u64().filter(|max| length > *max) {
            self.wrong(path, &format!("must have at most {max} characters, not {length}"), span);
        } else {
            return Some(text.into());
        }
        None
    }

    fn in_range(&mut self, path: &str, number: f64, schema: &Value, span: Range<usize>) -> bool {
        let (min, max) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        let good = min.is_none_or(|min| number >= min) && max.is_none_or(|max| number <= max);
        if !good {
            let wanted = match (min, max) {
                (Some(min), Some(max)) => format!("between {min} and {max}"),
                (Some(min), None) => format!("at least {min}"),
                (None, Some(max)) => format!("at most {max}"),
                (None, None) => "another number".into(),
            };
            self.wrong(path, &format!("must be {wanted}, not {number}"), span);
        }
        good
    }

    /// Variables win over the text.
    fn environment(&mut self, env: impl Iterator<Item = (String, String)>, values: &mut Map<String, Value>) {
        let catalog = schema::catalog(self.root);
        let mut set_by: BTreeMap<&str, String> = BTreeMap::new();
        // Sorted, so that two runs complain in the same order.
        let variables: BTreeMap<String, String> = env.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        for (variable, value) in variables {
            self.source = Some(Spot::Env(variable.clone()));
            let wanted = variable[PREFIX.len()..].replacen("__", ".", 1);
            let Some((path, schema)) = catalog.iter().find(|(path, _)| plain(path) == plain(&wanted)) else {
                let help = nearest(&wanted, catalog.keys().map(String::as_str))
                    .map(|path| format!("did you mean `{}`?", variable_of(path)));
                let words = format!(
                    "the environment variable `{}` sets no key: its form is `{PREFIX}SECTION__KEY`",
                    clip(&variable)
                );
                self.document.find(&variable.clone(), words, help, Spot::Env(variable));
                continue;
            };
            if let Some(other) = set_by.insert(path, variable.clone()) {
                self.wrong(path, &format!("is set twice: by `{other}` and by `{variable}`"), 0..0);
                continue;
            }
            self.overrule(path, &value, schema, Spot::Env(variable), values);
        }
    }

    /// What an operator sets wins over everything.
    fn operator(&mut self, set: &BTreeMap<String, String>, values: &mut Map<String, Value>) {
        let catalog = schema::catalog(self.root);
        for (wanted, value) in set {
            let spot = Spot::Set(clip(wanted));
            self.source = Some(spot.clone());
            match catalog.iter().find(|(path, _)| plain(path) == plain(wanted)) {
                Some((path, schema)) => self.overrule(path, value, schema, spot, values),
                None => {
                    let help = nearest(wanted, catalog.keys().map(String::as_str))
                        .map_or("its form is `section.key`".to_owned(), |path| format!("did you mean `{path}`?"));
                    self.document.find(wanted, format!("unknown key `{}`", clip(wanted)), Some(help), spot);
                }
            }
        }
    }

    /// Puts `value` in place of what `path` was before.
    fn overrule(&mut self, path: &str, value: &str, schema: &Value, spot: Spot, values: &mut Map<String, Value>) {
        let within = format!("{path}[");
        self.document.spots.retain(|spot, _| !spot.starts_with(&within));
        self.document.spots.insert(path.to_owned(), spot);
        if let Some(good) = self.value(path, &read_variable(value, schema), schema)
            && let Some((section, key)) = path.split_once('.')
            && let Some(table) = values.entry(section).or_insert_with(|| Map::new().into()).as_object_mut()
        {
            table.insert(key.to_owned(), good);
        }
    }
}

/// A variable is text where the key takes text alone; else it is what the same characters would be in TOML, if that fits.
fn read_variable<'v>(value: &'v str, schema: &Value) -> Spanned<DeValue<'v>> {
    let as_text = Spanned::new(0..0, DeValue::String(value.into()));
    if schema::types(schema).eq(["string"]) {
        return as_text;
    }
    DeValue::parse(value.trim()).ok().filter(|parsed| !parsed.get_ref().is_str()).unwrap_or(as_text)
}

/// `reconnect.maxRetries` -> `ROAMCAST__RECONNECT__MAX_RETRIES`
fn variable_of(path: &str) -> String {
    let mut name = String::from(PREFIX);
    for c in path.chars() {
        match c {
            '.' => name.push_str("__"),
            c if c.is_ascii_uppercase() => name.extend(['_', c]),
            c => name.push(c.to_ascii_uppercase()),
        }
    }
    name
}
