//! From a parsed query to OpenSearch's own, so that it finds what the embedded store finds.
//!
//! What a text means was settled when it was parsed: only a query that the embedded store can run comes here. Each
//! clause names a field of one type, so none depends on what a value looks like to the server.

use galen_store::{
    Query,
    query::{Bound, Expression, Kind, Name, Target, Value, Wild, parse_time, resolve, severities, whole_days},
};
use serde_json::{Map, Number, Value as Json, json};

use crate::{flat::field, words::words};

/// Keywords in which a word without a field is looked for.
const ANYWHERE: [&str; 6] = ["tracer", "node", "host.name", "container.name", "container.pod", "container.namespace"];

/// The clause that matches what the query matches.
pub(crate) fn compile(query: &Query) -> Json {
    Compiler { now: query.now() }.expression(query.expression())
}

struct Compiler {
    /// Nanoseconds since 1970-01-01 UTC.
    now: i64,
}

impl Compiler {
    fn expression(&self, expression: &Expression) -> Json {
        match expression {
            Expression::Everything => everything(),
            Expression::Not(inner) => json!({ "bool": { "must_not": [self.expression(inner)] } }),
            Expression::Any(branches) => any(branches.iter().map(|branch| self.expression(branch)).collect()),
            Expression::All(parts) => {
                let (mut all, mut none) = (Vec::new(), Vec::new());
                for part in parts {
                    match part {
                        Expression::Not(inner) => none.push(self.expression(inner)),
                        other => all.push(self.expression(other)),
                    }
                }
                json!({ "bool": { "filter": all, "must_not": none } })
            }
            Expression::Term { field: None, value, .. } => anywhere(value),
            Expression::Term { field: Some(name), value, .. } => self.term(name, value),
        }
    }

    fn term(&self, name: &Name, value: &Value) -> Json {
        if name.text == "_exists_" {
            let (Value::Word { text, .. } | Value::Phrase(text)) = value else { return nothing() };
            return resolve(text).map_or_else(|_| nothing(), |target| exists(&target));
        }
        let Ok(target) = resolve(&name.text) else { return nothing() };
        let open = *value == Value::Range(Bound::Open, Bound::Open);
        if open || is_any(value) {
            return exists(&target);
        }
        match target.kind {
            // The place in a log is not known here.
            Kind::Count if target.known == "offset" => nothing(),
            Kind::Count => range(target.known, value, |text| text.parse::<u64>().ok().map(Json::from)),
            Kind::Time => range(target.known, &whole_days(value), |text| parse_time(text, self.now).map(Json::from)),
            Kind::Keyword => keyword(target.known, value),
            Kind::Severity => severity(target.known, value),
            Kind::Words => in_words(&format!("{}_words", target.known), value),
            Kind::Id => id(value),
            Kind::Keywords => target.path.as_deref().map_or_else(nothing, |path| keyword(&below(&target, path), value)),
            Kind::Json => target.path.as_deref().map_or_else(nothing, |path| data(path, value)),
        }
    }
}

/// A term without a field.
fn anywhere(value: &Value) -> Json {
    if is_any(value) {
        return everything();
    }
    let keywords = ANYWHERE.iter().map(|field| keyword(field, value));
    any(keywords.chain([in_words("summary_words", value)]).collect())
}

fn exists(target: &Target) -> Json {
    let field = |name: &str| json!({ "exists": { "field": name } });
    match (target.kind, &target.path) {
        (Kind::Id, _) => everything(),
        (Kind::Count, _) if target.known == "offset" => nothing(),
        (Kind::Words, _) if target.known == "summary" => field("summary_words"),
        (Kind::Json | Kind::Keywords, Some(path)) => {
            let name = below(target, path);
            any(vec![field(&name), field(&format!("{name}/*"))])
        }
        _ => field(target.known),
    }
}

fn keyword(field: &str, value: &Value) -> Json {
    match value {
        Value::Word { text, pattern: None } | Value::Phrase(text) => term(field, text.as_str()),
        Value::Word { pattern: Some(pattern), .. } => wildcard(field, pattern, false),
        Value::Range(..) => range(field, value, |text| Some(text.into())),
    }
}

fn severity(field: &str, value: &Value) -> Json {
    match value {
        Value::Word { pattern: Some(pattern), .. } => wildcard(field, pattern, false),
        _ => clause("terms", field, severities(value).unwrap_or_default()),
    }
}

