//! The templates of our indices, put in place before anything is written and looked after while the sink runs.
//!
//! Each tracer has a template, whose mapping has the tracer's fields: see `fields`. What an event's fields may be is fixed
//! (`dynamic: false`), but for its data and its container's labels, which may have fields that are not known here. Their
//! values have the same types as those of known ones: see `flat`. Their number is bounded, and an event with one more is
//! poison. Indices that exist keep the mapping that they were made with; a new version holds from the next day on.

use bytes::Bytes;
use opensearch::http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

use crate::{
    Client, Settings,
    error::Error,
    fields::{Fields, Kind, TRACERS},
    names::Names,
};

/// Of the templates. Raise it with every change, also of a tracer's fields; one that is higher, of a newer aggregator, is
/// left alone.
const VERSION: u64 = 2;
/// Longest keyword that can be searched.
const MAX_KEYWORD: u64 = 512;
/// Fields of an index.
const MAX_FIELDS: u64 = 5000;
/// Above those that match everything; a tracer's is above that of all events.
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
        200 => answer.read(ACTION)?,
        _ => return Err(answer.refused(ACTION)),
    };
    let installed: BTreeMap<_, _> =
        installed.index_templates.into_iter().map(|named| (named.name, named.index_template.version)).collect();
    let mut wanted = vec![
        ("events".to_owned(), PRIORITY, names.all_events(), events(&[])),
        ("attachments".to_owned(), PRIORITY, names.all_attachments(), attachments()),
        ("dead-letters".to_owned(), PRIORITY, names.dead_letters(), dead_letters()),
    ];
    wanted.extend(TRACERS.iter().map(|(tracer, fields)| {
        (format!("events-{tracer}"), PRIORITY + 1, names.all_events_of(tracer), events(fields))
    }));
    for (of, priority, pattern, mappings) in wanted {
        let name = names.template(&of);
        if installed.get(&name).is_some_and(|version| *version > VERSION) {
            continue;
        }
        let template = json!({
            "index_patterns": [pattern],
            "priority": priority,
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

/// Of indices of events, `data` being what is known of it.
fn events(data: &[Fields]) -> Value {
    let long = || json!({ "type": "long" });
    let shown = || json!({ "type": "keyword", "index": false, "doc_values": false });
    let open = |properties: Map<String, Value>| json!({ "type": "object", "dynamic": true, "properties": properties });
    let below =
        |field: &str, mapping: Value| json!({ field: { "path_match": format!("{field}.*"), "mapping": mapping } });
    let (mut all, mut numbers, mut texts) = (Map::new(), Map::new(), Map::new());
    for fields in data {
        fields.each(&mut |path, kind| {
            match kind {
                Kind::Number => numbers.insert(path.clone(), number()),
                Kind::Text => texts.insert(path.clone(), words()),
                Kind::Truth => None,
            };
            all.insert(path, keyword());
        });
    }
    json!({
        "dynamic": false,
        "date_detection": false,
        "dynamic_templates": [
            below("data", keyword()),
            below("data_number", number()),
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
                "labels": open(Map::new()),
            } },
            "data": open(all),
            "data_number": open(numbers),
            "data_words": open(texts),
            "bytes": long(),
            "event": { "type": "binary" },
        },
    })
}

fn keyword() -> Value {
    json!({ "type": "keyword", "ignore_above": MAX_KEYWORD })
}

fn number() -> Value {
    json!({ "type": "double" })
}

fn words() -> Value {
    json!({ "type": "text", "analyzer": "whitespace", "norms": false })
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
