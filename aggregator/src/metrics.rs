//! All figures: where they are registered, those that belong to no single part (the log's, the fleet's, the tasks'),
//! and their reference.
//!
//! The fleet is shown in sums, never a series a node: by tracer and support, by reason of loss, and what agents say of
//! themselves in figures. Single agents are shown elsewhere, to who asks for them. Names come from agents, so their
//! number is bounded where the nodes are kept.

mod family;
mod ledger;
mod registry;

use std::{collections::BTreeMap, sync::Arc};

use galen_log::{Bounds, EmbeddedLog, Log, embedded};
use galen_proto::v1::{LossReason, Support, SuppressionReason};
use galen_runtime::Supervisor;

pub(crate) use family::Family;
pub use registry::{Kind, Metric, Registry};

use crate::{
    access, control, http, incidents, indexer,
    ingest::{self, Ingest},
    kafka,
    nodes::{Fleet, Nodes},
    session, sink, tls,
};

/// Where the figures of the moment are taken from.
pub(crate) struct Sources {
    pub(crate) log: EmbeddedLog,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) ingest: Ingest,
    pub(crate) supervisor: Supervisor,
}

/// The figures of the moment.
#[derive(Default)]
struct Figures {
    bounds: Bounds,
    log: embedded::Stats,
    waiting_bytes: u64,
    fleet: Fleet,
    tasks: galen_runtime::Stats,
}

/// Every metric of the aggregator, by name. Nothing is started for it.
///
/// # Errors
/// Two metrics have the same name.
pub fn reference() -> Result<Vec<Metric>, prometheus::Error> {
    let registry = Registry::default();
    session::Metrics::register(&registry)?;
    ingest::Metrics::register(&registry)?;
    indexer::Metrics::register(&registry)?;
    http::Metrics::register(&registry)?;
    control::Metrics::register(&registry)?;
    tls::Counts::register(&registry)?;
    access::Metrics::register(&registry)?;
    registry.sampled(|| tls::families(0, 0))?;
    registry.sampled(|| families(&Figures::default()))?;
    registry.sampled(|| incidents::families(&incidents::Figures::default()))?;
    registry.sampled(|| indexer::families(&galen_store::Stats::default(), 0))?;
    registry.sampled(|| kafka::families(true, &galen_kafka::Stats::default(), &galen_kafka::MirrorStats::default()))?;
    registry.sampled(|| crate::ingest::limits_families(&galen_limits::Figures::default()))?;
    registry.sampled(|| sink::families(&galen_opensearch::Stats::default()))?;
    Ok(registry.into_metrics())
}

impl Sources {
    pub(crate) fn register(self, registry: &Registry) -> Result<(), prometheus::Error> {
        let nodes = Arc::clone(&self.nodes);
        registry.foreign(move || nodes.fleet_figures())?;
        registry.sampled(move || {
            families(&Figures {
                bounds: self.log.bounds(),
                log: self.log.stats(),
                waiting_bytes: self.ingest.waiting_bytes(),
                fleet: self.nodes.fleet(),
                tasks: self.supervisor.stats(),
            })
        })
    }
}

fn families(figures: &Figures) -> Vec<Family> {
    let Figures { bounds, log, waiting_bytes, fleet, tasks } = figures;
    let mut families = vec![
        Family::gauge("log_first_offset", "Offset of the oldest event that is in the log.", bounds.first),
        Family::gauge("log_next_offset", "Offset that the next event gets.", bounds.next),
        Family::gauge("log_size_bytes", "Bytes of the log on disk.", bounds.bytes),
        Family::gauge("log_segments", "Segments of the log.", log.segments),
        Family::counter("log_deleted_segments_total", "Segments that retention deleted.", log.segments_deleted),
        Family::counter("log_torn_tails_total", "Interrupted writes that were cut off.", log.torn_tails),
        Family::counter("log_damaged_places_total", "Places in segments that could not be read.", log.damaged),
        Family::counter(
            "log_damaged_snapshots_total",
            "Snapshots of the watermarks that could not be read.",
            log.damaged_snapshots,
        ),
        Family::counter("log_disk_errors_total", "Disk errors that closed the log.", log.disk_errors),
        Family::gauge("ingest_waiting_bytes", "Bytes of the batches that wait for the log.", *waiting_bytes),
        Family::gauge("runtime_alive_tasks", "Tasks and threads that are alive.", tasks.alive as u64),
        Family::counter("runtime_caught_panics_total", "Panics of tasks that were caught.", tasks.panics),
        Family::counter("runtime_failed_tasks_total", "Tasks that ended with an error.", tasks.failures),
        Family::counter("runtime_restarted_tasks_total", "Tasks that were started again.", tasks.restarts),
    ];
    families.extend(fleet_families(fleet));
    families.extend(ledger::families(fleet));
    families
}

