//! One epoch in memory: its numbers, its segments and what of it is lost.
//!
//! A segment holds the numbers from its own first one up to the first one of the next segment, or up to the epoch's end.
//! A number in there that is neither acknowledged nor declared lost must be readable; if it is not, it is corrupt.

use std::{collections::VecDeque, path::PathBuf};

use crate::{
    loss::{Counters, LossReasonCode, Ranges},
    state::EpochState,
};

#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) id: u64,
    pub(crate) first_unacked: u64,
    pub(crate) next_seq: u64,
    /// First number that is not in the aggregator unless another instance gave it; `None` once that was looked at.
    pub(crate) uncompared: Option<u64>,
    /// No event will be added.
    pub(crate) sealed: bool,
    /// `next_seq` is exact. Otherwise the newest segment could not be looked at yet.
    pub(crate) end_known: bool,
    /// Ascending by `first`.
    pub(crate) segments: VecDeque<SegmentEntry>,
    pub(crate) losses: Ranges,
    pub(crate) counters: Counters,
    /// What came in and was decided, as it was counted where it came in.
    pub(crate) observed: u64,
    /// It ended uncleanly, so that `observed` lacks the last moments.
    pub(crate) is_torn: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct SegmentEntry {
    pub(crate) first: u64,
    /// Bytes on disk that it may come to.
    pub(crate) bytes: u64,
    pub(crate) dir: PathBuf,
    /// Places in it that were found damaged.
    pub(crate) damaged: u32,
}

impl Epoch {
    /// A new epoch, with a random identity.
    pub(crate) fn begin() -> Self {
        Self {
            id: fastrand::u64(1..),
            first_unacked: 1,
            next_seq: 1,
            uncompared: None,
            sealed: false,
            end_known: true,
            segments: VecDeque::new(),
            losses: Ranges::default(),
            counters: Counters::default(),
            observed: 0,
            is_torn: false,
        }
    }

    pub(crate) fn load(saved: EpochState, segments: VecDeque<SegmentEntry>) -> Self {
        let next_seq = saved.next_seq.max(saved.first_unacked).max(1);
        let counters = Counters::load(saved.counters);
        Self {
            id: saved.id,
            first_unacked: saved.first_unacked.max(1),
            next_seq,
            uncompared: Some(saved.uncompared.unwrap_or(next_seq)),
            sealed: saved.sealed,
            end_known: saved.sealed,
            segments,
            losses: saved.losses,
            observed: saved.observed.unwrap_or(next_seq - 1 + counters.observations()),
            counters,
            is_torn: !saved.sealed,
        }
    }

    /// What came in and was decided: as it was counted, or after an unclean end at least what is known of.
    pub(crate) fn observed(&self) -> u64 {
        match self.is_torn {
            true => self.observed.max(self.next_seq - 1 + self.counters.observations()),
            false => self.observed,
        }
    }

    pub(crate) fn save(&self) -> EpochState {
        EpochState {
            id: self.id,
            first_unacked: self.first_unacked,
            next_seq: self.next_seq,
            uncompared: self.uncompared,
            sealed: self.sealed && self.end_known,
            losses: self.losses.clone(),
            counters: self.counters.save(),
            observed: Some(self.observed()),
        }
    }

    /// The number after the last one of a segment.
    pub(crate) fn end_of(&self, segment: usize) -> u64 {
        let next = self.segments.get(segment + 1);
        next.map_or(self.next_seq, |s| s.first.min(self.next_seq))
    }

    /// The segment that holds a number.
    pub(crate) fn segment_of(&self, seq: u64) -> Option<usize> {
        self.segments.partition_point(|s| s.first <= seq).checked_sub(1)
    }

    /// Whether nothing in a segment is still to be read.
    pub(crate) fn is_spent(&self, segment: usize) -> bool {
        let from = self.segments[segment].first.max(self.first_unacked);
        let last = segment + 1 == self.segments.len();
        (self.end_known || !last) && self.losses.skip(from) >= self.end_of(segment)
    }

    /// Whether the aggregator has all that there is to know of it.
    pub(crate) fn is_done(&self) -> bool {
        self.end_known && self.first_unacked >= self.next_seq && self.counters.settled()
    }

    pub(crate) fn unacked(&self) -> u64 {
        let all = self.next_seq.saturating_sub(self.first_unacked);
        all - self.losses.count_within(self.first_unacked, self.next_seq).min(all)
    }

    /// Declares lost what is left to read of a segment. Returns how many events that were.
    pub(crate) fn lose_segment(&mut self, segment: usize, reason: LossReasonCode) -> u64 {
        let first = self.segments[segment].first.max(self.first_unacked);
        let end = self.end_of(segment);
        if first >= end {
            return 0;
        }
        self.losses.declare(first, end - 1, reason)
    }

    /// Declares lost what had been taken in and was not written when the process was ended: it had no numbers yet, and
    /// gets those that it would have had.
    pub(crate) fn lose_what_was_taken(&mut self, taken: u64) {
        if taken > self.next_seq {
            self.losses.declare(self.next_seq, taken - 1, LossReasonCode::NODE_LOST);
            self.next_seq = taken;
        }
    }

    /// Returns whether anything changed.
    pub(crate) fn ack(&mut self, upto: u64) -> bool {
        let first_unacked = upto.saturating_add(1).min(self.next_seq);
        if first_unacked <= self.first_unacked {
            return false;
        }
        self.first_unacked = first_unacked;
        self.losses.settle(first_unacked);
        true
    }
}
