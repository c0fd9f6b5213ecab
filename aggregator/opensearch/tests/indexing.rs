//! Events in a real OpenSearch: each once, as it was received, in its own index; what is refused goes aside.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use galen_opensearch::{DeadLetters, Replayed};
use galen_proto::v1::Event;
use galen_specimen::{NOW, SECOND, attachment, event, raw_record, record};
use opensearch::http::Method;
use prost::Message;
use serde_json::json;

use support::{Running, ask, documents, indexed, settings, shared};

#[tokio::test]
async fn an_event_is_a_document_in_the_index_of_its_day_and_tracer() {
    let server = shared();
    let mut full = event("cpuidle", NOW, r#"{"user_percent":97.5,"comm":"Java VM","deep":{"list":[1,"x",true]}}"#);
    full.attachments = vec![attachment("before.pb.gz", 10), attachment("after.pb.gz", 300_000)];
    let records = vec![
        record(1, std::slice::from_ref(&full)),
        record(2, &[event("mine", NOW - 86_400 * SECOND, ""), event("oom", 0, "not json")]),
        raw_record(4, vec![Bytes::from_static(b"\xff\xff not an event")]),
    ];
    let stats = indexed(settings(&server, "plain"), records).await;
    assert_eq!((stats.events, stats.partly, stats.unreadable, stats.duplicates), (2, 1, 1, 0));

    let found = documents(&server, "plain-events-*").await;
    let places: Vec<_> = found.iter().map(|(index, id, _)| (index.as_str(), id.as_str())).collect();
    assert_eq!(
        places,
        [
            ("plain-events-cpuidle-2025.11.24", "node-1/0000000000c0ffee/1"),
            ("plain-events-mine-2025.11.23", "node-1/0000000000c0ffee/2"),
            ("plain-events-oom-undated", "node-1/0000000000c0ffee/3"),
            ("plain-events-other-undated", "node-1/0000000000c0ffee/4"),
        ]
    );
    let source = &found[0].2;
    assert_eq!(source["data"], json!({ "user_percent": 97.5, "comm": "Java VM", "deep/list": [1, "x", true] }));
    assert_eq!(source["data_number"], json!({ "user_percent": 97.5, "deep/list": 1 }));
    assert_eq!(source["data_words"], json!({ "comm": "java vm", "deep/list": "x" }));
    assert_eq!(source["container"]["labels"], json!({ "app/kubernetes/io/name": "shop" }));
    assert_eq!(source["attachment"], json!(["before.pb.gz", "after.pb.gz"]));
    let raw = |number: usize| STANDARD.decode(found[number].2["event"].as_str().unwrap()).unwrap();
    let mut lean = full.clone();
    lean.attachments.iter_mut().for_each(|attachment| attachment.content = Bytes::new());
    assert_eq!(Event::decode(&*raw(0)).unwrap(), lean);
    assert_eq!(raw(3), b"\xff\xff not an event");
    assert!(found[2].2["defect"].as_str().unwrap().contains("not a JSON object"));

    let evidence = documents(&server, "plain-attachments-*").await;
    assert_eq!(evidence[1].0, "plain-attachments-2025.11.24");
    assert_eq!(evidence[1].1, "node-1/0000000000c0ffee/1/1");
    assert_eq!(STANDARD.decode(evidence[1].2["content"].as_str().unwrap()).unwrap(), full.attachments[1].content);
    // Never analysed: no word of it leads anywhere.
    let content = json!({ "query": { "exists": { "field": "content" } } });
    let (_, nothing) = ask(&server, Method::Post, "/plain-attachments-*/_count", Some(content)).await;
    assert_eq!(nothing["count"], 0);
}

#[tokio::test]
async fn what_is_written_again_is_there_once() {
    let server = shared();
    let mut events: Vec<_> = (0..300).map(|n| event("cpuidle", NOW + n, r#"{"n":1}"#)).collect();
    events[7].attachments = vec![attachment("after.pb.gz", 100)];
    let records = || events.chunks(100).zip([1, 101, 201]).map(|(events, first)| record(first, events)).collect();
    let first = indexed(settings(&server, "again"), records()).await;
    assert_eq!((first.events, first.duplicates), (300, 0));
    // A crash between the effect and the commit: all of it comes again, received at another time.
    let mut later: Vec<_> = records();
    later.iter_mut().for_each(|record| record.received_unix_nanos += 3 * 86_400 * SECOND);
    let second = indexed(settings(&server, "again"), later).await;
    assert_eq!((second.events, second.duplicates), (0, 301));
    assert_eq!(documents(&server, "again-events-*").await.len(), 300);
    assert_eq!(documents(&server, "again-attachments-*").await.len(), 1);
}

#[tokio::test]
async fn one_poisoned_event_among_a_thousand_goes_aside_once() {
    let server = shared();
    // Somebody's own mapping stands in the way of one of our fields.
    let template = json!({
        "index_patterns": ["poison-events-oom-*"],
        "priority": 999,
        "template": {
            "settings": { "number_of_replicas": 0 },
            "mappings": { "properties": { "data": { "properties": { "pid": { "type": "integer" } } } } },
        },
    });
    let (status, answer) = ask(&server, Method::Put, "/_index_template/theirs", Some(template)).await;
    assert_eq!(status, 200, "{answer}");
    let mut events: Vec<_> = (0..1000).map(|n| event("oom", NOW + n, r#"{"pid":7}"#)).collect();
    events[500] = event("oom", NOW, r#"{"pid":"seven"}"#);
    events[500].attachments = vec![attachment("oom.txt", 10)];
    let stats = indexed(settings(&server, "poison"), vec![record(1, &events)]).await;
    assert_eq!(stats.events, 999);
    assert_eq!(stats.poisoned, [(("node-1".to_owned(), "mapping"), 1)].into());
    assert_eq!(documents(&server, "poison-events-*").await.len(), 999);

    let again = indexed(settings(&server, "poison"), vec![record(1, &events)]).await;
    assert_eq!((again.events, again.poisoned.len()), (0, 0));
    let aside = documents(&server, "poison-dead-letters").await;
    assert_eq!(aside.len(), 1);
    let (_, id, letter) = &aside[0];
    assert_eq!(id, "node-1/0000000000c0ffee/501");
    assert!(letter["message"].as_str().unwrap().contains("data.pid"), "{letter}");
    assert_eq!(STANDARD.decode(letter["event"].as_str().unwrap()).unwrap(), events[500].encode_to_vec());

    // Nothing has changed yet; then whoever was in the way is gone.
    let dead_letters = DeadLetters::new(&settings(&server, "poison")).unwrap();
    let mut listed = Vec::new();
    dead_letters.each(|letter| listed.push(letter.id.clone())).await.unwrap();
    assert_eq!(listed, ["node-1/0000000000c0ffee/501"]);
    assert_eq!(dead_letters.replay().await.unwrap(), Replayed { written: 0, left: 1 });
    ask(&server, Method::Delete, "/_index_template/theirs", None).await;
    ask(&server, Method::Delete, "/poison-events-oom-2025.11.24", None).await;
    assert_eq!(dead_letters.replay().await.unwrap(), Replayed { written: 1, left: 0 });
    assert_eq!(documents(&server, "poison-events-*").await[0].1, "node-1/0000000000c0ffee/501");
    assert_eq!(documents(&server, "poison-dead-letters").await.len(), 0);
}

#[tokio::test]
async fn tracers_that_are_made_up_open_few_indices_and_the_rest_of_them_goes_aside() {
    let server = shared();
    let settings = settings(&server, "strangers");
    let of = |tracer: String| event(&tracer, NOW, "");
    let mut events: Vec<_> = (1..=20).map(|n| of(format!("made-up-{n}"))).collect();
    events.push(of("oom".into()));
    let stats = indexed(settings.clone(), vec![record(1, &events)]).await;
    assert_eq!((stats.events, stats.poisoned), (17, [(("node-1".to_owned(), "tracers"), 4)].into()));

    // Whoever comes later lets the same in, whatever comes first.
    let again = (1..=21).rev().map(|seq| record(seq, &events[seq as usize - 1..seq as usize])).collect();
    let stats = indexed(settings.clone(), again).await;
    assert_eq!((stats.events, stats.duplicates, stats.poisoned.len()), (0, 21, 0));
    let found = documents(&server, "strangers-events-*").await;
    let indices: Vec<_> = found.iter().map(|(index, ..)| index.as_str()).collect();
    assert_eq!(found.len(), 17);
    assert!(indices.contains(&"strangers-events-made_up_16-2025.11.24"), "{indices:?}");
    let aside = documents(&server, "strangers-dead-letters").await;
    assert_eq!(aside.len(), 4);
    assert!(aside[0].2["message"].as_str().unwrap().contains("`made_up_17`"), "{:?}", aside[0]);
    assert_eq!(STANDARD.decode(aside[0].2["event"].as_str().unwrap()).unwrap(), events[16].encode_to_vec());

    let dead_letters = DeadLetters::new(&settings).unwrap();
    assert_eq!(dead_letters.replay().await.unwrap(), Replayed { written: 0, left: 4 });
    ask(&server, Method::Delete, "/strangers-events-made_up_1-2025.11.24", None).await;
    assert_eq!(dead_letters.replay().await.unwrap(), Replayed { written: 1, left: 3 });
    assert_eq!(documents(&server, "strangers-events-*").await.len(), 17);
}

#[tokio::test]
async fn a_block_halts_the_sink_until_it_is_lifted() {
    let server = shared();
    indexed(settings(&server, "block"), vec![record(1, &[event("oom", NOW, "")])]).await;
    let path = "/block-events-oom-2025.11.24/_settings";
    ask(&server, Method::Put, path, Some(json!({ "index.blocks.write": true }))).await;
    let more = || vec![record(2, &[event("oom", NOW, ""), event("cpuidle", NOW, "")])];
    let halted = Running::start(settings(&server, "block"), more());
    let counters = std::sync::Arc::clone(&halted.counters);
    let error = halted.fails().await.to_string();
    assert!(error.contains("403") && error.contains("block"), "{error}");
    assert!(counters.stats().halted && counters.stats().problem.is_some());

    ask(&server, Method::Put, path, Some(json!({ "index.blocks.write": null }))).await;
    let stats = indexed(settings(&server, "block"), more()).await;
    assert!(!stats.halted && stats.problem.is_none());
    assert_eq!(documents(&server, "block-events-*").await.len(), 3);
}

#[tokio::test]
async fn a_full_disk_puts_off_those_items_alone() {
    let server = shared();
    indexed(settings(&server, "full"), vec![record(1, &[event("oom", NOW, "")])]).await;
    let path = "/full-events-oom-2025.11.24/_settings";
    let read_only = |on: bool| json!({ "index.blocks.read_only_allow_delete": on.then_some(true) });
    ask(&server, Method::Put, path, Some(read_only(true))).await;
    let more = vec![record(2, &[event("oom", NOW, ""), event("cpuidle", NOW, "")])];
    let waiting = Running::start(settings(&server, "full"), more);
    support::until("the item is put off a few times", async || waiting.stats().repeated >= 3).await;
    let stats = waiting.stats();
    assert_eq!((stats.events, stats.repeated), (1, stats.failures), "only one item is sent again");
    assert!(!stats.halted && stats.problem.unwrap().contains("429"));
    assert_eq!(waiting.committed(), 0);

    ask(&server, Method::Put, path, Some(read_only(false))).await;
    let stats = waiting.finish().await;
    assert_eq!((stats.events, stats.duplicates, stats.problem), (2, 0, None));
}

#[tokio::test]
async fn a_field_too_many_is_poison_and_the_rest_goes_on() {
    let server = shared();
    let many = |from: u32| {
        let fields: Vec<_> = (from..from + 450).map(|n| format!("\"f{n}\":\"x\"")).collect();
        event("oom", NOW, &format!("{{{}}}", fields.join(",")))
    };
    let mut events: Vec<_> = (0..8).map(|n| many(n * 450)).collect();
    events.push(event("oom", NOW, r#"{"f1":"still"}"#));
    let stats = indexed(settings(&server, "fields"), vec![record(1, &events)]).await;
    let poisoned: u64 = stats.poisoned.values().sum();
    let found = documents(&server, "fields-events-*").await;
    assert!(poisoned > 0 && found.len() as u64 + poisoned == 9, "{stats:?}");
    assert!(found.iter().any(|(_, id, _)| id.ends_with("/9")));
}
