//! Figures of the indexer and of the store. What changes slowly is read from the store when it is asked for.

use std::sync::Arc;

use galen_log::Log;
use galen_store::{Store, Writer};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntGauge, Registry,
    core::{Collector, Desc},
    exponential_buckets,
    proto::MetricFamily,
};

use super::Position;

/// Handles of the indexer's own figures.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Where the indexer is in the log.
    pub position: Position,
    pub commits: IntCounter,
    /// Events that the log could not give any more.
    pub skipped: IntCounter,
    pub commit_seconds: Histogram,
}

impl Metrics {
    /// # Errors
    /// A name is registered already.
    pub fn register(registry: &Registry, store: Store, log: Arc<dyn Log>) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            position: Position::default(),
            commits: IntCounter::new("galen_aggregator_indexer_commits_total", "Commits of the store.")?,
            skipped: IntCounter::new(
                "galen_aggregator_indexer_skipped_events_total",
                "Events that had left the log, or were damaged there, before they were indexed.",
            )?,
            commit_seconds: Histogram::with_opts(
                HistogramOpts::new("galen_aggregator_indexer_commit_seconds", "Commit of the store.")
                    .buckets(exponential_buckets(1e-3, 3.0, 9)?),
            )?,
        };
        registry.register(Box::new(metrics.commits.clone()))?;
        registry.register(Box::new(metrics.skipped.clone()))?;
        registry.register(Box::new(metrics.commit_seconds.clone()))?;
        registry.register(Box::new(Gathered { store, log, position: metrics.position.clone() }))?;
        Ok(metrics)
    }

    pub(super) fn position(&self, writer: &Writer) {
        self.position.set(writer.next());
    }
}

struct Gathered {
    store: Store,
    log: Arc<dyn Log>,
    position: Position,
}

impl Gathered {
    fn families(&self) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let stats = self.store.stats();
        let lag = self.log.bounds().next.saturating_sub(self.position.get());
        let mut families = Vec::new();
        for (name, help, value) in [
            ("indexer_lag_events", "Events in the log that are not in the store yet.", lag),
            ("store_events", "Events in the store.", stats.events),
            ("store_bytes", "Bytes of the store on disk.", stats.bytes),
            ("store_indexes", "Indexes of the store.", stats.indexes),
        ] {
            let gauge = IntGauge::new(format!("galen_aggregator_{name}"), help)?;
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            families.extend(gauge.collect());
        }
        for (name, help, value) in [
            ("store_indexed_events_total", "Events that were indexed in full.", stats.indexed),
            (
                "store_unreadable_events_total",
                "Events that could not be decoded, kept with the reason.",
                stats.unreadable,
            ),
            ("store_partly_indexed_events_total", "Events whose data could not be indexed in full.", stats.partly),
            ("store_damaged_indexes_total", "Indexes that were put aside because they were damaged.", stats.damaged),
            ("store_dropped_indexes_total", "Indexes that were dropped by retention.", stats.dropped),
        ] {
            let counter = IntCounter::new(format!("galen_aggregator_{name}"), help)?;
            counter.inc_by(value);
            families.extend(counter.collect());
        }
        Ok(families)
    }
}

impl Collector for Gathered {
    fn desc(&self) -> Vec<&Desc> {
        // Names are unique by construction; without descriptions the registry does not check them.
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families().unwrap_or_default()
    }
}
