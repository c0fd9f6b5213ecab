//! The keys that settings may have, read from their JSON schema.

use serde_json::Value;

/// Below this likeness (Jaro-Winkler, 0 to 1) a suggestion would be a guess.
const LIKENESS: f64 = 0.7;

/// A node of the schema. Several, where a value may have one of several forms.
#[derive(Debug, Clone)]
pub(super) struct Shape<'a> {
    forms: Vec<&'a Value>,
}

impl<'a> Shape<'a> {
    pub(super) fn of(schema: &'a Value) -> Self {
        let mut forms = Vec::new();
        collect(schema, &mut forms);
        Self { forms }
    }

    /// The shape of what is under `key`; `None` if there can be no such key.
    pub(super) fn child(&self, key: &str) -> Option<Shape<'a>> {
        let mut found = None;
        for form in &self.forms {
            if let Some(child) = form.get("properties").and_then(|properties| properties.get(key)) {
                return Some(Self::of(child));
            }
            if found.is_none() {
                found = match form.get("additionalProperties") {
                    Some(Value::Bool(false)) => None,
                    Some(child) => Some(Self::of(child)),
                    // Free form.
                    None if form.get("properties").is_none() => Some(Self { forms: Vec::new() }),
                    None => None,
                };
            }
        }
        if self.forms.is_empty() { Some(self.clone()) } else { found }
    }

    /// Whether every value of it is text.
    pub(super) fn is_text(&self) -> bool {
        // An optional scalar has a list of types.
        let types = self.forms.iter().filter_map(|form| form.get("type")).flat_map(|types| match types {
            Value::Array(types) => types.as_slice(),
            one => std::slice::from_ref(one),
        });
        let mut types = types.filter_map(Value::as_str).filter(|name| *name != "null").peekable();
        types.peek().is_some() && types.all(|name| name == "string")
    }

    /// The key of this level that is most like `wrong`.
    pub(super) fn nearest(&self, wrong: &str) -> Option<&'a str> {
        self.forms
            .iter()
            .filter_map(|form| form.get("properties")?.as_object())
            .flat_map(|properties| properties.keys())
            .map(|key| (strsim::jaro_winkler(key, wrong), key.as_str()))
            .filter(|(likeness, _)| *likeness >= LIKENESS)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, key)| key)
    }

    /// The dotted key, anywhere below, whose last part is `name`: for a key in the wrong section.
    pub(super) fn find(&self, name: &str) -> Option<String> {
        let properties = || self.forms.iter().filter_map(|form| form.get("properties")?.as_object()).flatten();
        if properties().any(|(key, _)| key == name) {
            return Some(name.to_owned());
        }
        properties().find_map(|(key, child)| Some(format!("{key}.{}", Self::of(child).find(name)?)))
    }
}

fn collect<'a>(schema: &'a Value, forms: &mut Vec<&'a Value>) {
    if schema.as_object().is_some_and(|schema| schema.contains_key("type") || schema.contains_key("properties")) {
        forms.push(schema);
    }
    for combination in ["anyOf", "oneOf", "allOf"] {
        for form in schema.get(combination).and_then(Value::as_array).into_iter().flatten() {
            collect(form, forms);
        }
    }
}
