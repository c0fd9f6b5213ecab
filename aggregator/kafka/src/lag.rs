//! How far a group is behind the topic, as the brokers know it: also while its readers, who could tell, take nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use galen_runtime::{Chain, Supervisor};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};

use crate::{
    Error, Link, Settings,
    topics::{ANSWER, Topics},
};

/// How often the brokers are asked.
const EVERY: Duration = Duration::from_secs(5);
/// How often it is looked whether it is over.
const POLL: Duration = Duration::from_millis(100);

/// Records of all partitions that are behind the group's places. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Lag(Arc<AtomicU64>);

impl Lag {
    /// Follows the group `<prefix>.<name>`, on a thread of its own.
    ///
    /// # Errors
    /// Settings that the client refuses.
    pub fn follow(settings: &Settings, link: &Link, name: &str, supervisor: &Supervisor) -> Result<Self, Error> {
        let (lag, topic) = (Self::default(), Topics::of(settings).events);
        let mut client = settings.client(&format!("{name}-lag"))?;
        // It does not join, so it is no member.
        client.set("group.id", format!("{}.{name}", settings.prefix)).set("enable.auto.commit", "false");
        let consumer: BaseConsumer<Link> = client.create_with_context(link.beside()).map_err(Error::Client)?;
        let (followed, shutdown) = (lag.clone(), supervisor.token());
        supervisor.thread("kafka-lag", move || {
            while !shutdown.is_cancelled() {
                match ask(&consumer, &topic) {
                    Ok(records) => followed.0.store(records, Ordering::Relaxed),
                    Err(source) => {
                        let error = Error::Read { topic: topic.clone(), source };
                        tracing::debug!(error = %Chain(&error), "how far the group is behind is not known");
                    }
                }
                let until = Instant::now() + EVERY;
                while Instant::now() < until && !shutdown.is_cancelled() {
                    // What the client has to tell in between.
                    let _ = consumer.poll(Duration::ZERO);
                    thread::sleep(POLL);
                }
            }
        });
        Ok(lag)
    }

    /// A moment ago.
    pub fn records(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn ask(consumer: &BaseConsumer<Link>, topic: &str) -> Result<u64, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
    let mut partitions = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        partitions.add_partition(topic, partition.id());
    }
    let mut behind = 0;
    for committed in consumer.committed_offsets(partitions, ANSWER)?.elements() {
        let (first, next) = consumer.fetch_watermarks(topic, committed.partition(), ANSWER)?;
        let place = match committed.offset() {
            Offset::Offset(place) => place.max(first),
            // Nothing was committed, so it begins with the oldest.
            _ => first,
        };
        behind += next.saturating_sub(place).max(0).unsigned_abs();
    }
    Ok(behind)
}
