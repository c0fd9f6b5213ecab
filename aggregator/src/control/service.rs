//! The gRPC door.

use galen_proto::v1::{
    ControlResponse, RecordNowRequest, ReloadSettingsRequest, SetTracerRequest, TriggerTracerRequest,
    control_service_server::ControlService,
};
use tonic::{Request, Response, Status};

use super::{Control, Who};
use crate::access::User;

/// `galen.v1.ControlService`.
pub struct Service(pub Control);

#[tonic::async_trait]
impl ControlService for Service {
    async fn set_tracer(&self, request: Request<SetTracerRequest>) -> Result<Response<ControlResponse>, Status> {
        Ok(Response::new(self.0.set_tracer(who(&request)?, request.into_inner()).await?))
    }

    async fn trigger_tracer(
        &self,
        request: Request<TriggerTracerRequest>,
    ) -> Result<Response<ControlResponse>, Status> {
        Ok(Response::new(self.0.trigger_tracer(who(&request)?, request.into_inner()).await?))
    }

    async fn reload_settings(
        &self,
        request: Request<ReloadSettingsRequest>,
    ) -> Result<Response<ControlResponse>, Status> {
        Ok(Response::new(self.0.reload_settings(who(&request)?, request.into_inner()).await?))
    }

    async fn record_now(&self, request: Request<RecordNowRequest>) -> Result<Response<ControlResponse>, Status> {
        Ok(Response::new(self.0.record_now(who(&request)?, request.into_inner().node).await?))
    }
}

/// As the gate found it, without which nothing is done.
fn who<T>(request: &Request<T>) -> Result<Who, Status> {
    let user = request.extensions().get::<User>().ok_or_else(|| Status::unauthenticated("nobody was let in"))?;
    let address = request.remote_addr().map_or_else(|| "unknown".to_owned(), |address| address.to_string());
    Ok(Who { name: user.name.clone(), by: user.by, role: user.role, address })
}
