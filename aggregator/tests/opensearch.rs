//! An aggregator with a real OpenSearch: agents never wait for it, and every event is found in it once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use galen_aggregator::{Config, Settings};
use galen_kafka::{FreshFirst, Lag, Link};
use galen_opensearch::{Counters, Indexer};
use galen_proto::v1::{
    Attachment, Batch, Event, FollowEventsRequest, GetEventRequest, GetLedgerRequest, GetStatusRequest,
    QuarantineReason, Quarantined, SearchEventsRequest, SearchEventsResponse, Severity, Times,
    query_service_client::QueryServiceClient,
};
use galen_runtime::{Span, Supervisor};
use galen_services::{Server, kafka, opensearch};
use prost::Message;
use support::{Agent, Aggregator, EPOCH, PATIENCE, hello, queue};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// 2025-11-24.
const NOW: i64 = 1_763_985_600_000_000_000;

fn settings(dir: &Path, server: &Server, change: impl FnOnce(&mut Config)) -> Settings {
    support::settings(dir, |config| {
        config.opensearch.urls = vec![server.url()];
        config.opensearch.replicas = 0;
        config.opensearch.timeout = Span::from_secs(3);
        config.opensearch.retention_age = Span::from_secs(100 * 365 * 86_400);
        change(config);
    })
}

async fn aggregator(dir: &Path, server: &Server) -> Aggregator {
    Aggregator::with(Settings { index: true, ..settings(dir, server, |_| {}) }).await
}

fn event(seq: u64) -> Event {
    Event {
        tracer: "cpuidle".into(),
        severity: Severity::Warning.into(),
        summary: format!("burst number {seq}"),
        times: Some(Times { observed_unix_nanos: NOW + seq as i64, ..Times::default() }),
        data: format!("{{\"user_percent\":{seq}}}").into(),
        ..Event::default()
    }
}

/// Events `first ..= last`.
fn batch(first: u64, last: u64) -> Batch {
    let events = (first..=last).map(|seq| event(seq).encode_to_vec().into());
    Batch { epoch: EPOCH, first_seq: first, events: events.collect(), next_seq: last + 1, ..Batch::default() }
}

async fn client(aggregator: &Aggregator) -> QueryServiceClient<Channel> {
    QueryServiceClient::new(aggregator.endpoint().connect().await.unwrap())
}

