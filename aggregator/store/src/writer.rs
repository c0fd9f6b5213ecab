//! Puts the events of the log into the indexes, each exactly once.
//!
//! Documents and position become durable in one commit of an index. With several indexes in one round the others
//! commit first, each saying how far *it* is; only the last says that all are. A crash at any point leaves a position
//! from which reading goes on, and for every index the range of offsets that it has already: inside it an event is
//! skipped. So nothing is indexed twice, and nothing is left out.
//!
//! After an error the writer is of no use: drop it, which forgets what was not committed, and open another.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use galen_proto::v1::LogRecord;
use tracing::{info, warn};

use crate::{
    batch::Batch,
    catalog::Catalog,
    day::Day,
    document::Document,
    error::Error,
    partition::{Name, Partition, Sink},
    prepare::{Defect, Origin, prepare},
    room::Room,
};

/// Most indexes that are written at a time; each holds 21 MiB at most.
pub(crate) const MAX_SINKS: usize = 3;
/// Most indexes at all; the oldest is dropped beyond.
const MAX_PARTITIONS: usize = 512;
/// A part is full when it holds this fraction of the store's cap.
const PARTS: u64 = 8;

/// The only writer of a store.
pub struct Writer {
    catalog: Arc<Catalog>,
    generation: u32,
    next: u64,
    sinks: Vec<Sink>,
    room: Arc<Room>,
    /// What the indexes of a day had when this writer began. It adds at higher offsets only, so this never changes.
    covered: HashMap<Day, Vec<Range<u64>>>,
    #[cfg(test)]
    pub(crate) commits_before_fault: Option<u32>,
}

impl Writer {
    /// `log_next` is the offset that the log's next event will have. If the store is ahead of it, then the log is not
    /// the one that the store was filled from: what is there stays, and offsets begin anew.
    pub(crate) fn open(catalog: Arc<Catalog>, log_next: u64) -> Result<Self, Error> {
        if catalog.highest() > log_next {
            warn!(store = catalog.highest(), log = log_next, "the log is another one: its offsets begin anew");
            catalog.update(|position| {
                position.generation += 1;
                position.floor = 0;
                position.rebuild_to = None;
            })?;
        }
        let position = catalog.position();
        let next = if position.rebuild_to.is_some() { 0 } else { catalog.complete() };
        catalog.committed.send_replace(catalog.complete());
        let mut covered: HashMap<Day, Vec<Range<u64>>> = HashMap::new();
        for part in catalog.snapshot() {
            let mark = part.mark();
            if part.name.generation == position.generation && next < mark.next {
                covered.entry(part.name.day).or_default().push(mark.from..mark.next);
            }
        }
        Ok(Self {
            generation: position.generation,
            catalog,
            next,
            sinks: Vec::new(),
            room: Arc::default(),
            covered,
            #[cfg(test)]
            commits_before_fault: None,
        })
    }

