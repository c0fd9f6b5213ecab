//! The aggregator: takes the events of all agents, keeps each exactly once, and answers questions about them.
//!
//! ```text
//! session ─► ingest (exact dedup, group commit) ─► log ─► ack
//!                                                   └─► readers, each with a cursor of its own: indexer, live tail
//! ```
//!
//! [`start`] wires the parts and returns when they listen; each part is a folder that knows nothing of the others but
//! what it is handed here.

pub mod config;
pub mod control;
mod error;
pub mod flame;
pub mod http;
pub mod indexer;
pub mod ingest;
mod limits;
mod listener;
mod live;
pub mod metrics;
pub mod nodes;
pub mod query;
pub mod session;

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::middleware::from_fn;
use galen_log::{
    EmbeddedLog, Log,
    embedded::{Settings as LogSettings, Writer},
};
use galen_proto::v1::{
    agent_service_server::AgentServiceServer, control_service_server::ControlServiceServer,
    query_service_server::QueryServiceServer,
};
use galen_runtime::{BoxError, OnEnd, Supervisor, atomic_file};
use galen_store::Store;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

pub use config::{Config, Settings};
pub use error::Error;
pub use limits::raise_file_limit;
pub use listener::Waits;

use control::{Audit, Control, Desired};
use ingest::Ingest;
use metrics::{Registry, Sources};
use nodes::Nodes;
use query::Queries;
use session::{Limits, Seats, Service, Sessions, Terms};

/// In the data directory: where the aggregator listens.
pub const ADDRESSES_FILE: &str = "addresses.json";
/// Windows of HTTP/2: what a client may send before it is read. They bound the memory of stalled agents.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;
/// Calls at a time on one connection.
const STREAMS: u32 = 64;
/// Connections besides those of the agents: of the command line and of programs.
const OTHER_CONNECTIONS: usize = 256;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a message may hold besides a batch's bytes.
const ENVELOPE: u64 = 64 << 10;
/// How often the log looks whether something is old enough to be deleted.
const RETENTION_EVERY: Duration = Duration::from_secs(30);

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
    pub store: Store,
    pub nodes: Arc<Nodes>,
    pub desired: Arc<Desired>,
    pub registry: Registry,
    pub ingest_metrics: ingest::Metrics,
    pub supervisor: Supervisor,
    pub started_unix_nanos: i64,
}

/// Runs until the supervisor's shutdown. The caller drains it.
///
/// # Errors
/// As [`start`].
pub async fn run(settings: Settings, supervisor: Supervisor) -> Result<(), Error> {
    start(settings, supervisor.clone()).await?;
    supervisor.token().cancelled().await;
    Ok(())
}

/// Starts everything under `supervisor`, and returns when it listens.
///
/// # Errors
/// An address that is taken, or a data directory that cannot be used.
pub async fn start(settings: Settings, supervisor: Supervisor) -> Result<Addresses, Error> {
    let grpc = listener::bind(settings.grpc).await?;
    let http = listener::bind(settings.http).await?;
    let registry = Registry::default();
    let settings = Arc::new(settings);

    // The store is opened before the log, which must not give an offset again that the store has seen.
    let store = open_store(&settings).await?;
    let (log, writer, watermarks) = open_log(&settings, store.floor()).await?;
    let nodes = Arc::new(Nodes::new(nodes_cap(&settings), settings.sessions.max_figures as usize, &watermarks));
    let desired = Desired::open(&settings.data_dir)
        .map_err(|source| Error::Desired { path: settings.data_dir.join(control::DESIRED_FILE), source })?;
    let ingest_metrics = ingest::Metrics::register(&registry)?;
    let (ingest, requests) = Ingest::new(settings.sessions.memory.0 / 4);
    let worker =
        ingest::Worker::new(requests, Box::new(writer), watermarks, Arc::clone(&nodes), ingest_metrics.clone());
    let sources =
        Sources { log: log.clone(), nodes: Arc::clone(&nodes), ingest: ingest.clone(), supervisor: supervisor.clone() };
    sources.register(&registry)?;

    let parts = Parts {
        settings: Arc::clone(&settings),
        log: Arc::new(log),
        store,
        nodes,
        desired: Arc::new(desired),
        registry,
        ingest_metrics,
        supervisor: supervisor.clone(),
        started_unix_nanos: ingest::now_unix_nanos(),
    };
    let addresses = Addresses::of(&settings, &grpc, &http)?;
    supervisor.thread("ingest", move || worker.run());
    supervisor.spawn("retention", OnEnd::Shutdown, retention(ingest.clone(), supervisor.clone()));
    let indexed = start_readers(&parts)?;
    let queries = queries(&parts, indexed);
    start_grpc(&parts, ingest, queries.clone(), grpc)?;
    start_http(&parts, queries, http)?;
    // Last, because who waits for the file wants to be served.
    addresses.write(&settings)?;
    tracing::info!(grpc = %addresses.grpc, http = %addresses.http, data_dir = %settings.data_dir.display(), "listening");
    Ok(addresses)
}

