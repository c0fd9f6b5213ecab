//! Why a session ended.

use std::time::Duration;

use tonic::Code;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("failed to connect")]
    Connect(#[from] tonic::transport::Error),
    #[error("the aggregator refused ({code:?}): {message}", code = .0.code(), message = .0.message())]
    Refused(Box<tonic::Status>),
    #[error("the aggregator ended the stream")]
    Ended,
    #[error("the aggregator did not answer the hello in time")]
    WelcomeTimeout,
    #[error("the aggregator's first message is not a welcome")]
    NoWelcome,
    #[error("the aggregator sent a second welcome")]
    SecondWelcome,
    #[error("the aggregator speaks protocol {theirs}, this agent {ours}", ours = galen_proto::PROTOCOL)]
    Protocol { theirs: u32 },
    #[error("nothing was heard from the aggregator for {0:?}")]
    Silent(Duration),
    #[error("the buffer has begun a new queue")]
    NewQueue,
    #[error("the aggregator has events of queue {epoch:016x} that this agent never sent")]
    OldCopy { epoch: u64 },
    #[error("the buffer is closed")]
    BufferClosed,
    #[error("failed to read from the buffer")]
    Buffer(#[from] galen_buffer::Error),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl Error {
    /// Whether the same attempt would fail again, so that there is no haste to make it.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Refused(status) => matches!(
                status.code(),
                Code::InvalidArgument | Code::FailedPrecondition | Code::PermissionDenied | Code::Unauthenticated
            ),
            Self::NoWelcome | Self::SecondWelcome | Self::Protocol { .. } => true,
            _ => false,
        }
    }
}
