//! From the log to OpenSearch: the task that feeds it, and its figures.
//!
//! With Kafka, the replicas share the work as one group; each follows the embedded log alone otherwise.
//!
//! The task ends when the sink is halted, and is started again with its settings' files read anew, so a password or a
//! certificate that was replaced is taken. Acknowledgements never wait for it.
//!
//! What was put aside in OpenSearch, by whichever replica, is told to the ledger.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use galen_kafka::{FreshFirst, Lag, Link};
use galen_log::{Consumer, Cursor, Log};
use galen_opensearch::{Archive, Counters, Indexer, Settings, Stats};
use galen_proto::v1::QuarantineReason;
use galen_runtime::{Backoff, BoxError, Chain, OnEnd, Supervisor};
use tokio::{task::spawn_blocking, time::sleep};

use crate::{metrics::Family, nodes::Nodes};

/// In the data directory: where OpenSearch is in the log.
pub(crate) const CURSOR_FILE: &str = "opensearch.cursor";

/// The name of the group that shares the work.
const GROUP: &str = "opensearch";

/// How often it is looked what was put aside.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where the events come from.
#[derive(Clone)]
pub(crate) enum Source {
    /// With the file that keeps the place in it.
    Log(Arc<dyn Log>, PathBuf),
    Kafka(Box<galen_kafka::Settings>, Link, Lag),
}

impl Source {
    /// # Errors
    /// Settings that Kafka's client refuses.
    pub(crate) fn kafka(
        settings: &galen_kafka::Settings,
        link: &Link,
        supervisor: &Supervisor,
    ) -> Result<Self, galen_kafka::Error> {
        let lag = Lag::follow(settings, link, GROUP, supervisor)?;
        Ok(Self::Kafka(Box::new(settings.clone()), link.clone(), lag))
    }

    fn consumer(self) -> Result<Box<dyn Consumer>, BoxError> {
        Ok(match self {
            Self::Log(log, cursor) => Box::new(Cursor::open(log, cursor)?),
            Self::Kafka(settings, link, lag) => Box::new(FreshFirst::join(&settings, &link, GROUP)?.with_lag(lag)),
        })
    }
}

/// Starts the task under `supervisor`.
pub(crate) fn start(supervisor: &Supervisor, source: Source, settings: Settings, counters: Arc<Counters>) {
    let shutdown = supervisor.token();
    let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    supervisor.spawn_restarting("opensearch", backoff, move || {
        let (source, shutdown) = (source.clone(), shutdown.clone());
        let (settings, counters) = (settings.clone(), Arc::clone(&counters));
        async move {
            let opened = spawn_blocking(move || {
                let indexer = Indexer::new(settings, counters)?;
                Ok::<_, BoxError>((indexer, source.consumer()?))
            });
            let (indexer, mut consumer) = opened.await??;
            Ok(indexer.run(&mut *consumer, shutdown).await?)
        }
    });
}

/// Keeps the ledger up to date with what was put aside.
pub(crate) fn start_ledger(supervisor: &Supervisor, archive: Archive, nodes: Arc<Nodes>) {
    let shutdown = supervisor.token();
    supervisor.spawn("opensearch-ledger", OnEnd::Ignore, async move {
        let look = async {
            loop {
                match archive.aside().await {
                    Ok(aside) => {
                        nodes.set_quarantined(QuarantineReason::Undecodable, &aside.undecodable);
                        nodes.set_quarantined(QuarantineReason::Refused, &aside.refused);
                    }
                    Err(error) => tracing::debug!(error = %Chain(&error), "what was put aside is not known"),
                }
                sleep(LOOK_EVERY).await;
            }
        };
        shutdown.run_until_cancelled(look).await;
        Ok(())
    });
}

pub(crate) fn families(stats: &Stats) -> Vec<Family> {
    let mut quarantined = BTreeMap::new();
    for ((_, reason), count) in &stats.poisoned {
        *quarantined.entry(vec![(*reason).to_owned()]).or_default() += count;
    }
    vec![
        Family::gauge(
            "opensearch_available",
            "1 while OpenSearch takes events, 0 while it does not.",
            u64::from(stats.problem.is_none()),
        ),
        Family::gauge(
            "opensearch_halted",
            "1 while the sink stands until somebody repairs something.",
            u64::from(stats.halted),
        ),
        Family::gauge(
            "opensearch_lag_events",
            "Events in the log that are not in OpenSearch yet; with Kafka, those of all replicas.",
            stats.lag,
        ),
        Family::counter("opensearch_indexed_events_total", "Events that were indexed in full.", stats.events),
        Family::counter(
            "opensearch_partly_indexed_events_total",
            "Events whose data could not be indexed in full.",
            stats.partly,
        ),
        Family::counter(
            "opensearch_unreadable_events_total",
            "Events that could not be decoded, kept with the reason.",
            stats.unreadable,
        ),
        Family::counters(
            "opensearch_quarantined_events_total",
            "Events that OpenSearch refused and that went to the dead letters, by reason.",
            &["reason"],
            quarantined,
        ),
        Family::counter(
            "opensearch_skipped_events_total",
            "Events that had left the log, or were damaged there, before they were indexed.",
            stats.skipped,
        ),
        Family::counter(
            "opensearch_duplicate_documents_total",
            "Documents that were there already when they came.",
            stats.duplicates,
        ),
        Family::counter("opensearch_repeated_documents_total", "Documents that were sent again.", stats.repeated),
        Family::counter("opensearch_bulk_requests_total", "Requests that send documents.", stats.requests),
        Family::counter(
            "opensearch_failed_requests_total",
            "Requests that failed, or were put off, in whole or in part.",
            stats.failures,
        ),
        Family::counter("opensearch_dropped_indexes_total", "Indices that retention deleted.", stats.dropped),
    ]
}
