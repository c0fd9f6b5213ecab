//! What balancers and tools are told: health by service, readiness, and what there is to call.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;

use bytes::Bytes;
use galen_proto::v1::Batch;
use galen_runtime::Size;
use galen_scratch::Tmpfs;
use support::{Aggregator, PATIENCE, batch, hello, http_get, queue, settings};
use tempfile::tempdir;
use tokio::time::timeout;
use tonic::{Code, Streaming, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

const AGENTS: &str = "galen.v1.AgentService";
const QUESTIONS: &str = "galen.v1.QueryService";

async fn health(aggregator: &Aggregator) -> HealthClient<Channel> {
    HealthClient::new(aggregator.endpoint().connect().await.unwrap())
}

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

async fn told(watch: &mut Streaming<HealthCheckResponse>, expected: ServingStatus) {
    loop {
        let told = timeout(PATIENCE, watch.message()).await.expect("a word in time").unwrap().expect("a word");
        if told.status() == expected {
            return;
        }
    }
}

#[tokio::test]
async fn a_log_that_takes_nothing_makes_the_agents_service_unhealthy_until_it_does_again() {
    let Some(disk) = Tmpfs::mount(2 << 20) else { return };
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![1; 1 << 20]).unwrap();
    let small = |config: &mut galen_aggregator::Config| {
        config.log.segment_bytes = Size::kib(256);
        config.log.retention_bytes = Size::gib(1);
    };
    let aggregator = Aggregator::with(settings(&disk.path().join("data"), small)).await;
    let http = aggregator.addresses.http;
    let mut client = health(&aggregator).await;
    let mut agents = client.watch(of(AGENTS)).await.unwrap().into_inner();
    let mut server = client.watch(of("")).await.unwrap().into_inner();
    for watch in [&mut agents, &mut server] {
        told(watch, ServingStatus::Serving).await;
    }
    assert!(http_get(http, "/readyz").await.starts_with("HTTP/1.1 200"));

    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[queue(1, 1000)])).await;
    for seq in 1..=15 {
        let events = vec![Bytes::from(vec![0; 100 << 10])];
        agent.batch(Batch { events, next_seq: 1000, ..batch(seq, seq) }).await;
    }
    agent.ends(Code::Unavailable, "takes nothing now").await;
    for watch in [&mut agents, &mut server] {
        told(watch, ServingStatus::NotServing).await;
    }
    let not_ready = http_get(http, "/readyz").await;
    assert!(not_ready.starts_with("HTTP/1.1 503") && not_ready.contains("the log takes no events"), "{not_ready}");
    // What is there is found as ever.
    let questions = client.check(of(QUESTIONS)).await.unwrap().into_inner();
    assert_eq!(questions.status(), ServingStatus::Serving);

    fs::remove_file(&filler).unwrap();
    for watch in [&mut agents, &mut server] {
        told(watch, ServingStatus::Serving).await;
    }
    assert!(http_get(http, "/readyz").await.starts_with("HTTP/1.1 200"));
    aggregator.stop().await;
}

#[tokio::test]
async fn a_store_that_stands_still_keeps_no_agent_away_and_is_told() {
    /// More than the store may be behind before it is a problem.
    const EVENTS: u64 = 101_000;
    let dir = tempdir().unwrap();
    // Nothing reads this log.
    let aggregator = Aggregator::start(dir.path()).await;
    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[queue(1, 1)])).await;
    for first in (1..=EVENTS).step_by(500) {
        agent.batch(batch(first, first + 499)).await;
        agent.acknowledged(first + 499).await;
    }
    let ready = http_get(aggregator.addresses.http, "/readyz").await;
    let (head, body) = ready.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(body.starts_with("ready\n") && body.contains("the store is 101000 events behind the log"), "{body}");
    for service in ["", AGENTS, QUESTIONS] {
        let now = health(&aggregator).await.check(of(service)).await.unwrap().into_inner();
        assert_eq!(now.status(), ServingStatus::Serving, "{service}");
    }
    aggregator.stop().await;
}

#[tokio::test]
async fn a_service_that_is_not_there_has_no_health() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let status = health(&aggregator).await.check(of("galen.v1.Nothing")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn tools_learn_every_service_and_its_messages_by_reflection() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let mut client = ServerReflectionClient::new(aggregator.endpoint().connect().await.unwrap());
    let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let questions = vec![
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("galen.v1.SearchEventsRequest".into())),
    ];
    let mut answers = client.server_reflection_info(tokio_stream::iter(questions)).await.unwrap().into_inner();
    let mut next = async || answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = next().await else { panic!("no list") };
    let services: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in [AGENTS, QUESTIONS, "galen.v1.IncidentService", "galen.v1.ControlService", "grpc.health.v1.Health"] {
        assert!(services.contains(&service), "{services:?}");
    }
    let MessageResponse::FileDescriptorResponse(file) = next().await else { panic!("no descriptor") };
    assert!(!file.file_descriptor_proto.is_empty());
}
