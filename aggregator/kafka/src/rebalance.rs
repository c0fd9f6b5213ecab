//! What a member hears of its group: partitions that come and go, and where the group goes on in those that come.
//!
//! It is told on the thread that asks for records, before the client acts on it. So what is asked and committed here
//! is of the moment between two owners of a partition.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance},
    error::KafkaError,
    topic_partition_list::TopicPartitionListElem,
};

use crate::{Link, topics::ANSWER};

/// What the client calls a commit that was refused and that nobody waits for: it is told in no other way.
const COMMIT_REFUSED: &str = "COMMITFAIL";

/// What a reader and its client have in common.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) topic: String,
    /// Partitions that went to others, or came back, since somebody looked.
    pub(crate) moved: Mutex<Vec<Moved>>,
    /// Places that are still to be committed, because partitions were moving.
    pub(crate) uncommitted: Mutex<HashMap<i32, u64>>,
    pub(crate) lag: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) partition: i32,
    /// The place of the group in a partition that came, if it was there before.
    pub(crate) place: Option<u64>,
}

pub(crate) struct Context {
    pub(crate) link: Link,
    pub(crate) shared: Arc<Shared>,
}

impl Shared {
    pub(crate) fn offsets(&self, places: &HashMap<i32, u64>) -> Result<TopicPartitionList, KafkaError> {
        let mut offsets = TopicPartitionList::new();
        for (&partition, &next) in places {
            let next = Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX));
            offsets.add_partition_offset(&self.topic, partition, next)?;
        }
        Ok(offsets)
    }

    /// The last moment in which places in these partitions are ours to commit, also when the reader is closed. The
    /// broker hears of it before the partitions go; only if it refuses once more they are handed out again.
    fn leave(&self, consumer: &BaseConsumer<Context>, going: &TopicPartitionList) {
        let mut places = self.uncommitted.lock().clone();
        places.retain(|partition, _| going.find_partition(&self.topic, *partition).is_some());
        if places.is_empty() {
            return;
        }
        let committed = self.offsets(&places).and_then(|offsets| consumer.commit(&offsets, CommitMode::Async));
        if let Err(error) = committed {
            consumer.context().link.commit_refused();
            tracing::warn!(%error, "places in partitions that go could not be committed");
        }
    }
}

impl Moved {
    /// What the list says of a partition.
    fn of(partition: &TopicPartitionListElem<'_>) -> Self {
        let place = match partition.offset() {
            Offset::Offset(next) => Some(next.max(0).unsigned_abs()),
            // The group has no place in it, or the partition goes.
            _ => None,
        };
        Self { partition: partition.partition(), place }
    }
}

/// These with the places of the group in them. Its coordinator answers, as it has just arranged the group; and nothing
/// can be handed out before it has told the client the same.
fn placed(consumer: &BaseConsumer<Context>, coming: &TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
    if coming.count() == 0 { Ok(coming.clone()) } else { consumer.committed_offsets(coming.clone(), ANSWER) }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == COMMIT_REFUSED {
            self.link.commit_refused();
            tracing::warn!(message, "places in partitions that go were not committed");
        }
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
        let moved = match rebalance {
            Rebalance::Assign(coming) => {
                tracing::info!(partitions = coming.count(), "partitions come");
                placed(consumer, coming).unwrap_or_else(|error| {
                    tracing::warn!(%error, "what retention took of partitions that come cannot be counted");
                    (*coming).clone()
                })
            }
            Rebalance::Revoke(going) => {
                tracing::info!(partitions = going.count(), "partitions go");
                self.shared.leave(consumer, going);
                (*going).clone()
            }
            Rebalance::Error(error) => {
                tracing::warn!(%error, "the group could not be arranged anew");
                return;
            }
        };
        self.shared.moved.lock().extend(moved.elements().iter().map(Moved::of));
    }
}
