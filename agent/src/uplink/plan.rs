//! What to send next: pure bookkeeping of one session, without I/O.
//!
//! Each queue of the buffer is covered by lanes, ranges of numbers that are sent in order. Without a backlog there is
//! one lane, from the watermark on, without an end. With a backlog the newest queue is split at its head: a fresh lane
//! for what is recorded from now on, and a backlog lane behind it. Lanes with something to send take turns, so neither
//! starves. The aggregator remembers only few gaps a queue, so there is no split while it has nearly as many already.
//!
//! Invariant: a number is planned once in a session, and never one that the aggregator has settled.

use std::collections::VecDeque;

use galen_proto::v1::{Progress, Queue, Range};

/// Events behind the watermark from which on a backlog gets a lane of its own.
const BACKLOG: u64 = 256;
/// Gaps of a queue at the aggregator up to which another may be opened (it takes 16).
const MAX_GAPS: usize = 12;

/// A range of one queue to send in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lane {
    epoch: u64,
    next: u64,
    /// First number behind the lane; `None` for the lane that grows.
    end: Option<u64>,
}

/// A batch that was sent and not acknowledged yet.
#[derive(Debug)]
struct InFlight {
    epoch: u64,
    range: Range,
    bytes: u64,
}

/// The next stretch to read from the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) epoch: u64,
    pub(super) from: u64,
    /// Most events that may be taken.
    pub(super) max_events: u64,
}

#[derive(Debug)]
pub(super) struct Plan {
    /// The first lane has the next turn.
    lanes: VecDeque<Lane>,
    /// The queue that grows, and the number that its next event will have.
    head: (u64, u64),
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: u64,
    credit_bytes: u64,
}

impl Plan {
    /// `queues` as in the hello, `progress` as in the welcome. A queue without progress is sent whole.
    pub(super) fn new(queues: &[Queue], progress: &[Progress], credit_bytes: u64) -> Self {
        let mut lanes = VecDeque::new();
        let newest = queues.len().saturating_sub(1);
        for (index, queue) in queues.iter().enumerate() {
            let known = progress.iter().find(|progress| progress.epoch == queue.epoch);
            let upto = known.map_or(0, |known| known.upto);
            let settled = known.map_or(&[][..], |known| &known.settled);
            let mut from = queue.first_unacked.max(upto.saturating_add(1));
            for range in settled {
                if range.first > from {
                    lanes.push_back(Lane {
                        epoch: queue.epoch,
                        next: from,
                        end: Some(range.first.min(queue.next_seq)),
                    });
                }
                from = from.max(range.last.saturating_add(1));
            }
            if index < newest {
                lanes.push_back(Lane { epoch: queue.epoch, next: from, end: Some(queue.next_seq) });
            } else if queue.next_seq.saturating_sub(from) > BACKLOG && settled.len() < MAX_GAPS {
                lanes.push_back(Lane { epoch: queue.epoch, next: from, end: Some(queue.next_seq) });
                lanes.push_front(Lane { epoch: queue.epoch, next: queue.next_seq, end: None });
            } else {
                lanes.push_front(Lane { epoch: queue.epoch, next: from, end: None });
            }
        }
        lanes.retain(|lane| lane.end.is_none_or(|end| lane.next < end));
        let head = queues.last().map_or((0, 1), |queue| (queue.epoch, queue.next_seq));
        Self { lanes, head, in_flight: VecDeque::new(), in_flight_bytes: 0, credit_bytes }
    }

    /// The queue that grows has become longer.
    pub(super) fn grow(&mut self, next_seq: u64) {
        self.head.1 = self.head.1.max(next_seq);
    }

    pub(super) fn newest_epoch(&self) -> u64 {
        self.head.0
    }

    pub(super) fn set_credit(&mut self, bytes: u64) {
        self.credit_bytes = bytes;
    }

    /// Bytes that may be sent now. The first batch may always go, so that no credit is too small for an event.
    pub(super) fn allowance(&self) -> u64 {
        if self.in_flight.is_empty() {
            self.credit_bytes.max(1)
        } else {
            self.credit_bytes.saturating_sub(self.in_flight_bytes)
        }
    }

