//! The side that appends: what the aggregator's ingest makes durable becomes records in Kafka.
//!
//! A group is durable when every record of it is acknowledged by all replicas in sync. If one is refused, or patience
//! ends, the group counts as not durable, what is left of it is taken back from the client, and a new client is made by
//! [`Append::reopen`]. Some of the group may be in the topic nevertheless: its agents send it again, so that it may be
//! there twice, under one identity, and is never missing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use galen_log::{Append, Appended, Watermarks};
use galen_proto::v1::{LogRecord, Queue, QueueState};
use galen_runtime::Supervisor;

use crate::{
    Error, Link, Render, Settings, Standings,
    codec::Encoder,
    known::Known,
    producer::{Figures, Outgoing, Producer},
    topics::Topics,
};

/// Others are told of what was settled this often, or less often where that takes long.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Part of the time that telling others may take, as a divisor.
const TELL_SHARE: u32 = 20;
/// At the end, for what others are told.
const FAREWELL: Duration = Duration::from_secs(3);

/// Appends to Kafka.
pub struct Writer {
    settings: Settings,
    render: Render,
    topics: Topics,
    link: Link,
    known: Known,
    /// Reads what other replicas know, from the first time that there are brokers on.
    follower: Option<Supervisor>,
    figures: Arc<Figures>,
    counts: Arc<Counts>,
    /// `None` after an error, and before there were brokers.
    open: Option<Open>,
    next: u64,
    tell_at: Instant,
}

struct Open {
    producer: Producer,
    encoder: Encoder,
}

#[derive(Debug, Default)]
struct Counts {
    reopened: AtomicU64,
    dead_letters: AtomicU64,
    /// By kind of error, in the order of [`KINDS`].
    errors: [AtomicU64; KINDS.len()],
}

/// Kinds of errors that a group was given up for.
const KINDS: [&str; 6] = ["patience", "not_enough_replicas", "unknown_topic", "too_large", "fatal", "other"];

/// Shows how the writer is. Clones are the same.
#[derive(Debug, Clone)]
pub struct Gauge {
    link: Link,
    figures: Arc<Figures>,
    counts: Arc<Counts>,
}

/// Since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    pub records: u64,
    /// Of the records' values.
    pub bytes: u64,
    /// In the client's memory, a moment ago.
    pub waiting_records: u64,
    pub waiting_bytes: u64,
    pub reopened: u64,
    pub dead_letters: u64,
    /// Watermarks that did not reach the other replicas.
    pub untold: u64,
    /// Groups that were given up, by kind of error.
    pub errors: Vec<(&'static str, u64)>,
    /// Of connections, those of the readers too.
    pub client_errors: u64,
    /// Last commits of the readers in partitions that went, which were refused.
    pub refused_commits: u64,
}

/// The state that the log leads to, or why it is not open yet.
pub type Opened = Result<Watermarks, galen_log::Error>;

impl Writer {
    /// Connects, makes topics that are missing, and reads what other replicas know: the state that they lead to. Where
    /// that fails for what may pass, such as brokers that do not answer, [`Append::reopen`] does it later. Blocks.
    ///
    /// # Errors
    /// What does not pass: settings that the client or the brokers refuse, a topic that is missing and must not be made.
    pub fn open(settings: &Settings, supervisor: &Supervisor, render: Render) -> Result<(Self, Opened), Error> {
        let mut writer = Self {
            settings: settings.clone(),
            render,
            topics: Topics::of(settings),
            link: Link::default(),
            known: Known::default(),
            follower: Some(supervisor.clone()),
            figures: Arc::default(),
            counts: Arc::default(),
            open: None,
            next: 0,
            tell_at: Instant::now(),
        };
        let opened = match writer.connect() {
            Ok(()) => Ok(writer.known.watermarks()),
            Err(error) if error.passes() => Err(error.log("open Kafka")),
            Err(error) => return Err(error),
        };
        Ok((writer, opened))
    }

    pub fn gauge(&self) -> Gauge {
        Gauge { link: self.link.clone(), figures: Arc::clone(&self.figures), counts: Arc::clone(&self.counts) }
    }

    /// What nodes said of themselves, here by this name and at this interval, and on all other replicas.
    pub fn standings(&self, replica: String, heartbeat: Duration) -> Standings {
        Standings::new(self.known.clone(), replica, heartbeat)
    }

    fn connect(&mut self) -> Result<(), Error> {
        let largest = self.topics.ensure(&self.settings, &self.link)?;
        if let Some(supervisor) = &self.follower {
            self.known.follow(&self.settings, &self.topics.watermarks, &self.link, supervisor)?;
            self.follower = None;
        }
        let producer = Producer::new(&self.settings, largest, &self.link, &self.figures)?;
        let encoder = Encoder::new(self.topics.clone(), self.settings.payload, self.render, largest);
        self.open = Some(Open { producer, encoder });
        Ok(())
    }

