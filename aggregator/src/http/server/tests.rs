//! Clients that take what they can: connections, time, and the patience of a writer.

use std::{convert::Infallible, net::SocketAddr};

use axum::routing::get;
use bytes::Bytes;
use futures_util::stream::repeat;
use galen_runtime::Drained;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::*;

/// For anything that must happen: far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than the buffers of both sockets hold.
const LARGE: usize = 64 << 20;

struct Server {
    supervisor: Supervisor,
    address: SocketAddr,
    metrics: Metrics,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let supervisor = Supervisor::new();
        let metrics = Metrics::register(&Registry::default()).unwrap();
        let endless = || async { Body::from_stream(repeat(Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 4096])))) };
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/large", get(|| async { vec![b'x'; LARGE] }))
            .route("/endless", get(endless));
        serve(&supervisor, listener, None, router, limits, metrics.clone());
        Self { supervisor, address, metrics }
    }

    async fn connect(&self, says: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(says.as_bytes()).await.unwrap();
        stream
    }

    /// Whether a connection that asks is answered; otherwise it is closed without a word.
    async fn answers(&self) -> bool {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // One that is refused may be closed before it has said anything.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        let mut text = String::new();
        let read = timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("an end in time");
        read.is_ok() && text.ends_with("here")
    }

    async fn answers_again(&self) {
        let again = async {
            while !self.answers().await {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, again).await.expect("the place is free again");
    }

    async fn stop(self) {
        assert_eq!(self.supervisor.drain(PATIENCE).await, Drained::Complete);
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_counted_until_one_is_free() {
    let server = Server::start(Limits { connections: 2, ..Limits::default() }).await;
    // An answer shows that a place is taken, not just asked for.
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let mut first = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut first)).await.expect("an answer in time").unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(stream);
    }
    assert!(!server.answers().await);
    assert_eq!(server.metrics.connections_refused.get(), 1);
    held.pop();
    server.answers_again().await;
    drop(held);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_in_time_ends_the_connection() {
    // Not what hyper has of itself.
    let limits = Limits { head: Duration::from_secs(7), ..Limits::default() };
    let server = Server::start(limits).await;
    for says in ["", "GET / HTTP/1.1\r\nHost: loc"] {
        let begun = tokio::time::Instant::now();
        let mut stream = server.connect(says).await;
        let mut text = Vec::new();
        timeout(limits.head * 2, stream.read_to_end(&mut text)).await.expect("an end in time").unwrap();
        assert!(begun.elapsed() >= limits.head, "{says:?} was cut off early");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_loses_its_place() {
    let limits = Limits { connections: 1, stall: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(limits).await;
    for path in ["/large", "/endless"] {
        let mut stalled = server.connect(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        let mut first = [0; 12];
        timeout(PATIENCE, stalled.read_exact(&mut first)).await.expect("an answer in time").unwrap();
        server.answers_again().await;
        drop(stalled);
    }
    server.stop().await;
}
