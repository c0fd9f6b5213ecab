//! Sessions over real connections: what is taken, what is refused and how, and that others do not notice.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use galen_proto::v1::{AgentMessage, Batch, Hello, LossCounter, LossReason, Queue, Range, agent_message};
use galen_runtime::{Size, Span};
use prost::Message;
use support::{Aggregator, EPOCH, PATIENCE, batch, event, events_of, hello, logged, loss, queue, settings};
use tempfile::tempdir;
use tokio::io::AsyncWriteExt;
use tonic::Code;

#[tokio::test]
async fn what_is_acknowledged_is_in_the_log_once_whatever_is_sent_again() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let (mut agent, welcome) = aggregator.welcomed(hello("web-1", &[queue(1, 21)])).await;
    assert_eq!((welcome.protocol, welcome.progress[0].epoch, welcome.progress[0].upto), (1, EPOCH, 0));
    agent.batch(Batch { next_seq: 21, ..batch(1, 10) }).await;
    agent.batch(Batch { next_seq: 21, ..batch(1, 10) }).await;
    agent.batch(batch(6, 20)).await;
    agent.acknowledged(20).await;
    drop(agent);

    let (mut agent, welcome) = aggregator.welcomed(hello("web-1", &[queue(1, 31)])).await;
    assert_eq!(welcome.progress[0].upto, 20);
    agent.batch(batch(11, 30)).await;
    agent.acknowledged(30).await;
    aggregator.stop().await;

    let expected: Vec<(u64, Bytes)> = (1..=30).map(|seq| (seq, event(seq))).collect();
    assert_eq!(events_of(&logged(dir.path()).await, "web-1"), expected);
}

#[tokio::test]
async fn progress_survives_a_restart() {
    let dir = tempdir().unwrap();
    for round in 0..3 {
        let aggregator = Aggregator::start(dir.path()).await;
        let (mut agent, welcome) = aggregator.welcomed(hello("web-1", &[queue(1, 100)])).await;
        assert_eq!(welcome.progress[0].upto, round * 10);
        agent.batch(Batch { next_seq: 100, ..batch(round * 10 + 1, round * 10 + 10) }).await;
        agent.acknowledged(round * 10 + 10).await;
        aggregator.stop().await;
        agent.ends(Code::Unavailable, "shutting down").await;
    }
    assert_eq!(events_of(&logged(dir.path()).await, "web-1").len(), 30);
}

#[tokio::test]
async fn fresh_events_may_overtake_and_declared_losses_close_the_gap() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[queue(1, 51)])).await;
    agent.batch(batch(41, 50)).await;
    agent.batch(Batch { next_seq: 51, ..batch(1, 10) }).await;
    agent.acknowledged(10).await;
    let (mut agent, welcome) = aggregator.welcomed(hello("web-1", &[queue(11, 51)])).await;
    assert_eq!(welcome.progress[0].settled, [Range { first: 41, last: 50 }]);
    let counters = vec![LossCounter { reason: LossReason::RingFull as i32, tracer: "oom".into(), count: 7 }];
    for _ in 0..2 {
        let lost = Batch {
            epoch: EPOCH,
            lost: vec![loss(5, 40)],
            next_seq: 51,
            counters: counters.clone(),
            ..Batch::default()
        };
        agent.batch(lost).await;
        agent.acknowledged(50).await;
    }
    aggregator.stop().await;

    let records = logged(dir.path()).await;
    let lost: Vec<_> = records.iter().flat_map(|record| record.lost.clone()).collect();
    assert_eq!(lost, [loss(11, 40)], "only what was not delivered, and once");
    assert_eq!(records.iter().flat_map(|record| record.counters.clone()).collect::<Vec<_>>(), counters);
}

#[tokio::test]
async fn a_wiped_data_directory_is_a_declared_loss_and_the_agent_goes_on() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let (mut agent, welcome) = aggregator.welcomed(hello("web-1", &[queue(101, 111)])).await;
    assert_eq!(welcome.progress[0].upto, 100);
    agent.batch(batch(101, 110)).await;
    agent.acknowledged(110).await;
    aggregator.stop().await;
    let records = logged(dir.path()).await;
    assert_eq!(records[0].lost[0].range, Some(Range { first: 1, last: 100 }));
    assert_eq!(records[0].lost[0].reason, LossReason::LogLost as i32);
    assert_eq!(events_of(&records, "web-1").len(), 10);
}

