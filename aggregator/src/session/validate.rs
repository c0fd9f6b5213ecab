//! What an agent's messages must be, before anything is done with them.
//!
//! [`Announced`] remembers what the hello said of each queue, so that a batch can be checked without the log.

use galen_proto::v1::{Batch, Hello, Progress, Queue};

use crate::session::Refusal;

/// Queues of a node.
const MAX_QUEUES: usize = 64;
/// Tracers of a hello or a heartbeat.
const MAX_TRACERS: usize = 256;
/// Settings of a hello.
const MAX_SETTINGS: usize = 64;
/// Declared losses, and loss counters, of a batch.
const MAX_LOSSES: usize = 1024;
const MAX_COUNTERS: usize = 256;
/// Bytes of the name of a counter's tracer: it is kept for as long as the queue is.
const MAX_TRACER: usize = 256;

/// How much a batch may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub batch_bytes: u64,
    pub batch_events: usize,
}

/// The queues of a session.
#[derive(Debug, Default)]
pub struct Announced {
    queues: Vec<Queue>,
}

impl Announced {
    pub fn new(hello: &Hello) -> Result<Self, Refusal> {
        if hello.protocol != galen_proto::PROTOCOL {
            return Err(Refusal::Version(hello.protocol));
        }
        let is_name = !hello.node.is_empty()
            && hello.node.len() <= galen_proto::MAX_NODE_NAME
            && !hello.node.chars().any(char::is_control);
        if !is_name {
            return Err(Refusal::NodeName);
        }
        for (what, count, limit) in [
            ("queues", hello.queues.len(), MAX_QUEUES),
            ("tracers", hello.tracers.len(), MAX_TRACERS),
            ("settings", hello.settings.len(), MAX_SETTINGS),
        ] {
            if count > limit {
                return Err(Refusal::TooMany { what, count, limit });
            }
        }
        for (place, queue) in hello.queues.iter().enumerate() {
            let epoch = queue.epoch;
            let wrong = |why| Err(Refusal::Queue { epoch, why });
            if epoch == 0 {
                return wrong("the epoch is zero");
            }
            if queue.first_unacked == 0 {
                return wrong("numbers begin at 1");
            }
            if queue.next_seq < queue.first_unacked {
                return wrong("it ends before it begins");
            }
            if hello.queues[..place].iter().any(|other| other.epoch == epoch) {
                return wrong("it is there twice");
            }
        }
        Ok(Self { queues: hello.queues.clone() })
    }

    /// Holds the queue that grows to what was logged of it: a batch that does not know of that is refused, because it
    /// may have other events under the same numbers. An older queue gives no number again, so it may have forgotten.
    pub fn progress(&mut self, progress: &[Progress]) {
        let Some(queue) = self.queues.last_mut() else { return };
        let known = progress.iter().find(|known| known.epoch == queue.epoch);
        let last = known.map_or(0, |known| known.settled.last().map_or(known.upto, |range| range.last));
        queue.next_seq = queue.next_seq.max(last.saturating_add(1));
    }

    /// Checks a batch, and remembers how far its queue has come.
    pub fn check(&mut self, batch: &Batch, bytes: u64, limits: &Limits) -> Result<(), Refusal> {
        let epoch = batch.epoch;
        let queue = self.queues.iter_mut().find(|queue| queue.epoch == epoch).ok_or(Refusal::UnknownQueue { epoch })?;
        if bytes > limits.batch_bytes {
            return Err(Refusal::TooLarge { limit: limits.batch_bytes });
        }
        for (what, count, limit) in [
            ("events", batch.events.len(), limits.batch_events),
            ("losses", batch.lost.len(), MAX_LOSSES),
            ("loss counters", batch.counters.len(), MAX_COUNTERS),
            (
                "bytes in a counter's tracer",
                batch.counters.iter().map(|counter| counter.tracer.len()).max().unwrap_or(0),
                MAX_TRACER,
            ),
        ] {
            if count > limit {
                return Err(Refusal::BatchTooMany { what, count, limit });
            }
        }
        let next_seq = batch.next_seq;
        if next_seq < queue.next_seq {
            return Err(Refusal::NextWentBack { epoch, before: queue.next_seq, next_seq });
        }
        let ends_before_next = |last: u64| {
            if last < next_seq { Ok(()) } else { Err(Refusal::Future { epoch, last, next_seq }) }
        };
        if let Some(more) = (batch.events.len() as u64).checked_sub(1) {
            if batch.first_seq == 0 {
                return Err(Refusal::NumberZero);
            }
            ends_before_next(batch.first_seq.saturating_add(more))?;
        }
        for loss in &batch.lost {
            let range = loss.range.as_ref().ok_or(Refusal::LossWithoutRange)?;
            if range.first == 0 || range.last < range.first {
                return Err(Refusal::LossRange { first: range.first, last: range.last });
            }
            ends_before_next(range.last)?;
        }
        queue.next_seq = next_seq;
        Ok(())
    }
}
