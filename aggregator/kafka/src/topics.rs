//! The topics: their names, that they are there, and how large their records may be.

use std::{
    thread,
    time::{Duration, Instant},
};

use futures_executor::block_on;
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use crate::{Error, Link, Refusal, Settings};

/// Longest wait for an answer about topics.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);
/// Between two looks whether a new topic has leaders.
const LOOK: Duration = Duration::from_millis(100);
/// What a request holds beside its records, at most.
pub(crate) const ENVELOPE: usize = 4 << 10;

/// Names of the topics.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    pub(crate) events: String,
    pub(crate) watermarks: String,
    pub(crate) dead_letters: String,
}

impl Topics {
    pub(crate) fn of(settings: &Settings) -> Self {
        let named = |what| format!("{}.{what}", settings.prefix);
        Self { events: named("events"), watermarks: named("watermarks"), dead_letters: named("dead-letters") }
    }

    /// Makes what is missing, if that is wanted, and returns the size of the largest record that can be written.
    pub(crate) fn ensure(&self, settings: &Settings, link: &Link) -> Result<usize, Error> {
        let config = settings.client("admin")?;
        link.forget();
        let brokers = Brokers { client: config.create_with_context(link.clone()).map_err(Error::Client)?, settings };
        let admin = AdminClient::from_config_and_context(&config, link.clone()).map_err(Error::Client)?;
        for topic in [&self.events, &self.watermarks, &self.dead_letters] {
            if brokers.led(topic)?.is_none() {
                if !settings.create_topics {
                    return Err(Error::MissingTopic { topic: topic.clone() });
                }
                self.create(&admin, settings, topic)?;
            }
            brokers.await_leaders(topic)?;
        }
        link.is_there();
        Ok(self.largest_record(&admin, settings))
    }

    fn create(&self, admin: &AdminClient<Link>, settings: &Settings, topic: &str) -> Result<(), Error> {
        // -1: as the brokers have it.
        let copies = if settings.replication == 0 { -1 } else { i32::from(settings.replication) };
        let mut new = NewTopic::new(topic, settings.partitions, TopicReplication::Fixed(copies));
        if topic == self.watermarks {
            new = new.set("cleanup.policy", "compact").set("segment.ms", "3600000");
        }
        if settings.replication >= 3 {
            new = new.set("min.insync.replicas", "2");
        }
        let failed = |source| Error::CreateTopic { topic: topic.to_owned(), source };
        let options = AdminOptions::new().operation_timeout(Some(ANSWER)).request_timeout(Some(2 * ANSWER));
        for result in block_on(admin.create_topics([&new], &options)).map_err(failed)? {
            match result {
                // Another replica was faster.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(failed(KafkaError::AdminOp(code))),
            }
        }
        tracing::info!(topic, partitions = settings.partitions, "made a topic");
        Ok(())
    }

    /// The settings' limit, or the topic's where that is lower: a record over it would be refused for ever.
    fn largest_record(&self, admin: &AdminClient<Link>, settings: &Settings) -> usize {
        let options = AdminOptions::new().request_timeout(Some(ANSWER));
        let of_topic = [&self.events, &self.dead_letters].map(|topic| {
            let described = block_on(admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options));
            let described = described.ok()?.pop()?.ok()?;
            let limit: usize = described.get("max.message.bytes")?.value.as_ref()?.parse().ok()?;
            Some(limit.saturating_sub(ENVELOPE).max(1 << 10))
        });
        if of_topic.contains(&None) {
            tracing::warn!("the topics' largest record could not be asked for: `kafka.max_record_bytes` is taken");
        }
        of_topic.into_iter().flatten().fold(settings.max_record_bytes, usize::min)
    }
}

/// Asks about topics. Unlike the administrator's client, this one tells why it gets no answer.
struct Brokers<'a> {
    client: BaseConsumer<Link>,
    settings: &'a Settings,
}

impl Brokers<'_> {
    /// Whether all partitions of a topic have leaders, if it is there.
    fn led(&self, topic: &str) -> Result<Option<bool>, Error> {
        let metadata = self.client.fetch_metadata(Some(topic), ANSWER);
        let metadata = metadata.map_err(|error| {
            let why = refusal(&self.client, error);
            self.client.context().is_away(why.clone());
            Error::unanswered(self.settings, why)
        })?;
        let found = metadata.topics().iter().find(|found| found.name() == topic && !found.partitions().is_empty());
        Ok(found.map(|found| found.partitions().iter().all(|partition| partition.leader() >= 0)))
    }

    /// A topic that was just made has no leaders for a moment.
    fn await_leaders(&self, topic: &str) -> Result<(), Error> {
        let deadline = Instant::now() + ANSWER;
        while self.led(topic)? != Some(true) {
            if Instant::now() > deadline {
                return Err(Error::NoLeader { topic: topic.to_owned() });
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// Why no broker answered: what the client has to say, which it must be asked for, or else its error.
pub(crate) fn refusal(client: &BaseConsumer<Link>, error: KafkaError) -> Refusal {
    let until = Instant::now() + ANSWER;
    while client.poll(LOOK).is_some() && Instant::now() < until {}
    client.context().last().unwrap_or_else(|| error.into())
}