#[tokio::test]
async fn a_newer_stream_of_a_node_replaces_the_older() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let (mut old, _) = aggregator.welcomed(hello("web-1", &[queue(1, 100)])).await;
    let (mut other, _) = aggregator.welcomed(hello("web-2", &[queue(1, 100)])).await;
    let (mut new, _) = aggregator.welcomed(hello("web-1", &[queue(1, 100)])).await;
    old.ends(Code::Aborted, "newer session").await;
    old.batch(Batch { next_seq: 100, ..batch(50, 60) }).await;
    for agent in [&mut new, &mut other] {
        agent.batch(Batch { next_seq: 100, ..batch(1, 10) }).await;
        agent.acknowledged(10).await;
    }
    aggregator.stop().await;
    let records = logged(dir.path()).await;
    assert_eq!(events_of(&records, "web-1").len(), 10, "the old stream writes nothing any more");
    assert_eq!(events_of(&records, "web-2").len(), 10);
}

/// What is refused: a name, the messages behind the hello, the status.
fn wrong_batches() -> Vec<(&'static str, Vec<Batch>, Code, &'static str)> {
    let ahead = |batch: Batch| Batch { next_seq: 1000, ..batch };
    let gaps = (0..17).map(|gap| ahead(batch(gap * 2 + 10, gap * 2 + 10))).collect();
    vec![
        (
            "an unknown queue",
            vec![Batch { epoch: 99, ..ahead(batch(1, 2)) }],
            Code::FailedPrecondition,
            "not announced",
        ),
        ("number zero", vec![ahead(Batch { first_seq: 0, ..batch(1, 2) })], Code::InvalidArgument, "begin at 1"),
        ("the future", vec![Batch { next_seq: 100, ..batch(95, 100) }], Code::InvalidArgument, "from the future"),
        (
            "a number at the end of numbers",
            vec![ahead(Batch { first_seq: u64::MAX, ..batch(1, 2) })],
            Code::InvalidArgument,
            "from the future",
        ),
        (
            "a next number that went back",
            vec![ahead(batch(1, 2)), Batch { next_seq: 999, ..batch(3, 4) }],
            Code::FailedPrecondition,
            "went back",
        ),
        (
            "too many events",
            vec![ahead(Batch { events: vec![event(1); 65], ..batch(1, 1) })],
            Code::ResourceExhausted,
            "65 events, at most 64",
        ),
        (
            "too many bytes",
            vec![ahead(Batch { events: vec![vec![0; 70 << 10].into()], ..batch(1, 1) })],
            Code::ResourceExhausted,
            "larger than",
        ),
        (
            "far too many bytes",
            vec![ahead(Batch { events: vec![vec![0; 900 << 10].into()], ..batch(1, 1) })],
            Code::ResourceExhausted,
            "larger than",
        ),
        (
            "too many losses",
            vec![ahead(Batch { lost: vec![loss(1, 1); 1025], ..Batch { epoch: EPOCH, ..Batch::default() } })],
            Code::ResourceExhausted,
            "1025 losses",
        ),
        (
            "a counter of a tracer whose name has no end",
            vec![ahead(Batch {
                counters: vec![LossCounter { tracer: "x".repeat(300), count: 1, ..LossCounter::default() }],
                ..batch(1, 2)
            })],
            Code::ResourceExhausted,
            "300 bytes in a counter's tracer, at most 256",
        ),
        (
            "an empty range",
            vec![ahead(Batch { lost: vec![loss(5, 4)], ..batch(1, 2) })],
            Code::InvalidArgument,
            "no range",
        ),
        (
            "a range from zero",
            vec![ahead(Batch { lost: vec![loss(0, 4)], ..batch(1, 2) })],
            Code::InvalidArgument,
            "no range",
        ),
        (
            "a loss in the future",
            vec![ahead(Batch { lost: vec![loss(5, 1000)], ..batch(1, 2) })],
            Code::InvalidArgument,
            "from the future",
        ),
        (
            "a loss without a range",
            vec![ahead(Batch { lost: vec![Default::default()], ..batch(1, 2) })],
            Code::InvalidArgument,
            "no range",
        ),
        ("more than 16 gaps", gaps, Code::InvalidArgument, "more than 16 gaps"),
    ]
}

