//! The buffer as a queue, without faults.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::fs;

use bytes::Bytes;
use galen_buffer::{Buffer, Error, LossCounter, LossReasonCode, Rejected, Settings};
use support::{MIB, RING_FULL, append, assert_complete, disk_usage, event, eventually, read_all, segments, settings};

#[test]
fn events_of_every_size_come_back_and_none_becomes_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = Buffer::open(Settings { max_bytes: 512 * MIB, ..settings(dir.path()) }).unwrap();
    let sizes = [8, 100, 6135, 6136, 6137, 6143, 6144, 6145, 20_000, 65_536, 300_000, 1_500_000];
    let mut events: Vec<_> = (0..200).map(|n| event(n, sizes[n as usize % sizes.len()])).collect();
    events.push(Bytes::new());
    let durable = append(&buffer, events);
    assert!(read_all(&buffer) == durable.into_iter().collect(), "other events came back");
    for segment in segments(dir.path()) {
        assert_eq!(fs::read_dir(segment.join("blobs")).unwrap().count(), 0, "sled does not sync blobs");
    }
}

#[test]
fn a_clean_end_keeps_the_epoch_and_goes_on_with_the_next_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut durable = Vec::new();
    for round in 0..4 {
        let buffer = Buffer::open(settings(dir.path())).unwrap();
        durable.extend(append(&buffer, (0..50).map(|n| event(round * 50 + n, 500))));
        buffer.close().unwrap();
    }
    let buffer = Buffer::open(settings(dir.path())).unwrap();
    assert_eq!(buffer.queues().len(), 1);
    assert_eq!(buffer.queues()[0].next_seq, 201);
    assert_eq!(read_all(&buffer), durable.into_iter().collect());
}

#[test]
fn acknowledged_segments_leave_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = Buffer::open(settings(dir.path())).unwrap();
    let durable = append(&buffer, (0..3000).map(|n| event(n, 2000)));
    assert!(segments(dir.path()).len() > 3);
    let epoch = durable[0].0.epoch;
    buffer.ack(epoch, 1500);
    eventually("the first segments are gone", || !segments(dir.path())[0].ends_with("00000000000000000001"));
    assert_eq!(assert_complete(&buffer), durable[1500..].iter().cloned().collect());
    buffer.ack(epoch, u64::MAX);
    eventually("at most the open segment is left", || segments(dir.path()).len() <= 1);
    assert_eq!(buffer.stats().events_unacked, 0);
    let more = append(&buffer, [event(9, 9)]);
    assert_eq!(more[0].0.seq, 3001);
}

