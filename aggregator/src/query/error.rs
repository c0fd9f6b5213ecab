//! Why a question has no answer. The one map to gRPC status is here; the one to HTTP is `http::error`.

use std::borrow::Cow;

use galen_runtime::Chain;
use tonic::Status;

use crate::flame;

/// What the caller may do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Change the request.
    Invalid,
    /// Look elsewhere, or later.
    NotFound,
    /// Ask again later.
    Overloaded,
    /// Ask again later, once it is repaired.
    Unavailable,
    /// Ask for less.
    Deadline,
    /// Nothing: the aggregator is at fault.
    Internal,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    NotFound(String),
    /// There are as many as there may be of what is named.
    #[error("too many {0} at a time: try again later")]
    Busy(&'static str),
    #[error("{0}")]
    Unavailable(Cow<'static, str>),
    #[error(transparent)]
    Store(#[from] galen_store::Error),
    #[error(transparent)]
    OpenSearch(#[from] galen_opensearch::Error),
    /// Of a follower.
    #[error(transparent)]
    Log(#[from] galen_log::Error),
    #[error(transparent)]
    Profile(#[from] flame::Error),
    #[error("a search ended unexpectedly")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl Error {
    pub fn class(&self) -> Class {
        match self {
            Self::Invalid(_) => Class::Invalid,
            Self::NotFound(_) => Class::NotFound,
            Self::Busy(_) => Class::Overloaded,
            Self::Unavailable(_) => Class::Unavailable,
            Self::Store(error) => match error.class() {
                galen_store::Class::Invalid => Class::Invalid,
                galen_store::Class::Retryable => Class::Deadline,
                galen_store::Class::Internal => Class::Internal,
            },
            Self::OpenSearch(galen_opensearch::Error::Deadline(_)) => Class::Deadline,
            Self::OpenSearch(error) => match error.class() {
                galen_opensearch::Class::Invalid => Class::Invalid,
                galen_opensearch::Class::Retryable | galen_opensearch::Class::Halted => Class::Unavailable,
                galen_opensearch::Class::Internal => Class::Internal,
            },
            Self::Log(_) | Self::Profile(_) | Self::Interrupted(_) => Class::Internal,
        }
    }

    /// With all its causes, in one line.
    pub fn message(&self) -> String {
        Chain(self).to_string()
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.message();
        match error.class() {
            Class::Invalid => Self::invalid_argument(message),
            Class::NotFound => Self::not_found(message),
            Class::Overloaded => Self::resource_exhausted(message),
            Class::Unavailable => Self::unavailable(message),
            Class::Deadline => Self::deadline_exceeded(message),
            Class::Internal => {
                tracing::warn!(error = message, "a question failed");
                Self::internal(message)
            }
        }
    }
}
