//! What can go wrong with a buffer as a whole ([`Error`]) and with one event ([`Rejected`]).
//!
//! Corruption is in neither: what cannot be read is put aside, declared as a loss, and the buffer goes on.

use std::{io, path::PathBuf};

use crate::LossReasonCode;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("buffer `{dir}` is in use by another process")]
    Locked { dir: PathBuf },
    #[error("failed to {what} `{path}`")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to read segment `{path}` for now")]
    Segment {
        path: PathBuf,
        #[source]
        source: sled::Error,
    },
    #[error("failed to start the writer's thread")]
    Thread(#[source] io::Error),
    #[error("epoch {0:016x} is not in the buffer")]
    UnknownEpoch(u64),
    #[error("the buffer is closed")]
    Closed,
    #[error("the writer's thread ended early")]
    WriterGone,
}

/// Why an event has no place in the buffer. Each is counted, except `Closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("the queue in front of the disk is full")]
    QueueFull,
    #[error("the event is larger than the buffer takes")]
    TooLarge,
    #[error("the disk refused the event")]
    Disk,
    #[error("the buffer is closed")]
    Closed,
}

impl Rejected {
    /// As it is counted. `None`: nobody is left to count it.
    pub fn reason(self) -> Option<LossReasonCode> {
        match self {
            Self::QueueFull => Some(LossReasonCode::QUEUE_FULL),
            Self::TooLarge => Some(LossReasonCode::TOO_LARGE),
            Self::Disk => Some(LossReasonCode::DISK_ERROR),
            Self::Closed => None,
        }
    }
}

pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io { what, path, source }
}
