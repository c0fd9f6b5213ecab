//! What became of a session's batches, from the log's thread to the session.
//!
//! Not a channel: the thread must never wait for a session, so what is new replaces what was not fetched yet. Progress
//! is cumulative, so nothing is lost by that. Holds one entry for each queue of the session.

use galen_proto::v1::Progress;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ingest::Rejected;

/// One session's box.
#[derive(Debug, Default)]
pub struct Receipts {
    settled: Mutex<Settled>,
    news: Notify,
}

/// What happened since the box was last emptied.
#[derive(Debug, Default)]
pub struct Settled {
    /// Latest progress of each queue that a batch was settled of.
    pub progress: Vec<Progress>,
    /// Size of these batches.
    pub bytes: u64,
    /// Their number.
    pub batches: u64,
    /// Nothing more of this session is taken.
    pub rejected: Option<Rejected>,
}

impl Receipts {
    /// Waits until there is something.
    pub async fn wait(&self) {
        while self.settled.lock().is_empty() {
            self.news.notified().await;
        }
    }

    /// Empties the box.
    pub fn take(&self) -> Settled {
        std::mem::take(&mut *self.settled.lock())
    }

    pub(crate) fn settle(&self, progress: Progress, bytes: u64) {
        let mut settled = self.settled.lock();
        settled.bytes += bytes;
        settled.batches += 1;
        match settled.progress.iter_mut().find(|known| known.epoch == progress.epoch) {
            Some(known) => *known = progress,
            None => settled.progress.push(progress),
        }
        drop(settled);
        self.news.notify_one();
    }

    pub(crate) fn reject(&self, why: Rejected) {
        self.settled.lock().rejected.get_or_insert(why);
        self.news.notify_one();
    }

    /// Whether an earlier batch of the session was refused: what follows it must not be taken.
    pub(crate) fn is_rejected(&self) -> bool {
        self.settled.lock().rejected.is_some()
    }
}

impl Settled {
    fn is_empty(&self) -> bool {
        self.progress.is_empty() && self.rejected.is_none()
    }
}
