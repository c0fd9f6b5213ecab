//! Errors as HTTP answers: the one map from their class to a status.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::query;

/// Why a request was not answered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Body {
    error: Detail,
}

#[derive(Debug, Serialize, ToSchema)]
struct Detail {
    /// For programs, such as `invalid`.
    #[schema(example = "invalid")]
    code: &'static str,
    /// For people.
    #[schema(example = "at character 1: there is no field `tracr`: is `tracer` meant?")]
    message: String,
}

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }
}

impl From<query::Error> for Failure {
    fn from(error: query::Error) -> Self {
        let (status, code) = match error.class() {
            query::Class::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
            query::Class::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            query::Class::Overloaded => (StatusCode::TOO_MANY_REQUESTS, "overloaded"),
            query::Class::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            query::Class::Deadline => (StatusCode::GATEWAY_TIMEOUT, "deadline"),
            query::Class::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        let message = error.message();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::warn!(error = message, "a question failed");
        }
        Self { status, code, message }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Body { error: Detail { code: self.code, message: self.message } };
        (self.status, Json(body)).into_response()
    }
}

pub(super) async fn no_route() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "no_route", "there is nothing here: the API is described by /api/openapi.json")
}

pub(super) fn no_method() -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "no_method", "only GET is served")
}
