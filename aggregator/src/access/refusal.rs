//! Why a request may not go on: what is said, what is counted, and the one map to gRPC's and HTTP's status.

use std::time::Duration;

use axum::http::StatusCode;
use galen_runtime::access::Role;
use tonic::Code;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no such call")]
    Unknown,
    #[error("this takes a user: send a token as `authorization: Bearer <token>`, or show the certificate of a user")]
    NoCredentials,
    #[error("the header `authorization` is not `Bearer` and a token, or is there more than once")]
    Malformed,
    #[error("the token is not known here")]
    UnknownToken,
    #[error(
        "a token came {0}, which is the wrong place: there others may read it, so replace it, and send the new one as \
         `authorization: Bearer <token>` only"
    )]
    WrongPlace(&'static str),
    #[error("the certificate is not one of a user, who alone may ask this")]
    NotAUser,
    #[error("the certificate is not one of a node, which alone has a stream")]
    NotANode,
    #[error("`{name}` has the role `{has}`, and this takes `{takes}`")]
    TooLow { name: String, has: Role, takes: Role },
    #[error("too many refused requests came from this address: try again in {} s", .0.as_secs().max(1))]
    TooMany(Duration),
}

impl Refusal {
    /// Why, for metrics; `None` for what says nothing about who asks.
    pub(super) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::NoCredentials => Some("no_credentials"),
            Self::Malformed => Some("malformed"),
            Self::UnknownToken => Some("unknown_token"),
            Self::WrongPlace(_) => Some("wrong_place"),
            Self::NotAUser | Self::NotANode | Self::TooLow { .. } => Some("forbidden"),
            Self::TooMany(_) => Some("too_many"),
        }
    }

    pub(crate) fn grpc(&self) -> Code {
        match self {
            Self::Unknown => Code::Unimplemented,
            Self::NoCredentials | Self::Malformed | Self::UnknownToken | Self::WrongPlace(_) => Code::Unauthenticated,
            Self::NotAUser | Self::NotANode | Self::TooLow { .. } => Code::PermissionDenied,
            Self::TooMany(_) => Code::ResourceExhausted,
        }
    }

    /// The status, and the code in the answer.
    pub(crate) fn http(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unknown => (StatusCode::NOT_FOUND, "no_route"),
            Self::NoCredentials | Self::Malformed | Self::UnknownToken => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            Self::WrongPlace(_) => (StatusCode::BAD_REQUEST, "token_in_wrong_place"),
            Self::NotAUser | Self::NotANode | Self::TooLow { .. } => (StatusCode::FORBIDDEN, "forbidden"),
            Self::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_refused"),
        }
    }
}
