//! The queue between those who append and the writer: bounded by events and by bytes; full, it rejects at once.
//!
//! It carries the writer's other wake-ups as well: something to persist, and the end. A writer with nothing to do blocks
//! here without a timer.
//!
//! Here, too, is the count of what comes in, made before anything is done with it, and of what of that still waits to
//! be numbered or counted. Nothing else is derived from it, so it can be compared with what became of it.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{EventPosition, Rejected, Settings};

/// Most events that share one sync, and most bytes of them. Larger groups are faster still, and cost memory.
const COMMIT_EVENTS: usize = 512;
const COMMIT_BYTES: usize = 1024 * 1024;

pub(crate) type Answer = oneshot::Sender<Result<EventPosition, Rejected>>;

pub(crate) struct Entry {
    pub(crate) event: Bytes,
    pub(crate) answer: Answer,
}

#[derive(Default)]
struct Inner {
    entries: VecDeque<Entry>,
    bytes: usize,
    changed: bool,
    closing: bool,
    observed: u64,
    /// Given out to be written, and not decided.
    in_hand: u64,
    /// To be counted instead, and not counted yet.
    turned_away: u64,
}

/// What has come in since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) observed: u64,
    /// Of these, how many have neither a number nor a place in a counter yet.
    pub(crate) waiting: u64,
    /// Of these, how many are to have a number.
    pub(crate) queued: u64,
}

pub(crate) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
    max_bytes: usize,
    max_events: usize,
}

/// What the writer is to do.
pub(crate) struct Work {
    pub(crate) batch: Vec<Entry>,
    /// Something other than events is to be persisted in time.
    pub(crate) changed: bool,
    pub(crate) closing: bool,
}

impl Queue {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            inner: Mutex::default(),
            wake: Condvar::new(),
            max_bytes: settings.queue_bytes,
            max_events: settings.queue_events,
        }
    }

    pub(crate) fn push(&self, event: Bytes) -> Result<oneshot::Receiver<Result<EventPosition, Rejected>>, Rejected> {
        let mut inner = self.lock();
        if inner.closing {
            return Err(Rejected::Closed);
        }
        inner.observed += 1;
        // An empty queue takes any event, so that the bound in bytes refuses no size for ever.
        let too_much = inner.bytes + event.len() > self.max_bytes && !inner.entries.is_empty();
        if too_much || inner.entries.len() >= self.max_events {
            inner.turned_away += 1;
            return Err(Rejected::QueueFull);
        }
        let (answer, receipt) = oneshot::channel();
        inner.bytes += event.len();
        inner.entries.push_back(Entry { event, answer });
        let was_empty = inner.entries.len() == 1;
        drop(inner);
        if was_empty {
            self.wake.notify_one();
        }
        Ok(receipt)
    }

    /// Takes note of an observation that is to be counted and not written. Like one that is rejected, it waits for
    /// [`Self::counted`].
    pub(crate) fn turn_away(&self) -> Result<(), Rejected> {
        let mut inner = self.lock();
        if inner.closing {
            return Err(Rejected::Closed);
        }
        inner.observed += 1;
        inner.turned_away += 1;
        Ok(())
    }

    /// One that was turned away is counted. To be said under the lock of the index that it was done under.
    pub(crate) fn counted(&self) {
        let mut inner = self.lock();
        inner.turned_away = inner.turned_away.saturating_sub(1);
    }

    /// This many of those that were given out have their numbers, or are counted. To be said under the lock of the index
    /// that it was done under.
    pub(crate) fn decided(&self, n: u64) {
        let mut inner = self.lock();
        inner.in_hand = inner.in_hand.saturating_sub(n);
    }

    pub(crate) fn seen(&self) -> Seen {
        let inner = self.lock();
        let queued = inner.entries.len() as u64 + inner.in_hand;
        Seen { observed: inner.observed, waiting: queued + inner.turned_away, queued }
    }

    /// Says that there is something to persist.
    pub(crate) fn changed(&self) {
        let mut inner = self.lock();
        if !inner.changed {
            inner.changed = true;
            self.wake.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// Blocks until there is work. Events are given out from `events_after` on, a change from `changes_after` on; the end
    /// waits for neither.
    pub(crate) fn take(&self, events_after: Option<Instant>, changes_after: Option<Instant>) -> Work {
        let mut inner = self.lock();
        loop {
            let now = Instant::now();
            let due = |after: Option<Instant>| after.is_none_or(|at| at <= now);
            let events = !inner.entries.is_empty();
            let changed = inner.changed;
            if inner.closing || (events && due(events_after)) || (changed && due(changes_after)) {
                let take_events = inner.closing || due(events_after);
                let changed = changed && (inner.closing || due(changes_after));
                if changed {
                    inner.changed = false;
                }
                let batch = if take_events { inner.batch() } else { Vec::new() };
                return Work { batch, changed, closing: inner.closing };
            }
            let deadlines = [(events, events_after), (changed, changes_after)];
            let deadline = deadlines.into_iter().filter(|(any, _)| *any).filter_map(|(_, at)| at).min();
            inner = match deadline {
                None => self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let wait = at.saturating_duration_since(now);
                    let woken = self.wake.wait_timeout(inner, wait);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Takes what is left, for a writer that ends without it.
    pub(crate) fn abandon(&self) -> Vec<Entry> {
        let mut inner = self.lock();
        inner.closing = true;
        inner.bytes = 0;
        inner.entries.drain(..).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn batch(&mut self) -> Vec<Entry> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = self.entries.front() {
            let len = entry.event.len();
            if !batch.is_empty() && (batch.len() >= COMMIT_EVENTS || bytes + len > COMMIT_BYTES) {
                break;
            }
            bytes += len;
            batch.extend(self.entries.pop_front());
        }
        self.bytes -= bytes;
        self.in_hand += batch.len() as u64;
        batch
    }
}
