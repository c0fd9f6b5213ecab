//! Numbers whose events were put aside: they count as lost, and may still come, once, when the dead letters are written
//! again.

use std::collections::BTreeSet;

use galen_proto::v1::Range;

/// Numbers of a queue that may still come. Beyond that the oldest are given up: they stay lost here.
const MOST: usize = 1024;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Quarantine(BTreeSet<u64>);

impl Quarantine {
    pub(crate) fn insert(&mut self, first: u64, last: u64) {
        // The newest of a range that is too long.
        self.0.extend(first.max(last.saturating_sub(MOST as u64 - 1))..=last);
        while self.0.len() > MOST {
            self.0.pop_first();
        }
    }

    /// Those of `first ..= last`.
    pub(crate) fn within(&self, first: u64, last: u64) -> Vec<u64> {
        self.0.range(first..=last.max(first)).copied().collect()
    }

    pub(crate) fn remove(&mut self, number: u64) {
        self.0.remove(&number);
    }

    pub(crate) fn to_proto(&self) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::new();
        for &number in &self.0 {
            match ranges.last_mut() {
                Some(range) if range.last + 1 == number => range.last = number,
                _ => ranges.push(Range { first: number, last: number }),
            }
        }
        ranges
    }

    pub(crate) fn from_proto(ranges: &[Range]) -> Self {
        let mut quarantine = Self::default();
        ranges
            .iter()
            .filter(|range| range.first <= range.last)
            .for_each(|range| quarantine.insert(range.first, range.last));
        quarantine
    }
}
