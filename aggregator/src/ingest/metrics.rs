//! Figures of the way into the log.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, exponential_buckets};

use super::Available;
use crate::metrics::Registry;

/// Events are counted when their fate is known: received = logged + deduplicated + limited + rejected.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub received_events: IntCounter,
    pub received_bytes: IntCounter,
    pub logged_events: IntCounter,
    pub deduplicated_events: IntCounter,
    pub limited_events: IntCounter,
    /// By reason: `refused` or `unavailable`.
    pub rejected_events: IntCounterVec,
    pub groups: IntCounter,
    pub disk_errors: IntCounter,
    pub log_available: Available,
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
        Ok(Self {
            received_events: registry
                .counter("ingest_received_events_total", "Events of batches that came for the log.")?,
            received_bytes: registry
                .counter("ingest_received_bytes_total", "Bytes of the batches that came for the log.")?,
            logged_events: registry.counter("ingest_logged_events_total", "Events that became durable.")?,
            deduplicated_events: registry
                .counter("ingest_deduplicated_events_total", "Events that were settled already.")?,
            limited_events: registry.counter(
                "ingest_limited_events_total",
                "Events that were over the cluster's limit: counted in the ledger, and not kept.",
            )?,
            rejected_events: registry.counters(
                "ingest_rejected_events_total",
                "Events that were not taken: `refused` for what was wrong with them, `unavailable` while the log takes nothing.",
                "reason",
            )?,
            groups: registry.counter("ingest_written_groups_total", "Groups of batches written to the log.")?,
            disk_errors: registry
                .counter("ingest_disk_errors_total", "Disk errors that the log refused a group with.")?,
            log_available: Available::new(
                registry.gauge("ingest_log_available", "1 if the log takes events, else 0.")?,
            ),
            queues_forgotten: registry
                .gauge("ingest_forgotten_nodes", "Nodes whose watermarks were dropped because there were too many.")?,
            queue_seconds: registry.histogram(
                "ingest_queue_seconds",
                "Seconds from the receipt of a batch to the beginning of its group.",
                buckets(),
            )?,
            commit_seconds: registry.histogram(
                "ingest_commit_seconds",
                "Seconds that the write and the sync of a group take.",
                buckets(),
            )?,
            durable_seconds: registry.histogram(
                "ingest_durable_seconds",
                "Seconds from the receipt of a batch until it is durable.",
                buckets(),
            )?,
        })
    }
}

/// From 100 µs to 26 s.
fn buckets() -> prometheus::Result<Vec<f64>> {
    exponential_buckets(1e-4, 4.0, 10)
}
