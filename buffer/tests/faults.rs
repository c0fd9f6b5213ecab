//! Damage and a disk that refuses, on real files and real file systems.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use galen_buffer::{Buffer, Error, LossReasonCode, Rejected, Settings};
use galen_scratch::{FailingDisk, Tmpfs};
use support::{MIB, append, assert_complete, crash_image, event, eventually, lost, segments, settings};

/// Three segments or so, and the directory as a crash leaves it.
fn crashed(events: u64) -> (tempfile::TempDir, Vec<(galen_buffer::EventPosition, bytes::Bytes)>) {
    let dir = tempfile::tempdir().unwrap();
    let image = tempfile::tempdir().unwrap();
    let buffer = Buffer::open(settings(dir.path())).unwrap();
    let durable = append(&buffer, (0..events).map(|n| event(n, 2000)));
    crash_image(dir.path(), image.path());
    (image, durable)
}

/// Whatever is left is byte for byte what was appended, the rest is declared corrupt, and the buffer works.
fn check_after_damage(dir: &Path, durable: &[(galen_buffer::EventPosition, bytes::Bytes)]) -> usize {
    let buffer = Buffer::open(settings(dir)).unwrap();
    let all = assert_complete(&buffer);
    let epoch = durable[0].0.epoch;
    let losses = buffer.losses(epoch);
    let mut missing = 0;
    for (position, event) in durable {
        match all.get(position) {
            Some(read) => assert_eq!(read, event),
            None => {
                assert_eq!(lost(&losses, position.seq), Some(LossReasonCode::BUFFER_CORRUPT), "{position:?}");
                missing += 1;
            }
        }
    }
    let more = append(&buffer, [event(77, 77)]);
    assert_ne!(more[0].0.epoch, epoch, "an unclean end begins a new epoch");
    missing
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0xff], at).unwrap();
}

#[test]
fn flipped_bytes_anywhere_lose_only_what_is_declared() {
    for at in [0, 9, 4_000, 100_000, 300_001, 524_288, 524_300, 700_000, 1_000_000] {
        for which in [0, 1] {
            let (dir, durable) = crashed(1200);
            let all = segments(dir.path());
            let db = all[if which == 0 { 0 } else { all.len() - 1 }].join("db");
            let len = fs::metadata(&db).unwrap().len();
            flip(&db, at % len);
            let missing = check_after_damage(dir.path(), &durable);
            eprintln!(
                "flipped byte {at} of segment {which} of {}: {missing} of {} events lost",
                all.len(),
                durable.len()
            );
        }
    }
}

#[test]
fn a_truncated_segment_is_declared_and_the_others_are_kept() {
    for len in [0, 10, 4096, 300_000, 524_288, 600_000] {
        for which in [0, 1] {
            let (dir, durable) = crashed(1200);
            let all = segments(dir.path());
            let db = all[if which == 0 { 0 } else { all.len() - 1 }].join("db");
            File::options().write(true).open(&db).unwrap().set_len(len).unwrap();
            let missing = check_after_damage(dir.path(), &durable);
            eprintln!("segment {which} of {} cut to {len}: {missing} of {} events lost", all.len(), durable.len());
            assert!(missing > 0 && missing < durable.len());
        }
    }
}

