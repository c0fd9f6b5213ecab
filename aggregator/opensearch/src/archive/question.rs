//! What is asked: a search as OpenSearch is told it, and the place at which a page begins.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use galen_store::{
    DEADLINE, MAX_VALUES, Query,
    query::{Kind, Target},
};
use serde_json::{Map, Value as Json, json};

use crate::{
    error::Error,
    query::{below, compile},
};

/// Values that each shard counts, so that the sum of the shards is true for those that are shown.
pub(super) const SHARD_VALUES: usize = 10_000;
/// What events are ordered by, with its type.
const ORDER: [(&str, &str); 5] =
    [("time", "long"), ("received", "long"), ("node", "keyword"), ("epoch", "keyword"), ("seq", "unsigned_long")];

/// What to look for.
#[derive(Debug)]
pub struct Search<'a> {
    pub query: &'a Query,
    /// Observed at or after, nanoseconds since 1970-01-01 UTC.
    pub since: Option<i64>,
    /// Observed before, nanoseconds since 1970-01-01 UTC.
    pub until: Option<i64>,
    /// Oldest first instead of newest first.
    pub ascending: bool,
    /// Most events of the answer; at most [`galen_store::MAX_LIMIT`].
    pub limit: usize,
    /// Where the page begins: `next` of the one before.
    pub page: Option<&'a str>,
    /// Fields whose values to count.
    pub count_by: &'a [String],
}

/// The whole request; `size` is that of its page.
pub(super) fn body(search: &Search<'_>, size: usize, count_by: &[Target]) -> Result<Json, Error> {
    let mut filter = vec![compile(search.query)];
    let mut times = Map::new();
    times.extend(search.since.map(|since| ("gte".to_owned(), since.into())));
    times.extend(search.until.map(|until| ("lt".to_owned(), until.into())));
    if !times.is_empty() {
        filter.push(json!({ "range": { "time": times } }));
    }
    let direction = if search.ascending { "asc" } else { "desc" };
    let sort = ORDER.map(|(field, kind)| json!({ field: { "order": direction, "unmapped_type": kind } }));
    let mut body = json!({
        "query": { "bool": { "filter": filter } },
        "sort": sort,
        "size": size,
        "track_total_hits": true,
        "timeout": format!("{}s", DEADLINE.as_secs()),
        "_source": false,
        "docvalue_fields": ["bytes"],
    });
    if let Some(page) = search.page {
        body["search_after"] = place(page)?;
    }
    for (number, target) in count_by.iter().enumerate() {
        body["aggs"][number.to_string()] = json!({ "terms": {
            "field": counted(target),
            "size": MAX_VALUES,
            "shard_size": SHARD_VALUES,
            "order": [{ "_count": "desc" }, { "_key": "asc" }],
        } });
    }
    Ok(body)
}

/// The field whose values are counted.
fn counted(target: &Target) -> String {
    match (target.kind, &target.path) {
        (Kind::Json | Kind::Keywords, Some(path)) => below(target, path),
        _ => target.known.to_owned(),
    }
}

/// The text form of a place in the order.
pub(super) fn page(sort: &[Json]) -> String {
    URL_SAFE_NO_PAD.encode(Json::from(sort).to_string())
}

fn place(page: &str) -> Result<Json, Error> {
    let read = || {
        let bytes = URL_SAFE_NO_PAD.decode(page).ok()?;
        let place: Vec<Json> = serde_json::from_slice(&bytes).ok()?;
        let fits = |(value, (_, kind)): (&Json, &(&str, &str))| match *kind {
            "keyword" => value.is_string(),
            "long" => value.is_i64(),
            _ => value.is_u64(),
        };
        (place.len() == ORDER.len() && place.iter().zip(&ORDER).all(fits)).then_some(Json::from(place))
    };
    read().ok_or_else(|| galen_store::Error::Page(page.chars().take(64).collect()).into())
}
