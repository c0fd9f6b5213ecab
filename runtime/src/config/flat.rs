//! Settings by dotted key, to be compared.

use std::collections::BTreeMap;

use serde::Serialize;
use toml::Value;

/// Every value as TOML writes it, by dotted key. What TOML cannot write is left out.
pub fn flat<R: Serialize>(settings: &R) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    if let Ok(all) = Value::try_from(settings) {
        flatten("", &all, &mut flat);
    }
    flat
}

/// The keys whose values differ.
pub fn changed<'a>(before: &'a BTreeMap<String, String>, after: &'a BTreeMap<String, String>) -> Vec<&'a str> {
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let other = after.iter().filter(|(key, value)| before.get(*key) != Some(value)).map(|(key, _)| key);
    let mut keys: Vec<&str> = gone.chain(other).map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn flatten(key: &str, value: &Value, flat: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&key, value, flat);
            }
        }
        value => {
            flat.insert(key.to_owned(), value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use toml::toml;

    use super::*;

    #[test]
    fn keys_that_came_changed_or_went_are_named() {
        let before = flat(&toml! { [log] filter = "info" [listen] grpc = "a" http = "b" });
        let after = flat(&toml! { [log] filter = "warn" [listen] grpc = "a" [more] new = 1 });
        assert_eq!(changed(&before, &after), ["listen.http", "log.filter", "more.new"]);
        assert!(changed(&after, &after).is_empty());
    }
}
