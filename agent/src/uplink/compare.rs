//! Whether the aggregator has more of the buffer's queue than the buffer itself.
//!
//! Before anything of it is sent, the aggregator can have nothing of the queue that grows but what was given before the
//! buffer was opened. If it has later numbers, another instance gave them: the directory is an older copy of itself, as
//! after a restored backup. What was recorded under such numbers cannot be delivered, and what comes next would be taken
//! for repetitions, so the buffer begins a new queue.

use std::{iter::once, time::Duration};

use galen_buffer::{Buffer, Queue};
use galen_proto::v1::Progress;
use tokio::time::timeout;

use super::error::Error;

/// A disk that hangs may keep the buffer from it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Compares `newest`, as in the hello, with the progress of the welcome.
///
/// # Errors
/// The queue is an old copy: it has ended, or could not be ended.
pub(super) async fn compare(buffer: &Buffer, newest: &Queue, progress: &[Progress]) -> Result<(), Error> {
    let Some(from) = newest.uncompared else { return Ok(()) };
    let epoch = newest.epoch;
    let taken: Vec<_> = progress
        .iter()
        .filter(|progress| progress.epoch == epoch)
        .flat_map(|progress| once(1..=progress.upto).chain(progress.settled.iter().map(|s| s.first..=s.last)))
        .collect();
    if taken.iter().all(|range| *range.end() < from) {
        buffer.compared(epoch);
        return Ok(());
    }
    let mut durable = buffer.durable();
    buffer.begin_anew(epoch, taken);
    match timeout(PATIENCE, durable.wait_for(|now| now.epoch != epoch)).await {
        Ok(Ok(_)) => Err(Error::NewQueue),
        Ok(Err(_)) => Err(Error::BufferClosed),
        Err(_) => Err(Error::OldCopy { epoch }),
    }
}
