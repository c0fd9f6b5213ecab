//! What the log knows of every queue: the exact deduplication state.
//!
//! [`Watermarks::admit`] turns a batch into the records that are new. The same [`Watermarks::apply`] that advances the
//! state for them rebuilds it from the log, so the state is a function of the records and a crash between a write and
//! an acknowledgement cannot make the two differ.
//!
//! Bounded: queues of a node that its agent no longer has are dropped but for the newest few, their totals kept under
//! epoch zero, which no queue has; beyond [`Limits::nodes`] the nodes that were silent longest are forgotten, counted.
//! An agent whose state was forgotten is told that what it had been acknowledged is lost: never twice, rather declared.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use galen_proto::v1::{Batch, LogRecord, Loss, LossCounter, LossReason, Position, Progress, Queue, Range};

use crate::{
    left_out::leave_out,
    queue::{QueueState, RETIRED, Tally, add},
    settled::{numbers, split},
};

/// Ranges above the watermark of a queue, at most.
pub const MAX_GAPS: usize = 16;
/// Queues that an agent no longer has and the log still knows, for each node.
pub(crate) const OLD_QUEUES: usize = 4;

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Nodes, about 150 bytes each.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { nodes: 100_000 }
    }
}

/// Of what the log does not know whose it was.
const NOBODY: (&str, &str) = ("", "");

/// Why a batch or a queue cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("queue {epoch:016x} is not known: it was not announced, or its state was dropped")]
    UnknownQueue { epoch: u64 },
    #[error("queue {epoch:016x} would have more than {MAX_GAPS} gaps: send its events in order, or declare them lost")]
    TooManyGaps { epoch: u64 },
}

/// What became of a batch.
#[derive(Debug, Default, PartialEq)]
pub struct Admitted {
    /// What is new, to be appended. Empty if all of it was known.
    pub records: Vec<LogRecord>,
    /// Events that were settled before.
    pub duplicates: u64,
    /// Events that did not pass, and are declared left out.
    pub limited: u64,
}

/// A node's figures since the log began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    pub events: u64,
    /// By reason and tracer, counters and numbered losses together.
    pub lost: Vec<LossCounter>,
    /// When it last wrote: nanoseconds since 1970-01-01 UTC.
    pub touched_unix_nanos: i64,
}

/// The state of all nodes.
#[derive(Debug, Clone, Default)]
pub struct Watermarks {
    pub(crate) nodes: HashMap<Box<str>, Vec<QueueState>>,
    /// By partition of the log that this one is a copy of.
    pub(crate) positions: BTreeMap<i32, u64>,
    limits: Limits,
    evicted: u64,
}

impl Watermarks {
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Nodes that were forgotten because there were too many.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What of a queue is settled, if it is known.
    pub fn progress(&self, node: &str, epoch: u64) -> Option<Progress> {
        self.queue(node, epoch).map(|queue| queue.settled.progress(epoch))
    }

    /// Takes note of the queues that an agent has, and returns the losses to be logged: what its aggregator had
    /// acknowledged, because the agent no longer has it, and this log does not hold.
    pub fn announce(&mut self, node: &str, queues: &[Queue], now_unix_nanos: i64) -> Vec<LogRecord> {
        self.retire(node, queues);
        let mut records = Vec::new();
        for queue in queues {
            let known = self.queue_mut(node, queue.epoch, now_unix_nanos);
            let missing = known.settled.missing(1, queue.first_unacked - 1).into_iter();
            let lost: Vec<Loss> = missing.map(|range| loss(range, LossReason::LogLost as i32, NOBODY)).collect();
            if !lost.is_empty() {
                records.push(LogRecord {
                    node: node.to_owned(),
                    epoch: queue.epoch,
                    lost,
                    received_unix_nanos: now_unix_nanos,
                    ..LogRecord::default()
                });
            }
        }
        for record in &records {
            self.apply(record);
        }
        records
    }

    /// Takes what is new of a batch: its events and declared losses count as settled from here on.
    ///
    /// # Errors
    /// The batch cannot be taken. Nothing has changed then.
    pub fn admit(&mut self, node: &str, batch: Batch, now_unix_nanos: i64) -> Result<Admitted, Refused> {
        self.admit_some(node, batch, now_unix_nanos, |_| None)
    }

