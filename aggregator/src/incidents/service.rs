//! The gRPC door.

use std::pin::Pin;

use galen_proto::v1::{
    FollowIncidentsRequest, GetIncidentRequest, Incident, ListIncidentsRequest, ListIncidentsResponse,
    incident_service_server::IncidentService,
};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::Incidents;

/// `galen.v1.IncidentService`.
pub struct Service {
    pub incidents: Incidents,
    /// Ends those who follow.
    pub shutdown: CancellationToken,
}

#[tonic::async_trait]
impl IncidentService for Service {
    type FollowIncidentsStream = Pin<Box<dyn Stream<Item = Result<Incident, Status>> + Send>>;

    async fn list_incidents(
        &self,
        request: Request<ListIncidentsRequest>,
    ) -> Result<Response<ListIncidentsResponse>, Status> {
        Ok(Response::new(self.incidents.list(request.into_inner())?))
    }

    async fn get_incident(&self, request: Request<GetIncidentRequest>) -> Result<Response<Incident>, Status> {
        Ok(Response::new(self.incidents.get(&request.into_inner().id)?))
    }

    async fn follow_incidents(
        &self,
        request: Request<FollowIncidentsRequest>,
    ) -> Result<Response<Self::FollowIncidentsStream>, Status> {
        let incidents = self.incidents.follow(request.into_inner())?;
        let shutdown = self.shutdown.clone();
        let incidents = async_stream::stream! {
            tokio::pin!(incidents);
            while let Some(Some(change)) = shutdown.run_until_cancelled(incidents.next()).await {
                yield Ok(change.incident);
            }
        };
        Ok(Response::new(Box::pin(incidents)))
    }
}
