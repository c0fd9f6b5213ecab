//! What a buffer says of itself.

use std::collections::BTreeMap;

use crate::LossReasonCode;

/// One epoch: the numbers `first_unacked..next_seq` are on the disk or declared lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    pub epoch: u64,
    pub first_unacked: u64,
    pub next_seq: u64,
    /// Numbers from here on were given, or will be, since the aggregator was last known to have none of them.
    pub uncompared: Option<u64>,
    /// New events get numbers of this epoch.
    pub is_current: bool,
    /// What came in and is decided: it has a number, or is counted. Counted where it comes in, and cumulative in the
    /// epoch: `next_seq - 1 + counted`, or something was lost on the way.
    pub observed: u64,
    /// Of the counters, those that count observations, in sum.
    pub counted: u64,
    /// What came in and is not decided.
    pub waiting: u64,
}

/// Numbers of `epoch` below `next_seq` may be transmitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    pub epoch: u64,
    pub next_seq: u64,
}

/// Totals are those since the buffer was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub epochs: usize,
    pub segments: usize,
    /// Events that can be read and were not acknowledged.
    pub events_unacked: u64,
    /// What the segments may come to while they are read, as the file system counts it, and the quarantine.
    pub bytes_on_disk: u64,
    /// What was given to `append` and `leave_out`.
    pub observed: u64,
    /// Of that, what has neither a number nor a place in a counter yet.
    pub waiting: u64,
    pub appended: u64,
    pub commits: u64,
    /// Events that were turned away by `append` or by their receipt.
    pub rejected: BTreeMap<LossReasonCode, u64>,
    /// Numbered events that were declared lost.
    pub lost: BTreeMap<LossReasonCode, u64>,
    /// Segments that were put aside.
    pub quarantined: u64,
    /// Commits that the disk refused.
    pub disk_errors: u64,
}
