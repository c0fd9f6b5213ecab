//! From the log to the store: a reader with a cursor that the store keeps.
//!
//! Events wait for a commit no longer than they must: when the log has nothing more the commit comes at once, but not
//! more often than every [`PACE`]; under load it gathers up to [`MAX_PENDING`] events or [`MAX_WAIT`]. With nothing to
//! index nothing wakes up, but for retention. An error of either side ends the task; the supervisor starts it again,
//! and it goes on from what the store has. Acknowledgements never wait for it.

mod metrics;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use galen_log::{Chunk, Log};
use galen_proto::v1::QuarantineReason;
use galen_runtime::{Backoff, BoxError, Supervisor};
use galen_store::{Store, Writer};
use tokio::{task::spawn_blocking, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use metrics::Metrics;
pub(crate) use metrics::families;

use crate::{ingest::now_unix_nanos, nodes::Nodes};

/// Events that are taken from the log at a time.
const CHUNK: usize = 2048;
/// Commits are at least this far apart.
const PACE: Duration = Duration::from_millis(200);
/// Longest that an event waits for a commit.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// Most events that wait for a commit.
const MAX_PENDING: u64 = 20_000;
/// How often the store looks whether something is to be dropped: while it grows, and while it does not.
const RETAIN_EVERY: Duration = Duration::from_secs(30);
const RETAIN_IDLE: Duration = Duration::from_secs(60);

/// Starts the indexer under `supervisor`.
pub fn start(supervisor: &Supervisor, log: Arc<dyn Log>, store: Store, nodes: Arc<Nodes>, metrics: Metrics) {
    let shutdown = supervisor.token();
    let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    supervisor.spawn_restarting("indexer", backoff, move || {
        let (log, store, nodes) = (Arc::clone(&log), store.clone(), Arc::clone(&nodes));
        let (metrics, shutdown) = (metrics.clone(), shutdown.clone());
        async move { run(log, store, nodes, metrics, shutdown).await }
    });
}

async fn run(
    log: Arc<dyn Log>,
    store: Store,
    nodes: Arc<Nodes>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), BoxError> {
    let next = log.bounds().next;
    let (writer, unreadable) = spawn_blocking(move || (store.writer(next), store.unreadable())).await?;
    match unreadable {
        // What was added before and not committed will be added, and counted, again.
        Ok(unreadable) => nodes.set_quarantined(QuarantineReason::Undecodable, &unreadable),
        Err(error) => warn!(%error, "events that cannot be decoded are counted from here on only"),
    }
    let mut indexer = Indexer {
        writer: writer?,
        nodes,
        metrics,
        oldest_waits_since: None,
        oldest_received: None,
        committed: Instant::now(),
        retained: Instant::now(),
    };
    indexer.metrics.position(&indexer.writer);
    let mut reader = log.reader(indexer.writer.next());
    loop {
        let due = indexer.due(log.bounds().next);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return indexer.close().await,
            () = tokio::time::sleep_until(due), if indexer.writer.pending() > 0 => indexer = indexer.commit().await?,
            chunk = reader.next(CHUNK) => indexer = indexer.take(chunk?).await?,
            () = tokio::time::sleep_until(indexer.retained + RETAIN_IDLE) => indexer = indexer.retain().await?,
        }
    }
}

struct Indexer {
    writer: Writer,
    nodes: Arc<Nodes>,
    metrics: Metrics,
    oldest_waits_since: Option<Instant>,
    /// The oldest receipt, by the wall clock, of what waits for a commit.
    oldest_received: Option<i64>,
    committed: Instant,
    retained: Instant,
}

impl Indexer {
    /// When the next commit is due, if anything waits for one.
    fn due(&self, log_next: u64) -> Instant {
        let oldest = self.oldest_waits_since.unwrap_or_else(Instant::now);
        if self.writer.pending() >= MAX_PENDING {
            oldest
        } else if self.writer.next() >= log_next {
            self.committed + PACE
        } else {
            oldest + MAX_WAIT
        }
    }

    async fn take(mut self, chunk: Chunk) -> Result<Self, BoxError> {
        self.oldest_waits_since.get_or_insert_with(Instant::now);
        for skipped in &chunk.skipped {
            let events = skipped.next.saturating_sub(skipped.first);
            warn!(first = skipped.first, next = skipped.next, reason = ?skipped.reason, "events left the log unread");
            self.metrics.skipped.inc_by(events);
        }
        let received = chunk.entries.iter().map(|entry| entry.record.received_unix_nanos);
        self.oldest_received = self.oldest_received.into_iter().chain(received).min();
        self.blocking(move |indexer| {
            for entry in &chunk.entries {
                let unreadable = indexer.writer.add(entry.offset, &entry.record)?;
                if unreadable > 0 {
                    indexer.nodes.quarantine(&entry.record.node, QuarantineReason::Undecodable, unreadable);
                }
            }
            indexer.writer.skip_to(chunk.next);
            indexer.metrics.position(&indexer.writer);
            Ok(())
        })
        .await
    }

    async fn commit(self) -> Result<Self, BoxError> {
        let indexer = self
            .blocking(|indexer| {
                let _timer = indexer.metrics.commit_seconds.start_timer();
                indexer.metrics.commits.inc();
                indexer.writer.commit()
            })
            .await?;
        if let Some(received) = indexer.oldest_received {
            // The wall clock may have gone back.
            let waited = now_unix_nanos().saturating_sub(received).max(0);
            indexer.metrics.searchable_seconds.observe(Duration::from_nanos(waited.unsigned_abs()).as_secs_f64());
        }
        let indexer = Self { oldest_waits_since: None, oldest_received: None, committed: Instant::now(), ..indexer };
        if indexer.retained.elapsed() < RETAIN_EVERY { Ok(indexer) } else { indexer.retain().await }
    }

    async fn retain(self) -> Result<Self, BoxError> {
        let indexer = self.blocking(|indexer| indexer.writer.retain(now_unix_nanos())).await?;
        Ok(Self { retained: Instant::now(), ..indexer })
    }

    async fn close(self) -> Result<(), BoxError> {
        Ok(spawn_blocking(move || self.writer.close_clean()).await??)
    }

    /// Does something that takes the disk, on a thread for that.
    async fn blocking(
        mut self,
        work: impl FnOnce(&mut Self) -> Result<(), galen_store::Error> + Send + 'static,
    ) -> Result<Self, BoxError> {
        let (indexer, result) = spawn_blocking(move || {
            let result = work(&mut self);
            (self, result)
        })
        .await?;
        result?;
        Ok(indexer)
    }
}

/// A position that others look at.
#[derive(Debug, Clone, Default)]
pub struct Position(Arc<AtomicU64>);

impl Position {
    fn set(&self, next: u64) {
        self.0.store(next, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
