//! `galen tracers`: what works where, why the rest does not, and what was caught.

use std::io::{self, Write};

use galen_proto::v1::{ListNodesRequest, Node, Support, TracerStatus};

use crate::{
    arguments::{Listing, Output},
    client::Client,
    error::Error,
    output::{Colour, Style, Table, json_line, name_of, tracer_json},
};

pub(crate) async fn run(mut client: Client, listing: Listing) -> Result<(), Error> {
    let nodes = client.list_nodes(ListNodesRequest {}).await?.into_inner().nodes;
    let mut tracers: Vec<(&TracerStatus, &Node)> =
        nodes.iter().flat_map(|node| node.tracers.iter().map(move |tracer| (tracer, node))).collect();
    tracers.sort_by(|a, b| (&a.0.name, &a.1.name).cmp(&(&b.0.name, &b.1.name)));
    let mut out = io::stdout().lock();
    if listing.output == Output::Json {
        for (tracer, node) in tracers {
            let mut object = tracer_json(tracer);
            object["node"] = node.name.as_str().into();
            object["asked"] = asked(node, &tracer.name).into();
            writeln!(out, "{}", json_line(&object))?;
        }
        return Ok(());
    }
    let mut table = Table::new(&["TRACER", "NODE", "SUPPORT", "ENABLED", "TRIGGERS", "CAPTURES", "FAILURES", "WHY"]);
    for (tracer, node) in tracers {
        let support = name_of::<Support>(tracer.support, Support::as_str_name, "SUPPORT_");
        let colour = match tracer.support() {
            Support::Full => Some(Colour::Green),
            Support::Degraded => Some(Colour::Yellow),
            Support::Unsupported => Some(Colour::Red),
            Support::Unspecified => None,
        };
        let why = if tracer.reason.is_empty() { &tracer.last_error } else { &tracer.reason };
        table.row([
            (tracer.name.clone(), None),
            (node.name.clone(), None),
            (support, colour),
            (enabled(tracer, asked(node, &tracer.name)), None),
            (tracer.triggers.to_string(), None),
            (tracer.captures.to_string(), None),
            (tracer.failures.to_string(), None),
            (why.clone(), None),
        ]);
    }
    Ok(table.write(&mut out, Style::of_stdout())?)
}

/// What the aggregator was asked to make of it, if anything.
fn asked(node: &Node, tracer: &str) -> Option<bool> {
    node.desired.as_ref()?.tracers.iter().find(|asked| asked.tracer == tracer)?.enabled
}

/// Whether it runs, by whose word, and whether that is about to change.
fn enabled(tracer: &TracerStatus, asked: Option<bool>) -> String {
    let word = |enabled| if enabled { "yes" } else { "no" };
    let now = word(tracer.enabled);
    match asked {
        Some(asked) if asked != tracer.enabled => format!("{now}, {} when it comes", word(asked)),
        _ if tracer.overridden => format!("{now}, overridden"),
        _ => now.into(),
    }
}
