//! Why what was asked is not done. The one map to gRPC status is here.

use std::io;

use galen_runtime::Chain;
use tonic::{Code, Status};

use super::desired;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Invalid(String),
    #[error("node `{0}` was not heard of")]
    NoNode(String),
    #[error("node `{node}` has no tracer `{tracer}`; it has {}", known.join(", "))]
    NoTracer { node: String, tracer: String, known: Vec<String> },
    #[error("setting `{0}` is not one of those that are laid over the node's own")]
    NotSet(String),
    #[error("node `{0}` is away")]
    Away(String),
    #[error("node `{0}` left before it answered")]
    Left(String),
    #[error("node `{0}` is busy with other commands: try again later")]
    Busy(String),
    #[error("node `{0}` did not answer in time")]
    Late(String),
    #[error(transparent)]
    Desired(#[from] desired::Error),
    #[error("failed to write the audit log, so nothing was done")]
    Audit(#[source] io::Error),
}

impl Error {
    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NoNode(_) | Self::NoTracer { .. } | Self::NotSet(_) => Code::NotFound,
            Self::Away(_) | Self::Left(_) => Code::FailedPrecondition,
            Self::Busy(_) | Self::Desired(desired::Error::Full) => Code::ResourceExhausted,
            Self::Late(_) => Code::DeadlineExceeded,
            Self::Desired(_) | Self::Audit(_) => Code::Unavailable,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), Chain(&error).to_string())
    }
}
