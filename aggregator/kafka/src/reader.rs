//! Reads the events for one purpose, such as their index: replicas with the same name share the partitions.
//!
//! One consumer group, cooperative: a replica that comes or goes moves only the partitions that must move. Places are
//! committed by hand, for partitions that are still this replica's. Another replica may take over what was handed out
//! here and not committed yet: effects must be repeatable.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use galen_log::{BoxFuture, Consumer, Delivery, Place, SkipReason, Skipped};
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance, StreamConsumer},
    error::KafkaError,
    message::{BorrowedMessage, Message},
    types::RDKafkaErrorCode,
};
use tokio::time::timeout;

use crate::{Error, JoinStats, Link, Settings, codec::Joiner, fresh::Ahead, topics::Topics};

/// A delivery ends at this size, whatever number of events was asked for.
const DELIVERY_BYTES: usize = 8 << 20;
/// A place that could not be committed, because partitions were moving, is committed again after this time.
const COMMIT_AGAIN: Duration = Duration::from_millis(500);

/// A member of a group.
pub struct Reader {
    consumer: Arc<StreamConsumer<Context>>,
    shared: Arc<Shared>,
    group: String,
    joiner: Joiner,
    skipped: Vec<Skipped>,
    /// Where each partition should go on.
    expected: HashMap<i32, u64>,
    /// The first record that was read of each partition.
    begun: HashMap<i32, u64>,
    /// What another reader does.
    pub(crate) ahead: Ahead,
    /// Records that were passed over because of it, since the last delivery.
    passed: usize,
}

#[derive(Debug, Default)]
struct Shared {
    topic: String,
    /// Partitions that went to others, or came back, since somebody looked.
    moved: Mutex<Vec<i32>>,
    /// Places that are still to be committed, because partitions were moving.
    uncommitted: Mutex<HashMap<i32, u64>>,
    lag: AtomicU64,
}

struct Context {
    link: Link,
    shared: Arc<Shared>,
}

impl Reader {
    /// Joins the group `<prefix>.<name>`; one that is new begins with the oldest event. Call it within a runtime.
    ///
    /// # Errors
    /// Settings that the client refuses.
    pub fn join(settings: &Settings, name: &str) -> Result<Self, Error> {
        let reader = Self::open(settings, name, false)?;
        reader.consumer.subscribe(&[&reader.shared.topic]).map_err(|source| reader.refused(source))?;
        Ok(reader)
    }

    /// Reads partitions from their end on, beside the group.
    pub(crate) fn at_end(settings: &Settings, name: &str, partitions: &[i32]) -> Result<Self, Error> {
        let reader = Self::open(settings, name, true)?;
        let mut ends = TopicPartitionList::new();
        for partition in partitions {
            let added = ends.add_partition_offset(&reader.shared.topic, *partition, Offset::End);
            added.map_err(|source| reader.refused(source))?;
        }
        reader.consumer.assign(&ends).map_err(|source| reader.refused(source))?;
        Ok(reader)
    }

    /// `is_alone`: it commits nothing, and its lag is that of what was read.
    fn open(settings: &Settings, name: &str, is_alone: bool) -> Result<Self, Error> {
        let group = format!("{}.{name}", settings.prefix);
        let topic = Topics::of(settings).events;
        let mut client = settings.client(name)?;
        client
            .set("group.id", &group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", if is_alone { "true" } else { "false" })
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "10000")
            // An effect may take that long, where it is of something that is away.
            .set("max.poll.interval.ms", "1800000");
        let shared = Arc::new(Shared { topic, ..Shared::default() });
        let context = Context { link: Link::default(), shared: Arc::clone(&shared) };
        let consumer: StreamConsumer<Context> = client.create_with_context(context).map_err(Error::Client)?;
        Ok(Self {
            consumer: Arc::new(consumer),
            shared,
            group,
            joiner: Joiner::default(),
            skipped: Vec::new(),
            expected: HashMap::new(),
            begun: HashMap::new(),
            ahead: Ahead::default(),
            passed: 0,
        })
    }

    /// What was passed over.
    pub fn stats(&self) -> JoinStats {
        self.joiner.stats()
    }

