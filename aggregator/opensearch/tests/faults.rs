//! What a real cluster does to the sink: a limit on requests, an upgrade, days that grow old, another major version.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, time::Duration};

use galen_opensearch::{Archive, Search};
use galen_proto::v1::EventId;
use galen_services::{opensearch, opensearch3};
use galen_specimen::{EPOCH, NOW, SECOND, attachment, event, record};
use galen_store::Query;
use opensearch::http::Method;
use serde_json::json;

use support::{Running, ask, documents, indexed, settings, shared};

#[tokio::test]
async fn a_request_that_is_too_large_is_divided_and_a_document_that_is_too_large_goes_aside() {
    let server = opensearch();
    let config = server.directory().join("config/opensearch.yml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\nhttp.max_content_length: 200kb\n")).unwrap();
    server.stop();
    server.restart();
    let mut events: Vec<_> = (0..500).map(|n| event("oom", NOW + n, r#"{"pid":1}"#)).collect();
    events[250].attachments = vec![attachment("oom.txt", 300_000)];
    let stats = indexed(settings(&server, "size"), vec![record(1, &events)]).await;
    assert_eq!(stats.poisoned, [(("node-1".to_owned(), "too_large"), 1)].into());
    assert_eq!(documents(&server, "size-events-*").await.len(), 500, "the event itself fits");
    let aside = documents(&server, "size-dead-letters").await;
    assert_eq!((aside.len(), aside[0].2["event"].is_null()), (1, true), "a remark, as its bytes are too large as well");
}

#[tokio::test]
async fn a_server_that_is_killed_again_and_again_has_every_event_once() {
    let server = opensearch();
    let events: Vec<_> = (0..100).map(|n| event("oom", NOW + n, r#"{"pid":1}"#)).collect();
    let records = (0..60).map(|batch| record(batch * 100 + 1, &events)).collect();
    let running = Running::start(settings(&server, "kill"), records);
    for round in 1..=3 {
        support::until("some are committed", async || running.committed() >= round * 1000).await;
        server.kill();
        server.restart();
    }
    let stats = running.finish().await;
    assert!(stats.failures > 0, "{stats:?}");
    let found = documents(&server, "kill-events-*").await;
    let ids: std::collections::BTreeSet<_> = found.into_iter().map(|(_, id, _)| id).collect();
    assert_eq!(ids.len(), 6000);
}

#[tokio::test]
async fn a_server_that_was_away_at_the_beginning_is_no_problem_once_it_is_there_without_an_event() {
    let server = opensearch();
    server.stop();
    let running = Running::start(settings(&server, "begin"), Vec::new());
    support::until("its absence is told", async || running.stats().problem.is_some()).await;
    server.restart();
    support::until("its presence is told", async || running.stats().problem.is_none()).await;
    running.finish().await;
}

#[tokio::test]
async fn days_that_are_too_old_are_deleted_and_nothing_else() {
    let server = shared();
    let day = 86_400 * SECOND;
    let now = i64::try_from(time::OffsetDateTime::now_utc().unix_timestamp_nanos()).unwrap();
    let mut old = event("oom", now - 40 * day, "");
    old.attachments = vec![attachment("oom.txt", 10)];
    indexed(settings(&server, "old"), vec![record(1, &[old, event("oom", now, ""), event("oom", 0, "")])]).await;
    for theirs in ["old-events-oom-2001.01.01-copy", "old-eventsoom-2001.01.01", "old-attachments-mine"] {
        ask(&server, Method::Put, &format!("/{theirs}"), Some(json!({ "settings": { "number_of_replicas": 0 } })))
            .await;
    }
    let mut settings = settings(&server, "old");
    settings.retention = Duration::from_secs(30 * 86_400);
    let stats = indexed(settings, vec![record(10, &[event("oom", now, "")])]).await;
    assert_eq!(stats.dropped, 2);
    let (_, listed) = ask(&server, Method::Get, "/_cat/indices/old-*?format=json&h=index", None).await;
    let mut names: Vec<_> = listed.as_array().unwrap().iter().map(|of| of["index"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(
        names.contains(&"old-events-oom-undated") && names.contains(&"old-events-oom-2001.01.01-copy"),
        "{names:?}"
    );
}

#[tokio::test]
async fn templates_are_upgraded_and_newer_ones_are_left_alone() {
    let server = shared();
    let path = "/_index_template/upgrade-events";
    let of = |version: u64| {
        json!({
            "index_patterns": ["upgrade-events-*"],
            "priority": 200,
            "version": version,
            "template": { "settings": { "number_of_replicas": 0 } },
        })
    };
    let version = async || {
        let (_, answer) = ask(&server, Method::Get, path, None).await;
        answer["index_templates"][0]["index_template"]["version"].as_u64().unwrap()
    };
    ask(&server, Method::Put, path, Some(of(0))).await;
    indexed(settings(&server, "upgrade"), vec![record(1, &[event("oom", NOW, "")])]).await;
    assert!(version().await > 0);
    ask(&server, Method::Put, path, Some(of(1_000_000))).await;
    indexed(settings(&server, "upgrade"), vec![record(2, &[event("oom", NOW, "")])]).await;
    assert_eq!(version().await, 1_000_000);
}

#[tokio::test]
async fn the_next_major_version_takes_and_finds_the_same() {
    let server = opensearch3();
    let mut full = event("cpuidle", NOW, r#"{"user_percent":97.5,"comm":"Java VM"}"#);
    full.attachments = vec![attachment("after.pb.gz", 100_000)];
    let records = || vec![record(1, &[full.clone(), event("oom", NOW + 1, r#"{"user_percent":3}"#)])];
    let settings = settings(&server, "three");
    assert_eq!(indexed(settings.clone(), records()).await.events, 2);
    assert_eq!(indexed(settings.clone(), records()).await.duplicates, 3);
    ask(&server, Method::Post, "/three-*/_refresh", None).await;
    let archive = Archive::new(&settings).unwrap();
    for (text, expected) in [
        ("", 2),
        ("data.user_percent:>80", 1),
        ("data.comm:\"java vm\"", 1),
        ("container.labels.app.kubernetes.io/name:sh*", 2),
        ("tracer:oom AND time:>=2025-11-24", 1),
    ] {
        let query = Query::parse(text, NOW).unwrap();
        let fields = ["tracer".to_owned()];
        let (since, until, page) = (None, None, None);
        let search = Search { query: &query, since, until, ascending: true, limit: 10, page, count_by: &fields };
        let found = archive.search(&search).await.unwrap();
        assert_eq!((found.total, found.events.len()), (expected, expected as usize), "{text}");
    }
    let id = EventId { node: "node-1".into(), epoch: EPOCH, seq: 1 };
    assert_eq!(archive.get(&id).await.unwrap().unwrap().attachments, full.attachments);
}
