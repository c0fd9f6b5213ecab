//! What the tests with a real broker share.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use galen_kafka::{Config, Reader, Settings, Writer};
use galen_log::{Append, Consumer, Watermarks};
use galen_proto::v1::{Attachment, Batch, Event, EventKind, LogRecord, Queue};
use galen_runtime::{Span, Supervisor};
use galen_services::Server;
use prost::Message;
use tokio::time::{Instant, timeout_at};

/// For anything that must happen: far more than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const EPOCH: u64 = 7;

pub(crate) fn settings(kafka: &Server, prefix: &str, change: impl FnOnce(&mut Config)) -> Settings {
    let mut config = Config {
        brokers: kafka.brokers(),
        topic_prefix: prefix.into(),
        partitions: 3,
        patience: Span::from_secs(20),
        ..Config::default()
    };
    change(&mut config);
    Settings::new(config).unwrap().unwrap()
}

/// A replica, as far as it writes.
pub(crate) struct Replica {
    pub(crate) writer: Writer,
    pub(crate) watermarks: Watermarks,
    pub(crate) supervisor: Supervisor,
}

impl Replica {
    pub(crate) fn open(settings: &Settings) -> Self {
        let supervisor = Supervisor::new();
        let (writer, watermarks) = Writer::open(settings, &supervisor, render).unwrap();
        Self { writer, watermarks, supervisor }
    }

    /// An agent says hello.
    pub(crate) fn hello(&mut self, node: &str, first_unacked: u64) {
        let queues = [Queue { epoch: EPOCH, first_unacked, next_seq: u64::MAX, account: None }];
        let known = self.writer.known(node, &queues, 1).unwrap();
        self.watermarks.merge(known);
        self.watermarks.believe(node, &queues, 1);
    }

    /// What is new of these events of a node.
    pub(crate) fn admit(&mut self, node: &str, first: u64, events: Vec<Bytes>) -> Vec<LogRecord> {
        let next_seq = first + events.len() as u64;
        let batch = Batch { epoch: EPOCH, first_seq: first, events, next_seq, ..Batch::default() };
        self.watermarks.admit(node, batch, 1_764_000_000_000_000_000).unwrap().records
    }

    pub(crate) fn append(&mut self, node: &str, first: u64, last: u64) -> Result<(), galen_log::Error> {
        let records = self.admit(node, first, (first..=last).map(event).collect());
        self.writer.append(&records).map(|_| ())
    }

    pub(crate) fn upto(&self, node: &str) -> u64 {
        self.watermarks.progress(node, EPOCH).unwrap().upto
    }

    /// What was settled is told to the other replicas.
    pub(crate) fn close(mut self) {
        self.writer.checkpoint(&self.watermarks).unwrap();
        drop(self.writer);
        self.supervisor.shutdown();
    }
}

pub(crate) fn render(event: Event) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({ "summary": event.summary })).unwrap()
}

pub(crate) fn event(number: u64) -> Bytes {
    with_evidence(number, 0)
}

/// An event with an attachment of `bytes`.
pub(crate) fn with_evidence(number: u64, bytes: usize) -> Bytes {
    let content: Vec<u8> = (0..bytes).map(|byte| (byte as u64 * number % 251) as u8).collect();
    let attachments =
        (bytes > 0).then(|| Attachment { name: "evidence".into(), content: content.into(), ..Attachment::default() });
    let event = Event {
        tracer: "test".into(),
        kind: EventKind::Event.into(),
        summary: format!("number {number}"),
        attachments: attachments.into_iter().collect(),
        ..Event::default()
    };
    event.encode_to_vec().into()
}

/// Events by node and number, each with how often it was read.
pub(crate) type Found = BTreeMap<(String, u64), (Bytes, usize)>;

pub(crate) fn note(found: &mut Found, records: &[LogRecord]) {
    for record in records {
        for (seq, event) in (record.first_seq..).zip(&record.events) {
            let place = found.entry((record.node.clone(), seq)).or_insert_with(|| (event.clone(), 0));
            assert_eq!(place.0, *event, "one identity, two events");
            place.1 += 1;
        }
    }
}

/// Reads until `enough` says so.
pub(crate) async fn read_until(reader: &mut Reader, found: &mut Found, enough: impl Fn(&Found) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !enough(found) {
        let delivery = timeout_at(deadline, reader.next(1000)).await.expect("events in time").unwrap();
        note(found, &delivery.records);
        reader.commit(&delivery.place).await.unwrap();
    }
}

/// All that is in the topic, by a group of its own; it ends with `last` of `node`.
pub(crate) async fn topic(settings: &Settings, node: &str, last: u64) -> Found {
    let name = format!("test-{node}-{last}");
    let (mut reader, mut found) = (Reader::join(settings, &name).unwrap(), Found::new());
    read_until(&mut reader, &mut found, |found| found.contains_key(&(node.to_owned(), last))).await;
    found
}

/// Checks that events `1 ..= last` of a node are there, as they were.
pub(crate) fn has_all(found: &Found, node: &str, last: u64) {
    let numbers: BTreeSet<u64> = found.keys().filter(|(of, _)| of == node).map(|(_, seq)| *seq).collect();
    assert_eq!(numbers, (1..=last).collect());
    for ((_, seq), (bytes, _)) in found.iter().filter(|((of, _), _)| of == node) {
        assert_eq!(*bytes, event(*seq));
    }
}
