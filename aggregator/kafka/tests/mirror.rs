//! The copy of Kafka on a replica's disk: every event once, whatever the topic holds and however often it begins anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    ffi::OsStr,
    io::Write,
    os::unix::ffi::OsStrExt,
    process::{Command, Stdio},
    time::Duration,
};

use galen_log::Log;
use galen_services::kafka;
use support::{Copy, PATIENCE, Replica, delete_records, delete_topic, expected, settings};
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_has_each_event_once_also_those_that_are_twice_in_the_topic() {
    let kafka = kafka();
    let settings = settings(&kafka, "mirror", |_| {});
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut first = Replica::open(&settings);
    first.hello("web-1", 1);
    first.append("web-1", 1, 50).unwrap();
    let copies = dirs.each_ref().map(|dir| Copy::open(&settings, dir.path()));
    // A replica that knows nothing of the first: it hung while the node moved, or the first was killed.
    let mut second = Replica::open(&settings);
    second.hello("web-1", 1);
    second.append("web-1", 1, 60).unwrap();
    first.append("web-1", 51, 70).unwrap();
    for copy in copies {
        assert_eq!(copy.events(70).await, expected(70));
        copy.close().await;
    }
    // They go on where their disk is.
    second.hello("web-1", 71);
    second.append("web-1", 71, 80).unwrap();
    for dir in &dirs {
        let copy = Copy::open(&settings, dir.path());
        assert_eq!(copy.events(80).await, expected(80));
        // Counted, and told, a moment after the events are there.
        let until = Instant::now() + PATIENCE;
        while (copy.mirror.stats().copied, *copy.told.lock()) != (10, 80) {
            assert!(Instant::now() < until, "{:?}", copy.mirror.stats());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(copy.mirror.stats().joined, galen_kafka::JoinStats::default());
        assert_eq!(copy.log.bounds().next, 80);
        copy.close().await;
    }
    first.close();
    second.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_before_it_was_copied_is_counted() {
    let kafka = kafka();
    let settings = settings(&kafka, "missed", |config| config.partitions = 1);
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(&settings);
    replica.hello("web-1", 1);
    replica.append("web-1", 1, 10).unwrap();
    let copy = Copy::open(&settings, dir.path());
    copy.events(10).await;
    copy.close().await;
    replica.append("web-1", 11, 30).unwrap();
    delete_records(&kafka, "missed.events", 25).await;
    let copy = Copy::open(&settings, dir.path());
    let kept: Vec<u64> = copy.events(15).await.into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(kept, (1..=10).chain(26..=30).collect::<Vec<_>>());
    assert_eq!(copy.mirror.stats().missed, 15);
    copy.close().await;
    replica.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_is_copied_from_its_begin_and_from_then_on_without_a_gap() {
    let kafka = kafka();
    let settings = settings(&kafka, "anew", |config| config.partitions = 1);
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(&settings);
    replica.hello("web-1", 1);
    replica.append("web-1", 1, 30).unwrap();
    let copy = Copy::open(&settings, dir.path());
    assert_eq!(copy.events(30).await, expected(30));
    copy.close().await;
    replica.close();

    delete_topic(&kafka, "anew.events").await;
    let mut replica = Replica::open(&settings);
    replica.hello("web-1", 31);
    replica.append("web-1", 31, 40).unwrap();
    let copy = Copy::open(&settings, dir.path());
    assert_eq!(copy.events(40).await, expected(40));
    assert_eq!((copy.mirror.stats().lost_places, copy.mirror.stats().missed), (1, 0));
    copy.close().await;
    // More than the topic had before: the place of then is nothing to go on from.
    replica.append("web-1", 41, 80).unwrap();
    let copy = Copy::open(&settings, dir.path());
    assert_eq!(copy.events(80).await, expected(80));
    assert_eq!(copy.mirror.stats().lost_places, 0);
    copy.close().await;
    replica.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_others_are_passed_over_whatever_is_in_them() {
    let kafka = kafka();
    let settings = settings(&kafka, "others", |_| {});
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(&settings);
    replica.hello("web-1", 1);
    replica.append("web-1", 1, 10).unwrap();
    let headers: [&[u8]; 4] = [b"\xff\xfe=1", b"ce_type=io.galen.losses", b"ce_id=\xff", b"galen_part=7/0"];
    for header in headers {
        let mut kcat = Command::new("kcat");
        kcat.args(["-P", "-b", &kafka.brokers(), "-t", "others.events", "-k", "web-1", "-H"]);
        let mut kcat = kcat.arg(OsStr::from_bytes(header)).stdin(Stdio::piped()).spawn().unwrap();
        kcat.stdin.take().unwrap().write_all(b"not ours").unwrap();
        assert!(kcat.wait().unwrap().success());
    }
    replica.append("web-1", 11, 20).unwrap();
    let copy = Copy::open(&settings, dir.path());
    assert_eq!(copy.events(20).await, expected(20));
    // Counted a moment after the events are there.
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while copy.mirror.stats().joined.unreadable != 4 {
        assert!(tokio::time::Instant::now() < until, "{:?}", copy.mirror.stats());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    copy.close().await;
    replica.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_cut_off_at_any_time_goes_on_without_a_gap() {
    let kafka = kafka();
    let settings = settings(&kafka, "cut", |_| {});
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(&settings);
    replica.hello("web-1", 1);
    for round in 0..8 {
        let copy = Copy::open(&settings, dir.path());
        replica.append("web-1", round * 100 + 1, round * 100 + 100).unwrap();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..300))).await;
        copy.close().await;
    }
    let copy = Copy::open(&settings, dir.path());
    assert_eq!(copy.events(800).await, expected(800));
    assert_eq!(copy.log.bounds().next, 800);
    copy.close().await;
    replica.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_killed_is_copied_on_from_where_it_was() {
    let kafka = kafka();
    let settings = settings(&kafka, "killed", |_| {});
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(&settings);
    let copy = Copy::open(&settings, dir.path());
    replica.hello("web-1", 1);
    replica.append("web-1", 1, 100).unwrap();
    assert_eq!(copy.events(100).await, expected(100));
    kafka.kill();
    kafka.restart();
    replica.append("web-1", 101, 200).unwrap();
    assert_eq!(copy.events(200).await, expected(200));
    copy.close().await;
    replica.close();
}
