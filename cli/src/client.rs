//! The connection to an aggregator.

use std::time::Duration;

use galen_proto::v1::{
    control_service_client::ControlServiceClient, incident_service_client::IncidentServiceClient,
    query_service_client::QueryServiceClient,
};
use galen_runtime::endpoint::Endpoint;
use tonic::transport::{self, Channel};

use crate::error::Error;

/// An event with its attachments is one message.
const MAX_MESSAGE: usize = 256 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) type Client = QueryServiceClient<Channel>;
pub(crate) type Control = ControlServiceClient<Channel>;
pub(crate) type Incidents = IncidentServiceClient<Channel>;

/// To ask the aggregator at `url`, such as `http://127.0.0.1:7400`.
pub(crate) async fn connect(url: &str) -> Result<Client, Error> {
    Ok(QueryServiceClient::new(channel(url).await?).max_decoding_message_size(MAX_MESSAGE))
}

/// To change what runs on nodes.
pub(crate) async fn control(url: &str) -> Result<Control, Error> {
    Ok(ControlServiceClient::new(channel(url).await?))
}

/// To ask about incidents.
pub(crate) async fn incidents(url: &str) -> Result<Incidents, Error> {
    Ok(IncidentServiceClient::new(channel(url).await?).max_decoding_message_size(MAX_MESSAGE))
}

async fn channel(url: &str) -> Result<Channel, Error> {
    let endpoint: Endpoint = url.parse()?;
    let unreachable = |source| Error::Unreachable { endpoint: endpoint.to_string(), source };
    transport::Endpoint::from_shared(endpoint.to_string())
        .map_err(unreachable)?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_while_idle(true)
        .connect()
        .await
        .map_err(unreachable)
}
