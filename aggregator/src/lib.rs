//! The aggregator: takes the events of all agents, keeps each exactly once, and answers questions about them.
//!
//! ```text
//! session ─► ingest (exact dedup, group commit) ─► log ─► ack
//!                                                   └─► readers, each with a cursor of its own: indexer, live tail
//! ```
//!
//! [`start`] wires the parts and returns when they listen; each part is a folder that knows nothing of the others but
//! what it is handed here.

pub mod access;
pub mod archive;
mod caller;
pub mod config;
pub mod control;
mod error;
pub mod flame;
mod grpc;
pub mod health;
mod heap;
pub mod http;
pub mod incidents;
pub mod indexer;
pub mod ingest;
pub mod kafka;
pub mod leaving;
mod limits;
mod listener;
pub mod metrics;
pub mod nodes;
pub mod query;
pub mod session;
mod sink;
pub mod tls;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use galen_kafka::{Link, Mirror, Opened};
use galen_log::{
    Append, EmbeddedLog, Log, Watermarks,
    embedded::{Settings as LogSettings, Writer},
};
use galen_runtime::{BoxError, Drained, OnEnd, Supervisor, atomic_file};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};

pub use config::{Config, Settings};
pub use error::Error;
pub use limits::raise_file_limit;
pub use listener::Waits;

use access::Access;
use archive::Kept;
use control::Desired;
use health::Health;
use incidents::Incidents;
use ingest::{Ingest, Limits};
use kafka::Kafka;
use leaving::Leaving;
use metrics::{Registry, Sources};
use nodes::Nodes;
use query::Queries;
use session::Seats;
use tls::Tls;

/// In the data directory: where the aggregator listens.
pub const ADDRESSES_FILE: &str = "addresses.json";
/// How often the log looks whether something is due: old segments, or what other replicas are told.
const TICK_EVERY: Duration = Duration::from_secs(1);

/// Where the aggregator listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
}

/// What the parts behind the log are made from.
#[derive(Clone)]
pub struct Parts {
    pub settings: Arc<Settings>,
    pub log: Arc<dyn Log>,
    pub kafka: Option<Kafka>,
    pub nodes: Arc<Nodes>,
    pub desired: Arc<Desired>,
    pub incidents: Incidents,
    pub registry: Registry,
    pub ingest_metrics: ingest::Metrics,
    pub supervisor: Supervisor,
    pub started_unix_nanos: i64,
}

/// An aggregator that listens.
pub struct Running {
    pub addresses: Addresses,
    seats: Arc<Seats>,
    leaving: Leaving,
    limits: Option<Limits>,
    new_per_second: u32,
    supervisor: Supervisor,
}

impl Running {
    /// Those that are set, to be changed.
    pub fn limits(&self) -> Option<Limits> {
        self.limits.clone()
    }

    /// Sends the agents elsewhere, then ends everything, all within `deadline`.
    pub async fn drain(self, deadline: Duration) -> Drained {
        let began = Instant::now();
        if !self.supervisor.token().is_cancelled() {
            self.leaving.begin(self.seats.count(), self.new_per_second, deadline);
            // Who has not gone by then is cut off.
            let _ = timeout(Leaving::share(deadline), self.seats.emptied()).await;
        }
        self.supervisor.drain(deadline.saturating_sub(began.elapsed())).await
    }
}

