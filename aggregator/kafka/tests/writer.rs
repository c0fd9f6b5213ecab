//! Writing to a real broker: what is acknowledged is in the topic, and what is not is refused and can be sent again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use galen_kafka::{Config, DeadLetter, Link, Payload, Reader, Replayed, Writer};
use galen_log::Append;
use galen_proto::v1::Event;
use galen_runtime::{Chain, Size, Span, Supervisor};
use galen_services::{kafka, kafka3};
use prost::Message;
use support::{Found, Replica, event, has_all, read_until, render, settings, topic, with_evidence};

#[tokio::test(flavor = "multi_thread")]
async fn events_come_back_byte_for_byte_large_ones_too() {
    let kafka = kafka();
    for payload in [Payload::Protobuf, Payload::Json] {
        let prefix = format!("{payload:?}").to_lowercase();
        let settings = settings(&kafka, &prefix, |config| {
            config.payload = payload;
            config.max_record_bytes = Size::kib(64);
        });
        let mut replica = Replica::open(&settings);
        replica.hello("web-1", 1);
        let sizes = [0, 10, 60_000, 200_000, 0, 3_000_000, 1];
        let events: Vec<_> = (1..).zip(sizes).map(|(seq, bytes)| with_evidence(seq, bytes)).collect();
        let records = replica.admit("web-1", 1, events.clone());
        replica.writer.append(&records).unwrap();
        let found = topic(&settings, "web-1", 7).await;
        let read: Vec<_> = found.values().map(|(bytes, times)| (bytes.clone(), *times)).collect();
        assert_eq!(read, events.into_iter().map(|event| (event, 1)).collect::<Vec<_>>());
        replica.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_put_aside_and_what_is_behind_it_goes_on() {
    let kafka = kafka();
    let settings = settings(&kafka, "poison", |_| {});
    let mut replica = Replica::open(&settings);
    replica.hello("web-1", 1);
    let events = vec![event(1), vec![0xff; 100].into(), event(3)];
    let records = replica.admit("web-1", 1, events);
    replica.writer.append(&records).unwrap();
    assert_eq!(replica.writer.gauge().stats().dead_letters, 1);
    let found = topic(&settings, "web-1", 3).await;
    assert_eq!(found.keys().map(|(_, seq)| *seq).collect::<Vec<_>>(), [1, 3]);
    replica.close();
    let mut letters = Vec::new();
    DeadLetter::each(&settings, |letter| {
        letters.push((letter.id, letter.event));
        Ok(())
    })
    .unwrap();
    assert_eq!(letters, [("web-1/0000000000000007/2".to_owned(), Bytes::from(vec![0xff; 100]))]);
    assert_eq!(DeadLetter::replay(&settings, render).unwrap(), Replayed { written: 0, left: 1 });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_aside_is_written_again_when_it_can_be() {
    let kafka = kafka();
    let small = settings(&kafka, "again", |config| config.max_record_bytes = Size::kib(16));
    let mut replica = Replica::open(&small);
    replica.hello("web-1", 1);
    let large: Bytes = Event { summary: "x".repeat(50_000), ..Event::default() }.encode_to_vec().into();
    let records = replica.admit("web-1", 1, vec![event(1), large.clone(), event(3)]);
    replica.writer.append(&records).unwrap();
    replica.close();
    assert_eq!(DeadLetter::replay(&small, render).unwrap(), Replayed { written: 0, left: 1 });
    let settings = settings(&kafka, "again", |_| {});
    for _ in 0..2 {
        assert_eq!(DeadLetter::replay(&settings, render).unwrap(), Replayed { written: 1, left: 0 });
    }
    let found = topic(&settings, "web-1", 2).await;
    assert_eq!(found[&("web-1".to_owned(), 2)].0, large);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_hangs_acknowledges_nothing_and_loses_nothing() {
    let kafka = kafka();
    let settings = settings(&kafka, "hang", |config| config.patience = Span::from_secs(2));
    let mut replica = Replica::open(&settings);
    replica.hello("web-1", 1);
    replica.append("web-1", 1, 100).unwrap();
    kafka.pause();
    let error = replica.append("web-1", 101, 200).unwrap_err();
    assert_eq!(error.class(), galen_log::Class::Retryable);
    assert!(Chain(&error).to_string().contains("acknowledged 0 of 100 records"), "{}", Chain(&error));
    assert!(replica.writer.append(&[]).is_err(), "it takes nothing until it is open again");
    assert!(replica.writer.reopen().is_err(), "the broker hangs still");
    kafka.resume();
    replica.reopened();
    assert_eq!(replica.upto("web-1"), 100);
    replica.hello("web-1", 101);
    replica.append("web-1", 101, 200).unwrap();
    has_all(&topic(&settings, "web-1", 200).await, "web-1", 200);
    replica.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_broker_of_three_gone_it_goes_on_with_two_gone_it_refuses_and_nothing_is_lost() {
    let kafka = kafka3();
    let settings = settings(&kafka, "three", |config| {
        config.replication = 3;
        config.patience = Span::from_secs(30);
    });
    let mut replica = Replica::open(&settings);
    replica.hello("web-1", 1);
    replica.append("web-1", 1, 100).unwrap();
    kafka.kill_broker(1);
    replica.append("web-1", 101, 200).unwrap();
    kafka.kill_broker(2);
    let error = replica.append("web-1", 201, 300).unwrap_err();
    assert_eq!(error.class(), galen_log::Class::Retryable);
    kafka.restart_broker(1);
    kafka.restart_broker(2);
    replica.reopened();
    replica.hello("web-1", 201);
    replica.append("web-1", 201, 300).unwrap();
    has_all(&topic(&settings, "web-1", 300).await, "web-1", 300);
    replica.close();
}

#[test]
fn a_missing_topic_is_named() {
    let kafka = kafka();
    let settings = settings(&kafka, "missing", |config: &mut Config| config.create_topics = false);
    let error = Writer::open(&settings, &Supervisor::new(), render).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("`missing.events`") && error.contains("kafka.create_topics"), "{error}");
    galen_services::topic(&kafka, "missing.events", 1, &[]);
    let error = Writer::open(&settings, &Supervisor::new(), render).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("`missing.watermarks`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_takes_less_than_the_settings_say_gets_smaller_records() {
    let kafka = kafka();
    galen_services::topic(&kafka, "small.events", 1, &["--config", "max.message.bytes=20000"]);
    let settings = settings(&kafka, "small", |_| {});
    let mut replica = Replica::open(&settings);
    replica.hello("web-1", 1);
    let events = vec![with_evidence(1, 100_000), event(2)];
    let records = replica.admit("web-1", 1, events.clone());
    replica.writer.append(&records).unwrap();
    let found = topic(&settings, "web-1", 2).await;
    assert_eq!(found.values().map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>(), events);
    assert!(Event::decode(events[0].clone()).is_ok());
    replica.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_ended_before_it_acknowledged_leaves_its_events_twice_in_the_topic_and_once_for_readers() {
    let kafka = kafka();
    let settings = settings(&kafka, "ended", |_| {});
    let mut first = Replica::open(&settings);
    first.hello("web-1", 1);
    first.append("web-1", 1, 50).unwrap();
    // It ends as if killed: nobody is told of what it settled, the agent least of all.
    std::mem::forget(first);
    let mut second = Replica::open(&settings);
    second.hello("web-1", 1);
    second.append("web-1", 1, 60).unwrap();
    let (mut reader, mut found) = (Reader::join(&settings, &Link::default(), "twice").unwrap(), Found::new());
    read_until(&mut reader, &mut found, |found| found.values().map(|(_, times)| times).sum::<usize>() == 110).await;
    has_all(&found, "web-1", 60);
    second.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_moves_is_known_where_it_comes() {
    let kafka = kafka();
    let settings = settings(&kafka, "moves", |_| {});
    let (mut first, mut second) = (Replica::open(&settings), Replica::open(&settings));
    first.hello("web-1", 1);
    first.append("web-1", 1, 50).unwrap();
    first.append("web-1", 71, 80).unwrap();
    first.close();
    let deadline = std::time::Instant::now() + support::PATIENCE;
    loop {
        second.hello("web-1", 1);
        let progress = second.watermarks.progress("web-1", support::EPOCH).unwrap();
        if progress.upto == 50 && progress.settled.len() == 1 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{progress:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(second.admit("web-1", 1, (1..=50).map(event).collect()).is_empty());
    second.close();
    // And by one that starts later.
    let mut third = Replica::open(&settings);
    assert_eq!(third.upto("web-1"), 50);
    third.hello("web-1", 51);
    third.append("web-1", 51, 80).unwrap();
    let found = topic(&settings, "web-1", 70).await;
    has_all(&found, "web-1", 80);
    assert!(found.values().all(|(_, times)| *times == 1), "each once, because what was settled was known");
    third.close();
}
