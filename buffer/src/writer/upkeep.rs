//! What follows a commit or an acknowledgement: closing a segment that is full or drained, keeping to the cap, persisting
//! the state, and removing what is spent, in this order, so that a dropped range is durable before its segment is gone.

use std::{
    fs::{self, File},
    time::{Duration, Instant},
};

use super::{BACKOFF_FIRST, Writer};
use crate::{
    LossReasonCode,
    epoch::SegmentEntry,
    error::{self, Error},
    recover::recover,
    reserve,
};

const PERSIST_INTERVAL: Duration = Duration::from_secs(1);
/// A segment that is acknowledged as a whole is closed, so that it can be removed, from this size on.
const TIDY_BYTES: u64 = 4 * 1024 * 1024;

impl Writer {
    pub(super) fn maintain(&mut self, changed: bool) {
        // Without a disk what changed waits for it, which is what wakes the writer for the next attempt.
        if self.disk.is_err() && !(changed && self.opened(recover(&self.shared))) {
            return;
        }
        if self.retry_after.is_some_and(|at| at <= Instant::now()) {
            self.retry_after = None;
        }
        if self.is_open_segment_to_close() {
            self.close_segment();
        }
        self.make_room(0);
        let spent = self.shared.index().spent();
        let mut persisted = None;
        if changed || !spent.is_empty() {
            persisted = Some(self.persist());
        }
        // A dropped range must be durable before its segment goes. For acknowledged events that would be pedantic, and
        // would keep a full disk full.
        for (segment, acknowledged) in spent {
            if acknowledged || persisted == Some(true) {
                self.remove(&segment);
            }
        }
        if !self.shared.index().over().is_empty() {
            self.shared.queue.changed();
        }
    }

    /// What became of an attempt to open the directory; a failed one is made again. Each reason is said once. Returns
    /// whether it is open.
    pub(super) fn opened(&mut self, opened: Result<File, Error>) -> bool {
        match &opened {
            Ok(_) => {
                tracing::info!(dir = %self.shared.settings.dir.display(), "the buffer is open");
                self.backoff = BACKOFF_FIRST;
            }
            Err(error) => {
                if self.disk.as_ref().err().map(ToString::to_string) != Some(error.to_string()) {
                    tracing::warn!(
                        error = error as &dyn std::error::Error,
                        "the buffer cannot be opened: events are rejected and counted until it can"
                    );
                }
                self.persist_after = Some(self.back_off());
                self.shared.queue.changed();
            }
        }
        self.disk = opened;
        self.disk.is_ok()
    }

    fn is_open_segment_to_close(&self) -> bool {
        let Some((segment, _)) = &self.open else {
            return false;
        };
        let bytes = segment.bytes();
        let mut index = self.shared.index();
        let current = index.current();
        let drained = current.first_unacked >= current.next_seq;
        bytes >= self.shared.settings.segment_bytes || (drained && bytes >= TIDY_BYTES)
    }

    /// Drops the oldest segments until `more` bytes fit under the cap.
    pub(super) fn make_room(&mut self, more: u64) {
        let cap = self.shared.settings.max_bytes;
        loop {
            let mut index = self.shared.index();
            let spent: u64 = index.spent().iter().map(|(s, _)| s.bytes).sum();
            if (index.bytes() - spent.min(index.bytes())) + more <= cap {
                drop(index);
                break;
            }
            if let Some((epoch, oldest)) = index.oldest() {
                let lost = index.lose_segment(epoch, &oldest.dir, LossReasonCode::BUFFER_FULL).unwrap_or(0);
                drop(index);
                tracing::warn!(segment = %oldest.dir.display(), lost, "the buffer is over its cap: its oldest segment is dropped");
                self.shared.queue.changed();
                continue;
            }
            drop(index);
            if self.open.is_none() {
                break;
            }
            self.close_segment();
        }
        if more > 0 && self.shared.index().bytes() + more > cap {
            self.remove_spent();
        }
    }

    fn remove_spent(&mut self) {
        let spent = self.shared.index().spent();
        if !spent.is_empty() && self.persist() {
            for (segment, _) in &spent {
                self.remove(segment);
            }
        }
    }

    fn remove(&self, segment: &SegmentEntry) {
        self.shared.evict(&segment.dir);
        match fs::remove_dir_all(&segment.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(segment = %segment.dir.display(), %error, "failed to remove a segment");
                return;
            }
            _ => {}
        }
        self.shared.index().forget_segment(&segment.dir);
        reserve::hold(&self.shared.settings.dir);
        if let Some(epoch) = segment.dir.parent() {
            // Fails for as long as there are other segments in it, as it should.
            let _ = fs::remove_dir(epoch);
        }
    }

    fn persist(&mut self) -> bool {
        self.persist_after = Some(Instant::now() + PERSIST_INTERVAL);
        let stored = self.store(false);
        if let Err(error) = &stored {
            tracing::warn!(error = error as &dyn std::error::Error, "failed to persist the state of the buffer");
            self.shared.queue.changed();
        }
        self.begun |= stored.is_ok();
        stored.is_ok()
    }

    /// What is over is forgotten once the state is durable without it. An aggregator forgets what it is not told of any
    /// more, so that must not come back with the next start.
    pub(super) fn store(&self, clean: bool) -> Result<(), Error> {
        let index = self.shared.noted();
        let (state, over) = (index.save(clean), index.over());
        drop(index);
        let dir = &self.shared.settings.dir;
        let stored = reserve::retry(dir, reserve::is_full, || state.store(dir));
        stored.map_err(error::io("write the state in", dir))?;
        self.shared.index().forget(&over);
        Ok(())
    }
}
