//! The mappings of a real cluster: each tracer's fields have their types, whatever an older version had left.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use galen_specimen::{NOW, event, record};
use opensearch::http::Method;
use serde_json::{Value, json};

use support::{ask, indexed, settings, shared};

/// Of each tracer a number, a text and a truth, none of which its event below has.
const FIELDS: [(&str, &str, &str, Option<&str>); 7] = [
    ("cpuidle", "hottest_functions/own_percent", "before/hottest_stacks/comm", Some("capture")),
    ("cpusys", "system_time/processes/pid", "system_time/containers/name", Some("cut_short")),
    ("dload", "stacks/tasks/count", "known_issue", Some("capture")),
    ("iotracer", "reason_snapshot/iostatus/io_util", "processes/files/path", Some("io_waits/longest/waits_still")),
    ("memburst", "memory/available_bytes", "processes/cgroup", Some("capture")),
    ("oom", "victim/memory/anon_bytes", "victim/name", None),
    ("waitrate", "interferer_list/held_ms", "workloads/interferer_list/runtime", Some("capture")),
];

#[tokio::test]
async fn a_tracers_fields_have_their_types_also_where_an_older_template_was() {
    let server = shared();
    // Of a version that mapped everything otherwise.
    let old = |pattern: &str, priority: u64| {
        let properties = json!({ "data": { "properties": { "victim/pid": { "type": "ip" } } } });
        json!({
            "index_patterns": [pattern],
            "priority": priority,
            "version": 1,
            "template": { "mappings": { "dynamic": "strict", "properties": properties } },
        })
    };
    for (name, pattern, priority) in
        [("types-events", "types-events-*", 200), ("types-events-oom", "types-events-oom-*", 201)]
    {
        let path = format!("/_index_template/{name}");
        let (status, answer) = ask(&server, Method::Put, &path, Some(old(pattern, priority))).await;
        assert_eq!(status, 200, "{answer}");
    }
    let names = FIELDS.map(|(tracer, ..)| tracer);
    let events: Vec<_> = names.map(|tracer| event(tracer, NOW, r#"{"new":{"field":1.5}}"#)).into();
    let other = event("mine", NOW, r#"{"n":7}"#);
    let stats = indexed(settings(&server, "types"), vec![record(1, &events), record(8, &[other])]).await;
    assert_eq!((stats.events, stats.poisoned.len()), (8, 0));

    for (tracer, number, text, truth) in FIELDS {
        let index = format!("types-events-{tracer}-2025.11.24");
        let (_, answer) = ask(&server, Method::Get, &format!("/{index}/_mapping"), None).await;
        let type_of = |view: &str, field: &str| -> Value {
            answer[&index]["mappings"]["properties"][view]["properties"][field]["type"].clone()
        };
        for (view, field, expected) in [
            ("data", number, "keyword"),
            ("data_number", number, "double"),
            ("data", text, "keyword"),
            ("data_words", text, "text"),
            ("data", truth.unwrap_or(text), "keyword"),
            // What is not known yet comes by the same rule.
            ("data", "new/field", "keyword"),
            ("data_number", "new/field", "double"),
        ] {
            assert_eq!(type_of(view, field), expected, "{view}.{field} of {tracer}: {answer}");
        }
        assert_eq!(type_of("data_words", number), Value::Null, "{number} of {tracer} is no text");
    }
    let (_, answer) = ask(&server, Method::Get, "/types-events-mine-2025.11.24/_mapping", None).await;
    let mappings = &answer["types-events-mine-2025.11.24"]["mappings"];
    assert_eq!(mappings["properties"]["data_number"]["properties"], json!({ "n": { "type": "double" } }));
}
