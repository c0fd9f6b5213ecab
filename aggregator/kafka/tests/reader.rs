//! Reading in a group from a real broker: whatever comes or goes, everything has its effect.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{pin::pin, time::Duration};

use galen_kafka::{Link, Reader, Settings};
use galen_log::{Consumer, SkipReason, Skipped};
use galen_services::kafka;
use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use support::{Found, PATIENCE, Replica, delete_records, delete_topic, has_all, note, read_until, settings};
use tokio::time::{Instant, timeout};

const NODES: u64 = 12;

fn node(number: u64) -> String {
    format!("node-{number}")
}

/// Each node's events `first ..= last`.
fn write(settings: &Settings, first: u64, last: u64) {
    let mut replica = Replica::open(settings);
    for number in 0..NODES {
        replica.hello(&node(number), first);
        replica.append(&node(number), first, last).unwrap();
    }
    replica.close();
}

fn all_are_there(found: &Found, last: u64) -> bool {
    found.len() as u64 == NODES * last
}

/// Until the places that a group has committed are together `events`.
async fn committed(brokers: String, group: &str, events: i64) {
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", group).create().unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_range("moving.events", 0, 2);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let places = client.committed_offsets(partitions.clone(), PATIENCE).unwrap();
        let sum: i64 = places.elements().iter().filter_map(|place| place.offset().to_raw()).map(|at| at.max(0)).sum();
        if sum == events {
            return;
        }
        assert!(Instant::now() < deadline, "{sum} of {events} are committed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_committed_is_handed_out_again_and_what_was_is_not() {
    let kafka = kafka();
    let settings = settings(&kafka, "commit", |_| {});
    write(&settings, 1, 50);
    let mut first = Reader::join(&settings, &Link::default(), "index").unwrap();
    let mut committed = Found::new();
    while committed.len() < 100 {
        let delivery = timeout(PATIENCE, first.next(64)).await.unwrap().unwrap();
        note(&mut committed, &delivery.records);
        first.commit(&delivery.place).await.unwrap();
    }
    let uncommitted = timeout(PATIENCE, first.next(64)).await.unwrap().unwrap();
    assert!(!uncommitted.records.is_empty());
    drop(first);
    let mut found = committed.clone();
    let mut second = Reader::join(&settings, &Link::default(), "index").unwrap();
    read_until(&mut second, &mut found, |found| all_are_there(found, 50)).await;
    assert!(found.values().all(|(_, times)| *times == 1));
    (0..NODES).for_each(|number| has_all(&found, &node(number), 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_move_in_the_middle_of_a_batch_lose_nothing() {
    let kafka = kafka();
    let settings = settings(&kafka, "moving", |_| {});
    write(&settings, 1, 50);
    let mut first = Reader::join(&settings, &Link::default(), "index").unwrap();
    let mut found = Found::new();
    let batch = timeout(PATIENCE, first.next(200)).await.unwrap().unwrap();
    note(&mut found, &batch.records);
    // Another comes while the first is busy with its batch; both go on until each has had something.
    let mut second = Reader::join(&settings, &Link::default(), "index").unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut of_second = 0;
    first.commit(&batch.place).await.unwrap();
    let mut last = 50;
    while of_second == 0 || !all_are_there(&found, last) {
        assert!(Instant::now() < deadline, "{of_second} events came to the second, {} in all", found.len());
        tokio::select! {
            delivery = first.next(64) => {
                let delivery = delivery.unwrap();
                note(&mut found, &delivery.records);
                first.commit(&delivery.place).await.unwrap();
            }
            delivery = second.next(64) => {
                let delivery = delivery.unwrap();
                of_second += delivery.records.len();
                note(&mut found, &delivery.records);
                second.commit(&delivery.place).await.unwrap();
            }
            () = tokio::time::sleep(Duration::from_millis(500)), if of_second == 0 => {
                // The first had taken all: there must be something for the second.
                write(&settings, last + 1, last + 10);
                last += 10;
            }
        }
    }
    (0..NODES).for_each(|number| has_all(&found, &node(number), last));
    // A place that was refused while partitions moved is committed when they have.
    let mut committed = pin!(committed(kafka.brokers(), "moving.index", (NODES * last).cast_signed()));
    loop {
        tokio::select! {
            delivery = first.next(64) => first.commit(&delivery.unwrap().place).await.unwrap(),
            delivery = second.next(64) => second.commit(&delivery.unwrap().place).await.unwrap(),
            () = &mut committed => break,
        }
    }
    // What both committed, nobody is handed again.
    drop((first, second));
    write(&settings, last + 1, last + 1);
    let (mut third, mut again) = (Reader::join(&settings, &Link::default(), "index").unwrap(), Found::new());
    read_until(&mut third, &mut again, |again| (0..NODES).all(|number| again.contains_key(&(node(number), last + 1))))
        .await;
    assert_eq!(again.len() as u64, NODES, "only what is new");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_while_nobody_read_is_told() {
    let kafka = kafka();
    let settings = settings(&kafka, "missed", |config| config.partitions = 1);
    let mut replica = Replica::open(&settings);
    replica.hello("web-1", 1);
    replica.append("web-1", 1, 10).unwrap();
    let (mut reader, mut found) = (Reader::join(&settings, &Link::default(), "index").unwrap(), Found::new());
    read_until(&mut reader, &mut found, |found| found.len() == 10).await;
    drop(reader);
    replica.append("web-1", 11, 30).unwrap();
    delete_records(&kafka, "missed.events", 25).await;
    let told = Skipped { first: 10, next: 25, reason: SkipReason::Retention };
    // What was there before a group came is nothing that it missed.
    for (group, expected) in [("index", vec![told]), ("other", vec![])] {
        let mut reader = Reader::join(&settings, &Link::default(), group).unwrap();
        let (mut found, mut skipped) = (Found::new(), Vec::new());
        while found.len() < 5 {
            let delivery = timeout(PATIENCE, reader.next(64)).await.unwrap().unwrap();
            note(&mut found, &delivery.records);
            skipped.extend(delivery.skipped);
            reader.commit(&delivery.place).await.unwrap();
        }
        let numbers: Vec<u64> = found.keys().map(|(_, seq)| *seq).collect();
        assert_eq!((numbers, skipped), ((26..=30).collect(), expected), "{group}");
    }
    replica.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_are_refused_also_when_their_partitions_go_are_counted() {
    let kafka = kafka();
    let settings = settings(&kafka, "refused", |_| {});
    write(&settings, 1, 1);
    let link = Link::default();
    let mut reader = Reader::join(&settings, &link, "index").unwrap();
    let delivery = timeout(PATIENCE, reader.next(64)).await.unwrap().unwrap();
    delete_topic(&kafka, "refused.events").await;
    reader.commit(&delivery.place).await.unwrap_err();
    assert_eq!(link.refused_commits(), 0, "they may be taken yet");
    drop(reader);
    assert_eq!(link.refused_commits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_away_is_read_again() {
    let kafka = kafka();
    let settings = settings(&kafka, "away", |_| {});
    write(&settings, 1, 10);
    let (mut reader, mut found) = (Reader::join(&settings, &Link::default(), "index").unwrap(), Found::new());
    read_until(&mut reader, &mut found, |found| all_are_there(found, 10)).await;
    kafka.kill();
    kafka.restart();
    write(&settings, 11, 20);
    read_until(&mut reader, &mut found, |found| all_are_there(found, 20)).await;
    (0..NODES).for_each(|number| has_all(&found, &node(number), 20));
}
