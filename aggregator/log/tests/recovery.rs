//! What opening makes of what a crash, or a bad disk, left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;

use galen_log::{Append, EmbeddedLog, Error, Limits, Log, embedded::Settings};
use support::{copy, event, open, read_all, segments, settings};
use tempfile::tempdir;

/// Large enough for the whole test to be one segment.
fn one_segment(dir: &std::path::Path) -> Settings {
    Settings { segment_bytes: 1 << 20, ..settings(dir) }
}

#[tokio::test]
async fn what_was_appended_is_there_after_opening_again() {
    let dir = tempdir().unwrap();
    for round in 0..5 {
        let mut opened = open(settings(dir.path()));
        assert_eq!(opened.upto(), round * 200);
        for batch in 0..20 {
            opened.append(round * 200 + batch * 10 + 1, 10);
        }
    }
    let opened = open(settings(dir.path()));
    let (events, skipped) = read_all(&opened.log, 0).await;
    assert_eq!(events.len(), 1000);
    assert!(events.iter().all(|(offset, (seq, _))| *seq == offset + 1));
    assert!(skipped.is_empty());
    assert!(opened.log.bounds().bytes > 4 << 10, "{:?}", opened.log.bounds());
}

#[tokio::test]
async fn a_frame_torn_at_any_byte_is_cut_off_and_the_rest_stays() {
    let source = tempdir().unwrap();
    let mut opened = open(one_segment(source.path()));
    opened.append(1, 10);
    opened.append(11, 10);
    let path = segments(source.path()).pop().unwrap();
    let whole = fs::metadata(&path).unwrap().len();
    opened.append(21, 3);
    let torn = fs::read(&path).unwrap();
    drop(opened);

    for length in whole..torn.len() as u64 {
        let dir = tempdir().unwrap();
        copy(source.path(), dir.path());
        fs::write(dir.path().join(path.file_name().unwrap()), &torn[..length as usize]).unwrap();
        let mut opened = open(one_segment(dir.path()));
        assert_eq!(opened.upto(), 20, "cut at {length}");
        let stats = opened.log.stats();
        assert_eq!((stats.torn_tails, stats.damaged), (u64::from(length > whole), 0), "cut at {length}");
        opened.append(21, 5);
        let (events, skipped) = read_all(&opened.log, 0).await;
        assert_eq!((events.len(), skipped.len()), (25, 0), "cut at {length}");
    }
}

