//! A real OpenSearch, events, and a consumer that hands out what a test wrote.

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
use galen_proto::v1::{Attachment, Container, Event, EventKind, Host, LogRecord, Severity, Times};
use galen_services::Server;
use opensearch::http::{Method, headers::HeaderMap, transport::Transport};
use prost::Message;
use serde_json::Value;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

/// 2025-11-24, in the middle of the day.
pub(crate) const NOW: i64 = 1_763_985_600_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const EPOCH: u64 = 0xc0ffee;
/// For anything that must happen: far more than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

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
        timeout: Duration::from_secs(5),
        retention: Duration::from_secs(100 * 365 * 86_400),
    }
}

pub(crate) fn event(tracer: &str, time: i64, data: &str) -> Event {
    Event {
        tracer: tracer.into(),
        run_id: "0193-run".into(),
        kind: EventKind::Trigger.into(),
        severity: Severity::Warning.into(),
        summary: format!("CPU burst of {tracer} in web-1: 97 % of 2 CPUs"),
        times: Some(Times { observed_boot_nanos: 1, observed_unix_nanos: time, recorded_unix_nanos: time + 1 }),
        host: Some(Host { name: "host-1".into(), cpus: 2, ..Host::default() }),
        container: Some(Container {
            id: "4f1c".into(),
            name: "web-1".into(),
            runtime: "docker".into(),
            cgroup: "/docker/4f1c".into(),
            labels: [("app.kubernetes.io/name".to_owned(), "shop".to_owned())].into(),
            ..Container::default()
        }),
        data: data.to_owned().into(),
        ..Event::default()
    }
}

pub(crate) fn attachment(name: &str, bytes: usize) -> Attachment {
    Attachment {
        name: name.into(),
        media_type: galen_proto::PPROF_MEDIA_TYPE.into(),
        encoding: "gzip".into(),
        content: vec![7; bytes].into(),
    }
}

pub(crate) fn record(first_seq: u64, events: &[Event]) -> LogRecord {
    raw_record(first_seq, events.iter().map(|event| event.encode_to_vec().into()).collect())
}

pub(crate) fn raw_record(first_seq: u64, events: Vec<Bytes>) -> LogRecord {
    LogRecord {
        node: "node-1".into(),
        epoch: EPOCH,
        first_seq,
        events,
        received_unix_nanos: NOW,
        ..LogRecord::default()
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
