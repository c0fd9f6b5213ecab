//! An event as the table of incidents sees it.

use galen_proto::v1::{Event, EventId, EventKind, LogRecord};

use crate::{
    Fingerprint,
    evidence::{self, Data},
    fingerprint::short,
    workload::workload,
};

/// Longest summary of an exemplar, and longest name of a tracer or a container, in bytes.
const MAX_TEXT: usize = 256;

/// What joins an incident.
#[derive(Debug, Clone)]
pub struct Observation {
    pub id: EventId,
    pub tracer: String,
    pub workload: String,
    /// The innermost first; empty if the event does not tell its cause.
    pub frames: Vec<String>,
    /// Of tracer, workload and frames.
    pub print: Fingerprint,
    /// Of tracer and workload alone.
    pub family: Fingerprint,
    pub kind: EventKind,
    pub severity: i32,
    /// Joins the events of one run; `None` where the event is the whole run.
    pub run: Option<u64>,
    /// Whether the tracer said that nothing follows in this run.
    pub is_all: bool,
    pub container: Option<String>,
    pub summary: String,
    /// By the aggregator's clock, nanoseconds since 1970-01-01 UTC.
    pub received: i64,
    /// By the node's clock.
    pub observed: i64,
}

impl Observation {
    /// `event` is the one at `index` of the record.
    pub fn of(record: &LogRecord, index: u64, event: Event) -> Self {
        let data = Data::of(&event);
        let frames = evidence::frames(&event, &data);
        let tracer = cut(event.tracer.clone());
        let workload = workload(event.container.as_ref());
        let kind = event.kind();
        let is_run = !event.run_id.is_empty() && kind != EventKind::Event;
        let name = |name: String, cgroup: String| cut(if name.is_empty() { cgroup } else { name });
        Self {
            id: EventId { node: record.node.clone(), epoch: record.epoch, seq: record.first_seq.saturating_add(index) },
            print: Fingerprint::of(&tracer, &workload, &frames),
            family: Fingerprint::of(&tracer, &workload, &[]),
            tracer,
            workload,
            frames,
            kind,
            severity: event.severity,
            run: is_run.then(|| short(&[&record.node, &event.run_id])),
            is_all: data.is_all(),
            container: event.container.map(|container| name(container.name, container.cgroup)),
            summary: cut(event.summary),
            received: record.received_unix_nanos,
            observed: event.times.map_or(0, |times| times.observed_unix_nanos),
        }
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text.shrink_to_fit();
    text
}
