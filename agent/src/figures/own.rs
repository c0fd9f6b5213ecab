//! Figures that are read where they are kept, when they are asked for: of the buffer, the record files,
//! the tracers and the process.

use std::collections::HashMap;

use galen_buffer::LossReasonCode;
use galen_proto::v1::{LossReason, TracerStatus};
use prometheus::{
    core::{Collector, Desc},
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use super::Registry;
use crate::recorder;

/// What the figures are made from.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) buffer: galen_buffer::Stats,
    pub(crate) recorder: recorder::Stats,
    pub(crate) tracers: Vec<TracerStatus>,
}

struct Own<F> {
    descs: Vec<Desc>,
    take: F,
}

struct Family {
    name: &'static str,
    help: &'static str,
    label: Option<&'static str>,
    values: Vec<(String, f64)>,
}

/// Registers what `take` takes.
pub(crate) fn register(
    registry: &Registry,
    take: impl Fn() -> Sources + Send + Sync + 'static,
) -> Result<(), prometheus::Error> {
    let desc = |family: &Family| {
        let labels = family.label.map(str::to_owned).into_iter().collect();
        Desc::new(family.name.into(), family.help.into(), labels, HashMap::new())
    };
    let descs = families(&Sources::default()).iter().map(desc).collect::<Result<_, _>>()?;
    registry.register(Box::new(Own { descs, take }))
}

impl<F: Fn() -> Sources + Send + Sync> Collector for Own<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        families(&(self.take)()).into_iter().map(Family::collect).collect()
    }
}

impl Family {
    fn one(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, label: None, values: vec![(String::new(), value)] }
    }

    fn collect(self) -> MetricFamily {
        let is_counter = self.name.ends_with("_total");
        let metrics = self.values.into_iter().map(|(label, value)| {
            let pair = self.label.map(|name| {
                let mut pair = LabelPair::default();
                pair.set_name(name.into());
                pair.set_value(label);
                pair
            });
            let mut metric = Metric::from_label(pair.into_iter().collect());
            if is_counter {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            } else {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            metric
        });
        let metrics = metrics.collect();
        let mut family = MetricFamily::default();
        family.set_name(self.name.into());
        family.set_help(self.help.into());
        family.set_field_type(if is_counter { MetricType::COUNTER } else { MetricType::GAUGE });
        family.set_metric(metrics);
        family
    }
}

fn families(sources: &Sources) -> Vec<Family> {
    let Sources { buffer, recorder, tracers } = sources;
    let one = |name, help, value: u64| Family::one(name, help, value as f64);
    let by_reason = |name, help, counts: &std::collections::BTreeMap<LossReasonCode, u64>| {
        let values = counts.iter().map(|(reason, count)| (reason_name(*reason), *count as f64)).collect();
        Family { name, help, label: Some("reason"), values }
    };
    let mut families = vec![
        one(
            "galen_agent_buffer_unacked_events",
            "Events that are durable here and not acknowledged.",
            buffer.events_unacked,
        ),
        one("galen_agent_buffer_size_bytes", "Bytes of the buffer on disk.", buffer.bytes_on_disk),
        one("galen_agent_buffer_segments", "Segments of the buffer.", buffer.segments as u64),
        one(
            "galen_agent_buffer_observed_events_total",
            "Observations that came in, those among them that were left out on purpose.",
            buffer.observed,
        ),
        one(
            "galen_agent_buffer_waiting_events",
            "Observations that have neither a number nor a place in a counter yet.",
            buffer.waiting,
        ),
        one("galen_agent_buffer_appended_events_total", "Events that became durable.", buffer.appended),
        one("galen_agent_buffer_commits_total", "Commits, each of all events that waited.", buffer.commits),
        by_reason(
            "galen_agent_buffer_rejected_events_total",
            "Events that the buffer turned away, by reason.",
            &buffer.rejected,
        ),
        by_reason(
            "galen_agent_buffer_lost_events_total",
            "Durable events that were declared lost, by reason.",
            &buffer.lost,
        ),
        one(
            "galen_agent_buffer_quarantined_segments_total",
            "Segments that could not be read and were put aside.",
            buffer.quarantined,
        ),
        one("galen_agent_buffer_disk_errors_total", "Commits that the disk refused.", buffer.disk_errors),
        one("galen_agent_recorder_written_lines_total", "Lines written to record files.", recorder.lines_written),
        one(
            "galen_agent_recorder_dropped_lines_total",
            "Lines dropped, because the queue for the files was full.",
            recorder.lines_dropped,
        ),
        one(
            "galen_agent_recorder_skipped_lines_total",
            "Lines not written, because their file was disabled.",
            recorder.lines_skipped,
        ),
        one("galen_agent_recorder_disk_errors_total", "Writes to record files that failed.", recorder.failures),
    ];
    // Of those that have evaluated their rules.
    let by_tracer = |name, help, of: fn(&TracerStatus) -> f64| {
        let evaluated = tracers.iter().filter(|tracer| tracer.evaluations > 0);
        let values = evaluated.map(|tracer| (tracer.name.clone(), of(tracer))).collect();
        Family { name, help, label: Some("tracer"), values }
    };
    families.push(by_tracer(
        "galen_agent_tracer_value",
        "What the rule compared last, the highest over all that the tracer watches, in the unit of its settings.",
        |tracer| tracer.value,
    ));
    families.push(by_tracer("galen_agent_tracer_threshold", "What it compared that with.", |tracer| tracer.threshold));
    let (cpu, resident) = process().unwrap_or_default();
    families.push(Family::one(
        "galen_agent_process_cpu_seconds_total",
        "Seconds of CPU time that the agent took.",
        cpu,
    ));
    families.push(one("galen_agent_process_resident_bytes", "Bytes of the agent's resident memory.", resident));
    families
}

/// Seconds of CPU time, and resident memory.
fn process() -> Option<(f64, u64)> {
    let stat = procfs::process::Process::myself().ok()?.stat().ok()?;
    let cpu = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
    Some((cpu, stat.rss * procfs::page_size()))
}

/// `buffer_full` for `LOSS_REASON_BUFFER_FULL`.
fn reason_name(reason: LossReasonCode) -> String {
    let known = LossReason::try_from(reason.0).map_or("unknown", |reason| reason.as_str_name());
    known.trim_start_matches("LOSS_REASON_").to_lowercase()
}
