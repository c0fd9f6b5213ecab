//! Where figures are registered and described.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::Collector;
use serde::Serialize;

use super::Measures;

/// A metric, as the reference shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Metric {
    pub name: String,
    pub kind: &'static str,
    pub labels: Vec<String>,
    pub help: String,
}

/// Clones are the same registry.
#[derive(Clone, Default)]
pub struct Registry {
    inner: prometheus::Registry,
    described: Arc<Mutex<Vec<Metric>>>,
}

impl Registry {
    /// # Errors
    /// A name is registered already.
    pub fn register(&self, collector: Box<dyn Collector>) -> Result<(), prometheus::Error> {
        let metrics: Vec<_> = collector
            .desc()
            .into_iter()
            .map(|desc| Metric {
                name: desc.fq_name.clone(),
                kind: if desc.fq_name.ends_with("_total") { "counter" } else { "gauge" },
                labels: desc.variable_labels.clone(),
                help: desc.help.clone(),
            })
            .collect();
        self.inner.register(collector)?;
        self.described.lock().extend(metrics);
        Ok(())
    }

    /// Registers one that the caller goes on to use.
    ///
    /// # Errors
    /// A name is registered already.
    pub fn add<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    /// What describes the same is registered no more.
    pub fn unregister(&self, collector: Box<dyn Collector>) {
        let names: Vec<_> = collector.desc().into_iter().map(|desc| desc.fq_name.clone()).collect();
        if self.inner.unregister(collector).is_ok() {
            self.described.lock().retain(|metric| !names.contains(&metric.name));
        }
    }

    /// All figures now, as they travel.
    pub fn measures(&self) -> Measures {
        Measures::of(&self.inner.gather())
    }

    /// By name.
    pub(super) fn described(&self) -> Vec<Metric> {
        let mut described = self.described.lock().clone();
        described.sort_unstable();
        described
    }
}