/// Starts everything under `supervisor`, and returns when it listens.
///
/// # Errors
/// An address that is taken, or a data directory, certificates or tokens that cannot be used.
pub async fn start(settings: Settings, supervisor: Supervisor) -> Result<Running, Error> {
    let grpc = listener::bind(settings.grpc)?;
    let http = listener::bind(settings.http)?;
    let registry = Registry::default();
    let tls = Tls::start(&settings, &registry, &supervisor)?;
    let access = Access::start(&settings, access::Metrics::register(&registry)?, &supervisor)?;
    let settings = Arc::new(settings);

    // Whoever reads the log is opened before it: it must not give an offset again that a reader has seen.
    let kept = Kept::open(&settings).await?;
    let joined = incidents::open(&settings)?;
    let floor = kept.floor()?.max(joined.next());
    let (log, writer, watermarks) = open_log(&settings, floor).await?;
    let shared = open_kafka(&settings, &supervisor).await?;
    let addresses = Addresses::of(&settings, &grpc, &http)?;
    let mut nodes = Nodes::new(nodes_cap(&settings), settings.sessions.max_figures as usize, &watermarks);
    if let Some((kafka, _)) = &shared {
        nodes = nodes.among(kafka.standings(addresses.replica(), settings.sessions.heartbeat.0));
    }
    let nodes = Arc::new(nodes);
    let desired = Desired::open(&settings.data_dir)
        .map_err(|source| Error::Desired { path: settings.data_dir.join(control::DESIRED_FILE), source })?;
    let ingest_metrics = ingest::Metrics::register(&registry)?;
    let (ingest, requests) = Ingest::new(settings.sessions.memory.0 / 4);
    let (appender, opened, kafka) = match shared {
        None => (Box::new(writer) as Box<dyn Append>, Ok(watermarks), None),
        Some((kafka, opened)) => {
            let mirror = mirror(&settings, kafka.gauge().link(), &supervisor, writer, watermarks, &nodes)?;
            let gauge = Kafka { writer: kafka.gauge(), mirror };
            (Box::new(kafka) as Box<dyn Append>, opened, Some(gauge))
        }
    };
    // What the mirror copies is counted there: it sees the nodes of all replicas.
    let counted = kafka.as_ref().is_none_or(|kafka| kafka.mirror.is_none()).then(|| Arc::clone(&nodes));
    let limits = match &settings.limits {
        Some(limits) => Some(Limits::start(limits, addresses.replica(), &supervisor).await?),
        None => None,
    };
    if let Some(limits) = limits.clone() {
        registry.sampled(move || limits.families())?;
    }
    let worker = ingest::Worker::new(requests, appender, opened, counted, limits.clone(), ingest_metrics.clone());
    let sources =
        Sources { log: log.clone(), nodes: Arc::clone(&nodes), ingest: ingest.clone(), supervisor: supervisor.clone() };
    sources.register(&registry)?;
    if let Some(kafka) = kafka.clone() {
        registry.sampled(move || kafka.families())?;
    }

    let log: Arc<dyn Log> = Arc::new(log);
    let parts = Parts {
        settings: Arc::clone(&settings),
        incidents: Incidents::new(&settings, joined, Arc::clone(&log)),
        log,
        kafka,
        nodes,
        desired: Arc::new(desired),
        registry,
        ingest_metrics,
        supervisor: supervisor.clone(),
        started_unix_nanos: ingest::now_unix_nanos(),
    };
    supervisor.thread("ingest", move || worker.run());
    supervisor.spawn("retention", OnEnd::Shutdown, retention(ingest.clone(), supervisor.clone()));
    parts.incidents.start(&parts)?;
    let queries = Queries::new(&parts, kept.start(&parts)?);
    let leaving = Leaving::default();
    let health =
        Health { queries: queries.clone(), log: parts.ingest_metrics.log_available.clone(), leaving: leaving.clone() };
    let seats = grpc::start(&parts, ingest, health.clone(), grpc, tls.clone(), access.clone()).await?;
    start_http(&parts, queries, health, http, tls, access)?;
    // Last, because who waits for the file wants to be served.
    addresses.write(&settings)?;
    tracing::info!(grpc = %addresses.grpc, http = %addresses.http, data_dir = %settings.data_dir.display(), "listening");
    let new_per_second = settings.sessions.new_per_second;
    Ok(Running { addresses, seats, leaving, limits, new_per_second, supervisor })
}

