//! The writer: the only thread that writes events, and that removes segments.
//!
//! It takes all that is queued, writes it, syncs once, and only then resolves the receipts and moves the durable mark.
//! When the disk refuses, the events of that commit are rejected, their numbers are declared lost and never used again,
//! the segment is closed, and the next attempt begins a new one after a back-off; meanwhile the queue fills and rejects.
//! The state file is written before the first segment of a run, before a dropped segment is removed, and otherwise at
//! most once in [`PERSIST_INTERVAL`], and only if something changed.

use std::{
    fs::{self, File},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Durable, EventPosition, LossReasonCode, Rejected,
    epoch::SegmentEntry,
    error::{self, Error},
    mark::EndMark,
    queue::Entry,
    reserve,
    segment::{Segment, disk_usage},
    shared::Shared,
};

const PERSIST_INTERVAL: Duration = Duration::from_secs(1);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_CAP: Duration = Duration::from_secs(5);
/// Beyond its values sled writes their keys, its index and now and then a whole leaf again.
const AMPLIFICATION: u64 = 2;
/// sled's file grows by this.
const GROWTH_BYTES: u64 = 512 * 1024;
/// A segment that is acknowledged as a whole is closed, so that it can be removed, from this size on.
const TIDY_BYTES: u64 = 4 * 1024 * 1024;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// Held for as long as the writer lives.
    _lock: File,
    open: Option<(Arc<Segment>, EndMark)>,
    scratch: Vec<u8>,
    /// The state on disk says that this run is under way.
    begun: bool,
    backoff: Duration,
    retry_after: Option<Instant>,
    persist_after: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, lock: File) -> Self {
        Self {
            shared,
            _lock: lock,
            open: None,
            scratch: Vec::new(),
            begun: false,
            backoff: BACKOFF_FIRST,
            retry_after: None,
            persist_after: None,
        }
    }

    /// Returns when the queue was closed and is empty, with what became of the clean end.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        // The segments may take more than when they were written: opening one to read it adds to it.
        self.maintain(false);
        loop {
            let work = self.shared.queue.take(self.retry_after, self.persist_after);
            let done = work.closing && work.batch.is_empty();
            if !work.batch.is_empty() {
                self.commit(work.batch);
            }
            if done {
                return self.end();
            }
            self.maintain(work.changed);
        }
    }

    fn end(mut self) -> Result<(), Error> {
        self.close_segment();
        self.maintain(false);
        self.shared.set_closed();
        let reading = self.shared.reading.lock().map(|mut reading| reading.take());
        drop(reading);
        self.store(true)
    }

    fn commit(&mut self, batch: Vec<Entry>) {
        let bytes: u64 = batch.iter().map(|e| e.event.len() as u64).sum();
        self.make_room(bytes * AMPLIFICATION + GROWTH_BYTES);
        let (segment, first) = match self.segment() {
            Ok(open) => open,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the buffer cannot write");
                self.reject(batch);
                return;
            }
        };
        let count = batch.len() as u64;
        let written = segment.commit(first, batch.iter().map(|e| &e.event), &mut self.scratch);
        self.scratch.shrink_to(64 * 1024);
        if let Err(error) = written {
            tracing::error!(segment = %segment.dir().display(), %error, "the buffer failed to write");
            drop(segment);
            self.poisoned(first, batch);
            return;
        }
        let next_seq = first + count;
        if let Some((_, mark)) = &self.open
            && let Err(error) = mark.set(next_seq)
        {
            tracing::debug!(%error, "failed to set the end mark");
        }
        self.backoff = BACKOFF_FIRST;
        let epoch = self.advance(next_seq, &segment, count);
        for (seq, entry) in (first..).zip(batch) {
            // Whoever dropped the receipt does not wait for it.
            let _ = entry.answer.send(Ok(EventPosition { epoch, seq }));
        }
    }

    /// Makes a commit visible. Returns the epoch.
    fn advance(&self, next_seq: u64, segment: &Segment, count: u64) -> u64 {
        let bytes = segment.bytes();
        let mut index = self.shared.index();
        index.appended += count;
        index.commits += 1;
        let current = index.current();
        current.next_seq = next_seq;
        if let Some(entry) = current.segments.back_mut() {
            entry.bytes = bytes;
        }
        let epoch = current.id;
        self.shared.durable.send_replace(Durable { epoch, next_seq });
        epoch
    }

    /// The open segment, or a new one, and the number of the next event.
    fn segment(&mut self) -> Result<(Arc<Segment>, u64), Error> {
        if !self.begun {
            self.store(false)?;
            self.begun = true;
        }
        let (epoch, first) = {
            let mut index = self.shared.index();
            let current = index.current();
            (current.id, current.next_seq)
        };
        if let Some((segment, _)) = &self.open {
            return Ok((Arc::clone(segment), first));
        }
        let dir = segment_dir(&self.shared.settings.dir, epoch, first);
        let failed = |source| Error::Segment { path: dir.clone(), source };
        let segment = Arc::new(Segment::create(&dir).map_err(failed)?);
        reserve::hold(&self.shared.settings.dir);
        let mark = EndMark::create(&dir).map_err(error::io("create the end mark in", &dir))?;
        let mut index = self.shared.index();
        let entry = SegmentEntry { first, bytes: segment.bytes(), dir, damaged: 0 };
        index.current().segments.push_back(entry);
        index.open = Some(Arc::clone(&segment));
        drop(index);
        self.open = Some((Arc::clone(&segment), mark));
        Ok((segment, first))
    }

    /// No number was given: the events are counted.
    fn reject(&mut self, batch: Vec<Entry>) {
        let mut index = self.shared.index();
        index.reject(LossReasonCode::DISK_ERROR, batch.len() as u64);
        index.disk_errors += 1;
        drop(index);
        self.turn_away(batch);
    }

    /// The numbers may be on the disk or not: they are lost, and the segment ends before them.
    fn poisoned(&mut self, first: u64, batch: Vec<Entry>) {
        let next_seq = first + batch.len() as u64;
        let mut index = self.shared.index();
        let epoch = index.current().id;
        let declared = index.declare(epoch, first, next_seq - 1, LossReasonCode::DISK_ERROR);
        debug_assert!(declared.is_ok(), "the current epoch is in the index");
        index.current().next_seq = next_seq;
        *index.rejected.entry(LossReasonCode::DISK_ERROR).or_default() += batch.len() as u64;
        index.disk_errors += 1;
        drop(index);
        self.close_segment();
        self.shared.durable.send_replace(Durable { epoch, next_seq });
        self.turn_away(batch);
    }

    fn turn_away(&mut self, batch: Vec<Entry>) {
        self.retry_after = Some(Instant::now() + self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF_CAP);
        self.shared.queue.changed();
        for entry in batch {
            // As for those that were written.
            let _ = entry.answer.send(Err(Rejected::Disk));
        }
    }

    fn close_segment(&mut self) {
        let Some((segment, _)) = self.open.take() else {
            return;
        };
        let bytes = disk_usage(segment.dir());
        let mut index = self.shared.index();
        index.open = None;
        if let Some(entry) = index.current().segments.back_mut() {
            entry.bytes = bytes;
        }
        let partly_read = index.current().segments.len() == 1;
        drop(index);
        if partly_read {
            self.shared.keep_for_reading(segment);
        }
    }

    /// What follows a commit or an acknowledgement: closing a full segment, the cap, removing what is spent.
    fn maintain(&mut self, changed: bool) {
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
        if self.shared.index().forget_done() {
            self.shared.queue.changed();
        }
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
    fn make_room(&mut self, more: u64) {
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

    fn store(&self, clean: bool) -> Result<(), Error> {
        let state = self.shared.index().save(clean);
        let dir = &self.shared.settings.dir;
        let stored = reserve::retry(dir, reserve::is_full, || state.store(dir));
        stored.map_err(error::io("write the state in", dir))
    }
}

pub(crate) fn segment_dir(buffer: &std::path::Path, epoch: u64, first: u64) -> PathBuf {
    buffer.join(format!("{epoch:016x}")).join(format!("{first:020}"))
}
