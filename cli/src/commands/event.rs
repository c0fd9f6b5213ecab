//! `galen event`: everything about one event but its attachments' content.

use std::io::{self, Write};

use galen_proto::v1::{Event, EventKind, GetEventRequest, Severity};

use crate::{
    arguments::{self, Output},
    client::Client,
    error::Error,
    moment,
    output::{Colour, Style, event_json, json_line, name_of, plain},
};

pub(crate) async fn run(mut client: Client, arguments: arguments::Event) -> Result<(), Error> {
    let event = client.get_event(GetEventRequest { id: arguments.id }).await?.into_inner();
    let mut out = io::stdout().lock();
    match arguments.listing.output {
        Output::Json => writeln!(out, "{}", json_line(&event_json(&event)))?,
        Output::Table => write(&mut out, Style::of_stdout(), &event)?,
    }
    Ok(())
}

fn write(out: &mut impl Write, style: Style, event: &Event) -> io::Result<()> {
    let mut field = |name: &str, value: &str| {
        if value.is_empty() {
            Ok(())
        } else {
            writeln!(out, "{}{}", style.paint(Colour::Dim, format_args!("{name:<11}")), plain(value))
        }
    };
    let times = event.times.unwrap_or_default();
    field("event", &event.id.as_ref().map(ToString::to_string).unwrap_or_default())?;
    field("summary", &event.summary)?;
    field("because", &event.explanation)?;
    field("observed", &moment::rfc3339(times.observed_unix_nanos))?;
    field("tracer", &event.tracer)?;
    field("kind", &name_of::<EventKind>(event.kind, EventKind::as_str_name, "EVENT_KIND_"))?;
    field("severity", &name_of::<Severity>(event.severity, Severity::as_str_name, "SEVERITY_"))?;
    field("run", &event.run_id)?;
    if let Some(host) = &event.host {
        field("host", &format!("{} ({} {}, {} CPUs)", host.name, host.kernel, host.arch, host.cpus))?;
        field("region", &host.region)?;
    }
    if let Some(container) = &event.container {
        field("container", &format!("{} ({})", container.name, container.runtime))?;
        field("id", &container.id)?;
        field("image", &container.image)?;
        field("cgroup", &container.cgroup)?;
        field("namespace", &container.namespace)?;
        field("pod", &container.pod)?;
    }
    for attachment in &event.attachments {
        field("attachment", &format!("{} ({} bytes)", attachment.name, attachment.content.len()))?;
    }
    match serde_json::from_slice::<serde_json::Value>(&event.data) {
        // Pretty printing escapes what JSON escapes; a line at a time, what else a terminal would obey.
        Ok(data) => format!("{data:#}").lines().try_for_each(|line| writeln!(out, "{}", plain(line))),
        Err(_) => writeln!(out, "{}", plain(&String::from_utf8_lossy(&event.data))),
    }
}
