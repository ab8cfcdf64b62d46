//! Pure: the JSON schema of the config, made from the types in [`super::file`]: for editors (`docs/config.schema.json`), and
//! for [`super::document`], which holds every key of a text against it.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::file::File;

/// The whole schema (draft 2020-12, nothing referenced, everything inline).
#[must_use]
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<File>().to_value();
    fit_to_toml(&mut schema);
    schema
}

/// TOML has no null: an optional key is left out. And a table needs no default: each of its keys has one.
fn fit_to_toml(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        if object.get("default").is_some_and(|default| default.is_null() || default.is_object()) {
            object.remove("default");
        }
        if let Some(types) = object.get_mut("type")
            && let Some(list) = types.as_array_mut()
        {
            list.retain(|name| name != "null");
            if let [only] = list.as_mut_slice() {
                *types = only.take();
            }
        }
        object.values_mut().for_each(fit_to_toml);
    } else if let Some(list) = schema.as_array_mut() {
        list.iter_mut().for_each(fit_to_toml);
    }
}

/// The keys that the schema of a table knows; empty for anything that is not a table.
pub(super) fn keys(schema: &Value) -> impl Iterator<Item = (&str, &Value)> + Clone {
    schema["properties"].as_object().into_iter().flatten().map(|(key, schema)| (key.as_str(), schema))
}

/// Does a value of this JSON schema type (`string`, `integer`, `number`, `boolean`, `array`, `object`) fit?
pub(super) fn accepts(schema: &Value, kind: &str) -> bool {
    types(schema).any(|name| name == kind || (name == "number" && kind == "integer"))
}

/// The names of the types that the schema allows.
pub(super) fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let one = schema["type"].as_str();
    let many = schema["type"].as_array().into_iter().flatten().filter_map(Value::as_str);
    // An enum whose values are documented is `oneOf: [{const, description}]`, each with a type of its own.
    let documented = schema["oneOf"].as_array().into_iter().flatten().take(1).filter_map(|v| v["type"].as_str());
    one.into_iter().chain(many).chain(documented)
}

/// The words an enum allows; empty when the schema is not an enum.
pub(super) fn words(schema: &Value) -> Vec<&str> {
    let plain = schema["enum"].as_array().into_iter().flatten();
    let documented = schema["oneOf"].as_array().into_iter().flatten().map(|variant| &variant["const"]);
    plain.chain(documented).filter_map(Value::as_str).collect()
}

/// Every `section.key` with its schema.
pub(super) fn catalog(schema: &Value) -> BTreeMap<String, &Value> {
    keys(schema)
        .flat_map(|(section, table)| keys(table).map(move |(key, value)| (format!("{section}.{key}"), value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `BLESS=1 cargo test --lib schema` writes the file anew.
    #[test]
    fn the_schema_for_editors_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.schema.json");
        let now = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, &now).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), now, "run `BLESS=1 cargo test --lib schema`");
    }

    #[test]
    fn every_key_has_a_type_that_the_door_knows_and_a_description() {
        let schema = schema();
        for (path, key) in catalog(&schema) {
            assert!(
                ["string", "integer", "number", "boolean", "array"].iter().any(|kind| accepts(key, kind)),
                "{path}: {key}"
            );
            assert!(key["description"].is_string(), "{path}: {key}");
        }
    }

    #[test]
    fn secrets_are_write_only_and_have_no_default() {
        let schema = schema();
        let token = catalog(&schema)["uplink.token"];
        assert_eq!((&token["writeOnly"], token.get("default")), (&Value::Bool(true), None));
    }
}
