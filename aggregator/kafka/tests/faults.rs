//! What real brokers do to a writer: they are not there, they forget, they have no room. Nothing is lost, and every
//! reader sees it once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use galen_kafka::{Config, Lag, Link, Reader, Settings};
use galen_log::{Append, Class, Consumer, Log};
use galen_runtime::{Chain, Drained, Span, Supervisor};
use galen_scratch::Tmpfs;
use galen_services::{kafka, kafka_in};
use support::{Copy, PATIENCE, Replica, event, expected, settings, topic, with_evidence};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn without_brokers_it_waits_and_says_for_whom_and_goes_on_when_they_come() {
    let kafka = kafka();
    let settings = settings(&kafka, "waits", |_| {});
    kafka.stop();
    let (mut replica, why) = Replica::waiting(&settings);
    let text = Chain(&why).to_string();
    assert!(text.contains(&kafka.brokers()) && text.contains("refused"), "{text}");
    assert_eq!(why.class(), Class::Retryable);
    assert!(replica.writer.gauge().away().unwrap().contains("refused"));
    assert!(replica.writer.append(&[]).is_err());
    assert!(replica.writer.reopen().is_err());
    // A copy waits with it, for topics that are not there either.
    let dir = tempfile::tempdir().unwrap();
    let copy = Copy::open(&settings, dir.path());
    kafka.restart();
    replica.reopened();
    assert_eq!(replica.writer.gauge().away(), None);
    replica.hello("web-1", 1);
    replica.append("web-1", 1, 10).unwrap();
    assert_eq!(copy.events(10).await, expected(10));
    // It knows what others settle from now on, too.
    let mut other = Replica::open(&settings);
    other.hello("web-2", 1);
    other.append("web-2", 1, 5).unwrap();
    other.close();
    let deadline = Instant::now() + PATIENCE;
    loop {
        replica.hello("web-2", 1);
        if replica.upto("web-2") == 5 {
            break;
        }
        assert!(Instant::now() < deadline, "it was not told");
        thread::sleep(Duration::from_millis(20));
    }
    copy.close().await;
    replica.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_for_those_who_read_is_counted_with_what_goes_wrong_for_the_writer() {
    // Nobody listens there.
    let config = Config { brokers: "127.0.0.1:9".into(), ..Config::default() };
    let settings = Settings::new(config).unwrap().unwrap();
    let links: [Link; 3] = Default::default();
    let (dir, supervisor) = (tempfile::tempdir().unwrap(), Supervisor::new());
    let copy = Copy::beside(&links[0], &settings, dir.path());
    Lag::follow(&settings, &links[1], "index", &supervisor).unwrap();
    let mut reader = Reader::join(&settings, &links[2], "index").unwrap();
    let deadline = Instant::now() + PATIENCE;
    while links.iter().any(|link| link.errors() == 0) {
        assert!(Instant::now() < deadline, "{:?}", links.each_ref().map(Link::errors));
        // It hears of errors while it waits for records.
        let _ = timeout(Duration::from_millis(50), reader.next(1)).await;
    }
    assert!(links.iter().all(|link| link.away().is_none()), "whether brokers are there is the writer's to say");
    drop(reader);
    copy.close().await;
    assert_eq!(supervisor.drain(PATIENCE).await, Drained::Complete);
}

/// The broker is set back to an older state of its disk, so that what the client sends does not follow what the broker
/// has: the client's own rules let it go on no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_failed_for_good_is_made_anew_and_what_it_did_not_write_is_written() {
    let kafka = kafka();
    let settings = settings(&kafka, "fatal", |_| {});
    let mut replica = Replica::open(&settings);
    replica.hello("web-1", 1);
    replica.append("web-1", 1, 100).unwrap();
    kafka.stop();
    let (data, older) = (kafka.directory().join("data"), kafka.directory().join("older"));
    copy_of(&data, &older);
    kafka.restart();
    replica.append("web-1", 101, 200).unwrap();
    kafka.kill();
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&older, &data).unwrap();
    kafka.restart();

    let error = replica.append("web-1", 201, 300).unwrap_err();
    assert_eq!((error.class(), replica.failed("fatal")), (Class::Retryable, 1), "{}", Chain(&error));
    replica.reopened();
    assert_eq!(replica.upto("web-1"), 200);
    replica.hello("web-1", 201);
    replica.append("web-1", 201, 300).unwrap();
    // What the broker had acknowledged in between went with its disk.
    let found = topic(&settings, "web-1", 300).await;
    let numbers: Vec<u64> = found.keys().map(|(_, seq)| *seq).collect();
    assert_eq!(numbers, (1..=100).chain(201..=300).collect::<Vec<_>>());
    assert!(found.iter().all(|((_, seq), (bytes, _))| *bytes == event(*seq)));
    replica.close();
}

fn copy_of(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_room_acknowledges_nothing_and_with_room_again_everything_is_there_once() {
    let Some(disk) = Tmpfs::mount(64 << 20) else { return };
    let kafka = kafka_in(disk.path());
    let settings = settings(&kafka, "full", |config| {
        config.compression = galen_kafka::Compression::None;
        config.patience = Span::from_secs(10);
    });
    let dir = tempfile::tempdir().unwrap();
    let copy = Copy::open(&settings, dir.path());
    let mut replica = Replica::open(&settings);
    replica.hello("web-1", 1);
    replica.append("web-1", 1, 100).unwrap();

    let filler = disk.path().join("filler");
    fill(&filler, 1 << 20);
    // Some of it finds room; nothing of it is acknowledged.
    let large: Vec<Bytes> = (101..=140).map(|seq| with_evidence(seq, 100 << 10)).collect();
    let records = replica.admit("web-1", 101, large.clone());
    let error = replica.writer.append(&records).unwrap_err();
    assert_eq!(error.class(), Class::Retryable, "{}", Chain(&error));
    assert_eq!(replica.writer.gauge().stats().errors.iter().map(|(_, count)| count).sum::<u64>(), 1);
    assert!(replica.writer.append(&records).is_err(), "it takes nothing until it is open again");

    // By itself the broker does not come back.
    kafka.kill();
    fs::remove_file(&filler).unwrap();
    kafka.restart();
    replica.reopened();
    assert_eq!(replica.upto("web-1"), 100);
    replica.hello("web-1", 101);
    let records = replica.admit("web-1", 101, large.clone());
    replica.writer.append(&records).unwrap();
    let all: Vec<(u64, Bytes)> = expected(100).into_iter().chain((101..).zip(large)).collect();
    assert_eq!(copy.events(140).await, all);
    assert_eq!(copy.log.bounds().next, 140);
    copy.close().await;
    replica.close();
}

/// Takes all room of a file system but this much.
fn fill(path: &Path, left: u64) {
    let mut file = File::create(path).unwrap();
    while file.write_all(&[1; 64 << 10]).is_ok() {}
    let size = file.metadata().unwrap().len();
    file.set_len(size.checked_sub(left).expect("more room than is left")).unwrap();
}