    /// Whether everything that was sent is acknowledged.
    pub(super) fn awaits_nothing(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Whether everything was sent and acknowledged.
    pub(super) fn is_drained(&self) -> bool {
        self.in_flight.is_empty() && self.lanes.iter().all(|lane| self.waiting(lane) == 0)
    }

    /// Whether there is something to send and credit to send it.
    pub(super) fn has_turn(&self) -> bool {
        self.allowance() > 0 && self.lanes.iter().any(|lane| self.waiting(lane) > 0)
    }

    /// The stretch whose turn it is. It stays so until [`Plan::sent`] or [`Plan::skip`] moves its lane.
    pub(super) fn turn(&mut self) -> Option<Turn> {
        if self.allowance() == 0 {
            return None;
        }
        let at = self.lanes.iter().position(|lane| self.waiting(lane) > 0)?;
        self.lanes.rotate_left(at);
        let lane = self.lanes.front()?;
        Some(Turn { epoch: lane.epoch, from: lane.next, max_events: self.waiting(lane) })
    }

    /// The lane in turn was sent up to `last`; the events in it began at `range.first` and took `bytes`.
    pub(super) fn sent(&mut self, epoch: u64, range: Range, bytes: u64) {
        let last = range.last;
        self.in_flight.push_back(InFlight { epoch, range, bytes });
        self.in_flight_bytes += bytes;
        self.skip(last);
    }

    /// The lane in turn holds nothing more up to `last`, included.
    pub(super) fn skip(&mut self, last: u64) {
        let Some(mut lane) = self.lanes.pop_front() else { return };
        lane.next = last.saturating_add(1);
        if lane.end.is_none_or(|end| lane.next < end) {
            self.lanes.push_back(lane);
        }
    }

    /// The aggregator has settled what `progress` says: its credit is free again.
    pub(super) fn acknowledged(&mut self, progress: &Progress) {
        let settled = |batch: &InFlight| {
            batch.epoch == progress.epoch
                && (batch.range.last <= progress.upto
                    || progress.settled.iter().any(|s| s.first <= batch.range.first && batch.range.last <= s.last))
        };
        self.in_flight.retain(|batch| !settled(batch));
        self.in_flight_bytes = self.in_flight.iter().map(|batch| batch.bytes).sum();
    }

    fn waiting(&self, lane: &Lane) -> u64 {
        lane.end.unwrap_or(self.head.1).saturating_sub(lane.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(epoch: u64, first_unacked: u64, next_seq: u64) -> Queue {
        Queue { epoch, first_unacked, next_seq, account: None }
    }

    fn progress(epoch: u64, upto: u64, settled: &[(u64, u64)]) -> Progress {
        let settled = settled.iter().map(|&(first, last)| Range { first, last }).collect();
        Progress { epoch, upto, settled }
    }

    /// Sends everything in batches of `batch`, acknowledging at once, and returns the ranges in order.
    fn send_all(plan: &mut Plan, batch: u64) -> Vec<(u64, u64, u64)> {
        let mut sent = Vec::new();
        while let Some(turn) = plan.turn() {
            let last = turn.from + turn.max_events.min(batch) - 1;
            sent.push((turn.epoch, turn.from, last));
            plan.sent(turn.epoch, Range { first: turn.from, last }, batch);
            plan.acknowledged(&progress(turn.epoch, 0, &[(turn.from, last)]));
            assert!(sent.len() < 10_000, "the plan comes to an end");
        }
        sent
    }

    #[test]
    fn a_short_backlog_is_sent_in_order() {
        let mut plan = Plan::new(&[queue(7, 1, 101)], &[progress(7, 40, &[])], 1000);
        assert_eq!(send_all(&mut plan, 50), [(7, 41, 90), (7, 91, 100)]);
        assert!(plan.is_drained());
    }

    #[test]
    fn fresh_events_take_turns_with_a_backlog() {
        let mut plan = Plan::new(&[queue(7, 1, 1001)], &[], 1000);
        plan.grow(1301);
        let sent = send_all(&mut plan, 100);
        assert_eq!(&sent[..4], [(7, 1001, 1100), (7, 1, 100), (7, 1101, 1200), (7, 101, 200)]);
        assert_eq!(sent.len(), 13);
    }

    #[test]
    fn what_the_aggregator_has_is_not_sent_again() {
        let queues = [queue(3, 5, 11), queue(7, 1, 1001)];
        let known = [progress(3, 8, &[]), progress(7, 10, &[(50, 99), (500, 1000)])];
        let mut plan = Plan::new(&queues, &known, 10_000);
        let mut sent = send_all(&mut plan, 1000);
        sent.sort_unstable();
        assert_eq!(sent, [(3, 9, 10), (7, 11, 49), (7, 100, 499)]);
    }

    #[test]
    fn with_many_gaps_open_no_other_is_made() {
        let settled: Vec<_> = (1..=12).map(|i| (i * 100, i * 100)).collect();
        let mut plan = Plan::new(&[queue(7, 1, 5001)], &[progress(7, 10, &settled)], 10_000);
        let mut sent = send_all(&mut plan, 10_000);
        sent.sort_unstable();
        assert_eq!(sent.last(), Some(&(7, 1201, 5000)));
        assert_eq!(sent.iter().map(|(_, first, last)| last - first + 1).sum::<u64>(), 5000 - 10 - 12);
    }

    #[test]
    fn credit_is_freed_by_acknowledgements_alone() {
        let mut plan = Plan::new(&[queue(7, 1, 101)], &[], 100);
        let turn = plan.turn().unwrap();
        plan.sent(7, Range { first: turn.from, last: 10 }, 100);
        assert_eq!(plan.turn(), None);
        assert!(!plan.has_turn() && !plan.is_drained());
        plan.acknowledged(&progress(7, 9, &[]));
        assert_eq!(plan.turn(), None);
        plan.acknowledged(&progress(7, 10, &[]));
        assert_eq!(plan.turn(), Some(Turn { epoch: 7, from: 11, max_events: 90 }));
    }

    #[test]
    fn an_event_larger_than_the_credit_still_goes() {
        let mut plan = Plan::new(&[queue(7, 1, 3)], &[], 0);
        assert!(plan.turn().is_some());
        plan.sent(7, Range { first: 1, last: 1 }, 1_000_000);
        assert_eq!(plan.turn(), None);
    }
}