fn fleet_families(fleet: &Fleet) -> Vec<Family> {
    let mut lost = BTreeMap::new();
    for counter in &fleet.lost {
        *lost.entry(vec![reason(counter.reason)]).or_default() += counter.count;
    }
    let mut tracer_nodes = BTreeMap::new();
    for ((tracer, support), nodes) in &fleet.tracer_nodes {
        *tracer_nodes.entry(vec![tracer.clone(), support_name(*support)]).or_default() += nodes;
    }
    let mut suppressed = BTreeMap::new();
    for (tracer, totals) in &fleet.tracers {
        for (reason, count) in (0..).zip(totals.suppressed).filter(|(_, count)| *count > 0) {
            suppressed.insert(vec![tracer.clone(), suppression_name(reason)], count);
        }
    }
    let by_tracer = |count: fn(&crate::nodes::Totals) -> u64| {
        fleet.tracers.iter().map(|(tracer, totals)| (vec![tracer.clone()], count(totals))).collect()
    };
    vec![
        Family::gauge("fleet_known_nodes", "Nodes that were heard of.", fleet.known),
        Family::gauge("fleet_connected_nodes", "Nodes that are connected.", fleet.connected),
        Family::counter(
            "fleet_evicted_nodes_total",
            "Nodes that were left out of the registry, because it was full.",
            fleet.evicted,
        ),
        Family::gauge(
            "fleet_unlisted_nodes",
            "Nodes of other replicas that find no room in the registry: the ledger is without them.",
            fleet.unlisted,
        ),
        Family::counter(
            "fleet_forgotten_nodes_total",
            "Nodes without events whose last word was forgotten, because there were too many.",
            fleet.forgotten,
        ),
        Family::gauge(
            "fleet_backlog_events",
            "Events that connected agents hold, not yet acknowledged.",
            fleet.backlog_events,
        ),
        Family::gauge("fleet_buffer_bytes", "Bytes of the connected agents' buffers on disk.", fleet.buffer_bytes),
        Family::counters(
            "fleet_lost_observations_total",
            "Observations that agents declared lost, by reason, since the log began.",
            &["reason"],
            lost,
        ),
        Family::gauges(
            "fleet_tracer_nodes",
            "Connected nodes by tracer, and by how far the tracer works there.",
            &["tracer", "support"],
            tracer_nodes,
        ),
        Family::counters(
            "fleet_tracer_triggers_total",
            "Triggers of all agents, by tracer.",
            &["tracer"],
            by_tracer(|totals| totals.triggers),
        ),
        Family::counters(
            "fleet_tracer_captures_total",
            "Captures of all agents, by tracer.",
            &["tracer"],
            by_tracer(|totals| totals.captures),
        ),
        Family::counters(
            "fleet_tracer_failures_total",
            "Failures of runs on all agents, errors and panics, by tracer.",
            &["tracer"],
            by_tracer(|totals| totals.failures),
        ),
        Family::counters(
            "fleet_tracer_evaluations_total",
            "Evaluations of rules on all agents, by tracer.",
            &["tracer"],
            by_tracer(|totals| totals.evaluations),
        ),
        Family::counters(
            "fleet_tracer_suppressed_triggers_total",
            "Triggers of all agents that were not told, or told with less evidence, by tracer and reason.",
            &["tracer", "reason"],
            suppressed,
        ),
        Family::gauge(
            "fleet_kept_figures",
            "Series of single agents that are kept: of those connected, and of those gone a short time ago.",
            fleet.kept_figures,
        ),
        Family::gauge(
            "fleet_left_out_figures",
            "Series that connected agents left out of their last heartbeat, because they had too many.",
            fleet.left_out_figures,
        ),
        Family::counters(
            "fleet_refused_figures_total",
            "Series of agents' heartbeats that were not taken, by reason.",
            &["reason"],
            fleet.refused_figures.iter().map(|(reason, count)| (vec![reason.label().into()], *count)).collect(),
        ),
        Family::counter(
            "fleet_folded_reports_total",
            "Reports on tracers that no series was made for, because there were too many: left out, or in `__other__`.",
            fleet.folded_reports,
        ),
    ]
}

