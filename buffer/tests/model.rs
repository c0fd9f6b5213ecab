//! The buffer against a simple model, over random histories with clean ends and crashes.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;
use galen_buffer::{Buffer, EventPosition, LossReasonCode, Settings};
use proptest::prelude::*;
use support::{MIB, RING_FULL, append, assert_complete, crash_image, event, eventually, lost, read_all, settings};

#[derive(Clone, Debug)]
enum Step {
    Append {
        events: usize,
        len: usize,
    },
    /// Acknowledges this share of the oldest queue, in percent.
    Ack {
        share: u64,
    },
    CountLoss {
        n: u64,
    },
    LeaveOut,
    Check,
    Close,
    /// The directory as it is goes on; what the running buffer had in memory is gone.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..40_usize, 8..4_000_usize).prop_map(|(events, len)| Step::Append { events, len }),
        2 => (1..20_usize, 4_000..60_000_usize).prop_map(|(events, len)| Step::Append { events, len }),
        3 => (1..=100_u64).prop_map(|share| Step::Ack { share }),
        1 => (1..5_u64).prop_map(|n| Step::CountLoss { n }),
        1 => Just(Step::LeaveOut),
        2 => Just(Step::Check),
        1 => Just(Step::Close),
        2 => Just(Step::Crash),
    ]
}

struct Run {
    base: tempfile::TempDir,
    generation: u32,
    max_bytes: u64,
    buffer: Option<Buffer>,
    seed: u64,
    durable: BTreeMap<EventPosition, Bytes>,
    /// By epoch, the last number that was acknowledged.
    acked: BTreeMap<u64, u64>,
    counted: u64,
}

impl Run {
    fn new(max_bytes: u64) -> Self {
        let base = tempfile::tempdir().unwrap();
        let mut run = Self {
            base,
            generation: 0,
            max_bytes,
            buffer: None,
            seed: 0,
            durable: BTreeMap::new(),
            acked: BTreeMap::new(),
            counted: 0,
        };
        run.open();
        run
    }

    fn dir(&self) -> PathBuf {
        self.base.path().join(self.generation.to_string())
    }

    fn open(&mut self) {
        let settings = Settings { max_bytes: self.max_bytes, ..settings(self.dir()) };
        self.buffer = Some(Buffer::open(settings).unwrap());
    }

    fn buffer(&self) -> &Buffer {
        self.buffer.as_ref().unwrap()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append { events, len } => {
                let first = self.seed;
                self.seed += *events as u64;
                for (position, event) in append(self.buffer(), (first..self.seed).map(|n| event(n, *len))) {
                    let again = self.durable.insert(position, event);
                    assert_eq!(again, None, "{position:?} was given twice");
                }
            }
            Step::Ack { share } => {
                let queue = self.buffer().queues()[0];
                let upto = queue.first_unacked + (queue.next_seq - queue.first_unacked) * share / 100;
                if upto > queue.first_unacked {
                    self.buffer().ack(queue.epoch, upto - 1);
                    self.acked.insert(queue.epoch, upto - 1);
                }
            }
            Step::CountLoss { n } => {
                self.buffer().count_loss(RING_FULL, "oom", *n);
                self.counted += n;
            }
            Step::LeaveOut => {
                self.buffer().leave_out(LossReasonCode::TOO_LARGE, "oom");
                self.counted += 1;
            }
            Step::Check => self.check(),
            Step::Close => {
                let last = *self.buffer().queues().last().unwrap();
                let counters = self.buffer().counters(last.epoch);
                self.buffer.take().unwrap().close().unwrap();
                self.open();
                let now = *self.buffer().queues().last().unwrap();
                assert_eq!((now.epoch, now.next_seq), (last.epoch, last.next_seq), "a clean end keeps the epoch");
                assert_eq!(now.first_unacked, last.first_unacked, "a clean end keeps acknowledgements");
                assert_eq!(self.buffer().counters(now.epoch), counters);
                assert_eq!(now.observed, last.observed, "a clean end keeps what was observed");
                self.check();
            }
            Step::Crash => {
                let from = self.dir();
                self.generation += 1;
                crash_image(&from, &self.dir());
                drop(self.buffer.take());
                std::fs::remove_dir_all(from).unwrap();
                self.open();
                self.check();
            }
        }
    }

    fn check(&self) {
        eventually("the cap holds", || self.buffer().stats().bytes_on_disk <= self.max_bytes);
        let all = assert_complete(self.buffer());
        for (position, event) in &all {
            assert_eq!(self.durable.get(position), Some(event), "{position:?} was never appended so");
        }
        for (position, event) in &self.durable {
            if self.acked.get(&position.epoch).is_some_and(|upto| position.seq <= *upto) {
                continue;
            }
            match all.get(position) {
                Some(read) => assert_eq!(read, event),
                None => {
                    let reason = lost(&self.buffer().losses(position.epoch), position.seq);
                    assert_eq!(reason, Some(LossReasonCode::BUFFER_FULL), "{position:?} is gone");
                }
            }
        }
        let stats = self.buffer().stats();
        assert_eq!(stats.events_unacked, all.len() as u64);
        let counted: u64 =
            self.buffer().queues().iter().flat_map(|q| self.buffer().counters(q.epoch)).map(|c| c.count).sum();
        assert!(counted <= self.counted);
        assert_eq!(read_all(self.buffer()), all, "a second read finds the same");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_durable_event_is_read_as_it_was_or_declared_lost(
        steps in prop::collection::vec(step(), 1..40),
        max_bytes in prop_oneof![Just(6 * MIB), Just(64 * MIB)],
    ) {
        let mut run = Run::new(max_bytes);
        for step in &steps {
            run.step(step);
        }
        run.check();
    }
}