#[test]
fn an_old_epoch_disappears_for_good_once_its_events_and_its_counters_are_settled() {
    let dir = tempfile::tempdir().unwrap();
    let image = tempfile::tempdir().unwrap();
    let buffer = Buffer::open(settings(dir.path())).unwrap();
    buffer.count_loss(RING_FULL, "oom", 3);
    let durable = append(&buffer, (0..10).map(|n| event(n, 100)));
    let epoch = durable[0].0.epoch;
    let state = dir.path().join("state");
    eventually("the counter is durable", || fs::read_to_string(&state).is_ok_and(|s| s.contains(r#""count":3"#)));
    support::crash_image(dir.path(), image.path());

    let buffer = Buffer::open(settings(image.path())).unwrap();
    let current = buffer.queues()[1].epoch;
    buffer.count_loss(RING_FULL, "oom", 1);
    let counter = |count| LossCounter { reason: RING_FULL, tracer: "oom".into(), count };
    assert_eq!(buffer.counters(epoch), [counter(3)]);
    assert_eq!(buffer.counters(current), [counter(1)]);
    buffer.ack(epoch, 10);
    eventually("its segment is gone", || segments(image.path()).is_empty());
    assert_eq!(buffer.queues().len(), 2);
    buffer.settle_counters(epoch, &[counter(3)]);
    // Wakes the writer before it is to write the state again.
    append(&buffer, [event(10, 100)]);
    eventually("the epoch is gone", || buffer.queues().len() == 1);
    assert!(matches!(buffer.read(epoch, 1, 1, 1), Err(Error::UnknownEpoch(_))));

    let image_of_image = tempfile::tempdir().unwrap();
    support::crash_image(image.path(), image_of_image.path());
    let after_a_crash = Buffer::open(settings(image_of_image.path())).unwrap();
    assert!(after_a_crash.queues().iter().all(|queue| queue.epoch != epoch), "it came back");
}

#[test]
fn a_directory_has_one_buffer_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = Buffer::open(settings(dir.path())).unwrap();
    let Err(refused) = Buffer::open(settings(dir.path())) else { panic!("opened twice") };
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    let other = first.clone();
    first.close().unwrap();
    assert_eq!(other.append(event(1, 1)).wait(), Err(Rejected::Closed));
    assert!(matches!(other.read(1, 1, 1, 1), Err(Error::Closed)));
    Buffer::open(settings(dir.path())).unwrap().close().unwrap();
}

#[test]
fn the_cap_drops_the_oldest_segments_and_declares_them() {
    let dir = tempfile::tempdir().unwrap();
    let small = Settings { max_bytes: 8 * MIB, ..settings(dir.path()) };
    let buffer = Buffer::open(small.clone()).unwrap();
    let durable = append(&buffer, (0..20_000).map(|n| event(n, 1000)));
    assert!(buffer.stats().bytes_on_disk <= 8 * MIB, "{:?}", buffer.stats());
    let epoch = durable[0].0.epoch;
    let losses = buffer.losses(epoch);
    assert_eq!((losses.len(), losses[0].first, losses[0].reason), (1, 1, LossReasonCode::BUFFER_FULL));
    let kept = assert_complete(&buffer);
    assert!(!kept.is_empty() && kept.len() < 20_000);
    // Opening a segment to read it makes it larger, by what is accounted for from the start.
    let bytes: u64 = segments(dir.path()).iter().map(|segment| disk_usage(segment)).sum();
    assert!(bytes <= buffer.stats().bytes_on_disk, "{bytes} on disk, {:?}", buffer.stats());
    buffer.close().unwrap();

    let buffer = Buffer::open(small).unwrap();
    assert_eq!(buffer.losses(epoch), losses);
    assert_eq!(assert_complete(&buffer), kept);
    buffer.ack(epoch, losses[0].last);
    assert_eq!(buffer.losses(epoch), []);
}

#[test]
fn a_full_queue_rejects_at_once_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = Buffer::open(Settings { queue_events: 4, max_event_bytes: 1000, ..settings(dir.path()) }).unwrap();
    let receipts: Vec<_> = (0..5000).map(|n| buffer.append(event(n, 900))).collect();
    let outcomes: Vec<_> = receipts.into_iter().map(galen_buffer::Receipt::wait).collect();
    let rejected = outcomes.iter().filter(|o| **o == Err(Rejected::QueueFull)).count() as u64;
    assert!(rejected > 0, "the writer kept up with a loop");
    assert_eq!(buffer.append(event(1, 1001)).wait(), Err(Rejected::TooLarge));
    let stats = buffer.stats();
    assert_eq!(stats.rejected[&LossReasonCode::QUEUE_FULL], rejected);
    assert_eq!(stats.rejected[&LossReasonCode::TOO_LARGE], 1);
    assert_eq!(stats.appended + rejected, 5000);
    assert_eq!((stats.observed, stats.waiting), (5001, 0));
    let counters = buffer.counters(buffer.queues()[0].epoch);
    assert_eq!(counters.iter().map(|c| c.count).collect::<Vec<_>>(), [rejected, 1]);
    assert_eq!(assert_complete(&buffer).len() as u64, stats.appended);
}

#[test]
fn an_older_copy_of_a_queue_ends_and_counts_what_it_gave_again() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = Buffer::open(settings(dir.path())).unwrap();
    append(&buffer, (1..=10).map(|n| event(n, 100)));
    assert_eq!(buffer.queues()[0].uncompared, None, "nobody else has numbers of a new queue");
    buffer.close().unwrap();

    for offline in 0..2 {
        let buffer = Buffer::open(settings(dir.path())).unwrap();
        append(&buffer, [event(11 + offline, 100)]);
        assert_eq!(buffer.queues()[0].uncompared, Some(11), "as long as nobody has compared it");
        buffer.close().unwrap();
    }
    let buffer = Buffer::open(settings(dir.path())).unwrap();
    let durable = append(&buffer, (13..=15).map(|n| event(n, 100)));
    let epoch = durable[0].0.epoch;
    buffer.begin_anew(epoch, vec![1..=12, 14..=14, 20..=30]);
    eventually("there is a new epoch", || buffer.queues().len() == 2);
    let more = append(&buffer, [event(16, 100)]);
    assert_ne!(more[0].0.epoch, epoch);
    let lost = LossCounter { reason: LossReasonCode::NUMBER_TAKEN, tracer: String::new(), count: 3 };
    assert_eq!(buffer.counters(more[0].0.epoch), [lost]);
    assert_eq!(assert_complete(&buffer).len(), 16, "the aggregator says what of the old one it has");
    buffer.close().unwrap();

    let buffer = Buffer::open(settings(dir.path())).unwrap();
    let newest = *buffer.queues().last().unwrap();
    assert_eq!((newest.epoch, newest.uncompared), (more[0].0.epoch, Some(2)));
    buffer.compared(newest.epoch);
    assert_eq!(buffer.queues().last().unwrap().uncompared, None);
}