#[test]
fn a_segment_that_is_no_database_is_put_aside_with_its_reason() {
    let (dir, durable) = crashed(1200);
    let first = segments(dir.path())[0].clone();
    fs::remove_dir_all(&first).unwrap();
    fs::create_dir(&first).unwrap();
    fs::create_dir(first.join("db")).unwrap();
    assert!(check_after_damage(dir.path(), &durable) > 100);
    let aside: Vec<PathBuf> = fs::read_dir(dir.path().join("quarantine")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(aside.len(), 1);
    assert!(!fs::read_to_string(aside[0].join("reason.txt")).unwrap().trim().is_empty());
}

#[test]
fn a_removed_segment_is_declared() {
    for which in [0, 1] {
        let (dir, durable) = crashed(1200);
        fs::remove_dir_all(&segments(dir.path())[which]).unwrap();
        assert!(check_after_damage(dir.path(), &durable) > 0);
    }
}

#[test]
fn without_its_state_file_a_buffer_offers_what_its_segments_hold() {
    let (dir, durable) = crashed(1200);
    flip(&dir.path().join("state"), 40);
    assert_eq!(check_after_damage(dir.path(), &durable), 0);
    fs::remove_file(dir.path().join("state")).unwrap();
    assert_eq!(check_after_damage(dir.path(), &durable), 0);
}

#[test]
fn epochs_are_bounded_and_the_oldest_is_counted_in_the_newest() {
    let base = tempfile::tempdir().unwrap();
    let path = |round: u64| base.path().join(round.to_string());
    for round in 0..70 {
        let buffer = Buffer::open(settings(path(round))).unwrap();
        append(&buffer, [event(round, 10)]);
        crash_image(&path(round), &path(round + 1));
        drop(buffer);
        fs::remove_dir_all(path(round)).unwrap();
    }
    let buffer = Buffer::open(settings(path(70))).unwrap();
    assert_eq!(buffer.queues().len(), 64);
    let kept = assert_complete(&buffer).len() as u64;
    let counted: u64 = buffer.queues().iter().flat_map(|q| buffer.counters(q.epoch)).map(|c| c.count).sum();
    assert_eq!(kept + counted, 70);
}

#[test]
fn a_full_disk_rejects_and_the_buffer_goes_on_once_there_is_room() {
    let Some(disk) = Tmpfs::mount(16 * MIB) else { return };
    let dir = disk.path().join("buffer");
    let other = disk.path().join("other");
    let buffer = Buffer::open(Settings { max_bytes: 64 * MIB, ..settings(&dir) }).unwrap();
    let mut durable = append(&buffer, (0..1000).map(|n| event(n, 1000)));
    fs::write(&other, vec![1; 10 * MIB as usize]).unwrap();

    let mut rejected = 0;
    let mut n = 1000;
    while rejected < 5 {
        let event = event(n, 5000);
        n += 1;
        match buffer.append(event.clone()).wait() {
            Ok(position) => durable.push((position, event)),
            Err(Rejected::Disk) => rejected += 1,
            Err(other) => panic!("{other}"),
        }
    }
    fs::remove_file(&other).unwrap();
    let mut tries = 0;
    let position = loop {
        match buffer.append(event(n, 5000)).wait() {
            Ok(position) => break position,
            Err(Rejected::Disk) if tries < 20 => {
                rejected += 1;
                tries += 1;
            }
            Err(other) => panic!("{other}"),
        }
    };
    durable.push((position, event(n, 5000)));
    durable.extend(append(&buffer, (n + 1..n + 200).map(|n| event(n, 1000))));

    let epoch = position.epoch;
    assert_eq!(assert_complete(&buffer), durable.iter().cloned().collect());
    let ranges: u64 = buffer.losses(epoch).iter().map(|l| l.last + 1 - l.first).sum();
    let counters: u64 = buffer.counters(epoch).iter().map(|c| c.count).sum();
    assert!(buffer.losses(epoch).iter().all(|l| l.reason == LossReasonCode::DISK_ERROR));
    assert_eq!(ranges + counters, rejected, "each rejected event is counted once");

    buffer.ack(epoch, u64::MAX);
    eventually("a drained buffer is small", || buffer.stats().bytes_on_disk < 4 * MIB);
    drop(buffer);
}

#[test]
fn a_disk_that_fails_costs_what_is_declared_and_the_buffer_goes_on_once_it_works() {
    let Some(mut disk) = FailingDisk::mount() else { return };
    let buffer = Buffer::open(Settings { max_bytes: 64 * MIB, ..settings(disk.path().join("buffer")) }).unwrap();
    let mut durable = append(&buffer, (0..1000).map(|n| event(n, 1000)));
    disk.fail();
    let mut refused = 0;
    for n in 1000..1005 {
        assert_eq!(buffer.append(event(n, 5000)).wait(), Err(Rejected::Disk));
        refused += 1;
    }
    assert!(buffer.stats().disk_errors > 0);
    disk.heal();
    let mut n = 1005;
    eventually("the buffer takes events again", || {
        let event = event(n, 5000);
        let answer = buffer.append(event.clone()).wait();
        n += 1;
        match answer {
            Ok(position) => durable.push((position, event)),
            Err(error) => {
                assert_eq!(error, Rejected::Disk);
                refused += 1;
            }
        }
        durable.len() > 1000
    });
    durable.extend(append(&buffer, (n..n + 200).map(|n| event(n, 1000))));

    assert_eq!(assert_complete(&buffer), durable.into_iter().collect());
    let losses: u64 =
        buffer.queues().iter().flat_map(|queue| buffer.losses(queue.epoch)).map(|l| l.last + 1 - l.first).sum();
    let counted: u64 = buffer.queues().iter().flat_map(|queue| buffer.counters(queue.epoch)).map(|c| c.count).sum();
    assert_eq!(losses + counted, refused, "each refused event is counted once");
}

#[test]
fn a_segment_that_the_disk_cannot_read_is_declared() {
    let Some(mut disk) = FailingDisk::mount() else { return };
    let dir = disk.path().join("buffer");
    let buffer = Buffer::open(settings(&dir)).unwrap();
    let durable = append(&buffer, (0..1200).map(|n| event(n, 2000)));
    buffer.close().unwrap();
    let buffer = Buffer::open(settings(&dir)).unwrap();
    disk.fail();
    disk.forget_cached();
    let all = assert_complete(&buffer);
    assert!(all.len() < durable.len(), "nothing was read from the disk");
    disk.heal();
}

#[test]
fn a_backlog_drains_from_a_full_disk() {
    let Some(disk) = Tmpfs::mount(16 * MIB) else { return };
    let dir = disk.path().join("buffer");
    let filler = disk.path().join("other");
    let fill = || {
        let mut file = File::options().create(true).append(true).open(&filler).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    };
    let buffer = Buffer::open(settings(&dir)).unwrap();
    let durable = append(&buffer, (0..2000).map(|n| event(n, 1000)));
    drop(buffer);
    fill();
    let buffer = Buffer::open(settings(&dir)).unwrap();
    assert!(segments(&dir).len() > 2);
    let mut read = std::collections::BTreeMap::new();
    for queue in buffer.queues() {
        let mut from = queue.first_unacked;
        loop {
            // Full once more until what was acknowledged is removed: that is an error of the moment.
            let mut events = Vec::new();
            eventually("a read succeeds", || match buffer.read(queue.epoch, from, 100, MIB as usize) {
                Ok(read) => {
                    events = read;
                    true
                }
                Err(Error::Segment { .. }) => false,
                Err(error) => panic!("{error}"),
            });
            let Some((last, _)) = events.last() else { break };
            from = last + 1;
            buffer.ack(queue.epoch, *last);
            let epoch = queue.epoch;
            read.extend(events.into_iter().map(|(seq, event)| (galen_buffer::EventPosition { epoch, seq }, event)));
        }
        assert_eq!(buffer.losses(queue.epoch), []);
    }
    assert!(read == durable.into_iter().collect(), "other events came back");
    eventually("the segments are gone", || segments(&dir).is_empty());
}

#[test]
fn an_event_is_durable_only_after_the_disk_was_told_to_flush() {
    let Some(disk) = FailingDisk::mount() else { return };
    let buffer = Buffer::open(Settings { max_bytes: 64 * MIB, ..settings(disk.path().join("buffer")) }).unwrap();
    for n in 0..20 {
        let before = disk.flushes();
        append(&buffer, [event(n, 1000)]);
        assert!(disk.flushes() > before, "event {n} was only written");
    }
}
