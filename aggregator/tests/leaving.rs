//! The orderly end: agents are sent elsewhere, and what they had underway is settled before.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use galen_proto::v1::Batch;
use support::{Aggregator, PATIENCE, batch, events_of, hello, http_get, logged, queue};
use tempfile::tempdir;
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

#[tokio::test]
async fn an_aggregator_that_leaves_is_not_ready_takes_no_session_and_says_goodbye() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let (endpoint, http) = (aggregator.endpoint(), aggregator.addresses.http);
    let ahead = |batch: Batch| Batch { next_seq: 100, ..batch };
    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[queue(1, 100)])).await;
    let mut health = HealthClient::new(endpoint.connect().await.unwrap());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let stranger = support::Agent::call(aggregator.endpoint(), support::SESSION);
    agent.batch(ahead(batch(1, 3))).await;
    agent.acknowledged(3).await;
    let moved = async {
        assert!(agent.goodbye().await.return_after_millis > 0);
        // Said before the goodbye.
        while watch.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
        let not_ready = http_get(http, "/readyz").await;
        assert!(not_ready.starts_with("HTTP/1.1 503") && not_ready.contains("shutting down"), "{not_ready}");
        let refused = stranger.await.err().expect("no new session");
        assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "the aggregator is shutting down"));
        assert!(refused.metadata().get(galen_proto::RETRY_AFTER).is_some(), "it is asked again at once: {refused:?}");
        // What the agent had sent before it heard of it.
        agent.batch(ahead(batch(4, 6))).await;
        agent.acknowledged(6).await;
        drop(agent);
        // The watch does not hold up the end, and ends with it.
        while watch.message().await.is_ok_and(|word| word.is_some()) {}
    };
    // Far more than the agent needs to leave.
    let deadline = PATIENCE * 6;
    timeout(deadline, async { tokio::join!(moved, aggregator.stop_within(deadline)) }).await.expect("an end in time");
    assert_eq!(events_of(&logged(dir.path()).await, "web-1").len(), 6);
}

#[tokio::test]
async fn an_agent_that_does_not_leave_has_its_acknowledgements_and_then_the_reason() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let mut agents = Vec::new();
    for node in ["web-1", "web-2", "web-3"] {
        agents.push(aggregator.welcomed(hello(node, &[queue(1, 100)])).await.0);
    }
    let stay = async {
        for agent in &mut agents {
            agent.goodbye().await;
            agent.batch(Batch { next_seq: 100, ..batch(1, 3) }).await;
            agent.acknowledged(3).await;
        }
        for agent in &mut agents {
            agent.ends(Code::Unavailable, "shutting down").await;
        }
    };
    tokio::join!(stay, aggregator.stop());
    for node in ["web-1", "web-2", "web-3"] {
        assert_eq!(events_of(&logged(dir.path()).await, node).len(), 3);
    }
}

#[tokio::test]
async fn sessions_beyond_those_of_a_second_are_refused_with_a_moment_to_come_again() {
    let dir = tempdir().unwrap();
    let one = |config: &mut galen_aggregator::Config| config.sessions.new_per_second = 1;
    let aggregator = Aggregator::with(support::settings(dir.path(), one)).await;
    let mut admitted = Vec::new();
    let refused = loop {
        assert!(admitted.len() < 1000, "new sessions are not bounded");
        match aggregator.try_call().await {
            Ok(agent) => admitted.push(agent),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let again = refused.metadata().get(galen_proto::RETRY_AFTER).expect("a moment to come again");
    let again = Duration::from_millis(again.to_str().unwrap().parse().unwrap());
    assert!(again > Duration::ZERO && again < Duration::from_secs(5), "{again:?}");
    aggregator.shows(r#"galen_aggregator_session_ended_streams_total{reason="too_many_new"}"#, 1.0).await;
    tokio::time::sleep(again).await;
    aggregator.welcomed(hello("web-2", &[queue(1, 1)])).await;
}
