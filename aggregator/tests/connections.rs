//! Places among the connections: bounded, and only for who uses them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{path::Path, time::Duration};

use galen_aggregator::{Settings, Waits};
use galen_proto::v1::{
    Batch, GetStatusRequest, Heartbeat, Measure, MeasureKind, query_service_client::QueryServiceClient,
};
use galen_runtime::Span;
use support::{Aggregator, PATIENCE, batch, hello, queue, settings};
use tempfile::tempdir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::Code;

/// How a client of HTTP/2 begins: the preface, and settings that change nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const LONG: Duration = Duration::from_secs(3600);

/// An aggregator that waits for one thing only a moment.
async fn impatient(dir: &Path, waits: Waits) -> Aggregator {
    Aggregator::with(Settings { waits, ..settings(dir, |_| {}) }).await
}

fn unused(reason: &str) -> String {
    format!("galen_aggregator_session_unused_connections_total{{reason=\"{reason}\"}}")
}

#[tokio::test]
async fn a_connection_that_never_calls_is_closed_and_counted_by_what_came_of_it() {
    let dir = tempdir().unwrap();
    let waits = Waits { idle: Duration::from_millis(100), hello: LONG, call: LONG, ..Waits::default() };
    let aggregator = impatient(dir.path(), waits).await;
    let (mut bystander, _) = aggregator.welcomed(hello("bystander", &[queue(1, 10)])).await;
    for (says, reason, count) in [(&b""[..], "silent", 1.0), (&PREFACE[..8], "no_call", 1.0), (PREFACE, "no_call", 2.0)]
    {
        let mut stranger = TcpStream::connect(aggregator.addresses.grpc).await.unwrap();
        stranger.write_all(says).await.unwrap();
        // Whether by an orderly end or by a reset: no place is held.
        let _ = timeout(PATIENCE, stranger.read_to_end(&mut Vec::new())).await.expect("an end in time");
        aggregator.shows(&unused(reason), count).await;
    }
    bystander.batch(Batch { next_seq: 10, ..batch(1, 3) }).await;
    bystander.acknowledged(3).await;
}

#[tokio::test]
async fn a_connection_whose_calls_have_ended_is_closed_and_its_client_comes_again() {
    let dir = tempdir().unwrap();
    let waits = Waits { idle: Duration::from_millis(100), hello: LONG, call: LONG, ..Waits::default() };
    let aggregator = impatient(dir.path(), waits).await;
    let mut client = QueryServiceClient::new(aggregator.endpoint().connect().await.unwrap());
    client.get_status(GetStatusRequest {}).await.unwrap();
    aggregator.shows(&unused("idle"), 1.0).await;
    client.get_status(GetStatusRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_stream_without_a_hello_is_ended_with_the_reason() {
    let dir = tempdir().unwrap();
    let waits = Waits { idle: LONG, hello: Duration::from_millis(100), call: LONG, ..Waits::default() };
    let aggregator = impatient(dir.path(), waits).await;
    let mut agent = aggregator.call().await;
    agent.ends(Code::FailedPrecondition, "first message must be a hello").await;
    aggregator.shows("galen_aggregator_session_ended_streams_total{reason=\"no_hello\"}", 1.0).await;
}

#[tokio::test]
async fn a_call_whose_question_never_comes_is_ended() {
    let dir = tempdir().unwrap();
    let waits = Waits { idle: LONG, hello: LONG, call: Duration::from_millis(100), ..Waits::default() };
    let aggregator = impatient(dir.path(), waits).await;
    let ended = timeout(PATIENCE, aggregator.try_call_of("/galen.v1.QueryService/GetStatus")).await;
    let Err(status) = ended.expect("an end in time") else { panic!("there was no question to answer") };
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("did the question come?"), "{status}");
}

#[tokio::test]
async fn an_agent_that_never_reads_its_answers_is_let_go_with_its_connection_and_no_other() {
    let dir = tempdir().unwrap();
    let beats = |config: &mut galen_aggregator::Config| config.sessions.heartbeat = Span::from_millis(100);
    let aggregator = Aggregator::with(settings(dir.path(), beats)).await;
    let (mut bystander, _) = aggregator.welcomed(hello("bystander", &[queue(1, 1000)])).await;
    // It keeps sending, so that it is not its silence that ends it.
    let mut deaf = aggregator.deaf(hello("deaf", &[queue(1, 1000)])).await;
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let ended = r#"galen_aggregator_session_ended_streams_total{reason="not_reading"}"#;
    while aggregator.metrics().await.get(ended) != Some(&1.0) {
        assert!(tokio::time::Instant::now() < deadline, "its session does not end");
        beat.tick().await;
        deaf.heartbeat(Default::default()).await;
        bystander.heartbeat(Default::default()).await;
    }
    assert_eq!(aggregator.metrics().await["galen_aggregator_session_connected_agents"], 1.0);
    // Its connection is gone too: reading now, it does not even find the reason.
    let end = deaf.end().await;
    assert!(!end.message().contains("three heartbeats"), "{end}");
    bystander.batch(Batch { next_seq: 1000, ..batch(1, 3) }).await;
    bystander.acknowledged(3).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_counted_until_one_is_free() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::with(settings(dir.path(), |config| config.sessions.max_agents = 1)).await;
    let (first, _) = aggregator.welcomed(hello("web-1", &[])).await;
    let refused = "galen_aggregator_session_refused_connections_total";
    let mut held = Vec::new();
    while aggregator.metrics().await[refused] == 0.0 {
        assert!(held.len() < 1000, "connections are not bounded");
        held.push(TcpStream::connect(aggregator.addresses.grpc).await.unwrap());
    }
    let mut last = held.pop().unwrap();
    let closed = timeout(PATIENCE, last.read(&mut [0; 1])).await.expect("an end in time");
    assert!(closed.is_err() || closed.is_ok_and(|read| read == 0));
    drop((held, first));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while aggregator.try_call().await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "no place is free again");
    }
}

#[tokio::test]
async fn a_flood_of_heartbeats_and_of_streams_delays_nobody_else() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::with(settings(dir.path(), |config| config.sessions.new_per_second = 50)).await;
    let (mut bystander, _) = aggregator.welcomed(hello("bystander", &[queue(1, 1000)])).await;
    let (flooding, _) = aggregator.welcomed(hello("flooding", &[queue(1, 1000)])).await;
    let measure = |place: usize| Measure {
        name: format!("galen_agent_flood_{place}_total"),
        kind: MeasureKind::Counter.into(),
        value: 1.0,
        ..Measure::default()
    };
    let beat = Heartbeat { measures: (0..2000).map(measure).collect(), ..Heartbeat::default() };
    let flood = async {
        loop {
            flooding.heartbeat(beat.clone()).await;
            tokio::task::yield_now().await;
        }
    };
    let storm = async {
        loop {
            // One after the other, whatever is said of when to come again.
            let _ = aggregator.try_call().await;
        }
    };
    let served = async {
        for seq in 1..=100 {
            bystander.batch(Batch { next_seq: 1000, ..batch(seq, seq) }).await;
            bystander.acknowledged(seq).await;
        }
    };
    tokio::select! {
        _ = async { tokio::join!(flood, storm) } => unreachable!("they never end"),
        () = served => {}
    }
    let figures = aggregator.metrics().await;
    // What it told beyond the bounds is counted, and kept is what may be.
    assert!(figures["galen_aggregator_fleet_refused_figures_total{reason=\"full\"}"] > 0.0, "{figures:?}");
    assert!(figures["galen_aggregator_fleet_kept_figures"] <= 512.0, "{figures:?}");
    aggregator.stop().await;
}
