//! A disk that cannot be used when the buffer starts, and can be later.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{fs, path::Path};

use bytes::Bytes;
use galen_buffer::{Buffer, Error, EventPosition, LossReasonCode, Rejected};
use galen_scratch::Tmpfs;
use support::{MIB, append, assert_complete, event, eventually, settings};

/// A buffer that has opened all the same, and has rejected and counted `n` events.
fn rejecting(dir: &Path, n: u64) -> Buffer {
    let buffer = Buffer::open(settings(dir)).unwrap();
    for i in 0..n {
        assert_eq!(buffer.append(event(i, 100)).wait(), Err(Rejected::Disk));
    }
    assert_eq!(counted(&buffer), n);
    assert_eq!(buffer.stats().rejected[&LossReasonCode::DISK_ERROR], n);
    buffer
}

fn counted(buffer: &Buffer) -> u64 {
    let counters = buffer.queues().into_iter().flat_map(|queue| buffer.counters(queue.epoch));
    counters.inspect(|counter| assert_eq!(counter.reason, LossReasonCode::DISK_ERROR)).map(|c| c.count).sum()
}

/// Appends until the disk takes an event, and some more. Returns what it took, and how many it refused before.
fn once_it_works(buffer: &Buffer) -> (Vec<(EventPosition, Bytes)>, u64) {
    let mut refused = 0;
    let mut first = None;
    eventually("the disk takes an event", || match buffer.append(event(refused, 500)).wait() {
        Ok(position) => {
            first = Some((position, event(refused, 500)));
            true
        }
        Err(Rejected::Disk) => {
            refused += 1;
            false
        }
        Err(other) => panic!("{other}"),
    });
    let mut durable: Vec<_> = first.into_iter().collect();
    durable.extend(append(buffer, (0..100).map(|n| event(n, 1000))));
    (durable, refused)
}

/// The fault is gone: the buffer works, holds each event that it took, and has counted each that it did not. What it has
/// counted, and what it holds, is still there after a restart.
fn recovers(buffer: Buffer, dir: &Path, rejected: u64, before: Vec<(EventPosition, Bytes)>) {
    let (durable, refused) = once_it_works(&buffer);
    let all = before.into_iter().chain(durable.clone()).collect();
    assert_eq!(assert_complete(&buffer), all);
    assert_eq!(counted(&buffer), rejected + refused);
    let (position, _) = durable.last().unwrap();
    let now = *buffer.durable().borrow();
    assert_eq!((now.epoch, now.next_seq), (position.epoch, position.seq + 1));
    buffer.close().unwrap();

    let buffer = Buffer::open(settings(dir)).unwrap();
    assert_eq!(buffer.queues().last().unwrap().epoch, position.epoch);
    assert_eq!(assert_complete(&buffer), all);
    assert_eq!(counted(&buffer), rejected + refused);
    for queue in buffer.queues() {
        buffer.ack(queue.epoch, u64::MAX);
        buffer.settle_counters(queue.epoch, &buffer.counters(queue.epoch));
    }
    eventually("all is settled", || buffer.queues().len() == 1 && buffer.stats().events_unacked == 0);
}

#[test]
fn a_file_in_place_of_a_directory() {
    let base = tempfile::tempdir().unwrap();
    let (file, dir) = (base.path().join("data"), base.path().join("data/buffer"));
    fs::write(&file, "in the way").unwrap();
    let buffer = rejecting(&dir, 7);
    let mut durable = buffer.durable();
    durable.mark_unchanged();
    fs::remove_file(&file).unwrap();
    eventually("a new epoch is told", || durable.has_changed().unwrap());
    recovers(buffer, &dir, 7, Vec::new());
}

#[test]
fn a_disk_without_room_for_a_directory() {
    let Some(disk) = Tmpfs::with("size=16m,nr_inodes=64") else { return };
    let mut others = 0;
    while fs::write(disk.path().join(format!("other-{others}")), "").is_ok() {
        others += 1;
    }
    let dir = disk.path().join("buffer");
    let buffer = rejecting(&dir, 3);
    assert!(!dir.exists(), "the disk had room");
    (0..others).for_each(|n| fs::remove_file(disk.path().join(format!("other-{n}"))).unwrap());
    recovers(buffer, &dir, 3, Vec::new());
}

#[test]
fn a_full_disk() {
    let Some(disk) = Tmpfs::mount(16 * MIB) else { return };
    let (dir, other) = (disk.path().join("buffer"), disk.path().join("other"));
    let written = fs::write(&other, vec![1; 17 * MIB as usize]);
    assert!(written.is_err(), "the disk is not full");
    let buffer = rejecting(&dir, 2);
    fs::remove_file(&other).unwrap();
    recovers(buffer, &dir, 2, Vec::new());
}

#[test]
fn a_read_only_disk_that_holds_a_backlog() {
    let Some(disk) = Tmpfs::mount(16 * MIB) else { return };
    let dir = disk.path().join("buffer");
    let buffer = Buffer::open(settings(&dir)).unwrap();
    let before = append(&buffer, (0..300).map(|n| event(n, 2000)));
    buffer.close().unwrap();

    disk.read_only(true);
    let buffer = rejecting(&dir, 1);
    assert!(matches!(buffer.close(), Err(Error::Io { .. })), "nothing was stored");
    let buffer = rejecting(&dir, 5);
    assert_eq!(buffer.queues().len(), 1, "what the disk holds is not known yet");
    disk.read_only(false);
    recovers(buffer, &dir, 5, before.clone());
}
