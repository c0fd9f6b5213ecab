//! What can go wrong with Kafka.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

use crate::{Sasl, Settings};

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
        source: Refusal,
    },
    #[error("`{brokers}` refuse user `{user}` with the password in `{}`, named by `kafka.sasl.password_file`", password_file.display())]
    Credentials {
        brokers: String,
        user: String,
        password_file: PathBuf,
        #[source]
        source: Refusal,
    },
    #[error("the certificates of `{brokers}` cannot be verified with {}", authority(ca_file))]
    Certificate {
        brokers: String,
        /// Empty: those of the system.
        ca_file: PathBuf,
        #[source]
        source: Refusal,
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
    #[error("Kafka's client can write no more, and must be made anew")]
    Fatal(#[source] Refusal),
    #[error("failed to commit the place of group `{group}`")]
    Commit {
        group: String,
        #[source]
        source: KafkaError,
    },
}

/// Why a client cannot go on, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    pub(crate) code: Option<RDKafkaErrorCode>,
    pub(crate) reason: String,
}

impl Error {
    /// Why no broker answers, as the client says it.
    pub(crate) fn unanswered(settings: &Settings, source: Refusal) -> Self {
        let brokers = settings.brokers.clone();
        match source.code {
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
                let Sasl { user, password_file, .. } = settings.sasl.clone();
                Self::Credentials { brokers, user, password_file, source }
            }
            // Other errors of TLS may be those of a connection that broke.
            Some(RDKafkaErrorCode::SSL) if source.reason.contains("certificate verify failed") => {
                Self::Certificate { brokers, ca_file: settings.tls.ca_file.clone(), source }
            }
            _ => Self::Unreachable { brokers, source },
        }
    }

    /// Whether it may pass while the settings stay as they are.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Setting { .. }
            | Self::Secret { .. }
            | Self::Client(_)
            | Self::Credentials { .. }
            | Self::Certificate { .. }
            | Self::MissingTopic { .. } => false,
            Self::CreateTopic { source, .. } => !matches!(
                source.rdkafka_error_code(),
                Some(
                    RDKafkaErrorCode::InvalidPartitions
                        | RDKafkaErrorCode::InvalidConfig
                        | RDKafkaErrorCode::InvalidTopic
                        | RDKafkaErrorCode::PolicyViolation
                        | RDKafkaErrorCode::TopicAuthorizationFailed
                        | RDKafkaErrorCode::ClusterAuthorizationFailed
                )
            ),
            _ => true,
        }
    }

    /// As the log's error: what was tried, and this behind it.
    pub(crate) fn log(self, action: &'static str) -> galen_log::Error {
        galen_log::Error::Remote { action, source: self.into() }
    }

    /// The kind of a delivery error, for a counter.
    pub(crate) fn kind(&self) -> &'static str {
        let code = match self {
            Self::Patience { .. } => return "patience",
            Self::Fatal(_) => return "fatal",
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

impl Refusal {
    /// Whether somebody was there, and one of both would not have the other.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(
            self.code,
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed | RDKafkaErrorCode::SSL)
        )
    }
}

impl From<KafkaError> for Refusal {
    fn from(error: KafkaError) -> Self {
        Self { code: error.rdkafka_error_code(), reason: error.to_string() }
    }
}

fn authority(ca_file: &Path) -> String {
    if ca_file.as_os_str().is_empty() {
        "those of the system: `kafka.tls.ca_file` is not set".to_owned()
    } else {
        format!("`{}`, named by `kafka.tls.ca_file`", ca_file.display())
    }
}
