//! The page for people: rendered here, readable without a script, dark or light as the reader likes it.
//!
//! Texts of events are escaped by the templates, and what cannot be seen in them is made visible.

mod data;
pub(super) mod event;
pub(super) mod incident;
pub(super) mod incidents;
pub(super) mod ledger;
pub(super) mod list;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use galen_proto::{
    cloudevent::{kind_name, url_part},
    v1::Event,
};
use galen_store::severity_name;
use maud::{DOCTYPE, Markup, html};

use super::{error::Failure, params::event_path, view::moment};
use crate::flame::is_hidden;

const STYLE: &str = include_str!("page/style.css");

pub(super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=300")], STYLE).into_response()
}

/// A whole page.
fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (visible(title)) " · Galen" }
                link rel="stylesheet" href="/style.css";
            }
            body {
                header.top {
                    a.brand href="/" { "Galen" }
                    nav { a href="/" { "Events" } a href="/incidents" { "Incidents" } a href="/api/v1/status" { "Status" } a href="/api/v1/nodes" { "Nodes" } a href="/ledger" { "Ledger" } a href="/metrics" { "Metrics" } a href="/api/openapi.json" { "API" } }
                }
                main { (body) }
            }
        }
    }
}

/// A page that says why there is none.
fn failed(failure: &Failure) -> Response {
    let body = html! {
        h1 { (failure.status.canonical_reason().unwrap_or("Error")) }
        p.problem role="alert" { (visible(&failure.message)) }
        p { a href="/" { "All events" } }
    };
    (failure.status, document("Error", &body)).into_response()
}

fn ok(title: &str, body: &Markup) -> Response {
    (StatusCode::OK, document(title, body)).into_response()
}

/// Events as rows, each with a link to its page.
fn rows(events: &[Event], current: Option<&Event>) -> Markup {
    html! {
        div.scroll {
            table.events {
                thead { tr { th { "Time (UTC)" } th { "Severity" } th { "Tracer" } th { "Kind" } th { "Node" } th { "Container" } th { "Summary" } } }
                tbody {
                    @for event in events {
                        tr.current[current.is_some_and(|current| current.id == event.id)] {
                            td.time { (time(event)) }
                            td { (severity(event.severity)) }
                            td { (visible(&event.tracer)) }
                            td { (kind_name(event.kind)) }
                            td { (visible(event.id.as_ref().map(|id| id.node.as_str()).unwrap_or_default())) }
                            td { (visible(event.container.as_ref().map(|container| container.name.as_str()).unwrap_or_default())) }
                            td.summary { a href=(link(event)) { (summary(event)) } }
                        }
                    }
                }
            }
        }
    }
}

fn time(event: &Event) -> Markup {
    when(event.times.unwrap_or_default().observed_unix_nanos)
}

/// A moment, in nanoseconds since 1970-01-01 UTC.
fn when(unix_nanos: i64) -> Markup {
    let moment = moment(unix_nanos);
    html! { time datetime=(moment) { (moment.replace('T', " ").trim_end_matches('Z')) } }
}

fn severity(severity: i32) -> Markup {
    let name = severity_name(severity);
    html! { span class={ "severity " (name) } { (name) } }
}

fn summary(event: &Event) -> String {
    let summary = visible(&event.summary);
    if summary.trim().is_empty() { "(no summary)".into() } else { summary }
}

fn link(event: &Event) -> String {
    format!("/events/{}", event.id.as_ref().map(event_path).unwrap_or_default())
}

/// The list, narrowed to a query.
fn link_to_query(query: &str) -> String {
    if query.is_empty() { "/".into() } else { format!("/?query={}", url_part(query)) }
}

/// Text of an event for the page: what cannot be seen, or would turn the text around it, is replaced.
fn visible(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) && c != '\n' { '\u{fffd}' } else { c }).collect()
}
