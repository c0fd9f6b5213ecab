//! Events and stores for the tests of this crate.

use std::time::Duration;

use bytes::Bytes;
use galen_proto::v1::{Attachment, Container, Event, EventKind, Host, LogRecord, Severity, Times};
use prost::Message;
use tempfile::TempDir;

use crate::{Order, Query, Search, Settings, Store, Writer};

/// 2025-11-24, in the middle of the day.
pub(crate) const NOW: i64 = 1_763_985_600_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const DAY: i64 = 86_400 * SECOND;

pub(crate) fn settings(dir: &TempDir) -> Settings {
    Settings { dir: dir.path().join("store"), retention: Duration::from_secs(7 * 86_400), max_bytes: 1 << 30 }
}

pub(crate) fn event(tracer: &str, time: i64, data: &str) -> Event {
    Event {
        tracer: tracer.into(),
        run_id: "0193-run".into(),
        kind: EventKind::Trigger.into(),
        severity: Severity::Warning.into(),
        summary: format!("CPU burst of {tracer} in web-1: 97 % of 2 CPUs"),
        times: Some(Times { observed_boot_nanos: 1, observed_unix_nanos: time, recorded_unix_nanos: time + 1 }),
        host: Some(Host { name: "host-1".into(), cpus: 2, ..Host::default() }),
        container: Some(Container {
            id: "4f1c".into(),
            name: "web-1".into(),
            runtime: "docker".into(),
            cgroup: "/docker/4f1c".into(),
            labels: [("app.kubernetes.io/name".to_owned(), "shop".to_owned())].into(),
            ..Container::default()
        }),
        data: data.to_owned().into(),
        ..Event::default()
    }
}

pub(crate) fn attachment(bytes: usize) -> Attachment {
    Attachment {
        name: "cpu.pb.gz".into(),
        media_type: galen_proto::PPROF_MEDIA_TYPE.into(),
        encoding: "gzip".into(),
        content: vec![7; bytes].into(),
    }
}

pub(crate) fn record(first_seq: u64, events: &[Event]) -> LogRecord {
    raw_record(first_seq, events.iter().map(|event| event.encode_to_vec().into()).collect())
}

pub(crate) fn raw_record(first_seq: u64, events: Vec<Bytes>) -> LogRecord {
    LogRecord {
        node: "node-1".into(),
        epoch: 0xc0ffee,
        first_seq,
        events,
        received_unix_nanos: NOW,
        ..LogRecord::default()
    }
}

/// A store with these events, committed, at the offsets from 0.
pub(crate) fn filled(events: &[Event]) -> (TempDir, Store, Writer) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(settings(&dir)).unwrap();
    let mut writer = store.writer(events.len() as u64).unwrap();
    writer.add(0, &record(1, events)).unwrap();
    writer.commit().unwrap();
    (dir, store, writer)
}

/// Sequence numbers of what a query finds, as they were logged.
pub(crate) fn found(store: &Store, query: &str) -> Vec<u64> {
    let query = Query::parse(query, NOW).unwrap();
    let search = Search { order: Order::Logged, ..Search::newest(&query, 1000) };
    let found = store.search(&search).unwrap();
    assert_eq!(found.total, found.hits.len() as u64);
    found.hits.iter().map(|hit| hit.event.id.as_ref().unwrap().seq).collect()
}
