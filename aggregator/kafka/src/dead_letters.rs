//! The events that were put aside: what they are and why, and writing them again.
//!
//! They are written again as they would be now, by a version that can read them or with settings that let them through.
//! Each keeps its identity, so that whoever has it already passes over it: doing so twice changes nothing. What still
//! cannot be written stays where it is.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use galen_proto::v1::{EventId, LogRecord};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, Headers, Message},
};

use crate::{
    Error, Link, Render, Settings,
    codec::{Encoder, ID, PART, REASON},
    producer::Producer,
    topics::{ANSWER, Topics, refusal},
};

const POLL: Duration = Duration::from_millis(200);

/// An event that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// `node/epoch/seq`.
    pub id: String,
    pub reason: String,
    /// When it was received: milliseconds since 1970-01-01 UTC.
    pub received_unix_millis: i64,
    /// As it came.
    pub event: Bytes,
}

/// What became of the dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    pub written: u64,
    /// Those that still cannot be read or sent.
    pub left: u64,
}

impl DeadLetter {
    /// Hands every dead letter that is there now to `tell`, in the order of their partitions. Blocks.
    ///
    /// # Errors
    /// Kafka cannot be read.
    pub fn each(settings: &Settings, mut tell: impl FnMut(Self) -> Result<(), Error>) -> Result<(), Error> {
        let topic = Topics::of(settings).dead_letters;
        let failed = |source| Error::Read { topic: topic.clone(), source };
        let mut client = settings.client("dead-letters")?;
        client
            .set("group.id", format!("{}.replica", settings.prefix))
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer<Link> = client.create_with_context(Link::default()).map_err(Error::Client)?;
        let metadata = consumer
            .fetch_metadata(Some(&topic), ANSWER)
            .map_err(|error| Error::unanswered(settings, refusal(&consumer, error)))?;
        let (mut assignment, mut ends) = (TopicPartitionList::new(), HashSet::new());
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            assignment.add_partition_offset(&topic, partition.id(), Offset::Beginning).map_err(failed)?;
            ends.insert(partition.id());
        }
        if ends.is_empty() {
            return Err(Error::MissingTopic { topic });
        }
        consumer.assign(&assignment).map_err(failed)?;
        let (mut last, mut pieces) = (Instant::now(), HashMap::new());
        while !ends.is_empty() {
            match consumer.poll(POLL) {
                Some(Ok(message)) => {
                    last = Instant::now();
                    if let Some(letter) = Self::whole(&message, &mut pieces) {
                        tell(letter)?;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ends.remove(&partition);
                }
                Some(Err(error)) => tracing::debug!(%error, topic, "reading the dead letters"),
                None => {}
            }
            if last.elapsed() > settings.patience {
                return Err(Error::Slow { topic, patience: settings.patience });
            }
        }
        Ok(())
    }

    /// Writes every dead letter that can be written now among the events. Blocks.
    ///
    /// # Errors
    /// Kafka cannot be read or written; what was written stays.
    pub fn replay(settings: &Settings, render: Render) -> Result<Replayed, Error> {
        let (link, topics) = (Link::default(), Topics::of(settings));
        let largest = topics.ensure(settings, &link)?;
        let mut producer = Producer::new(settings, largest, &link, &Arc::default())?;
        let mut encoder = Encoder::new(topics.clone(), settings.payload, render, largest);
        let mut replayed = Replayed::default();
        Self::each(settings, |letter| {
            let Some(record) = letter.record().filter(|record| encoder.takes(record)) else {
                replayed.left += 1;
                return Ok(());
            };
            let deadline = Instant::now() + settings.patience;
            producer.begin();
            encoder.encode(&record, |outgoing| producer.send(outgoing, deadline))?;
            producer.settle(deadline, settings.patience)?;
            replayed.written += 1;
            Ok(())
        })?;
        Ok(replayed)
    }

    /// With the pieces of it that came before, once it is whole.
    fn whole(message: &BorrowedMessage<'_>, pieces: &mut HashMap<String, Vec<u8>>) -> Option<Self> {
        let (letter, part) = Self::of(message);
        let Some((number, of)) = part.as_deref().and_then(|part| part.split_once('/')) else { return Some(letter) };
        let whole = pieces.entry(letter.id.clone()).or_default();
        if number == "1" {
            whole.clear();
        }
        whole.extend_from_slice(&letter.event);
        if number != of {
            return None;
        }
        let event = pieces.remove(&letter.id)?.into();
        Some(Self { event, ..letter })
    }

    /// A record, and which piece it is.
    fn of(message: &BorrowedMessage<'_>) -> (Self, Option<String>) {
        let header = |key| {
            let headers = message.headers()?;
            let value = (0..headers.count()).map(|place| headers.get(place)).find(|header| header.key == key)?.value?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let letter = Self {
            id: header(ID).unwrap_or_default(),
            reason: header(REASON).unwrap_or_default(),
            received_unix_millis: message.timestamp().to_millis().unwrap_or_default(),
            event: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        };
        (letter, header(PART))
    }

    /// As it came to the log.
    fn record(&self) -> Option<LogRecord> {
        let EventId { node, epoch, seq } = self.id.parse().ok()?;
        Some(LogRecord {
            node,
            epoch,
            first_seq: seq,
            events: vec![self.event.clone()],
            received_unix_nanos: self.received_unix_millis.saturating_mul(1_000_000),
            ..LogRecord::default()
        })
    }
}
