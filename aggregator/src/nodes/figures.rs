//! What agents say of themselves in figures: the last word of each node, checked and bounded.
//!
//! Names and labels are kept once, a node's word is a list of series and values: ten thousand nodes have the same
//! hundred series. Shown in two ways:
//!
//! - all nodes together (`galen_fleet_…`). A counter's sum is of what was added while nodes were heard of here, so it
//!   never goes back: not when an agent starts anew, leaves, or comes from another aggregator. A gauge's sum and maximum
//!   are of the nodes that are connected.
//! - each node by itself (`galen_agent_…`, with the label `node`), also for a while after it has gone.
//!
//! A name has the kind and the label names that it was first heard with, for as long as a node tells it; what differs, is
//! malformed, comes twice or finds no room is refused and counted. Those that have gone make room first.

mod show;

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    sync::Arc,
    time::Duration,
};

use galen_proto::v1::{Measure, MeasureKind};
use tokio::time::Instant;

pub use show::{ParseShardError, Shard, TooMany};

const PREFIX: &str = "galen_agent_";
/// Figures of one heartbeat.
const MAX_OF_NODE: usize = 512;
const MAX_NAMES: usize = 2048;
/// Names with their labels that are told apart.
const MAX_SERIES: usize = 16 << 10;
/// Bytes of a metric's name, a label's name, a label's value.
const MAX_NAME: usize = 128;
const MAX_LABELS: usize = 8;
/// What other kinds of metric make of a name, what only counters end in, and what the maximum of all nodes does.
const NOT_GAUGES: [&str; 5] = ["_total", "_sum", "_count", "_bucket", "_max"];
/// How long a node is shown that has gone.
const GONE_FOR: Duration = Duration::from_secs(300);
/// Between the parts of a key: no name and no value may have it.
const SEPARATOR: char = '\x1f';

/// Why a figure is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    Malformed,
    /// Of another kind, or with other labels, than the name has.
    Mismatch,
    Twice,
    Full,
}

impl Refused {
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Mismatch => "mismatch",
            Self::Twice => "twice",
            Self::Full => "full",
        }
    }
}

#[derive(Debug)]
pub(super) struct Figures {
    /// Values of all nodes together.
    cap: usize,
    kept: usize,
    /// By key.
    places: HashMap<Box<str>, u32>,
    series: Vec<Option<Series>>,
    free: Vec<u32>,
    names: BTreeMap<Arc<str>, Name>,
    nodes: HashMap<Arc<str>, Word>,
    refused: BTreeMap<Refused, u64>,
    /// Of the key that is looked for.
    key: String,
}

/// What holds for all series of a name.
#[derive(Debug)]
struct Name {
    kind: MeasureKind,
    /// In order.
    labels: Vec<String>,
    series: Vec<u32>,
}

/// A name with labels.
#[derive(Debug)]
struct Series {
    key: Box<str>,
    name: Arc<str>,
    kind: MeasureKind,
    /// Of the labels.
    values: Vec<Box<str>>,
    /// Nodes that tell it.
    nodes: u32,
    /// Of a counter: what was added.
    added: f64,
}

/// What a node said last.
#[derive(Debug, Default)]
struct Word {
    /// By the place of the series, in order.
    values: Vec<(u32, f64)>,
    left_out: u64,
    gone: Option<Instant>,
}

