//! A disk that is full: agents are told to come later, and lose nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;

use bytes::Bytes;
use galen_proto::v1::Batch;
use galen_runtime::Size;
use galen_scratch::Tmpfs;
use support::{Aggregator, PATIENCE, batch, events_of, hello, logged, queue, settings};
use tonic::Code;

#[tokio::test]
async fn a_full_disk_makes_agents_wait_and_loses_nothing() {
    let Some(disk) = Tmpfs::mount(2 << 20) else { return };
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![1; 1 << 20]).unwrap();
    let data_dir = disk.path().join("data");
    let aggregator = Aggregator::with(settings(&data_dir, |config| {
        config.log.segment_bytes = Size::kib(256);
        config.log.retention_bytes = Size::gib(1);
    }))
    .await;
    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[queue(1, 1000)])).await;
    let big = |seq| {
        let events = vec![Bytes::from(vec![seq as u8; 100 << 10])];
        Batch { events, next_seq: 1000, ..batch(seq, seq) }
    };
    for seq in 1..=15 {
        agent.batch(big(seq)).await;
    }
    agent.ends(Code::Unavailable, "takes nothing now").await;
    fs::remove_file(&filler).unwrap();

    let deadline = tokio::time::Instant::now() + PATIENCE;
    let (mut agent, upto) = loop {
        let mut agent = aggregator.hello(hello("web-1", &[queue(1, 1000)])).await;
        let refused = tokio::select! {
            biased;
            welcome = agent.welcome_or_end() => welcome,
            () = tokio::time::sleep_until(deadline) => panic!("the log is not opened again"),
        };
        match refused {
            Ok(welcome) => break (agent, welcome.progress[0].upto),
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
        }
    };
    assert!((1..15).contains(&upto), "{upto}");
    for seq in upto + 1..=15 {
        agent.batch(big(seq)).await;
    }
    agent.acknowledged(15).await;
    aggregator.stop().await;
    let events = events_of(&logged(&data_dir).await, "web-1");
    assert_eq!(events.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (1..=15).collect::<Vec<_>>());
    assert!(events.iter().all(|(seq, event)| event.len() == 100 << 10 && event.iter().all(|byte| *byte == *seq as u8)));
}
