//! The one writer: a group of records is one write and one sync.
//!
//! After an error nothing is known of what the disk holds behind the last sync (a failed sync may drop pages and
//! succeed the next time), so the writer refuses everything until [`Append::reopen`] has cut the segment back to what
//! was durable and begun another one.

use std::{
    fs::{self, File},
    io::Write,
    sync::Arc,
    time::{Duration, SystemTime},
};

use galen_proto::v1::LogRecord;

use crate::{
    Append, Appended, Error, Watermarks,
    embedded::{Durable, Settings, Shared},
    frame, recovery,
    segment::{self, Segment},
    snapshot,
};

/// The group's buffer is given back when it has grown beyond this.
const KEPT_BUFFER: usize = 16 << 20;

/// Appends to the log.
#[derive(Debug)]
pub struct Writer {
    settings: Settings,
    shared: Arc<Shared>,
    /// `None` after an error.
    file: Option<File>,
    id: u64,
    bytes: u64,
    next: u64,
    begun: SystemTime,
    /// Retention stays behind it.
    oldest_snapshot: u64,
    buffer: Vec<u8>,
}

impl Writer {
    pub(crate) fn begin(
        settings: Settings,
        shared: Arc<Shared>,
        id: u64,
        next: u64,
        oldest_snapshot: u64,
    ) -> Result<Self, Error> {
        let mut writer = Self {
            settings,
            shared,
            file: None,
            id,
            bytes: segment::HEADER,
            next,
            begun: SystemTime::now(),
            oldest_snapshot,
            buffer: Vec::new(),
        };
        writer.begin_segment(id)?;
        Ok(writer)
    }

    fn begin_segment(&mut self, id: u64) -> Result<(), Error> {
        self.file = Some(segment::create(&self.settings.dir, id, self.next)?);
        self.id = id;
        self.bytes = segment::HEADER;
        self.begun = SystemTime::now();
        let mut segments = self.shared.segments.lock();
        if let Some(closed) = segments.last_mut()
            && closed.id == self.shared.durable.borrow().segment
        {
            closed.bytes = self.shared.durable.borrow().bytes;
            closed.written = self.begun;
        }
        segments.push(Segment { id, base: self.next, bytes: segment::HEADER, written: self.begun });
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        self.shared.durable.send_replace(Durable { segment: self.id, bytes: self.bytes, next: self.next });
    }

    fn write(&mut self, group: &[LogRecord]) -> Result<u64, Error> {
        let Some(file) = &mut self.file else { return Err(Error::Poisoned) };
        self.buffer.clear();
        let mut next = self.next;
        for record in group {
            frame::encode(record, next, &mut self.buffer)?;
            next += record.events.len() as u64;
        }
        let written = file
            .write_all(&self.buffer)
            .map_err(|error| ("write", error))
            .and_then(|()| file.sync_data().map_err(|error| ("sync", error)));
        if let Err((action, error)) = written {
            self.poison();
            return Err(Error::disk(action, segment::path(&self.settings.dir, self.id))(error));
        }
        Ok(next)
    }

    fn poison(&mut self) {
        self.file = None;
        self.shared.stats.lock().disk_errors += 1;
    }

    /// Deletes what is too old or too much, but for what the older snapshot needs.
    fn retain(&mut self) {
        while let Some(oldest) = self.outdated() {
            let path = segment::path(&self.settings.dir, oldest.id);
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, path = %path.display(), "failed to delete an outdated log segment");
                return;
            }
            self.shared.segments.lock().retain(|segment| segment.id != oldest.id);
            self.shared.forget_damage(oldest.id);
            self.shared.stats.lock().segments_deleted += 1;
        }
    }

    fn outdated(&self) -> Option<Segment> {
        let segments = self.shared.segments.lock();
        let oldest = segments.first().filter(|oldest| oldest.id < self.oldest_snapshot.min(self.id))?;
        let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let is_outdated = bytes > self.settings.retention_bytes || age(oldest.written) > self.settings.retention_age;
        is_outdated.then(|| oldest.clone())
    }

    fn checkpoint(&mut self, watermarks: &Watermarks) -> Result<(), Error> {
        if self.bytes > segment::HEADER {
            let id = self.id + 1;
            self.oldest_snapshot = snapshot::write(&self.settings.dir, id, self.next, &watermarks.snapshot())?;
            self.begin_segment(id)?;
        }
        self.retain();
        Ok(())
    }
}

impl Append for Writer {
    fn append(&mut self, group: &[LogRecord]) -> Result<Appended, Error> {
        let first = self.next;
        self.next = self.write(group).inspect_err(|_| self.file = None)?;
        let bytes = self.buffer.len() as u64;
        self.bytes += bytes;
        if self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = Vec::new();
        }
        self.publish();
        Ok(Appended { first, next: self.next, bytes })
    }

    fn checkpoint_due(&self) -> bool {
        // A segment that hardly grows is closed in time for its events not to outlive their age by much.
        let slow = self.bytes > segment::HEADER && age(self.begun) > self.settings.retention_age / 8;
        self.file.is_some() && (self.bytes >= self.settings.segment_bytes || slow || self.outdated().is_some())
    }

    fn checkpoint(&mut self, watermarks: &Watermarks) -> Result<(), Error> {
        if self.file.is_none() {
            return Err(Error::Poisoned);
        }
        Self::checkpoint(self, watermarks).inspect_err(|_| self.poison())
    }

    fn reopen(&mut self) -> Result<Watermarks, Error> {
        self.file = None;
        let path = segment::path(&self.settings.dir, self.id);
        let durable = *self.shared.durable.borrow();
        if durable.segment == self.id && path.exists() {
            File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(durable.bytes).and_then(|()| file.sync_all()))
                .map_err(Error::disk("truncate", &path))?;
        }
        let recovered = recovery::recover(&self.settings.dir, self.settings.limits)?;
        for (id, at) in recovered.damage {
            self.shared.report_damage(id, at);
        }
        *self.shared.segments.lock() = recovered.segments;
        self.begin_segment(recovered.id.max(self.id + 1))?;
        Ok(recovered.watermarks)
    }
}

fn age(since: SystemTime) -> Duration {
    since.elapsed().unwrap_or_default()
}