    /// Offset to read on from.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Events that wait for a commit.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.sinks.iter().map(|sink| sink.pending).sum()
    }

    /// Adds the events of a record whose first event has `offset`. They can be found after a commit. Returns how many of
    /// them cannot be decoded.
    ///
    /// # Errors
    /// If the disk or an index fails. A wrong event is no error: it is kept with its defect.
    pub fn add(&mut self, offset: u64, record: &LogRecord) -> Result<u64, Error> {
        let epoch = format!("{:016x}", record.epoch);
        let bytes = record.events.iter().map(Bytes::len).sum();
        let mut batch = Batch::with_capacity(record.events.len(), bytes);
        let mut events = Vec::with_capacity(record.events.len());
        for (index, raw) in (0..).zip(&record.events) {
            let offset = offset + index;
            if offset < self.next {
                continue;
            }
            let origin = Origin {
                node: &record.node,
                epoch: &epoch,
                seq: record.first_seq + index,
                offset,
                received: record.received_unix_nanos,
            };
            events.push((offset, raw, prepare(origin, raw, &mut batch)));
        }
        batch.taken = Some(self.room.take(bytes + batch.bytes()));
        let batch = Arc::new(batch);
        let mut unreadable = 0;
        for (offset, raw, event) in events {
            if !self.covered(event.day, offset) {
                unreadable += u64::from(event.defect == Some(Defect::Unreadable));
                match event.defect {
                    Some(Defect::Unreadable) => &self.catalog.counters.unreadable,
                    Some(Defect::Data) => &self.catalog.counters.partly,
                    None => &self.catalog.counters.indexed,
                }
                .fetch_add(1, Ordering::Relaxed);
                let document =
                    Document { batch: Arc::clone(&batch), fields: event.fields, source: event.source, place: None };
                self.sink(event.day, offset)?.add(document, event.apart.then_some(&**raw))?;
            }
            self.next = offset + 1;
        }
        for sink in &mut self.sinks {
            sink.flush()?;
        }
        Ok(unreadable)
    }

    /// Goes on at `next`, because the log has nothing readable before it.
    pub fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Makes what was added durable and findable. Does nothing if there is nothing.
    ///
    /// # Errors
    /// If the disk or an index fails.
    pub fn commit(&mut self) -> Result<(), Error> {
        let complete = self.catalog.complete().min(self.next);
        let dirty = self.sinks.iter().filter(|sink| sink.pending > 0).count();
        let mut left = dirty;
        for index in 0..self.sinks.len() {
            if self.sinks[index].pending == 0 {
                continue;
            }
            self.fault()?;
            left -= 1;
            let complete = if left == 0 { self.next } else { complete };
            self.sinks[index].commit(self.next, complete)?;
        }
        if self.catalog.position().rebuild_to.is_some_and(|to| to <= self.next) {
            let next = self.next;
            self.catalog.update(|position| {
                position.rebuild_to = None;
                position.floor = position.floor.max(next);
            })?;
            info!(offset = next, "the log is indexed again up to where the store was");
        }
        let full = self.full();
        self.sinks.retain(|sink| sink.partition.bytes() < full);
        if dirty > 0 {
            self.catalog.committed.send_replace(self.catalog.complete().max(self.next));
        }
        Ok(())
    }

    /// Drops what is older or more than is to be kept. `now` in nanoseconds since 1970-01-01 UTC. Reads the indexes in
    /// full that failed a search.
    ///
    /// # Errors
    /// If the disk fails, or an index is damaged: it is aside then, and the next writer begins to build it again.
    pub fn retain(&mut self, now: i64) -> Result<(), Error> {
        for suspect in self.catalog.snapshot().into_iter().filter(|partition| partition.is_suspect()) {
            if let Err(error) = suspect.verify() {
                self.close(&suspect)?;
                self.catalog.put_aside(&suspect, &error)?;
                return Err(error);
            }
            suspect.clear();
        }
        let settings = &self.catalog.settings;
        let days = settings.retention.div_duration_f64(Duration::from_secs(86_400)).ceil() as i64;
        let (max_bytes, today) = (settings.max_bytes, Day::of(now));
        let mut partitions: Vec<_> = self.catalog.snapshot().into_iter().map(|p| (p.bytes(), p)).collect();
        let mut bytes: u64 = partitions.iter().map(|(bytes, _)| bytes).sum();
        partitions.reverse();
        while let Some((size, oldest)) = partitions.pop() {
            let old = oldest.name.day.until(today) > days;
            let over = !partitions.is_empty() && (bytes > max_bytes || partitions.len() >= MAX_PARTITIONS);
            if !old && !over {
                break;
            }
            self.close(&oldest)?;
            info!(index = %oldest.name, bytes = size, old, over, "dropped an index");
            self.catalog.drop_partition(&oldest)?;
            bytes -= size;
        }
        Ok(())
    }

    /// Commits, and notes that the store was left in good order.
    ///
    /// # Errors
    /// If the disk or an index fails.
    pub fn close_clean(mut self) -> Result<(), Error> {
        self.commit()?;
        self.sinks.clear();
        self.catalog.mark_clean()
    }

    fn covered(&self, day: Day, offset: u64) -> bool {
        self.covered.get(&day).is_some_and(|ranges| ranges.iter().any(|range| range.contains(&offset)))
    }

    /// Bytes at which a part is full.
    fn full(&self) -> u64 {
        self.catalog.settings.max_bytes / PARTS
    }

    fn parts(&self, day: Day) -> Vec<Arc<Partition>> {
        let of_day = |part: &Arc<Partition>| part.name.day == day && part.name.generation == self.generation;
        self.catalog.snapshot().into_iter().filter(of_day).collect()
    }

    /// The writer of the index that an event of this day goes to.
    fn sink(&mut self, day: Day, offset: u64) -> Result<&mut Sink, Error> {
        let open = self.sinks.iter().position(|sink| sink.partition.name.day == day);
        let index = match open {
            Some(index) => index,
            None => {
                if self.sinks.len() == MAX_SINKS {
                    self.commit()?;
                    self.sinks.remove(0);
                }
                let partition = self.part(day, offset)?;
                self.sinks.push(Sink::open(partition, offset)?);
                self.sinks.len() - 1
            }
        };
        Ok(&mut self.sinks[index])
    }

    /// The part of a day that takes the event at `offset`: the last that is not full and does not reach beyond it.
    fn part(&self, day: Day, offset: u64) -> Result<Arc<Partition>, Error> {
        let parts = self.parts(day);
        let full = self.full();
        let takes = |part: &&Arc<Partition>| part.mark().next <= offset && part.bytes() < full;
        if let Some(part) = parts.iter().rev().find(takes) {
            return Ok(Arc::clone(part));
        }
        let part = parts.last().map_or(0, |last| last.name.part + 1);
        self.catalog.create(Name { day, generation: self.generation, part })
    }

    /// Ends the writing of an index, so that it can be dropped.
    fn close(&mut self, partition: &Partition) -> Result<(), Error> {
        if self.sinks.iter().any(|sink| sink.partition.name == partition.name) {
            self.commit()?;
            self.sinks.retain(|sink| sink.partition.name != partition.name);
        }
        Ok(())
    }

    #[cfg(test)]
    fn fault(&mut self) -> Result<(), Error> {
        match &mut self.commits_before_fault {
            Some(0) => Err(Error::Injected),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "tests fail here")]
    fn fault(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
