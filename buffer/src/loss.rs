//! Losses that are declared: ranges of numbers that were given, and counters of what never got a number.
//!
//! Ranges of an epoch are kept ascending and apart from each other, and neighbours with the same reason are one. The
//! counters are bounded: beyond the bound a reason loses the tracer's name, never its count.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most pairs of reason and tracer that are kept apart in an epoch. The aggregator takes 128, and there may be one more
/// of each reason.
const MAX_COUNTERS: usize = 96;

/// A reason by its number in `galen.v1.LossReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LossReasonCode(pub i32);

impl LossReasonCode {
    pub const BUFFER_FULL: Self = Self(1);
    pub const BUFFER_CORRUPT: Self = Self(2);
    pub const QUEUE_FULL: Self = Self(3);
    pub const DISK_ERROR: Self = Self(4);
    pub const TOO_LARGE: Self = Self(5);
    pub const NUMBER_TAKEN: Self = Self(11);
    pub const NODE_LOST: Self = Self(14);

    /// Whether it counts observations. The others count samples, kernel records and captures.
    pub fn counts_observations(self) -> bool {
        !(6..=9).contains(&self.0)
    }
}

/// Numbers `first..=last` that will never be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    pub first: u64,
    pub last: u64,
    pub reason: LossReasonCode,
}

/// Cumulative in the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossCounter {
    pub reason: LossReasonCode,
    /// Empty if it was not known.
    pub tracer: String,
    pub count: u64,
}

/// Declared ranges of one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Ranges(Vec<Loss>);

impl Ranges {
    /// Adds what of `first..=last` was not declared before. Returns how many numbers that were.
    pub(crate) fn declare(&mut self, first: u64, last: u64, reason: LossReasonCode) -> u64 {
        let mut fresh = 0;
        let mut at = first;
        while at <= last {
            if let Some(known) = self.covering(at) {
                at = known.last + 1;
                continue;
            }
            let next = self.0.iter().find(|l| l.first > at).map_or(u64::MAX, |l| l.first);
            let end = last.min(next - 1);
            fresh += end - at + 1;
            self.0.push(Loss { first: at, last: end, reason });
            self.0.sort_unstable_by_key(|l| l.first);
            at = end + 1;
        }
        self.0.dedup_by(|right, left| {
            let joined = left.reason == right.reason && left.last + 1 == right.first;
            if joined {
                left.last = right.last;
            }
            joined
        });
        fresh
    }

    pub(crate) fn covering(&self, seq: u64) -> Option<Loss> {
        let after = self.0.partition_point(|l| l.first <= seq);
        self.0[..after].last().copied().filter(|l| l.last >= seq)
    }

    /// First number at or after `seq` that is not declared lost.
    pub(crate) fn skip(&self, mut seq: u64) -> u64 {
        while let Some(loss) = self.covering(seq) {
            seq = loss.last + 1;
        }
        seq
    }

    /// First declared number after `seq`.
    pub(crate) fn next_after(&self, seq: u64) -> Option<u64> {
        self.0.iter().map(|l| l.first).find(|first| *first > seq)
    }

    /// Numbers in `first..end` that are declared lost.
    pub(crate) fn count_within(&self, first: u64, end: u64) -> u64 {
        let within = |l: &Loss| (l.last + 1).min(end).saturating_sub(l.first.max(first));
        self.0.iter().map(within).sum()
    }

    /// Forgets the ranges that end before `first_unacked`.
    pub(crate) fn settle(&mut self, first_unacked: u64) {
        self.0.retain(|l| l.last >= first_unacked);
    }

    pub(crate) fn to_vec(&self) -> Vec<Loss> {
        self.0.clone()
    }
}

/// Cumulative counters of one epoch, each with the value that the aggregator is known to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters(BTreeMap<(LossReasonCode, String), Count>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    total: u64,
    settled: u64,
}

/// A counter as the state file holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedCounter {
    reason: LossReasonCode,
    tracer: String,
    count: u64,
    settled: u64,
}

impl Counters {
    pub(crate) fn add(&mut self, reason: LossReasonCode, tracer: &str, n: u64) {
        let full = self.0.len() >= MAX_COUNTERS;
        let mut key = (reason, tracer.to_owned());
        if full && !self.0.contains_key(&key) {
            key.1.clear();
        }
        let count = self.0.entry(key).or_default();
        count.total = count.total.saturating_add(n);
    }

    /// Returns whether that was news.
    pub(crate) fn settle(&mut self, counter: &LossCounter) -> bool {
        let Some(count) = self.0.get_mut(&(counter.reason, counter.tracer.clone())) else {
            return false;
        };
        let settled = counter.count.min(count.total);
        let news = settled > count.settled;
        count.settled = count.settled.max(settled);
        news
    }

    /// Observations in all counters together.
    pub(crate) fn observations(&self) -> u64 {
        self.0.iter().filter(|((reason, _), _)| reason.counts_observations()).map(|(_, count)| count.total).sum()
    }

    pub(crate) fn settled(&self) -> bool {
        self.0.values().all(|c| c.settled == c.total)
    }

    /// Adds what nobody was told of `other`.
    pub(crate) fn inherit(&mut self, other: &Counters) {
        for ((reason, tracer), count) in &other.0 {
            self.add(*reason, tracer, count.total - count.settled);
        }
    }

    pub(crate) fn to_vec(&self) -> Vec<LossCounter> {
        self.0
            .iter()
            .map(|((reason, tracer), count)| LossCounter {
                reason: *reason,
                tracer: tracer.clone(),
                count: count.total,
            })
            .collect()
    }

    pub(crate) fn save(&self) -> Vec<SavedCounter> {
        self.0
            .iter()
            .map(|((reason, tracer), count)| SavedCounter {
                reason: *reason,
                tracer: tracer.clone(),
                count: count.total,
                settled: count.settled,
            })
            .collect()
    }

    pub(crate) fn load(saved: Vec<SavedCounter>) -> Self {
        let entry = |c: SavedCounter| {
            let count = Count { total: c.count, settled: c.settled.min(c.count) };
            ((c.reason, c.tracer), count)
        };
        Self(saved.into_iter().map(entry).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_stay_apart_and_neighbours_of_one_reason_join() {
        let mut ranges = Ranges::default();
        assert_eq!(ranges.declare(10, 19, LossReasonCode::BUFFER_FULL), 10);
        assert_eq!(ranges.declare(5, 24, LossReasonCode::BUFFER_CORRUPT), 10);
        assert_eq!(ranges.declare(25, 30, LossReasonCode::BUFFER_CORRUPT), 6);
        assert_eq!(ranges.declare(5, 30, LossReasonCode::DISK_ERROR), 0);
        let bounds: Vec<_> = ranges.to_vec().iter().map(|l| (l.first, l.last)).collect();
        assert_eq!(bounds, [(5, 9), (10, 19), (20, 30)]);
        assert_eq!(ranges.skip(5), 31);
        assert_eq!(ranges.count_within(8, 12), 4);
        ranges.settle(20);
        assert_eq!(ranges.to_vec().len(), 1);
    }

    #[test]
    fn counters_beyond_the_bound_keep_their_sum() {
        let mut counters = Counters::default();
        for i in 0..2 * MAX_COUNTERS {
            counters.add(LossReasonCode::QUEUE_FULL, &format!("t{i}"), 1);
        }
        let all = counters.to_vec();
        assert!(all.len() <= MAX_COUNTERS + 1);
        assert_eq!(all.iter().map(|c| c.count).sum::<u64>(), 2 * MAX_COUNTERS as u64);
    }
}