/// Waits until a query finds so many, and returns the oldest of them.
async fn finds(client: &mut QueryServiceClient<Channel>, query: &str, total: u64) -> SearchEventsResponse {
    let deadline = Instant::now() + 6 * PATIENCE;
    loop {
        let request = SearchEventsRequest { query: query.into(), ascending: true, limit: 1000, ..Default::default() };
        let found = client.search_events(request).await.map(tonic::Response::into_inner);
        match found {
            Ok(found) if found.total == total => return found,
            other => assert!(Instant::now() < deadline, "not {total}: {other:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn agent(aggregator: &Aggregator, next: u64) -> Agent {
    aggregator.welcomed(hello("web-1", &[queue(1, next)])).await.0
}

#[tokio::test]
async fn an_event_is_found_shown_and_followed() {
    let (dir, server) = (tempfile::tempdir().unwrap(), opensearch());
    // Far more than an answer takes: what an answer that comes too late tells is not counted.
    let settings = settings(dir.path(), &server, |config| config.opensearch.timeout = Span::from_secs(60));
    let aggregator = Aggregator::with(Settings { index: true, ..settings }).await;
    let mut client = client(&aggregator).await;
    let follow = FollowEventsRequest { query: "data.user_percent:>1".into() };
    let mut followed = client.follow_events(follow).await.unwrap().into_inner();
    let mut agent = agent(&aggregator, 4).await;
    let mut batch = batch(1, 3);
    let content = vec![7; 100_000];
    let mut last = event(3);
    last.attachments =
        vec![Attachment { name: "after.pb.gz".into(), content: content.into(), ..Attachment::default() }];
    batch.events[2] = last.encode_to_vec().into();
    agent.batch(batch).await;
    agent.acknowledged(3).await;
    for seq in [2, 3] {
        let next = timeout(PATIENCE, followed.message()).await.expect("an event in time").unwrap().unwrap();
        assert_eq!((next.event.unwrap().id.unwrap().seq, next.missed), (seq, 0));
    }
    let found = finds(&mut client, "tracer:cpuidle data.user_percent:>=2", 2).await;
    assert_eq!(found.events[0].summary, "burst number 2");
    let id = format!("web-1/{EPOCH:016x}/3");
    let whole = client.get_event(GetEventRequest { id: id.clone() }).await.unwrap().into_inner();
    assert_eq!(whole, Event { id: Some(id.parse().unwrap()), ..last });
    // A search may find them before we have the answer that they were taken.
    aggregator.shows("galen_aggregator_opensearch_indexed_events_total", 3.0).await;
    let status = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.store_events, status.stored, status.problems), (3, 3, vec![]));
    aggregator.stop().await;
}

#[tokio::test]
async fn agents_do_not_wait_while_it_is_killed_hung_or_gone_and_every_event_is_there_once() {
    let (dir, server) = (tempfile::tempdir().unwrap(), opensearch());
    let aggregator = self::aggregator(dir.path(), &server).await;
    let mut agent = agent(&aggregator, 1).await;
    let mut client = self::client(&aggregator).await;
    agent.batch(batch(1, 100)).await;
    agent.acknowledged(100).await;
    finds(&mut client, "", 100).await;

    // Killed in the middle of its work, with events coming all the while.
    agent.batch(batch(101, 600)).await;
    server.kill();
    agent.acknowledged(600).await;
    agent.batch(batch(601, 700)).await;
    agent.acknowledged(700).await;
    aggregator.shows("galen_aggregator_opensearch_available", 0.0).await;
    server.restart();
    finds(&mut client, "", 700).await;
    aggregator.shows("galen_aggregator_opensearch_available", 1.0).await;

    // Hung, its connections open.
    server.pause();
    agent.batch(batch(701, 900)).await;
    agent.acknowledged(900).await;
    aggregator.shows("galen_aggregator_opensearch_available", 0.0).await;
    server.resume();
    finds(&mut client, "", 900).await;

    // The aggregator ends before all is there, and begins again.
    server.pause();
    agent.batch(batch(901, 1000)).await;
    agent.acknowledged(1000).await;
    aggregator.stop().await;
    server.resume();
    let aggregator = self::aggregator(dir.path(), &server).await;
    let mut client = self::client(&aggregator).await;
    let found = finds(&mut client, "", 1000).await;
    let seqs: Vec<_> = found.events.iter().map(|event| event.id.as_ref().unwrap().seq).collect();
    assert_eq!(seqs, (1..=1000).collect::<Vec<_>>());
    aggregator.stop().await;
}

#[tokio::test]
async fn what_is_put_aside_is_quarantined_in_the_ledger_also_after_a_restart() {
    let (dir, server) = (tempfile::tempdir().unwrap(), opensearch());
    // Somebody's own mapping stands in the way of one of our fields.
    let template = r#"{"index_patterns":["galen-events-cpuidle-*"],"priority":999,"template":{
        "settings":{"number_of_replicas":0},
        "mappings":{"properties":{"data":{"properties":{"user_percent":{"type":"integer"}}}}}}}"#;
    let url = format!("{}/_index_template/theirs", server.url());
    let curl = ["-sSf", "-X", "PUT", "-H", "content-type: application/json", "-d", template, &url];
    assert!(Command::new("curl").args(curl).output().unwrap().status.success());
    let aggregator = self::aggregator(dir.path(), &server).await;
    let mut agent = agent(&aggregator, 6).await;
    let mut batch = batch(1, 5);
    batch.events[1] = vec![0xff; 10].into();
    batch.events[3] = Event { data: r#"{"user_percent":"most"}"#.into(), ..event(4) }.encode_to_vec().into();
    agent.batch(batch).await;
    agent.acknowledged(5).await;
    is_quarantined(&aggregator).await;
    aggregator.stop().await;
    let aggregator = self::aggregator(dir.path(), &server).await;
    is_quarantined(&aggregator).await;
    aggregator.stop().await;
}

