//! Whether the brokers are there, as the clients see them, and what the clients say.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Statistics,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::KafkaError,
    message::{DeliveryResult, Message},
    producer::ProducerContext,
    types::RDKafkaErrorCode,
};

use crate::{Refusal, producer::Deliveries};

/// Of the clients that write, and of those beside them. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Link(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Why there are no brokers; `None` while there are.
    away: Mutex<Option<Refusal>>,
    /// What was said last of a connection that failed, or was refused.
    last: Mutex<Option<Refusal>>,
    counts: Arc<Counts>,
}

/// Over all clients of a process.
#[derive(Debug, Default)]
struct Counts {
    errors: AtomicU64,
    refused_commits: AtomicU64,
}

impl Link {
    /// For a client beside these: what goes wrong is counted together, but what it sees of the brokers is its own.
    pub(crate) fn beside(&self) -> Self {
        Self(Arc::new(State { counts: Arc::clone(&self.0.counts), ..State::default() }))
    }

    /// Why no broker can be reached, if none can.
    pub fn away(&self) -> Option<String> {
        self.0.away.lock().as_ref().map(ToString::to_string)
    }

    /// Why a connection failed last, since there were brokers.
    pub(crate) fn last(&self) -> Option<Refusal> {
        self.0.last.lock().clone()
    }

    /// A new try begins: what failed before says nothing of it.
    pub(crate) fn forget(&self) {
        self.0.last.lock().take();
    }

    /// Errors that clients reported, of connections most of all.
    pub fn errors(&self) -> u64 {
        self.0.counts.errors.load(Ordering::Relaxed)
    }

    /// Last commits of places in partitions that went, which the brokers refused.
    pub fn refused_commits(&self) -> u64 {
        self.0.counts.refused_commits.load(Ordering::Relaxed)
    }

    pub(crate) fn commit_refused(&self) {
        self.0.counts.refused_commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_there(&self) {
        self.forget();
        if self.0.away.lock().take().is_some() {
            tracing::info!("Kafka is there again");
        }
    }

    pub(crate) fn is_away(&self, why: Refusal) {
        let before = self.0.away.lock().replace(why.clone());
        if before.is_none() {
            tracing::error!(%why, "no broker of Kafka can be reached");
        }
    }
}

impl ConsumerContext for Link {}

impl ClientContext for Link {
    /// What matters comes as an error as well; this is for those who look for a cause.
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            self.is_there();
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let said = Refusal { code: error.rdkafka_error_code(), reason: reason.to_owned() };
        // Told by the same way, and nothing that went wrong.
        if said.code == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        self.0.counts.errors.fetch_add(1, Ordering::Relaxed);
        match said.code {
            // What the last connection failed for says more.
            Some(RDKafkaErrorCode::AllBrokersDown) => self.is_away(self.last().unwrap_or(said)),
            Some(RDKafkaErrorCode::Fatal) => tracing::error!(reason, "Kafka's client has failed for good"),
            _ => {
                tracing::debug!(%error, reason, "Kafka's client reports an error");
                let mut last = self.0.last.lock();
                // A broker that refuses hangs up, too, which says less.
                if said.is_refused() || !last.as_ref().is_some_and(Refusal::is_refused) {
                    *last = Some(said);
                }
            }
        }
    }
}

/// What the producer tells.
pub(crate) struct ProducerLink {
    pub(crate) link: Link,
    pub(crate) deliveries: Arc<Deliveries>,
}

impl ClientContext for ProducerLink {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.link.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.deliveries.waiting(statistics.msg_cnt, statistics.msg_size);
        self.link.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.link.error(error, reason);
    }
}

impl ProducerContext for ProducerLink {
    /// What the record is, see [`Deliveries`].
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, what: usize) {
        match result {
            Ok(message) => self.deliveries.acknowledged(what, message.payload_len()),
            Err((error, message)) => {
                tracing::debug!(%error, topic = message.topic(), partition = message.partition(), "not delivered");
                self.deliveries.failed(what, error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_partition_is_no_error() {
        let link = Link::default();
        for (code, errors) in [(RDKafkaErrorCode::PartitionEOF, 0), (RDKafkaErrorCode::BrokerTransportFailure, 1)] {
            link.error(KafkaError::Global(code), "told");
            assert_eq!((link.errors(), link.last().is_some()), (errors, errors > 0));
        }
    }
}
