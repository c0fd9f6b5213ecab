//! Events as agents make them, with stacks.

#![allow(dead_code, reason = "each test binary uses its part")]

use galen_incidents::{Incident, Kept, Limits, Seen, Silence};
use galen_log::{Chunk, Entry};
use galen_proto::{
    PPROF_MEDIA_TYPE, PROFILE_AFTER,
    pprof::{Function, Line, Location, Mapping, Profile, Sample, ValueType},
    v1::{Attachment, Container, Event, EventKind, LogRecord, Severity, Times},
};
use prost::Message;

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const NOW: i64 = 1_763_985_600 * SECOND;
pub(crate) const KERNEL: &str = "[kernel.kallsyms]";

pub(crate) fn limits() -> Limits {
    let silence = Silence { quiet: 300 * SECOND, closed: 3600 * SECOND };
    Limits { max: 10_000, memory: 64 << 20, silence }
}

/// A run of `cpuidle` in a container of `image`.
pub(crate) fn event(kind: EventKind, run: &str, image: &str, stacks: &[Stack<'_>]) -> Event {
    Event {
        tracer: "cpuidle".into(),
        run_id: run.into(),
        kind: kind.into(),
        severity: Severity::Warning.into(),
        summary: format!("CPU burst in {image}"),
        times: Some(Times { observed_unix_nanos: NOW, ..Times::default() }),
        container: Some(Container { name: "web-1".into(), image: image.into(), ..Container::default() }),
        data: if kind == EventKind::Trigger { r#"{"capture":true}"#.into() } else { "{}".into() },
        attachments: if stacks.is_empty() { Vec::new() } else { vec![profile(stacks)] },
        ..Event::default()
    }
}

/// A trigger that nothing follows.
pub(crate) fn lone_trigger(run: &str, image: &str) -> Event {
    Event { data: r#"{"capture":false}"#.into(), ..event(EventKind::Trigger, run, image, &[]) }
}

/// Functions with their modules, the root first, and how often they were seen.
pub(crate) type Stack<'a> = (&'a [(&'a str, &'a str)], i64);

/// As an agent attaches it; the addresses are another machine's each time.
pub(crate) fn profile(stacks: &[Stack<'_>]) -> Attachment {
    let mut profile =
        Profile { string_table: vec![String::new(), "samples".into(), "count".into()], ..Profile::default() };
    profile.sample_type = vec![ValueType { r#type: 1, unit: 2 }];
    let mut text = |text: &str| {
        profile.string_table.push(text.into());
        profile.string_table.len() as i64 - 1
    };
    let mut next = 0;
    for (frames, samples) in stacks {
        let mut location_id = Vec::new();
        for (symbol, module) in frames.iter().rev() {
            next += 1;
            let (name, filename) = (text(symbol), text(module));
            profile.function.push(Function { id: next, name, ..Function::default() });
            profile.mapping.push(Mapping { id: next, filename, ..Mapping::default() });
            let line = vec![Line { function_id: next, ..Line::default() }];
            let address = next.wrapping_mul(0x9e37_79b9);
            profile.location.push(Location { id: next, mapping_id: next, address, line, ..Location::default() });
            location_id.push(next);
        }
        profile.sample.push(Sample { location_id, value: vec![*samples], ..Sample::default() });
    }
    Attachment {
        name: PROFILE_AFTER.into(),
        media_type: PPROF_MEDIA_TYPE.into(),
        content: profile.encode_to_vec().into(),
        ..Attachment::default()
    }
}

pub(crate) fn record(node: &str, first_seq: u64, received: i64, events: &[Event]) -> LogRecord {
    LogRecord {
        node: node.into(),
        epoch: 0xc0ffee,
        first_seq,
        events: events.iter().map(|event| event.encode_to_vec().into()).collect(),
        received_unix_nanos: received,
        ..LogRecord::default()
    }
}

/// A log in memory: what was written and not read yet.
pub(crate) struct Feed {
    pub(crate) kept: Kept,
    next: u64,
}

impl Feed {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { kept: Kept::open("/nonexistent/incidents".as_ref(), limits).unwrap(), next: 0 }
    }

    pub(crate) fn take(&mut self, node: &str, received: i64, event: &Event) {
        let record = record(node, self.next + 1, received, std::slice::from_ref(event));
        let (first, next) = (self.next, self.next + 1);
        self.next = next;
        let chunk = Chunk { first, next, entries: vec![Entry { offset: first, record }], skipped: Vec::new() };
        self.kept.take(&Seen::of(&chunk));
    }

    /// The one that was opened first comes first.
    pub(crate) fn incidents(&self) -> Vec<&Incident> {
        let mut incidents: Vec<_> = self.kept.table().changed_since(0).collect();
        incidents.sort_by(|a, b| (a.first, &a.id).cmp(&(b.first, &b.id)));
        incidents
    }

    /// The invariant of the table.
    pub(crate) fn adds_up(&self) {
        let totals = self.kept.table().totals();
        let (runs, events) = self
            .kept
            .table()
            .changed_since(0)
            .fold((0, 0), |sum, one| (sum.0 + one.tally.runs, sum.1 + one.tally.events));
        assert_eq!(runs + totals.overflow.runs + totals.past.runs, totals.runs, "{totals:?}");
        assert_eq!(events + totals.overflow.events + totals.past.events, totals.events, "{totals:?}");
    }
}
