//! The templates of our indices, put in place before anything is written and looked after while the sink runs.
//!
//! Each index has a mapping of its own, which grows by the fields of one tracer. What an event's fields may be is fixed
//! (`dynamic: false`), but for its data and its container's labels, whose values have one type each: see `flat`. Their
//! number is bounded, and an event with one more is poison. Indices that exist keep the mapping that they were made
//! with; a new version holds from the next day on.

use bytes::Bytes;
use opensearch::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use crate::{Client, Settings, error::Error, names::Names};

/// Of the templates. Raise it with every change; one that is higher, of a newer aggregator, is left alone.
const VERSION: u64 = 1;
/// Longest keyword that can be searched.
const MAX_KEYWORD: u64 = 512;
/// Fields of an index.
const MAX_FIELDS: u64 = 5000;
/// Above those that match everything.
const PRIORITY: u64 = 200;

/// The templates that are there, as far as they are asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Installed {
    index_templates: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    index_template: Versioned,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Versioned {
    version: u64,
}

/// Puts the templates in place, unless newer ones are there.
pub(crate) async fn install(client: &Client, names: &Names, settings: &Settings) -> Result<(), Error> {
    const ACTION: &str = "look for templates";
    let path = format!("/_index_template/{}-*?filter_path=index_templates.*", settings.prefix);
    let answer = client.send(Method::Get, &path, None).await?;
    let installed: Installed = match answer.status {
        404 => Installed::default(),
        200 => serde_json::from_slice(&answer.body).map_err(Error::answer(ACTION))?,
        _ => return Err(answer.refused(ACTION)),
    };
    let installed: BTreeMap<_, _> =
        installed.index_templates.into_iter().map(|named| (named.name, named.index_template.version)).collect();
    for (of, pattern, mappings) in [
        ("events", names.all_events(), events()),
        ("attachments", names.all_attachments(), attachments()),
        ("dead-letters", names.dead_letters(), dead_letters()),
    ] {
        let name = names.template(of);
        if installed.get(&name).is_some_and(|version| *version > VERSION) {
            continue;
        }
        let template = json!({
            "index_patterns": [pattern],
            "priority": PRIORITY,
            "version": VERSION,
            "template": {
                "settings": {
                    "index.number_of_shards": settings.shards,
                    "index.number_of_replicas": settings.replicas,
                    "index.mapping.total_fields.limit": MAX_FIELDS,
                },
                "mappings": mappings,
            },
        });
        let path = format!("/_index_template/{name}");
        client.ask("install a template", Method::Put, &path, Some(Bytes::from(template.to_string()))).await?;
    }
    Ok(())
}

fn events() -> Value {
    let keyword = || json!({ "type": "keyword", "ignore_above": MAX_KEYWORD });
    let words = || json!({ "type": "text", "analyzer": "whitespace", "norms": false });
    let long = || json!({ "type": "long" });
    let shown = || json!({ "type": "keyword", "index": false, "doc_values": false });
    let open = || json!({ "type": "object", "dynamic": true });
    let below =
        |field: &str, mapping: Value| json!({ field: { "path_match": format!("{field}.*"), "mapping": mapping } });
    json!({
        "dynamic": false,
        "date_detection": false,
        "dynamic_templates": [
            below("data", keyword()),
            below("data_number", json!({ "type": "double" })),
            below("data_words", words()),
            below("container.labels", keyword()),
        ],
        "properties": {
            "@timestamp": { "type": "date", "format": "epoch_millis", "ignore_malformed": true },
            "node": keyword(),
            "epoch": keyword(),
            "seq": { "type": "unsigned_long" },
            "time": long(),
            "recorded": long(),
            "received": long(),
            "tracer": keyword(),
            "run_id": keyword(),
            "kind": keyword(),
            "severity": keyword(),
            "summary": shown(),
            "summary_words": words(),
            "explanation": shown(),
            "defect": keyword(),
            "defect_words": words(),
            "attachment": keyword(),
            "host": { "properties": {
                "name": keyword(),
                "kernel": keyword(),
                "arch": keyword(),
                "boot_id": keyword(),
                "region": keyword(),
                "cpus": { "type": "unsigned_long" },
            } },
            "container": { "properties": {
                "id": keyword(),
                "name": keyword(),
                "runtime": keyword(),
                "cgroup": keyword(),
                "pod": keyword(),
                "namespace": keyword(),
                "qos": keyword(),
                "image": keyword(),
                "labels": open(),
            } },
            "data": open(),
            "data_number": open(),
            "data_words": open(),
            "bytes": long(),
            "event": { "type": "binary" },
        },
    })
}

/// Looked up by their names alone.
fn attachments() -> Value {
    json!({
        "dynamic": false,
        "properties": {
            "event": { "type": "keyword" },
            "received": { "type": "long" },
            "content": { "type": "binary" },
        },
    })
}

fn dead_letters() -> Value {
    json!({
        "dynamic": false,
        "properties": {
            "@timestamp": { "type": "date", "format": "epoch_millis", "ignore_malformed": true },
            "id": { "type": "keyword" },
            "node": { "type": "keyword" },
            "received": { "type": "long" },
            "status": { "type": "long" },
            "reason": { "type": "keyword" },
            "event": { "type": "binary" },
        },
    })
}