#[tokio::test]
async fn space_that_was_never_written_is_cut_off() {
    let dir = tempdir().unwrap();
    let mut opened = open(one_segment(dir.path()));
    opened.append(1, 10);
    drop(opened);
    let path = segments(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend([0; 5000]);
    fs::write(&path, bytes).unwrap();
    let opened = open(one_segment(dir.path()));
    assert_eq!((opened.upto(), opened.log.stats().torn_tails, opened.log.stats().damaged), (10, 1, 0));
}

#[tokio::test]
async fn a_byte_flipped_anywhere_costs_one_frame_and_is_reported() {
    let source = tempdir().unwrap();
    let mut opened = open(one_segment(source.path()));
    for batch in 0..5 {
        opened.append(batch * 4 + 1, 4);
    }
    let path = segments(source.path()).pop().unwrap();
    let intact = fs::read(&path).unwrap();
    drop(opened);

    // Every third byte: each field of each frame, and of the segment's header, is hit.
    for place in (0..intact.len()).step_by(3) {
        let dir = tempdir().unwrap();
        copy(source.path(), dir.path());
        let mut bytes = intact.clone();
        bytes[place] ^= 0x10;
        fs::write(dir.path().join(path.file_name().unwrap()), &bytes).unwrap();
        let (log, mut writer, mut watermarks) = EmbeddedLog::open(one_segment(dir.path())).unwrap();
        // New records go on behind what was damaged, so that readers can say what is missing.
        let queue = galen_proto::v1::Queue { epoch: 8, first_unacked: 1, next_seq: 100, account: None };
        watermarks.announce("other", &[queue], 1);
        let batch = galen_proto::v1::Batch {
            epoch: 8,
            first_seq: 1,
            events: vec![event(1)],
            next_seq: 2,
            ..Default::default()
        };
        writer.append(&watermarks.admit("other", batch, 1).unwrap().records).unwrap();

        let (events, skipped) = read_all(&log, 0).await;
        let missing: u64 = skipped.iter().map(|range| range.end - range.start).sum();
        assert!(missing <= 4, "byte {place}: {skipped:?}");
        assert!(events.len() as u64 >= 17, "byte {place}: {} events", events.len());
        assert_eq!(log.stats().damaged, 1, "byte {place}");
        let kept = dir.path().join("damaged").join(path.file_name().unwrap());
        assert!(kept.exists(), "byte {place}: the damaged file is kept");
    }
}

#[tokio::test]
async fn damage_in_an_old_segment_is_found_by_the_reader_and_counted_once() {
    let dir = tempdir().unwrap();
    let mut opened = open(settings(dir.path()));
    for batch in 0..60 {
        opened.append(batch * 10 + 1, 10);
    }
    let path = &segments(dir.path())[1];
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    for _ in 0..2 {
        let (events, skipped) = read_all(&opened.log, 0).await;
        assert_eq!(events.len(), 590);
        assert_eq!(skipped.len(), 1);
        assert_eq!(opened.log.stats().damaged, 1);
    }
}

#[tokio::test]
async fn a_segment_cut_short_loses_its_end_and_nothing_else() {
    let dir = tempdir().unwrap();
    let mut opened = open(settings(dir.path()));
    for batch in 0..60 {
        opened.append(batch * 10 + 1, 10);
    }
    let path = &segments(dir.path())[1];
    let length = fs::metadata(path).unwrap().len();
    fs::File::options().write(true).open(path).unwrap().set_len(length / 2).unwrap();
    let (events, skipped) = read_all(&opened.log, 0).await;
    assert_eq!(skipped.len(), 1);
    assert_eq!(events.len() as u64 + skipped[0].end - skipped[0].start, 600);
    drop(opened);
    let opened = open(settings(dir.path()));
    assert_eq!(opened.upto(), 600, "the snapshot knows what was settled");
}

#[tokio::test]
async fn a_missing_or_damaged_snapshot_changes_nothing() {
    let source = tempdir().unwrap();
    let mut opened = open(settings(source.path()));
    for batch in 0..60 {
        opened.append(batch * 10 + 1, 10);
    }
    drop(opened);
    let mut snapshots: Vec<_> = fs::read_dir(source.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().ends_with(".watermarks"))
        .collect();
    snapshots.sort();
    assert_eq!(snapshots.len(), 2);

    for damaged in 0..4 {
        let dir = tempdir().unwrap();
        copy(source.path(), dir.path());
        for (place, name) in snapshots.iter().enumerate() {
            let path = dir.path().join(name);
            match damaged {
                0 => fs::remove_file(path).unwrap(),
                1 => fs::write(path, b"galenmrk").unwrap(),
                2 if place == 1 => {
                    let mut bytes = fs::read(&path).unwrap();
                    let last = bytes.len() - 1;
                    bytes[last] ^= 1;
                    fs::write(path, bytes).unwrap();
                }
                _ => {}
            }
        }
        let (log, _writer, watermarks) = EmbeddedLog::open(settings(dir.path())).unwrap();
        assert_eq!(watermarks.progress(support::NODE, support::EPOCH).unwrap().upto, 600, "case {damaged}");
        assert_eq!(watermarks.totals_of(support::NODE).events, 600);
        assert_eq!(log.bounds().next, 600);
    }
}

#[tokio::test]
async fn retention_deletes_whole_segments_and_no_watermark() {
    let dir = tempdir().unwrap();
    let small = Settings { retention_bytes: 16 << 10, ..settings(dir.path()) };
    let mut opened = open(small.clone());
    for batch in 0..400 {
        opened.append(batch * 10 + 1, 10);
    }
    let bounds = opened.log.bounds();
    assert!(bounds.first > 0 && bounds.bytes < 32 << 10, "{bounds:?}");
    assert!(opened.log.stats().segments_deleted > 0);

    let mut reader = opened.log.reader(0);
    let chunk = support::next(&mut *reader).await;
    assert_eq!((chunk.skipped[0].first, chunk.skipped[0].next), (0, bounds.first));
    assert_eq!(chunk.skipped[0].reason, galen_log::SkipReason::Retention);
    drop((reader, opened));

    let mut opened = open(small);
    assert_eq!(opened.upto(), 4000);
    assert_eq!(opened.watermarks.totals_of(support::NODE).events, 4000);
    assert!(opened.admit(1, 100).is_empty(), "what retention deleted is not taken again");
    let (events, _) = read_all(&opened.log, bounds.first).await;
    assert_eq!(events.len() as u64, 4000 - bounds.first);
}

#[tokio::test]
async fn an_age_that_has_passed_deletes_closed_segments() {
    let dir = tempdir().unwrap();
    let mut opened = open(Settings { retention_age: std::time::Duration::from_nanos(1), ..settings(dir.path()) });
    for batch in 0..10 {
        opened.append(batch * 10 + 1, 10);
    }
    assert!(opened.log.bounds().first > 0);
    assert_eq!(opened.upto(), 100);
}

#[test]
fn an_offset_that_a_reader_saw_is_not_given_again() {
    let dir = tempdir().unwrap();
    let mut opened = open(Settings { floor: 500, ..settings(dir.path()) });
    assert_eq!(opened.log.bounds().next, 500);
    let records = opened.admit(1, 10);
    assert_eq!(opened.writer.append(&records).unwrap().first, 500);
}

#[tokio::test]
async fn a_reader_is_told_of_offsets_that_were_never_given() {
    let dir = tempdir().unwrap();
    let mut opened = open(settings(dir.path()));
    opened.append(1, 10);
    drop(opened);
    let mut opened = open(Settings { floor: 30, ..settings(dir.path()) });
    opened.append(11, 5);
    let (events, skipped) = read_all(&opened.log, 0).await;
    assert_eq!(events.len(), 15);
    assert_eq!(skipped, vec![std::ops::Range { start: 10, end: 30 }]);
}

#[test]
fn a_directory_in_use_and_wrong_settings_are_refused() {
    let dir = tempdir().unwrap();
    let _opened = open(settings(dir.path()));
    assert!(matches!(EmbeddedLog::open(settings(dir.path())), Err(Error::InUse { .. })));
    let small = Settings { retention_bytes: 1, limits: Limits::default(), ..settings(dir.path()) };
    assert!(matches!(EmbeddedLog::open(small), Err(Error::Setting { name: "retention_bytes", .. })));
}
