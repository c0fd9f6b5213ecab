//! `galen ledger`: what became of all that was observed, node by node and in total.

use std::io::{self, Write};

use galen_proto::v1::{GetLedgerRequest, GetLedgerResponse, Ledger, QuarantineReason};

use super::status::losses;
use crate::{
    arguments::{self, Output},
    client::Client,
    error::Error,
    moment,
    output::{Colour, Style, Table, json_line, ledger_json, name_of, node_ledger_json},
};

pub(crate) async fn run(mut client: Client, arguments: arguments::Ledger) -> Result<(), Error> {
    let request = GetLedgerRequest { node: arguments.node.unwrap_or_default() };
    let answer = client.get_ledger(request).await?.into_inner();
    let mut out = io::stdout().lock();
    match arguments.listing.output {
        Output::Json => {
            answer.nodes.iter().try_for_each(|node| writeln!(out, "{}", json_line(&node_ledger_json(node))))?;
            writeln!(out, "{}", json_line(&ledger_json(&answer)))?;
        }
        Output::Table => table(&answer).write(&mut out, Style::of_stdout())?,
    }
    Ok(())
}

fn table(answer: &GetLedgerResponse) -> Table {
    let mut table = Table::new(&[
        "NODE",
        "OBSERVED",
        "DELIVERED",
        "SUPPRESSED",
        "DROPPED",
        "QUARANTINED",
        "BUFFERED",
        "UNACCOUNTED",
        "TOLD",
        "AGENT",
    ]);
    let mut row = |name: &str, ledger: &Ledger, told: String, agent: String| {
        let colour = if ledger.unaccounted == 0 { Colour::Green } else { Colour::Red };
        table.row([
            (name.to_owned(), None),
            (ledger.observed.to_string(), None),
            (ledger.delivered.to_string(), None),
            (losses(&ledger.suppressed), None),
            (losses(&ledger.dropped), None),
            (quarantined(ledger), None),
            (ledger.buffered.to_string(), None),
            (ledger.unaccounted.to_string(), Some(colour)),
            (told, None),
            (agent, None),
        ]);
    };
    for node in &answer.nodes {
        let told = match node.told_unix_nanos {
            0 => "with its last events".to_owned(),
            told => format!("{} ago", moment::ago(told)),
        };
        let agent = match (node.connected, &*node.replica) {
            (false, _) => "away".to_owned(),
            (true, "") => "connected".to_owned(),
            (true, replica) => format!("at {replica}"),
        };
        row(&node.node, &node.ledger.clone().unwrap_or_default(), told, agent);
    }
    let uncopied = match answer.uncopied_records {
        0 => String::new(),
        records => format!("{records} records of Kafka are not copied yet"),
    };
    row("all", &answer.total.clone().unwrap_or_default(), uncopied, String::new());
    table
}

fn quarantined(ledger: &Ledger) -> String {
    let total: u64 = ledger.quarantined.iter().map(|one| one.count).sum();
    let reasons: Vec<String> = ledger
        .quarantined
        .iter()
        .map(|one| {
            let reason = name_of::<QuarantineReason>(one.reason, |reason| reason.as_str_name(), "QUARANTINE_REASON_");
            format!("{reason} {}", one.count)
        })
        .collect();
    if total == 0 { "0".to_owned() } else { format!("{total} ({})", reasons.join(", ")) }
}
