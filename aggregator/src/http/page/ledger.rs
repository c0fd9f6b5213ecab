//! The ledger: what became of all that was observed, in total and node by node, and as of when that is known.

use std::time::Duration;

use axum::{extract::State, response::Response};
use galen_proto::v1::{GetLedgerResponse, Ledger, LossCounter, NodeLedger};
use maud::{Markup, html};

use super::super::{
    Context,
    error::Failure,
    ledger::quarantine_name,
    params::{OfNode, Params},
    view::{loss_name, moment},
};
use super::{data::number, failed, link_to_query, ok, visible};
use crate::{ingest::now_unix_nanos, query::quoted};

/// Nodes that are shown: those with something unaccounted for first. The JSON has all.
const MAX_NODES: usize = 500;

pub(in crate::http) async fn show(State(context): State<Context>, params: Result<Params<OfNode>, Failure>) -> Response {
    let answer = params.and_then(|Params(params)| Ok(context.queries.ledger(&params.node)?));
    match answer {
        Ok(answer) => ok("Ledger", &page(answer)),
        Err(failure) => failed(&failure),
    }
}

fn page(mut answer: GetLedgerResponse) -> Markup {
    let total = answer.total.take().unwrap_or_default();
    // Otherwise by name, as they come.
    answer.nodes.sort_by_key(|node| node.ledger.as_ref().is_none_or(|ledger| ledger.unaccounted == 0));
    let left_out = answer.nodes.len().saturating_sub(MAX_NODES);
    html! {
        h1 { "Ledger" }
        p { "What became of all that was observed: observed = delivered + suppressed + dropped + quarantined + buffered + unaccounted." }
        @if answer.unbalanced > 0 {
            p.problem role="alert" { "Of " (answer.unbalanced) " nodes something is unaccounted for: a defect." }
        }
        @if answer.uncopied_records > 0 {
            p { (whole(answer.uncopied_records)) " records of Kafka were not copied to this replica yet; what they bring counts as buffered." }
        }
        (totals(&total))
        @if answer.nodes.is_empty() {
            p { "No node was heard of yet." }
        } @else {
            h2 { "Nodes" }
            (rows(&answer.nodes[..answer.nodes.len() - left_out]))
        }
        @if left_out > 0 { p { (left_out) " more nodes are not shown." } }
        p { a href="/api/v1/ledger" { "The ledger in the API" } }
    }
}

fn totals(total: &Ledger) -> Markup {
    let row = |name: &str, figure: String| html! { tr { th scope="row" { (name) } td.number { (figure) } } };
    html! {
        table.data {
            tbody {
                (row("observed", whole(total.observed)))
                (row("delivered", whole(total.delivered)))
                (row("suppressed", by_reason(&total.suppressed)))
                (row("dropped", by_reason(&total.dropped)))
                (row("quarantined", quarantined(total)))
                (row("buffered", whole(total.buffered)))
                (row("unaccounted", number(&total.unaccounted.into())))
            }
        }
    }
}

fn rows(nodes: &[NodeLedger]) -> Markup {
    let now = now_unix_nanos();
    html! {
        div.scroll {
            table.events {
                thead { tr { th { "Node" } th { "Observed" } th { "Delivered" } th { "Suppressed" } th { "Dropped" } th { "Quarantined" } th { "Buffered" } th { "Unaccounted" } th { "As of" } th { "Agent" } } }
                tbody {
                    @for node in nodes {
                        @let ledger = node.ledger.clone().unwrap_or_default();
                        tr {
                            td { a href=(link_to_query(&format!("node:{}", quoted(&node.node)))) { (visible(&node.node)) } }
                            td { (whole(ledger.observed)) }
                            td { (whole(ledger.delivered)) }
                            td { (by_reason(&ledger.suppressed)) }
                            td { (by_reason(&ledger.dropped)) }
                            td { (quarantined(&ledger)) }
                            td { (whole(ledger.buffered)) }
                            td { (unaccounted(&ledger)) }
                            td.time { (as_of(node.told_unix_nanos, now)) }
                            td { (agent(node)) }
                        }
                    }
                }
            }
        }
    }
}

fn unaccounted(ledger: &Ledger) -> Markup {
    let figure = number(&ledger.unaccounted.into());
    html! { @if ledger.unaccounted == 0 { (figure) } @else { span.severity.critical { (figure) } } }
}

fn as_of(told_unix_nanos: i64, now: i64) -> Markup {
    if told_unix_nanos == 0 {
        return html! { "its last events" };
    }
    let told = moment(told_unix_nanos);
    let age = Duration::from_nanos(now.saturating_sub(told_unix_nanos).max(0).unsigned_abs());
    html! { time datetime=(told) title=(told) { (age.as_secs()) " s ago" } }
}

fn agent(node: &NodeLedger) -> String {
    match (node.connected, node.replica.as_str()) {
        (false, _) => "away".to_owned(),
        (true, "") => "connected".to_owned(),
        (true, replica) => format!("at {}", visible(replica)),
    }
}

/// `13 (buffer_full 10, queue_full 3)`.
fn by_reason(counters: &[LossCounter]) -> String {
    sum(counters.iter().map(|counter| (loss_name(counter.reason), counter.count)))
}

fn quarantined(ledger: &Ledger) -> String {
    sum(ledger.quarantined.iter().map(|one| (quarantine_name(one.reason), one.count)))
}

fn sum(counts: impl Iterator<Item = (String, u64)>) -> String {
    let counts: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
    let total = whole(counts.iter().map(|(_, count)| count).fold(0, |sum, count| sum.saturating_add(*count)));
    let reasons: Vec<_> = counts.into_iter().map(|(reason, count)| format!("{reason} {}", whole(count))).collect();
    if reasons.is_empty() { total } else { format!("{total} ({})", reasons.join(", ")) }
}

fn whole(count: u64) -> String {
    number(&count.into())
}

#[cfg(test)]
mod tests {
    use galen_proto::v1::LossReason;

    use super::*;

    #[test]
    fn a_node_that_is_not_in_balance_comes_first_and_names_stay_text() {
        let node = |name: &str, unaccounted| NodeLedger {
            node: name.into(),
            ledger: Some(Ledger { observed: 1_000_000, unaccounted, ..Ledger::default() }),
            ..NodeLedger::default()
        };
        let lost = LossCounter { reason: LossReason::BufferFull.into(), count: 7, ..LossCounter::default() };
        let answer = GetLedgerResponse {
            nodes: vec![node("a", 0), NodeLedger { connected: true, replica: "<i>".into(), ..node("<b>", 3) }],
            total: Some(Ledger { dropped: vec![lost], ..Ledger::default() }),
            unbalanced: 1,
            ..GetLedgerResponse::default()
        };
        let page = page(answer).into_string();
        assert!(page.contains("7 (buffer_full 7)") && page.contains("1\u{202f}000\u{202f}000"), "{page}");
        assert!(page.find("&lt;b&gt;").unwrap() < page.find(">a</a>").unwrap(), "{page}");
        assert!(page.contains("at &lt;i&gt;") && !page.contains("<b>") && !page.contains("<i>"), "{page}");
    }

    #[test]
    fn of_many_nodes_some_are_shown_and_the_others_counted() {
        let nodes = (0..MAX_NODES + 3).map(|n| NodeLedger { node: format!("n{n}"), ..NodeLedger::default() }).collect();
        let page = page(GetLedgerResponse { nodes, ..GetLedgerResponse::default() }).into_string();
        assert!(page.contains("3 more nodes are not shown") && page.matches("<tr").count() == MAX_NODES + 8);
    }
}
