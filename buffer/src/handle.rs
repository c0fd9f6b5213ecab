//! The handle that the rest of the agent holds. It is cheap to clone; the last one that is dropped ends the buffer as
//! [`Buffer::close`] does, except that nobody learns of an error.

use std::{
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    Durable, Error, Loss, LossCounter, LossReasonCode, Queue, Receipt, Rejected, Settings, Stats, read, record,
    shared::Shared, writer::Writer,
};

#[derive(Clone)]
pub struct Buffer {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<Result<(), Error>>>>,
}

impl Buffer {
    /// Opens the buffer in `settings.dir`, creating it if there is none. Damage is no error: it is put aside, declared
    /// and counted. Nor is a disk that cannot be used: events are rejected and counted until it can be, which is tried
    /// again and again. Fails if another process has the buffer open. Blocks; how long does not depend on how much the
    /// buffer holds.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let shared = Arc::new(Shared::new(settings.bounded()));
        let writer = Writer::open(Arc::clone(&shared))?;
        let guarded = Arc::clone(&shared);
        let run = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| writer.run()));
            guarded.set_closed();
            drop(guarded.queue.abandon());
            outcome.unwrap_or(Err(Error::WriterGone))
        };
        let thread = thread::Builder::new().name("buffer-writer".into());
        let writer = Mutex::new(Some(thread.spawn(run).map_err(Error::Thread)?));
        Ok(Self { inner: Arc::new(Inner { shared, writer }) })
    }

    /// Takes an encoded event. Never blocks: what does not fit is rejected at once, and counted.
    pub fn append(&self, event: Bytes) -> Receipt {
        let limit = self.shared().settings.max_event_bytes.min(record::MAX_EVENT_BYTES);
        let pushed = match event.len() <= limit {
            true => self.shared().queue.push(event),
            false => self.shared().queue.turn_away().and(Err(Rejected::TooLarge)),
        };
        match pushed {
            Ok(answer) => Receipt::waiting(answer),
            Err(why) => {
                if let Some(reason) = why.reason() {
                    self.shared().count(|index| index.reject(reason, 1));
                    self.shared().queue.changed();
                }
                Receipt::rejected(why)
            }
        }
    }

    /// Takes note of an observation that becomes no event: it counts as observed, and under `reason`. No disk is woken
    /// for it: it becomes durable with what comes next.
    pub fn leave_out(&self, reason: LossReasonCode, tracer: &str) {
        if self.shared().queue.turn_away().is_ok() {
            self.shared().count(|index| index.current().counters.add(reason, tracer, 1));
        }
    }

    /// Adds to a cumulative counter of the current epoch what was no observation, such as samples. It is durable within
    /// a second or two.
    pub fn count_loss(&self, reason: LossReasonCode, tracer: &str, n: u64) {
        self.shared().index().current().counters.add(reason, tracer, n);
        self.shared().queue.changed();
    }

    /// Oldest first; the last one is the one that grows.
    pub fn queues(&self) -> Vec<Queue> {
        self.shared().noted().queues()
    }

    /// An epoch and its counters at one moment, so that the sums agree. `None`: it is not here.
    pub fn account(&self, epoch: u64) -> Option<(Queue, Vec<LossCounter>)> {
        let index = self.shared().noted();
        let queue = index.queues().into_iter().find(|queue| queue.epoch == epoch)?;
        Some((queue, index.epoch(epoch).ok()?.counters.to_vec()))
    }

    /// Moves after each commit.
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.shared().durable.subscribe()
    }

    /// Durable events of an epoch from `from_seq` on, or from the next one that is neither acknowledged nor lost,
    /// numbered without a gap; at least one, if there is one, and else within the bounds. Empty: there is none yet.
    /// Blocks on the disk. `Error::Segment` may be tried again later.
    pub fn read(
        &self,
        epoch: u64,
        from_seq: u64,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Bytes)>, Error> {
        read::read(self.shared(), epoch, from_seq, max_events, max_bytes)
    }

    /// Ranges of an epoch that will never be read, ascending, until they are acknowledged. Empty for one that is not here.
    pub fn losses(&self, epoch: u64) -> Vec<Loss> {
        let index = self.shared().index();
        index.epoch(epoch).map_or_else(|_| Vec::new(), |e| e.losses.to_vec())
    }

    /// Counters of an epoch, cumulative in its life. Empty for one that is not here.
    pub fn counters(&self, epoch: u64) -> Vec<LossCounter> {
        let index = self.shared().index();
        index.epoch(epoch).map_or_else(|_| Vec::new(), |e| e.counters.to_vec())
    }

    /// Everything of the epoch up to `upto` is settled. An old epoch disappears once all of it is, its counters too.
    pub fn ack(&self, epoch: u64, upto: u64) {
        let changed = self.shared().index().epoch_mut(epoch).is_ok_and(|e| e.ack(upto));
        if changed {
            self.shared().queue.changed();
        }
    }

    /// The counters of the epoch are known to the aggregator up to these values.
    pub fn settle_counters(&self, epoch: u64, counters: &[LossCounter]) {
        let news = self.shared().index().epoch_mut(epoch).is_ok_and(|epoch| {
            let news = counters.iter().filter(|c| epoch.counters.settle(c));
            news.count() > 0
        });
        if news {
            self.shared().queue.changed();
        }
    }

    /// The aggregator has nothing of the epoch that was not given here. From now on it may have what it is sent.
    pub fn compared(&self, epoch: u64) {
        if let Ok(epoch) = self.shared().index().epoch_mut(epoch) {
            epoch.uncompared = None;
        }
    }

    /// The aggregator has numbers of the current epoch that were not given here: the directory is an older copy of
    /// itself, and another instance gave them. The writer ends the epoch and begins a new one, which [`Self::durable`]
    /// shows. Events of this instance under such numbers cannot be told from those of the other: they are counted lost.
    pub fn begin_anew(&self, epoch: u64, taken: Vec<RangeInclusive<u64>>) {
        self.shared().index().taken = Some((epoch, taken));
        self.shared().queue.changed();
    }

    pub fn stats(&self) -> Stats {
        self.shared().noted().stats()
    }

    /// Writes what is queued, marks the end as clean and gives the directory free. Other handles are closed with it.
    pub fn close(self) -> Result<(), Error> {
        self.inner.end()
    }

    fn shared(&self) -> &Shared {
        &self.inner.shared
    }
}

impl Inner {
    fn end(&self) -> Result<(), Error> {
        self.shared.queue.close();
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match writer.take() {
            None => Err(Error::Closed),
            Some(thread) => thread.join().unwrap_or(Err(Error::WriterGone)),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        match self.end() {
            Ok(()) | Err(Error::Closed) => {}
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the buffer did not end in order"),
        }
    }
}
