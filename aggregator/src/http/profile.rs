//! The profile of an event; for a trigger, that of the capture of the same run.

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use galen_proto::v1::{ProfileFormat, ProfilePart};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Context,
    error::{Body, Failure},
    params::{Id, Params},
};

/// The drawing brings a script of its own, for zoom and search. It runs in a sandbox without an origin: it can reach
/// neither the API nor the page around it.
const DRAWING_POLICY: &str = "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'self'";

/// Which profile of a capture.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// `before` or `after` the trigger, or `diff`: what changed between the two, in CPU time a second (as SVG and folded
    /// text only). Absent: after the trigger; if that has no samples, before.
    part: Option<String>,
}

/// The flame graph, as SVG.
#[utoipa::path(
    get,
    path = "/api/v1/events/{node}/{epoch}/{seq}/flame.svg",
    params(("node" = String, Path), ("epoch" = String, Path, description = "16 hex digits"), ("seq" = u64, Path), Part),
    responses(
        (status = 200, content_type = "image/svg+xml", body = String),
        (status = 404, body = Body, description = "There is no such event, or it has no profile."),
    )
)]
pub(super) async fn svg(
    State(context): State<Context>,
    Id(id): Id,
    Params(part): Params<Part>,
) -> Result<Response, Failure> {
    let mut response = answer(&context, &id, ProfileFormat::Svg, part).await?;
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DRAWING_POLICY));
    Ok(response)
}

/// The stacks as folded text: a stack a line, frames from the root joined by `;`, a space, the number of samples.
#[utoipa::path(
    get,
    path = "/api/v1/events/{node}/{epoch}/{seq}/flame.folded",
    params(("node" = String, Path), ("epoch" = String, Path, description = "16 hex digits"), ("seq" = u64, Path), Part),
    responses(
        (status = 200, content_type = "text/plain", body = String),
        (status = 404, body = Body, description = "There is no such event, or it has no profile."),
    )
)]
pub(super) async fn folded(
    State(context): State<Context>,
    Id(id): Id,
    Params(part): Params<Part>,
) -> Result<Response, Failure> {
    answer(&context, &id, ProfileFormat::Folded, part).await
}

/// The profile as it was captured, gzip'd pprof: `go tool pprof URL` opens it.
#[utoipa::path(
    get,
    path = "/api/v1/events/{node}/{epoch}/{seq}/profile.pb.gz",
    params(("node" = String, Path), ("epoch" = String, Path, description = "16 hex digits"), ("seq" = u64, Path), Part),
    responses(
        (status = 200, content_type = "application/gzip", body = Vec<u8>),
        (status = 404, body = Body, description = "There is no such event, or it has no profile."),
    )
)]
pub(super) async fn pprof(
    State(context): State<Context>,
    Id(id): Id,
    Params(part): Params<Part>,
) -> Result<Response, Failure> {
    answer(&context, &id, ProfileFormat::Pprof, part).await
}

async fn answer(context: &Context, id: &str, format: ProfileFormat, part: Part) -> Result<Response, Failure> {
    let part = match part.part.as_deref() {
        None => ProfilePart::Unspecified,
        Some("before") => ProfilePart::Before,
        Some("after") => ProfilePart::After,
        Some("diff") => ProfilePart::Difference,
        Some(other) => return Err(Failure::invalid(format!("`part` is `{other}`: it is before, after or diff"))),
    };
    let profile = context.queries.profile(id, format, part).await?;
    Ok(([(header::CONTENT_TYPE, profile.media_type)], profile.content).into_response())
}
