//! One incident: the runs that have one cause, on however many nodes.

use galen_proto::v1::EventId;

use crate::{Fingerprint, Observation, distinct::Distinct, fingerprint::short, runs::Member};

/// Events that are kept as examples.
const EXEMPLARS: usize = 4;

/// Whether it goes on. A function of when its last event was received, so nothing has to happen for it to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Open,
    /// Nothing came for a while.
    Quiet,
    /// Nothing came for so long that what comes next is another incident.
    Closed,
}

/// After how many nanoseconds without an event an incident is quiet, and closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    pub quiet: i64,
    pub closed: i64,
}

/// Runs and events. An event is counted once, and so is a run, whichever of its events came first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub runs: u64,
    /// Those of the runs whose own cause is not known: see [`crate::Table`].
    pub presumed: u64,
    pub events: u64,
    /// Those of the events that are captures.
    pub captures: u64,
}

/// An event that shows what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exemplar {
    pub event: EventId,
    pub kind: i32,
    /// Name of the container; empty if it concerns the whole machine.
    pub container: String,
    pub observed: i64,
    pub summary: String,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    pub id: String,
    pub print: Fingerprint,
    pub(crate) family: Fingerprint,
    pub tracer: String,
    pub workload: String,
    /// The innermost first; empty as long as no event told the cause.
    pub frames: Vec<String>,
    pub tally: Tally,
    /// The worst of its events.
    pub severity: i32,
    pub(crate) nodes: Distinct,
    pub(crate) containers: Distinct,
    /// When its first and its last event were received, by the aggregator's clock: nanoseconds since 1970-01-01 UTC.
    pub first: i64,
    pub last: i64,
    /// The earliest and the latest of its events, by the nodes' clocks.
    pub first_observed: i64,
    pub last_observed: i64,
    pub exemplars: Vec<Exemplar>,
    /// Rises with each change of any incident.
    pub version: u64,
}

impl Incident {
    /// Without members yet. The id tells apart those of one print, as they begin at different times.
    pub(crate) fn open(seen: &Observation) -> Self {
        Self {
            id: format!("{:016x}-{:x}", (seen.print.0 >> 64) as u64, seen.received / 1_000_000),
            print: seen.print,
            family: seen.family,
            tracer: seen.tracer.clone(),
            workload: seen.workload.clone(),
            frames: seen.frames.clone(),
            tally: Tally::default(),
            severity: seen.severity,
            nodes: Distinct::default(),
            containers: Distinct::default(),
            first: seen.received,
            last: seen.received,
            first_observed: seen.observed,
            last_observed: seen.observed,
            exemplars: Vec::new(),
            version: 0,
        }
    }

    pub fn state(&self, now: i64, silence: Silence) -> State {
        let silent = now.saturating_sub(self.last);
        if silent > silence.closed {
            State::Closed
        } else if silent > silence.quiet {
            State::Quiet
        } else {
            State::Open
        }
    }

    /// Different nodes, and whether there were more than are counted.
    pub fn nodes(&self) -> (u64, bool) {
        (self.nodes.count(), self.nodes.is_over)
    }

    /// Whether it is one of those that are counted.
    pub fn is_on(&self, node: &str) -> bool {
        self.nodes.contains(key_of_node(node))
    }

    /// As [`Self::nodes`].
    pub fn containers(&self) -> (u64, bool) {
        (self.containers.count(), self.containers.is_over)
    }

    /// The cause became known: it is the incident of that cause from now on. Its other runs are presumed to have it.
    pub(crate) fn is_of(&mut self, seen: &Observation) {
        self.print = seen.print;
        self.family = seen.family;
        self.workload.clone_from(&seen.workload);
        self.frames.clone_from(&seen.frames);
        self.tally.presumed = self.tally.runs;
    }

    /// Takes note of when an event came, how bad it is and what it shows.
    pub(crate) fn saw(&mut self, seen: &Observation) {
        self.severity = self.severity.max(seen.severity);
        self.first = self.first.min(seen.received);
        self.last = self.last.max(seen.received);
        self.first_observed = self.first_observed.min(seen.observed);
        self.last_observed = self.last_observed.max(seen.observed);
        // Those with a cause show more, the newest of them most.
        if self.exemplars.len() >= EXEMPLARS {
            if seen.frames.is_empty() {
                return;
            }
            self.exemplars.remove(1);
        }
        self.exemplars.push(Exemplar {
            event: seen.id.clone(),
            kind: seen.kind.into(),
            container: seen.container.clone().unwrap_or_default(),
            observed: seen.observed,
            summary: seen.summary.clone(),
        });
    }

    /// A run becomes part of it, with all of its events so far.
    pub(crate) fn enter(&mut self, member: &Member) {
        self.tally.runs += 1;
        self.tally.presumed += u64::from(!member.is_known && !self.frames.is_empty());
        self.tally.events += u64::from(member.events);
        self.tally.captures += u64::from(member.captures);
        self.nodes.insert(member.node);
        if let Some(container) = member.container {
            self.containers.insert(container);
        }
    }

    /// A run turned out to be part of another one.
    pub(crate) fn leave(&mut self, member: &Member) {
        self.tally.runs -= 1;
        self.tally.presumed -= u64::from(!member.is_known && !self.frames.is_empty());
        self.tally.events -= u64::from(member.events);
        self.tally.captures -= u64::from(member.captures);
        self.nodes.remove(member.node);
        if let Some(container) = member.container {
            self.containers.remove(container);
        }
    }

    /// Of memory, rounded up. From the content alone: what is pushed out must not depend on when memory was asked for.
    pub(crate) fn bytes(&self) -> usize {
        /// The allocator's own part of each piece.
        const PIECE: usize = 16;
        /// Of the cache and the two indexes, which have room to spare.
        const INDEXES: usize = 256;
        let text = |text: &String| text.len() + PIECE;
        let frame = |frame: &String| text(frame) + size_of::<String>();
        let exemplar = |one: &Exemplar| text(&one.event.node) + text(&one.container) + text(&one.summary);
        size_of::<Self>()
            + INDEXES
            + [&self.id, &self.tracer, &self.workload].into_iter().map(text).sum::<usize>()
            + self.frames.iter().map(frame).sum::<usize>()
            + self.exemplars.iter().map(exemplar).sum::<usize>()
            + EXEMPLARS * size_of::<Exemplar>()
            + self.nodes.bytes()
            + self.containers.bytes()
            + 4 * PIECE
    }
}

/// What a name of a node or a container counts as.
pub(crate) fn key_of_node(node: &str) -> u64 {
    short(&[node])
}

pub(crate) fn key_of_container(seen: &Observation) -> Option<u64> {
    seen.container.as_ref().map(|container| short(&[&seen.id.node, container]))
}
