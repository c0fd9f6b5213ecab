//! The ledger as JSON.

use std::collections::BTreeMap;

use galen_proto::v1::{GetLedgerResponse, Ledger, LeftOut, LossCounter, NodeLedger, QuarantineReason};
use serde::Serialize;
use utoipa::ToSchema;

use super::view::{loss_name, moment};

/// What became of all that was observed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ledgers {
    /// By name.
    nodes: Vec<NodeLedgerView>,
    total: LedgerView,
    /// Nodes of which something is unaccounted for.
    unbalanced: u64,
    /// With Kafka: records that were not copied to this replica yet. What they bring counts as buffered.
    uncopied_records: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct NodeLedgerView {
    node: String,
    /// To any replica.
    connected: bool,
    /// With Kafka: the replica that the node is connected to, or was.
    #[serde(skip_serializing_if = "String::is_empty")]
    replica: String,
    /// When the node last told what its buffer holds; absent if not since the aggregator's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    told: Option<String>,
    /// What it said then that it holds.
    backlog_events: u64,
    #[serde(flatten)]
    ledger: LedgerView,
}

/// observed = delivered + suppressed + dropped + quarantined + buffered + unaccounted.
#[derive(Debug, Serialize, ToSchema)]
struct LedgerView {
    /// As the nodes counted them, before anything could become of them.
    observed: u64,
    /// In the log, and not quarantined.
    delivered: u64,
    /// Left out on purpose, by reason.
    suppressed: BTreeMap<String, u64>,
    /// Of these, what was over the cluster's limit, by tracer and tenant.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    left_out: BTreeMap<String, BTreeMap<String, u64>>,
    /// Lost, by reason.
    dropped: BTreeMap<String, u64>,
    /// In the log, and put aside behind it, by reason.
    quarantined: BTreeMap<String, u64>,
    /// On the nodes, not yet in the log.
    buffered: u64,
    /// Neither: zero, unless something was lost that nobody declared, or was counted wrongly.
    unaccounted: i64,
    /// Not part of the sum: what was gone before it was observed, in samples or captures, by reason.
    unseen: BTreeMap<String, u64>,
}

impl From<GetLedgerResponse> for Ledgers {
    fn from(ledger: GetLedgerResponse) -> Self {
        Self {
            nodes: ledger.nodes.into_iter().map(NodeLedgerView::from).collect(),
            total: ledger.total.unwrap_or_default().into(),
            unbalanced: ledger.unbalanced,
            uncopied_records: ledger.uncopied_records,
        }
    }
}

impl From<NodeLedger> for NodeLedgerView {
    fn from(node: NodeLedger) -> Self {
        Self {
            node: node.node,
            connected: node.connected,
            replica: node.replica,
            told: (node.told_unix_nanos != 0).then(|| moment(node.told_unix_nanos)),
            backlog_events: node.backlog_events,
            ledger: node.ledger.unwrap_or_default().into(),
        }
    }
}

impl From<Ledger> for LedgerView {
    fn from(ledger: Ledger) -> Self {
        let quarantined = ledger.quarantined.iter().map(|one| (quarantine_name(one.reason), one.count)).collect();
        let mut left_out: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for LeftOut { tracer, tenant, count } in ledger.left_out {
            left_out.entry(tracer).or_default().insert(tenant, count);
        }
        Self {
            observed: ledger.observed,
            delivered: ledger.delivered,
            suppressed: by_reason(&ledger.suppressed),
            left_out,
            dropped: by_reason(&ledger.dropped),
            quarantined,
            buffered: ledger.buffered,
            unaccounted: ledger.unaccounted,
            unseen: by_reason(&ledger.unseen),
        }
    }
}

fn by_reason(counters: &[LossCounter]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for counter in counters {
        *sums.entry(loss_name(counter.reason)).or_default() += counter.count;
    }
    sums
}

/// `undecodable` for `QUARANTINE_REASON_UNDECODABLE`.
pub(super) fn quarantine_name(reason: i32) -> String {
    let known = QuarantineReason::try_from(reason).map_or("UNKNOWN", |reason| reason.as_str_name());
    known.trim_start_matches("QUARANTINE_REASON_").to_lowercase()
}
