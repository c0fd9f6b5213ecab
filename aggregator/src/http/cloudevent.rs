//! Events, and changes of incidents, as CloudEvents 1.0 in their JSON form.

use galen_proto::{cloudevent, v1::Event};
use serde::Serialize;

use super::{
    incidents::IncidentView,
    view::{EventView, moment},
};
use crate::incidents::Change;

#[derive(Debug, Serialize)]
pub(super) struct CloudEvent<Data> {
    specversion: &'static str,
    /// Unique together with `source`: an event has its identity once and for all; a change of an incident is told by a
    /// number that rises with each, and the state.
    id: String,
    /// The node, or the incident, as a reference.
    source: String,
    /// `io.galen.event.<tracer>.<kind>`, or `galen.incident.v1`.
    r#type: String,
    /// The container, if there is one; of an incident, the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    time: String,
    datacontenttype: &'static str,
    data: Data,
}

impl From<Event> for CloudEvent<EventView> {
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

impl From<Change> for CloudEvent<IncidentView> {
    fn from(Change { incident, version }: Change) -> Self {
        let (workload, last) = (incident.workload.clone(), incident.last_unix_nanos);
        let data = IncidentView::from(incident);
        Self {
            specversion: cloudevent::SPEC_VERSION,
            source: cloudevent::incident_source(&data.id),
            id: format!("{version}/{}", data.state),
            r#type: cloudevent::INCIDENT_TYPE.into(),
            subject: Some(workload),
            time: moment(last),
            datacontenttype: "application/json",
            data,
        }
    }
}
