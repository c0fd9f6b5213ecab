//! The connection to an aggregator.

use std::time::Duration;

use galen_proto::v1::{
    control_service_client::ControlServiceClient, incident_service_client::IncidentServiceClient,
    query_service_client::QueryServiceClient,
};
use galen_runtime::{
    endpoint::{Endpoint, Security},
    tls::{self, Dialler, File, Files},
};
use hyper_util::rt::TokioIo;
use tonic::{
    codegen::http::Uri,
    service::interceptor::InterceptedService,
    transport::{self, Channel},
};
use tower::service_fn;

use crate::{arguments::Access, bearer::Bearer, error::Error};

/// An event with its attachments is one message.
const MAX_MESSAGE: usize = 256 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) type Client = QueryServiceClient<Calls>;
pub(crate) type Control = ControlServiceClient<Calls>;
pub(crate) type Incidents = IncidentServiceClient<Calls>;
/// With the token, if there is one.
type Calls = InterceptedService<Channel, Bearer>;

/// To ask an aggregator.
pub(crate) async fn connect(access: &Access) -> Result<Client, Error> {
    Ok(QueryServiceClient::new(channel(access).await?).max_decoding_message_size(MAX_MESSAGE))
}

/// To change what runs on nodes.
pub(crate) async fn control(access: &Access) -> Result<Control, Error> {
    Ok(ControlServiceClient::new(channel(access).await?))
}

/// To ask about incidents.
pub(crate) async fn incidents(access: &Access) -> Result<Incidents, Error> {
    Ok(IncidentServiceClient::new(channel(access).await?).max_decoding_message_size(MAX_MESSAGE))
}

async fn channel(access: &Access) -> Result<Calls, Error> {
    let endpoint: Endpoint = access.aggregator.parse()?;
    let bearer = Bearer::of(access.token_file.as_deref())?;
    let unreachable = |source| Error::Unreachable { endpoint: endpoint.to_string(), source };
    let connection = transport::Endpoint::from_shared(endpoint.to_string())
        .map_err(unreachable)?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_while_idle(true);
    let connected = match endpoint.security() {
        Security::Tls => {
            let (dialler, authority) = (dialler(access)?, endpoint.authority().to_owned());
            let connect = service_fn(move |_: Uri| {
                let (dialler, authority) = (dialler.clone(), authority.clone());
                async move { dialler.dial(&authority).await.map(TokioIo::new) }
            });
            connection.connect_with_connector(connect).await
        }
        _ => connection.connect().await,
    };
    Ok(InterceptedService::new(connected.map_err(unreachable)?, bearer))
}

/// With a certificate, unless there is none and a token.
fn dialler(access: &Access) -> Result<Dialler, Error> {
    let file = |setting: &'static str, path: &Option<std::path::PathBuf>, or: &str| match path {
        Some(path) => Ok(File::new(setting, path)),
        None => Err(Error::Usage(format!("`{}` takes `{setting} FILE`{or}", access.aggregator))),
    };
    let authorities = file("--ca-file", &access.ca_file, "")?;
    let config = if access.token_file.is_some() && access.certificate_file.is_none() && access.key_file.is_none() {
        tls::uncertified_client(&authorities, tls::HTTP_2)?
    } else {
        let files = Files {
            certificate: file("--certificate-file", &access.certificate_file, ", or a token by `--token-file FILE`")?,
            key: file("--key-file", &access.key_file, "")?,
            authorities,
            revoked: Vec::new(),
        };
        tls::client(&files.read()?, tls::HTTP_2)?
    };
    Ok(Dialler::new(config, access.server_name.as_deref())?)
}
