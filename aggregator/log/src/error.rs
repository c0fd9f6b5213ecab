//! What can go wrong with the log.

use std::{io, path::PathBuf};

/// An operation on the log failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to {action} `{}`", path.display())]
    Disk {
        /// What was tried, such as `open` or `sync`.
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("log directory `{}` is in use by another process", path.display())]
    InUse { path: PathBuf },
    #[error("log setting `{name}` must {must}")]
    Setting { name: &'static str, must: &'static str },
    #[error("log is closed after an earlier disk error")]
    Poisoned,
    #[error("record of {bytes} bytes is larger than the log takes")]
    TooLarge { bytes: usize },
    #[error("failed to {action}")]
    Remote {
        /// What was tried, such as `write to Kafka`.
        action: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("log reader was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Reopen and try again, after a while.
    Retryable,
    /// Trying again gives the same.
    Permanent,
    /// The process is ending.
    Cancelled,
}

impl Error {
    pub fn class(&self) -> Class {
        match self {
            Self::Disk { .. } | Self::InUse { .. } | Self::Poisoned | Self::Remote { .. } => Class::Retryable,
            Self::Setting { .. } | Self::TooLarge { .. } => Class::Permanent,
            Self::Interrupted(_) => Class::Cancelled,
        }
    }

    pub(crate) fn disk(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { action, path, source }
    }
}
