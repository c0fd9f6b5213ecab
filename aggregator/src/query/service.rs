//! The gRPC door.

use std::pin::Pin;

use galen_proto::v1::{
    Event, FollowEventsRequest, FollowEventsResponse, GetEventRequest, GetLedgerRequest, GetLedgerResponse,
    GetProfileRequest, GetProfileResponse, GetStatusRequest, GetStatusResponse, ListNodesRequest, ListNodesResponse,
    SearchEventsRequest, SearchEventsResponse, query_service_server::QueryService,
};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::Queries;

/// `galen.v1.QueryService`.
pub struct Service {
    pub queries: Queries,
    /// Ends those who follow.
    pub shutdown: CancellationToken,
}

#[tonic::async_trait]
impl QueryService for Service {
    type FollowEventsStream = Pin<Box<dyn Stream<Item = Result<FollowEventsResponse, Status>> + Send>>;

    async fn search_events(
        &self,
        request: Request<SearchEventsRequest>,
    ) -> Result<Response<SearchEventsResponse>, Status> {
        Ok(Response::new(self.queries.search(request.into_inner()).await?))
    }

    async fn get_event(&self, request: Request<GetEventRequest>) -> Result<Response<Event>, Status> {
        Ok(Response::new(self.queries.event(&request.into_inner().id).await?))
    }

    async fn follow_events(
        &self,
        request: Request<FollowEventsRequest>,
    ) -> Result<Response<Self::FollowEventsStream>, Status> {
        let events = self.queries.follow(&request.into_inner().query)?;
        let shutdown = self.shutdown.clone();
        let events = async_stream::stream! {
            tokio::pin!(events);
            while let Some(Some(event)) = shutdown.run_until_cancelled(events.next()).await {
                yield event.map_err(Status::from);
            }
        };
        Ok(Response::new(Box::pin(events)))
    }

    async fn get_profile(&self, request: Request<GetProfileRequest>) -> Result<Response<GetProfileResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.queries.profile(&request.id, request.format(), request.part()).await?))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        Ok(Response::new(ListNodesResponse { nodes: self.queries.nodes() }))
    }

    async fn get_ledger(&self, request: Request<GetLedgerRequest>) -> Result<Response<GetLedgerResponse>, Status> {
        Ok(Response::new(self.queries.ledger(&request.into_inner().node)?))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(self.queries.status().await?))
    }
}
