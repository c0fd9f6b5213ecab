//! The registry of all figures, and those that are taken when they are asked for: the log's, the fleet's, the tasks'.
//!
//! The fleet is shown in sums, never a series a node: by tracer and support, by reason of loss. Tracers' names come from
//! agents, so at most [`MAX_TRACERS`] are told apart; the rest is `__other__`.

use std::{collections::BTreeMap, sync::Arc};

use galen_log::{EmbeddedLog, Log};
use galen_proto::v1::{LossReason, Support};
use galen_runtime::Supervisor;
use prometheus::{
    Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::{ingest::Ingest, nodes::Nodes};

const MAX_TRACERS: usize = 64;
const OTHER: &str = "__other__";
const OLDEST: &str = "Oldest event that is in the log.";

/// Takes the figures of the moment.
pub(crate) struct Gathered {
    log: EmbeddedLog,
    nodes: Arc<Nodes>,
    ingest: Ingest,
    supervisor: Supervisor,
    /// Of the first family: the registry tells collectors apart by it.
    desc: Desc,
}

/// A family with what is known of it now.
struct Family {
    opts: Opts,
    counts: bool,
    labels: &'static [&'static str],
    values: Vec<(Vec<String>, u64)>,
}

impl Gathered {
    pub(crate) fn register(
        registry: &Registry,
        log: EmbeddedLog,
        nodes: Arc<Nodes>,
        ingest: Ingest,
        supervisor: Supervisor,
    ) -> Result<(), prometheus::Error> {
        let desc = Desc::new(
            "galen_aggregator_log_first_offset".into(),
            OLDEST.into(),
            Vec::new(),
            std::collections::HashMap::new(),
        )?;
        registry.register(Box::new(Self { log, nodes, ingest, supervisor, desc }))
    }

    fn families(&self) -> Vec<Family> {
        let bounds = self.log.bounds();
        let log = self.log.stats();
        let fleet = self.nodes.fleet();
        let tasks = self.supervisor.stats();
        let mut families = vec![
            gauge("log_first_offset", OLDEST, bounds.first),
            gauge("log_next_offset", "Offset that the next event gets.", bounds.next),
            gauge("log_size_bytes", "Size of the log on disk.", bounds.bytes),
            gauge("log_segments", "Segments of the log.", log.segments),
            counter("log_segments_deleted_total", "Segments that retention deleted.", log.segments_deleted),
            counter("log_torn_tails_total", "Interrupted writes that were cut off.", log.torn_tails),
            counter("log_damaged_places_total", "Places in segments that could not be read.", log.damaged),
            counter("log_damaged_snapshots_total", "Snapshots that could not be read.", log.damaged_snapshots),
            counter("log_disk_errors_total", "Times that a disk error closed the log.", log.disk_errors),
            gauge("ingest_waiting_bytes", "Size of the batches that wait for the log.", self.ingest.waiting_bytes()),
            gauge("fleet_nodes_known", "Nodes that were heard of.", fleet.known),
            gauge("fleet_nodes_connected", "Nodes that are connected.", fleet.connected),
            counter("fleet_nodes_evicted_total", "Nodes left out of the registry, which was full.", fleet.evicted),
            gauge("fleet_backlog_events", "Events that connected agents hold, unacknowledged.", fleet.backlog_events),
            gauge("fleet_buffer_bytes", "Size of connected agents' buffers on disk.", fleet.buffer_bytes),
            gauge("runtime_tasks", "Tasks and threads alive.", tasks.alive as u64),
            counter("runtime_panics_total", "Panics caught.", tasks.panics),
            counter("runtime_failures_total", "Tasks that ended with an error.", tasks.failures),
            counter("runtime_restarts_total", "Restarts of tasks.", tasks.restarts),
        ];

        let mut lost = BTreeMap::new();
        for counter in &fleet.lost {
            *lost.entry(vec![reason(counter.reason)]).or_default() += counter.count;
        }
        families.push(labelled(
            "fleet_lost_observations_total",
            "Observations that agents declared lost, by reason.",
            true,
            &["reason"],
            lost,
        ));

        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for tracer in &fleet.tracers {
            let known = names.len();
            names.entry(&tracer.name).or_insert(known);
        }
        let mut support = BTreeMap::new();
        let mut failures = BTreeMap::new();
        for tracer in &fleet.tracers {
            let is_told_apart = names.get(tracer.name.as_str()).is_some_and(|place| *place < MAX_TRACERS);
            let name = if is_told_apart { tracer.name.as_str() } else { OTHER };
            *support.entry(vec![name.to_owned(), support_name(tracer.support)]).or_default() += 1;
            *failures.entry(vec![name.to_owned()]).or_default() += tracer.failures;
        }
        families.push(labelled(
            "fleet_tracer_nodes",
            "Connected nodes by tracer and how far it works there.",
            false,
            &["tracer", "support"],
            support,
        ));
        families.push(labelled(
            "fleet_tracer_failures",
            "Failed runs of tracers on connected nodes, since their agents started.",
            false,
            &["tracer"],
            failures,
        ));
        families
    }
}

impl Collector for Gathered {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families().into_iter().filter_map(|family| family.collect().ok()).flatten().collect()
    }
}

impl Family {
    fn collect(self) -> Result<Vec<MetricFamily>, prometheus::Error> {
        if self.counts {
            let vector = prometheus::IntCounterVec::new(self.opts, self.labels)?;
            for (labels, value) in self.values {
                vector.get_metric_with_label_values(&labels)?.inc_by(value);
            }
            Ok(vector.collect())
        } else {
            let vector = prometheus::IntGaugeVec::new(self.opts, self.labels)?;
            for (labels, value) in self.values {
                vector.get_metric_with_label_values(&labels)?.set(i64::try_from(value).unwrap_or(i64::MAX));
            }
            Ok(vector.collect())
        }
    }
}

fn gauge(name: &str, help: &str, value: u64) -> Family {
    labelled(name, help, false, &[], BTreeMap::from([(Vec::new(), value)]))
}

fn counter(name: &str, help: &str, value: u64) -> Family {
    labelled(name, help, true, &[], BTreeMap::from([(Vec::new(), value)]))
}

fn labelled(
    name: &str,
    help: &str,
    counts: bool,
    labels: &'static [&'static str],
    values: BTreeMap<Vec<String>, u64>,
) -> Family {
    let opts = Opts::new(format!("galen_aggregator_{name}"), help);
    Family { opts, counts, labels, values: values.into_iter().collect() }
}

/// `buffer_full` for `LOSS_REASON_BUFFER_FULL`.
fn reason(reason: i32) -> String {
    let known = LossReason::try_from(reason).map_or("unknown", |reason| reason.as_str_name());
    known.trim_start_matches("LOSS_REASON_").to_lowercase()
}

fn support_name(support: i32) -> String {
    let known = Support::try_from(support).map_or("unknown", |support| support.as_str_name());
    known.trim_start_matches("SUPPORT_").to_lowercase()
}
