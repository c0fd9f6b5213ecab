//! Figures of the way into the log.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets};

/// Events are counted when their fate is known: received = logged + deduplicated + rejected.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub received_events: IntCounter,
    pub received_bytes: IntCounter,
    pub logged_events: IntCounter,
    pub deduplicated_events: IntCounter,
    /// By reason: `refused` or `unavailable`.
    pub rejected_events: IntCounterVec,
    pub groups: IntCounter,
    pub disk_errors: IntCounter,
    pub log_available: IntGauge,
    pub queues_forgotten: IntGauge,
    /// Receipt of a batch to the beginning of its group.
    pub queue_seconds: Histogram,
    /// One write and one sync.
    pub commit_seconds: Histogram,
    /// Receipt of a batch until it is durable.
    pub durable_seconds: Histogram,
}

impl Metrics {
    /// # Errors
    /// A name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            received_events: IntCounter::new(
                "galen_aggregator_ingest_received_events_total",
                "Events in batches that came for the log.",
            )?,
            received_bytes: IntCounter::new(
                "galen_aggregator_ingest_received_bytes_total",
                "Size of the batches that came for the log.",
            )?,
            logged_events: IntCounter::new(
                "galen_aggregator_ingest_logged_events_total",
                "Events that became durable.",
            )?,
            deduplicated_events: IntCounter::new(
                "galen_aggregator_ingest_deduplicated_events_total",
                "Events that were settled already.",
            )?,
            rejected_events: IntCounterVec::new(
                Opts::new("galen_aggregator_ingest_rejected_events_total", "Events that were not taken, by reason."),
                &["reason"],
            )?,
            groups: IntCounter::new("galen_aggregator_ingest_groups_total", "Groups written to the log.")?,
            disk_errors: IntCounter::new(
                "galen_aggregator_ingest_disk_errors_total",
                "Times that the disk refused the log.",
            )?,
            log_available: IntGauge::new(
                "galen_aggregator_ingest_log_available",
                "1 if the log takes events, else 0.",
            )?,
            queues_forgotten: IntGauge::new(
                "galen_aggregator_ingest_nodes_forgotten",
                "Nodes whose watermarks were dropped because there were too many.",
            )?,
            queue_seconds: histogram(
                "galen_aggregator_ingest_queue_seconds",
                "From the receipt of a batch to the beginning of its group.",
            )?,
            commit_seconds: histogram("galen_aggregator_ingest_commit_seconds", "Write and sync of a group.")?,
            durable_seconds: histogram(
                "galen_aggregator_ingest_durable_seconds",
                "From the receipt of a batch until it is durable.",
            )?,
        };
        for counter in [
            &metrics.received_events,
            &metrics.received_bytes,
            &metrics.logged_events,
            &metrics.deduplicated_events,
            &metrics.groups,
            &metrics.disk_errors,
        ] {
            registry.register(Box::new(counter.clone()))?;
        }
        for gauge in [&metrics.log_available, &metrics.queues_forgotten] {
            registry.register(Box::new(gauge.clone()))?;
        }
        for histogram in [&metrics.queue_seconds, &metrics.commit_seconds, &metrics.durable_seconds] {
            registry.register(Box::new(histogram.clone()))?;
        }
        registry.register(Box::new(metrics.rejected_events.clone()))?;
        metrics.log_available.set(1);
        Ok(metrics)
    }
}

/// From 100 µs to 26 s.
fn histogram(name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(exponential_buckets(1e-4, 4.0, 10)?))
}