#[tokio::test]
async fn a_wrong_batch_ends_its_stream_with_the_reason_and_no_other() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::with(settings(dir.path(), |config| {
        config.sessions.max_batch_events = 64;
        config.sessions.max_batch_bytes = Size::kib(64);
    }))
    .await;
    let (mut bystander, _) = aggregator.welcomed(hello("bystander", &[queue(1, 1000)])).await;
    let mut sent = 0;
    for (what, batches, code, text) in wrong_batches() {
        let node = what.replace(' ', "-");
        let (mut agent, _) = aggregator.welcomed(hello(&node, &[queue(1, 100)])).await;
        for batch in batches {
            agent.batch(batch).await;
        }
        let status = agent.end().await;
        assert_eq!(status.code(), code, "{what}: {status}");
        assert!(status.message().contains(text), "{what}: `{}` does not say `{text}`", status.message());
        bystander.batch(Batch { next_seq: 1000, ..batch(sent + 1, sent + 3) }).await;
        sent += 3;
        bystander.acknowledged(sent).await;
        // The node itself may come back at once.
        aggregator.welcomed(hello(&node, &[queue(1, 1000)])).await;
    }
}

fn wrong_hellos() -> Vec<(&'static str, Hello, Code, &'static str)> {
    let with = |queue: Queue| hello("web-1", &[queue]);
    let many = (1..=65).map(|epoch| Queue { epoch, ..queue(1, 1) }).collect::<Vec<_>>();
    vec![
        (
            "a version",
            Hello { protocol: 2, ..hello("web-1", &[]) },
            Code::FailedPrecondition,
            "version 2 is not served",
        ),
        ("no name", hello("", &[]), Code::InvalidArgument, "name"),
        ("a long name", hello(&"x".repeat(254), &[]), Code::InvalidArgument, "name"),
        ("a name with a line break", hello("a\nb", &[]), Code::InvalidArgument, "name"),
        ("too many queues", hello("web-1", &many), Code::ResourceExhausted, "65 queues"),
        ("epoch zero", with(Queue { epoch: 0, ..queue(1, 1) }), Code::InvalidArgument, "epoch is zero"),
        ("number zero", with(queue(0, 1)), Code::InvalidArgument, "begin at 1"),
        ("an end before the beginning", with(queue(5, 4)), Code::InvalidArgument, "ends before"),
        ("a queue twice", hello("web-1", &[queue(1, 1), queue(1, 1)]), Code::InvalidArgument, "twice"),
    ]
}

#[tokio::test]
async fn a_wrong_hello_is_refused_with_the_reason() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    for (what, hello, code, text) in wrong_hellos() {
        let status = aggregator.hello(hello).await.end().await;
        assert_eq!(status.code(), code, "{what}: {status}");
        assert!(status.message().contains(text), "{what}: `{}` does not say `{text}`", status.message());
    }
    let mut agent = aggregator.call().await;
    agent.batch(batch(1, 2)).await;
    agent.ends(Code::FailedPrecondition, "first message must be a hello").await;
    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[])).await;
    agent.send(agent_message::Message::Hello(hello("web-1", &[]))).await;
    agent.ends(Code::FailedPrecondition, "one hello").await;
}

#[tokio::test]
async fn a_queue_that_went_back_is_told_so_and_its_batches_are_refused() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[queue(1, 11)])).await;
    agent.batch(batch(1, 10)).await;
    agent.acknowledged(10).await;
    // An older copy of itself, which gives numbers again that the log has.
    let (mut agent, welcome) = aggregator.welcomed(hello("web-1", &[queue(1, 8)])).await;
    assert_eq!(welcome.progress[0].upto, 10);
    agent.batch(batch(8, 9)).await;
    agent.ends(Code::FailedPrecondition, "must begin a new epoch").await;
    // It may deliver what else it has, and what it records from now on.
    let newer = Queue { epoch: EPOCH + 1, ..queue(1, 3) };
    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[queue(1, 8), newer])).await;
    agent.batch(Batch { epoch: EPOCH + 1, ..batch(1, 2) }).await;
    agent.acknowledged(2).await;
}

