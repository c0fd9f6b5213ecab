//! How much there is, and what of it was put aside.

use std::collections::BTreeMap;

use bytes::Bytes;
use opensearch::http::Method;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{
    Archive,
    answer::{Searched, tally},
    question::SHARD_VALUES,
};
use crate::{document::UNREADABLE, error::Error};

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    pub events: u64,
    pub bytes: u64,
}

/// Events that were put aside, by node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aside {
    /// Documents that hold no more than bytes.
    pub undecodable: Vec<(String, u64)>,
    /// Dead letters.
    pub refused: Vec<(String, u64)>,
}

/// The answer about sizes, as far as it is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stats {
    _all: All,
    indices: BTreeMap<String, All>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct All {
    primaries: Primaries,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Primaries {
    docs: Docs,
    store: Store,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Docs {
    count: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Store {
    size_in_bytes: u64,
}

impl Archive {
    /// How many events there are, and how large they are on disk.
    ///
    /// # Errors
    /// If OpenSearch does not answer.
    pub async fn size(&self) -> Result<Size, Error> {
        const ACTION: &str = "tell its size";
        let patterns = format!("{},{}", self.names.all_events(), self.names.all_attachments());
        let path = format!("/{patterns}/_stats/docs,store?filter_path=_all.primaries,indices.*.primaries.docs");
        let answer = self.send(ACTION, Method::Get, &path, None).await?;
        let stats: Stats = answer.read(ACTION)?;
        let events = self.names.all_events();
        let events = events.trim_end_matches('*');
        let of_events = stats.indices.iter().filter(|(name, _)| name.starts_with(events));
        Ok(Size {
            events: of_events.map(|(_, of)| of.primaries.docs.count).sum(),
            bytes: stats._all.primaries.store.size_in_bytes,
        })
    }

    /// All events that were put aside and are there still, a moment ago. Of more nodes than can be counted, those with
    /// the most.
    ///
    /// # Errors
    /// If OpenSearch does not answer.
    pub async fn aside(&self) -> Result<Aside, Error> {
        let unreadable = json!({ "prefix": { "defect": { "value": UNREADABLE } } });
        Ok(Aside {
            undecodable: self.by_node(&self.names.event(None), unreadable).await?,
            refused: self.by_node(&self.names.dead_letters(), json!({ "match_all": {} })).await?,
        })
    }

    /// How many documents of an index match, by node.
    async fn by_node(&self, index: &str, query: Json) -> Result<Vec<(String, u64)>, Error> {
        const ACTION: &str = "count what was put aside";
        let path = format!("/{index}/_search?ignore_unavailable=true&filter_path=timed_out,aggregations");
        let nodes = json!({ "terms": { "field": "node", "size": SHARD_VALUES } });
        let body = json!({ "query": query, "size": 0, "aggs": { "nodes": nodes } });
        let answer = self.send(ACTION, Method::Post, &path, Some(Bytes::from(body.to_string()))).await?;
        let searched: Searched = answer.read(ACTION)?;
        Ok(tally("node", searched.aggregations.get("nodes")).values)
    }
}
