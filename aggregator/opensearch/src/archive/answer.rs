//! What is answered, as far as it is asked for: what is empty is left out by the server's filter.

use galen_store::Tally;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Searched {
    pub(super) timed_out: bool,
    pub(super) hits: Hits,
    pub(super) aggregations: Map<String, Json>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Hits {
    pub(super) total: Total,
    pub(super) hits: Vec<Hit>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Total {
    pub(super) value: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Hit {
    pub(super) _index: String,
    pub(super) _id: String,
    #[serde(default)]
    pub(super) sort: Vec<Json>,
    #[serde(default)]
    pub(super) fields: Fields,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fields {
    pub(super) bytes: Vec<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Documents {
    pub(super) docs: Vec<Document>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Document {
    pub(super) _id: String,
    pub(super) _source: Option<Source>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Source {
    pub(super) event: String,
    pub(super) received: i64,
    pub(super) defect: Option<String>,
    pub(super) content: String,
}

/// The values of a field, as an aggregation counted them, the most frequent first.
pub(super) fn tally(field: &str, aggregation: Option<&Json>) -> Tally {
    let buckets = aggregation.and_then(|aggregation| aggregation["buckets"].as_array());
    let value = |bucket: &Json| {
        let key = match &bucket["key"] {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        };
        (key, bucket["doc_count"].as_u64().unwrap_or_default())
    };
    let mut values: Vec<_> = buckets.into_iter().flatten().map(value).collect();
    values.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    Tally { field: field.to_owned(), values }
}
