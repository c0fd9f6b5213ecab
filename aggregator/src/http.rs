//! The HTTP door: a JSON API, live events and incidents, metrics, health, and a small page for people.
//!
//! - In plaintext for loopback only, where a request that names another host is refused, so that a web page elsewhere
//!   cannot reach in by a name of its own. From other machines by TLS. Who may ask what: [`crate::access`].
//! - Only GET, without a body. Heads, parameters, answers, connections and time are bounded.
//! - Whatever comes from events is text: escaped on the page, under a policy that runs no script; the flame graph is
//!   a document of its own, in a sandbox.
//! - The API's routes and its OpenAPI document are one list: a route cannot be left out of it.

mod api;
mod cloudevent;
mod error;
mod guard;
mod incidents;
mod ledger;
mod openapi;
mod ops;
mod page;
mod params;
mod profile;
mod server;
mod stream;
mod view;

use axum::{Router, middleware, routing::get};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use server::{Limits, Metrics, serve};

use crate::{access::Access, health::Health, incidents::Incidents, metrics::Registry, query::Queries};

/// What the handlers share.
#[derive(Clone)]
pub struct Context {
    pub queries: Queries,
    pub incidents: Incidents,
    pub health: Health,
    pub registry: Registry,
    /// Ends those who follow.
    pub shutdown: CancellationToken,
}

/// A moment as the API gives it: nanoseconds since 1970-01-01 UTC in RFC 3339.
pub fn moment(unix_nanos: i64) -> String {
    view::moment(unix_nanos)
}

/// What the API gives for an event, as JSON.
pub fn json(event: galen_proto::v1::Event) -> Vec<u8> {
    // Texts and numbers: this fails for no event.
    serde_json::to_vec(&view::EventView::from(event)).unwrap_or_default()
}

/// All routes.
pub fn router(context: Context, access: Access) -> Router {
    let (api, document) = api().split_for_parts();
    api.route("/", get(page::list::show))
        .route("/events/{node}/{epoch}/{seq}", get(page::event::show))
        .route("/incidents", get(page::incidents::show))
        .route("/incidents/{id}", get(page::incident::show))
        .route("/ledger", get(page::ledger::show))
        .route("/style.css", get(page::style))
        .route("/api/openapi.json", get(move || ops::openapi(document.clone())))
        .fallback(error::no_route)
        .method_not_allowed_fallback(|| async { error::no_method() })
        .layer(middleware::from_fn(move |request, next| guard::guard(access.clone(), request, next)))
        .with_state(context)
}

fn api() -> OpenApiRouter<Context> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(api::search_events))
        .routes(routes!(stream::follow_events))
        .routes(routes!(api::get_event))
        .routes(routes!(profile::svg))
        .routes(routes!(profile::folded))
        .routes(routes!(profile::pprof))
        .routes(routes!(incidents::list_incidents))
        .routes(routes!(stream::follow_incidents))
        .routes(routes!(incidents::get_incident))
        .routes(routes!(api::list_nodes))
        .routes(routes!(api::get_ledger))
        .routes(routes!(api::get_status))
        .routes(routes!(ops::metrics))
        .routes(routes!(ops::node_metrics))
        .routes(routes!(ops::healthz))
        .routes(routes!(ops::readyz))
}
