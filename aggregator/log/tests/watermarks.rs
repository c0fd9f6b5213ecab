//! The deduplication state against a model: a set of numbers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use galen_log::{Limits, MAX_GAPS, Refused, Watermarks};
use galen_proto::v1::{Account, Batch, LogRecord, Loss, LossCounter, LossReason, Queue, Range};
use proptest::prelude::*;

const NODE: &str = "web-1";

#[derive(Debug, Clone)]
enum Step {
    Batch {
        epoch: u64,
        first: u64,
        events: u64,
        lost: Vec<(u64, u64)>,
        counter: u64,
    },
    /// The last batch comes again.
    Again,
    /// Everything so far becomes durable.
    Sync,
    /// What is not durable is gone; the state is rebuilt from a snapshot and the records behind it.
    Crash {
        snapshot: prop::sample::Index,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let lost = prop::collection::vec((1u64..150, 0u64..10), 0..3);
    prop_oneof![
        8 => (1u64..3, 1u64..150, 0u64..25, lost, 0u64..50).prop_map(|(epoch, first, events, lost, counter)| {
            Step::Batch { epoch, first, events, lost, counter }
        }),
        2 => Just(Step::Again),
        2 => Just(Step::Sync),
        1 => any::<prop::sample::Index>().prop_map(|snapshot| Step::Crash { snapshot }),
    ]
}

fn event(epoch: u64, seq: u64) -> Bytes {
    format!("{epoch}/{seq}").into()
}

fn batch(epoch: u64, first: u64, events: u64, lost: &[(u64, u64)], counter: u64) -> Batch {
    Batch {
        epoch,
        first_seq: first,
        events: (first..first + events).map(|seq| event(epoch, seq)).collect(),
        lost: lost
            .iter()
            .map(|&(first, more)| Loss {
                range: Some(Range { first, last: first + more }),
                reason: LossReason::BufferFull as i32,
                ..Loss::default()
            })
            .collect(),
        next_seq: 1000,
        counters: vec![LossCounter { reason: LossReason::RingFull as i32, tracer: "oom".into(), count: counter }],
        account: Some(Account { observed: 999, counted: 0, waiting: 0 }),
    }
}

fn announced() -> Vec<Queue> {
    (1..3).map(|epoch| Queue { epoch, first_unacked: 1, next_seq: 1000, account: None }).collect()
}

#[derive(Debug, Clone, Default)]
struct Model {
    delivered: BTreeMap<u64, BTreeSet<u64>>,
    lost: BTreeMap<u64, BTreeSet<u64>>,
    left_out: BTreeMap<u64, BTreeSet<u64>>,
    counters: BTreeMap<u64, u64>,
}

impl Model {
    fn is_settled(&self, epoch: u64, seq: u64) -> bool {
        [&self.delivered, &self.lost, &self.left_out]
            .iter()
            .any(|set| set.get(&epoch).is_some_and(|set| set.contains(&seq)))
    }

    fn gaps(&self, epoch: u64) -> usize {
        let mut gaps = 0;
        let mut settled = true;
        for seq in 1..400 {
            let now = self.is_settled(epoch, seq);
            gaps += usize::from(now && !settled);
            settled = now;
        }
        gaps
    }

    fn take(&mut self, batch: &Batch) -> BTreeSet<u64> {
        let epoch = batch.epoch;
        let fresh: BTreeSet<u64> = (batch.first_seq..batch.first_seq + batch.events.len() as u64)
            .filter(|seq| !self.is_settled(epoch, *seq))
            .collect();
        self.delivered.entry(epoch).or_default().extend(&fresh);
        for loss in &batch.lost {
            let range = loss.range.unwrap();
            for seq in range.first..=range.last {
                if !self.is_settled(epoch, seq) {
                    self.lost.entry(epoch).or_default().insert(seq);
                }
            }
        }
        let counter = self.counters.entry(epoch).or_default();
        *counter = batch.counters[0].count.max(*counter);
        fresh
    }

    /// What was taken as delivered is over a limit.
    fn leave_out(&mut self, epoch: u64, over: &BTreeSet<u64>) {
        self.delivered.entry(epoch).or_default().retain(|seq| !over.contains(seq));
        self.left_out.entry(epoch).or_default().extend(over);
    }

