//! Aggregators whose log is a real Kafka: what one is sent, all of them find, once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use bytes::Bytes;
use galen_aggregator::{Config, Settings};
use galen_proto::v1::{
    Batch, Event, GetStatusRequest, Hello, SearchEventsRequest, Welcome, query_service_client::QueryServiceClient,
};
use galen_runtime::{Span, Supervisor};
use galen_services::{Server, kafka};
use prost::Message;
use support::{Agent, Aggregator, EPOCH, PATIENCE, events_of, hello, http_get, logged, queue, settings};
use tempfile::tempdir;
use tokio::time::Instant;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

fn replica(dir: &Path, kafka: &Server, change: impl FnOnce(&mut Config)) -> Settings {
    let settings = settings(dir, |config| {
        config.kafka.brokers = kafka.brokers();
        config.kafka.partitions = 3;
        change(config);
    });
    Settings { index: true, ..settings }
}

fn event(seq: u64) -> Bytes {
    Event { tracer: "test".into(), summary: format!("number {seq}"), ..Event::default() }.encode_to_vec().into()
}

fn batch(first: u64, last: u64) -> Batch {
    Batch {
        epoch: EPOCH,
        first_seq: first,
        events: (first..=last).map(event).collect(),
        next_seq: last + 1,
        ..Batch::default()
    }
}

