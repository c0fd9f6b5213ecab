//! Events as agents make them, for the tests and the benchmarks of whatever indexes them: each store is asked about the
//! same, and measured with the same.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

pub mod load;
pub mod questions;

use bytes::Bytes;
use galen_proto::v1::{Attachment, Container, Event, EventKind, Host, LogRecord, Severity, Times};
use prost::Message;

/// 2025-11-24, in the middle of the day.
pub const NOW: i64 = 1_763_985_600_000_000_000;
pub const SECOND: i64 = 1_000_000_000;
/// Of every record's queue.
pub const EPOCH: u64 = 0xc0ffee;

/// A burst in a container; `data` is what its tracer found.
pub fn event(tracer: &str, time: i64, data: &str) -> Event {
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

pub fn attachment(name: &str, bytes: usize) -> Attachment {
    Attachment {
        name: name.into(),
        media_type: galen_proto::PPROF_MEDIA_TYPE.into(),
        encoding: "gzip".into(),
        content: vec![7; bytes].into(),
    }
}

/// Of one node, with the numbers from `first_seq` on.
pub fn record(first_seq: u64, events: &[Event]) -> LogRecord {
    raw_record(first_seq, events.iter().map(|event| event.encode_to_vec().into()).collect())
}

/// As [`record`], of events that may be none.
pub fn raw_record(first_seq: u64, events: Vec<Bytes>) -> LogRecord {
    LogRecord {
        node: "node-1".into(),
        epoch: EPOCH,
        first_seq,
        events,
        received_unix_nanos: NOW,
        ..LogRecord::default()
    }
}