    fn check(&self, watermarks: &Watermarks) {
        for epoch in 1..3 {
            let progress = watermarks.progress(NODE, epoch).unwrap();
            for seq in 1..400 {
                let settled = seq <= progress.upto
                    || progress.settled.iter().any(|range| (range.first..=range.last).contains(&seq));
                assert_eq!(settled, self.is_settled(epoch, seq), "epoch {epoch}, event {seq}, {progress:?}");
            }
        }
        for tally in watermarks.tallies(NODE) {
            let held = if tally.told.is_some() { 999 - tally.settled.count() } else { 0 };
            assert_eq!((tally.unaccounted(tally.told), tally.held(tally.told)), (0, held), "{tally:?}");
        }
        let totals = watermarks.totals_of(NODE);
        assert_eq!(totals.events as usize, self.delivered.values().map(BTreeSet::len).sum::<usize>());
        let sum = |reason: LossReason| -> u64 {
            totals.lost.iter().filter(|lost| lost.reason == reason as i32).map(|lost| lost.count).sum()
        };
        assert_eq!(sum(LossReason::BufferFull) as usize, self.lost.values().map(BTreeSet::len).sum::<usize>());
        assert_eq!(sum(LossReason::RingFull), self.counters.values().sum::<u64>());
        let left_out = self.left_out.values().map(BTreeSet::len).sum::<usize>() as u64;
        assert_eq!(sum(LossReason::RateLimited), left_out);
        let tallies = watermarks.tallies(NODE).into_iter();
        assert_eq!(tallies.flat_map(|tally| tally.left_out).map(|one| one.count).sum::<u64>(), left_out);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn each_number_is_taken_once_through_reorder_redelivery_and_crash(steps in prop::collection::vec(step(), 1..60)) {
        let mut watermarks = Watermarks::new(Limits::default());
        watermarks.announce(NODE, &announced(), 1);
        let mut model = Model::default();
        let mut records: Vec<LogRecord> = Vec::new();
        let mut snapshots = vec![(0, watermarks.snapshot())];
        let mut durable = (0, model.clone());
        let (mut last, mut asked) = (None, 0);
        for step in steps {
            match step {
                Step::Batch { epoch, first, events, lost, counter } => {
                    last = Some(batch(epoch, first, events, &lost, counter));
                }
                Step::Again => {}
                Step::Sync => {
                    durable = (records.len(), model.clone());
                    snapshots.push((records.len(), watermarks.snapshot()));
                    continue;
                }
                Step::Crash { snapshot } => {
                    records.truncate(durable.0);
                    model = durable.1.clone();
                    let (from, state) = snapshot.get(&snapshots).clone();
                    watermarks = Watermarks::restore(state, Limits::default());
                    // Also records that the snapshot has already: that changes nothing.
                    records[from.saturating_sub(2)..].iter().for_each(|record| watermarks.apply(record));
                    // A queue of which nothing is durable is unknown until the agent says hello again.
                    prop_assert!(watermarks.announce(NODE, &announced(), 2).is_empty());
                    model.check(&watermarks);
                    continue;
                }
            }
            let Some(batch) = last.clone() else { continue };
            let mut after = model.clone();
            let fresh = after.take(&batch);
            if after.gaps(batch.epoch) > MAX_GAPS {
                prop_assert_eq!(
                    watermarks.admit_some(NODE, batch.clone(), 1, |_| panic!("nothing is asked")),
                    Err(Refused::TooManyGaps { epoch: batch.epoch })
                );
            } else {
                // A limit gives another answer when an event comes again.
                let before = asked;
                let admitted = watermarks.admit_some(NODE, batch.clone(), 1, |_| {
                    asked += 1;
                    (asked % 7 < 3).then_some(if asked % 2 == 0 { ("cpuidle", "shop") } else { ("oom", "") })
                });
                let admitted = admitted.unwrap();
                prop_assert_eq!(asked - before, fresh.len());
                prop_assert_eq!(admitted.duplicates as usize, batch.events.len() - fresh.len());
                let logged: Vec<(u64, Bytes)> = admitted
                    .records
                    .iter()
                    .flat_map(|record| (record.first_seq..).zip(record.events.iter().cloned()))
                    .collect();
                let passed: BTreeSet<u64> = logged.iter().map(|(seq, _)| *seq).collect();
                let over = &fresh - &passed;
                prop_assert_eq!(admitted.limited as usize, over.len());
                after.leave_out(batch.epoch, &over);
                let passed = &fresh - &over;
                let expected: Vec<(u64, Bytes)> = passed.iter().map(|&seq| (seq, event(batch.epoch, seq))).collect();
                prop_assert_eq!(logged, expected);
                records.extend(admitted.records);
                model = after;
            }
            model.check(&watermarks);
        }
    }
}

#[test]
fn a_batch_that_is_new_as_a_whole_is_one_record() {
    let mut watermarks = Watermarks::default();
    watermarks.announce(NODE, &announced(), 1);
    let admitted = watermarks.admit(NODE, batch(1, 1, 64, &[], 0), 1).unwrap();
    assert_eq!((admitted.records.len(), admitted.records[0].events.len(), admitted.duplicates), (1, 64, 0));
    let again = watermarks.admit(NODE, batch(1, 1, 64, &[], 0), 1).unwrap();
    assert_eq!((again.records.len(), again.duplicates), (0, 64));
}

#[test]
fn what_an_aggregator_acknowledged_and_this_log_does_not_hold_is_declared_lost_once() {
    let mut watermarks = Watermarks::default();
    let queue = Queue { epoch: 7, first_unacked: 101, next_seq: 120, account: None };
    let records = watermarks.announce(NODE, &[queue], 1);
    let lost = &records[0].lost;
    assert_eq!(lost[0].range, Some(Range { first: 1, last: 100 }));
    assert_eq!(lost[0].reason, LossReason::LogLost as i32);
    assert_eq!(watermarks.progress(NODE, 7).unwrap().upto, 100);
    assert!(watermarks.announce(NODE, &[queue], 2).is_empty());
    assert_eq!(watermarks.totals_of(NODE).lost[0].count, 100);
}

#[test]
fn an_older_queue_may_have_forgotten_what_the_log_has() {
    let mut watermarks = Watermarks::default();
    watermarks.announce(NODE, &announced(), 1);
    watermarks.admit(NODE, batch(1, 1, 100, &[], 0), 1).unwrap();
    let back = Queue { epoch: 1, first_unacked: 1, next_seq: 96, account: None };
    let newest = Queue { epoch: 2, first_unacked: 1, next_seq: 1, account: None };
    assert_eq!(watermarks.announce(NODE, &[back, newest], 2), Vec::new());
    assert_eq!(watermarks.progress(NODE, 1).unwrap().upto, 100);
}

#[test]
fn queues_that_the_agent_no_longer_has_are_dropped_but_the_newest_and_their_totals_stay() {
    let mut watermarks = Watermarks::default();
    for epoch in 1..=20 {
        let queue = Queue { epoch, first_unacked: 1, next_seq: 1000, account: None };
        watermarks.announce(NODE, &[queue], epoch as i64);
        // The node has lost an observation of the first without knowing.
        let account = Some(Account { observed: if epoch == 1 { 20 } else { 19 }, counted: 0, waiting: 0 });
        let batch = Batch { next_seq: 20, account, ..batch(epoch, 1, 10, &[(11, 1)], 3) };
        watermarks.admit(NODE, batch, epoch as i64).unwrap();
    }
    let known = (1..=20).filter(|&epoch| watermarks.progress(NODE, epoch).is_some()).collect::<Vec<_>>();
    assert_eq!(known, [16, 17, 18, 19, 20]);
    let totals = watermarks.totals_of(NODE);
    assert_eq!(totals.events, 200);
    let mut lost: Vec<_> = totals.lost.iter().map(|lost| (lost.reason, lost.count)).collect();
    lost.sort_unstable();
    let undelivered = 15 * 7;
    let expected = [(LossReason::BufferFull, 40), (LossReason::RingFull, 60), (LossReason::NodeLost, undelivered)];
    assert_eq!(lost, expected.map(|(reason, count)| (reason as i32, count)));
    for watermarks in [Watermarks::restore(watermarks.snapshot(), Limits::default()), watermarks] {
        let tallies = watermarks.tallies(NODE);
        assert_eq!(tallies.iter().map(|tally| tally.unaccounted(tally.told)).sum::<i64>(), 1);
        assert_eq!(tallies.iter().map(|tally| tally.held(tally.told)).sum::<u64>(), 5 * 7);
    }
}

#[test]
fn beyond_the_cap_the_node_silent_longest_is_forgotten_and_counted() {
    let mut watermarks = Watermarks::new(Limits { nodes: 32 });
    for node in 0..40 {
        let queue = Queue { epoch: 1, first_unacked: 1, next_seq: 10, account: None };
        watermarks.announce(&format!("node-{node}"), &[queue], node);
    }
    assert!(watermarks.len() <= 32);
    assert_eq!(watermarks.evicted() as usize, 40 - watermarks.len());
    assert!(watermarks.progress("node-0", 1).is_none());
    assert!(watermarks.progress("node-39", 1).is_some());
}
