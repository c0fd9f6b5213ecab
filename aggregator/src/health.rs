//! Whether the aggregator can do its work now: the one answer for balancers, by HTTP (`/readyz`) and by gRPC's health
//! service (`grpc.health.v1.Health`).
//!
//! - `galen.v1.AgentService`, and the whole server, which is the empty name: serves while the log takes events, until the
//!   aggregator leaves.
//! - `galen.v1.QueryService`, `.IncidentService` and `.ControlService`: serve until the aggregator leaves.
//! - `/readyz`: all of that, and that Kafka can be reached where it is the log.
//!
//! What reads the log stands in nobody's way, and keeps no agent away: where the store, OpenSearch or the copy of Kafka is
//! behind, `/readyz` says so and is ready nevertheless. Nothing is asked that may take its time.
//!
//! Who watches is told when it changes, before any agent is asked to go elsewhere; the watches end with the process.

use galen_proto::v1::{
    agent_service_server::SERVICE_NAME as AGENTS, control_service_server::SERVICE_NAME as CONTROL,
    incident_service_server::SERVICE_NAME as INCIDENTS, query_service_server::SERVICE_NAME as QUESTIONS,
};
use galen_runtime::{OnEnd, Supervisor};
use tokio_util::sync::CancellationToken;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health as HealthService, HealthServer},
    server::{HealthReporter, health_reporter},
};

use crate::{
    ingest::Available,
    leaving::Leaving,
    query::{Error, Queries},
};

/// The whole server.
const SERVER: &str = "";
/// Those that serve while the log takes events, and those that serve until the aggregator leaves.
const TAKE: [&str; 2] = [SERVER, AGENTS];
const ANSWER: [&str; 3] = [QUESTIONS, INCIDENTS, CONTROL];

/// Knows the answer. Clones are the same.
#[derive(Clone)]
pub struct Health {
    pub queries: Queries,
    pub log: Available,
    pub leaving: Leaving,
}

impl Health {
    /// Whether agents may come; and why questions do not find what is new, one line each.
    ///
    /// # Errors
    /// Says what is not ready.
    pub fn ready(&self) -> Result<Vec<String>, Error> {
        if self.leaving.has_begun() {
            return Err(Error::Unavailable("the aggregator is shutting down".into()));
        }
        if let Some(why) = self.log.refusal() {
            return Err(Error::Unavailable(format!("the log takes no events: {why}").into()));
        }
        self.queries.ready()?;
        Ok(self.queries.behind())
    }

    /// The gRPC service, kept up to date under `supervisor`.
    pub(crate) async fn serve(self, supervisor: &Supervisor) -> HealthServer<impl HealthService> {
        let (reporter, server) = health_reporter();
        self.report(&reporter).await;
        let shutdown = supervisor.token();
        supervisor.spawn("health", OnEnd::Ignore, async move {
            self.keep(reporter, shutdown).await;
            Ok(())
        });
        server
    }

    async fn keep(self, mut reporter: HealthReporter, shutdown: CancellationToken) {
        let mut log = self.log.watch();
        loop {
            self.report(&reporter).await;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = self.leaving.begun(), if !self.leaving.has_begun() => {}
                // Its sender is a part of `self`.
                _ = log.changed() => {}
            }
        }
        // Ends the streams of those who watch, who would hold up the server's end.
        for service in TAKE.into_iter().chain(ANSWER) {
            reporter.clear_service_status(service).await;
        }
    }

    async fn report(&self, reporter: &HealthReporter) {
        let stays = !self.leaving.has_begun();
        let takes = stays && self.log.refusal().is_none();
        let services = TAKE.map(|service| (service, takes)).into_iter().chain(ANSWER.map(|service| (service, stays)));
        for (service, serves) in services {
            let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status(service, status).await;
        }
    }
}
