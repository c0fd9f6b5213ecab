//! Figures of agents as Prometheus takes them: of all nodes together, and of each, in shards.

use std::{str::FromStr, sync::Arc};

use galen_proto::v1::MeasureKind;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::{Figures, Name, PREFIX, Series};

const FLEET: &str = "galen_fleet_";
const OF_NODE: &str = "Of the node, as its agent tells it.";
const ADDED: &str = "What all agents have added while they were connected here.";
const SUM: &str = "Sum over the connected agents.";
const MAX: &str = "Greatest of the connected agents.";
/// Series of one answer: some 15 MB of text.
const MAX_SHOWN: usize = 100_000;
const MAX_SHARDS: u32 = 10_000;

/// A part of the nodes: always the same for as long as there are as many parts, on every aggregator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    number: u32,
    of: u32,
}

/// More series than an answer may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{series} series are more than the {MAX_SHOWN} of an answer: ask for more shards, such as `shard=0/{shards}`")]
pub struct TooMany {
    series: usize,
    shards: usize,
}

/// The text names no shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no shard: write 0/4 for the first of four, of at most {MAX_SHARDS}")]
pub struct ParseShardError(String);

impl Default for Shard {
    fn default() -> Self {
        Self { number: 0, of: 1 }
    }
}

impl Shard {
    fn has(self, node: &str) -> bool {
        crc32c::crc32c(node.as_bytes()) % self.of == self.number
    }
}

impl FromStr for Shard {
    type Err = ParseShardError;

    fn from_str(text: &str) -> Result<Self, ParseShardError> {
        let parsed = text.split_once('/').and_then(|(number, of)| {
            let shard = Self { number: number.parse().ok()?, of: of.parse().ok()? };
            (shard.number < shard.of && shard.of <= MAX_SHARDS).then_some(shard)
        });
        parsed.ok_or_else(|| ParseShardError(text.to_owned()))
    }
}

impl Figures {
    /// Of all nodes together.
    pub(in crate::nodes) fn of_fleet(&mut self) -> Vec<MetricFamily> {
        self.forget_stale();
        let mut gauges = vec![(0.0, f64::NEG_INFINITY); self.series.len()];
        for word in self.nodes.values().filter(|word| word.gone.is_none()) {
            for (place, value) in &word.values {
                let (sum, max) = &mut gauges[*place as usize];
                *sum += value;
                *max = max.max(*value);
            }
        }
        let mut families = Vec::new();
        for (full, name) in &self.names {
            let short = full.strip_prefix(PREFIX).unwrap_or(full);
            let mut show = |end: &str, help: &str, value: &dyn Fn(u32, &Series) -> f64| {
                let series =
                    name.series.iter().filter_map(|place| Some((*place, self.series[*place as usize].as_ref()?)));
                let shown = series
                    .map(|(place, series)| (value(place, series), metric(name, None, series)))
                    // Told by nobody who is connected.
                    .filter(|(value, _)| value.is_finite());
                families.push(family(format!("{FLEET}{short}{end}"), help, name.kind, shown));
            };
            if name.kind == MeasureKind::Counter {
                show("", ADDED, &|_, series| series.added);
            } else {
                show("", SUM, &|place, _| gauges[place as usize].0);
                show("_max", MAX, &|place, _| gauges[place as usize].1);
            }
        }
        families.retain(|family: &MetricFamily| !family.get_metric().is_empty());
        families
    }

    /// Of each node of a shard.
    pub(in crate::nodes) fn of_nodes(&mut self, shard: Shard) -> Result<Vec<MetricFamily>, TooMany> {
        self.forget_stale();
        let nodes: Vec<_> = self.nodes.iter().filter(|(node, _)| shard.has(node)).collect();
        let series = nodes.iter().map(|(_, word)| word.values.len()).sum();
        if series > MAX_SHOWN {
            return Err(TooMany { series, shards: shard.of as usize * (series / MAX_SHOWN + 1) });
        }
        let mut by_series: Vec<Vec<(&Arc<str>, f64)>> = vec![Vec::new(); self.series.len()];
        for (node, word) in nodes {
            for (place, value) in &word.values {
                by_series[*place as usize].push((node, *value));
            }
        }
        let families = self.names.iter().map(|(full, name)| {
            let shown = name.series.iter().filter_map(|place| {
                let series = self.series[*place as usize].as_ref()?;
                Some(by_series[*place as usize].iter().map(|(node, value)| (*value, metric(name, Some(node), series))))
            });
            family(full.to_string(), OF_NODE, name.kind, shown.flatten())
        });
        Ok(families.filter(|family| !family.get_metric().is_empty()).collect())
    }
}

/// The labels of a series.
fn metric(name: &Name, node: Option<&str>, series: &Series) -> Metric {
    let pair = |name: &str, value: &str| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    let node = node.map(|node| pair("node", node));
    let own = name.labels.iter().zip(&series.values).map(|(name, value)| pair(name, value));
    Metric::from_label(node.into_iter().chain(own).collect())
}

fn family(name: String, help: &str, kind: MeasureKind, metrics: impl Iterator<Item = (f64, Metric)>) -> MetricFamily {
    let metrics = metrics.map(|(value, mut metric)| {
        if kind == MeasureKind::Counter {
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
    family.set_name(name);
    family.set_help(help.to_owned());
    family.set_field_type(if kind == MeasureKind::Counter { MetricType::COUNTER } else { MetricType::GAUGE });
    family.set_metric(metrics);
    family
}
