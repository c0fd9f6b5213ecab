//! `galen events`: a page after the other until the limit, counts by field, or the live stream.

use std::io::{self, StdoutLock, Write};

use galen_proto::v1::{Event, EventKind, FieldCounts, FollowEventsRequest, SearchEventsRequest, Severity};
use serde_json::json;

use crate::{
    arguments::{Events, Output},
    client::Client,
    error::Error,
    moment,
    output::{Colour, Style, Table, event_json, json_line, name_of, plain},
};

/// Most events that the aggregator puts on a page.
const PAGE: u64 = 1000;
/// Fields that are counted in one answer.
const MAX_COUNTS: usize = 8;

pub(crate) async fn run(client: Client, arguments: Events) -> Result<(), Error> {
    if arguments.follow {
        follow(client, &arguments).await
    } else if arguments.count_by.is_empty() {
        list(client, &arguments).await
    } else {
        count(client, arguments).await
    }
}

async fn list(mut client: Client, arguments: &Events) -> Result<(), Error> {
    let mut events = Vec::new();
    let mut request = search(arguments);
    let total = loop {
        let left = arguments.limit - events.len() as u64;
        request.limit = u32::try_from(left.min(PAGE)).unwrap_or(u32::MAX);
        let page = client.search_events(request.clone()).await?.into_inner();
        let empty = page.events.is_empty();
        if arguments.listing.output == Output::Json {
            // Written as they come: a long list needs no memory.
            let mut out = io::stdout().lock();
            page.events.iter().try_for_each(|event| writeln!(out, "{}", json_line(&event_json(event))))?;
        }
        events.extend(page.events.into_iter().map(|event| match arguments.listing.output {
            Output::Table => event,
            Output::Json => Event::default(),
        }));
        if empty || page.next_page.is_empty() || events.len() as u64 >= arguments.limit {
            break page.total;
        }
        request.page = page.next_page;
    };
    if arguments.listing.output == Output::Table {
        table(&events).write(&mut io::stdout().lock(), Style::of_stdout())?;
        if total > events.len() as u64 {
            let _ = writeln!(io::stderr(), "{} of {total} events; `--limit N` shows more", events.len());
        }
    }
    Ok(())
}

async fn count(mut client: Client, arguments: Events) -> Result<(), Error> {
    if arguments.count_by.len() > MAX_COUNTS {
        return Err(Error::Usage(format!("--count-by takes at most {MAX_COUNTS} fields")));
    }
    let request = SearchEventsRequest { limit: 1, count_by: arguments.count_by.clone(), ..search(&arguments) };
    let answer = client.search_events(request).await?.into_inner();
    let mut out = io::stdout().lock();
    match arguments.listing.output {
        Output::Json => write_counts_json(&mut out, &answer.counts)?,
        Output::Table => {
            let mut table = Table::new(&["COUNT", "FIELD", "VALUE"]);
            for FieldCounts { field, values } in &answer.counts {
                for value in values {
                    table.row([
                        (value.count.to_string(), Some(Colour::Bold)),
                        (field.clone(), None),
                        (value.value.clone(), None),
                    ]);
                }
            }
            table.write(&mut out, Style::of_stdout())?;
        }
    }
    Ok(())
}

async fn follow(mut client: Client, arguments: &Events) -> Result<(), Error> {
    let request = FollowEventsRequest { query: arguments.query.clone() };
    let mut stream = client.follow_events(request).await?.into_inner();
    let style = Style::of_stdout();
    while let Some(answer) = stream.message().await? {
        if answer.missed > 0 {
            let _ =
                writeln!(io::stderr(), "{} events were left out: they came faster than they were read", answer.missed);
        }
        let Some(event) = answer.event else { continue };
        let mut out = io::stdout().lock();
        match arguments.listing.output {
            Output::Json => writeln!(out, "{}", json_line(&event_json(&event)))?,
            Output::Table => followed(&mut out, style, &event)?,
        }
        out.flush()?;
    }
    Err(Error::Lost("the aggregator ended the stream".into()))
}

fn search(arguments: &Events) -> SearchEventsRequest {
    SearchEventsRequest {
        query: arguments.query.clone(),
        since_unix_nanos: arguments.since.map(|moment| moment.unix_nanos),
        until_unix_nanos: arguments.until.map(|moment| moment.unix_nanos),
        ascending: arguments.ascending,
        ..SearchEventsRequest::default()
    }
}

fn table(events: &[Event]) -> Table {
    let mut table = Table::new(&["TIME (UTC)", "SEVERITY", "TRACER", "KIND", "EVENT", "SUMMARY"]);
    for event in events {
        let [time, severity, tracer, kind, id, summary] = cells(event);
        let colour = severity_colour(event);
        table.row([(time, None), (severity, colour), (tracer, None), (kind, None), (id, None), (summary, None)]);
    }
    table
}

fn followed(out: &mut StdoutLock<'_>, style: Style, event: &Event) -> io::Result<()> {
    let [time, severity, tracer, kind, id, summary] = cells(event);
    let severity = match severity_colour(event) {
        Some(colour) => style.paint(colour, severity),
        None => severity,
    };
    writeln!(out, "{time}  {severity}  {}  {kind}  {}  {}", plain(&tracer), plain(&id), plain(&summary))
}

fn cells(event: &Event) -> [String; 6] {
    [
        moment::seconds(event.times.unwrap_or_default().observed_unix_nanos),
        name_of::<Severity>(event.severity, Severity::as_str_name, "SEVERITY_"),
        event.tracer.clone(),
        name_of::<EventKind>(event.kind, EventKind::as_str_name, "EVENT_KIND_"),
        event.id.as_ref().map(ToString::to_string).unwrap_or_default(),
        event.summary.clone(),
    ]
}

pub(crate) fn severity_colour(event: &Event) -> Option<Colour> {
    colour_of(event.severity())
}

pub(crate) fn colour_of(severity: Severity) -> Option<Colour> {
    match severity {
        Severity::Critical => Some(Colour::Red),
        Severity::Warning => Some(Colour::Yellow),
        Severity::Info | Severity::Unspecified => None,
    }
}

fn write_counts_json(out: &mut impl Write, counts: &[FieldCounts]) -> io::Result<()> {
    for FieldCounts { field, values } in counts {
        for value in values {
            writeln!(out, "{}", json_line(&json!({ "field": field, "value": value.value, "count": value.count })))?;
        }
    }
    Ok(())
}
