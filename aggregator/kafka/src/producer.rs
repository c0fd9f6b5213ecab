//! A client that writes: a group of records at a time, which is durable or is not.
//!
//! Idempotent, acknowledged by all replicas in sync, without a limit to the client's own tries: only the group's
//! patience ends them. Delivery reports are counted on the client's own thread; who waits sleeps until the last has
//! come. Dropping the producer takes back what was not delivered, as far as the brokers have not got it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use rdkafka::{
    error::KafkaError,
    message::OwnedHeaders,
    producer::{BaseRecord, Producer as _, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use crate::{Error, Link, Refusal, Settings, link::ProducerLink, topics::ENVELOPE};

/// Wait for room in the client's queue.
const ROOM: Duration = Duration::from_millis(5);
/// A record that a group waits for.
const OF_GROUP: usize = 0;
/// A record that nobody waits for.
const ASIDE: usize = 1;

/// A record to be written.
pub(crate) struct Outgoing<'a> {
    pub(crate) topic: &'a str,
    pub(crate) key: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) headers: Option<OwnedHeaders>,
    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) timestamp: i64,
}

pub(crate) struct Producer {
    client: ThreadedProducer<ProducerLink>,
    deliveries: Arc<Deliveries>,
    /// Records of the group that the client has taken.
    sent: u64,
}

impl Producer {
    /// `largest`: the largest record, in bytes.
    pub(crate) fn new(settings: &Settings, largest: usize, link: &Link, figures: &Arc<Figures>) -> Result<Self, Error> {
        let mut client = settings.client("writer")?;
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("linger.ms", settings.linger.as_millis().to_string())
            .set("compression.type", settings.compression.name())
            .set("message.max.bytes", (largest + ENVELOPE / 2).to_string())
            .set("batch.size", largest.min(1_000_000).to_string())
            .set("queue.buffering.max.kbytes", (settings.memory >> 10).to_string())
            .set("queue.buffering.max.messages", "0")
            // As Java's clients do it, so that others find a node's partition.
            .set("partitioner", "murmur2");
        let deliveries = Arc::new(Deliveries::new(Arc::clone(figures)));
        let context = ProducerLink { link: link.clone(), deliveries: Arc::clone(&deliveries) };
        let client = client.create_with_context(context).map_err(Error::Client)?;
        Ok(Self { client, deliveries, sent: 0 })
    }

    /// Begins a group.
    pub(crate) fn begin(&mut self) {
        self.sent = 0;
        self.deliveries.begin();
    }

    /// Hands over a record of the group; waits while the client's memory is full.
    pub(crate) fn send(&mut self, record: Outgoing<'_>, deadline: Instant) -> Result<(), Error> {
        self.hand_over(record, OF_GROUP, deadline).map_err(|error| self.cause(error))?;
        self.sent += 1;
        Ok(())
    }

    /// Hands over a record that nobody waits for.
    pub(crate) fn send_aside(&self, record: Outgoing<'_>, deadline: Instant) -> Result<(), Error> {
        self.hand_over(record, ASIDE, deadline)
    }

    fn hand_over(&self, record: Outgoing<'_>, what: usize, deadline: Instant) -> Result<(), Error> {
        let Outgoing { topic, key, payload, headers, timestamp } = record;
        let mut record = BaseRecord::with_opaque_to(topic, what).key(key).payload(payload).timestamp(timestamp);
        record.headers = headers;
        loop {
            match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    if Instant::now() > deadline {
                        return Err(Error::Produce(error));
                    }
                    record = back;
                    // The client's thread takes the reports; each makes room.
                    self.deliveries.wait(ROOM);
                }
                Err((error, _)) => return Err(Error::Produce(error)),
            }
        }
    }

    /// Waits until the whole group is acknowledged.
    pub(crate) fn settle(&self, deadline: Instant, patience: Duration) -> Result<(), Error> {
        self.deliveries.settle(self.sent, deadline, patience).map_err(|error| self.cause(error))
    }

    /// What ended the client for good stands behind all that it says from then on.
    fn cause(&self, error: Error) -> Error {
        match self.client.client().fatal_error() {
            Some((code, reason)) => Error::Fatal(Refusal { code: Some(code), reason }),
            None => error,
        }
    }

    /// Waits a little for what nobody waited for.
    pub(crate) fn flush(&self, patience: Duration) {
        if let Err(error) = self.client.flush(patience) {
            tracing::warn!(%error, "not everything reached Kafka before the end");
        }
    }
}

/// The reports of a producer.
#[derive(Debug)]
pub(crate) struct Deliveries {
    group: Mutex<Group>,
    news: Condvar,
    figures: Arc<Figures>,
}

#[derive(Debug, Default)]
struct Group {
    acknowledged: u64,
    failed: u64,
    first_error: Option<KafkaError>,
    /// Reports that complete the group, once that is known.
    awaited: Option<u64>,
}

/// Sums over all producers of a process.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) waiting_records: AtomicU64,
    pub(crate) waiting_bytes: AtomicU64,
    /// Of what nobody waits for.
    pub(crate) lost_aside: AtomicU64,
}

impl Deliveries {
    fn new(figures: Arc<Figures>) -> Self {
        Self { group: Mutex::default(), news: Condvar::new(), figures }
    }

    fn begin(&self) {
        *self.group.lock() = Group::default();
    }

    pub(crate) fn acknowledged(&self, what: usize, bytes: usize) {
        if what == OF_GROUP {
            self.figures.records.fetch_add(1, Ordering::Relaxed);
            self.figures.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            let mut group = self.group.lock();
            group.acknowledged += 1;
            self.tell(&group);
        }
    }

    pub(crate) fn failed(&self, what: usize, error: &KafkaError) {
        if what == ASIDE {
            self.figures.lost_aside.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut group = self.group.lock();
        group.failed += 1;
        group.first_error.get_or_insert_with(|| error.clone());
        self.tell(&group);
    }

    pub(crate) fn waiting(&self, records: u64, bytes: u64) {
        self.figures.waiting_records.store(records, Ordering::Relaxed);
        self.figures.waiting_bytes.store(bytes, Ordering::Relaxed);
    }

    fn tell(&self, group: &Group) {
        if group.awaited.is_some_and(|awaited| group.acknowledged >= awaited || group.failed > 0) {
            self.news.notify_one();
        }
    }

    fn wait(&self, most: Duration) {
        self.news.wait_for(&mut self.group.lock(), most);
    }

    fn settle(&self, records: u64, deadline: Instant, patience: Duration) -> Result<(), Error> {
        let mut group = self.group.lock();
        group.awaited = Some(records);
        while group.acknowledged < records {
            if let Some(source) = group.first_error.take() {
                return Err(Error::Refused { failed: group.failed, records, source });
            }
            if self.news.wait_until(&mut group, deadline).timed_out() && group.acknowledged < records {
                return Err(Error::Patience { acknowledged: group.acknowledged, records, patience });
            }
        }
        Ok(())
    }
}