#[tokio::test]
async fn bytes_that_are_no_message_end_their_stream_and_no_other() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let (mut bystander, _) = aggregator.welcomed(hello("bystander", &[queue(1, 1000)])).await;

    let mut agent = aggregator.call().await;
    agent.send_bytes(&b"\xff\xff\xff\xff"[..]).await;
    agent.ends(Code::InvalidArgument, "cannot be decoded").await;

    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[queue(1, 1000)])).await;
    let whole = AgentMessage { message: Some(agent_message::Message::Batch(batch(1, 20))) }.encode_to_vec();
    agent.send_bytes(whole[..whole.len() / 2].to_vec()).await;
    agent.ends(Code::InvalidArgument, "cannot be decoded").await;

    let mut stranger = tokio::net::TcpStream::connect(aggregator.addresses.grpc).await.unwrap();
    stranger.write_all(&[0x5a; 4096]).await.unwrap();

    bystander.batch(Batch { next_seq: 1000, ..batch(1, 3) }).await;
    bystander.acknowledged(3).await;
}

#[tokio::test]
async fn a_message_of_a_later_version_is_ignored() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[queue(1, 1000)])).await;
    // Field 99, two bytes: no member of the oneof that this version knows.
    agent.send_bytes(&b"\x9a\x06\x02ok"[..]).await;
    agent.batch(Batch { next_seq: 1000, ..batch(1, 3) }).await;
    agent.acknowledged(3).await;
}

#[tokio::test]
async fn an_agent_that_is_silent_is_let_go_and_one_with_heartbeats_is_not() {
    let dir = tempdir().unwrap();
    let beats = |config: &mut galen_aggregator::Config| config.sessions.heartbeat = Span::from_millis(100);
    let aggregator = Aggregator::with(settings(dir.path(), beats)).await;
    let (mut silent, _) = aggregator.welcomed(hello("silent", &[])).await;
    let (mut alive, welcome) = aggregator.welcomed(hello("alive", &[queue(1, 1000)])).await;
    assert_eq!(welcome.heartbeat_millis, 100);
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            status = silent.end() => {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                assert!(status.message().contains("three heartbeats"), "{status}");
                break;
            }
            _ = beat.tick() => alive.heartbeat(Default::default()).await,
        }
    }
    alive.batch(Batch { next_seq: 1000, ..batch(1, 3) }).await;
    alive.acknowledged(3).await;
}

#[tokio::test]
async fn more_agents_than_allowed_are_refused_until_one_leaves() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::with(settings(dir.path(), |config| config.sessions.max_agents = 1)).await;
    let (first, _) = aggregator.welcomed(hello("web-1", &[])).await;
    let mut second = aggregator.hello(hello("web-2", &[])).await;
    second.ends(Code::ResourceExhausted, "as many as are allowed").await;
    // The node that is connected may come back all the same.
    let (again, _) = aggregator.welcomed(hello("web-1", &[])).await;
    drop((first, again));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut second = aggregator.hello(hello("web-2", &[queue(1, 10)])).await;
        second.batch(Batch { next_seq: 10, ..batch(1, 3) }).await;
        let status = tokio::select! {
            status = second.end() => status,
            () = tokio::time::sleep(Duration::from_millis(200)) => break,
        };
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert!(tokio::time::Instant::now() < deadline, "the seat is never free: {status}");
    }
}

#[tokio::test]
async fn an_agent_that_does_not_wait_for_its_credit_is_slowed_down_and_loses_nothing() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::with(settings(dir.path(), |config| {
        config.sessions.credit = Size::kib(64);
        config.sessions.memory = Size::kib(64);
    }))
    .await;
    let (mut agent, welcome) = aggregator.welcomed(hello("web-1", &[queue(1, 1000)])).await;
    assert_eq!(welcome.credit_bytes, 64 << 10);
    for first in 0..100 {
        let events = vec![Bytes::from(vec![7; 100 << 10])];
        agent.batch(Batch { events, next_seq: 1000, ..batch(first + 1, first + 1) }).await;
    }
    agent.acknowledged(100).await;
    aggregator.stop().await;
    assert_eq!(events_of(&logged(dir.path()).await, "web-1").len(), 100);
}
