//! The writer: the only thread that writes events, and that removes segments.
//!
//! It takes all that is queued, writes it, syncs once, and only then resolves the receipts and moves the durable mark.
//! When the disk refuses, the events of that commit are rejected, their numbers are declared lost and never used again,
//! the segment is closed, and the next attempt begins a new one after a back-off; meanwhile the queue fills and rejects.
//! As long as the directory could not be opened at all, it rejects what comes and tries to open it after a back-off.
//! The state file is written before the first segment of a run, before a dropped segment is removed, and otherwise at
//! most once a second, and only if something changed.

mod upkeep;

use std::{
    fs::File,
    mem,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Durable, EventPosition, LossReasonCode, Rejected,
    epoch::SegmentEntry,
    error::{self, Error},
    mark::{End, EndMark},
    queue::Entry,
    recover::{bound_epochs, recover, remove_epoch},
    reserve,
    segment::{GROWTH_BYTES, Segment, footprint},
    shared::Shared,
};

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_CAP: Duration = Duration::from_secs(5);
/// Beyond its values sled writes their keys, its index and now and then a whole leaf again.
const AMPLIFICATION: u64 = 2;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// The lock on the directory, held for as long as the writer lives, or why it could not be opened yet.
    disk: Result<File, Error>,
    open: Option<(Arc<Segment>, EndMark)>,
    scratch: Vec<u8>,
    /// The state on disk says that this run is under way.
    begun: bool,
    backoff: Duration,
    retry_after: Option<Instant>,
    persist_after: Option<Instant>,
}

impl Writer {
    /// Fails if another process has the directory open; with any other error the writer goes on trying.
    pub(crate) fn open(shared: Arc<Shared>) -> Result<Self, Error> {
        let opened = match recover(&shared) {
            Err(locked @ Error::Locked { .. }) => return Err(locked),
            other => other,
        };
        let mut writer = Self {
            shared,
            disk: Err(Error::Closed),
            open: None,
            scratch: Vec::new(),
            begun: false,
            backoff: BACKOFF_FIRST,
            retry_after: None,
            persist_after: None,
        };
        writer.opened(opened);
        Ok(writer)
    }

    /// Returns when the queue was closed and is empty, with what became of the clean end.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        // The segments may take more than when they were written: opening one to read it adds to it.
        self.maintain(false);
        loop {
            let work = self.shared.queue.take(self.retry_after, self.persist_after);
            let done = work.closing && work.batch.is_empty();
            self.begin_anew();
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
        let _locked_until_stored = mem::replace(&mut self.disk, Err(Error::Closed))?;
        self.store(true)
    }

    /// Ends the epoch if its numbers were given elsewhere, too.
    fn begin_anew(&mut self) {
        let Some((epoch, taken)) = self.shared.index().taken.take() else { return };
        if self.shared.index().current().id != epoch {
            return;
        }
        self.close_segment();
        let mut index = self.shared.noted();
        let lost = index.succeed(&taken);
        let dropped = bound_epochs(&mut index);
        let current = index.current();
        let durable = Durable { epoch: current.id, next_seq: current.next_seq };
        drop(index);
        self.shared.durable.send_replace(durable);
        self.begun = false;
        dropped.iter().for_each(|epoch| remove_epoch(&self.shared.settings.dir, epoch));
        tracing::warn!(
            epoch = format_args!("{epoch:016x}"),
            lost,
            "the buffer is an older copy of itself, whose numbers were given before: it begins a new epoch"
        );
    }

    fn commit(&mut self, batch: Vec<Entry>) {
        if self.disk.is_err() {
            self.reject(batch);
            return;
        }
        let bytes: u64 = batch.iter().map(|e| e.event.len() as u64).sum();
        self.make_room(bytes * AMPLIFICATION + GROWTH_BYTES);
        let (segment, first) = match self.segment() {
            Ok(open) => open,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the buffer cannot write");
                self.reject(batch);
                self.retry_after = Some(self.back_off());
                return;
            }
        };
        let count = batch.len() as u64;
        self.mark(first, self.shared.noted().taken());
        let written = segment.commit(first, batch.iter().map(|e| &e.event), &mut self.scratch);
        self.scratch.shrink_to(64 * 1024);
        if let Err(error) = written {
            tracing::error!(segment = %segment.dir().display(), %error, "the buffer failed to write");
            drop(segment);
            self.poisoned(first, batch);
            return;
        }
        let next_seq = first + count;
        self.mark(next_seq, self.shared.noted().taken());
        self.backoff = BACKOFF_FIRST;
        let epoch = self.advance(next_seq, &segment, count);
        for (seq, entry) in (first..).zip(batch) {
            // Whoever dropped the receipt does not wait for it.
            let _ = entry.answer.send(Ok(EventPosition { epoch, seq }));
        }
    }

    /// Notes in the open segment that the numbers up to `durable` are written, and what has been taken in.
    fn mark(&self, durable: u64, taken: u64) {
        let Some((_, mark)) = &self.open else { return };
        if let Err(error) = mark.set(End { durable, taken }) {
            tracing::debug!(%error, "failed to set the end mark");
        }
    }

    /// Makes a commit visible. Returns the epoch.
    fn advance(&self, next_seq: u64, segment: &Segment, count: u64) -> u64 {
        let bytes = segment.footprint();
        let mut index = self.shared.index();
        index.appended += count;
        index.commits += 1;
        let current = index.current();
        current.next_seq = next_seq;
        if let Some(entry) = current.segments.back_mut() {
            entry.bytes = bytes;
        }
        let epoch = current.id;
        self.shared.queue.decided(count);
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
        let entry = SegmentEntry { first, bytes: segment.footprint(), dir, damaged: 0 };
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
        self.shared.queue.decided(batch.len() as u64);
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
        self.shared.queue.decided(batch.len() as u64);
        *index.rejected.entry(LossReasonCode::DISK_ERROR).or_default() += batch.len() as u64;
        index.disk_errors += 1;
        drop(index);
        self.close_segment();
        self.shared.durable.send_replace(Durable { epoch, next_seq });
        self.retry_after = Some(self.back_off());
        self.turn_away(batch);
    }

    /// When to try again.
    fn back_off(&mut self) -> Instant {
        let at = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_CAP);
        at
    }

    fn turn_away(&self, batch: Vec<Entry>) {
        self.shared.queue.changed();
        for entry in batch {
            // As for those that were written.
            let _ = entry.answer.send(Err(Rejected::Disk));
        }
    }

    fn close_segment(&mut self) {
        // What comes next is not for this segment's mark to tell.
        let end = self.shared.index().current().next_seq;
        self.mark(end, end);
        let Some((segment, _)) = self.open.take() else {
            return;
        };
        let bytes = footprint(segment.dir());
        let mut index = self.shared.index();
        index.open = None;
        let current = index.current();
        let (first_unacked, next_seq) = (current.first_unacked, current.next_seq);
        let mut partly_read = false;
        if let Some(entry) = current.segments.back_mut() {
            entry.bytes = bytes;
            partly_read = entry.first < first_unacked && first_unacked < next_seq;
        }
        drop(index);
        if partly_read {
            self.shared.keep_for_reading(segment);
        }
    }
}

pub(crate) fn segment_dir(buffer: &std::path::Path, epoch: u64, first: u64) -> PathBuf {
    buffer.join(format!("{epoch:016x}")).join(format!("{first:020}"))
}
