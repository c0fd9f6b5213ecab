//! The numbers of one queue that are settled: a contiguous watermark and a few ranges above it.
//!
//! Ranges include both ends, as on the wire. They stay ascending and apart, and none touches the watermark: what
//! touches is merged, so in the steady state there is only the watermark.

use galen_proto::v1::{Progress, Range};

/// A range: its first number, and its last.
pub(crate) type Numbers = (u64, u64);

/// A set of sequence numbers, of which all up to `upto` are members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    upto: u64,
    above: Vec<(u64, u64)>,
}

impl Settled {
    /// Everything up to this number is settled.
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// The newest settled number.
    pub fn last(&self) -> u64 {
        self.above.last().map_or(self.upto, |&(_, last)| last)
    }

    /// How many numbers are settled.
    pub fn count(&self) -> u64 {
        self.upto + self.above.iter().map(|(first, last)| last - first + 1).sum::<u64>()
    }

    /// Ranges above the watermark.
    pub fn gaps(&self) -> usize {
        self.above.len()
    }

    /// The parts of `first ..= last` that are not settled, ascending.
    pub fn missing(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut missing = Vec::new();
        if last <= self.upto {
            return missing;
        }
        let mut next = first.max(self.upto + 1);
        for &(settled_first, settled_last) in &self.above {
            if next > last || settled_first > last {
                break;
            }
            if settled_last < next {
                continue;
            }
            if settled_first > next {
                missing.push((next, settled_first - 1));
            }
            if settled_last >= last {
                return missing;
            }
            next = settled_last + 1;
        }
        if next <= last {
            missing.push((next, last));
        }
        missing
    }

    /// Settles `first ..= last`; what was settled already stays so.
    pub fn insert(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        if first <= self.upto.saturating_add(1) {
            self.upto = self.upto.max(last);
        } else {
            let from = self.above.partition_point(|&(_, end)| end.saturating_add(1) < first);
            let to = self.above.partition_point(|&(begin, _)| begin <= last.saturating_add(1));
            let merged = self.above[from..to]
                .iter()
                .fold((first, last), |(low, high), &(begin, end)| (low.min(begin), high.max(end)));
            self.above.splice(from..to, [merged]);
        }
        let reached = self.above.iter().take_while(|&&(begin, end)| {
            let touches = begin <= self.upto.saturating_add(1);
            if touches {
                self.upto = self.upto.max(end);
            }
            touches
        });
        let reached = reached.count();
        self.above.drain(..reached);
    }

    /// Settles what is settled in `other`.
    pub fn merge(&mut self, other: &Self) {
        self.insert(1, other.upto);
        for &(first, last) in &other.above {
            self.insert(first, last);
        }
    }

    /// As it goes on the wire.
    pub fn progress(&self, epoch: u64) -> Progress {
        Progress {
            epoch,
            upto: self.upto,
            settled: self.above.iter().map(|&(first, last)| Range { first, last }).collect(),
        }
    }

    /// The reverse of [`Settled::progress`].
    pub fn from_progress(progress: &Progress) -> Self {
        let mut settled = Self { upto: progress.upto, above: Vec::new() };
        for range in &progress.settled {
            settled.insert(range.first, range.last);
        }
        settled
    }
}

/// How many numbers are in ranges that are apart.
pub(crate) fn numbers(ranges: &[Numbers]) -> u64 {
    ranges.iter().map(|(first, last)| last - first + 1).sum()
}

/// The ranges of what is not over a limit, and those of what is, each with whose it is.
pub(crate) fn split<O: PartialEq>(
    ranges: Vec<Numbers>,
    mut over: impl FnMut(u64) -> Option<O>,
) -> (Vec<Numbers>, Vec<(Numbers, O)>) {
    let (mut passed, mut left_out): (Vec<Numbers>, Vec<(Numbers, O)>) = Default::default();
    for number in ranges.into_iter().flat_map(|(first, last)| first..=last) {
        match over(number) {
            None => match passed.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => passed.push((number, number)),
            },
            Some(owner) => match left_out.last_mut() {
                Some(((_, last), of)) if *last + 1 == number && *of == owner => *last = number,
                _ => left_out.push(((number, number), owner)),
            },
        }
    }
    (passed, left_out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn members(settled: &Settled, bound: u64) -> BTreeSet<u64> {
        let missing: BTreeSet<u64> =
            settled.missing(1, bound).into_iter().flat_map(|(first, last)| first..=last).collect();
        (1..=bound).filter(|seq| !missing.contains(seq)).collect()
    }

    #[test]
    fn a_filled_gap_joins_the_watermark() {
        let mut settled = Settled::default();
        settled.insert(5, 9);
        settled.insert(1, 2);
        assert_eq!((settled.upto(), settled.gaps(), settled.last()), (2, 1, 9));
        assert_eq!(settled.missing(1, 12), [(3, 4), (10, 12)]);
        settled.insert(3, 4);
        assert_eq!((settled.upto(), settled.gaps()), (9, 0));
    }

    #[test]
    fn the_largest_number_does_not_overflow() {
        let mut settled = Settled::default();
        settled.insert(u64::MAX, u64::MAX);
        settled.insert(1, u64::MAX);
        assert_eq!((settled.upto(), settled.gaps()), (u64::MAX, 0));
        assert!(settled.missing(1, u64::MAX).is_empty());
    }

    #[test]
    fn what_passes_and_what_does_not_stay_in_stretches() {
        let over = |number| match number {
            4..=6 => Some("a"),
            7 | 22 => Some("b"),
            _ => None,
        };
        let (passed, left_out) = split(vec![(1, 10), (20, 22)], over);
        assert_eq!(passed, [(1, 3), (8, 10), (20, 21)]);
        assert_eq!(left_out, [((4, 6), "a"), ((7, 7), "b"), ((22, 22), "b")]);
        assert_eq!(numbers(&passed), 8);
    }

    proptest! {
        #[test]
        fn it_is_the_set_of_all_that_was_inserted(ranges in prop::collection::vec((1u64..120, 0u64..20), 0..40)) {
            let mut settled = Settled::default();
            let mut model = BTreeSet::new();
            for (first, more) in ranges {
                settled.insert(first, first + more);
                model.extend(first..=first + more);
                prop_assert_eq!(members(&settled, 200), model.clone());
                let wire = settled.progress(7);
                prop_assert_eq!(&Settled::from_progress(&wire), &settled);
                let mut before = wire.upto;
                for range in wire.settled {
                    prop_assert!(range.first > before + 1 && range.last >= range.first);
                    before = range.last;
                }
            }
        }
    }
}
