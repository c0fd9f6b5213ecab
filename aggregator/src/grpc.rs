//! The gRPC door: the agents' service, those that answer questions and change what runs, health and reflection.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::middleware::from_fn;
use galen_proto::v1::{
    agent_service_server::AgentServiceServer, control_service_server::ControlServiceServer,
    incident_service_server::IncidentServiceServer, query_service_server::QueryServiceServer,
};
use galen_runtime::OnEnd;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

use crate::{
    Error, Parts,
    access::Access,
    control::{self, Audit, Control},
    health::Health,
    incidents,
    ingest::Ingest,
    listener, query,
    session::{self, Admission, Limits, Seats, Service, Sessions, Terms},
    tls::Tls,
};

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

/// Serves on `listener` under the supervisor of `parts`. Returns who is connected.
pub(crate) async fn start(
    parts: &Parts,
    ingest: Ingest,
    health: Health,
    listener: TcpListener,
    tls: Option<Tls>,
    access: Access,
) -> Result<Arc<Seats>, Error> {
    let (sessions, waits) = (&parts.settings.sessions, parts.settings.waits);
    let cut = CancellationToken::new();
    let metrics = session::Metrics::register(&parts.registry)?;
    let connections = listener::connections(
        listener,
        sessions.max_agents as usize + OTHER_CONNECTIONS,
        waits,
        tls,
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
        seats: Arc::clone(&seats),
        desired: Arc::clone(&parts.desired),
        admission: Admission::new(sessions.new_per_second),
        leaving: health.leaving.clone(),
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
    let questions = query::Service { queries: health.queries.clone(), shutdown: parts.supervisor.token() };
    let incidents = incidents::Service { incidents: parts.incidents.clone(), shutdown: parts.supervisor.token() };
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(galen_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = Routes::new(agents)
        .add_service(QueryServiceServer::new(questions))
        .add_service(IncidentServiceServer::new(incidents))
        .add_service(ControlServiceServer::new(control::Service(control)))
        .add_service(health.serve(&parts.supervisor).await)
        .add_service(described().build_v1()?)
        // What older tools ask.
        .add_service(described().build_v1alpha()?)
        .into_axum_router()
        .layer(from_fn(move |request, next| listener::track(waits.call, access.clone(), request, next)));
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
    Ok(seats)
}