/// `buffer_full` for `LOSS_REASON_BUFFER_FULL`.
fn reason(reason: i32) -> String {
    let known = LossReason::try_from(reason).map_or("unknown", |reason| reason.as_str_name());
    known.trim_start_matches("LOSS_REASON_").to_lowercase()
}

fn suppression_name(reason: i32) -> String {
    let known = SuppressionReason::try_from(reason).map_or("unknown", |reason| reason.as_str_name());
    known.trim_start_matches("SUPPRESSION_REASON_").to_lowercase()
}

fn support_name(support: i32) -> String {
    let known = Support::try_from(support).map_or("unknown", |support| support.as_str_name());
    known.trim_start_matches("SUPPORT_").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Base units, and what is counted.
    const UNITS: [&str; 35] = [
        "agents",
        "available",
        "bytes",
        "captures",
        "commands",
        "commits",
        "connections",
        "documents",
        "errors",
        "evaluations",
        "events",
        "failures",
        "figures",
        "groups",
        "halted",
        "handshakes",
        "incidents",
        "indexes",
        "nodes",
        "observations",
        "offset",
        "panics",
        "places",
        "producers",
        "records",
        "reports",
        "requests",
        "runs",
        "seconds",
        "segments",
        "snapshots",
        "streams",
        "tails",
        "tasks",
        "triggers",
    ];
    const SUBSYSTEMS: [&str; 16] = [
        "access",
        "session",
        "ingest",
        "limits",
        "log",
        "kafka",
        "incident",
        "indexer",
        "store",
        "opensearch",
        "fleet",
        "ledger",
        "control",
        "http",
        "runtime",
        "tls",
    ];
    const LABELS: [&str; 7] = ["level", "outcome", "reason", "severity", "support", "tenant", "tracer"];

    #[test]
    fn names_are_built_by_the_rule_and_helps_tell_the_unit() {
        let metrics = reference().unwrap();
        assert!(metrics.len() > 40, "{}", metrics.len());
        for metric in metrics {
            let name = metric.name.strip_prefix(registry::PREFIX).expect(&metric.name);
            let counts = name.strip_suffix("_total");
            assert_eq!(counts.is_some(), metric.kind == Kind::Counter, "{name}");
            let (rest, unit) = counts.unwrap_or(name).rsplit_once('_').expect(name);
            assert!(UNITS.contains(&unit), "{name}");
            assert!(SUBSYSTEMS.contains(&rest.split('_').next().unwrap()), "{name}");
            assert!(metric.kind != Kind::Histogram || unit == "seconds", "{name}");
            if ["seconds", "bytes"].contains(&unit) {
                assert!(metric.help.to_lowercase().starts_with(unit), "{name}: {}", metric.help);
            }
            assert!(metric.help.ends_with('.'), "{name}: {}", metric.help);
            assert!(metric.labels.iter().all(|label| LABELS.contains(&label.as_str())), "{name}: {:?}", metric.labels);
        }
    }
}
