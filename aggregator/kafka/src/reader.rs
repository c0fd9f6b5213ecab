//! Reads the events for one purpose, such as their index: replicas with the same name share the partitions.
//!
//! One consumer group, cooperative: a replica that comes or goes moves only the partitions that must move. Places are
//! committed by hand, for partitions that are still this replica's. Another replica may take over what was handed out
//! here and not committed yet: effects must be repeatable.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::FutureExt;
use galen_log::{BoxFuture, Consumer, Delivery, Place, SkipReason, Skipped};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _, StreamConsumer},
    error::KafkaError,
    message::{BorrowedMessage, Message},
    types::RDKafkaErrorCode,
};
use tokio::time::timeout;

use crate::{
    Error, JoinStats, Link, Settings,
    codec::Joiner,
    fresh::Ahead,
    rebalance::{Context, Moved, Shared},
    topics::Topics,
};

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
    /// Beside a group: the first record that was read of each partition.
    begun: Option<HashMap<i32, u64>>,
    /// What another reader does.
    pub(crate) ahead: Ahead,
    /// Records that were passed over because of it, since the last delivery.
    passed: usize,
}

impl Reader {
    /// Joins the group `<prefix>.<name>`; one that is new begins with the oldest event. Call it within a runtime.
    ///
    /// # Errors
    /// Settings that the client refuses.
    pub fn join(settings: &Settings, link: &Link, name: &str) -> Result<Self, Error> {
        let reader = Self::open(settings, link, name, false)?;
        reader.consumer.subscribe(&[&reader.shared.topic]).map_err(|source| reader.refused(source))?;
        Ok(reader)
    }

    /// Reads partitions from their end on, beside the group.
    pub(crate) fn at_end(settings: &Settings, link: &Link, name: &str, partitions: &[i32]) -> Result<Self, Error> {
        let reader = Self::open(settings, link, name, true)?;
        let mut ends = TopicPartitionList::new();
        for partition in partitions {
            let added = ends.add_partition_offset(&reader.shared.topic, *partition, Offset::End);
            added.map_err(|source| reader.refused(source))?;
        }
        reader.consumer.assign(&ends).map_err(|source| reader.refused(source))?;
        Ok(reader)
    }

    /// `is_alone`: it commits nothing, and its lag is that of what was read.
    fn open(settings: &Settings, link: &Link, name: &str, is_alone: bool) -> Result<Self, Error> {
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
        let context = Context { link: link.beside(), shared: Arc::clone(&shared) };
        let consumer: StreamConsumer<Context> = client.create_with_context(context).map_err(Error::Client)?;
        Ok(Self {
            consumer: Arc::new(consumer),
            shared,
            group,
            joiner: Joiner::default(),
            skipped: Vec::new(),
            expected: HashMap::new(),
            begun: is_alone.then(HashMap::new),
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

    /// The first record that was read of a partition, beside a group.
    pub(crate) fn begun(&self, partition: i32) -> Option<u64> {
        self.begun.as_ref()?.get(&partition).copied()
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
        if let Some(begun) = &mut self.begun {
            begun.entry(partition).or_insert(offset);
        }
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
        for Moved { partition, place } in moved {
            self.joiner.forget(partition);
            match place {
                Some(place) => self.expected.insert(partition, place),
                None => self.expected.remove(&partition),
            };
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
