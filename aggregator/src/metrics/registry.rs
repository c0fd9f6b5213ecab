//! Where every figure is registered, and described: the reference page is made from what is written down here.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use serde::Serialize;

use super::Family;

/// What every name begins with.
pub(super) const PREFIX: &str = "galen_aggregator_";

/// Registers figures under `galen_aggregator_<subsystem>_<noun>_<unit>[_total]`. Clones are the same registry.
#[derive(Clone, Default)]
pub struct Registry {
    inner: prometheus::Registry,
    metrics: Arc<Mutex<Vec<Metric>>>,
}

/// A metric, as the reference shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metric {
    pub name: String,
    pub kind: Kind,
    pub labels: Vec<String>,
    pub help: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Registry {
    pub(crate) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(Kind::Counter, IntCounter::new(full(name), help)?)
    }

    /// A counter for each value of `label`, which must be one of few.
    pub(crate) fn counters(&self, name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
        self.add(Kind::Counter, IntCounterVec::new(Opts::new(full(name), help), &[label])?)
    }

    pub(crate) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(Kind::Gauge, IntGauge::new(full(name), help)?)
    }

    pub(crate) fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: prometheus::Result<Vec<f64>>,
    ) -> Result<Histogram, prometheus::Error> {
        let opts = HistogramOpts::new(full(name), help).buckets(buckets?);
        self.add(Kind::Histogram, Histogram::with_opts(opts)?)
    }

    /// Figures that are taken when they are asked for. `take` gives the same families each time, with or without
    /// values.
    pub(crate) fn sampled(
        &self,
        take: impl Fn() -> Vec<Family> + Send + Sync + 'static,
    ) -> Result<(), prometheus::Error> {
        let families = take();
        let descs = families.iter().map(Family::desc).collect::<Result<Vec<_>, _>>()?;
        self.describe(families.iter().map(|family| family.kind).zip(&descs));
        self.inner.register(Box::new(Sampled { descs, take }))
    }

    /// Figures of others, which are described elsewhere. Their names must not be among those of this registry.
    pub(crate) fn foreign(
        &self,
        take: impl Fn() -> Vec<MetricFamily> + Send + Sync + 'static,
    ) -> Result<(), prometheus::Error> {
        self.inner.register(Box::new(Foreign(take)))
    }

    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        self.inner.gather()
    }

    /// All that is registered, by name.
    pub(super) fn into_metrics(self) -> Vec<Metric> {
        let mut metrics = std::mem::take(&mut *self.metrics.lock());
        metrics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        metrics
    }

    fn add<C: Collector + Clone + 'static>(&self, kind: Kind, collector: C) -> Result<C, prometheus::Error> {
        self.describe(collector.desc().into_iter().map(|desc| (kind, desc)));
        self.inner.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn describe<'a>(&self, described: impl Iterator<Item = (Kind, &'a Desc)>) {
        self.metrics.lock().extend(described.map(|(kind, desc)| Metric {
            name: desc.fq_name.clone(),
            kind,
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
        }));
    }
}

struct Foreign<F>(F);

impl<F: Fn() -> Vec<MetricFamily> + Send + Sync> Collector for Foreign<F> {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (self.0)()
    }
}

struct Sampled<F> {
    descs: Vec<Desc>,
    take: F,
}

impl<F: Fn() -> Vec<Family> + Send + Sync> Collector for Sampled<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (self.take)().into_iter().filter_map(|family| family.collect().ok()).flatten().collect()
    }
}

pub(super) fn full(name: &str) -> String {
    format!("{PREFIX}{name}")
}
