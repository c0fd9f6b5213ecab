//! One incident: how far it reaches, its cause, its course, and the events that show it.

use axum::{
    extract::{Path, State},
    response::Response,
};
use galen_proto::{
    cloudevent::{kind_name, url_part},
    v1::{EventId, EventKind, Exemplar, Incident},
};
use maud::{Markup, html};

use super::super::{Context, incidents::state_name, params::event_path};
use super::{data::number, event::graph, failed, link_to_query, ok, severity, visible, when};
use crate::query::quoted;

pub(in crate::http) async fn show(State(context): State<Context>, Path(id): Path<String>) -> Response {
    let incident = match context.incidents.get(&id) {
        Ok(incident) => incident,
        Err(error) => return failed(&error.into()),
    };
    let drawn = flame_graph(&context, &incident).await;
    let body = html! {
        h1 { (severity(incident.severity)) " " (state(&incident)) " " (title(&incident)) }
        p.explanation { (cause(&incident)) ": " (extent(&incident)) "." }
        (facts(&incident))
        @if !incident.frames.is_empty() {
            section {
                h2 { "Cause" }
                div.frames { @for (index, frame) in incident.frames.iter().rev().enumerate() { @if index > 0 { " › " } code { (visible(frame)) } } }
            }
        }
        (drawn)
        section { h2 { "Course" } (course(&incident)) }
        section { p { a href={ "/api/v1/incidents/" (url_part(&incident.id)) } { "This incident in the API" } } }
    };
    ok(&title(&incident), &body)
}

/// The page of an incident.
pub(super) fn link(incident: &Incident) -> String {
    format!("/incidents/{}", url_part(&incident.id))
}

pub(super) fn title(incident: &Incident) -> String {
    visible(&format!("{} in {}", incident.tracer, incident.workload))
}

/// The function or the process; as long as none is known, what its first event says.
pub(super) fn cause(incident: &Incident) -> String {
    let known = incident.frames.first().map(|frame| visible(frame));
    let said = || incident.exemplars.first().map(|one| visible(&one.summary)).filter(|text| !text.trim().is_empty());
    known.or_else(said).unwrap_or_else(|| "(not known yet)".into())
}

/// How far it reaches, in words.
pub(super) fn extent(incident: &Incident) -> Markup {
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    html! {
        b { (runs(incident)) } " run" (plural(incident.runs)) " on " b { (at_least(incident.nodes, incident.more_nodes)) } " node" (plural(incident.nodes))
    }
}

pub(super) fn state(incident: &Incident) -> Markup {
    let name = state_name(incident.state());
    html! { span class={ "severity " (name) } { (name) } }
}

pub(super) fn runs(incident: &Incident) -> String {
    match incident.presumed_runs {
        0 => whole(incident.runs),
        presumed => format!("{} ({} presumed)", whole(incident.runs), whole(presumed)),
    }
}

pub(super) fn at_least(count: u64, more: bool) -> String {
    if more { format!("over {}", whole(count)) } else { whole(count) }
}

pub(super) fn whole(count: u64) -> String {
    number(&count.into())
}

fn facts(incident: &Incident) -> Markup {
    let fact = |name: &str, value: &str| html! { dt { (name) } dd { (value) } };
    let count = |name: &str, count: u64| fact(name, &whole(count));
    let time = |name: &str, nanos: i64| html! { dt { (name) } dd.time { (when(nanos)) } };
    let same = |field: &str, value: &str| {
        html! { dt { (field) } dd { a href={ "/incidents?" (field) "=" (url_part(value)) } { (visible(value)) } } }
    };
    html! {
        div.facts {
            dl {
                (fact("incident", &incident.id))
                (fact("fingerprint", &incident.fingerprint))
                (same("tracer", &incident.tracer))
                (same("workload", &incident.workload))
            }
            dl {
                (count("runs", incident.runs))
                @if incident.presumed_runs > 0 { (count("presumed", incident.presumed_runs)) }
                (count("events", incident.events))
                (count("captures", incident.captures))
                (fact("nodes", &at_least(incident.nodes, incident.more_nodes)))
                (fact("containers", &at_least(incident.containers, incident.more_containers)))
            }
            dl {
                (time("first received", incident.first_unix_nanos))
                (time("last received", incident.last_unix_nanos))
                (time("first observed", incident.first_observed_unix_nanos))
                (time("last observed", incident.last_observed_unix_nanos))
            }
        }
    }
}

/// The newest of its examples that has a profile, if the store has it already.
async fn flame_graph(context: &Context, incident: &Incident) -> Markup {
    for one in incident.exemplars.iter().rev().filter(|one| one.kind() == EventKind::Capture) {
        if let Ok(event) = context.queries.event(&one.event).await
            && let Ok(profile) = context.queries.stacks(&event).await
        {
            return graph(&event, Ok(profile));
        }
    }
    html! {}
}

/// When it began, the events that show it, and when it was heard of last.
fn course(incident: &Incident) -> Markup {
    let mut examples: Vec<&Exemplar> = incident.exemplars.iter().collect();
    examples.sort_by_key(|one| one.observed_unix_nanos);
    html! {
        div.scroll {
            table.events {
                thead { tr { th { "Time (UTC)" } th { "Kind" } th { "Node" } th { "Container" } th { "Summary" } } }
                tbody {
                    tr { td.time { (when(incident.first_observed_unix_nanos)) } td.none colspan="4" { "first event, of " (whole(incident.events)) } }
                    @for one in examples { (example(one)) }
                    tr { td.time { (when(incident.last_observed_unix_nanos)) } td.none colspan="4" { "last event" } }
                }
            }
        }
        p { a href=(link_to_query(&format!("tracer:{}", quoted(&incident.tracer)))) { "All events of this tracer" } }
    }
}

fn example(one: &Exemplar) -> Markup {
    let id: Option<EventId> = one.event.parse().ok();
    let summary = visible(&one.summary);
    html! {
        tr {
            td.time { (when(one.observed_unix_nanos)) }
            td { (kind_name(one.kind)) }
            td { (visible(id.as_ref().map(|id| id.node.as_str()).unwrap_or_default())) }
            td { (visible(&one.container)) }
            td.summary {
                @if let Some(id) = &id { a href={ "/events/" (event_path(id)) } { @if summary.trim().is_empty() { "(no summary)" } @else { (summary) } } }
                @else { (summary) }
            }
        }
    }
}
