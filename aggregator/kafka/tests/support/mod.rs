//! What the tests with a real broker share.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use galen_kafka::{Config, Link, Mirror, Reader, Settings, Writer};
use galen_log::{Append, Consumer, EmbeddedLog, Log, Watermarks, embedded};
use galen_proto::v1::{Attachment, Batch, Event, EventKind, LogRecord, Queue};
use galen_runtime::{Chain, Drained, Span, Supervisor};
use galen_services::Server;
use parking_lot::Mutex;
use prost::Message;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};
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
        let (writer, opened) = Writer::open(settings, &supervisor, render).unwrap();
        Self { writer, watermarks: opened.unwrap(), supervisor }
    }

    /// Before there are brokers: with the reason.
    pub(crate) fn waiting(settings: &Settings) -> (Self, galen_log::Error) {
        let supervisor = Supervisor::new();
        let (writer, opened) = Writer::open(settings, &supervisor, render).unwrap();
        (Self { writer, watermarks: Watermarks::default(), supervisor }, opened.unwrap_err())
    }

    /// Opens it again as soon as it can be.
    pub(crate) fn reopened(&mut self) {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            match self.writer.reopen() {
                Ok(watermarks) => break self.watermarks = watermarks,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{}", Chain(&error)),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Groups that were given up for this reason.
    pub(crate) fn failed(&self, reason: &str) -> u64 {
        let errors = self.writer.gauge().stats().errors;
        errors.iter().find(|(kind, _)| *kind == reason).unwrap().1
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
        // A broker forgets the producers of records that are old.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        self.watermarks.admit(node, batch, now.try_into().unwrap()).unwrap().records
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

/// A mirror and the log that it writes.
pub(crate) struct Copy {
    pub(crate) log: EmbeddedLog,
    pub(crate) mirror: Mirror,
    supervisor: Supervisor,
    pub(crate) told: Arc<Mutex<u64>>,
}

impl Copy {
    pub(crate) fn open(settings: &Settings, dir: &Path) -> Self {
        Self::beside(&Link::default(), settings, dir)
    }

    /// Its errors are counted with those of others.
    pub(crate) fn beside(link: &Link, settings: &Settings, dir: &Path) -> Self {
        let log = embedded::Settings { segment_bytes: 64 << 10, ..embedded::Settings::new(dir) };
        let (log, writer, watermarks) = EmbeddedLog::open(log).unwrap();
        let (supervisor, told) = (Supervisor::new(), Arc::new(Mutex::new(0)));
        let count = Arc::clone(&told);
        let copied: galen_kafka::Copied =
            Box::new(move |_, watermarks| *count.lock() = watermarks.totals_of("web-1").events);
        let mirror = Mirror::start(settings, link, Box::new(writer), watermarks, &supervisor, copied).unwrap();
        Self { log, mirror, supervisor, told }
    }

    /// Waits for so many events, and returns them by number.
    pub(crate) async fn events(&self, count: u64) -> Vec<(u64, Bytes)> {
        let deadline = Instant::now() + PATIENCE;
        let mut reader = self.log.reader(0);
        let mut events = Vec::new();
        while (events.len() as u64) < count {
            let chunk = timeout_at(deadline, reader.next(1000)).await.expect("events in time").unwrap();
            for entry in chunk.entries {
                events.extend((entry.record.first_seq..).zip(entry.record.events));
            }
        }
        events.sort_unstable();
        events
    }

    pub(crate) async fn close(self) {
        assert_eq!(self.supervisor.drain(PATIENCE).await, Drained::Complete);
    }
}

fn client(kafka: &Server) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", kafka.brokers());
    client
}

fn admin(kafka: &Server) -> AdminClient<DefaultClientContext> {
    client(kafka).create().unwrap()
}

/// As retention does: takes the records below `next` of a topic's one partition.
pub(crate) async fn delete_records(kafka: &Server, topic: &str, next: i64) {
    let mut gone = TopicPartitionList::new();
    gone.add_partition_offset(topic, 0, Offset::Offset(next)).unwrap();
    admin(kafka).delete_records(&gone, &AdminOptions::new()).await.unwrap();
}

/// Returns when the brokers no longer know of it.
pub(crate) async fn delete_topic(kafka: &Server, topic: &str) {
    for deleted in admin(kafka).delete_topics(&[topic], &AdminOptions::new()).await.unwrap() {
        deleted.unwrap();
    }
    let (client, deadline): (BaseConsumer, _) = (client(kafka).create().unwrap(), Instant::now() + PATIENCE);
    let is_there = || {
        let metadata = client.fetch_metadata(Some(topic), PATIENCE).unwrap();
        metadata.topics().iter().any(|topic| !topic.partitions().is_empty())
    };
    while is_there() {
        assert!(Instant::now() < deadline, "{topic} is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Events `1 ..= last` by number.
pub(crate) fn expected(last: u64) -> Vec<(u64, Bytes)> {
    (1..=last).map(|seq| (seq, event(seq))).collect()
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
    let (mut reader, mut found) = (Reader::join(settings, &Link::default(), &name).unwrap(), Found::new());
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
