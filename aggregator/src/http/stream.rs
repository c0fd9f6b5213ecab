//! Events as they are stored, by server-sent events.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::{
        Sse,
        sse::{Event, KeepAlive},
    },
};
use serde::Deserialize;
use tokio_stream::{Stream, StreamExt};
use utoipa::IntoParams;

use super::{
    Context,
    cloudevent::CloudEvent,
    error::{Body, Failure},
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
    let messages = async_stream::stream! {
        // Tells the caller that from here on nothing is left out.
        yield Event::default().comment("following");
        tokio::pin!(events);
        while let Some(Some(next)) = shutdown.run_until_cancelled(events.next()).await {
            match next {
                Ok(next) => {
                    if next.missed > 0 {
                        yield Event::default().event("missed").data(format!("{{\"missed\":{}}}", next.missed));
                    }
                    if let Some(event) = next.event {
                        let event = CloudEvent::from(event);
                        match Event::default().json_data(event) {
                            Ok(message) => yield message,
                            Err(error) => tracing::warn!(%error, "an event cannot be sent"),
                        }
                    }
                }
                Err(error) => {
                    yield Event::default().event("error").data(error.message().replace(['\r', '\n'], " "));
                    break;
                }
            }
        }
    };
    Ok(Sse::new(messages.map(Ok)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}
