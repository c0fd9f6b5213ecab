//! What can go wrong between us and OpenSearch, and what a caller may do about it.

use std::{io, path::PathBuf};

/// What a caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The request is wrong: change it.
    Invalid,
    /// Try again, later or with less.
    Retryable,
    /// Somebody has to change something first: credentials, a block, a limit.
    Halted,
    /// What OpenSearch has is not what was written.
    Internal,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("failed to read `{}`", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` is no certificate, or not with its key: PEM is expected", path.display())]
    Certificate {
        path: PathBuf,
        #[source]
        source: opensearch::Error,
    },
    #[error("failed to prepare connections to OpenSearch")]
    Connect(#[source] opensearch::http::transport::BuildError),
    #[error("OpenSearch at {node} does not answer")]
    Unreachable {
        node: String,
        #[source]
        source: opensearch::Error,
    },
    #[error(
        "OpenSearch at {node} is not trusted, or does not trust us: see `opensearch.ca_file` and `opensearch.certificate_file`"
    )]
    Tls {
        node: String,
        #[source]
        source: rustls::Error,
    },
    #[error(
        "OpenSearch at {node} does not let {who} in: see `opensearch.user` and `opensearch.password_file`: 401 {reason}"
    )]
    Credentials { node: String, who: String, reason: String },
    #[error("OpenSearch refused to {action}: {status} {reason}")]
    Refused {
        /// What was asked for: a verb.
        action: &'static str,
        status: u16,
        reason: String,
    },
    /// The sink stands until it is repaired.
    #[error("OpenSearch takes no events until it is repaired: {status} {reason}")]
    Halted { status: u16, reason: String },
    /// A proxy's page, as a rule.
    #[error("{node}, asked to {action}, answered with what is not OpenSearch's: `{begins}`")]
    Answer {
        node: String,
        /// What was asked for: a verb.
        action: &'static str,
        /// First bytes of the answer.
        begins: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{node} answered for {got} of {sent} documents: `{begins}`")]
    Items { node: String, sent: usize, got: usize, begins: String },
    #[error("what OpenSearch has of event `{id}` is not what was written")]
    Content {
        id: String,
        #[source]
        source: base64::DecodeError,
    },
    #[error("the query took longer than {0} s: narrow its time range or its terms")]
    Deadline(u64),
    /// The question is wrong.
    #[error(transparent)]
    Question(#[from] galen_store::Error),
    #[error(transparent)]
    Log(#[from] galen_log::Error),
}

impl Error {
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } | Self::Answer { .. } | Self::Items { .. } | Self::Log(_) => Class::Retryable,
            Self::Refused { status, .. } => match status {
                429 | 500.. => Class::Retryable,
                403 | 404 => Class::Halted,
                _ => Class::Internal,
            },
            Self::File { .. } | Self::Certificate { .. } | Self::Connect(_) => Class::Halted,
            Self::Tls { .. } | Self::Credentials { .. } | Self::Halted { .. } => Class::Halted,
            Self::Deadline(_) => Class::Retryable,
            Self::Question(_) => Class::Invalid,
            Self::Content { .. } => Class::Internal,
        }
    }
}
