//! The list of incidents: what happens, with one cause on however many nodes.

use axum::{extract::State, response::Response};
use galen_proto::{
    cloudevent::url_part,
    v1::{Incident, ListIncidentsRequest, ListIncidentsResponse},
};
use maud::{Markup, html};

use super::super::{Context, error::Failure, incidents::Which, params::Params};
use super::{
    failed,
    incident::{at_least, cause, link, runs, state, whole},
    ok, severity, visible, when,
};

/// Those on the first page.
const FEW: u32 = 5;
/// Choices of the form: the value, and what it says.
const STATES: [(&str, &str); 5] = [
    ("", "open and quiet"),
    ("open", "open"),
    ("quiet", "quiet"),
    ("closed", "closed"),
    ("open,quiet,closed", "all, closed ones too"),
];
const SEVERITIES: [(&str, &str); 3] =
    [("", "any severity"), ("warning", "warning and critical"), ("critical", "critical")];

pub(in crate::http) async fn show(State(context): State<Context>, params: Result<Params<Which>, Failure>) -> Response {
    let answer = params.and_then(|Params(which)| {
        let found = context.incidents.list(which.clone().request()?)?;
        Ok((which, found))
    });
    match answer {
        Ok((which, found)) => ok("Incidents", &page(&which, &found)),
        Err(failure) => failed(&failure),
    }
}

/// What is open or quiet, for the first page; nothing if nothing is.
pub(super) fn now(context: &Context) -> Markup {
    let request = ListIncidentsRequest { limit: FEW, ..ListIncidentsRequest::default() };
    let found = context.incidents.list(request).unwrap_or_default();
    html! {
        @if !found.incidents.is_empty() {
            section {
                h2 { "Incidents" }
                (rows(&found))
                p { a href="/incidents" { @if found.total > u64::from(FEW) { "All " (found.total) " incidents" } @else { "Incidents" } } }
            }
        }
    }
}

fn page(which: &Which, found: &ListIncidentsResponse) -> Markup {
    let shown = found.incidents.len() as u64;
    let overflow = found.overflow.unwrap_or_default();
    html! {
        h1 { "Incidents" }
        (form(which))
        @if found.lag > 0 { p { (whole(found.lag)) " events are not counted yet." } }
        @if found.incidents.is_empty() {
            div.empty { p { "No incident matches." } p { a href="/incidents?state=open,quiet,closed" { "All incidents, closed ones too" } } }
        } @else {
            p.total { b { (found.total) } @if found.total == 1 { " incident" } @else { " incidents" } ", the one that changed last first" }
            (rows(found))
        }
        @if found.total > shown { p { (found.total - shown) " more are not shown." } }
        @if overflow.incidents > 0 {
            p.problem role="alert" {
                code { "__overflow__" } ": " (whole(overflow.incidents)) " incidents found no room before they were closed, with "
                (whole(overflow.runs)) " runs and " (whole(overflow.events)) " events."
            }
        }
        p { a href="/api/v1/incidents" { "Incidents in the API" } " · " a href="/api/v1/incidents/stream" { "as they change" } }
    }
}

fn form(which: &Which) -> Markup {
    let choice = |name: &str, label: &str, choices: &[(&str, &str)], chosen: &str| {
        html! {
            select name=(name) aria-label=(label) {
                @for (value, text) in choices { option value=(value) selected[*value == chosen] { (text) } }
                @if !choices.iter().any(|(value, _)| *value == chosen) { option value=(chosen) selected { (visible(chosen)) } }
            }
        }
    };
    html! {
        form.search action="/incidents" method="get" role="search" {
            input type="search" name="tracer" value=(which.tracer) aria-label="Tracer" placeholder="tracer" spellcheck="false";
            input type="search" name="workload" value=(which.workload) aria-label="Workload" placeholder="workload, such as shop/web" spellcheck="false";
            (choice("state", "State", &STATES, &which.state))
            (choice("severity", "Severity", &SEVERITIES, &which.severity))
            button type="submit" { "Show" }
        }
    }
}

fn rows(found: &ListIncidentsResponse) -> Markup {
    let narrowed = |field: &str, value: &str| format!("/incidents?{field}={}", url_part(value));
    let row = |incident: &Incident| {
        html! {
            tr {
                td { (state(incident)) }
                td { (severity(incident.severity)) }
                td { a href=(narrowed("tracer", &incident.tracer)) { (visible(&incident.tracer)) } }
                td { a href=(narrowed("workload", &incident.workload)) { (visible(&incident.workload)) } }
                td.summary { a href=(link(incident)) { (cause(incident)) } }
                td.number { (runs(incident)) }
                td.number { (at_least(incident.nodes, incident.more_nodes)) }
                td.time { (when(incident.first_unix_nanos)) }
                td.time { (when(incident.last_unix_nanos)) }
            }
        }
    };
    html! {
        div.scroll {
            table.events {
                thead { tr { th { "State" } th { "Severity" } th { "Tracer" } th { "Workload" } th { "Cause" } th.number { "Runs" } th.number { "Nodes" } th { "First (UTC)" } th { "Last (UTC)" } } }
                tbody { @for incident in &found.incidents { (row(incident)) } }
            }
        }
    }
}
