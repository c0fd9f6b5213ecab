//! What the metrics say is what happened.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use galen_aggregator::metrics::Kind;
use galen_proto::v1::{Batch, Heartbeat, Support, TracerStatus};
use support::{Aggregator, batch, hello, loss, queue};
use tempfile::tempdir;
use tonic::Code;

/// Shown only where they are configured.
const IF_CONFIGURED: [&str; 4] =
    ["galen_aggregator_kafka_", "galen_aggregator_opensearch_", "galen_aggregator_limits_", "galen_aggregator_tls_"];

#[tokio::test]
async fn every_event_that_was_received_was_logged_or_known_or_refused() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[queue(1, 1000)])).await;
    let ahead = |batch: Batch| Batch { next_seq: 1000, ..batch };
    agent.batch(ahead(batch(1, 40))).await;
    agent.batch(ahead(batch(31, 60))).await;
    agent.batch(ahead(Batch { lost: vec![loss(61, 70)], ..batch(1, 5) })).await;
    agent.acknowledged(70).await;
    for gap in 0..17 {
        agent.batch(ahead(batch(100 + gap * 2, 100 + gap * 2))).await;
    }
    agent.ends(Code::InvalidArgument, "gaps").await;

    let figures = aggregator.metrics().await;
    let figure = |name: &str| figures.get(&format!("galen_aggregator_{name}")).copied().unwrap_or_default();
    let received = figure("ingest_received_events_total");
    assert_eq!(received, 40.0 + 30.0 + 5.0 + 17.0);
    assert_eq!(figure("ingest_logged_events_total"), 76.0);
    assert_eq!(figure("ingest_deduplicated_events_total"), 15.0);
    assert_eq!(figure("ingest_rejected_events_total{reason=\"refused\"}"), 1.0);
    assert_eq!(figure("log_next_offset"), 76.0);
    assert_eq!(figure("fleet_lost_observations_total{reason=\"buffer_full\"}"), 10.0);
    assert_eq!(figure("session_ended_streams_total{reason=\"gaps\"}"), 1.0);
    assert_eq!(figure("ingest_durable_seconds_count"), 19.0);
}

#[tokio::test]
async fn the_fleet_is_shown_by_tracer_and_support_and_never_by_node() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let tracer = |name: &str, support: Support| TracerStatus {
        name: name.into(),
        support: support as i32,
        ..TracerStatus::default()
    };
    let mut agents = Vec::new();
    for node in 0..3 {
        let mut hello = hello(&format!("node-{node}"), &[queue(1, 10)]);
        hello.tracers = (0..80).map(|place| tracer(&format!("tracer_{place:02}"), Support::Full)).collect();
        let (mut agent, _) = aggregator.welcomed(hello).await;
        let support = if node == 0 { Support::Degraded } else { Support::Full };
        let tracers = vec![TracerStatus { triggers: 4, captures: 2, failures: 1, ..tracer("oom", support) }];
        agent.heartbeat(Heartbeat { tracers, backlog_events: 5, ..Heartbeat::default() }).await;
        // In order behind the heartbeat: what it says is known when this is acknowledged.
        agent.batch(Batch { next_seq: 10, ..batch(1, 2) }).await;
        agent.acknowledged(2).await;
        agents.push(agent);
    }
    let figures = aggregator.metrics().await;
    let figure = |name: &str| figures[&format!("galen_aggregator_{name}")];
    assert_eq!(figure("fleet_tracer_nodes{support=\"full\",tracer=\"oom\"}"), 2.0);
    assert_eq!(figure("fleet_tracer_nodes{support=\"degraded\",tracer=\"oom\"}"), 1.0);
    assert_eq!(figure("fleet_tracer_triggers_total{tracer=\"oom\"}"), 12.0);
    assert_eq!(figure("fleet_tracer_captures_total{tracer=\"oom\"}"), 6.0);
    assert_eq!(figure("fleet_tracer_failures_total{tracer=\"oom\"}"), 3.0);
    assert_eq!(figure("fleet_folded_reports_total"), 3.0 * 16.0);
    assert_eq!(figure("fleet_backlog_events"), 15.0);
    assert_eq!(figure("fleet_connected_nodes"), 3.0);
    assert!(figures.keys().all(|name| !name.contains("node-")), "{figures:?}");
}

#[tokio::test]
async fn what_is_shown_is_what_the_reference_says() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let figures = aggregator.metrics().await;
    let shown: BTreeSet<&str> = figures.keys().filter_map(|name| name.split('{').next()).collect();
    let (mut told, mut always) = (BTreeSet::new(), BTreeSet::new());
    for metric in galen_aggregator::metrics::reference().unwrap() {
        let names = match metric.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"].map(|part| format!("{}{part}", metric.name)).to_vec(),
            Kind::Counter | Kind::Gauge => vec![metric.name],
        };
        let is_if_configured = IF_CONFIGURED.iter().any(|prefix| names[0].starts_with(prefix));
        if metric.labels.is_empty() && !is_if_configured {
            always.extend(names.clone());
        }
        told.extend(names);
    }
    let left_out: Vec<_> = shown.iter().filter(|name| !told.contains(**name)).collect();
    assert!(left_out.is_empty(), "{left_out:?}");
    let not_shown: Vec<_> = always.iter().filter(|name| !shown.contains(name.as_str())).collect();
    assert!(not_shown.is_empty(), "{not_shown:?}");
}
