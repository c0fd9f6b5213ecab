//! Copies Kafka's events into the log on this machine's disk, each once, in the order of their partitions.
//!
//! Every replica has a whole copy, so it reads all partitions by itself and belongs to no group. Where it is in each
//! partition is stored with the records (`LogRecord.position`), hence durable together with them and with the state
//! that tells what is new: after any end it goes on where its disk is. The disk refuses: it begins anew behind what is
//! durable, after a while. Kafka is away, or the topic is not there yet: it waits. A partition ends before the place that
//! the disk has, because its topic was made anew or its brokers lost records: the client begins it anew, which is counted,
//! and the place on disk follows; what is known already is passed over as everywhere.
//!
//! It asks now and then where the partitions end, and tells when it has come there ([`Mirror::whole`]): what was in Kafka
//! by then and is not in the copy never will be, because Kafka's retention took it before.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use galen_log::{Append, Watermarks};
use galen_proto::v1::LogRecord;
use galen_runtime::{Backoff, Chain, Supervisor};
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    message::Message,
};

use crate::{
    Error, JoinStats, Link, Settings,
    codec::Joiner,
    ends::Ends,
    topics::{ANSWER, Topics},
};

/// Wait for a record.
const POLL: Duration = Duration::from_millis(100);
/// A group is closed with this many events, or at this size.
const GROUP_EVENTS: usize = 16_384;
const GROUP_BYTES: usize = 16 << 20;
/// How often new partitions are looked for, and how often the first ones are.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const LOOK_FIRST_EVERY: Duration = Duration::from_secs(1);
/// The same after a look that failed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// First and longest wait before the disk is tried again.
const REOPEN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Why Kafka cannot be read is said no more often than this.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// Told of each group that became durable, with the state that includes it.
pub type Copied = Box<dyn FnMut(&[LogRecord], &Watermarks) + Send>;

/// Shows how the mirror is. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Mirror(Arc<State>);

#[derive(Debug, Default)]
struct State {
    copied: AtomicU64,
    duplicates: AtomicU64,
    missed: AtomicU64,
    lost_places: AtomicU64,
    lag: AtomicU64,
    joined: Mutex<JoinStats>,
    disk_error: Mutex<Option<String>>,
    whole: Mutex<Option<Instant>>,
}

/// Since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MirrorStats {
    pub copied: u64,
    /// Events that were in the log already: twice in the topic, or read again.
    pub duplicates: u64,
    /// Records that were gone from Kafka before they were read.
    pub missed: u64,
    /// Places in partitions that ended before them.
    pub lost_places: u64,
    /// Records in Kafka that were not read yet, a moment ago.
    pub lag: u64,
    pub joined: JoinStats,
}

/// What the consumer tells.
struct Context {
    link: Link,
    mirror: Mirror,
}

struct Copier {
    settings: Settings,
    topic: String,
    consumer: BaseConsumer<Context>,
    /// The offset behind what was read, of each partition that is read; `None` is wherever it begins.
    assigned: HashMap<i32, Option<u64>>,
    /// Where it has to come to be whole.
    ends: Option<Ends>,
    joiner: Joiner,
    log: Box<dyn Append>,
    watermarks: Watermarks,
    copied: Copied,
    mirror: Mirror,
    say_at: Instant,
}

impl Mirror {
    /// Begins to copy into `log`, whose state `watermarks` is, on a thread of its own.
    ///
    /// # Errors
    /// Settings that the client refuses.
    pub fn start(
        settings: &Settings,
        link: &Link,
        log: Box<dyn Append>,
        watermarks: Watermarks,
        supervisor: &Supervisor,
        copied: Copied,
    ) -> Result<Self, Error> {
        let mirror = Self::default();
        let mut client = settings.client("mirror")?;
        client
            // It is no member: a client that reads must have a name of a group.
            .set("group.id", format!("{}.replica", settings.prefix))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest");
        let context = Context { link: link.beside(), mirror: mirror.clone() };
        let consumer = client.create_with_context(context).map_err(Error::Client)?;
        let copier = Copier {
            settings: settings.clone(),
            topic: Topics::of(settings).events,
            consumer,
            assigned: HashMap::new(),
            ends: None,
            joiner: Joiner::default(),
            log,
            watermarks,
            copied,
            mirror: mirror.clone(),
            say_at: Instant::now(),
        };
        let shutdown = supervisor.token();
        supervisor.thread("kafka-mirror", move || copier.run(&|| shutdown.is_cancelled()));
        Ok(mirror)
    }

