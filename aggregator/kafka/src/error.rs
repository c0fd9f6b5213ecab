//! What can go wrong with Kafka.

use std::{io, path::PathBuf, time::Duration};

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{key}` must {must}")]
    Setting { key: &'static str, must: &'static str },
    #[error("failed to read `{}`, named by `{key}`", path.display())]
    Secret {
        key: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Kafka's client does not take the settings of `kafka`")]
    Client(#[source] KafkaError),
    #[error("no broker of `{brokers}` answers")]
    Unreachable {
        brokers: String,
        #[source]
        source: KafkaError,
    },
    #[error("topic `{topic}` is missing: make it, or set `kafka.create_topics`")]
    MissingTopic { topic: String },
    #[error("failed to make topic `{topic}`")]
    CreateTopic {
        topic: String,
        #[source]
        source: KafkaError,
    },
    #[error("topic `{topic}` has a partition without a leader")]
    NoLeader { topic: String },
    #[error("failed to read topic `{topic}`")]
    Read {
        topic: String,
        #[source]
        source: KafkaError,
    },
    #[error("topic `{topic}` could not be read to its end in {patience:?}")]
    Slow { topic: String, patience: Duration },
    #[error("failed to hand records to Kafka's client")]
    Produce(#[source] KafkaError),
    #[error("Kafka refused {failed} of {records} records")]
    Refused {
        failed: u64,
        records: u64,
        /// Of the first.
        #[source]
        source: KafkaError,
    },
    #[error("Kafka acknowledged {acknowledged} of {records} records in {patience:?}")]
    Patience { acknowledged: u64, records: u64, patience: Duration },
    #[error("failed to commit the place of group `{group}`")]
    Commit {
        group: String,
        #[source]
        source: KafkaError,
    },
}

impl Error {
    /// As the log's error: what was tried, and this behind it.
    pub(crate) fn log(self, action: &'static str) -> galen_log::Error {
        galen_log::Error::Remote { action, source: self.into() }
    }

    /// The kind of a delivery error, for a counter.
    pub(crate) fn kind(&self) -> &'static str {
        let code = match self {
            Self::Patience { .. } => return "patience",
            Self::Produce(source) | Self::Refused { source, .. } => source.rdkafka_error_code(),
            _ => None,
        };
        match code {
            Some(RDKafkaErrorCode::NotEnoughReplicas | RDKafkaErrorCode::NotEnoughReplicasAfterAppend) => {
                "not_enough_replicas"
            }
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => "unknown_topic",
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => "too_large",
            Some(RDKafkaErrorCode::Fatal) => "fatal",
            _ => "other",
        }
    }
}
