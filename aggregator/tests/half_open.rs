//! Ten thousand connections that wait before their handshakes, in a process of their own because they take the machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "tls/certificates.rs"]
mod certificates;
mod support;

use std::{net::SocketAddr, time::Duration};

use certificates::{Fleet, days};
use galen_certificates::Subject;
use support::{PATIENCE, batch};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};

const HALF_OPEN: usize = 10_000;
/// How a client of TLS begins: a record of a handshake, of which the rest is missing.
const BEGINNING: &[u8] = b"\x16\x03\x01\x02\x00\x01";
const CROWDED_OUT: &str = "galen_aggregator_tls_failed_handshakes_total{reason=\"crowded_out\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_half_open_connections_keep_no_agent_out() {
    galen_aggregator::raise_file_limit();
    let fleet = Fleet::start().await;
    let files = fleet.files(Subject::Node("web-1"), days(1));
    let mut before = fleet.agent("web-0", &fleet.files(Subject::Node("web-0"), days(1))).await;
    before.welcome().await;
    let mut strangers = JoinSet::new();
    for place in 0..HALF_OPEN {
        strangers.spawn(half_open(fleet.aggregator.addresses.grpc, place));
    }
    let mut held = Vec::new();
    // More than there are places: the others stand before it in the kernel's queue, and more come behind it.
    while held.len() < HALF_OPEN / 2 {
        held.push(timeout(15 * PATIENCE, strangers.join_next()).await.expect("a connection in time").unwrap());
    }
    // It dials as a real one does: with a bound, and again.
    let began = Instant::now();
    let delivers = async || {
        let mut agent = fleet.try_agent("web-1", &files).await?;
        agent.batch(batch(1, 3)).await;
        agent.try_acknowledged(3).await
    };
    while !matches!(timeout(Duration::from_secs(5), delivers()).await, Ok(Ok(()))) {
        assert!(began.elapsed() < 15 * PATIENCE, "it is kept out");
    }
    before.batch(batch(1, 3)).await;
    before.acknowledged(3).await;
    fleet.becomes(CROWDED_OUT, |count| count > 0.0).await;
    drop(held);
}

/// A connection that says nothing, or not enough.
async fn half_open(to: SocketAddr, place: usize) -> TcpStream {
    loop {
        if let Ok(mut stream) = TcpStream::connect(to).await {
            if place.is_multiple_of(10) {
                let _ = stream.write_all(BEGINNING).await;
            }
            return stream;
        }
    }
}
