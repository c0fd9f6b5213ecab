//! `galen incidents` and `galen incident`: what happens, with one cause on however many nodes.

use std::io::{self, Write};

use galen_proto::v1::{
    EventKind, FollowIncidentsRequest, GetIncidentRequest, Incident, IncidentState, ListIncidentsRequest, Severity,
};

use super::events::colour_of;
use crate::{
    arguments::{self, Output, SeverityName, StateName},
    client::Incidents,
    error::Error,
    moment,
    output::{Colour, Style, Table, incident_json, json_line, name_of, overflow_json, plain},
};

/// What the row of incidents that found no room is called.
const OVERFLOW: &str = "__overflow__";

pub(crate) async fn run(client: Incidents, arguments: arguments::Incidents) -> Result<(), Error> {
    if arguments.follow { follow(client, arguments).await } else { list(client, arguments).await }
}

/// All about one.
pub(crate) async fn show(mut client: Incidents, arguments: arguments::Incident) -> Result<(), Error> {
    let incident = client.get_incident(GetIncidentRequest { id: arguments.id }).await?.into_inner();
    let mut out = io::stdout().lock();
    match arguments.listing.output {
        Output::Json => writeln!(out, "{}", json_line(&incident_json(&incident)))?,
        Output::Table => write(&mut out, Style::of_stdout(), &incident)?,
    }
    Ok(())
}

async fn list(mut client: Incidents, arguments: arguments::Incidents) -> Result<(), Error> {
    let state = |state: &StateName| match state {
        StateName::Open => IncidentState::Open.into(),
        StateName::Quiet => IncidentState::Quiet.into(),
        StateName::Closed => IncidentState::Closed.into(),
    };
    let request = ListIncidentsRequest {
        states: arguments.state.iter().map(state).collect(),
        tracer: arguments.tracer.unwrap_or_default(),
        workload: arguments.workload.unwrap_or_default(),
        node: arguments.node.unwrap_or_default(),
        severity: at_least_as_bad(arguments.severity),
        limit: arguments.limit,
    };
    let answer = client.list_incidents(request).await?.into_inner();
    let overflow = answer.overflow.filter(|overflow| overflow.incidents > 0);
    let mut out = io::stdout().lock();
    if arguments.listing.output == Output::Json {
        answer.incidents.iter().try_for_each(|one| writeln!(out, "{}", json_line(&incident_json(one))))?;
        if let Some(overflow) = overflow {
            writeln!(out, "{}", json_line(&overflow_json(OVERFLOW, &overflow)))?;
        }
        return Ok(());
    }
    let mut table = Table::new(&[
        "INCIDENT",
        "STATE",
        "SEVERITY",
        "TRACER",
        "WORKLOAD",
        "RUNS",
        "NODES",
        "CONTAINERS",
        "SINCE",
        "LAST",
        "CAUSE",
    ]);
    for incident in &answer.incidents {
        let [id, state, severity, tracer, workload, runs, nodes, containers, since, last, cause] = cells(incident);
        table.row([
            (id, None),
            (state, state_colour(incident)),
            (severity, colour_of(incident.severity())),
            (tracer, None),
            (workload, None),
            (runs, Some(Colour::Bold)),
            (nodes, None),
            (containers, None),
            (since, None),
            (last, None),
            (cause, None),
        ]);
    }
    if let Some(overflow) = overflow {
        let cause = format!("{} incidents found no room", overflow.incidents);
        let texts = [OVERFLOW, "", "", "", "", &overflow.runs.to_string(), "", "", "", "", &cause];
        table.row(texts.map(|text| (text.to_owned(), None)));
    }
    table.write(&mut out, Style::of_stdout())?;
    let shown = answer.incidents.len() as u64;
    if answer.total > shown {
        let _ = writeln!(io::stderr(), "{shown} of {} incidents; `--limit N` shows more", answer.total);
    }
    if answer.lag > 0 {
        let _ = writeln!(io::stderr(), "{} events are not counted yet", answer.lag);
    }
    Ok(())
}

