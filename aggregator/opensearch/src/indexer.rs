//! From a consumer of the log into OpenSearch.
//!
//! Deliveries are written side by side, as many as the pace allows, and committed in the order in which they were
//! taken: a place stands for everything before it. Whatever ends the indexer, what was not committed comes again, and
//! finds its documents there.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesOrdered};
use galen_log::{Consumer, Delivery, Place};
use galen_runtime::{Backoff, Chain};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Counters, Settings,
    error::{Class, Error},
    retention, template,
    writer::Writer,
};

/// How often templates and retention are looked after.
const MAINTENANCE: Duration = Duration::from_secs(600);
/// How often the lag is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longest wait for a cluster that does not answer at the start.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Feeds OpenSearch.
#[derive(Debug)]
pub struct Indexer {
    settings: Settings,
    writer: Writer,
}

impl Indexer {
    /// # Errors
    /// If a file that the settings name cannot be used.
    pub fn new(settings: Settings, counters: Arc<Counters>) -> Result<Self, Error> {
        let writer = Writer::new(&settings, counters)?;
        Ok(Self { settings, writer })
    }

    /// Writes what the consumer gives, until `shutdown`.
    ///
    /// # Errors
    /// If the sink is halted, or the log cannot be read: begin again, after a while.
    pub async fn run(&self, consumer: &mut dyn Consumer, shutdown: CancellationToken) -> Result<(), Error> {
        let prepared = async {
            tokio::select! {
                prepared = self.prepare() => prepared,
                never = self.look(&mut *consumer) => match never {},
            }
        };
        match shutdown.run_until_cancelled(prepared).await {
            Some(prepared) => prepared?,
            None => return Ok(()),
        }
        let mut underway = FuturesOrdered::new();
        let mut maintained = Instant::now();
        loop {
            self.writer.counters.lag.store(consumer.lag(), Ordering::Relaxed);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                Some(done) = underway.next() => {
                    let place: Place = done?;
                    consumer.commit(&place).await?;
                }
                delivery = consumer.next(self.writer.pace.events()), if underway.len() <= self.writer.pace.requests() => {
                    underway.push_back(self.deliver(delivery?));
                }
                // While nothing moves, the lag grows all the same.
                () = sleep(LOOK_EVERY) => {}
                () = sleep_until(maintained + MAINTENANCE) => {
                    maintained = Instant::now();
                    if let Err(error) = self.maintain().await {
                        warn!(error = %Chain(&error), "templates and old indices could not be looked after");
                    }
                }
            }
        }
    }

    /// Shows how the lag grows while nothing is taken.
    async fn look(&self, consumer: &mut dyn Consumer) -> Infallible {
        loop {
            self.writer.counters.lag.store(consumer.lag(), Ordering::Relaxed);
            sleep(LOOK_EVERY).await;
        }
    }

    /// Nothing is written to an index that was made without our template.
    async fn prepare(&self) -> Result<(), Error> {
        let mut backoff = Backoff::new(Duration::from_millis(200), LONGEST_WAIT);
        let counters = &self.writer.counters;
        while let Err(error) = self.maintain().await {
            let message = Chain(&error).to_string();
            if error.class() != Class::Retryable {
                counters.not_begun(true, message);
                return Err(error);
            }
            let wait = backoff.next();
            warn!(error = message, ?wait, "OpenSearch is not ready");
            counters.not_begun(false, message);
            sleep(wait).await;
        }
        counters.begun();
        info!(prefix = self.settings.prefix, "OpenSearch is ready");
        Ok(())
    }

    async fn maintain(&self) -> Result<(), Error> {
        template::install(&self.writer.client, &self.writer.names, &self.settings).await?;
        retention::sweep(&self.writer, self.settings.retention, OffsetDateTime::now_utc()).await
    }

    /// What was skipped is told once it is written: until then it comes again.
    async fn deliver(&self, delivery: Delivery) -> Result<Place, Error> {
        let (place, skipped) = (delivery.place.clone(), delivery.skipped.clone());
        self.writer.write(delivery).await?;
        for skipped in skipped {
            let events = skipped.next.saturating_sub(skipped.first);
            warn!(first = skipped.first, next = skipped.next, reason = ?skipped.reason, "events left the log unread");
            Counters::add(&self.writer.counters.skipped, usize::try_from(events).unwrap_or(usize::MAX));
        }
        Ok(place)
    }
}
