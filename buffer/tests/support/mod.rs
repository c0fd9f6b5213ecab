//! What the tests of the buffer share: small buffers, crash images, reading everything, and waiting on a condition.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use galen_buffer::{Buffer, EventPosition, Loss, LossReasonCode, Settings};

pub(crate) const MIB: u64 = 1024 * 1024;
/// Counts samples.
pub(crate) const RING_FULL: LossReasonCode = LossReasonCode(6);

pub(crate) fn settings(dir: impl Into<PathBuf>) -> Settings {
    Settings { max_bytes: 64 * MIB, segment_bytes: MIB, ..Settings::new(dir) }
}

/// Distinct for each `n`, of that many bytes.
pub(crate) fn event(n: u64, len: usize) -> Bytes {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = n.to_le_bytes().to_vec();
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len.max(8));
    Bytes::from(bytes)
}

/// Appends events and waits until all are durable.
pub(crate) fn append(buffer: &Buffer, events: impl IntoIterator<Item = Bytes>) -> Vec<(EventPosition, Bytes)> {
    let mut durable = Vec::new();
    let mut standing = Vec::new();
    let mut settle = |standing: &mut Vec<(galen_buffer::Receipt, Bytes)>| {
        for (receipt, event) in standing.drain(..) {
            durable.push((receipt.wait().unwrap(), event));
        }
    };
    for event in events {
        standing.push((buffer.append(event.clone()), event));
        if standing.len() == 256 || standing.iter().map(|(_, e)| e.len()).sum::<usize>() > 4 * MIB as usize {
            settle(&mut standing);
        }
    }
    settle(&mut standing);
    durable
}

/// Everything that can be read, by epoch and number. Fails if something comes twice.
pub(crate) fn read_all(buffer: &Buffer) -> BTreeMap<EventPosition, Bytes> {
    let mut all = BTreeMap::new();
    for queue in buffer.queues() {
        let mut from = queue.first_unacked;
        loop {
            let events = buffer.read(queue.epoch, from, 100, 256 * 1024).unwrap();
            let Some((last, _)) = events.last() else { break };
            let numbers: Vec<_> = events.iter().map(|(seq, _)| *seq).collect();
            assert!(numbers[0] >= from, "an event came twice");
            assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "a read has a gap: {numbers:?}");
            from = last + 1;
            let epoch = queue.epoch;
            all.extend(events.into_iter().map(|(seq, event)| (EventPosition { epoch, seq }, event)));
        }
    }
    all
}

pub(crate) fn lost(losses: &[Loss], seq: u64) -> Option<LossReasonCode> {
    losses.iter().find(|l| (l.first..=l.last).contains(&seq)).map(|l| l.reason)
}

/// Each number of each epoch that was not acknowledged is readable or declared lost, never both, never neither; and all
/// that came in has a number or is counted.
pub(crate) fn assert_complete(buffer: &Buffer) -> BTreeMap<EventPosition, Bytes> {
    let all = read_all(buffer);
    for queue in buffer.queues() {
        let losses = buffer.losses(queue.epoch);
        assert_eq!(queue.observed, queue.next_seq - 1 + queue.counted, "{queue:?}");
        for seq in queue.first_unacked..queue.next_seq {
            let readable = all.contains_key(&EventPosition { epoch: queue.epoch, seq });
            assert_ne!(readable, lost(&losses, seq).is_some(), "event {seq} of {queue:?} with losses {losses:?}");
        }
    }
    all
}

/// What a crash at this moment would leave, provided that nothing is being appended. Segments may be removed meanwhile:
/// the state is copied last, as it is written before a removal.
pub(crate) fn crash_image(of: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let Ok(entries) = fs::read_dir(of) else { return };
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
    names.sort_by_key(|name| name == "state");
    for name in names {
        let (from, target) = (of.join(&name), to.join(&name));
        if from.is_dir() {
            crash_image(&from, &target);
        } else if let Err(error) = fs::copy(from, target) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

/// The directories of all segments, oldest first within an epoch.
pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for epoch in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if epoch.file_name().len() == 16 {
            found.extend(fs::read_dir(epoch.path()).unwrap().map(|e| e.unwrap().path()));
        }
    }
    found.sort();
    found
}

/// Bytes on disk of a directory and all that is in it.
pub(crate) fn disk_usage(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    let bytes = |e: fs::DirEntry| match e.metadata().unwrap() {
        meta if meta.is_dir() => disk_usage(&e.path()),
        meta => meta.blocks() * 512,
    };
    entries.map(bytes).sum()
}

pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "not in a minute: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