    /// As [`Watermarks::admit`]; an event that is new is asked about, and if it is `over` a limit declared left out, with
    /// whose it is: tracer and tenant.
    ///
    /// # Errors
    /// The batch cannot be taken. Nothing has changed then, and nothing was asked.
    pub fn admit_some(
        &mut self,
        node: &str,
        batch: Batch,
        now_unix_nanos: i64,
        mut over: impl for<'e> FnMut(&'e Bytes) -> Option<(&'e str, &'e str)>,
    ) -> Result<Admitted, Refused> {
        let epoch = batch.epoch;
        let Some(queue) = self.queue(node, epoch) else { return Err(Refused::UnknownQueue { epoch }) };
        let count = batch.events.len() as u64;
        let mut settled = queue.settled.clone();
        let fresh = if count == 0 {
            Vec::new()
        } else {
            let last = batch.first_seq.saturating_add(count - 1);
            let fresh = settled.missing(batch.first_seq, last);
            settled.insert(batch.first_seq, last);
            fresh
        };
        let mut lost = Vec::new();
        for declared in &batch.lost {
            let Some(range) = &declared.range else { continue };
            let missing = settled.missing(range.first, range.last).into_iter();
            lost.extend(missing.map(|range| loss(range, declared.reason, NOBODY)));
            settled.insert(range.first, range.last);
        }
        if settled.gaps() > MAX_GAPS {
            return Err(Refused::TooManyGaps { epoch });
        }
        let counters = queue.news(batch.counters);
        let new = numbers(&fresh);
        let (fresh, left_out) = split(fresh, |seq| over(&batch.events[(seq - batch.first_seq) as usize]));
        let reason = LossReason::RateLimited as i32;
        lost.extend(left_out.into_iter().map(|(range, owner)| loss(range, reason, owner)));

        let taken = numbers(&fresh);
        let mut records: Vec<LogRecord> = Vec::with_capacity(1);
        for (first, last) in fresh {
            let begin = (first - batch.first_seq) as usize;
            let end = (last - batch.first_seq) as usize + 1;
            // The usual batch is new as a whole: its vector is handed on.
            let events = if end - begin == batch.events.len() && records.is_empty() && taken == count {
                Vec::new()
            } else {
                batch.events[begin..end].to_vec()
            };
            records.push(record(node, epoch, first, events, now_unix_nanos));
        }
        if taken == count
            && let Some(whole) = records.first_mut()
        {
            whole.events = batch.events;
        }
        if records.is_empty() && !(lost.is_empty() && counters.is_empty()) {
            records.push(record(node, epoch, 0, Vec::new(), now_unix_nanos));
        }
        if let Some(first) = records.first_mut() {
            first.lost = lost;
            first.counters = counters;
            first.next_seq = batch.next_seq;
            first.account = batch.account;
        }
        for record in &records {
            self.apply(record);
        }
        Ok(Admitted { records, duplicates: count - new, limited: new - taken })
    }

    /// Advances the state by a record. Doing so again changes nothing.
    pub fn apply(&mut self, record: &LogRecord) {
        let queue = self.queue_mut(&record.node, record.epoch, record.received_unix_nanos);
        if let Some(more) = (record.events.len() as u64).checked_sub(1) {
            let last = record.first_seq.saturating_add(more);
            for number in queue.quarantined.within(record.first_seq, last) {
                queue.pardon(number);
            }
            for (first, last) in queue.settled.missing(record.first_seq, last) {
                queue.events += last - first + 1;
            }
            queue.settled.insert(record.first_seq, last);
        }
        for loss in &record.lost {
            let Some(range) = &loss.range else { continue };
            for (first, last) in queue.settled.missing(range.first, range.last) {
                add(&mut queue.lost, loss.reason, "", last - first + 1);
                if loss.reason == LossReason::Quarantined as i32 {
                    queue.quarantined.insert(first, last);
                }
                if loss.reason == LossReason::RateLimited as i32 {
                    leave_out(&mut queue.left_out, &loss.tracer, &loss.tenant, last - first + 1);
                }
            }
            queue.settled.insert(range.first, range.last);
        }
        queue.raise(&record.counters);
        queue.hear(record);
        if let Some(position) = record.position {
            self.advance(position);
        }
    }

    /// The figures of every node.
    pub fn totals(&self) -> impl Iterator<Item = (&str, Totals)> {
        self.nodes.iter().map(|(name, queues)| (&**name, totals(queues)))
    }

    /// The figures of one node.
    pub fn totals_of(&self, node: &str) -> Totals {
        self.nodes.get(node).map(|queues| totals(queues)).unwrap_or_default()
    }

    /// What became of a node's observations, queue by queue.
    pub fn tallies(&self, node: &str) -> Vec<Tally> {
        self.nodes.get(node).map(|queues| queues.iter().map(QueueState::tally).collect()).unwrap_or_default()
    }

    /// As it is stored.
    pub fn snapshot(&self) -> galen_proto::v1::Watermarks {
        let queues = self.nodes.iter().flat_map(|(node, queues)| queues.iter().map(|queue| queue.to_proto(node)));
        let positions = self.positions.iter().map(|(&partition, &next)| Position { partition, next });
        galen_proto::v1::Watermarks { queues: queues.collect(), positions: positions.collect(), standing: None }
    }

    /// The reverse of [`Watermarks::snapshot`].
    pub fn restore(stored: galen_proto::v1::Watermarks, limits: Limits) -> Self {
        let mut watermarks = Self::new(limits);
        stored.positions.into_iter().for_each(|position| watermarks.advance(position));
        for stored in stored.queues {
            let node = watermarks.nodes.entry(stored.node.as_str().into()).or_default();
            node.push(QueueState::from_proto(stored));
        }
        watermarks
    }

    /// The newest word counts, also where it is a lower one: a partition may begin anew.
    pub(crate) fn advance(&mut self, position: Position) {
        self.positions.insert(position.partition, position.next);
    }

    fn queue(&self, node: &str, epoch: u64) -> Option<&QueueState> {
        self.nodes.get(node)?.iter().find(|queue| queue.epoch == epoch)
    }

    pub(crate) fn queue_mut(&mut self, node: &str, epoch: u64, now_unix_nanos: i64) -> &mut QueueState {
        if !self.nodes.contains_key(node) {
            self.make_room();
            self.nodes.insert(node.into(), Vec::with_capacity(1));
        }
        let queues = self.nodes.entry(node.into()).or_default();
        let place = queues.iter().position(|queue| queue.epoch == epoch).unwrap_or_else(|| {
            queues.push(QueueState::new(epoch));
            queues.len() - 1
        });
        let queue = &mut queues[place];
        queue.touched_unix_nanos = queue.touched_unix_nanos.max(now_unix_nanos);
        queue
    }

    /// Drops queues that the agent does not have any more, but for the newest few.
    pub(crate) fn retire(&mut self, node: &str, announced: &[Queue]) {
        self.drop_oldest(node, OLD_QUEUES, |queue| announced.iter().all(|kept| kept.epoch != queue.epoch));
    }

    /// Keeps the newest `keep` of the queues that are `gone`, and the totals of the others.
    pub(crate) fn drop_oldest(&mut self, node: &str, keep: usize, gone: impl Fn(&QueueState) -> bool) {
        let Some(queues) = self.nodes.get_mut(node) else { return };
        if queues.len() <= keep {
            return;
        }
        let gone = |queue: &QueueState| queue.epoch != RETIRED && gone(queue);
        let mut ages: Vec<i64> =
            queues.iter().filter(|queue| gone(queue)).map(|queue| queue.touched_unix_nanos).collect();
        if ages.len() <= keep {
            return;
        }
        ages.sort_unstable_by(|a, b| b.cmp(a));
        let oldest_kept = ages[keep - 1];
        let mut retired = QueueState::new(RETIRED);
        queues.retain(|queue| {
            let keep = queue.epoch != RETIRED && !(gone(queue) && queue.touched_unix_nanos < oldest_kept);
            if !keep {
                retired.absorb(queue);
            }
            keep
        });
        queues.push(retired);
    }

    /// Forgets a sixteenth of the nodes when there are too many, so that the search for the oldest is rarely made.
    fn make_room(&mut self) {
        if self.nodes.len() < self.limits.nodes.max(1) {
            return;
        }
        let touched = |queues: &[QueueState]| queues.iter().map(|queue| queue.touched_unix_nanos).max().unwrap_or(0);
        let mut ages: Vec<(i64, Box<str>)> =
            self.nodes.iter().map(|(node, queues)| (touched(queues), node.clone())).collect();
        let excess = self.nodes.len() / 16 + 1;
        ages.select_nth_unstable(excess - 1);
        for (_, node) in ages.drain(..excess) {
            self.nodes.remove(&node);
            self.evicted += 1;
        }
        tracing::warn!(forgotten = excess, limit = self.limits.nodes, "too many nodes: forgot those silent longest");
    }
}

fn totals(queues: &[QueueState]) -> Totals {
    let mut totals = Totals::default();
    for queue in queues {
        totals.events += queue.events;
        totals.touched_unix_nanos = totals.touched_unix_nanos.max(queue.touched_unix_nanos);
        for lost in queue.lost.iter().chain(&queue.counters) {
            add(&mut totals.lost, lost.reason, &lost.tracer, lost.count);
        }
    }
    totals
}

pub(crate) fn loss((first, last): (u64, u64), reason: i32, (tracer, tenant): (&str, &str)) -> Loss {
    Loss { range: Some(Range { first, last }), reason, tracer: tracer.to_owned(), tenant: tenant.to_owned() }
}

pub(crate) fn record(node: &str, epoch: u64, first_seq: u64, events: Vec<Bytes>, now_unix_nanos: i64) -> LogRecord {
    LogRecord {
        node: node.to_owned(),
        epoch,
        first_seq,
        events,
        received_unix_nanos: now_unix_nanos,
        ..LogRecord::default()
    }
}
