//! Events, and an aggregator that has stored them.

use std::time::Instant;

use bytes::Bytes;
use galen_aggregator::{Settings, flame};
use galen_proto::{
    PPROF_MEDIA_TYPE,
    pprof::{Function, Line, Location, Profile, Sample, ValueType},
    v1::{Attachment, Batch, Container, Event, EventKind, Severity, Times},
};
use prost::Message;
use tempfile::TempDir;

use crate::{
    client::get,
    support::{Agent, Aggregator, EPOCH, PATIENCE, hello, queue, settings},
};

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const NOON: i64 = 1_763_985_600 * SECOND;

pub(crate) fn event(tracer: &str, time: i64) -> Event {
    Event {
        tracer: tracer.into(),
        run_id: "run-1".into(),
        kind: EventKind::Trigger.into(),
        severity: Severity::Warning.into(),
        summary: format!("{tracer} in web-1"),
        times: Some(Times { observed_unix_nanos: time, recorded_unix_nanos: time + SECOND, observed_boot_nanos: 1 }),
        container: Some(Container { name: "web-1".into(), runtime: "docker".into(), ..Container::default() }),
        data: br#"{"user_percent":97.5,"user_percent_threshold":75}"#.to_vec().into(),
        ..Event::default()
    }
}

pub(crate) fn profile() -> Attachment {
    let texts = ["", "samples", "count", "main", "<script>alert(1)</script>"];
    let function = |id, name| Function { id, name, system_name: name, ..Function::default() };
    let location = |id| Location { id, line: vec![Line { function_id: id, ..Line::default() }], ..Location::default() };
    let profile = Profile {
        sample_type: vec![ValueType { r#type: 1, unit: 2 }],
        sample: vec![Sample { location_id: vec![2, 1], value: vec![42], label: Vec::new() }],
        location: vec![location(1), location(2)],
        function: vec![function(1, 3), function(2, 4)],
        string_table: texts.map(String::from).to_vec(),
        ..Profile::default()
    };
    let plain = Attachment {
        name: "cpu.pb.gz".into(),
        media_type: PPROF_MEDIA_TYPE.into(),
        content: profile.encode_to_vec().into(),
        ..Attachment::default()
    };
    Attachment { encoding: "gzip".into(), content: flame::packed(&plain).unwrap(), ..plain }
}

pub(crate) async fn start(dir: &TempDir) -> Aggregator {
    Aggregator::with(Settings { index: true, ..settings(dir.path(), |_| {}) }).await
}

pub(crate) async fn send(agent: &mut Agent, first_seq: u64, events: Vec<Bytes>) {
    let next_seq = first_seq + events.len() as u64;
    agent.batch(Batch { epoch: EPOCH, first_seq, events, next_seq, ..Batch::default() }).await;
    agent.acknowledged(next_seq - 1).await;
}

/// An aggregator whose store has these events, of the node `web-1`.
pub(crate) async fn with_events(dir: &TempDir, events: &[Event]) -> (Aggregator, Agent) {
    let aggregator = start(dir).await;
    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[queue(1, 1)])).await;
    send(&mut agent, 1, events.iter().map(|event| event.encode_to_vec().into()).collect()).await;
    stored(&aggregator, events.len() as u64).await;
    (aggregator, agent)
}

/// Waits until so many events are found.
pub(crate) async fn stored(aggregator: &Aggregator, events: u64) {
    let began = Instant::now();
    loop {
        let total = get(aggregator.addresses.http, "/api/v1/events?limit=1").await.json()["total"].as_u64().unwrap();
        if total == events {
            return;
        }
        assert!(total < events && began.elapsed() < PATIENCE, "{total} of {events} events are found");
        tokio::task::yield_now().await;
    }
}
