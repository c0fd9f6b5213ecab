//! A real OpenSearch, and a consumer that hands out what a test wrote.

#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its part, and fails by panicking")]

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use bytes::Bytes;
use galen_log::{BoxFuture, Consumer, Delivery, Error, Place};
use galen_opensearch::{Counters, Indexer, Settings, Stats};
use galen_proto::v1::LogRecord;
use galen_services::Server;
use opensearch::http::{Method, headers::HeaderMap, transport::Transport};
use serde_json::Value;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

/// For anything that must happen: far more than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The server that the tests of one process share, while any of them runs.
pub(crate) fn shared() -> Arc<Server> {
    static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SERVER.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(galen_services::opensearch());
        *shared = Arc::downgrade(&server);
        server
    })
}

pub(crate) fn settings(server: &Server, prefix: &str) -> Settings {
    Settings {
        urls: vec![server.url().parse().unwrap()],
        prefix: prefix.into(),
        shards: 1,
        replicas: 0,
        user: None,
        password_file: None,
        ca_file: None,
        certificate_file: None,
        key_file: None,
        bulk_bytes: 4 << 20,
        bulk_events: 1000,
        concurrency: 2,
        // An answer that comes too late says nothing of what was done: figures would not be exact.
        timeout: PATIENCE,
        retention: Duration::from_secs(100 * 365 * 86_400),
    }
}

/// Hands out its records one by one, then waits.
pub(crate) struct Queue {
    records: VecDeque<LogRecord>,
    next: u64,
    committed: Arc<Mutex<u64>>,
}

impl Consumer for Queue {
    fn next(&mut self, _max_events: usize) -> BoxFuture<'_, Result<Delivery, Error>> {
        Box::pin(async {
            let Some(record) = self.records.pop_front() else { return pending().await };
            self.next += record.events.len() as u64;
            Ok(Delivery { records: vec![record], place: Place(vec![(0, self.next)]), ..Delivery::default() })
        })
    }

    fn commit(&mut self, place: &Place) -> BoxFuture<'_, Result<(), Error>> {
        *self.committed.lock().unwrap() = place.0[0].1;
        Box::pin(async { Ok(()) })
    }

    fn lag(&self) -> u64 {
        self.next - *self.committed.lock().unwrap()
    }
}

/// An indexer at work.
pub(crate) struct Running {
    pub(crate) counters: Arc<Counters>,
    committed: Arc<Mutex<u64>>,
    events: u64,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), galen_opensearch::Error>>,
}

impl Running {
    pub(crate) fn start(settings: Settings, records: Vec<LogRecord>) -> Self {
        let counters = Arc::<Counters>::default();
        let indexer = Indexer::new(settings, Arc::clone(&counters)).unwrap();
        let committed = Arc::<Mutex<u64>>::default();
        let events = records.iter().map(|record| record.events.len() as u64).sum();
        let mut queue = Queue { records: records.into(), next: 0, committed: Arc::clone(&committed) };
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        #[allow(clippy::disallowed_methods, reason = "a test has no supervisor")]
        let task = tokio::spawn(async move { indexer.run(&mut queue, stop).await });
        Self { counters, committed, events, shutdown, task }
    }

    pub(crate) fn committed(&self) -> u64 {
        *self.committed.lock().unwrap()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.counters.stats()
    }

    /// Waits until all is committed, and stops.
    pub(crate) async fn finish(self) -> Stats {
        until("everything is committed", async || self.committed() == self.events || self.task.is_finished()).await;
        self.shutdown.cancel();
        let (committed, events) = (self.committed(), self.events);
        let stats = self.stats();
        self.task.await.unwrap().unwrap();
        assert_eq!(committed, events, "{stats:?}");
        stats
    }

    /// Waits until it gives up.
    pub(crate) async fn fails(self) -> galen_opensearch::Error {
        tokio::time::timeout(PATIENCE, self.task).await.expect("an end in time").unwrap().unwrap_err()
    }
}

/// Writes records, and waits until all are committed.
pub(crate) async fn indexed(settings: Settings, records: Vec<LogRecord>) -> Stats {
    Running::start(settings, records).finish().await
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks the server; status and answer.
pub(crate) async fn ask(server: &Server, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let transport = Transport::single_node(&server.url()).unwrap();
    let body = body.map(|body| Bytes::from(body.to_string()));
    let response = transport.send(method, path, HeaderMap::new(), None::<&()>, body, None).await.unwrap();
    let status = response.status_code().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// All documents below a pattern: index, id and source, by id.
pub(crate) async fn documents(server: &Server, pattern: &str) -> Vec<(String, String, Value)> {
    ask(server, Method::Post, &format!("/{pattern}/_refresh"), None).await;
    let path = format!("/{pattern}/_search?size=10000");
    let (status, mut found) = ask(server, Method::Get, &path, None).await;
    assert_eq!(status, 200, "{found}");
    let hits = found["hits"]["hits"].as_array_mut().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut documents: Vec<_> =
        hits.iter_mut().map(|hit| (text(&hit["_index"]), text(&hit["_id"]), hit["_source"].take())).collect();
    documents.sort_by(|a, b| a.1.cmp(&b.1));
    documents
}
