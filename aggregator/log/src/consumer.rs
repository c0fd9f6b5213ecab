//! Readers whose place is kept for them.
//!
//! A [`Consumer`] hands out records and takes note of a place only when it is told that everything before it has had
//! its effect. After a crash, or when a partition moves to another replica, what was handed out and not committed is
//! handed out again: effects must be repeatable.

use galen_proto::v1::LogRecord;

use crate::{BoxFuture, Error, Skipped};

/// A reader of the log that goes on behind what had its effect.
pub trait Consumer: Send {
    /// Waits for records, about `max_events` events, or for a place alone, behind what need not be handed out. Dropping
    /// the future before it is ready changes nothing.
    ///
    /// # Errors
    /// The log refused to be read; the call may be repeated.
    fn next(&mut self, max_events: usize) -> BoxFuture<'_, Result<Delivery, Error>>;

    /// Takes note that all that was handed out up to `place` had its effect. Where another replica has taken over a
    /// partition meanwhile, its place there stands.
    ///
    /// # Errors
    /// It could not be noted; nothing is lost, more is handed out again after a restart.
    fn commit(&mut self, place: &Place) -> BoxFuture<'_, Result<(), Error>>;

    /// Events in the log that are not committed, as far as it is known.
    fn lag(&self) -> u64;
}

/// What was handed out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delivery {
    pub records: Vec<LogRecord>,
    pub skipped: Vec<Skipped>,
    /// Where the log goes on behind these, for [`Consumer::commit`].
    pub place: Place,
}

/// For each partition concerned, the offset behind what was handed out. The embedded log is one partition, 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place(pub Vec<(i32, u64)>);
