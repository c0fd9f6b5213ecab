//! An aggregator with a real OpenSearch: agents never wait for it, and every event is found in it once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{path::Path, time::Duration};

use galen_proto::v1::{
    Attachment, Batch, Event, FollowEventsRequest, GetEventRequest, GetStatusRequest, SearchEventsRequest,
    SearchEventsResponse, Severity, Times, query_service_client::QueryServiceClient,
};
use galen_runtime::Span;
use galen_services::{Server, opensearch};
use prost::Message;
use support::{Agent, Aggregator, EPOCH, PATIENCE, hello, queue, settings};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

/// 2025-11-24.
const NOW: i64 = 1_763_985_600_000_000_000;

async fn aggregator(dir: &Path, server: &Server) -> Aggregator {
    let mut settings = settings(dir, |config| {
        config.opensearch.urls = vec![server.url()];
        config.opensearch.replicas = 0;
        config.opensearch.timeout = Span::from_secs(3);
        config.opensearch.retention_age = Span::from_secs(100 * 365 * 86_400);
    });
    settings.index = true;
    Aggregator::with(settings).await
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
    let deadline = Instant::now() + 3 * PATIENCE;
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
    let aggregator = aggregator(dir.path(), &server).await;
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
    let status = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.store_events, status.stored, status.problems), (3, 3, vec![]));
    aggregator.shows("galen_aggregator_opensearch_indexed_events_total", 3.0).await;
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
