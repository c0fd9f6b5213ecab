//! Events as CloudEvents 1.0, in their JSON form.

use galen_proto::v1::Event;
use galen_store::kind_name;
use serde::Serialize;

use super::{
    params::encode,
    view::{EventView, moment},
};

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
        let tracer = if event.tracer.is_empty() { "unknown" } else { &event.tracer };
        Self {
            specversion: "1.0",
            source: format!("/nodes/{}", encode(&id.node)),
            id: id.to_string(),
            r#type: format!("io.galen.event.{tracer}.{}", kind_name(event.kind)),
            subject: event.container.as_ref().map(|container| container.name.clone()).filter(|name| !name.is_empty()),
            time: moment(event.times.unwrap_or_default().observed_unix_nanos),
            datacontenttype: "application/json",
            data: event.into(),
        }
    }
}
