//! Readers follow the log, each with its own cursor.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use galen_log::{Append, Log};
use galen_proto::v1::{LogRecord, LossCounter, LossReason};
use support::{next, open, settings};
use tempfile::tempdir;

#[tokio::test]
async fn a_reader_waits_for_what_is_durable_and_follows_over_segments() {
    let dir = tempdir().unwrap();
    let mut opened = open(settings(dir.path()));
    let mut reader = opened.log.reader(0);
    let follower = async {
        let mut seen = 0;
        while seen < 1000 {
            let chunk = next(&mut *reader).await;
            assert_eq!(chunk.first, seen);
            assert!(chunk.skipped.is_empty());
            seen = chunk.next;
        }
    };
    let writer = tokio::task::spawn_blocking(move || {
        for batch in 0..100 {
            opened.append(batch * 10 + 1, 10);
        }
        opened
    });
    let ((), opened) = tokio::join!(follower, writer);
    assert!(opened.unwrap().log.stats().segments > 1);
}

#[tokio::test]
async fn a_reader_that_begins_within_a_record_gets_the_rest_of_it() {
    let dir = tempdir().unwrap();
    let mut opened = open(settings(dir.path()));
    opened.append(1, 10);
    opened.append(11, 10);
    let chunk = next(&mut *opened.log.reader(13)).await;
    assert_eq!((chunk.first, chunk.next), (13, 20));
    assert_eq!((chunk.entries[0].offset, chunk.entries[0].record.first_seq), (13, 14));
    assert_eq!(chunk.entries[0].record.events[0], support::event(14));
}

#[tokio::test]
async fn a_chunk_ends_when_it_has_enough_and_the_next_goes_on() {
    let dir = tempdir().unwrap();
    let mut opened = open(settings(dir.path()));
    for batch in 0..5 {
        opened.append(batch * 10 + 1, 10);
    }
    let mut reader = opened.log.reader(0);
    let bounds = [(0, 20), (20, 40), (40, 50)];
    for (first, end) in bounds {
        let chunk = reader.next(15).await.unwrap();
        assert_eq!((chunk.first, chunk.next), (first, end));
    }
}

#[tokio::test]
async fn a_read_that_was_dropped_is_repeated() {
    let dir = tempdir().unwrap();
    let mut opened = open(settings(dir.path()));
    opened.append(1, 10);
    let mut reader = opened.log.reader(0);
    for _ in 0..20 {
        // Whether it was ready by then or not, nothing is missed.
        let at_once = tokio::time::timeout(Duration::ZERO, reader.next(1000)).await;
        if let Ok(chunk) = at_once {
            assert_eq!(chunk.unwrap().next, 10);
            return;
        }
    }
    assert_eq!(next(&mut *reader).await.next, 10);
}

#[tokio::test]
async fn a_record_of_losses_takes_no_offset_and_reaches_the_reader() {
    let dir = tempdir().unwrap();
    let mut opened = open(settings(dir.path()));
    opened.append(1, 10);
    let mut reader = opened.log.reader(10);
    let counters = vec![LossCounter { reason: LossReason::RingFull as i32, tracer: "oom".into(), count: 3 }];
    let record = LogRecord { node: "web-1".into(), epoch: 7, counters, ..LogRecord::default() };
    let appended = opened.writer.append(std::slice::from_ref(&record)).unwrap();
    assert_eq!((appended.first, appended.next), (10, 10));
    let chunk = next(&mut *reader).await;
    assert_eq!((chunk.first, chunk.next, &chunk.entries[0].record), (10, 10, &record));
}
