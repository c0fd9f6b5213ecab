//! What the tests of the log share.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use galen_log::{
    Append, Chunk, EmbeddedLog, Log, Reader, Watermarks,
    embedded::{Settings, Writer},
};
use galen_proto::v1::{Batch, LogRecord, Queue};

pub(crate) const NODE: &str = "web-1";
pub(crate) const EPOCH: u64 = 7;

/// A log with its state, as the aggregator holds it.
pub(crate) struct Opened {
    pub(crate) log: EmbeddedLog,
    pub(crate) writer: Writer,
    pub(crate) watermarks: Watermarks,
}

pub(crate) fn settings(dir: &Path) -> Settings {
    Settings { segment_bytes: 4 << 10, retention_bytes: 1 << 30, ..Settings::new(dir) }
}

pub(crate) fn open(settings: Settings) -> Opened {
    let (log, writer, watermarks) = EmbeddedLog::open(settings).unwrap();
    let mut opened = Opened { log, writer, watermarks };
    opened.hello();
    opened
}

impl Opened {
    pub(crate) fn hello(&mut self) {
        let queue = Queue { epoch: EPOCH, first_unacked: 1, next_seq: u64::MAX, account: None };
        self.watermarks.announce(NODE, &[queue], 1);
    }

    /// The records of a batch of events `first ..`, each of which says its number.
    pub(crate) fn admit(&mut self, first: u64, events: u64) -> Vec<LogRecord> {
        let batch = Batch {
            epoch: EPOCH,
            first_seq: first,
            events: (first..first + events).map(event).collect(),
            next_seq: first + events,
            ..Batch::default()
        };
        self.watermarks.admit(NODE, batch, 1).unwrap().records
    }

    pub(crate) fn append(&mut self, first: u64, events: u64) {
        let records = self.admit(first, events);
        self.writer.append(&records).unwrap();
        if self.writer.checkpoint_due() {
            self.writer.checkpoint(&self.watermarks).unwrap();
        }
    }

    pub(crate) fn upto(&self) -> u64 {
        self.watermarks.progress(NODE, EPOCH).unwrap().upto
    }
}

pub(crate) fn event(seq: u64) -> Bytes {
    format!("event {seq} {}", "x".repeat((seq % 97) as usize)).into()
}

/// Files of the segments, oldest first.
pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    paths.sort();
    paths
}

pub(crate) async fn next(reader: &mut dyn Reader) -> Chunk {
    tokio::time::timeout(Duration::from_secs(20), reader.next(1000)).await.expect("a chunk in time").unwrap()
}

/// Everything from `from` to the end: the events by offset, and the offsets that were skipped.
pub(crate) async fn read_all(log: &EmbeddedLog, from: u64) -> (BTreeMap<u64, (u64, Bytes)>, Vec<std::ops::Range<u64>>) {
    let mut reader = log.reader(from);
    let (mut events, mut skipped) = (BTreeMap::new(), Vec::new());
    let mut at = from;
    while at < log.bounds().next {
        let chunk = next(&mut *reader).await;
        assert_eq!(chunk.first, at);
        for entry in &chunk.entries {
            for (place, event) in entry.record.events.iter().enumerate() {
                let place = place as u64;
                let before = events.insert(entry.offset + place, (entry.record.first_seq + place, event.clone()));
                assert!(before.is_none(), "offset {} was read twice", entry.offset + place);
            }
        }
        skipped.extend(chunk.skipped.iter().map(|skipped| skipped.first..skipped.next));
        at = chunk.next;
    }
    for offset in from..at {
        let is_skipped = skipped.iter().any(|range| range.contains(&offset));
        assert!(is_skipped != events.contains_key(&offset), "offset {offset} is neither an event nor skipped, or both");
    }
    for (seq, bytes) in events.values() {
        assert_eq!(*bytes, event(*seq));
    }
    (events, skipped)
}

/// Copies the files of a log.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