/// Waits until a search finds so many events.
async fn finds(aggregator: &Aggregator, count: u64) {
    let mut query = QueryServiceClient::new(aggregator.endpoint().connect().await.unwrap());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = query.search_events(SearchEventsRequest::default()).await.unwrap().into_inner().total;
        if found == count {
            return;
        }
        assert!(Instant::now() < deadline && found < count, "{found} events, not {count}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_is_sent_every_replica_finds_once() {
    let kafka = kafka();
    let dirs = [tempdir().unwrap(), tempdir().unwrap()];
    let first = Aggregator::with(replica(dirs[0].path(), &kafka, |_| {})).await;
    let second = Aggregator::with(replica(dirs[1].path(), &kafka, |_| {})).await;
    let (mut agent, welcome) = first.welcomed(hello("web-1", &[queue(1, 51)])).await;
    assert_eq!(welcome.progress[0].upto, 0);
    agent.batch(Batch { next_seq: 51, ..batch(1, 40) }).await;
    agent.acknowledged(40).await;
    for aggregator in [&first, &second] {
        finds(aggregator, 40).await;
        aggregator.shows("galen_aggregator_kafka_mirrored_events_total", 40.0).await;
    }
    first.shows("galen_aggregator_kafka_written_records_total", 40.0).await;

    // The agent goes on at the other, before its stream here has ended, and has not heard of all that was acknowledged.
    let (mut moved, _) = second.welcomed(hello("web-1", &[queue(21, 61)])).await;
    moved.batch(Batch { next_seq: 61, ..batch(21, 60) }).await;
    agent.batch(Batch { next_seq: 51, ..batch(41, 50) }).await;
    agent.acknowledged(50).await;
    moved.acknowledged(60).await;
    for aggregator in [&first, &second] {
        finds(aggregator, 60).await;
    }
    first.stop().await;
    second.stop().await;
    let expected: Vec<(u64, Bytes)> = (1..=60).map(|seq| (seq, event(seq))).collect();
    for dir in &dirs {
        assert_eq!(events_of(&logged(dir.path()).await, "web-1"), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_broker_hangs_agents_are_refused_and_then_go_on() {
    let kafka = kafka();
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::with(replica(dir.path(), &kafka, |config| {
        config.kafka.patience = Span::from_secs(2);
    }))
    .await;
    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[queue(1, 21)])).await;
    agent.batch(Batch { next_seq: 21, ..batch(1, 10) }).await;
    agent.acknowledged(10).await;
    kafka.pause();
    agent.batch(batch(11, 20)).await;
    agent.ends(Code::Unavailable, "the log takes nothing now").await;
    let mut query = QueryServiceClient::new(aggregator.endpoint().connect().await.unwrap());
    let status = query.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert!(status.problems.iter().any(|problem| problem.contains("takes no events")), "{:?}", status.problems);
    kafka.resume();
    let (mut agent, welcome) = welcomed_in_time(&aggregator, hello("web-1", &[queue(11, 21)])).await;
    assert_eq!(welcome.progress[0].upto, 10);
    agent.batch(batch(11, 20)).await;
    agent.acknowledged(20).await;
    finds(&aggregator, 20).await;
    aggregator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_without_a_broker_refuses_agents_and_goes_on_when_the_broker_comes() {
    let kafka = kafka();
    kafka.stop();
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::with(replica(dir.path(), &kafka, |_| {})).await;
    let (http, broker) = (aggregator.addresses.http, kafka.brokers());
    let not_ready = http_get(http, "/readyz").await;
    for part in ["HTTP/1.1 503", "the log takes no events", &broker] {
        assert!(not_ready.contains(part), "{not_ready}");
    }
    assert!(http_get(http, "/healthz").await.starts_with("HTTP/1.1 200"), "nobody is to restart it");
    let mut health = HealthClient::new(aggregator.endpoint().connect().await.unwrap());
    for service in ["", "galen.v1.AgentService"] {
        let checked = health.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        assert_eq!(checked.status(), ServingStatus::NotServing, "{service}");
    }
    let metrics = aggregator.metrics().await;
    for figure in ["galen_aggregator_ingest_log_available", "galen_aggregator_kafka_brokers_available"] {
        assert_eq!(metrics[figure], 0.0, "{figure}");
    }
    let mut agent = aggregator.hello(hello("web-1", &[queue(1, 21)])).await;
    agent.ends(Code::Unavailable, "the log takes nothing now").await;

    kafka.restart();
    let (mut agent, welcome) = welcomed_in_time(&aggregator, hello("web-1", &[queue(1, 21)])).await;
    assert_eq!(welcome.progress[0].upto, 0);
    agent.batch(Batch { next_seq: 21, ..batch(1, 20) }).await;
    agent.acknowledged(20).await;
    finds(&aggregator, 20).await;
    for figure in ["galen_aggregator_ingest_log_available", "galen_aggregator_kafka_brokers_available"] {
        aggregator.shows(figure, 1.0).await;
    }
    assert!(http_get(http, "/readyz").await.starts_with("HTTP/1.1 200"));
    aggregator.stop().await;
}

/// Comes again until it is welcomed.
async fn welcomed_in_time(aggregator: &Aggregator, hello: Hello) -> (Agent, Welcome) {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        let mut agent = aggregator.hello(hello.clone()).await;
        match agent.welcome_or_end().await {
            Ok(welcome) => return (agent, welcome),
            Err(status) => assert!(status.code() == Code::Unavailable && Instant::now() < deadline, "{status}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_log_is_and_so_does_a_replica_without_a_disk() {
    let kafka = kafka();
    let dir = tempdir().unwrap();
    for round in 0..3 {
        // The second time on another disk, which knows nothing.
        let other = tempdir().unwrap();
        let dir = if round == 1 { other.path() } else { dir.path() };
        let aggregator = Aggregator::with(replica(dir, &kafka, |_| {})).await;
        let (mut agent, welcome) = aggregator.welcomed(hello("web-1", &[queue(1, 100)])).await;
        assert_eq!(welcome.progress[0].upto, round * 10);
        agent.batch(Batch { next_seq: 100, ..batch(round * 10 + 1, round * 10 + 10) }).await;
        agent.acknowledged(round * 10 + 10).await;
        finds(&aggregator, round * 10 + 10).await;
        aggregator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_keeps_it_from_starting_and_is_named() {
    let kafka = kafka();
    let dir = tempdir().unwrap();
    let settings = replica(dir.path(), &kafka, |config| config.kafka.create_topics = false);
    let error = galen_aggregator::start(settings, Supervisor::new()).await.map(|_| ()).unwrap_err();
    let error = galen_runtime::Chain(&error).to_string();
    assert!(error.contains("`galen.events` is missing"), "{error}");
}
