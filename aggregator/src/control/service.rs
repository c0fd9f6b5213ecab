//! The gRPC door.

use galen_proto::v1::{
    ControlResponse, RecordNowRequest, ReloadSettingsRequest, SetTracerRequest, TriggerTracerRequest,
    control_service_server::ControlService,
};
use tonic::{Request, Response, Status};

use super::Control;

/// `galen.v1.ControlService`.
pub struct Service(pub Control);

#[tonic::async_trait]
impl ControlService for Service {
    async fn set_tracer(&self, request: Request<SetTracerRequest>) -> Result<Response<ControlResponse>, Status> {
        Ok(Response::new(self.0.set_tracer(who(&request), request.into_inner()).await?))
    }

    async fn trigger_tracer(
        &self,
        request: Request<TriggerTracerRequest>,
    ) -> Result<Response<ControlResponse>, Status> {
        Ok(Response::new(self.0.trigger_tracer(who(&request), request.into_inner()).await?))
    }

    async fn reload_settings(
        &self,
        request: Request<ReloadSettingsRequest>,
    ) -> Result<Response<ControlResponse>, Status> {
        Ok(Response::new(self.0.reload_settings(who(&request), request.into_inner()).await?))
    }

    async fn record_now(&self, request: Request<RecordNowRequest>) -> Result<Response<ControlResponse>, Status> {
        Ok(Response::new(self.0.record_now(who(&request), request.into_inner().node).await?))
    }
}

/// The peer's address: without authentication, all that is known of who asks.
fn who<T>(request: &Request<T>) -> String {
    request.remote_addr().map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}