async fn follow(mut client: Incidents, arguments: arguments::Incidents) -> Result<(), Error> {
    let request = FollowIncidentsRequest {
        tracer: arguments.tracer.unwrap_or_default(),
        workload: arguments.workload.unwrap_or_default(),
        node: arguments.node.unwrap_or_default(),
        severity: at_least_as_bad(arguments.severity),
    };
    let mut stream = client.follow_incidents(request).await?.into_inner();
    while let Some(incident) = stream.message().await? {
        let mut out = io::stdout().lock();
        match arguments.listing.output {
            Output::Json => writeln!(out, "{}", json_line(&incident_json(&incident)))?,
            Output::Table => {
                let [id, state, severity, tracer, workload, runs, nodes, _, _, _, cause] = cells(&incident);
                let [tracer, workload, cause] = [&tracer, &workload, &cause].map(|text| plain(text).into_owned());
                let time = moment::seconds(incident.last_unix_nanos);
                let id = plain(&id).into_owned();
                writeln!(
                    out,
                    "{time}  {id}  {state}  {severity}  {tracer}  {workload}  {runs} runs on {nodes} nodes  {cause}"
                )?;
            }
        }
        out.flush()?;
    }
    Err(Error::Lost("the aggregator ended the stream".into()))
}

fn at_least_as_bad(severity: Option<SeverityName>) -> i32 {
    let severity = match severity {
        None => Severity::Unspecified,
        Some(SeverityName::Info) => Severity::Info,
        Some(SeverityName::Warning) => Severity::Warning,
        Some(SeverityName::Critical) => Severity::Critical,
    };
    severity.into()
}

fn cells(incident: &Incident) -> [String; 11] {
    let runs = match incident.presumed_runs {
        0 => incident.runs.to_string(),
        presumed => format!("{} ({presumed} presumed)", incident.runs),
    };
    let cause = match incident.frames.first() {
        Some(frame) => frame.clone(),
        None => incident.exemplars.first().map(|one| one.summary.clone()).unwrap_or_default(),
    };
    [
        incident.id.clone(),
        state(incident),
        severity(incident),
        incident.tracer.clone(),
        incident.workload.clone(),
        runs,
        at_least(incident.nodes, incident.more_nodes),
        at_least(incident.containers, incident.more_containers),
        format!("{} ago", moment::ago(incident.first_unix_nanos)),
        format!("{} ago", moment::ago(incident.last_unix_nanos)),
        cause,
    ]
}

fn state(incident: &Incident) -> String {
    name_of::<IncidentState>(incident.state, IncidentState::as_str_name, "INCIDENT_STATE_")
}

fn severity(incident: &Incident) -> String {
    name_of::<Severity>(incident.severity, Severity::as_str_name, "SEVERITY_")
}

fn state_colour(incident: &Incident) -> Option<Colour> {
    match incident.state() {
        IncidentState::Open => Some(Colour::Red),
        IncidentState::Quiet => Some(Colour::Yellow),
        IncidentState::Closed | IncidentState::Unspecified => None,
    }
}

fn at_least(count: u64, more: bool) -> String {
    if more { format!("over {count}") } else { count.to_string() }
}

fn write(out: &mut impl Write, style: Style, incident: &Incident) -> io::Result<()> {
    let mut field = |name: &str, value: &str| {
        writeln!(out, "{}{}", style.paint(Colour::Dim, format_args!("{name:<12}")), plain(value))
    };
    field("incident", &incident.id)?;
    field("fingerprint", &incident.fingerprint)?;
    field("state", &state(incident))?;
    field("severity", &severity(incident))?;
    field("tracer", &incident.tracer)?;
    field("workload", &incident.workload)?;
    field("runs", &incident.runs.to_string())?;
    field("presumed", &incident.presumed_runs.to_string())?;
    field("events", &incident.events.to_string())?;
    field("captures", &incident.captures.to_string())?;
    field("nodes", &at_least(incident.nodes, incident.more_nodes))?;
    field("containers", &at_least(incident.containers, incident.more_containers))?;
    field("received", &span(incident.first_unix_nanos, incident.last_unix_nanos))?;
    field("observed", &span(incident.first_observed_unix_nanos, incident.last_observed_unix_nanos))?;
    for frame in &incident.frames {
        field("frame", frame)?;
    }
    for one in &incident.exemplars {
        let kind = name_of::<EventKind>(one.kind, EventKind::as_str_name, "EVENT_KIND_");
        field("event", &format!("{} ({kind}): {}", one.event, one.summary))?;
    }
    Ok(())
}

fn span(first: i64, last: i64) -> String {
    format!("{} to {}", moment::rfc3339(first), moment::rfc3339(last))
}