    /// Why nothing is copied, if nothing is.
    pub fn disk_error(&self) -> Option<String> {
        self.0.disk_error.lock().clone()
    }

    /// All that was in Kafka at this moment, and still is, is in the log here. The latest of which that is known.
    pub fn whole(&self) -> Option<Instant> {
        *self.0.whole.lock()
    }

    pub fn stats(&self) -> MirrorStats {
        let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let state = &self.0;
        MirrorStats {
            copied: get(&state.copied),
            duplicates: get(&state.duplicates),
            missed: get(&state.missed),
            lost_places: get(&state.lost_places),
            lag: get(&state.lag),
            joined: *state.joined.lock(),
        }
    }

    /// A partition was read up to `next`, and goes on at `offset`.
    fn goes_on(&self, partition: i32, next: u64, offset: u64) {
        if offset > next {
            self.0.missed.fetch_add(offset - next, Ordering::Relaxed);
            tracing::error!(
                partition,
                first = next,
                next = offset,
                "records were gone from Kafka before they were copied"
            );
        } else if offset < next {
            self.0.lost_places.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                partition,
                copied = next,
                next = offset,
                "a partition of Kafka ended before its copy: its topic was made anew, or its brokers lost records"
            );
        }
    }
}

impl Copier {
    fn run(mut self, is_over: &dyn Fn() -> bool) {
        let mut look_at = Instant::now();
        while !is_over() {
            let now = Instant::now();
            if now >= look_at {
                let looked = self.assign().and_then(|()| self.find_ends(now));
                look_at = Instant::now()
                    + match &looked {
                        Ok(()) => LOOK_EVERY,
                        Err(_) if self.assigned.is_empty() => LOOK_FIRST_EVERY,
                        Err(_) => LOOK_AGAIN,
                    };
                if let Err(error) = looked {
                    say(&mut self.say_at, &error);
                }
            }
            self.gather(is_over);
            match self.commit() {
                Ok(()) => self.arrive(),
                Err(error) => self.reopen(&error, is_over),
            }
        }
        if let Err(error) = self.log.checkpoint(&self.watermarks) {
            tracing::warn!(%error, "no snapshot of the mirror at the end: the next start replays");
        }
    }

