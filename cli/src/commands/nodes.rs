//! `galen nodes`: every node that the aggregator heard of.

use std::io::{self, Write};

use galen_proto::v1::ListNodesRequest;

use super::status::{losses, size};
use crate::{
    arguments::{Listing, Output},
    client::Client,
    error::Error,
    moment,
    output::{Colour, Style, Table, json_line, node_json},
};

pub(crate) async fn run(mut client: Client, listing: Listing) -> Result<(), Error> {
    let nodes = client.list_nodes(ListNodesRequest {}).await?.into_inner().nodes;
    let mut out = io::stdout().lock();
    if listing.output == Output::Json {
        nodes.iter().try_for_each(|node| writeln!(out, "{}", json_line(&node_json(node))))?;
        return Ok(());
    }
    let mut table = Table::new(&["NODE", "STATE", "LAST SEEN", "AGENT", "EVENTS", "BACKLOG", "BUFFER", "LOST"]);
    for node in nodes {
        let at = if node.replica.is_empty() { String::new() } else { format!(" at {}", node.replica) };
        let (state, colour) = match (node.connected, node.settings_error.is_empty()) {
            (true, true) => (format!("connected{at}"), Colour::Green),
            (true, false) => (format!("connected{at}, settings refused"), Colour::Yellow),
            (false, _) => ("away".to_owned(), Colour::Yellow),
        };
        table.row([
            (node.name, None),
            (state, Some(colour)),
            (format!("{} ago", moment::ago(node.last_seen_unix_nanos)), None),
            (node.agent_version, None),
            (node.events.to_string(), None),
            (node.backlog_events.to_string(), None),
            (size(node.buffer_bytes), None),
            (losses(&node.lost), None),
        ]);
    }
    Ok(table.write(&mut out, Style::of_stdout())?)
}
