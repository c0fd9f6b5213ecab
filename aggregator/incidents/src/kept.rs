//! The table and its place in the log, which are one thing: what the table counts is what lies before the place.
//!
//! [`Kept::take`] passes over whatever lies before the place, so it may be handed the same records any number of times.
//! Reading records takes longer than counting them and needs no table: that is [`Seen`], so nobody waits for it.
//! [`Kept::encoded`] is both at one moment; once [`save`] has returned, a process that dies goes on from there, and
//! counts what came after it once more, from the log, and not twice.

use std::{ops::Range, path::Path};

use galen_log::Chunk;
use galen_proto::v1::Event;
use prost::Message;

use crate::{
    Error, Observation, snapshot,
    table::{Limits, Table},
};

/// A stretch of the log, read.
#[derive(Debug)]
pub struct Seen {
    /// By offset, in order; none where the bytes are no event.
    events: Vec<(u64, Option<Observation>)>,
    skipped: Vec<Range<u64>>,
    next: u64,
}

impl Seen {
    pub fn of(chunk: &Chunk) -> Self {
        let events = chunk.entries.iter().flat_map(|entry| {
            (0..).zip(&entry.record.events).map(|(index, event)| {
                let event = Event::decode(event.clone()).ok();
                (entry.offset + index, event.map(|event| Observation::of(&entry.record, index, event)))
            })
        });
        let skipped = chunk.skipped.iter().map(|skipped| skipped.first..skipped.next).collect();
        Self { events: events.collect(), skipped, next: chunk.next }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Kept {
    table: Table,
    next: u64,
}

impl Kept {
    /// From the file at `path`. If there is none, or it is damaged, all of the log is counted anew.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, Error> {
        let Some(bytes) = snapshot::read(path)? else { return Ok(Self::empty(limits)) };
        let kept = snapshot::decode(&bytes, limits).map(|(table, next)| Self { table, next });
        Ok(kept.unwrap_or_else(|| {
            tracing::warn!(path = %path.display(), "the file of incidents is damaged: they are counted anew");
            Self::empty(limits)
        }))
    }

    fn empty(limits: Limits) -> Self {
        Self { table: Table::new(limits), next: 0 }
    }

    /// Offset of the first event that is not counted.
    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Counts what is not counted yet.
    pub fn take(&mut self, seen: &Seen) {
        for skipped in &seen.skipped {
            self.table.totals.skipped += skipped.end.saturating_sub(skipped.start.max(self.next));
        }
        for (_, event) in seen.events.iter().filter(|(offset, _)| *offset >= self.next) {
            match event {
                Some(event) => self.table.join(event),
                None => self.table.totals.unreadable += 1,
            }
        }
        self.next = self.next.max(seen.next);
    }

    /// For [`save`].
    pub fn encoded(&self) -> Vec<u8> {
        snapshot::encode(&self.table, self.next)
    }
}

/// Replaces the file at `path`: after a crash it has the old content or the new.
///
/// # Errors
/// The disk refuses; the old content stands.
pub fn save(path: &Path, encoded: &[u8]) -> Result<(), Error> {
    snapshot::write(path, encoded)
}
