//! What agents say of themselves in figures: the last word of each connected node, checked, bounded, and shown under the
//! agent's own names with the label `node`.
//!
//! Every name begins with `galen_agent_`, so none can be taken for one of the aggregator's. A name has the kind and the
//! label names that it was first heard with, for as long as a connected node tells it; what differs, is malformed, comes
//! twice or finds no room is refused and counted. A node's figures go when it leaves.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use galen_proto::v1::{Measure, MeasureKind};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

const PREFIX: &str = "galen_agent_";
const HELP: &str = "Of the node, as its agent tells it.";
/// Figures of one heartbeat.
const MAX_OF_NODE: usize = 512;
const MAX_NAMES: usize = 2048;
/// Bytes of a metric's name, a label's name, a label's value.
const MAX_NAME: usize = 128;
const MAX_LABELS: usize = 8;
/// What other kinds of metric make of a name, and what only counters end in.
const NOT_GAUGES: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

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
    /// Series of all nodes together.
    cap: usize,
    shown: usize,
    families: BTreeMap<String, Family>,
    refused: BTreeMap<Refused, u64>,
    /// What agents left out of their last heartbeats; only those that did.
    left_out: HashMap<Arc<str>, u64>,
}

#[derive(Debug)]
struct Family {
    kind: MeasureKind,
    /// In the order of their names.
    labels: Vec<String>,
    nodes: HashMap<Arc<str>, Vec<Series>>,
}

#[derive(Debug)]
struct Series {
    /// Of the labels.
    values: Vec<Box<str>>,
    value: f64,
}

impl Figures {
    pub(super) fn new(cap: usize) -> Self {
        Self { cap, shown: 0, families: BTreeMap::new(), refused: BTreeMap::new(), left_out: HashMap::new() }
    }

    /// In the place of what the node said before.
    pub(super) fn report(&mut self, node: &Arc<str>, measures: Vec<Measure>, left_out: u64) {
        self.forget(node);
        if left_out > 0 {
            self.left_out.insert(Arc::clone(node), left_out);
        }
        let beyond = measures.len().saturating_sub(MAX_OF_NODE);
        if beyond > 0 {
            *self.refused.entry(Refused::Full).or_default() += beyond as u64;
        }
        for measure in measures.into_iter().take(MAX_OF_NODE) {
            if let Err(refused) = self.take(node, measure) {
                *self.refused.entry(refused).or_default() += 1;
            }
        }
    }

    pub(super) fn forget(&mut self, node: &str) {
        let mut gone = 0;
        self.families.retain(|_, family| {
            gone += family.nodes.remove(node).map_or(0, |series| series.len());
            !family.nodes.is_empty()
        });
        self.shown -= gone;
        self.left_out.remove(node);
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out.values().fold(0, |all, one| all.saturating_add(*one))
    }

    /// Series that are shown.
    pub(super) fn shown(&self) -> u64 {
        self.shown as u64
    }

    pub(super) fn refused(&self) -> BTreeMap<Refused, u64> {
        self.refused.clone()
    }

    pub(super) fn collect(&self) -> Vec<MetricFamily> {
        self.families.iter().map(|(name, family)| family.collect(name)).collect()
    }

    fn take(&mut self, node: &Arc<str>, mut measure: Measure) -> Result<(), Refused> {
        check(&measure)?;
        measure.labels.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        if self.shown >= self.cap || (!self.families.contains_key(&measure.name) && self.families.len() >= MAX_NAMES) {
            return Err(Refused::Full);
        }
        let (kind, labels) = (measure.kind(), measure.labels);
        let (names, values): (Vec<_>, Vec<_>) =
            labels.into_iter().map(|label| (label.name, label.value.into_boxed_str())).unzip();
        let family = self.families.entry(measure.name);
        let family = family.or_insert_with(|| Family { kind, labels: names.clone(), nodes: HashMap::new() });
        if family.kind != kind || family.labels != names {
            return Err(Refused::Mismatch);
        }
        let series = family.nodes.entry(Arc::clone(node)).or_default();
        if series.iter().any(|known| known.values == values) {
            return Err(Refused::Twice);
        }
        series.push(Series { values, value: measure.value });
        self.shown += 1;
        Ok(())
    }
}

impl Family {
    fn collect(&self, name: &str) -> MetricFamily {
        let pair = |name: &str, value: &str| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        let metrics = self.nodes.iter().flat_map(|(node, series)| {
            series.iter().map(move |Series { values, value }| {
                let own = self.labels.iter().zip(values).map(|(name, value)| pair(name, value));
                let mut metric = Metric::from_label(std::iter::once(pair("node", node)).chain(own).collect());
                if self.kind == MeasureKind::Counter {
                    let mut counter = Counter::default();
                    counter.set_value(*value);
                    metric.set_counter(counter);
                } else {
                    let mut gauge = Gauge::default();
                    gauge.set_value(*value);
                    metric.set_gauge(gauge);
                }
                metric
            })
        });
        let metrics = metrics.collect();
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(HELP.to_owned());
        let kind = if self.kind == MeasureKind::Counter { MetricType::COUNTER } else { MetricType::GAUGE };
        family.set_field_type(kind);
        family.set_metric(metrics);
        family
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
        MeasureKind::Counter => name.ends_with("_total") && measure.value >= 0.0,
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
        && measure.value.is_finite()
        && labels.len() <= MAX_LABELS
        && labels.iter().enumerate().all(is_label);
    if well_formed { Ok(()) } else { Err(Refused::Malformed) }
}

#[cfg(test)]
mod tests {
    use galen_proto::v1::Label;

