//! Incidents, as JSON.

use axum::{
    Json,
    extract::{Path, State},
};
use galen_proto::{
    cloudevent::kind_name,
    v1::{Exemplar, Incident, IncidentState, ListIncidentsRequest, Severity},
};
use galen_store::severity_name;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Context,
    error::{Body, Failure},
    params::Params,
    view::moment,
};

/// Which incidents.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// `open`, `quiet`, `closed`, joined by commas. Empty: open and quiet ones.
    pub(super) state: String,
    /// Empty: of all tracers.
    pub(super) tracer: String,
    /// Empty: of all workloads.
    pub(super) workload: String,
    /// Empty: on all nodes.
    pub(super) node: String,
    /// `info`, `warning` or `critical`: those that are less bad are left out.
    pub(super) severity: String,
    /// Most in the answer, 100 unless given, at most 1000.
    #[param(value_type = u32)]
    limit: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Incidents {
    /// The one that changed last first.
    incidents: Vec<IncidentView>,
    /// Those that match.
    total: u64,
    overflow: OverflowView,
    /// Events in the log that are not counted yet.
    lag_events: u64,
}

/// What had to be pushed out before it was closed, because there was no room.
#[derive(Debug, Serialize, ToSchema)]
struct OverflowView {
    incidents: u64,
    runs: u64,
    events: u64,
}

/// Events with one cause, on however many nodes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IncidentView {
    /// Of this incident, at this replica.
    pub(super) id: String,
    /// Of its cause, at every replica.
    fingerprint: String,
    tracer: String,
    workload: String,
    /// Where, or who, the innermost frame first. Empty as long as no event told the cause.
    frames: Vec<String>,
    /// The worst of its events.
    severity: &'static str,
    /// `open`, `quiet` or `closed`.
    pub(super) state: String,
    /// A trigger and its capture are one run.
    runs: u64,
    /// Those of the runs that told no cause of their own, or not yet.
    presumed_runs: u64,
    events: u64,
    /// Those of the events that are captures.
    captures: u64,
    nodes: u64,
    /// Whether there were more, too many to be told apart.
    more_nodes: bool,
    containers: u64,
    more_containers: bool,
    /// When its first and its last event was received.
    first: String,
    last: String,
    /// Its earliest and its latest observation, by the nodes' clocks.
    first_observed: String,
    last_observed: String,
    exemplars: Vec<ExemplarView>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ExemplarView {
    /// Its id.
    event: String,
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    container: String,
    observed: String,
    summary: String,
}

/// Incidents, the one that changed last first.
#[utoipa::path(
    get,
    path = "/api/v1/incidents",
    params(Which),
    responses(
        (status = 200, body = Incidents),
        (status = 400, body = Body, description = "A parameter is wrong; the message says which."),
    )
)]
pub(super) async fn list_incidents(
    State(context): State<Context>,
    Params(which): Params<Which>,
) -> Result<Json<Incidents>, Failure> {
    let found = context.incidents.list(which.request()?)?;
    let overflow = found.overflow.unwrap_or_default();
    Ok(Json(Incidents {
        incidents: found.incidents.into_iter().map(IncidentView::from).collect(),
        total: found.total,
        overflow: OverflowView { incidents: overflow.incidents, runs: overflow.runs, events: overflow.events },
        lag_events: found.lag,
    }))
}

/// One incident, by its id or by its fingerprint.
#[utoipa::path(
    get,
    path = "/api/v1/incidents/{id}",
    params(("id" = String, Path)),
    responses(
        (status = 200, body = IncidentView),
        (status = 404, body = Body, description = "There is no such incident, or no more."),
    )
)]
pub(super) async fn get_incident(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<IncidentView>, Failure> {
    Ok(Json(context.incidents.get(&id)?.into()))
}

impl Which {
    pub(super) fn request(self) -> Result<ListIncidentsRequest, Failure> {
        let state = |text: &str| match text {
            "open" => Ok(IncidentState::Open.into()),
            "quiet" => Ok(IncidentState::Quiet.into()),
            "closed" => Ok(IncidentState::Closed.into()),
            _ => Err(Failure::invalid("`state` is `open`, `quiet` or `closed`, or several of them joined by commas")),
        };
        let texts = self.state.split(',').map(str::trim).filter(|text| !text.is_empty());
        let limit = match self.limit.as_str() {
            "" => 0,
            text => match text.parse() {
                Ok(limit) if limit > 0 => limit,
                _ => return Err(Failure::invalid("`limit` is a number from 1 to 1000")),
            },
        };
        Ok(ListIncidentsRequest {
            states: texts.map(state).collect::<Result<_, _>>()?,
            tracer: self.tracer,
            workload: self.workload,
            node: self.node,
            severity: severity_of(&self.severity)?.into(),
            limit,
        })
    }
}

/// The least that is asked for.
pub(super) fn severity_of(text: &str) -> Result<Severity, Failure> {
    match text {
        "" => Ok(Severity::Unspecified),
        "info" => Ok(Severity::Info),
        "warning" => Ok(Severity::Warning),
        "critical" => Ok(Severity::Critical),
        _ => Err(Failure::invalid("`severity` is `info`, `warning` or `critical`")),
    }
}

/// `open`, `quiet` or `closed`.
pub(super) fn state_name(state: IncidentState) -> String {
    state.as_str_name().trim_start_matches("INCIDENT_STATE_").to_lowercase()
}

impl From<Incident> for IncidentView {
    fn from(incident: Incident) -> Self {
        Self {
            severity: severity_name(incident.severity),
            state: state_name(incident.state()),
            id: incident.id,
            fingerprint: incident.fingerprint,
            tracer: incident.tracer,
            workload: incident.workload,
            frames: incident.frames,
            runs: incident.runs,
            presumed_runs: incident.presumed_runs,
            events: incident.events,
            captures: incident.captures,
            nodes: incident.nodes,
            more_nodes: incident.more_nodes,
            containers: incident.containers,
            more_containers: incident.more_containers,
            first: moment(incident.first_unix_nanos),
            last: moment(incident.last_unix_nanos),
            first_observed: moment(incident.first_observed_unix_nanos),
            last_observed: moment(incident.last_observed_unix_nanos),
            exemplars: incident.exemplars.into_iter().map(ExemplarView::from).collect(),
        }
    }
}

impl From<Exemplar> for ExemplarView {
    fn from(one: Exemplar) -> Self {
        Self {
            event: one.event,
            kind: kind_name(one.kind).into(),
            container: one.container,
            observed: moment(one.observed_unix_nanos),
            summary: one.summary,
        }
    }
}
