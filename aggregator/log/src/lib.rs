//! The aggregator's log: the durable truth behind every acknowledgement, and what every reader follows.
//!
//! [`Log`], [`Reader`] and [`Append`] are the interface that a partition of a Kafka topic could fill as well;
//! [`embedded`] fills it with segment files of its own.
//!
//! - An offset counts events: a record with `k` events at offset `b` covers `b .. b + k`. A record that holds only
//!   losses or counters covers nothing and stands at the offset of the next event.
//! - A reader is handed only what is durable, in order, and keeps its own cursor. What cannot be read any more is
//!   reported as [`Skipped`], never left out silently.
//! - [`Watermarks`] is what the log knows of every queue: the exact deduplication state. It is a function of the
//!   records, kept in snapshots so that opening does not replay all of them.

use std::{future::Future, pin::Pin};

use galen_proto::v1::{LogRecord, Queue, QueueState};

mod consumer;
mod cursor;
pub mod embedded;
mod error;
mod frame;
mod left_out;
mod quarantine;
mod queue;
mod reader;
mod recovery;
mod scan;
mod segment;
mod settled;
mod shared;
mod snapshot;
mod watermarks;
mod writer;

pub use consumer::{Consumer, Delivery, Place};
pub use cursor::Cursor;
pub use embedded::EmbeddedLog;
pub use error::{Class, Error};
pub use frame::MAX_EVENTS_BYTES;
pub use left_out::leave_out;
pub use queue::{Tally, Told, add};
pub use settled::Settled;
pub use watermarks::{Admitted, Limits, MAX_GAPS, Refused, Totals, Watermarks};

/// A boxed future, so that the traits stay objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What readers see of a log.
pub trait Log: Send + Sync {
    /// What is durable and still there.
    fn bounds(&self) -> Bounds;

    /// A reader whose first event is the one at `from`, or the oldest that is still there.
    fn reader(&self, from: u64) -> Box<dyn Reader>;
}

/// One reader's way through the log.
pub trait Reader: Send {
    /// Waits until something is durable beyond the cursor, and returns it: about `max_events` events, at least one
    /// record. Dropping the future before it is ready changes nothing.
    ///
    /// # Errors
    /// The disk refused to be read; the cursor has not moved, so the call may be repeated.
    fn next(&mut self, max_events: usize) -> BoxFuture<'_, Result<Chunk, Error>>;
}

/// The side of the one writer.
pub trait Append: Send {
    /// Appends a group of records; when it returns, all of them are durable. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// None of the group counts as durable, and the log takes nothing more until [`Append::reopen`] succeeds.
    fn append(&mut self, group: &[LogRecord]) -> Result<Appended, Error>;

    /// Whether [`Append::checkpoint`] is wanted before the next group.
    fn checkpoint_due(&self) -> bool;

    /// Stores the state that all appended records led to, so that opening need not replay them; old records may be
    /// deleted afterwards, as retention says.
    ///
    /// # Errors
    /// As [`Append::append`].
    fn checkpoint(&mut self, watermarks: &Watermarks) -> Result<(), Error>;

    /// Where others append to the same log: takes note that an agent has these queues, all of which is durable that it
    /// was acknowledged, and returns what is known of the node's queues from all who append. `None` where there are no
    /// others: what is not known here is not there.
    fn known(&mut self, _node: &str, _queues: &[Queue], _now_unix_nanos: i64) -> Option<Vec<QueueState>> {
        None
    }

    /// Begins anew behind what is durable, after an error, or opens what could not be opened before. Returns the state
    /// that the durable records lead to.
    ///
    /// # Errors
    /// The disk still refuses.
    fn reopen(&mut self) -> Result<Watermarks, Error>;
}

/// Offsets `first .. next` are in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    pub first: u64,
    pub next: u64,
    /// Size on disk.
    pub bytes: u64,
}

/// The group took the offsets `first .. next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub first: u64,
    pub next: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// A stretch of the log: the offsets `first .. next`, all of which are either in an entry or skipped.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chunk {
    pub first: u64,
    /// Where the reader goes on.
    pub next: u64,
    pub entries: Vec<Entry>,
    pub skipped: Vec<Skipped>,
}

/// A record and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Of the record's first event.
    pub offset: u64,
    /// The events are slices of a larger buffer: copy what outlives the chunk.
    pub record: LogRecord,
}

/// Offsets that will never be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub first: u64,
    pub next: u64,
    pub reason: SkipReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// Retention deleted them before this reader came.
    Retention,
    /// Their bytes on disk are damaged.
    Damaged,
}
