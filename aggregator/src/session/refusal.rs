//! Why a session ends, and the one place that says so in gRPC's terms.

use std::time::Duration;

use galen_log::Refused;
use tonic::{Code, Status};

use crate::ingest::Rejected;

/// How long an agent should stay away from an aggregator that ends, so that it does not find it still ending.
pub(super) const AWAY: Duration = Duration::from_secs(2);

/// The reason that a session ends with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the first message must be a hello")]
    NoHello,
    #[error("a session has one hello, at its beginning")]
    SecondHello,
    #[error("protocol version {0} is not served: this aggregator speaks version {served}", served = galen_proto::PROTOCOL)]
    Version(u32),
    #[error("the node's name must have 1 to {max} bytes and no control characters", max = galen_proto::MAX_NODE_NAME)]
    NodeName,
    #[error("the hello is of node `{node}`, but the certificate is of {certificate}")]
    OtherNode { node: String, certificate: String },
    #[error("the hello has {count} {what}, at most {limit} are taken")]
    TooMany { what: &'static str, count: usize, limit: usize },
    #[error("queue {epoch:016x} is announced wrongly: {why}")]
    Queue { epoch: u64, why: &'static str },
    #[error("queue {epoch:016x} was not announced in the hello")]
    UnknownQueue { epoch: u64 },
    #[error("the number 0 is no event's: numbers begin at 1")]
    NumberZero,
    #[error("event {last} of queue {epoch:016x} is from the future: the next number is {next_seq}")]
    Future { epoch: u64, last: u64, next_seq: u64 },
    #[error(
        "the next number of queue {epoch:016x} went back from {before} to {next_seq}: its node must begin a new epoch"
    )]
    NextWentBack { epoch: u64, before: u64, next_seq: u64 },
    #[error("the batch has {count} {what}, at most {limit} are taken")]
    BatchTooMany { what: &'static str, count: usize, limit: usize },
    #[error("the message is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the loss {first}..={last} is no range")]
    LossRange { first: u64, last: u64 },
    #[error("a loss has no range")]
    LossWithoutRange,
    #[error("the message cannot be decoded: {0}")]
    Undecodable(String),
    #[error(transparent)]
    Log(#[from] Rejected),
    #[error("nothing was heard for three heartbeats")]
    Silent,
    #[error("what was sent was not read for three heartbeats")]
    NotReading,
    #[error("{0} agents are connected, as many as are allowed")]
    Full(usize),
    #[error("more sessions begin than are taken in a second: come again in {} ms", again.as_millis())]
    TooManyNew { again: Duration },
    #[error("a newer session of the node has begun")]
    Replaced,
    #[error("the aggregator is shutting down")]
    ShuttingDown,
}

impl Refusal {
    /// For metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoHello => "no_hello",
            Self::SecondHello => "second_hello",
            Self::Version(_) => "version",
            Self::NodeName => "node_name",
            Self::OtherNode { .. } => "other_node",
            Self::TooMany { .. } | Self::Queue { .. } => "hello",
            Self::UnknownQueue { .. } | Self::Log(Rejected::Refused(Refused::UnknownQueue { .. })) => "unknown_queue",
            Self::NumberZero => "number_zero",
            Self::Future { .. } => "future",
            Self::NextWentBack { .. } => "went_back",
            Self::BatchTooMany { .. } | Self::TooLarge { .. } => "too_large",
            Self::LossRange { .. } | Self::LossWithoutRange => "loss_range",
            Self::Undecodable(_) => "undecodable",
            Self::Log(Rejected::Refused(Refused::TooManyGaps { .. })) => "gaps",
            Self::Log(Rejected::Unavailable) => "log_unavailable",
            Self::Silent => "silent",
            Self::NotReading => "not_reading",
            Self::Full(_) => "full",
            Self::TooManyNew { .. } => "too_many_new",
            Self::Replaced => "replaced",
            Self::ShuttingDown => "shutting_down",
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::NoHello | Self::SecondHello | Self::Version(_) => Code::FailedPrecondition,
            Self::UnknownQueue { .. } => Code::FailedPrecondition,
            Self::NextWentBack { .. } => Code::FailedPrecondition,
            Self::Log(Rejected::Refused(Refused::UnknownQueue { .. })) => Code::FailedPrecondition,
            Self::NodeName
            | Self::Queue { .. }
            | Self::NumberZero
            | Self::Future { .. }
            | Self::LossRange { .. }
            | Self::LossWithoutRange
            | Self::Undecodable(_)
            | Self::Log(Rejected::Refused(Refused::TooManyGaps { .. })) => Code::InvalidArgument,
            Self::TooMany { .. }
            | Self::BatchTooMany { .. }
            | Self::TooLarge { .. }
            | Self::Full(_)
            | Self::TooManyNew { .. } => Code::ResourceExhausted,
            Self::Log(Rejected::Unavailable) | Self::Silent | Self::NotReading | Self::ShuttingDown => {
                Code::Unavailable
            }
            Self::OtherNode { .. } => Code::PermissionDenied,
            Self::Replaced => Code::Aborted,
        }
    }
}

impl From<&Refusal> for Status {
    fn from(refusal: &Refusal) -> Self {
        let mut status = Self::new(refusal.code(), refusal.to_string());
        let again = match refusal {
            Refusal::TooManyNew { again } => Some(*again),
            Refusal::ShuttingDown => Some(AWAY),
            _ => None,
        };
        if let Some(again) = again {
            let millis = u32::try_from(again.as_millis()).unwrap_or(u32::MAX);
            status.metadata_mut().insert(galen_proto::RETRY_AFTER, millis.into());
        }
        status
    }
}
