//! For those who operate it: metrics, health, and the API's description.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus::{Encoder, TEXT_FORMAT, TextEncoder, proto::MetricFamily};
use serde::Deserialize;
use tokio::task::spawn_blocking;
use utoipa::{IntoParams, openapi::OpenApi};

use super::{
    Context,
    error::{Body, Failure},
    params::Params,
};
use crate::nodes::{ParseShardError, Shard};

/// Figures of the aggregator, and of all agents together, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(context): State<Context>) -> Result<Response, Failure> {
    // Some figures are read from the disk.
    exposed(move || Ok(context.registry.gather())).await
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Nodes {
    /// A part of the nodes: `0/4` is the first of four. Empty: all of them.
    shard: String,
}

/// Figures of each agent, with the label `node`, in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics/nodes",
    params(Nodes),
    responses(
        (status = 200, content_type = "text/plain", body = String),
        (status = 400, body = Body, description = "No such shard, or too many series for one answer."),
    )
)]
pub(super) async fn node_metrics(
    State(context): State<Context>,
    Params(params): Params<Nodes>,
) -> Result<Response, Failure> {
    let shard = match params.shard.as_str() {
        "" => Shard::default(),
        text => text.parse().map_err(|error: ParseShardError| Failure::invalid(error.to_string()))?,
    };
    exposed(move || context.queries.node_figures(shard).map_err(|error| Failure::invalid(error.to_string()))).await
}

async fn exposed(
    gather: impl FnOnce() -> Result<Vec<MetricFamily>, Failure> + Send + 'static,
) -> Result<Response, Failure> {
    let failed = |message: String| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message);
    let encoder = TextEncoder::new();
    let encode = move || {
        let mut text = Vec::new();
        encoder.encode(&gather()?, &mut text).map_err(|error| failed(error.to_string()))?;
        Ok::<_, Failure>(text)
    };
    let text = spawn_blocking(encode).await.map_err(|error| failed(error.to_string()))??;
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response())
}

/// Whether the process lives.
#[utoipa::path(get, path = "/healthz", responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether agents and questions may come: events can be taken, and the aggregator is not about to end. Behind `ready` are
/// lines that say why what is new is not found yet, if so; that keeps no agent away.
#[utoipa::path(
    get,
    path = "/readyz",
    responses(
        (status = 200, content_type = "text/plain", body = String),
        (status = 503, body = Body, description = "The message says what is not ready."),
    )
)]
pub(super) async fn readyz(State(context): State<Context>) -> Result<String, Failure> {
    match context.health.ready() {
        Ok(behind) => Ok(behind.iter().fold("ready\n".to_owned(), |text, line| text + line + "\n")),
        Err(error) => Err(Failure { status: StatusCode::SERVICE_UNAVAILABLE, ..error.into() }),
    }
}

pub(super) async fn openapi(document: OpenApi) -> Json<OpenApi> {
    Json(document)
}
