//! What can go wrong, and the exit code of each.

use std::{io, path::PathBuf};

use galen_runtime::{access, endpoint};
use tonic::Code;

use crate::demo;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Endpoint(#[from] endpoint::Error),
    #[error(transparent)]
    Tls(#[from] galen_runtime::tls::Error),
    #[error(transparent)]
    Certificates(#[from] galen_certificates::Error),
    #[error("no aggregator can be reached at {endpoint}; `--aggregator URL` or GALEN_AGGREGATOR names another")]
    Unreachable {
        endpoint: String,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("the connection to the aggregator was lost: {0}")]
    Lost(String),
    #[error("the connection to the aggregator failed: {}; its address is that of gRPC, not that of the page", .0.message())]
    Broken(tonic::Status),
    #[error("{}", .0.message())]
    NotFound(tonic::Status),
    #[error("{}", .0.message())]
    Query(tonic::Status),
    #[error("the aggregator answered {:?}: {}", .0.code(), .0.message())]
    Refused(tonic::Status),
    #[error("{}", .0.message())]
    Away(tonic::Status),
    #[error("{}", .0.message())]
    NotLetIn(tonic::Status),
    #[error("the node did not do it: {0}")]
    NotDone(String),
    #[error("`--token-file`: failed to read `{path}`")]
    TokenFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`--token-file`: `{path}` is open to everybody: `chmod o-rwx` it")]
    TokenExposed { path: PathBuf },
    #[error("`--token-file`: what `{path}` holds is no token")]
    Token {
        path: PathBuf,
        #[source]
        source: access::NotATokenError,
    },
    #[error(transparent)]
    Entry(#[from] access::ParseEntryError),
    #[error("failed to make a token")]
    Random(#[from] access::RandomError),
    #[error("the profile that the aggregator sent cannot be read: {0}")]
    Profile(&'static str),
    #[error("failed to write `{path}`")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to write the output")]
    Output(#[from] io::Error),
    #[error(transparent)]
    Demo(#[from] demo::Error),
}

impl Error {
    /// As `galen --help` lists them.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Away(_) | Self::NotDone(_) => 1,
            Self::Refused(_) | Self::Profile(_) | Self::Write { .. } | Self::Output(_) | Self::Demo(_) => 1,
            Self::Random(_) => 1,
            Self::Usage(_) | Self::Endpoint(_) | Self::Query(_) | Self::Tls(_) | Self::Certificates(_) => 2,
            Self::TokenFile { .. } | Self::TokenExposed { .. } | Self::Token { .. } | Self::Entry(_) => 2,
            Self::NotFound(_) => 3,
            Self::Unreachable { .. } | Self::Lost(_) | Self::Broken(_) => 4,
            Self::NotLetIn(_) => 5,
        }
    }

    /// Whoever read the output has left.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        match status.code() {
            Code::NotFound => Self::NotFound(status),
            Code::InvalidArgument => Self::Query(status),
            Code::FailedPrecondition => Self::Away(status),
            Code::Unauthenticated | Code::PermissionDenied => Self::NotLetIn(status),
            Code::Unavailable => Self::Lost(status.message().to_owned()),
            // An answer has no source: this is from where answers are read.
            _ if std::error::Error::source(&status).is_some() => Self::Broken(status),
            _ => Self::Refused(status),
        }
    }
}