    /// Takes what is there, up to the size of a group; waits for something.
    fn gather(&mut self, is_over: &dyn Fn() -> bool) {
        let mut wait = POLL;
        while self.joiner.events() < GROUP_EVENTS && self.joiner.bytes() < GROUP_BYTES && !is_over() {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset().max(0).unsigned_abs());
                    if let Some(next) = self.assigned.insert(partition, Some(offset + 1)).flatten() {
                        self.mirror.goes_on(partition, next, offset);
                    }
                    self.joiner.add(&message);
                    wait = Duration::ZERO;
                }
                None if self.joiner.is_empty() => return,
                None => break,
                Some(Err(source)) => {
                    say(&mut self.say_at, &Error::Read { topic: self.topic.clone(), source });
                    break;
                }
            }
        }
        *self.mirror.0.joined.lock() = self.joiner.stats();
    }

    fn commit(&mut self) -> Result<(), galen_log::Error> {
        let events = self.joiner.events() as u64;
        let (records, _) = self.joiner.take();
        let fresh: Vec<LogRecord> = records.into_iter().flat_map(|record| self.watermarks.fresh(record)).collect();
        if fresh.is_empty() {
            self.mirror.0.duplicates.fetch_add(events, Ordering::Relaxed);
        } else {
            self.log.append(&fresh)?;
            let copied = fresh.iter().map(|record| record.events.len() as u64).sum();
            self.mirror.0.copied.fetch_add(copied, Ordering::Relaxed);
            self.mirror.0.duplicates.fetch_add(events.saturating_sub(copied), Ordering::Relaxed);
            (self.copied)(&fresh, &self.watermarks);
        }
        if self.log.checkpoint_due() { self.log.checkpoint(&self.watermarks) } else { Ok(()) }
    }

    fn reopen(&mut self, error: &galen_log::Error, is_over: &dyn Fn() -> bool) {
        tracing::error!(%error, "the mirror cannot be written: this replica shows nothing new until it can");
        *self.mirror.0.disk_error.lock() = Some(error.to_string());
        let mut backoff = Backoff::new(REOPEN.0, REOPEN.1);
        while !is_over() {
            let until = Instant::now() + backoff.next();
            while Instant::now() < until && !is_over() {
                thread::sleep(POLL);
            }
            match self.log.reopen() {
                Ok(watermarks) => {
                    self.watermarks = watermarks;
                    self.joiner = Joiner::default();
                    self.assigned.clear();
                    match self.consumer.unassign().map_err(|source| self.failed(source)).and_then(|()| self.assign()) {
                        Ok(()) => {
                            *self.mirror.0.disk_error.lock() = None;
                            tracing::info!("the mirror is written again");
                            return;
                        }
                        Err(error) => tracing::warn!(%error, "the mirror cannot read Kafka"),
                    }
                }
                Err(error) => tracing::warn!(%error, "the mirror still cannot be written"),
            }
        }
    }

    /// Reads the partitions that are not read yet, from where the log is.
    fn assign(&mut self) -> Result<(), Error> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(&self.topic), ANSWER)
            .map_err(|error| Error::unanswered(&self.settings, error.into()))?;
        let positions: &BTreeMap<i32, u64> = self.watermarks.positions();
        let mut new = TopicPartitionList::new();
        let mut partitions = Vec::new();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            if self.assigned.contains_key(&partition.id()) {
                continue;
            }
            let next = positions.get(&partition.id()).and_then(|next| i64::try_from(*next).ok());
            let from = next.map_or(Offset::Beginning, Offset::Offset);
            new.add_partition_offset(&self.topic, partition.id(), from).map_err(|source| self.failed(source))?;
            partitions.push((partition.id(), positions.get(&partition.id()).copied()));
        }
        if partitions.is_empty() {
            return if self.assigned.is_empty() {
                Err(Error::MissingTopic { topic: self.topic.clone() })
            } else {
                Ok(())
            };
        }
        if self.assigned.is_empty() {
            self.consumer.assign(&new).map_err(|source| self.failed(source))?;
        } else {
            self.consumer.incremental_assign(&new).map_err(|source| self.failed(source))?;
        }
        tracing::info!(partitions = partitions.len(), topic = self.topic, "mirrors partitions");
        self.assigned.extend(partitions);
        Ok(())
    }

    /// Takes note of where the partitions end, `now` or later. An earlier note may not be reached any more, because
    /// retention took what was before it.
    fn find_ends(&mut self, now: Instant) -> Result<(), Error> {
        let ends = Ends::find(&self.consumer, &self.topic, &self.assigned, now);
        self.ends = ends.map_err(|source| self.failed(source))?;
        Ok(())
    }

    /// What was read is in the log.
    fn arrive(&mut self) {
        if let Some(ends) = self.ends.take_if(|ends| ends.are_reached(&self.assigned)) {
            *self.mirror.0.whole.lock() = Some(ends.at);
        }
    }

    fn failed(&self, source: KafkaError) -> Error {
        Error::Read { topic: self.topic.clone(), source }
    }
}

/// Says why nothing is read, unless that was said a moment ago.
fn say(at: &mut Instant, error: &Error) {
    if Instant::now() >= *at {
        *at = Instant::now() + SAY_EVERY;
        tracing::warn!(error = %Chain(error), "the mirror cannot read Kafka");
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.link.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        // Less than zero stands for an offset that is not known yet; nothing is read below the lowest that there is.
        let lag: i64 = partitions
            .filter(|one| one.partition >= 0)
            .map(|one| (one.hi_offset - one.app_offset.max(one.lo_offset).max(0)).max(0))
            .sum();
        self.mirror.0.lag.store(lag.unsigned_abs(), Ordering::Relaxed);
        self.link.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.link.error(error, reason);
    }
}

impl ConsumerContext for Context {}
