//! What all replicas know of the nodes' queues: the compacted topic `<prefix>.watermarks`.
//!
//! A record for each node, its key the node, its value a `galen.v1.Watermarks` with the node's queues. Every replica
//! writes what it settled, soon after it did, and reads what the others write, so that a node that moves is known where
//! it comes. It may be a little late: then events that are in the log already are written to it again, under the same
//! identity, and whoever reads the log passes over them. With it comes what nodes said of themselves
//! ([`crate::Standings`]).

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use galen_log::Watermarks;
use galen_proto::v1::{LogRecord, Queue, QueueState, Watermarks as Stored};
use galen_runtime::Supervisor;
use parking_lot::Mutex;
use prost::Message as _;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::Message,
};

use crate::{Error, Link, Settings, standings::Table, topics::ANSWER};

/// Wait for a record.
const POLL: Duration = Duration::from_millis(200);
/// After an error.
const PAUSE: Duration = Duration::from_secs(1);

/// Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    watermarks: Watermarks,
    standings: Table,
    /// Nodes of which others have not been told the newest.
    changed: HashSet<Box<str>>,
}

impl Known {
    /// Reads what there is, then goes on reading on a thread of its own.
    pub(crate) fn follow(
        &self,
        settings: &Settings,
        topic: &str,
        link: &Link,
        supervisor: &Supervisor,
    ) -> Result<(), Error> {
        let (followed, shutdown) = (self.clone(), supervisor.token());
        let failed = |source| Error::Read { topic: topic.to_owned(), source };
        let mut client = settings.client("watermarks")?;
        client
            // It is no member: a client that reads must have a name of a group.
            .set("group.id", format!("{}.replica", settings.prefix))
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer<Link> = client.create_with_context(link.clone()).map_err(Error::Client)?;
        let mut assignment = TopicPartitionList::new();
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER).map_err(failed)?;
        let mut ends = HashSet::new();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            assignment.add_partition_offset(topic, partition.id(), Offset::Beginning).map_err(failed)?;
            ends.insert(partition.id());
        }
        consumer.assign(&assignment).map_err(failed)?;
        let mut last = Instant::now();
        while !ends.is_empty() {
            match consumer.poll(POLL) {
                Some(Ok(message)) => {
                    last = Instant::now();
                    self.take(&message);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ends.remove(&partition);
                }
                Some(Err(error)) => tracing::debug!(%error, topic, "reading the watermarks"),
                None => {}
            }
            if last.elapsed() > settings.patience || shutdown.is_cancelled() {
                return Err(Error::Slow { topic: topic.to_owned(), patience: settings.patience });
            }
        }
        supervisor.thread("kafka-watermarks", move || {
            while !shutdown.is_cancelled() {
                match consumer.poll(POLL) {
                    Some(Ok(message)) => followed.take(&message),
                    None | Some(Err(KafkaError::PartitionEOF(_))) => {}
                    Some(Err(error)) => {
                        tracing::warn!(%error, "the watermarks of other replicas cannot be read");
                        std::thread::sleep(PAUSE);
                    }
                }
            }
        });
        Ok(())
    }

    fn take(&self, message: &impl Message) {
        let Some(value) = message.payload() else { return };
        match Stored::decode(value) {
            Ok(stored) => {
                let state = &mut *self.0.lock();
                state.watermarks.merge(stored.queues);
                let node = message.key().and_then(|key| str::from_utf8(key).ok());
                if let (Some(node), Some(standing)) = (node, stored.standing) {
                    state.standings.hear(node, standing);
                    state.standings.make_room(&state.watermarks);
                }
            }
            Err(error) => tracing::warn!(%error, "a record of watermarks cannot be read: passed over"),
        }
    }

    /// These records are in the log.
    pub(crate) fn apply(&self, records: &[LogRecord]) {
        let mut state = self.0.lock();
        for record in records {
            state.watermarks.apply(record);
            if !state.changed.contains(&*record.node) {
                state.changed.insert(record.node.as_str().into());
            }
        }
    }

    pub(crate) fn believe(&self, node: &str, queues: &[Queue], now_unix_nanos: i64) -> Vec<QueueState> {
        let mut state = self.0.lock();
        state.watermarks.believe(node, queues, now_unix_nanos);
        state.watermarks.queues_of(node)
    }

    /// All of it.
    pub(crate) fn watermarks(&self) -> Watermarks {
        self.0.lock().watermarks.clone()
    }

    pub(crate) fn is_changed(&self) -> bool {
        !self.0.lock().changed.is_empty()
    }

    /// Takes the nodes of which others are to be told.
    pub(crate) fn changed(&self) -> Vec<Box<str>> {
        self.0.lock().changed.drain().collect()
    }

    /// Changes what is known of what a node said; others are told if `change` says so.
    pub(crate) fn change(&self, node: &str, change: impl FnOnce(&mut Table) -> bool) {
        let state = &mut *self.0.lock();
        if change(&mut state.standings) {
            state.changed.insert(node.into());
        }
        state.standings.make_room(&state.watermarks);
    }

    /// Short: whoever appends waits for it.
    pub(crate) fn standings<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.0.lock().standings)
    }

    /// The value of a node's record.
    pub(crate) fn value(&self, node: &str) -> Vec<u8> {
        let state = &mut *self.0.lock();
        let (queues, standing) = (state.watermarks.queues_of(node), state.standings.share(node));
        Stored { queues, positions: Vec::new(), standing }.encode_to_vec()
    }

    /// They could not be told.
    pub(crate) fn keep(&self, nodes: impl IntoIterator<Item = Box<str>>) {
        self.0.lock().changed.extend(nodes);
    }
}
