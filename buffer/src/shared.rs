//! What the handles, the readers and the writer share.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use crate::{Durable, LossReasonCode, Settings, index::Index, quarantine, queue, segment::Segment};

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) queue: queue::Queue,
    pub(crate) durable: watch::Sender<Durable>,
    index: Mutex<Index>,
    /// The one segment that is open only to be read.
    pub(crate) reading: Mutex<Option<Arc<Segment>>>,
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(settings: Settings) -> Self {
        let mut index = Index::new();
        let current = index.current();
        let durable = Durable { epoch: current.id, next_seq: current.next_seq };
        Self {
            queue: queue::Queue::new(&settings),
            settings,
            durable: watch::Sender::new(durable),
            index: Mutex::new(index),
            reading: Mutex::new(None),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index, with what was observed up to this moment.
    pub(crate) fn noted(&self) -> MutexGuard<'_, Index> {
        let mut index = self.index();
        index.note(self.queue.seen());
        index
    }

    /// Counts one that the queue has turned away.
    pub(crate) fn count(&self, count: impl FnOnce(&mut Index)) {
        let mut index = self.index();
        count(&mut index);
        self.queue.counted();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn set_closed(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Bytes that the quarantine may take of the cap.
    pub(crate) fn quarantine_cap(&self) -> u64 {
        self.settings.max_bytes / 4
    }

    /// Closes the segment that is open to be read, if it is this one and nobody reads just now.
    pub(crate) fn evict(&self, dir: &Path) {
        if let Ok(mut reading) = self.reading.try_lock() {
            reading.take_if(|s| s.dir() == dir);
        }
    }

    /// Keeps a segment that is no longer written open for a reader that is in the middle of it.
    pub(crate) fn keep_for_reading(&self, segment: Arc<Segment>) {
        if let Ok(mut reading) = self.reading.try_lock() {
            reading.get_or_insert(segment);
        }
    }

    /// Declares lost what is left of a segment and moves it aside.
    pub(crate) fn quarantine(&self, epoch: u64, first: u64, dir: &Path, reason: &str) {
        let lost = self.index().lose_segment(epoch, dir, LossReasonCode::BUFFER_CORRUPT).unwrap_or(0);
        let moved = quarantine::put_aside(&self.settings.dir, epoch, first, dir, reason, self.quarantine_cap());
        tracing::error!(segment = %dir.display(), reason, lost, "a segment of the buffer was put aside");
        let mut index = self.index();
        index.quarantined += 1;
        match moved {
            Ok(bytes) => index.quarantine_bytes = bytes,
            Err(error) => tracing::warn!(segment = %dir.display(), %error, "failed to move the segment"),
        }
        index.forget_segment(dir);
        drop(index);
        self.queue.changed();
    }
}
