//! Events as they come.

use std::net::SocketAddr;

use bytes::Bytes;
use galen_proto::v1::Event;
use prost::Message;
use serde_json::Value;
use tempfile::tempdir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    events::{NOON, SECOND, event, send, with_events},
    support::PATIENCE,
};

/// A connection that takes hardly more than is read from it.
async fn narrow(http: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(http).await.unwrap()
}

/// The lines of a stream of events, which begin once it says that it follows.
async fn follow(stream: TcpStream, http: SocketAddr) -> Lines<BufReader<TcpStream>> {
    follow_tracer("oom", stream, http).await
}

async fn follow_tracer(tracer: &str, stream: TcpStream, http: SocketAddr) -> Lines<BufReader<TcpStream>> {
    follow_at(&format!("/api/v1/events/stream?query=tracer:{tracer}"), stream, http).await
}

pub(crate) async fn follow_at(path: &str, stream: TcpStream, http: SocketAddr) -> Lines<BufReader<TcpStream>> {
    let mut stream = BufReader::new(stream);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {http}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = stream.lines();
    next(&mut lines, ": following").await;
    lines
}

/// The next message.
pub(crate) async fn message(lines: &mut Lines<BufReader<TcpStream>>) -> Value {
    serde_json::from_str(&next(lines, "data: ").await).unwrap()
}

/// The number in the event's identity.
fn seq_of(message: &Value) -> u64 {
    message["id"].as_str().unwrap().rsplit('/').next().unwrap().parse().unwrap()
}

/// What comes behind `prefix` in the next line that begins with it.
async fn next(lines: &mut Lines<BufReader<TcpStream>>, prefix: &str) -> String {
    loop {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap().expect("a line");
        if let Some(rest) = line.strip_prefix(prefix) {
            return rest.to_owned();
        }
    }
}

#[tokio::test]
async fn a_follower_that_does_not_read_holds_up_nobody_and_misses_nothing() {
    /// With their size more than the connection's buffers hold.
    const EVENTS: u64 = 300;
    let dir = tempdir().unwrap();
    let (aggregator, mut agent) = with_events(&dir, &[event("cpuidle", NOON)]).await;
    let http = aggregator.addresses.http;
    let mut slow = follow(narrow(http).await, http).await;
    let mut fast = follow(TcpStream::connect(http).await.unwrap(), http).await;
    let data = format!("{{\"filler\":\"{}\"}}", "x".repeat(32 << 10));
    let large = Bytes::from(Event { data: data.into(), ..event("oom", NOON) }.encode_to_vec());
    for first in (2..2 + EVENTS).step_by(4) {
        send(&mut agent, first, vec![large.clone(); 4]).await;
    }
    for lines in [&mut fast, &mut slow] {
        for seq in 2..2 + EVENTS {
            let event: Value = serde_json::from_str(&next(lines, "data: ").await).unwrap();
            assert_eq!(event["id"], format!("web-1/0000000000c0ffee/{seq}"));
        }
    }
    aggregator.stop().await;
}

#[tokio::test]
async fn a_follower_that_is_too_far_behind_is_told_how_many_it_missed_and_others_miss_none() {
    /// More than twice of what a follower may be behind, and what the connection's buffers hold.
    const EVENTS: u64 = 50_000;
    /// Events of a batch, one of which concerns somebody else.
    const BATCH: u64 = 1000;
    let dir = tempdir().unwrap();
    let (aggregator, mut agent) = with_events(&dir, &[event("cpuidle", NOON)]).await;
    let http = aggregator.addresses.http;
    let mut slow = follow(narrow(http).await, http).await;
    let mut other = follow_tracer("cpusys", TcpStream::connect(http).await.unwrap(), http).await;
    let data = Bytes::from(format!("{{\"filler\":\"{}\"}}", "x".repeat(600)));
    let [many, rare] =
        ["oom", "cpusys"].map(|tracer| Event { data: data.clone(), ..event(tracer, NOON) }.encode_to_vec().into());
    let mut events = vec![many; BATCH as usize - 1];
    events.insert(0, rare);
    let firsts: Vec<u64> = (2..2 + EVENTS).step_by(BATCH as usize).collect();
    for first in &firsts {
        send(&mut agent, *first, events.clone()).await;
    }
    for seq in &firsts {
        assert_eq!(seq_of(&message(&mut other).await), *seq);
    }
    // All of it is stored; the follower has read nothing so far.
    let (mut missed, mut found, mut before) = (0, 0, 0);
    while before < 1 + EVENTS {
        let message = message(&mut slow).await;
        match message.get("missed").and_then(Value::as_u64) {
            Some(more) => missed += more,
            None => {
                let seq = seq_of(&message);
                assert!(seq > before, "{seq} comes behind {before}");
                (found, before) = (found + 1, seq);
            }
        }
    }
    assert!(missed > 0, "it was never far behind");
    assert_eq!(found + missed, EVENTS - firsts.len() as u64);
    aggregator.stop().await;
}

#[tokio::test]
async fn a_follower_gets_what_is_stored_from_then_on_as_cloudevents() {
    let dir = tempdir().unwrap();
    let (aggregator, mut agent) = with_events(&dir, &[event("cpuidle", NOON)]).await;
    let http = aggregator.addresses.http;
    let mut lines = follow(TcpStream::connect(http).await.unwrap(), http).await;
    let events = [event("cpuidle", NOON), event("oom", NOON + SECOND)];
    send(&mut agent, 2, events.iter().map(|event| event.encode_to_vec().into()).collect()).await;
    let event: Value = serde_json::from_str(&next(&mut lines, "data: ").await).unwrap();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["id"], "web-1/0000000000c0ffee/3");
    assert_eq!(event["source"], "/nodes/web-1");
    assert_eq!(event["type"], "io.galen.event.oom.trigger");
    assert_eq!(event["subject"], "web-1");
    assert_eq!(event["time"], "2025-11-24T12:00:01.000Z");
    assert_eq!(event["datacontenttype"], "application/json");
    assert_eq!(event["data"]["data"]["user_percent"], 97.5);
    // A follower does not hold up the end.
    aggregator.stop().await;
}
