//! The state where others have a part in it: replicas that append to the same log, or a log that this one copies.
//!
//! Several replicas see a node in turns, each with a state of its own. States of one queue are merged: what anyone saw
//! settled is settled. A copy takes records that are in a log already, each of them as often as that log has it, and
//! leaves out what it has; it keeps the place in that log with them, so that both become durable together.

use std::collections::BTreeMap;

use galen_proto::v1::{LogRecord, Queue, QueueState as Stored};

use crate::{
    Watermarks,
    queue::QueueState,
    watermarks::{OLD_QUEUES, loss, record},
};

/// Queues of a node that are kept from what others appended: those that an agent may announce, and the old ones.
const MAX_QUEUES: usize = 64 + OLD_QUEUES;

impl Watermarks {
    /// Takes note of the queues that an agent has, and of what it was acknowledged as settled: where others append to
    /// the same log, that is theirs to know, and no loss.
    pub fn believe(&mut self, node: &str, queues: &[Queue], now_unix_nanos: i64) {
        self.retire(node, queues);
        for queue in queues {
            let known = self.queue_mut(node, queue.epoch, now_unix_nanos);
            let acknowledged = queue.first_unacked - 1;
            for (first, last) in known.settled.missing(1, acknowledged) {
                known.events += last - first + 1;
            }
            known.settled.insert(1, acknowledged);
        }
    }

    /// Takes over what others know of a node's queues.
    pub fn merge(&mut self, stored: Vec<Stored>) {
        for stored in stored {
            let node = stored.node.clone();
            let other = QueueState::from_proto(stored);
            self.queue_mut(&node, other.epoch, other.touched_unix_nanos).merge(&other);
            self.drop_oldest(&node, MAX_QUEUES, |_| true);
        }
    }

    /// What is known of a node's queues, as it is stored.
    pub fn queues_of(&self, node: &str) -> Vec<Stored> {
        self.nodes.get(node).into_iter().flatten().map(|queue| queue.to_proto(node)).collect()
    }

    /// Takes what is new of a record of another log, and where that log goes on: the state is advanced for it. Unlike a
    /// batch it is never refused, because it is in a log already.
    pub fn fresh(&mut self, copied: LogRecord) -> Vec<LogRecord> {
        let LogRecord { node, epoch, first_seq, events, lost, counters, received_unix_nanos, position, .. } = copied;
        let queue = self.queue_mut(&node, epoch, received_unix_nanos);
        let mut settled = queue.settled.clone();
        let mut fresh = Vec::new();
        if let Some(more) = (events.len() as u64).checked_sub(1) {
            let last = first_seq.saturating_add(more);
            fresh = settled.missing(first_seq, last);
            fresh.extend(queue.quarantined.within(first_seq, last).into_iter().map(|number| (number, number)));
            fresh.sort_unstable();
            settled.insert(first_seq, last);
        }
        let mut news = Vec::new();
        for lost in &lost {
            let Some(range) = &lost.range else { continue };
            let missing = settled.missing(range.first, range.last).into_iter();
            news.extend(missing.map(|range| loss(range, lost.reason, (&lost.tracer, &lost.tenant))));
            settled.insert(range.first, range.last);
        }
        let counters = queue.news(counters);
        let mut records: Vec<LogRecord> = fresh
            .into_iter()
            .map(|(first, last)| {
                let events = events[(first - first_seq) as usize..=(last - first_seq) as usize].to_vec();
                record(&node, epoch, first, events, received_unix_nanos)
            })
            .collect();
        if records.is_empty() && !(news.is_empty() && counters.is_empty()) {
            records.push(record(&node, epoch, 0, Vec::new(), received_unix_nanos));
        }
        if let Some(last) = records.last_mut() {
            last.lost = news;
            last.counters = counters;
            last.next_seq = copied.next_seq;
            last.account = copied.account;
            // With the last of them, so that none is passed over should only some become durable.
            last.position = position;
        }
        for record in &records {
            self.apply(record);
        }
        if let Some(position) = position {
            self.advance(position);
        }
        self.drop_oldest(&node, MAX_QUEUES, |_| true);
        records
    }

    /// Where the log that this one is a copy of goes on, by partition.
    pub fn positions(&self) -> &BTreeMap<i32, u64> {
        &self.positions
    }
}
