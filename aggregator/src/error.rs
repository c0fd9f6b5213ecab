//! Why the aggregator cannot start.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::{access, config};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] config::Invalid),
    #[error("failed to listen on {address}")]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("failed to prepare TLS")]
    Tls(#[from] galen_runtime::tls::Error),
    #[error("failed to read the tokens")]
    Access(#[from] access::Error),
    #[error("failed to open the log")]
    Log(#[from] galen_log::Error),
    #[error("failed to open the incidents")]
    Incidents(#[from] galen_incidents::Error),
    #[error("failed to open Kafka")]
    Kafka(#[from] galen_kafka::Error),
    #[error("failed to prepare the limits")]
    Limits(#[from] galen_limits::Error),
    #[error("failed to open the store")]
    Store(#[from] galen_store::Error),
    #[error("failed to prepare for OpenSearch")]
    OpenSearch(#[from] galen_opensearch::Error),
    #[error("failed to put `{}` aside, which cannot be read", path.display())]
    Desired {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to write `{}`", path.display())]
    Addresses {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to register metrics")]
    Metrics(#[from] prometheus::Error),
    #[error("failed to describe the gRPC services")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("start was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}
