//! Pure: which keys two configs differ in.

use serde_json::Value;

use super::file::File;

/// The paths (`reconnect.maxRetries`) of the keys whose values differ, in alphabetical order.
#[must_use]
pub fn changed_keys(before: &File, after: &File) -> Vec<String> {
    let (old, new) = (sections(before), sections(after));
    let mut changed: Vec<String> =
        new.iter().filter(|entry| !old.contains(entry)).map(|(path, _)| path.clone()).collect();
    // Secrets are never written out, so that they do not show above.
    let secrets = |file: &File| {
        let uplink = &file.uplink;
        let (token, pin, api) = (uplink.token.clone(), uplink.room_pin.clone(), uplink.api_secret.clone());
        [("uplink.token", token), ("uplink.roomPin", pin), ("uplink.apiSecret", api)]
    };
    let pairs = secrets(before).into_iter().zip(secrets(after));
    changed.extend(pairs.filter(|(old, new)| old != new).map(|(_, (path, _))| path.to_owned()));
    if before.uplink.ice_servers != after.uplink.ice_servers {
        changed.push("uplink.iceServers".to_owned());
    }
    changed.sort();
    changed.dedup();
    changed
}

/// Every `section.key` with its value.
fn sections(file: &File) -> Vec<(String, Value)> {
    // Cannot fail: text keys, finite numbers.
    let file = serde_json::to_value(file).unwrap_or_default();
    let mut keys = Vec::new();
    for (section, table) in file.as_object().into_iter().flatten() {
        for (key, value) in table.as_object().into_iter().flatten() {
            keys.push((format!("{section}.{key}"), value.clone()));
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::load_with;

    fn file(text: &str) -> File {
        load_with(text, "", std::iter::empty(), &BTreeMap::new(), |_| false).unwrap().file
    }

    #[test]
    fn a_key_that_says_its_default_has_not_changed() {
        assert_eq!(changed_keys(&file(""), &file("[reconnect]\nmaxRetries = 10")), [""; 0]);
    }

    #[test]
    fn every_changed_key_is_named_once_secrets_too() {
        let before = file(
            "[uplink]\ntoken = \"a\"\niceServers = [{ urls = [\"turn:h\"], username = \"u\", credential = \"a\" }]",
        );
        let after = file(
            "[uplink]\ntoken = \"b\"\niceServers = [{ urls = [\"turn:h\"], username = \"u\", credential = \"b\" }]\n\
             [video]\nwidth = 640\n[reconnect]\ngiveUpAfter = \"20m\"",
        );
        let expected = ["reconnect.giveUpAfter", "uplink.iceServers", "uplink.token", "video.width"];
        assert_eq!(changed_keys(&before, &after), expected);
        assert_eq!(changed_keys(&after, &before), expected);
    }
}
