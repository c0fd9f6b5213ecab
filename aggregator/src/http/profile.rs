//! The profile of an event; for a trigger, that of the capture of the same run.

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use galen_proto::v1::ProfileFormat;

use super::{
    Context,
    error::{Body, Failure},
    params::Id,
};

/// The drawing brings a script of its own, for zoom and search. It runs in a sandbox without an origin: it can reach
/// neither the API nor the page around it.
const DRAWING_POLICY: &str = "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'self'";

/// The flame graph, as SVG.
#[utoipa::path(
    get,
    path = "/api/v1/events/{node}/{epoch}/{seq}/flame.svg",
    params(("node" = String, Path), ("epoch" = String, Path, description = "16 hex digits"), ("seq" = u64, Path)),
    responses(
        (status = 200, content_type = "image/svg+xml", body = String),
        (status = 404, body = Body, description = "There is no such event, or it has no profile."),
    )
)]
pub(super) async fn svg(State(context): State<Context>, Id(id): Id) -> Result<Response, Failure> {
    let mut response = answer(&context, &id, ProfileFormat::Svg).await?;
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DRAWING_POLICY));
    Ok(response)
}

/// The stacks as folded text: a stack a line, frames from the root joined by `;`, a space, the number of samples.
#[utoipa::path(
    get,
    path = "/api/v1/events/{node}/{epoch}/{seq}/flame.folded",
    params(("node" = String, Path), ("epoch" = String, Path, description = "16 hex digits"), ("seq" = u64, Path)),
    responses(
        (status = 200, content_type = "text/plain", body = String),
        (status = 404, body = Body, description = "There is no such event, or it has no profile."),
    )
)]
pub(super) async fn folded(State(context): State<Context>, Id(id): Id) -> Result<Response, Failure> {
    answer(&context, &id, ProfileFormat::Folded).await
}

/// The profile as it was captured, gzip'd pprof: `go tool pprof URL` opens it.
#[utoipa::path(
    get,
    path = "/api/v1/events/{node}/{epoch}/{seq}/profile.pb.gz",
    params(("node" = String, Path), ("epoch" = String, Path, description = "16 hex digits"), ("seq" = u64, Path)),
    responses(
        (status = 200, content_type = "application/gzip", body = Vec<u8>),
        (status = 404, body = Body, description = "There is no such event, or it has no profile."),
    )
)]
pub(super) async fn pprof(State(context): State<Context>, Id(id): Id) -> Result<Response, Failure> {
    answer(&context, &id, ProfileFormat::Pprof).await
}

async fn answer(context: &Context, id: &str, format: ProfileFormat) -> Result<Response, Failure> {
    let profile = context.queries.profile(id, format).await?;
    Ok(([(header::CONTENT_TYPE, profile.media_type)], profile.content).into_response())
}
