//! One event: what happened, the values against their thresholds, the other events of its run, and its flame graph.

use axum::{extract::State, response::Response};
use galen_proto::{
    PROFILE_BEFORE,
    cloudevent::kind_name,
    v1::{Event, EventKind, Incident},
};
use maud::{Markup, html};

use super::super::{
    Context,
    error::Failure,
    params::{Id, event_path},
    view::{EventView, moment},
};
use super::{data, failed, incident, link_to_query, ok, rows, severity, summary, visible};
use crate::{
    flame::{self, Stacks},
    query::{Class, Error, quoted},
};

/// Stacks that are listed.
const HOTTEST: usize = 5;
/// Frames of a listed stack: those nearest to the leaf.
const FRAMES: usize = 12;

pub(in crate::http) async fn show(State(context): State<Context>, id: Result<Id, Failure>) -> Response {
    let event = match id {
        Ok(Id(id)) => context.queries.event(&id).await.map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    let event = match event {
        Ok(event) => event,
        Err(failure) => return failed(&failure),
    };
    // The page shows what there is, whatever is missing.
    let run = context.queries.run(&event).await.unwrap_or_default();
    let profile = context.queries.stacks(&event).await;
    // What has the profile tells the cause.
    let telling = profile.as_ref().map_or(&event, |(owner, _)| owner);
    let incident = context.incidents.of(telling.clone()).await;
    let body = html! {
        h1 { (severity(event.severity)) " " (summary(&event)) }
        @if !event.explanation.is_empty() { p.explanation { (visible(&event.explanation)) } }
        @if let Some(incident) = &incident { (part_of(incident)) }
        (facts(&event))
        @if run.len() > 1 { section { h2 { "Run" } (rows(&run, Some(&event))) } }
        (graph(&event, profile))
        section { h2 { "Data" } (data::show(&event.data)) }
        section {
            details { summary { "JSON" } pre.raw { (json(event.clone())) } }
            p { a href={ "/api/v1/events/" (path(&event)) } { "This event in the API" } }
        }
    };
    ok(&event.summary, &body)
}

fn path(event: &Event) -> String {
    event.id.as_ref().map(event_path).unwrap_or_default()
}

fn facts(event: &Event) -> Markup {
    let id = event.id.clone().unwrap_or_default();
    let times = event.times.unwrap_or_default();
    let delay = (times.recorded_unix_nanos - times.observed_unix_nanos) as f64 / 1e9;
    let host = event.host.clone().unwrap_or_default();
    let container = event.container.clone().unwrap_or_default();
    let filter = |field: &str, value: &str| {
        html! { @if !value.is_empty() { dt { (field) } dd { a href=(link_to_query(&format!("{field}:{}", quoted(value)))) { (visible(value)) } } } }
    };
    let plain =
        |name: &str, value: &str| html! { @if !value.is_empty() { dt { (visible(name)) } dd { (visible(value)) } } };
    html! {
        div.facts {
            dl {
                (plain("time", &moment(times.observed_unix_nanos)))
                @if times.recorded_unix_nanos != 0 { (plain("recorded", &format!("{delay:.3} s later"))) }
                (filter("tracer", &event.tracer))
                (plain("kind", kind_name(event.kind)))
                (filter("run_id", &event.run_id))
                (plain("id", &id.to_string()))
            }
            @if event.container.is_some() {
                dl {
                    (filter("container.name", &container.name))
                    (plain("runtime", &container.runtime))
                    (filter("container.pod", &container.pod))
                    (filter("container.namespace", &container.namespace))
                    (filter("container.image", &container.image))
                    (plain("qos", &container.qos))
                    (plain("cgroup", &container.cgroup))
                    @for (key, value) in sorted(&container.labels) { (plain(&key, &value)) }
                }
            }
            dl {
                (filter("node", &id.node))
                @if host.name != id.node { (plain("host", &host.name)) }
                (plain("kernel", &host.kernel))
                (plain("arch", &host.arch))
                @if host.cpus > 0 { (plain("CPUs", &host.cpus.to_string())) }
                (plain("region", &host.region))
            }
        }
    }
}

/// At most 16 labels: the JSON has them all.
fn sorted(labels: &std::collections::HashMap<String, String>) -> Vec<(String, String)> {
    let mut labels: Vec<_> = labels.clone().into_iter().collect();
    labels.sort();
    labels.truncate(16);
    labels
}

fn part_of(incident: &Incident) -> Markup {
    html! {
        p { "The cause is that of the incident " a href=(incident::link(incident)) { (incident::title(incident)) } ", "
            (incident::extent(incident)) "." }
    }
}

/// The profile of an event, drawn.
pub(super) fn graph(event: &Event, profile: Result<(Event, Stacks), Error>) -> Markup {
    let base = format!("/api/v1/events/{}", path(event));
    match profile {
        Ok((owner, stacks)) => html! {
            section {
                h2 { "Flame graph" }
                p { (stacks.samples) " samples. "
                    a href={ (base) "/flame.svg" } { "SVG" } " · " a href={ (base) "/flame.folded" } { "folded text" } " · "
                    a href={ (base) "/profile.pb.gz" } { "pprof" }
                    @if flame::named(&owner, PROFILE_BEFORE).is_some() {
                        " Of the seconds " a href={ (base) "/flame.svg?part=before" } { "before" } ", "
                        a href={ (base) "/flame.svg?part=after" } { "after" } ", and the "
                        a href={ (base) "/flame.svg?part=diff" } { "difference" } "."
                    } }
                iframe.flame src={ (base) "/flame.svg" } title="Flame graph" sandbox="allow-scripts" height=(flame::height(&stacks)) {}
                h3 { "Hottest stacks" }
                ol.stacks { @for stack in stacks.hottest(HOTTEST) { li { (hot(stack, stacks.samples)) } } }
            }
        },
        Err(error) if error.class() == Class::NotFound => html! {
            @if event.kind() == EventKind::Trigger && matches!(event.tracer.as_str(), "cpuidle" | "cpusys") {
                section { h2 { "Flame graph" } p { "The capture of this run has not arrived yet. Load the page again when it has." } }
            }
        },
        Err(error) => html! { section { h2 { "Flame graph" } p.problem { (visible(&error.message())) } } },
    }
}

fn hot(stack: &flame::Stack, all: u64) -> Markup {
    let percent = stack.samples as f64 * 100.0 / all.max(1) as f64;
    let skipped = stack.frames.len().saturating_sub(FRAMES);
    html! {
        meter min="0" max="100" value={ (format!("{percent:.1}")) } {}
        b { " " (format!("{percent:.1} %")) } " " (stack.samples) " samples"
        div.frames {
            @if skipped > 0 { span.more { "… " (skipped) " frames" } " › " }
            @for (index, frame) in stack.frames.iter().skip(skipped).enumerate() {
                @if index > 0 { " › " } code { (frame) }
            }
        }
    }
}

fn json(event: Event) -> String {
    let value = serde_json::to_value(EventView::from(event));
    visible(&value.and_then(|value| serde_json::to_string_pretty(&value)).unwrap_or_default())
}
