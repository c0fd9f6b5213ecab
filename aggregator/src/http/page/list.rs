//! The first page: what happens, and below it the list of events, with search, counts by tracer, and pages.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use galen_proto::{
    cloudevent::url_part,
    v1::{FieldCounts, SearchEventsResponse},
};
use maud::{Markup, html};

use super::super::{
    Context,
    error::Failure,
    params::{Events, Params},
};
use super::{document, failed, incidents, link_to_query, ok, rows, visible};
use crate::query::quoted;

/// Spans of time that the form offers.
const SPANS: [(&str, &str); 6] = [
    ("", "any time"),
    ("now-15m", "last 15 minutes"),
    ("now-1h", "last hour"),
    ("now-6h", "last 6 hours"),
    ("now-1d", "last day"),
    ("now-1w", "last week"),
];

pub(in crate::http) async fn show(State(context): State<Context>, params: Result<Params<Events>, Failure>) -> Response {
    let Params(params) = match params {
        Ok(params) => params,
        Err(failure) => return failed(&failure),
    };
    let answer = match params.request() {
        Ok(mut request) => {
            request.count_by = vec!["tracer".into(), "severity".into(), "node".into()];
            context.queries.search(request).await.map_err(Failure::from)
        }
        Err(failure) => Err(failure),
    };
    match answer {
        Ok(found) => {
            let body = html! {
                @if !params.is_narrowed() { (incidents::now(&context)) h2 { "Events" } }
                (form(&params))
                (counts(&params, &found.counts))
                (results(&params, &found))
            };
            ok("Events", &body)
        }
        Err(failure) if failure.status == StatusCode::BAD_REQUEST => {
            let body = html! { (form(&params)) p.problem role="alert" { (visible(&failure.message)) } (help()) };
            (failure.status, document("Events", &body)).into_response()
        }
        Err(failure) => failed(&failure),
    }
}

fn form(params: &Events) -> Markup {
    html! {
        form.search action="/" method="get" role="search" {
            input type="search" name="query" value=(params.query) aria-label="Query" spellcheck="false" autocomplete="off"
                placeholder="tracer:cpuidle AND data.user_percent:>80";
            select name="since" aria-label="Time" {
                @for (value, label) in SPANS { option value=(value) selected[params.since == value] { (label) } }
                @if !SPANS.iter().any(|(value, _)| *value == params.since) {
                    option value=(params.since) selected { "since " (visible(&params.since)) }
                }
            }
            button type="submit" { "Search" }
        }
    }
}

/// Values to narrow the search to.
fn counts(params: &Events, counts: &[FieldCounts]) -> Markup {
    let narrowed = |field: &str, value: &str| {
        let term = format!("{field}:{}", quoted(value));
        let query = match params.query.trim() {
            "" => term,
            query if query.contains(" OR ") || query.contains("||") => format!("({query}) AND {term}"),
            query => format!("{query} AND {term}"),
        };
        format!("{}&since={}", link_to_query(&query), url_part(&params.since))
    };
    html! {
        div.counts {
            @for field in counts.iter().filter(|field| !field.values.is_empty()) {
                div.count {
                    span.field { (field.field) }
                    @for value in field.values.iter().take(8) {
                        a.chip href=(narrowed(&field.field, &value.value)) { (visible(&value.value)) " " b { (value.count) } }
                    }
                }
            }
        }
    }
}

fn results(params: &Events, found: &SearchEventsResponse) -> Markup {
    let next = format!(
        "/?query={}&since={}&until={}&limit={}&order={}&page={}",
        url_part(&params.query),
        url_part(&params.since),
        url_part(&params.until),
        url_part(&params.limit),
        url_part(&params.order),
        url_part(&found.next_page)
    );
    html! {
        @if found.events.is_empty() {
            (empty(params))
        } @else {
            p.total { b { (found.total) } @if found.total == 1 { " event" } @else { " events" } ", "
                @if params.order == "asc" { "oldest first" } @else { "newest first" } }
            (rows(&found.events, None))
            nav.pages {
                @if !params.page.is_empty() { a href=(link_to_query(&params.query)) { "← First page" } }
                @if !found.next_page.is_empty() { a href=(next) rel="next" { "Next page →" } }
            }
        }
    }
}

/// What to do when nothing is there.
fn empty(params: &Events) -> Markup {
    html! {
        div.empty {
            @if params.is_narrowed() {
                h1 { "Nothing matches" }
                p { "No event in the store fits this query and time." " " a href="/" { "Show all events" } "." }
                (help())
            } @else {
                h1 { "No events yet" }
                p { "Agents report here what they catch. Start one on this machine:" }
                pre { "galen-agent" }
                p { "or let Galen catch a CPU burst that it makes itself:" }
                pre { "galen demo" }
                p { a href="/api/v1/nodes" { "Nodes" } " shows which agents are connected." }
            }
        }
    }
}

fn help() -> Markup {
    let examples = [
        ("tracer:cpuidle AND data.user_percent:>80", "values that a tracer found"),
        ("severity:>=warning -container.namespace:kube-system", "without a namespace"),
        ("container.name:web-* AND time:>now-1h", "by name and time"),
        ("\"out of memory\"", "words of the summary"),
        ("_exists_:container.pod", "a field that is there"),
    ];
    html! {
        p { "Queries look like these:" }
        ul.examples { @for (query, what) in examples { li { a href=(link_to_query(query)) { code { (query) } } " " (what) } } }
    }
}
