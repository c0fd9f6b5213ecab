//! The local record files: one folder a tracer, `records.jsonl` in it, older ones beside it as
//! `records-<UTC time>.jsonl`, and each attachment as `<run id>.<name>`.
//!
//! Bounded three ways, each a setting: a file is rotated before it grows over `max_file_bytes`; at most `max_files`
//! rotated ones are kept, and none older than `max_age`. Attachments are kept up to the same age and up to
//! `max_file_bytes × max_files` in all. Nothing is buffered in the process: a line that was written is with the kernel.
//!
//! A write that fails, on a full disk or because the directory cannot be made, is undone, so that the file stays one
//! of whole lines; then the tracer's file is disabled with one warning, and tried again after a back-off. Lines that
//! come meanwhile are counted; their events travel all the same.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use galen_buffer::Receipt;
use galen_proto::v1::{Attachment, EventId};
use galen_runtime::Backoff;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Counters, Line, line};

/// How long a line waits for the buffer's receipt.
const RECEIPT_WAIT: Duration = Duration::from_secs(5);
/// Waits before a disabled file is tried again.
const RETRY_BASE: Duration = Duration::from_secs(10);
const RETRY_CAP: Duration = Duration::from_secs(600);
const CURRENT: &str = "records.jsonl";
const ROTATED_PREFIX: &str = "records-";
const ROTATED_SUFFIX: &str = ".jsonl";
const ROTATED_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:9]Z");

/// How much the record files of one tracer may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_file_bytes: u64,
    pub max_files: usize,
    pub max_age: Duration,
}

/// The record files of all tracers.
pub struct Files {
    dir: PathBuf,
    limits: Limits,
    disabled: HashMap<String, Disabled>,
}

struct Disabled {
    until: Instant,
    backoff: Backoff,
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Yes,
    Skipped,
    Failed,
}

/// Takes lines until `stop` is cancelled and the queue is empty, or all senders are gone.
pub(super) async fn run(
    node: String,
    mut files: Files,
    mut queue: mpsc::Receiver<Line>,
    counters: Arc<Counters>,
    stop: CancellationToken,
) {
    loop {
        let line = tokio::select! {
            biased;
            line = queue.recv() => line,
            () = stop.cancelled() => queue.try_recv().ok(),
        };
        let Some(Line { event, receipt, queued, room: _room }) = line else { return };
        let id = identity(&node, receipt, queued).await;
        let node = node.clone();
        // A disk may hang: the runtime's own thread must not.
        let write = move || {
            let written = match line::write(&node, &event, id.as_deref().map(str::to_owned).map_err(String::as_str)) {
                Ok(text) => files.append(&event.tracer, &event.run_id, &text, &event.attachments, Instant::now()),
                Err(error) => {
                    tracing::warn!(%error, tracer = event.tracer, "failed to write a record as JSON");
                    Written::Failed
                }
            };
            (files, written)
        };
        let Ok((returned, written)) = tokio::task::spawn_blocking(write).await else { return };
        files = returned;
        let counter = match written {
            Written::Yes => &counters.lines_written,
            Written::Skipped => &counters.lines_skipped,
            Written::Failed => &counters.failures,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The event's identity, or why there is none.
async fn identity(node: &str, receipt: Receipt, queued: tokio::time::Instant) -> Result<String, String> {
    match tokio::time::timeout_at(queued + RECEIPT_WAIT, receipt).await {
        Ok(Ok(position)) => Ok(EventId { node: node.into(), epoch: position.epoch, seq: position.seq }.to_string()),
        Ok(Err(rejected)) => Err(rejected.to_string()),
        Err(_) => Err(format!("the buffer did not answer within {} s", RECEIPT_WAIT.as_secs())),
    }
}

impl Files {
    /// Nothing is opened before the first record.
    pub fn new(dir: impl Into<PathBuf>, limits: Limits) -> Self {
        Self { dir: dir.into(), limits, disabled: HashMap::new() }
    }

    fn append(&mut self, tracer: &str, run: &str, text: &[u8], attachments: &[Attachment], now: Instant) -> Written {
        if self.disabled.get(tracer).is_some_and(|disabled| now < disabled.until) {
            return Written::Skipped;
        }
        let dir = self.dir.join(tracer);
        match write_record(&dir, run, text, attachments, &self.limits) {
            Ok(()) => {
                if self.disabled.remove(tracer).is_some() {
                    tracing::info!(dir = %dir.display(), "record file is written again");
                }
                Written::Yes
            }
            Err(error) => {
                let first = !self.disabled.contains_key(tracer);
                let disabled = self
                    .disabled
                    .entry(tracer.into())
                    .or_insert_with(|| Disabled { until: now, backoff: Backoff::new(RETRY_BASE, RETRY_CAP) });
                disabled.until = now + disabled.backoff.next();
                if first {
                    tracing::warn!(%error, dir = %dir.display(), "record file is disabled for now; events still travel");
                }
                Written::Failed
            }
        }
    }
}

fn write_record(dir: &Path, run: &str, text: &[u8], attachments: &[Attachment], limits: &Limits) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    // Attachments first, so that no line names a file that is not there.
    for attachment in attachments {
        let path = dir.join(line::file_name(run, &attachment.name));
        fs::write(&path, &attachment.content).inspect_err(|_| {
            // Half of a profile is of no use.
            let _ = fs::remove_file(&path);
        })?;
    }
    let current = dir.join(CURRENT);
    let open = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
    let mut file = open(&current)?;
    let mut length = file.metadata()?.len();
    if length > 0 && length + text.len() as u64 > limits.max_file_bytes {
        fs::rename(&current, dir.join(rotated_name()))?;
        file = open(&current)?;
        length = 0;
    }
    write_whole(&mut file, length, text)?;
    prune(dir, limits)
}

/// All of `text` or nothing.
fn write_whole(file: &mut File, length: u64, text: &[u8]) -> io::Result<()> {
    file.write_all(text).inspect_err(|_| {
        if let Err(error) = file.set_len(length) {
            tracing::warn!(%error, "failed to cut half of a line off a record file");
        }
    })
}

fn rotated_name() -> String {
    let time = OffsetDateTime::from(SystemTime::now()).format(ROTATED_TIME).unwrap_or_default();
    format!("{ROTATED_PREFIX}{time}{ROTATED_SUFFIX}")
}

/// Removes what is over a limit. Newest are kept.
fn prune(dir: &Path, limits: &Limits) -> io::Result<()> {
    let (mut rotated, mut attachments) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (name, metadata) = (entry.file_name(), entry.metadata()?);
        let name = name.to_string_lossy();
        if name == CURRENT || !metadata.is_file() {
            continue;
        }
        let list = if name.starts_with(ROTATED_PREFIX) { &mut rotated } else { &mut attachments };
        list.push((metadata.modified()?, metadata.len(), entry.path()));
    }
    let oldest = SystemTime::now().checked_sub(limits.max_age).unwrap_or(SystemTime::UNIX_EPOCH);
    let attachment_bytes = limits.max_file_bytes.saturating_mul(limits.max_files as u64);
    keep(rotated, oldest, limits.max_files, u64::MAX)?;
    keep(attachments, oldest, usize::MAX, attachment_bytes)
}

fn keep(mut files: Vec<(SystemTime, u64, PathBuf)>, oldest: SystemTime, count: usize, bytes: u64) -> io::Result<()> {
    files.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| b.2.cmp(&a.2)));
    let mut held = 0u64;
    for (index, (modified, length, path)) in files.into_iter().enumerate() {
        held = held.saturating_add(length);
        if modified < oldest || index >= count || held > bytes {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