    /// Its partitions, in order.
    pub(crate) fn partitions(&self) -> Result<Vec<i32>, Error> {
        let assigned = self.consumer.assignment().map_err(|source| self.refused(source))?;
        let mut partitions: Vec<i32> = assigned.elements().iter().map(|element| element.partition()).collect();
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// The first record that was read of a partition.
    pub(crate) fn begun(&self, partition: i32) -> Option<u64> {
        self.begun.get(&partition).copied()
    }

    pub(crate) async fn gather(&mut self, max_events: usize) -> Result<Delivery, galen_log::Error> {
        let consumer = Arc::clone(&self.consumer);
        loop {
            let message = if self.shared.uncommitted.lock().is_empty() {
                consumer.recv().await
            } else {
                let Ok(message) = timeout(COMMIT_AGAIN, consumer.recv()).await else {
                    self.note().await?;
                    continue;
                };
                message
            };
            let message = match message {
                Ok(message) => message,
                // The topic may come yet.
                Err(error) if is_passing(&error) => continue,
                Err(source) => return Err(self.failed(source)),
            };
            // From here on nothing waits, so nothing is lost with a future that is dropped.
            self.add(&message);
            while self.joiner.events() + self.passed < max_events.max(1) && self.joiner.bytes() < DELIVERY_BYTES {
                match consumer.recv().now_or_never() {
                    Some(Ok(message)) => self.add(&message),
                    // An error comes again.
                    None | Some(Err(_)) => break,
                }
            }
            self.forget_moved();
            let (records, place) = self.joiner.take();
            self.passed = 0;
            return Ok(Delivery { records, skipped: std::mem::take(&mut self.skipped), place });
        }
    }

    fn add(&mut self, message: &BorrowedMessage<'_>) {
        // Partitions move while a message is asked for: what came before is not what comes after.
        self.forget_moved();
        let (partition, offset) = (message.partition(), message.offset().max(0).unsigned_abs());
        self.begun.entry(partition).or_insert(offset);
        if let Some(expected) = self.expected.insert(partition, offset + 1)
            && offset > expected
        {
            self.skipped.push(Skipped { first: expected, next: offset, reason: SkipReason::Retention });
        }
        if self.ahead.covers(partition, offset) && self.joiner.pass_over(message) {
            self.passed += 1;
        } else {
            self.joiner.add(message);
        }
    }

    fn forget_moved(&mut self) {
        let moved = std::mem::take(&mut *self.shared.moved.lock());
        for partition in moved {
            self.joiner.forget(partition);
            self.expected.remove(&partition);
            self.shared.uncommitted.lock().remove(&partition);
        }
    }

    /// Commits what is to be committed.
    async fn note(&mut self) -> Result<(), galen_log::Error> {
        let failed = |source| Error::Commit { group: self.group.clone(), source }.log("commit a place in Kafka");
        let owned = self.consumer.assignment().map_err(failed)?;
        let offsets = {
            let mut uncommitted = self.shared.uncommitted.lock();
            uncommitted.retain(|partition, _| owned.find_partition(&self.shared.topic, *partition).is_some());
            self.shared.offsets(&uncommitted).map_err(failed)?
        };
        if offsets.count() == 0 {
            return Ok(());
        }
        let consumer = Arc::clone(&self.consumer);
        let committed = tokio::task::spawn_blocking(move || consumer.commit(&offsets, CommitMode::Sync)).await;
        match committed.map_err(galen_log::Error::Interrupted)? {
            Ok(()) => self.shared.uncommitted.lock().clear(),
            // Again when they have moved, for those that are still here.
            Err(error) if is_moving(&error) => tracing::debug!(%error, "partitions move"),
            Err(source) => return Err(failed(source)),
        }
        Ok(())
    }

    fn refused(&self, source: KafkaError) -> Error {
        Error::Read { topic: self.shared.topic.clone(), source }
    }

    fn failed(&self, source: KafkaError) -> galen_log::Error {
        self.refused(source).log("read from Kafka")
    }
}

impl Consumer for Reader {
    fn next(&mut self, max_events: usize) -> BoxFuture<'_, Result<Delivery, galen_log::Error>> {
        Box::pin(self.gather(max_events))
    }

    fn commit(&mut self, place: &Place) -> BoxFuture<'_, Result<(), galen_log::Error>> {
        self.shared.uncommitted.lock().extend(place.0.iter().copied());
        Box::pin(self.note())
    }

    fn lag(&self) -> u64 {
        self.shared.lag.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn offsets(&self, places: &HashMap<i32, u64>) -> Result<TopicPartitionList, KafkaError> {
        let mut offsets = TopicPartitionList::new();
        for (&partition, &next) in places {
            let next = Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX));
            offsets.add_partition_offset(&self.topic, partition, next)?;
        }
        Ok(offsets)
    }
}

/// What a client reports while it goes on by itself.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::PollExceeded
                | RDKafkaErrorCode::Resolve
        )
    )
}

fn is_moving(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::AssignmentLost
        )
    )
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.link.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let lag: i64 = partitions.map(|partition| partition.consumer_lag.max(0)).sum();
        self.shared.lag.store(lag.unsigned_abs(), Ordering::Relaxed);
        self.link.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.link.error(error, reason);
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let (list, change) = match rebalance {
            Rebalance::Assign(list) => (list, "assigned"),
            Rebalance::Revoke(list) => (list, "revoked"),
            Rebalance::Error(error) => {
                tracing::warn!(%error, "the group could not be arranged anew");
                return;
            }
        };
        tracing::info!(partitions = list.count(), change, "partitions move");
        let moved: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        // The last moment in which these places are ours to commit, also when the reader is closed. The broker hears of it
        // before the partitions go; only if it refuses once more they are handed out again.
        let mut leaving = self.shared.uncommitted.lock().clone();
        leaving.retain(|partition, _| moved.contains(partition));
        if !leaving.is_empty() && matches!(rebalance, Rebalance::Revoke(_)) {
            let committed =
                self.shared.offsets(&leaving).and_then(|offsets| consumer.commit(&offsets, CommitMode::Async));
            if let Err(error) = committed {
                tracing::debug!(%error, "places of partitions that go could not be committed");
            }
        }
        self.shared.moved.lock().extend(moved);
    }
}