/// In a field that has words alone.
fn in_words(field: &str, value: &Value) -> Json {
    match value {
        Value::Word { text, pattern: None } | Value::Phrase(text) => {
            let words = words(text);
            match words.split(' ').count() {
                _ if words.is_empty() => nothing(),
                1 => term(field, words),
                _ => clause("match_phrase", field, json!({ "query": words, "analyzer": "whitespace" })),
            }
        }
        Value::Word { pattern: Some(pattern), .. } => wildcard(field, pattern, true),
        Value::Range(..) => range(field, value, |text| Some(text.into())),
    }
}

/// What a tracer found, which may be of any type.
fn data(path: &str, value: &Value) -> Json {
    let path = field(path);
    let [all, numbers, texts] = ["data", "data_number", "data_words"].map(|view| format!("{view}.{path}"));
    match value {
        Value::Word { text, pattern: None } => {
            let mut branches = vec![in_words(&texts, value)];
            branches.extend(number(text).map(|number| term(&numbers, number)));
            branches.extend(text.parse::<bool>().ok().map(|truth| term(&all, truth.to_string())));
            any(branches)
        }
        Value::Range(lower, upper) => {
            let is_number = |bound: &Bound| match bound {
                Bound::Open => true,
                Bound::Included(text) | Bound::Excluded(text) => number(text).is_some(),
            };
            if is_number(lower) && is_number(upper) {
                range(&numbers, value, |text| number(text).map(Json::Number))
            } else {
                // Numbers and truths are no texts, though they are written.
                let as_text = range(&all, value, |text| Some(text.into()));
                json!({ "bool": { "filter": [as_text, { "exists": { "field": texts } }] } })
            }
        }
        _ => in_words(&texts, value),
    }
}

fn id(value: &Value) -> Json {
    let (Value::Word { text, .. } | Value::Phrase(text)) = value else { return nothing() };
    match text.parse::<galen_proto::v1::EventId>() {
        Ok(id) => json!({ "ids": { "values": [id.to_string()] } }),
        Err(_) => nothing(),
    }
}

/// A range, or one value as a range of that value alone.
fn range(field: &str, value: &Value, read: impl Fn(&str) -> Option<Json>) -> Json {
    let one = |text: &String| Bound::Included(text.clone());
    let (lower, upper) = match value {
        Value::Range(lower, upper) => (lower.clone(), upper.clone()),
        Value::Word { text, .. } | Value::Phrase(text) => (one(text), one(text)),
    };
    let mut bounds = Map::new();
    for (bound, included, excluded) in [(lower, "gte", "gt"), (upper, "lte", "lt")] {
        let (operator, text) = match bound {
            Bound::Open => continue,
            Bound::Included(text) => (included, text),
            Bound::Excluded(text) => (excluded, text),
        };
        let Some(bound) = read(&text) else { return nothing() };
        bounds.insert(operator.into(), bound);
    }
    clause("range", field, bounds)
}

fn wildcard(field: &str, pattern: &[Wild], lower: bool) -> Json {
    let mut text = String::new();
    for piece in pattern {
        match piece {
            Wild::Any => text.push('*'),
            Wild::One => text.push('?'),
            Wild::Char(c) if "*?\\".contains(*c) => text.extend(['\\', *c]),
            Wild::Char(c) if lower => text.extend(c.to_lowercase()),
            Wild::Char(c) => text.push(*c),
        }
    }
    clause("wildcard", field, json!({ "value": text }))
}

fn term(field: &str, value: impl Into<Json>) -> Json {
    clause("term", field, json!({ "value": value.into() }))
}

/// `{kind: {field: value}}`.
fn clause(kind: &str, field: &str, value: impl Into<Json>) -> Json {
    json!({ kind: { field: value.into() } })
}

fn any(branches: Vec<Json>) -> Json {
    json!({ "bool": { "should": branches, "minimum_should_match": 1 } })
}

fn everything() -> Json {
    json!({ "match_all": {} })
}

fn nothing() -> Json {
    json!({ "match_none": {} })
}

fn is_any(value: &Value) -> bool {
    matches!(value, Value::Word { pattern: Some(pattern), .. } if pattern.iter().all(|piece| *piece == Wild::Any))
}

/// The field that a path leads to, below one of those that are open.
pub(crate) fn below(target: &Target, path: &str) -> String {
    format!("{}.{}", target.known, field(path))
}

/// The number that a text is.
fn number(text: &str) -> Option<Number> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.into());
    }
    if let Ok(number) = text.parse::<u64>() {
        return Some(number.into());
    }
    Number::from_f64(text.parse().ok()?)
}