/// The HTTP API and the page.
fn start_http(
    parts: &Parts,
    queries: Queries,
    health: Health,
    listener: TcpListener,
    tls: Option<Tls>,
    access: Access,
) -> Result<(), Error> {
    let metrics = http::Metrics::register(&parts.registry)?;
    let context = http::Context {
        queries,
        incidents: parts.incidents.clone(),
        health,
        registry: parts.registry.clone(),
        shutdown: parts.supervisor.token(),
    };
    let limits = http::Limits { handshake: parts.settings.waits.handshake, ..http::Limits::default() };
    http::serve(&parts.supervisor, listener, tls, http::router(context, access), limits, metrics);
    Ok(())
}

async fn open_log(settings: &Settings, floor: u64) -> Result<(EmbeddedLog, Writer, galen_log::Watermarks), Error> {
    let log = LogSettings {
        segment_bytes: settings.log.segment_bytes.0,
        retention_bytes: settings.log.retention_bytes.0,
        retention_age: settings.log.retention_age.0,
        floor,
        ..LogSettings::new(settings.data_dir.join("log"))
    };
    Ok(tokio::task::spawn_blocking(move || EmbeddedLog::open(log)).await??)
}

/// The log that replicas share, open if its brokers are there.
async fn open_kafka(
    settings: &Settings,
    supervisor: &Supervisor,
) -> Result<Option<(galen_kafka::Writer, Opened)>, Error> {
    let Some(settings) = settings.kafka.clone() else { return Ok(None) };
    let supervisor = supervisor.clone();
    let opened = tokio::task::spawn_blocking(move || galen_kafka::Writer::open(&settings, &supervisor, http::json));
    Ok(Some(opened.await??))
}

/// Copies what all replicas log into the log on this machine, unless nothing reads it here.
fn mirror(
    settings: &Arc<Settings>,
    link: &Link,
    supervisor: &Supervisor,
    writer: Writer,
    watermarks: Watermarks,
    nodes: &Arc<Nodes>,
) -> Result<Option<Mirror>, Error> {
    let Some(kafka) = settings.kafka.clone().filter(|_| settings.index) else { return Ok(None) };
    let told = Arc::clone(nodes);
    let copied: galen_kafka::Copied = Box::new(move |records, watermarks| told.logged(records, watermarks));
    let mirror = Mirror::start(&kafka, link, Box::new(writer), watermarks, supervisor, copied)?;
    nodes.copied_by(mirror.clone());
    Ok(Some(mirror))
}

/// Lets the log's thread look for what is due, and ends it with the process.
async fn retention(ingest: Ingest, supervisor: Supervisor) -> Result<(), BoxError> {
    let shutdown = supervisor.token();
    while shutdown.run_until_cancelled(tokio::time::sleep(TICK_EVERY)).await.is_some() {
        ingest.tick().await;
    }
    ingest.close().await;
    Ok(())
}

impl Addresses {
    fn of(settings: &Settings, grpc: &TcpListener, http: &TcpListener) -> Result<Self, Error> {
        let local =
            |listener: &TcpListener, address| listener.local_addr().map_err(|source| Error::Bind { address, source });
        Ok(Self { grpc: local(grpc, settings.grpc)?, http: local(http, settings.http)? })
    }

    /// What other replicas, and people, know it by: the host and the port of the agents.
    fn replica(&self) -> String {
        format!("{}:{}", rustix::system::uname().nodename().to_string_lossy(), self.grpc.port())
    }

    fn write(&self, settings: &Settings) -> Result<(), Error> {
        let path = settings.data_dir.join(ADDRESSES_FILE);
        serde_json::to_vec(self)
            .map_err(std::io::Error::from)
            .and_then(|text| atomic_file::write(&path, &text))
            .map_err(|source| Error::Addresses { path, source })
    }
}

/// As many nodes as may be connected, and as many again that were.
fn nodes_cap(settings: &Settings) -> usize {
    settings.sessions.max_agents as usize * 2
}
