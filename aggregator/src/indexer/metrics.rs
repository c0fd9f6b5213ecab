//! Figures of the indexer and of the store. What changes slowly is read from the store when it is asked for.

use galen_store::{Stats, Writer};
use prometheus::{Histogram, IntCounter, exponential_buckets};

use super::Position;
use crate::metrics::{Family, Registry};

/// Handles of the indexer's own figures.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Where the indexer is in the log.
    pub position: Position,
    pub commits: IntCounter,
    /// Events that the log could not give any more.
    pub skipped: IntCounter,
    pub commit_seconds: Histogram,
    /// Receipt of the oldest event of a commit until it can be found.
    pub searchable_seconds: Histogram,
}

impl Metrics {
    /// # Errors
    /// A name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            position: Position::default(),
            commits: registry.counter("indexer_store_commits_total", "Commits of the store.")?,
            skipped: registry.counter(
                "indexer_skipped_events_total",
                "Events that had left the log, or were damaged there, before they were indexed.",
            )?,
            commit_seconds: registry.histogram(
                "indexer_commit_seconds",
                "Seconds that a commit of the store takes.",
                exponential_buckets(1e-3, 3.0, 9),
            )?,
            searchable_seconds: registry.histogram(
                "indexer_searchable_seconds",
                "Seconds from the receipt of the oldest event of a commit until it can be found.",
                exponential_buckets(0.05, 2.0, 12),
            )?,
        })
    }

    pub(super) fn position(&self, writer: &Writer) {
        self.position.set(writer.next());
    }
}

/// `lag`: events in the log that the indexer has not taken.
pub(crate) fn families(stats: &Stats, lag: u64) -> Vec<Family> {
    vec![
        Family::gauge("indexer_lag_events", "Events in the log that are not in the store yet.", lag),
        Family::gauge("store_events", "Events in the store.", stats.events),
        Family::gauge("store_size_bytes", "Bytes of the store on disk.", stats.bytes),
        Family::gauge("store_indexes", "Indexes of the store.", stats.indexes),
        Family::gauge(
            "store_suspect_indexes",
            "Indexes that failed a search, left out until they were read in full.",
            stats.suspect,
        ),
        Family::counter("store_indexed_events_total", "Events that were indexed in full.", stats.indexed),
        Family::counter(
            "store_unreadable_events_total",
            "Events that could not be decoded, kept with the reason.",
            stats.unreadable,
        ),
        Family::counter(
            "store_partly_indexed_events_total",
            "Events whose data could not be indexed in full.",
            stats.partly,
        ),
        Family::counter(
            "store_damaged_indexes_total",
            "Indexes that were put aside because they were damaged.",
            stats.damaged,
        ),
        Family::counter("store_dropped_indexes_total", "Indexes that retention dropped.", stats.dropped),
    ]
}
