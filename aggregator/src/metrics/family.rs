//! A metric whose values are taken when it is asked for.

use std::collections::{BTreeMap, HashMap};

use prometheus::{
    IntCounterVec, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{Kind, registry::full};

/// A metric with what is known of it now.
pub(crate) struct Family {
    name: &'static str,
    help: &'static str,
    pub(super) kind: Kind,
    labels: &'static [&'static str],
    /// By the values of the labels.
    values: BTreeMap<Vec<String>, u64>,
}

impl Family {
    pub(crate) fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self::gauges(name, help, &[], BTreeMap::from([(Vec::new(), value)]))
    }

    pub(crate) fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self::counters(name, help, &[], BTreeMap::from([(Vec::new(), value)]))
    }

    pub(crate) fn gauges(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        values: BTreeMap<Vec<String>, u64>,
    ) -> Self {
        Self { name, help, kind: Kind::Gauge, labels, values }
    }

    pub(crate) fn counters(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        values: BTreeMap<Vec<String>, u64>,
    ) -> Self {
        Self { name, help, kind: Kind::Counter, labels, values }
    }

    pub(super) fn desc(&self) -> Result<Desc, prometheus::Error> {
        let labels = self.labels.iter().map(|label| (*label).to_owned()).collect();
        Desc::new(full(self.name), self.help.into(), labels, HashMap::new())
    }

    pub(super) fn collect(self) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let opts = Opts::new(full(self.name), self.help);
        if self.kind == Kind::Counter {
            let vector = IntCounterVec::new(opts, self.labels)?;
            for (labels, value) in self.values {
                vector.get_metric_with_label_values(&labels)?.inc_by(value);
            }
            Ok(vector.collect())
        } else {
            let vector = IntGaugeVec::new(opts, self.labels)?;
            for (labels, value) in self.values {
                vector.get_metric_with_label_values(&labels)?.set(i64::try_from(value).unwrap_or(i64::MAX));
            }
            Ok(vector.collect())
        }
    }
}