    fn write(&mut self, group: &[LogRecord]) -> Result<(), Error> {
        let Some(Open { producer, encoder }) = &mut self.open else { return Ok(()) };
        let patience = self.settings.patience;
        let deadline = Instant::now() + patience;
        producer.begin();
        for record in group {
            encoder.encode(record, |outgoing| producer.send(outgoing, deadline))?;
        }
        producer.settle(deadline, patience)?;
        self.counts.dead_letters.fetch_add(encoder.dead_letters(), Ordering::Relaxed);
        Ok(())
    }

    /// Tells the other replicas.
    fn tell(&mut self) -> Result<(), Error> {
        let Some(Open { producer, .. }) = &self.open else { return Ok(()) };
        let began = Instant::now();
        let mut nodes = self.known.changed().into_iter();
        while let Some(node) = nodes.next() {
            let value = self.known.value(&node);
            let record =
                Outgoing { topic: &self.topics.watermarks, key: &node, payload: &value, headers: None, timestamp: 0 };
            match producer.send_aside(record, began + self.settings.patience) {
                Ok(()) => {}
                // It would be the next time, too. The others do without: an event may be in the topic twice.
                Err(error) if error.kind() == "too_large" => {
                    tracing::warn!(%node, bytes = value.len(), "what is known of a node is too much for a record");
                    self.figures.lost_aside.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    self.known.keep(nodes.chain([node]));
                    return Err(error);
                }
            }
        }
        self.tell_at = Instant::now() + TELL_EVERY.max(began.elapsed() * TELL_SHARE);
        Ok(())
    }

    fn give_up(&mut self, error: Error, action: &'static str) -> galen_log::Error {
        // What waits in the client is taken back with it.
        self.open = None;
        let place = KINDS.iter().position(|kind| *kind == error.kind()).unwrap_or(KINDS.len() - 1);
        self.counts.errors[place].fetch_add(1, Ordering::Relaxed);
        error.log(action)
    }
}

impl Append for Writer {
    fn append(&mut self, group: &[LogRecord]) -> Result<Appended, galen_log::Error> {
        if self.open.is_none() {
            return Err(galen_log::Error::Poisoned);
        }
        self.write(group).map_err(|error| self.give_up(error, "write to Kafka"))?;
        self.link.is_there();
        self.known.apply(group);
        let (first, bytes) =
            (self.next, group.iter().flat_map(|record| &record.events).map(|event| event.len() as u64));
        self.next += group.iter().map(|record| record.events.len() as u64).sum::<u64>();
        Ok(Appended { first, next: self.next, bytes: bytes.sum() })
    }

    fn checkpoint_due(&self) -> bool {
        self.open.is_some() && Instant::now() >= self.tell_at && self.known.is_changed()
    }

    /// Tells the other replicas. They hear of it a little later; nobody waits for that.
    fn checkpoint(&mut self, _watermarks: &Watermarks) -> Result<(), galen_log::Error> {
        self.tell().map_err(|error| self.give_up(error, "write watermarks to Kafka"))
    }

    fn known(&mut self, node: &str, queues: &[Queue], now_unix_nanos: i64) -> Option<Vec<QueueState>> {
        Some(self.known.believe(node, queues, now_unix_nanos))
    }

    fn reopen(&mut self) -> Result<Watermarks, galen_log::Error> {
        self.open = None;
        self.counts.reopened.fetch_add(1, Ordering::Relaxed);
        self.connect().map_err(|error| error.log("open Kafka"))?;
        Ok(self.known.watermarks())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(Open { producer, .. }) = &self.open {
            producer.flush(FAREWELL);
        }
    }
}

impl Gauge {
    /// Why no broker can be reached, if none can.
    pub fn away(&self) -> Option<String> {
        self.link.away()
    }

    /// For the clients that read beside it.
    pub fn link(&self) -> &Link {
        &self.link
    }

    pub fn stats(&self) -> Stats {
        let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let (figures, counts) = (&self.figures, &self.counts);
        Stats {
            records: get(&figures.records),
            bytes: get(&figures.bytes),
            waiting_records: get(&figures.waiting_records),
            waiting_bytes: get(&figures.waiting_bytes),
            reopened: get(&counts.reopened),
            dead_letters: get(&counts.dead_letters),
            untold: get(&figures.lost_aside),
            errors: KINDS.iter().zip(&counts.errors).map(|(kind, count)| (*kind, get(count))).collect(),
            client_errors: self.link.errors(),
            refused_commits: self.link.refused_commits(),
        }
    }
}