/// Readers of the log. Returns where the indexer is.
fn start_readers(parts: &Parts) -> Result<indexer::Position, Error> {
    let metrics = indexer::Metrics::register(&parts.registry)?;
    let position = metrics.position.clone();
    let (store, log, indexed) = (parts.store.clone(), Arc::clone(&parts.log), position.clone());
    parts.registry.sampled(move || {
        let lag = log.bounds().next.saturating_sub(indexed.get());
        indexer::families(&store.stats(), lag)
    })?;
    if parts.settings.index {
        let (log, nodes) = (Arc::clone(&parts.log), Arc::clone(&parts.nodes));
        indexer::start(&parts.supervisor, log, parts.store.clone(), nodes, metrics);
    }
    Ok(position)
}

/// What both doors ask.
fn queries(parts: &Parts, indexed: indexer::Position) -> Queries {
    Queries::new(
        parts.store.clone(),
        Arc::clone(&parts.log),
        Arc::clone(&parts.nodes),
        Arc::clone(&parts.desired),
        parts.ingest_metrics.clone(),
        indexed,
        parts.started_unix_nanos,
    )
}

/// The agents' service, and those that answer questions and change what runs.
fn start_grpc(parts: &Parts, ingest: Ingest, queries: Queries, listener: TcpListener) -> Result<(), Error> {
    let (sessions, waits) = (&parts.settings.sessions, parts.settings.waits);
    let cut = CancellationToken::new();
    let metrics = session::Metrics::register(&parts.registry)?;
    let connections = listener::connections(
        listener,
        sessions.max_agents as usize + OTHER_CONNECTIONS,
        waits.idle,
        metrics.connections.clone(),
        cut.clone(),
    );
    let seats = Seats::new(sessions.max_agents as usize, Arc::clone(&parts.nodes));
    let control = Control {
        seats: Arc::clone(&seats),
        nodes: Arc::clone(&parts.nodes),
        desired: Arc::clone(&parts.desired),
        audit: Audit::new(&parts.settings.data_dir),
    };
    let agents = Sessions {
        ingest,
        nodes: Arc::clone(&parts.nodes),
        seats,
        desired: Arc::clone(&parts.desired),
        terms: Terms {
            credit: sessions.credit.0,
            memory: sessions.memory.0,
            limits: Limits {
                batch_bytes: sessions.max_batch_bytes.0,
                batch_events: sessions.max_batch_events as usize,
            },
            heartbeat: sessions.heartbeat.0,
            hello: waits.hello,
        },
        metrics,
        control_metrics: control::Metrics::register(&parts.registry)?,
        supervisor: parts.supervisor.clone(),
    };
    let agents = AgentServiceServer::new(Service(Arc::new(agents)))
        .max_decoding_message_size((sessions.max_batch_bytes.0 + ENVELOPE) as usize);
    let questions = query::Service { queries, shutdown: parts.supervisor.token() };
    let routes = Routes::new(agents)
        .add_service(QueryServiceServer::new(questions))
        .add_service(ControlServiceServer::new(control::Service(control)))
        .into_axum_router()
        .layer(from_fn(move |request, next| listener::track(waits.call, request, next)));
    let shutdown = parts.supervisor.token();
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_routes(routes.into())
        .serve_with_incoming_shutdown(connections, async move { shutdown.cancelled().await });
    let (shutdown, patience) = (parts.supervisor.token(), parts.settings.shutdown_deadline / 4);
    parts.supervisor.spawn("grpc", OnEnd::Shutdown, async move {
        let mut server = pin!(server);
        tokio::select! {
            ended = &mut server => return Ok(ended?),
            () = async { shutdown.cancelled().await; tokio::time::sleep(patience).await } => cut.cancel(),
        }
        Ok(server.await?)
    });
    Ok(())
}

/// The HTTP API and the page.
fn start_http(parts: &Parts, queries: Queries, listener: TcpListener) -> Result<(), Error> {
    let metrics = http::Metrics::register(&parts.registry)?;
    let context = http::Context { queries, registry: parts.registry.clone(), shutdown: parts.supervisor.token() };
    http::serve(&parts.supervisor, listener, http::router(context), http::Limits::default(), metrics);
    Ok(())
}

async fn open_store(settings: &Settings) -> Result<Store, Error> {
    let store = galen_store::Settings {
        dir: settings.data_dir.join("store"),
        retention: settings.store.retention_age.0,
        max_bytes: settings.store.retention_bytes.0,
    };
    Ok(tokio::task::spawn_blocking(move || Store::open(store)).await??)
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

/// Lets the log's thread look for what is due, and ends it with the process.
async fn retention(ingest: Ingest, supervisor: Supervisor) -> Result<(), BoxError> {
    let shutdown = supervisor.token();
    while shutdown.run_until_cancelled(tokio::time::sleep(RETENTION_EVERY)).await.is_some() {
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
