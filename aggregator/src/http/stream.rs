//! Events as they are stored, and incidents as they change, by server-sent events.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::{
        Sse,
        sse::{Event, KeepAlive},
    },
};
use galen_proto::v1::FollowIncidentsRequest;
use serde::{Deserialize, Serialize};
use tokio_stream::{Stream, StreamExt};
use utoipa::IntoParams;

use super::{
    Context,
    cloudevent::CloudEvent,
    error::{Body, Failure},
    incidents::severity_of,
    params::Params,
};

/// Silence is broken this often, so that both sides notice when the other has gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Follow {
    /// In the query language. Empty: all events.
    query: String,
}

/// Which incidents.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct FollowIncidents {
    /// Empty: of all tracers.
    tracer: String,
    /// Empty: of all workloads.
    workload: String,
    /// Empty: on all nodes.
    node: String,
    /// `info`, `warning` or `critical`: those that are less bad are left out.
    severity: String,
}

/// Events as they are stored, from now on, until the caller leaves: server-sent events, each a CloudEvent 1.0 in JSON
/// whose `data` is the event as the API gives it. A message of the name `missed` says how many were left out, because
/// the caller was too slow.
#[utoipa::path(
    get,
    path = "/api/v1/events/stream",
    params(Follow),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 400, body = Body, description = "The query is wrong; the message says where."),
        (status = 429, body = Body, description = "Too many follow at a time."),
    )
)]
pub(super) async fn follow_events(
    State(context): State<Context>,
    Params(params): Params<Follow>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let events = context.queries.follow(&params.query)?;
    let shutdown = context.shutdown;
    Ok(sent(async_stream::stream! {
        // Tells the caller that from here on nothing is left out.
        yield Event::default().comment("following");
        tokio::pin!(events);
        while let Some(Some(next)) = shutdown.run_until_cancelled(events.next()).await {
            match next {
                Ok(next) => {
                    if next.missed > 0 {
                        yield Event::default().event("missed").data(format!("{{\"missed\":{}}}", next.missed));
                    }
                    if let Some(message) = next.event.and_then(|event| cloud_event(CloudEvent::from(event))) {
                        yield message;
                    }
                }
                Err(error) => {
                    yield Event::default().event("error").data(error.message().replace(['\r', '\n'], " "));
                    break;
                }
            }
        }
    }))
}

/// Incidents that are not closed, then each again when it has changed, at most once a second, until the caller leaves:
/// server-sent events, each a CloudEvent 1.0 of the type `galen.incident.v1` in JSON whose `data` is the incident as the
/// API gives it. Whoever comes again hears first how all are by then, so nothing is missed.
#[utoipa::path(
    get,
    path = "/api/v1/incidents/stream",
    params(FollowIncidents),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 400, body = Body, description = "A parameter is wrong; the message says which."),
        (status = 429, body = Body, description = "Too many follow at a time."),
    )
)]
pub(super) async fn follow_incidents(
    State(context): State<Context>,
    Params(params): Params<FollowIncidents>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let FollowIncidents { tracer, workload, node, severity } = params;
    let severity = severity_of(&severity)?.into();
    let changes = context.incidents.follow(FollowIncidentsRequest { tracer, workload, node, severity })?;
    let shutdown = context.shutdown;
    Ok(sent(async_stream::stream! {
        yield Event::default().comment("following");
        tokio::pin!(changes);
        while let Some(Some(change)) = shutdown.run_until_cancelled(changes.next()).await {
            if let Some(message) = cloud_event(CloudEvent::from(change)) {
                yield message;
            }
        }
    }))
}

fn sent(messages: impl Stream<Item = Event> + Send + 'static) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(messages.map(Ok)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

fn cloud_event(content: CloudEvent<impl Serialize>) -> Option<Event> {
    let message = Event::default().json_data(content);
    message.inspect_err(|error| tracing::warn!(%error, "a message cannot be sent")).ok()
}
