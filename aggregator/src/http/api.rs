//! Events, nodes and status, as JSON.

use axum::{Json, extract::State};

use super::{
    Context,
    error::{Body, Failure},
    ledger::Ledgers,
    params::{self, Id, Params},
    view::{EventView, Events, NodeView, StatusView},
};

/// Events that match, newest first unless asked otherwise, a page at a time.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    params(params::Events),
    responses(
        (status = 200, body = Events),
        (status = 400, body = Body, description = "The query or a parameter is wrong; the message says where."),
        (status = 429, body = Body, description = "Too many searches at a time."),
        (status = 504, body = Body, description = "The search took too long."),
    )
)]
pub(super) async fn search_events(
    State(context): State<Context>,
    Params(params): Params<params::Events>,
) -> Result<Json<Events>, Failure> {
    Ok(Json(context.queries.search(params.request()?).await?.into()))
}

/// One event. Attachments are listed without their content.
#[utoipa::path(
    get,
    path = "/api/v1/events/{node}/{epoch}/{seq}",
    params(("node" = String, Path), ("epoch" = String, Path, description = "16 hex digits"), ("seq" = u64, Path)),
    responses(
        (status = 200, body = EventView),
        (status = 404, body = Body, description = "The store does not have it: not yet, or no more."),
    )
)]
pub(super) async fn get_event(State(context): State<Context>, Id(id): Id) -> Result<Json<EventView>, Failure> {
    Ok(Json(context.queries.event(&id).await?.into()))
}

/// Every node that was heard of, by name.
#[utoipa::path(get, path = "/api/v1/nodes", responses((status = 200, body = Vec<NodeView>)))]
pub(super) async fn list_nodes(State(context): State<Context>) -> Json<Vec<NodeView>> {
    Json(context.queries.nodes().into_iter().map(NodeView::from).collect())
}

/// What became of all that was observed: of each node, and in total.
#[utoipa::path(
    get,
    path = "/api/v1/ledger",
    params(params::OfNode),
    responses(
        (status = 200, body = Ledgers),
        (status = 404, body = Body, description = "The node was never heard of."),
    )
)]
pub(super) async fn get_ledger(
    State(context): State<Context>,
    Params(params): Params<params::OfNode>,
) -> Result<Json<Ledgers>, Failure> {
    Ok(Json(context.queries.ledger(&params.node)?.into()))
}

/// How the aggregator is.
#[utoipa::path(get, path = "/api/v1/status", responses((status = 200, body = StatusView)))]
pub(super) async fn get_status(State(context): State<Context>) -> Result<Json<StatusView>, Failure> {
    Ok(Json(context.queries.status().await?.into()))
}
