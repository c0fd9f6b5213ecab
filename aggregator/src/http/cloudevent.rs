//! Events as CloudEvents 1.0, in their JSON form.

use galen_proto::{cloudevent, v1::Event};
use serde::Serialize;

use super::view::{EventView, moment};

#[derive(Debug, Serialize)]
pub(super) struct CloudEvent {
    specversion: &'static str,
    /// Unique together with `source`: an event has its identity once and for all.
    id: String,
    /// The node, as a reference to its place in the API.
    source: String,
    /// `io.galen.event.<tracer>.<kind>`.
    r#type: String,
    /// The container, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    time: String,
    datacontenttype: &'static str,
    data: EventView,
}

impl From<Event> for CloudEvent {
    fn from(event: Event) -> Self {
        let id = event.id.clone().unwrap_or_default();
        Self {
            specversion: cloudevent::SPEC_VERSION,
            source: cloudevent::source(&id.node),
            id: id.to_string(),
            r#type: cloudevent::event_type(&event.tracer, event.kind),
            subject: event.container.as_ref().map(|container| container.name.clone()).filter(|name| !name.is_empty()),
            time: moment(event.times.unwrap_or_default().observed_unix_nanos),
            datacontenttype: "application/json",
            data: event.into(),
        }
    }
}
