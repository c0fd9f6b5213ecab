//! From what a tracer saw to an event in the buffer and a line in the tracer's local file.
//!
//! [`Recorder::record`] never blocks and never waits for a disk: the event goes into the buffer's queue, the line into
//! the queue of the [file task](files). If the queue of lines is full, because the disk of the record files is slower
//! than the events, the line is dropped and counted; the event still travels. What the buffer refuses is in its own
//! loss counters, and the line then says why it has no id.

mod files;
mod line;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use galen_buffer::{Buffer, LossReasonCode, Receipt};
use galen_proto::v1::{self, Attachment, Container, EventKind, LossReason, Severity};
use prost::Message;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub use files::{Files, Limits};

use crate::clock::{Clock, Moment};

/// Lines that may wait for the file task, and the bytes of their events and evidence: room for a storm of triggers, or
/// for some captures.
const LINES: usize = 4096;
const LINE_BYTES: usize = 8 << 20;

/// Joins the records of one run of a tracer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId(uuid::Uuid);

impl RunId {
    #[allow(clippy::new_without_default, reason = "each is another one, so there is no default")]
    pub fn new() -> Self {
        Self(uuid::Uuid::now_v7())
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// What a tracer has to say.
#[derive(Debug, Clone)]
pub struct Record<D> {
    pub run: RunId,
    pub kind: EventKind,
    pub severity: Severity,
    /// One line for people.
    pub summary: String,
    /// One sentence for people: the rule that was met, the values and the thresholds. Empty where no rule decided.
    pub explanation: String,
    /// Whom it concerns; `None` for the whole host.
    pub container: Option<Container>,
    /// When it was seen.
    pub observed: Moment,
    /// Serialises to a JSON object.
    pub data: D,
    pub attachments: Vec<Attachment>,
}

/// Why a record did not become an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("failed to write the data of a record as JSON")]
    Data(#[source] serde_json::Error),
}

/// What became of lines, counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub lines_written: u64,
    /// Dropped because the queue of lines was full.
    pub lines_dropped: u64,
    /// Not written because the file was disabled.
    pub lines_skipped: u64,
    /// Writes that failed, each of which disabled a file for a while.
    pub failures: u64,
}

#[derive(Debug, Default)]
struct Counters {
    lines_written: AtomicU64,
    lines_dropped: AtomicU64,
    lines_skipped: AtomicU64,
    failures: AtomicU64,
}

/// Turns records into events. Clones are the same recorder.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    host: v1::Host,
    clock: Clock,
    buffer: Buffer,
    lines: mpsc::Sender<Line>,
    /// Bytes of lines.
    room: Arc<Semaphore>,
    counters: Arc<Counters>,
}

/// An event on its way to the local file.
struct Line {
    event: v1::Event,
    receipt: Receipt,
    queued: tokio::time::Instant,
    room: OwnedSemaphorePermit,
}

impl Recorder {
    /// The recorder, and the task that writes the local files: it ends when `stop` is cancelled and every line that
    /// was queued before is written.
    pub fn new(
        node: String,
        host: v1::Host,
        clock: Clock,
        buffer: Buffer,
        files: Files,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (lines, queue) = mpsc::channel(LINES);
        let counters = Arc::new(Counters::default());
        let task = files::run(node, files, queue, Arc::clone(&counters), stop);
        let room = Arc::new(Semaphore::new(LINE_BYTES));
        (Self { shared: Arc::new(Shared { host, clock, buffer, lines, room, counters }) }, task)
    }

    pub fn record<D: Serialize>(&self, tracer: &str, record: Record<D>) -> Result<(), Error> {
        let shared = &self.shared;
        let data = serde_json::to_vec(&record.data).map_err(|error| {
            self.leave_out(LossReason::BadData, tracer);
            Error::Data(error)
        })?;
        let event = v1::Event {
            id: None,
            tracer: tracer.into(),
            run_id: record.run.to_string(),
            kind: record.kind.into(),
            severity: record.severity.into(),
            summary: record.summary,
            times: Some(v1::Times {
                observed_boot_nanos: record.observed.boot_nanos(),
                observed_unix_nanos: record.observed.unix_nanos,
                recorded_unix_nanos: shared.clock.now().unix_nanos,
            }),
            host: Some(shared.host.clone()),
            container: record.container,
            data: Bytes::from(data),
            attachments: record.attachments,
            explanation: record.explanation,
        };
        tracing::info!(tracer, run = event.run_id, summary = event.summary, "recorded");
        let encoded = event.encode_to_vec();
        // One that is larger than all of the room may wait alone.
        let bytes = u32::try_from(encoded.len().min(LINE_BYTES)).unwrap_or(u32::MAX);
        let receipt = shared.buffer.append(encoded.into());
        let room = Arc::clone(&shared.room).try_acquire_many_owned(bytes);
        let line = room.map(|room| Line { event, receipt, queued: tokio::time::Instant::now(), room });
        if !line.is_ok_and(|line| shared.lines.try_send(line).is_ok()) {
            shared.counters.lines_dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes note of an observation that is not told: it counts as observed, and under `reason`.
    pub fn leave_out(&self, reason: LossReason, tracer: &str) {
        self.shared.buffer.leave_out(LossReasonCode(reason.into()), tracer);
    }

    /// Counts what was no observation yet: samples, kernel records, captures.
    pub fn count_loss(&self, reason: LossReason, tracer: &str, count: u64) {
        self.shared.buffer.count_loss(LossReasonCode(reason.into()), tracer, count);
    }

    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        Stats {
            lines_written: counters.lines_written.load(Ordering::Relaxed),
            lines_dropped: counters.lines_dropped.load(Ordering::Relaxed),
            lines_skipped: counters.lines_skipped.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use galen_proto::Term;

    use super::*;

    #[test]
    fn the_buffer_and_the_contract_agree_on_what_is_an_observation() {
        let known = (0..100).filter_map(|number| LossReason::try_from(number).ok());
        for reason in known {
            let counts = LossReasonCode(reason.into()).counts_observations();
            assert_eq!(counts, reason.term() != Term::Unseen, "{reason:?}");
        }
    }
}