impl Figures {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            cap,
            kept: 0,
            places: HashMap::new(),
            series: Vec::new(),
            free: Vec::new(),
            names: BTreeMap::new(),
            nodes: HashMap::new(),
            refused: BTreeMap::new(),
            key: String::new(),
        }
    }

    /// In the place of what the node said before.
    pub(super) fn report(&mut self, node: &Arc<str>, measures: Vec<Measure>, left_out: u64) {
        let before = self.nodes.remove(node);
        let known = before.is_some();
        let before = before.unwrap_or_default().values;
        self.kept -= before.len();
        let count = measures.len().min(MAX_OF_NODE);
        self.refuse(Refused::Full, measures.len() - count);
        if self.kept + count > self.cap {
            self.forget_gone(Instant::now());
        }
        let room = self.cap.saturating_sub(self.kept);
        let mut values: Vec<(u32, f64)> = Vec::with_capacity(count);
        for measure in measures.into_iter().take(MAX_OF_NODE) {
            let value = measure.value;
            let taken = if values.len() < room { self.place(measure) } else { check(&measure).and(Err(Refused::Full)) };
            match taken {
                Ok(place) => values.push((place, value)),
                Err(refused) => self.refuse(refused, 1),
            }
        }
        let told = values.len();
        values.sort_by_key(|(place, _)| *place);
        values.dedup_by_key(|(place, _)| *place);
        self.refuse(Refused::Twice, told - values.len());
        for (place, value) in &values {
            let Some(series) = &mut self.series[*place as usize] else { continue };
            series.nodes += 1;
            if known && series.kind == MeasureKind::Counter {
                let earlier = before.binary_search_by_key(place, |(place, _)| *place).map_or(0.0, |at| before[at].1);
                // Less than before: the agent has started anew.
                series.added += if *value < earlier { *value } else { *value - earlier };
            }
        }
        self.kept += values.len();
        self.release(&before);
        values.shrink_to_fit();
        self.nodes.insert(Arc::clone(node), Word { values, left_out, gone: None });
    }

    /// The node has left: it is forgotten after a while, unless it comes back.
    pub(super) fn gone(&mut self, node: &str) {
        if let Some(word) = self.nodes.get_mut(node) {
            word.gone = Some(Instant::now());
        }
    }

    pub(super) fn left_out(&self) -> u64 {
        let here = self.nodes.values().filter(|word| word.gone.is_none());
        here.fold(0, |all, word| all.saturating_add(word.left_out))
    }

    /// Series of nodes.
    pub(super) fn kept(&self) -> u64 {
        self.kept as u64
    }

    pub(super) fn refused(&self) -> BTreeMap<Refused, u64> {
        self.refused.clone()
    }

    /// Nodes that have gone for long enough.
    fn forget_stale(&mut self) {
        if let Some(then) = Instant::now().checked_sub(GONE_FOR) {
            self.forget_gone(then);
        }
    }

    /// Nodes that had gone by `then`.
    fn forget_gone(&mut self, then: Instant) {
        let stale = self.nodes.extract_if(|_, word| word.gone.is_some_and(|gone| gone <= then));
        for (_, word) in stale.collect::<Vec<_>>() {
            self.kept -= word.values.len();
            self.release(&word.values);
        }
    }

    /// One node less tells these.
    fn release(&mut self, values: &[(u32, f64)]) {
        for (place, _) in values {
            let slot = &mut self.series[*place as usize];
            let Some(series) = slot else { continue };
            series.nodes -= 1;
            if series.nodes > 0 {
                continue;
            }
            self.places.remove(&series.key);
            if let Some(name) = self.names.get_mut(&series.name) {
                name.series.retain(|other| other != place);
                if name.series.is_empty() {
                    self.names.remove(&series.name);
                }
            }
            *slot = None;
            self.free.push(*place);
        }
    }

    fn refuse(&mut self, why: Refused, count: usize) {
        if count > 0 {
            *self.refused.entry(why).or_default() += count as u64;
        }
    }

    /// The place of a measure's series, which may be new.
    fn place(&mut self, mut measure: Measure) -> Result<u32, Refused> {
        let kind = measure.kind();
        if !measure.value.is_finite() || (kind == MeasureKind::Counter && measure.value < 0.0) {
            return Err(Refused::Malformed);
        }
        measure.labels.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.key.clear();
        self.key.push_str(&measure.name);
        for label in &measure.labels {
            // A String takes all.
            let _ = write!(self.key, "{SEPARATOR}{}{SEPARATOR}{}", label.name, label.value);
        }
        if let Some(place) = self.places.get(self.key.as_str()) {
            let known = self.series[*place as usize].as_ref().is_some_and(|series| series.kind == kind);
            return if known { Ok(*place) } else { Err(Refused::Mismatch) };
        }
        check(&measure)?;
        self.begin(measure, kind)
    }

    /// A series that nobody has told yet.
    fn begin(&mut self, measure: Measure, kind: MeasureKind) -> Result<u32, Refused> {
        let (labels, values): (Vec<_>, Vec<_>) =
            measure.labels.into_iter().map(|label| (label.name, label.value.into_boxed_str())).unzip();
        match self.names.get(measure.name.as_str()) {
            Some(name) if name.kind != kind || name.labels != labels => return Err(Refused::Mismatch),
            None if self.names.len() >= MAX_NAMES => return Err(Refused::Full),
            _ => {}
        }
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.series.len() >= MAX_SERIES => return Err(Refused::Full),
            None => {
                self.series.push(None);
                self.series.len() as u32 - 1
            }
        };
        let known = self.names.get_key_value(measure.name.as_str()).map(|(name, _)| Arc::clone(name));
        let name: Arc<str> = known.unwrap_or_else(|| measure.name.into());
        let series = self.names.entry(Arc::clone(&name)).or_insert_with(|| Name { kind, labels, series: Vec::new() });
        series.series.push(place);
        let key: Box<str> = self.key.as_str().into();
        self.places.insert(key.clone(), place);
        self.series[place as usize] = Some(Series { key, name, kind, values, nodes: 0, added: 0.0 });
        Ok(place)
    }
}

fn check(measure: &Measure) -> Result<(), Refused> {
    let is_name = |name: &str| {
        name.len() <= MAX_NAME
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let name = &measure.name;
    let fits_kind = match measure.kind() {
        MeasureKind::Unspecified => false,
        MeasureKind::Counter => name.ends_with("_total"),
        MeasureKind::Gauge => !NOT_GAUGES.iter().any(|end| name.ends_with(end)),
    };
    let labels = &measure.labels;
    let is_label = |(place, label): (usize, &galen_proto::v1::Label)| {
        is_name(&label.name)
            && label.name != "node"
            && label.value.len() <= MAX_NAME
            && !label.value.chars().any(char::is_control)
            && !labels[..place].iter().any(|before| before.name == label.name)
    };
    let well_formed = is_name(name)
        && name.len() > PREFIX.len()
        && name.starts_with(PREFIX)
        && fits_kind
        && labels.len() <= MAX_LABELS
        && labels.iter().enumerate().all(is_label);
    if well_formed { Ok(()) } else { Err(Refused::Malformed) }
}

#[cfg(test)]
mod tests;
