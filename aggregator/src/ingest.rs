//! From the sessions to the log: exact deduplication and group commit.
//!
//! One thread owns the watermarks and the log's writer. It takes all that is queued, leaves out what is settled,
//! appends the rest with one write and one sync, and only then tells the sessions. While the disk is busy the next
//! group gathers, so the group grows with the load.
//!
//! - Limits, where they are set: an event that is new and over the limit is declared left out in the same record, so
//!   that its count is as durable as the events, and acknowledged as they are. Losses and counters always pass.
//! - Queue: bounded in requests ([`QUEUE`]) and in bytes; when it is full the sessions wait, and stop reading.
//! - The disk refuses: everything in the group, and what comes until the log is open again, is refused as unavailable;
//!   the log is reopened with back-off, and the watermarks are rebuilt from what is durable.

mod available;
mod limits;
mod metrics;
mod owner;
mod receipts;
mod worker;

use std::{sync::Arc, time::Instant};

use galen_proto::v1::{Batch, Progress, Queue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

pub use available::Available;
pub use limits::Limits;
pub(crate) use limits::families as limits_families;
pub use metrics::Metrics;
pub use receipts::{Receipts, Settled};
pub use worker::{Worker, now_unix_nanos};

/// Requests that may wait.
const QUEUE: usize = 4096;

/// Why something was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error(transparent)]
    Refused(#[from] galen_log::Refused),
    #[error("the log takes nothing now")]
    Unavailable,
}

/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum Request {
    Announce {
        node: Arc<str>,
        queues: Vec<Queue>,
        answer: oneshot::Sender<Result<Vec<Progress>, Rejected>>,
    },
    Batch(Submission),
    /// Look whether retention is due.
    Tick,
    /// Log what was queued before, and end.
    Close,
}

/// A batch on its way into the log.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) node: Arc<str>,
    pub(crate) batch: Batch,
    pub(crate) bytes: u64,
    pub(crate) receipts: Arc<Receipts>,
    pub(crate) received: Instant,
    /// Its place in the bytes that may wait; given back when the batch is dropped.
    _place: OwnedSemaphorePermit,
}

/// Handle of the sessions.
#[derive(Debug, Clone)]
pub struct Ingest {
    requests: mpsc::Sender<Request>,
    places: Arc<Semaphore>,
    /// Bytes that may wait.
    memory: u32,
}

impl Ingest {
    /// The handle, and what its thread takes requests from. `memory`: bytes of batches that may wait.
    pub(crate) fn new(memory: u64) -> (Self, mpsc::Receiver<Request>) {
        let (requests, queue) = mpsc::channel(QUEUE);
        let memory = u32::try_from(memory).unwrap_or(u32::MAX);
        let places = Arc::new(Semaphore::new((memory as usize).min(Semaphore::MAX_PERMITS)));
        (Self { requests, places, memory }, queue)
    }

    /// What is known of the queues of a node, in their order.
    ///
    /// # Errors
    /// A queue went back, or the log takes nothing.
    pub async fn announce(&self, node: Arc<str>, queues: Vec<Queue>) -> Result<Vec<Progress>, Rejected> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Announce { node, queues, answer };
        self.requests.send(request).await.map_err(|_| Rejected::Unavailable)?;
        answered.await.map_err(|_| Rejected::Unavailable)?
    }

    /// Queues a batch of `bytes` encoded bytes; waits while too much is queued. What becomes of it is told to
    /// `receipts`.
    ///
    /// # Errors
    /// The log takes nothing.
    pub async fn submit(
        self,
        node: Arc<str>,
        batch: Batch,
        bytes: u64,
        receipts: Arc<Receipts>,
    ) -> Result<(), Rejected> {
        let received = Instant::now();
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.memory);
        let place = Arc::clone(&self.places).acquire_many_owned(permits).await.map_err(|_| Rejected::Unavailable)?;
        let submission = Submission { node, batch, bytes, receipts, received, _place: place };
        self.requests.send(Request::Batch(submission)).await.map_err(|_| Rejected::Unavailable)
    }

    pub(crate) async fn tick(&self) {
        // The thread has ended: so will the process.
        let _ = self.requests.send(Request::Tick).await;
    }

    pub(crate) async fn close(&self) {
        let _ = self.requests.send(Request::Close).await;
    }

    /// Bytes of batches that wait.
    pub fn waiting_bytes(&self) -> u64 {
        u64::from(self.memory).saturating_sub(self.places.available_permits() as u64)
    }
}
