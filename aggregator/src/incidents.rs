//! Incidents: a reader of the log that joins events into them, and answers about them.
//!
//! The reader keeps its place in the log and the incidents in one file ([`FILE`]), which it replaces as a whole; what it
//! did not write yet is counted again from the log when it begins, and that is when the task is started again after an
//! error, too. So counts are exact whatever happens ([`galen_incidents`]). A disk that refuses the file is told and
//! tried again: the incidents go on. Acknowledgements never wait for it.

mod answers;
mod config;
mod metrics;
mod service;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use galen_incidents::{Kept, Limits, Seen, save};
use galen_log::{Chunk, Log};
use galen_runtime::{Backoff, BoxError, Chain};
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Semaphore,
    task::{block_in_place, spawn_blocking},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use answers::Change;
pub use config::Config;
pub(crate) use metrics::{Figures, families};
pub use service::Service;

use crate::{Error, Parts, Settings};

/// In the data directory: the incidents, and where their reader is in the log.
pub const FILE: &str = "incidents";
/// Events that are taken from the log at a time.
const CHUNK: usize = 2048;
/// The file is written no more often, and so seldom that writing takes a twentieth of the time at most.
const SAVE_EVERY: Duration = Duration::from_secs(5);
const SAVE_SHARE: u32 = 20;
/// Most who follow at a time.
const MAX_FOLLOWERS: usize = 64;

/// Clones share it.
#[derive(Clone)]
pub struct Incidents(Arc<Shared>);

struct Shared {
    kept: Mutex<Kept>,
    limits: Limits,
    path: PathBuf,
    log: Arc<dyn Log>,
    followers: Arc<Semaphore>,
    is_enabled: bool,
    failed_saves: AtomicU64,
}

/// What was counted before, and up to where.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn open(settings: &Settings) -> Result<Kept, Error> {
    Ok(Kept::open(&settings.data_dir.join(FILE), settings.incidents)?)
}

impl Incidents {
    pub(crate) fn new(settings: &Settings, kept: Kept, log: Arc<dyn Log>) -> Self {
        Self(Arc::new(Shared {
            kept: Mutex::new(kept),
            limits: settings.incidents,
            path: settings.data_dir.join(FILE),
            log,
            followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)),
            is_enabled: settings.join,
            failed_saves: AtomicU64::new(0),
        }))
    }

    /// Begins to read the log, unless nothing is to.
    ///
    /// # Errors
    /// A name of a metric is taken.
    pub(crate) fn start(&self, parts: &Parts) -> Result<(), Error> {
        let sampled = self.clone();
        parts.registry.sampled(move || families(&sampled.figures()))?;
        if !self.0.is_enabled || !parts.settings.index {
            return Ok(());
        }
        let (shared, shutdown) = (Arc::clone(&self.0), parts.supervisor.token());
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        parts.supervisor.spawn_restarting("incidents", backoff, move || {
            let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
            async move { run(shared, shutdown).await }
        });
        Ok(())
    }
}

async fn run(shared: Arc<Shared>, shutdown: CancellationToken) -> Result<(), BoxError> {
    let begun = Arc::clone(&shared);
    let next = spawn_blocking(move || begun.begin()).await??;
    let mut reader = shared.log.reader(next);
    let mut saved = next;
    let mut due = Instant::now();
    loop {
        let is_due = shared.kept().next() != saved;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {
                if is_due {
                    spawn_blocking(move || shared.save()).await?;
                }
                return Ok(());
            }
            () = sleep_until(due), if is_due => {
                let (began, saver) = (Instant::now(), Arc::clone(&shared));
                saved = spawn_blocking(move || saver.save()).await?;
                due = Instant::now() + SAVE_EVERY.max(began.elapsed() * SAVE_SHARE);
            }
            chunk = reader.next(CHUNK) => {
                let (chunk, taker) = (chunk?, Arc::clone(&shared));
                spawn_blocking(move || taker.take(&chunk)).await?;
            }
        }
    }
}

impl Shared {
    /// While a chunk is counted, or all of it is encoded, it is not to be had for milliseconds: what else this thread has
    /// to do, such as acknowledgements, goes on elsewhere then.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.try_lock().unwrap_or_else(|| match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => block_in_place(|| self.kept.lock()),
            _ => self.kept.lock(),
        })
    }

    /// From the file, whatever is in memory: a task that ended may have been in the middle of something.
    fn begin(&self) -> Result<u64, galen_incidents::Error> {
        let kept = Kept::open(&self.path, self.limits)?;
        let next = kept.next();
        *self.kept() = kept;
        Ok(next)
    }

    fn take(&self, chunk: &Chunk) {
        for skipped in &chunk.skipped {
            warn!(first = skipped.first, next = skipped.next, reason = ?skipped.reason, "events left the log uncounted");
        }
        let seen = Seen::of(chunk);
        self.kept().take(&seen);
    }

    /// Returns what is in the file, or would be if the disk had taken it: it is tried again with the next change.
    fn save(&self) -> u64 {
        let (encoded, next) = {
            let kept = self.kept();
            (kept.encoded(), kept.next())
        };
        if let Err(error) = save(&self.path, &encoded) {
            self.failed_saves.fetch_add(1, Ordering::Relaxed);
            warn!(error = %Chain(&error), "incidents were not saved: after a crash they are counted again from further back");
        }
        next
    }
}
