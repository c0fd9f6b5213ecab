//! A reader of the embedded log: follows the segments with a cursor of its own.
//!
//! Files are read on the blocking pool. The cursor moves only when a chunk is handed over, so a future that is dropped,
//! or a read that fails, repeats. What retention deletes before a reader has come to its end is skipped, and said to be.

use std::{fs::File, io, sync::Arc};

use galen_proto::v1::LogRecord;
use prost::Message;
use tokio::sync::watch;

use crate::{
    BoxFuture, Chunk, Entry, Error, Reader, SkipReason, Skipped,
    embedded::{Durable, Shared},
    scan::{Found, Scanner},
    segment,
};

/// Size at which a chunk ends, whatever number of events was asked for.
const CHUNK_BYTES: u64 = 4 << 20;

/// Where a reader is.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    segment: u64,
    /// Position in the file.
    at: u64,
    /// Offset of the next event.
    next: u64,
    /// What it means if the segment begins beyond `next`.
    gap: SkipReason,
}

/// What a segment has for a reader.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    segment: u64,
    base: u64,
    /// Readable up to here.
    end: u64,
    grows: bool,
}

#[derive(Debug)]
pub(crate) struct SegmentReader {
    shared: Arc<Shared>,
    durable: watch::Receiver<Durable>,
    cursor: Cursor,
    /// At the cursor, while both are kept.
    open: Option<Scanner>,
}

impl SegmentReader {
    pub(crate) fn new(shared: Arc<Shared>, from: u64) -> Self {
        let durable = shared.durable.subscribe();
        let segment = {
            let segments = shared.segments.lock();
            let behind = segments.partition_point(|segment| segment.base <= from);
            segments.get(behind.saturating_sub(1)).map_or(0, |segment| segment.id)
        };
        let cursor = Cursor { segment, at: segment::HEADER, next: from, gap: SkipReason::Retention };
        Self { shared, durable, cursor, open: None }
    }

    async fn chunk(&mut self, max_events: usize) -> Result<Chunk, Error> {
        loop {
            self.durable.borrow_and_update();
            let (shared, cursor, scanner) = (Arc::clone(&self.shared), self.cursor, self.open.take());
            let read = tokio::task::spawn_blocking(move || read(&shared, cursor, scanner, max_events));
            let (chunk, cursor, scanner) = read.await.map_err(Error::Interrupted)??;
            self.cursor = cursor;
            self.open = scanner;
            if !chunk.entries.is_empty() || !chunk.skipped.is_empty() {
                return Ok(chunk);
            }
            // The sender lives in `shared`, so this ends only with a change.
            let _ = self.durable.changed().await;
        }
    }
}

impl Reader for SegmentReader {
    fn next(&mut self, max_events: usize) -> BoxFuture<'_, Result<Chunk, Error>> {
        Box::pin(self.chunk(max_events))
    }
}

impl Shared {
    fn is_gone(&self, id: u64) -> bool {
        self.segments.lock().iter().all(|segment| segment.id != id)
    }

    /// The segment with this id, or the first one behind it.
    fn stretch(&self, id: u64) -> Option<Stretch> {
        let segments = self.segments.lock();
        let durable = *self.durable.borrow();
        let found = segments.get(segments.partition_point(|segment| segment.id < id))?;
        let grows = found.id == durable.segment;
        let end = if grows { durable.bytes } else { found.bytes };
        Some(Stretch { segment: found.id, base: found.base, end, grows })
    }
}

/// Reads from the cursor on until there is enough, or no more.
fn read(
    shared: &Shared,
    mut cursor: Cursor,
    mut scanner: Option<Scanner>,
    max_events: usize,
) -> Result<(Chunk, Cursor, Option<Scanner>), Error> {
    let mut chunk = Chunk { first: cursor.next, next: cursor.next, ..Chunk::default() };
    let (mut events, mut bytes) = (0, 0);
    'segments: while let Some(stretch) = shared.stretch(cursor.segment) {
        if stretch.segment != cursor.segment {
            // What was open is gone from the list; whoever has read all of it goes on, others have missed the rest.
            scanner = None;
            cursor = Cursor { segment: stretch.segment, at: segment::HEADER, gap: SkipReason::Retention, ..cursor };
        }
        if cursor.at == segment::HEADER {
            skip(&mut chunk, &mut cursor, stretch.base);
        }
        cursor.gap = SkipReason::Damaged;
        let path = segment::path(&shared.dir, stretch.segment);
        let mut open = match scanner.take() {
            Some(open) => open,
            None => match File::open(&path) {
                Ok(file) => Scanner::new(file, cursor.at),
                // Retention was faster: the list says so by the next turn.
                Err(error) if error.kind() == io::ErrorKind::NotFound && shared.is_gone(stretch.segment) => continue,
                Err(error) => return Err(Error::disk("open", path)(error)),
            },
        };
        while events < max_events && bytes < CHUNK_BYTES {
            match open.next(stretch.end).map_err(Error::disk("read", &path))? {
                Found::Frame { header, payload } => {
                    let length = payload.len() as u64;
                    let from = open.position() - length;
                    cursor.at = open.position();
                    // A frame of losses only stands at the offset behind it, and belongs to whoever is there.
                    if header.next() < cursor.next || (header.next() == cursor.next && header.events > 0) {
                        continue;
                    }
                    match LogRecord::decode(payload) {
                        Ok(record) => {
                            skip(&mut chunk, &mut cursor, header.base);
                            bytes += length;
                            events += record.events.len();
                            chunk.entries.push(entry(record, header.base, cursor.next));
                        }
                        Err(_) => {
                            shared.report_damage(stretch.segment, from);
                            skip(&mut chunk, &mut cursor, header.next());
                        }
                    }
                    cursor.next = header.next();
                    chunk.next = cursor.next;
                }
                Found::Damage { at, header } => {
                    shared.report_damage(stretch.segment, at);
                    cursor.at = open.position();
                    skip(&mut chunk, &mut cursor, header.map_or(0, |header| header.next()));
                }
                Found::End { at } if stretch.grows => {
                    if at < stretch.end {
                        // Durable and unreadable to the end: only later frames can tell how far it goes.
                        shared.report_damage(stretch.segment, at);
                    }
                    scanner = Some(open);
                    break 'segments;
                }
                Found::End { at } => {
                    if at < stretch.end {
                        shared.report_damage(stretch.segment, at);
                    }
                    cursor.segment = stretch.segment + 1;
                    cursor.at = segment::HEADER;
                    continue 'segments;
                }
            }
        }
        scanner = Some(open);
        break;
    }
    Ok((chunk, cursor, scanner))
}

/// Reports what lies between the cursor and `to`.
fn skip(chunk: &mut Chunk, cursor: &mut Cursor, to: u64) {
    if to > cursor.next {
        chunk.skipped.push(Skipped { first: cursor.next, next: to, reason: cursor.gap });
        cursor.next = to;
        chunk.next = to;
    }
}

/// The part of a record from the offset `from` on.
fn entry(mut record: LogRecord, base: u64, from: u64) -> Entry {
    let known = from.saturating_sub(base).min(record.events.len() as u64);
    record.events.drain(..known as usize);
    record.first_seq += known;
    Entry { offset: base + known, record }
}
