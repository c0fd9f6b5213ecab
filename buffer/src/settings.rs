//! What a buffer may use: disk, memory, and the size of one event.
//!
//! The values are taken as given, except that a segment is at most a quarter of the cap on disk, so that dropping the
//! oldest segment never empties the buffer, and that nothing may be zero.

use std::path::PathBuf;

const MIB: u64 = 1024 * 1024;

/// Smallest segment. sled writes in blocks of 512 KiB, so that anything less would be mostly padding.
const MIN_SEGMENT_BYTES: u64 = MIB;
/// Share of the cap that one segment may have.
const MIN_SEGMENTS: u64 = 4;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of the buffer; created if it does not exist.
    pub dir: PathBuf,
    /// Cap on disk, in bytes as the file system counts them. Over it the oldest segment is dropped. A reserve of 1 MiB
    /// for a full disk comes on top.
    pub max_bytes: u64,
    /// Size on disk at which a segment is closed and the next one begun.
    pub segment_bytes: u64,
    /// Bound of the queue in front of the disk, in bytes of events.
    pub queue_bytes: usize,
    /// Bound of the queue in front of the disk, in events.
    pub queue_events: usize,
    /// Largest event that is taken, in bytes.
    pub max_event_bytes: usize,
}

impl Settings {
    /// The defaults: 1 GiB on disk in segments of 16 MiB, 8 MiB or 8,192 events in memory, events of up to 4 MiB.
    ///
    /// The size of a segment decides on memory: sled's cache forgets nothing before it was asked some 16,000 times, so
    /// that reading or writing a segment ends with most of it in memory, until it is closed.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            max_bytes: 1024 * MIB,
            segment_bytes: 16 * MIB,
            queue_bytes: 8 * MIB as usize,
            queue_events: 8192,
            max_event_bytes: 4 * MIB as usize,
        }
    }

    pub(crate) fn bounded(mut self) -> Self {
        self.max_bytes = self.max_bytes.max(MIN_SEGMENTS * MIN_SEGMENT_BYTES);
        self.segment_bytes = self.segment_bytes.clamp(MIN_SEGMENT_BYTES, self.max_bytes / MIN_SEGMENTS);
        self.queue_events = self.queue_events.max(1);
        self.queue_bytes = self.queue_bytes.max(1);
        self
    }
}