/// Waits until the ledger has one event of each reason, and three that are delivered.
async fn is_quarantined(aggregator: &Aggregator) {
    let one = |reason: QuarantineReason| Quarantined { reason: reason.into(), count: 1 };
    let expected = [QuarantineReason::Undecodable, QuarantineReason::Refused].map(one);
    let (mut client, deadline) = (client(aggregator).await, Instant::now() + PATIENCE);
    loop {
        let request = GetLedgerRequest { node: "web-1".into() };
        let answer = client.get_ledger(request).await.unwrap().into_inner();
        let ledger = answer.nodes[0].ledger.clone().unwrap();
        if ledger.quarantined == expected {
            assert_eq!((ledger.observed, ledger.delivered, ledger.unaccounted), (5, 3, 0));
            return;
        }
        assert!(Instant::now() < deadline, "{ledger:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_what_is_new_is_found_before_what_was_missed_also_with_kafka() {
    const MISSED: u64 = 12_000;
    let (dir, server, kafka) = (tempfile::tempdir().unwrap(), opensearch(), kafka());
    let settings = settings(dir.path(), &server, |config| {
        // What was missed takes a while.
        (config.opensearch.bulk_events, config.opensearch.concurrency) = (16, 1);
        (config.kafka.brokers, config.kafka.partitions) = (kafka.brokers(), 1);
    });
    let counters = Arc::<Counters>::default();
    let indexer = Indexer::new(settings.opensearch.clone().unwrap(), Arc::clone(&counters)).unwrap();
    let log = settings.kafka.clone().unwrap();
    // What feeds OpenSearch stands beside it, so that it takes little for much.
    let aggregator = Aggregator::with(settings).await;
    let (supervisor, link) = (Supervisor::new(), Link::default());
    let lag = Lag::follow(&log, &link, "opensearch", &supervisor).unwrap();
    let mut log = FreshFirst::join(&log, &link, "opensearch").unwrap().with_near(1000).with_lag(lag);
    let stop = CancellationToken::new();
    let shutdown = stop.clone();
    #[allow(clippy::disallowed_methods, reason = "a test has no supervisor")]
    let feeding = tokio::spawn(async move { indexer.run(&mut log, shutdown).await });
    let mut agent = agent(&aggregator, 1).await;
    let mut client = client(&aggregator).await;
    agent.batch(batch(1, 100)).await;
    agent.acknowledged(100).await;
    finds(&mut client, "", 100).await;

    server.stop();
    let mut last = 100;
    while last < MISSED {
        agent.batch(batch(last + 1, last + 100)).await;
        last += 100;
        agent.acknowledged(last).await;
    }
    let deadline = Instant::now() + 6 * PATIENCE;
    // What is missed is shown meanwhile.
    while counters.stats().lag < MISSED / 2 {
        assert!(Instant::now() < deadline, "{:?}", counters.stats());
        sleep(Duration::from_millis(50)).await;
    }
    server.restart();
    loop {
        last += 1;
        agent.batch(batch(last, last)).await;
        agent.acknowledged(last).await;
        let request = SearchEventsRequest { query: format!("seq:>{MISSED}"), limit: 1, ..Default::default() };
        if client.search_events(request).await.is_ok_and(|found| found.into_inner().total > 0) {
            break;
        }
        assert!(Instant::now() < deadline, "{:?}", counters.stats());
        sleep(Duration::from_millis(50)).await;
    }
    let stats = counters.stats();
    assert!(stats.events < MISSED, "all that was missed came first: {stats:?}");
    finds(&mut client, "", last).await;
    stop.cancel();
    feeding.await.unwrap().unwrap();
    supervisor.shutdown();
    aggregator.stop().await;
}
