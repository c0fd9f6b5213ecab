//! What the settings are, for people: a commented file of the defaults, and the JSON schema.

use std::fmt::Write;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Map, Value};

/// The schema with nothing behind references, so that it can be walked.
pub(super) fn schema<R: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<R>().to_value()
}

/// The JSON schema (draft 2020-12) of the settings, with their docs and defaults.
pub fn schema_json<R: JsonSchema + Serialize + Default>() -> String {
    let mut schema = schema::<R>();
    if let Ok(defaults) = serde_json::to_value(R::default()) {
        set_defaults(&mut schema, &defaults);
    }
    // A tree of maps, lists and text always has a JSON form.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

/// A file that says what holds without one: every setting with its doc and its default. A setting without a default is
/// commented out.
pub fn defaults_toml<R: JsonSchema + Serialize + Default>() -> String {
    let schema = schema::<R>();
    let defaults = serde_json::to_value(R::default()).unwrap_or_default();
    let mut out = String::new();
    section(&mut out, "", &schema, &defaults);
    out
}

fn section(out: &mut String, path: &str, schema: &Value, values: &Value) {
    let (sections, settings): (Vec<_>, Vec<_>) =
        members(schema, values).into_iter().partition(|(key, schema)| is_section(schema, &values[key]));
    for (key, schema) in settings {
        doc(out, schema);
        match to_toml(&values[key]) {
            Some(value) => writeln!(out, "{key} = {value}\n"),
            None => writeln!(out, "#{key} =\n"),
        }
        .ok();
    }
    for (key, schema) in sections {
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let absent = if values[key].is_null() { "#" } else { "" };
        doc(out, schema);
        writeln!(out, "{absent}[{path}]").ok();
        if members(schema, &values[key]).iter().all(|(name, schema)| is_section(schema, &values[key][name])) {
            writeln!(out).ok();
        }
        section(out, &path, schema, &values[key]);
    }
}

/// The settings of a struct, or the entries of a map, with their schemas.
fn members<'a>(schema: &'a Value, values: &'a Value) -> Vec<(&'a str, &'a Value)> {
    if let Some(properties) = properties(schema) {
        return properties.iter().map(|(key, schema)| (key.as_str(), schema)).collect();
    }
    let entry = schema.get("additionalProperties").unwrap_or(&Value::Null);
    values.as_object().into_iter().flatten().map(|(key, _)| (key.as_str(), entry)).collect()
}

/// A map without entries is a section too: that is how it is written once it has some.
fn is_section(schema: &Value, value: &Value) -> bool {
    value.is_object() || (value.is_null() && properties(schema).is_some())
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    let own = schema.get("properties").and_then(Value::as_object);
    own.or_else(|| {
        let forms = schema.get("anyOf").or_else(|| schema.get("allOf"))?.as_array()?;
        forms.iter().find_map(properties)
    })
}

fn doc(out: &mut String, schema: &Value) {
    for line in schema.get("description").and_then(Value::as_str).into_iter().flat_map(str::lines) {
        let space = if line.is_empty() { "" } else { " " };
        writeln!(out, "#{space}{line}").ok();
    }
}

fn to_toml(value: &Value) -> Option<String> {
    if value.is_null() {
        return None;
    }
    toml::Value::try_from(value).ok().map(|value| value.to_string())
}

/// The default that holds is the whole struct's, also where a nested type has one of its own.
fn set_defaults(schema: &mut Value, values: &Value) {
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("default");
    let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (key, child) in properties {
        let value = &values[key.as_str()];
        let nested = child.get("properties").is_some() && value.is_object();
        set_defaults(child, value);
        if let (false, false, Some(child)) = (nested, value.is_null(), child.as_object_mut()) {
            child.insert("default".into(), value.clone());
        }
    }
}
