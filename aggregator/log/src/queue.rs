//! What the log knows of one queue, and sums of losses.

use galen_proto::v1::{LossCounter, LossReason, Progress, QueueState as Stored};

use crate::{quarantine::Quarantine, settled::Settled};

/// Distinct losses (reason and tracer) that are told apart; the rest is summed without its tracer.
const MAX_COUNTERS: usize = 128;

/// One instance of a node's buffer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct QueueState {
    pub(crate) epoch: u64,
    pub(crate) settled: Settled,
    /// Cumulative, as the agent reports them.
    pub(crate) counters: Vec<LossCounter>,
    /// Numbered events that were declared lost.
    pub(crate) lost: Vec<LossCounter>,
    pub(crate) quarantined: Quarantine,
    pub(crate) events: u64,
    pub(crate) touched_unix_nanos: i64,
}

impl QueueState {
    pub(crate) fn new(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// Those of `reported` that are higher than what is known.
    pub(crate) fn news(&self, mut reported: Vec<LossCounter>) -> Vec<LossCounter> {
        reported.retain(|counter| match self.place(counter) {
            Some(place) => self.counters[place].count < counter.count,
            None => counter.count > 0 && self.counters.len() < MAX_COUNTERS,
        });
        reported
    }

    pub(crate) fn raise(&mut self, counters: &[LossCounter]) {
        for counter in counters {
            match self.place(counter) {
                Some(place) => self.counters[place].count = self.counters[place].count.max(counter.count),
                None if self.counters.len() < MAX_COUNTERS => self.counters.push(counter.clone()),
                None => {}
            }
        }
    }

    /// Takes over the totals of a queue that is dropped.
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.events += other.events;
        self.touched_unix_nanos = self.touched_unix_nanos.max(other.touched_unix_nanos);
        for lost in other.lost.iter().chain(&other.counters) {
            add(&mut self.lost, lost.reason, &lost.tracer, lost.count);
        }
    }

    /// An event that was put aside has come after all: it is no loss any more.
    pub(crate) fn pardon(&mut self, number: u64) {
        self.quarantined.remove(number);
        self.events += 1;
        let lost = self.lost.iter_mut().find(|lost| lost.reason == LossReason::Quarantined as i32);
        if let Some(lost) = lost {
            lost.count = lost.count.saturating_sub(1);
        }
    }

    /// Takes over what `other` knows of the same queue: what either has settled is settled, and of sums that only grow
    /// the higher one holds.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.settled.merge(&other.settled);
        self.raise(&other.counters);
        for lost in &other.lost {
            let known = self.lost.iter().find(|known| known.reason == lost.reason && known.tracer == lost.tracer);
            let more = lost.count.saturating_sub(known.map_or(0, |known| known.count));
            if more > 0 {
                add(&mut self.lost, lost.reason, &lost.tracer, more);
            }
        }
        self.events = self.events.max(other.events);
        self.touched_unix_nanos = self.touched_unix_nanos.max(other.touched_unix_nanos);
    }

    pub(crate) fn to_proto(&self, node: &str) -> Stored {
        Stored {
            node: node.to_owned(),
            progress: Some(self.settled.progress(self.epoch)),
            counters: self.counters.clone(),
            touched_unix_nanos: self.touched_unix_nanos,
            events: self.events,
            lost: self.lost.clone(),
            quarantined: self.quarantined.to_proto(),
        }
    }

    pub(crate) fn from_proto(stored: Stored) -> Self {
        let progress: Progress = stored.progress.unwrap_or_default();
        Self {
            epoch: progress.epoch,
            settled: Settled::from_progress(&progress),
            counters: stored.counters,
            lost: stored.lost,
            quarantined: Quarantine::from_proto(&stored.quarantined),
            events: stored.events,
            touched_unix_nanos: stored.touched_unix_nanos,
        }
    }

    fn place(&self, counter: &LossCounter) -> Option<usize> {
        self.counters.iter().position(|known| known.reason == counter.reason && known.tracer == counter.tracer)
    }
}

/// Adds `count` to the sum of its reason and tracer.
pub fn add(sums: &mut Vec<LossCounter>, reason: i32, tracer: &str, count: u64) {
    let tracer = if sums.len() < MAX_COUNTERS { tracer } else { "" };
    match sums.iter_mut().find(|sum| sum.reason == reason && sum.tracer == tracer) {
        Some(sum) => sum.count = sum.count.saturating_add(count),
        None => sums.push(LossCounter { reason, tracer: tracer.to_owned(), count }),
    }
}
