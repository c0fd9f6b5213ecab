//! The messages that a table is kept as, encoded by protobuf's rules: fields are only ever added, and a tag is never used
//! for something else.

use galen_proto::v1::EventId;
use prost::Message;

use crate::{
    Fingerprint,
    distinct::Distinct,
    incident::{Exemplar, Incident, Tally},
    runs::Member,
    table::{Gone, Limits, Table, Totals},
};

/// A table.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Stored {
    /// The one that was joined longest ago first.
    #[prost(message, repeated, tag = "1")]
    incidents: Vec<StoredIncident>,
    /// The one that waits longest first.
    #[prost(message, repeated, tag = "2")]
    runs: Vec<StoredRun>,
    /// In the order of [`totals`].
    #[prost(uint64, repeated, tag = "3")]
    totals: Vec<u64>,
    #[prost(uint64, tag = "4")]
    next_number: u64,
    #[prost(uint64, tag = "5")]
    version: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredIncident {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(bytes = "vec", tag = "3")]
    print: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    family: Vec<u8>,
    #[prost(string, tag = "5")]
    tracer: String,
    #[prost(string, tag = "6")]
    workload: String,
    #[prost(string, repeated, tag = "7")]
    frames: Vec<String>,
    /// Runs, presumed, events, captures.
    #[prost(uint64, repeated, tag = "8")]
    tally: Vec<u64>,
    #[prost(int32, tag = "9")]
    severity: i32,
    #[prost(message, optional, tag = "10")]
    nodes: Option<StoredDistinct>,
    #[prost(message, optional, tag = "11")]
    containers: Option<StoredDistinct>,
    /// First, last, first observed, last observed.
    #[prost(sfixed64, repeated, tag = "12")]
    times: Vec<i64>,
    #[prost(message, repeated, tag = "13")]
    exemplars: Vec<StoredExemplar>,
    #[prost(uint64, tag = "14")]
    version: u64,
    /// Whether its print, and its family, lead to it.
    #[prost(bool, tag = "15")]
    is_of_print: bool,
    #[prost(bool, tag = "16")]
    is_of_family: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredDistinct {
    #[prost(fixed64, repeated, tag = "1")]
    keys: Vec<u64>,
    #[prost(uint32, repeated, tag = "2")]
    counts: Vec<u32>,
    #[prost(bool, tag = "3")]
    is_over: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredExemplar {
    #[prost(message, optional, tag = "1")]
    event: Option<EventId>,
    #[prost(int32, tag = "2")]
    kind: i32,
    #[prost(string, tag = "3")]
    container: String,
    #[prost(sfixed64, tag = "4")]
    observed: i64,
    #[prost(string, tag = "5")]
    summary: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRun {
    #[prost(fixed64, tag = "1")]
    run: u64,
    #[prost(uint64, tag = "2")]
    incident: u64,
    #[prost(fixed64, tag = "3")]
    node: u64,
    #[prost(fixed64, optional, tag = "4")]
    container: Option<u64>,
    #[prost(uint32, tag = "5")]
    events: u32,
    #[prost(uint32, tag = "6")]
    captures: u32,
    #[prost(bool, tag = "7")]
    is_known: bool,
    #[prost(bool, tag = "8")]
    has_trigger: bool,
}

/// Appends a table, incident by incident: pieces of a message that follow each other are one, so no copy is made of all.
pub(crate) fn encode(table: &Table, to: &mut Vec<u8>) {
    for (&number, incident) in table.incidents.iter().rev() {
        let stored = StoredIncident {
            is_of_print: table.by_print.get(&incident.print) == Some(&number),
            is_of_family: table.by_family.get(&incident.family) == Some(&number),
            ..StoredIncident::of(number, incident)
        };
        Stored { incidents: vec![stored], ..Stored::default() }.encode_raw(to);
    }
    for (run, member) in table.runs.iter() {
        Stored { runs: vec![StoredRun::of(run, member)], ..Stored::default() }.encode_raw(to);
    }
    let mut all = table.totals;
    let totals = totals(&mut all).map(|total| *total).into();
    Stored { totals, next_number: table.next_number, version: table.version, ..Stored::default() }.encode_raw(to);
}

/// `None` if a part is not what it is to be.
pub(crate) fn restore(stored: Stored, limits: Limits) -> Option<Table> {
    let mut table = Table::new(limits);
    (table.next_number, table.version) = (stored.next_number, stored.version);
    for (total, stored) in totals(&mut table.totals).into_iter().zip(&stored.totals) {
        *total = *stored;
    }
    table.runs.forgotten = table.totals.forgotten_runs;
    for one in stored.incidents {
        let (number, is_of_print, is_of_family) = (one.number, one.is_of_print, one.is_of_family);
        let incident = one.restored()?;
        if is_of_print {
            table.by_print.insert(incident.print, number);
        }
        if is_of_family {
            table.by_family.insert(incident.family, number);
        }
        table.insert(number, incident);
    }
    for one in stored.runs {
        table.runs.put(one.run, one.restored());
    }
    table.totals.forgotten_runs = table.runs.forgotten;
    Some(table)
}

/// In the order in which they are stored; more are added at the end only.
fn totals(totals: &mut Totals) -> [&mut u64; 12] {
    let Totals { runs, events, opened, overflow, past, forgotten_runs, unreadable, skipped } = totals;
    let Gone { incidents: over, runs: over_runs, events: over_events } = overflow;
    let Gone { incidents: past, runs: past_runs, events: past_events } = past;
    [
        runs,
        events,
        opened,
        over,
        over_runs,
        over_events,
        past,
        past_runs,
        past_events,
        forgotten_runs,
        unreadable,
        skipped,
    ]
}

impl StoredIncident {
    fn of(number: u64, incident: &Incident) -> Self {
        let Tally { runs, presumed, events, captures } = incident.tally;
        Self {
            number,
            id: incident.id.clone(),
            print: incident.print.0.to_le_bytes().into(),
            family: incident.family.0.to_le_bytes().into(),
            tracer: incident.tracer.clone(),
            workload: incident.workload.clone(),
            frames: incident.frames.clone(),
            tally: vec![runs, presumed, events, captures],
            severity: incident.severity,
            nodes: Some(StoredDistinct::of(&incident.nodes)),
            containers: Some(StoredDistinct::of(&incident.containers)),
            times: vec![incident.first, incident.last, incident.first_observed, incident.last_observed],
            exemplars: incident.exemplars.iter().map(StoredExemplar::of).collect(),
            version: incident.version,
            is_of_print: false,
            is_of_family: false,
        }
    }

    fn restored(self) -> Option<Incident> {
        let print = |bytes: Vec<u8>| Some(Fingerprint(u128::from_le_bytes(bytes.try_into().ok()?)));
        let [runs, presumed, events, captures] = self.tally.try_into().ok()?;
        let [first, last, first_observed, last_observed] = self.times.try_into().ok()?;
        Some(Incident {
            id: self.id,
            print: print(self.print)?,
            family: print(self.family)?,
            tracer: self.tracer,
            workload: self.workload,
            frames: self.frames,
            tally: Tally { runs, presumed, events, captures },
            severity: self.severity,
            nodes: self.nodes?.restored(),
            containers: self.containers?.restored(),
            first,
            last,
            first_observed,
            last_observed,
            exemplars: self.exemplars.into_iter().map(StoredExemplar::restored).collect(),
            version: self.version,
        })
    }
}

impl StoredDistinct {
    fn of(names: &Distinct) -> Self {
        let (keys, counts) = names.counts.iter().copied().unzip();
        Self { keys, counts, is_over: names.is_over }
    }

    fn restored(self) -> Distinct {
        Distinct { counts: self.keys.into_iter().zip(self.counts).collect(), is_over: self.is_over }
    }
}

impl StoredExemplar {
    fn of(one: &Exemplar) -> Self {
        Self {
            event: Some(one.event.clone()),
            kind: one.kind,
            container: one.container.clone(),
            observed: one.observed,
            summary: one.summary.clone(),
        }
    }

    fn restored(self) -> Exemplar {
        Exemplar {
            event: self.event.unwrap_or_default(),
            kind: self.kind,
            container: self.container,
            observed: self.observed,
            summary: self.summary,
        }
    }
}

impl StoredRun {
    fn of(run: u64, member: &Member) -> Self {
        Self {
            run,
            incident: member.incident,
            node: member.node,
            container: member.container,
            events: member.events,
            captures: member.captures,
            is_known: member.is_known,
            has_trigger: member.has_trigger,
        }
    }

    fn restored(self) -> Member {
        Member {
            incident: self.incident,
            node: self.node,
            container: self.container,
            events: self.events,
            captures: self.captures,
            is_known: self.is_known,
            has_trigger: self.has_trigger,
            is_all: false,
        }
    }
}
