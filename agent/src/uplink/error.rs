//! Why a session ended, and what that means for the next.

use std::time::Duration;

use tonic::Code;

/// Wait after a refusal that will not change by itself.
const REFUSED_WAIT: Duration = Duration::from_secs(40);
/// No aggregator keeps an agent away for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("failed to connect")]
    Connect(#[from] tonic::transport::Error),
    #[error("the aggregator refused ({code:?}): {message}{cause}", code = .0.code(), message = .0.message(), cause = cause(.0))]
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
    #[error("the aggregator said goodbye")]
    Goodbye { away: Duration },
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

/// When the next attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Nothing is wrong: the next hello says what has changed.
    AtOnce,
    /// Nothing is wrong, but this aggregator is to be left alone for so long.
    Elsewhere(Duration),
    /// Nothing is wrong, but this aggregator has no place for the agent now, and is to be left alone for so long.
    Later(Duration),
    /// This aggregator refuses what will be the same the next time: it is to be left alone for so long.
    Refused(Duration),
    BackOff,
}

impl Error {
    pub(super) fn again(&self) -> Again {
        match self {
            Self::NewQueue => Again::AtOnce,
            Self::Goodbye { away } => Again::Elsewhere(*away),
            Self::Refused(status) => match status.code() {
                Code::InvalidArgument | Code::FailedPrecondition | Code::PermissionDenied | Code::Unauthenticated => {
                    Again::Refused(REFUSED_WAIT)
                }
                _ => retry_after(status).map_or(Again::BackOff, Again::Later),
            },
            Self::NoWelcome | Self::SecondWelcome | Self::Protocol { .. } => Again::Refused(REFUSED_WAIT),
            _ => Again::BackOff,
        }
    }
}

/// Why there was no answer, if it was not the aggregator that refused: a certificate, most often.
fn cause(status: &tonic::Status) -> String {
    std::error::Error::source(status).map(|source| format!(": {}", galen_runtime::Chain(source))).unwrap_or_default()
}

/// What a refusal says of when to come again.
fn retry_after(status: &tonic::Status) -> Option<Duration> {
    let millis: u64 = status.metadata().get(galen_proto::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(millis).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use tonic::{Status, metadata::MetadataValue};

    use super::*;

    #[test]
    fn a_refusal_that_names_a_time_is_waited_for_and_one_that_will_not_change_for_long() {
        let refused = |code, hint: Option<&'static str>| {
            let mut status = Status::new(code, "no");
            if let Some(hint) = hint {
                status.metadata_mut().insert(galen_proto::RETRY_AFTER, MetadataValue::from_static(hint));
            }
            Error::from(status).again()
        };
        let exhausted = Code::ResourceExhausted;
        assert_eq!(refused(exhausted, Some("1500")), Again::Later(Duration::from_millis(1500)));
        assert_eq!(refused(exhausted, Some("99999999999")), Again::Later(LONGEST_WAIT));
        for malformed in ["-1", "soon", ""] {
            assert_eq!(refused(exhausted, Some(malformed)), Again::BackOff, "{malformed}");
        }
        assert_eq!(refused(Code::Unavailable, None), Again::BackOff);
        assert_eq!(refused(Code::FailedPrecondition, Some("1")), Again::Refused(REFUSED_WAIT));
    }
}