    use super::*;

    fn counter(name: &str, labels: &[(&str, &str)]) -> Measure {
        let label = |(name, value): &(&str, &str)| Label { name: (*name).into(), value: (*value).into() };
        let labels = labels.iter().map(label).collect();
        Measure { name: format!("galen_agent_{name}"), kind: MeasureKind::Counter.into(), labels, value: 3.0 }
    }

    fn refused(figures: &Figures, refused: Refused) -> u64 {
        figures.refused.get(&refused).copied().unwrap_or_default()
    }

    #[test]
    fn a_node_is_shown_by_its_last_word_and_no_more_when_it_left() {
        let (node, mut figures) = ("web-1".into(), Figures::new(100));
        figures.report(&node, vec![counter("a_total", &[("z", "1"), ("b", "2")]), counter("b_total", &[])], 0);
        figures.report(&node, vec![counter("a_total", &[("b", "2"), ("z", "1")])], 0);
        let families = figures.collect();
        assert_eq!((families.len(), figures.shown()), (1, 1));
        let text = prometheus::TextEncoder::new().encode_to_string(&families).unwrap();
        let line = "galen_agent_a_total{node=\"web-1\",b=\"2\",z=\"1\"} 3\n";
        assert!(text.contains(line) && text.contains("# TYPE galen_agent_a_total counter"), "{text}");
        figures.forget("web-1");
        assert_eq!((figures.collect().len(), figures.shown()), (0, 0));
        assert!(figures.refused.is_empty());
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let wrong = [
            Measure { name: "galen_aggregator_log_segments".into(), ..counter("", &[]) },
            Measure { name: "up_total".into(), ..counter("", &[]) },
            counter("a\nb_total", &[]),
            counter("A_total", &[]),
            counter(&format!("{}_total", "a".repeat(MAX_NAME)), &[]),
            counter("a_events", &[]),
            Measure { kind: MeasureKind::Gauge.into(), ..counter("a_total", &[]) },
            Measure { kind: 0, ..counter("a_total", &[]) },
            Measure { kind: 77, ..counter("a_total", &[]) },
            Measure { value: f64::NAN, ..counter("a_total", &[]) },
            Measure { value: -1.0, ..counter("a_total", &[]) },
            counter("a_total", &[("node", "web-2")]),
            counter("a_total", &[("__name__", "a")]),
            counter("a_total", &[("a", "1"), ("a", "2")]),
            counter("a_total", &[("a", "two\nlines")]),
            counter("a_total", &[("a", &"x".repeat(MAX_NAME + 1))]),
            counter("a_total", &["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|name| (name, ""))),
        ];
        let (count, mut figures) = (wrong.len() as u64, Figures::new(100));
        figures.report(&"web-1".into(), wrong.into(), 0);
        assert_eq!((refused(&figures, Refused::Malformed), figures.shown()), (count, 0));
        assert!(figures.families.is_empty());
    }

    #[test]
    fn a_name_keeps_its_kind_and_labels_and_a_series_comes_once() {
        let mut figures = Figures::new(100);
        figures.report(&"web-1".into(), vec![counter("a_total", &[("b", "1")]), counter("a_total", &[("b", "1")])], 0);
        figures.report(&"web-2".into(), vec![counter("a_total", &[]), counter("a_total", &[("b", "1")])], 0);
        assert_eq!((refused(&figures, Refused::Twice), refused(&figures, Refused::Mismatch)), (1, 1));
        assert_eq!(figures.shown(), 2);
    }

    #[test]
    fn series_and_names_are_bounded_and_room_is_given_back() {
        let mut figures = Figures::new(10);
        let many = |count: usize| (0..count).map(|n| counter(&format!("a{n}_total"), &[])).collect::<Vec<_>>();
        figures.report(&"web-1".into(), many(8), 0);
        figures.report(&"web-2".into(), many(8), 0);
        assert_eq!((refused(&figures, Refused::Full), figures.shown()), (6, 10));
        figures.forget("web-1");
        figures.report(&"web-2".into(), many(8), 0);
        assert_eq!((refused(&figures, Refused::Full), figures.shown()), (6, 8));
        let mut figures = Figures::new(100_000);
        figures.report(&"web-1".into(), many(MAX_OF_NODE + 5), 0);
        assert_eq!((refused(&figures, Refused::Full), figures.shown()), (5, MAX_OF_NODE as u64));
    }
}
