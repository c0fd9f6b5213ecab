//! The ledger of the fleet: one series a term and reason, whatever the number of nodes.

use std::collections::BTreeMap;

use galen_proto::v1::{LossCounter, QuarantineReason};

use super::{Family, reason};
use crate::nodes::Fleet;

pub(super) fn families(fleet: &Fleet) -> Vec<Family> {
    let ledger = &fleet.ledger;
    let quarantined = ledger.quarantined.iter().map(|one| (vec![quarantine_name(one.reason)], one.count)).collect();
    let left_out =
        ledger.left_out.iter().map(|one| (vec![one.tracer.clone(), one.tenant.clone()], one.count)).collect();
    vec![
        Family::gauge(
            "ledger_observed_events",
            "What the known nodes observed since the log began: the sum of the terms that follow.",
            ledger.observed,
        ),
        Family::gauge(
            "ledger_delivered_events",
            "Observations that came into the log and were not put aside behind it.",
            ledger.delivered,
        ),
        Family::gauges(
            "ledger_suppressed_events",
            "Observations that were left out on purpose, by reason.",
            &["reason"],
            by_reason(&ledger.suppressed),
        ),
        Family::gauges(
            "ledger_left_out_events",
            "Of the suppressed observations, those that were over the cluster's limit, by whose they were.",
            &["tracer", "tenant"],
            left_out,
        ),
        Family::gauges(
            "ledger_dropped_events",
            "Observations that are lost, by reason.",
            &["reason"],
            by_reason(&ledger.dropped),
        ),
        Family::gauges(
            "ledger_quarantined_events",
            "Observations that came into the log and were put aside behind it, by reason.",
            &["reason"],
            quarantined,
        ),
        Family::gauge(
            "ledger_buffered_events",
            "Observations that nodes hold, connected or not, and the log does not have yet.",
            ledger.buffered,
        ),
        Family::gauge(
            "ledger_unaccounted_events",
            "Observations of which nobody knows what became of them, and those that are counted twice. Not zero: a defect.",
            fleet.unaccounted,
        ),
        Family::gauge(
            "ledger_unbalanced_nodes",
            "Nodes of which an observation is unaccounted for. Not zero: a defect.",
            fleet.unbalanced,
        ),
    ]
}

fn by_reason(counters: &[LossCounter]) -> BTreeMap<Vec<String>, u64> {
    let mut sums = BTreeMap::new();
    for counter in counters {
        *sums.entry(vec![reason(counter.reason)]).or_default() += counter.count;
    }
    sums
}

/// `undecodable` for `QUARANTINE_REASON_UNDECODABLE`.
fn quarantine_name(reason: i32) -> String {
    let known = QuarantineReason::try_from(reason).map_or("unknown", |reason| reason.as_str_name());
    known.trim_start_matches("QUARANTINE_REASON_").to_lowercase()
}
