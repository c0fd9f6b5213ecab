//! The fields that a query may name.

use tantivy::schema::Field;

use super::{Error, parse::Name};
use crate::schema::FIELDS;

/// How the values of a field are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text kept whole: `web-1`, `web-*`.
    Keyword,
    /// Text cut into words: `memory`, `"out of memory"`.
    Words,
    /// `info` < `warning` < `critical`.
    Severity,
    /// A whole number.
    Count,
    /// A moment: `2026-11-22T10:00:00Z`, `now-15m`.
    Time,
    /// `node/epoch/seq`.
    Id,
    /// Any JSON below the field: numbers, words, `true`.
    Json,
    /// Keywords below the field.
    Keywords,
}

/// Every field, with how it is compared. Below `data` and `container.labels` any name is a field.
#[must_use]
pub const fn known_fields() -> &'static [(&'static str, Kind)] {
    &[
        ("id", Kind::Id),
        ("node", Kind::Keyword),
        ("epoch", Kind::Keyword),
        ("seq", Kind::Count),
        ("offset", Kind::Count),
        ("time", Kind::Time),
        ("recorded", Kind::Time),
        ("received", Kind::Time),
        ("tracer", Kind::Keyword),
        ("run_id", Kind::Keyword),
        ("kind", Kind::Keyword),
        ("severity", Kind::Severity),
        ("summary", Kind::Words),
        ("defect", Kind::Words),
        ("attachment", Kind::Keyword),
        ("host.name", Kind::Keyword),
        ("host.kernel", Kind::Keyword),
        ("host.arch", Kind::Keyword),
        ("host.boot_id", Kind::Keyword),
        ("host.region", Kind::Keyword),
        ("host.cpus", Kind::Count),
        ("container.id", Kind::Keyword),
        ("container.name", Kind::Keyword),
        ("container.runtime", Kind::Keyword),
        ("container.cgroup", Kind::Keyword),
        ("container.pod", Kind::Keyword),
        ("container.namespace", Kind::Keyword),
        ("container.qos", Kind::Keyword),
        ("container.image", Kind::Keyword),
        ("container.labels", Kind::Keywords),
        ("data", Kind::Json),
    ]
}

/// The field that a name leads to.
#[derive(Debug, Clone)]
pub struct Target {
    pub kind: Kind,
    /// The known field.
    pub known: &'static str,
    /// What follows it, below `data` and `container.labels`.
    pub path: Option<String>,
    /// All of the name.
    pub name: String,
    /// Of the index.
    pub(crate) field: Field,
}

/// Finds a field by its name.
///
/// # Errors
/// Says which name was meant.
pub fn resolve(name: &str) -> Result<Target, String> {
    for (known, kind) in known_fields() {
        if matches!(kind, Kind::Json | Kind::Keywords)
            && let Some(path) = name.strip_prefix(known).and_then(|rest| rest.strip_prefix('.'))
            && !path.is_empty()
        {
            return Ok(target(known, *kind, Some(path.to_owned()), name));
        }
    }
    match known_fields().iter().find(|(known, _)| *known == name) {
        Some((known, kind)) => Ok(target(known, *kind, None, name)),
        None => {
            let lower = name.to_lowercase();
            let distance = |known: &str| strsim::damerau_levenshtein(known, &lower);
            let nearest = known_fields().iter().min_by_key(|(known, _)| distance(known));
            // Not so far that any short name would do.
            let close = nearest.filter(|(known, _)| distance(known) <= 3.min(name.len() / 2));
            let container = known_fields().iter().find(|(known, _)| known.rsplit('.').next() == Some(name));
            Err(match close.filter(|_| container.is_none()).or(container) {
                Some((meant, _)) => format!("there is no field `{name}`: is `{meant}` meant?"),
                None => format!(
                    "there is no field `{name}`: values that a tracer found are below `data`, as in `data.{name}`"
                ),
            })
        }
    }
}

/// As [`resolve`], with the position.
pub(super) fn resolve_at(name: &Name) -> Result<Target, Error> {
    resolve(&name.text).map_err(|message| Error::new(name.at, message))
}

fn target(known: &'static str, kind: Kind, path: Option<String>, name: &str) -> Target {
    // An id is looked up by its parts; the field stands for the first.
    let first = if kind == Kind::Id { "node" } else { known };
    // Every name of the table is in the schema: a test goes through them.
    let field = FIELDS.schema.get_field(first).unwrap_or(FIELDS.data);
    Target { kind, known, path, name: name.to_owned(), field }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_in_the_index() {
        for (name, kind) in known_fields() {
            assert!(*kind == Kind::Id || FIELDS.schema.get_field(name).is_ok(), "{name}");
        }
        let inner = ["source", "evidence", "data_text"];
        for (_, entry) in FIELDS.schema.fields() {
            let known = known_fields().iter().any(|(name, _)| *name == entry.name());
            assert!(known || inner.contains(&entry.name()), "{}", entry.name());
        }
    }

    #[test]
    fn a_wrong_name_leads_to_the_right_one() {
        assert!(resolve("tracr").unwrap_err().contains("`tracer`"));
        assert!(resolve("TRACER").unwrap_err().contains("`tracer`"));
        assert!(resolve("b").unwrap_err().contains("`data.b`"));
        assert!(resolve("pod").unwrap_err().contains("`container.pod`"));
        assert!(resolve("user_percent").unwrap_err().contains("`data.user_percent`"));
        assert_eq!(resolve("data.a.b").unwrap().path.as_deref(), Some("a.b"));
        assert!(resolve("data.").is_err());
    }
}
