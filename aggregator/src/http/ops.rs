//! For those who operate it: metrics, health, and the API's description.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus::{Encoder, TextEncoder};
use tokio::task::spawn_blocking;
use utoipa::openapi::OpenApi;

use super::{
    Context,
    error::{Body, Failure},
};

/// Figures, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(context): State<Context>) -> Result<Response, Failure> {
    let failed = |message: String| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message);
    // Some figures are read from the disk.
    let families =
        spawn_blocking(move || context.registry.gather()).await.map_err(|error| failed(error.to_string()))?;
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    encoder.encode(&families, &mut text).map_err(|error| failed(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response())
}

/// Whether the process lives.
#[utoipa::path(get, path = "/healthz", responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether events can be taken and found.
#[utoipa::path(
    get,
    path = "/readyz",
    responses(
        (status = 200, content_type = "text/plain", body = String),
        (status = 503, body = Body, description = "The message says what is not ready."),
    )
)]
pub(super) async fn readyz(State(context): State<Context>) -> Result<&'static str, Failure> {
    match context.queries.ready().await {
        Ok(()) => Ok("ready\n"),
        Err(error) => Err(Failure { status: StatusCode::SERVICE_UNAVAILABLE, ..error.into() }),
    }
}

pub(super) async fn openapi(document: OpenApi) -> Json<OpenApi> {
    Json(document)
}
