//! States that several replicas have of one node, and a log that copies another, against a model: a set of numbers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use bytes::Bytes;
use galen_log::{Limits, Watermarks};
use galen_proto::v1::{LogRecord, Loss, LossCounter, LossReason, Position, Progress, Queue, Range};
use proptest::prelude::*;

const NODE: &str = "web-1";

fn event(epoch: u64, seq: u64) -> Bytes {
    format!("{epoch}/{seq}").into()
}

fn record(epoch: u64, first: u64, events: u64, lost: Option<(u64, u64)>, counter: u64) -> LogRecord {
    let loss = |(first, more)| Loss {
        range: Some(Range { first, last: first + more }),
        reason: LossReason::BufferFull as i32,
        ..Loss::default()
    };
    LogRecord {
        node: NODE.into(),
        epoch,
        first_seq: first,
        events: (first..first + events).map(|seq| event(epoch, seq)).collect(),
        lost: lost.map(loss).into_iter().collect(),
        counters: vec![LossCounter { reason: LossReason::RingFull as i32, tracer: "oom".into(), count: counter }],
        received_unix_nanos: 1,
        ..LogRecord::default()
    }
}

fn any_record() -> impl Strategy<Value = LogRecord> {
    // Losses lie beyond the events: a number is one or the other.
    let lost = prop::option::of((300u64..350, 0u64..10));
    (1u64..3, 1u64..150, 0u64..25, lost, 0u64..50)
        .prop_map(|(epoch, first, events, lost, counter)| record(epoch, first, events, lost, counter))
}

fn applied<'a>(records: impl IntoIterator<Item = &'a LogRecord>) -> Watermarks {
    let mut watermarks = Watermarks::new(Limits::default());
    records.into_iter().for_each(|record| watermarks.apply(record));
    watermarks
}

fn progress(watermarks: &Watermarks) -> Vec<Option<Progress>> {
    (1..3).map(|epoch| watermarks.progress(NODE, epoch)).collect()
}

fn counted(watermarks: &Watermarks, reason: LossReason) -> u64 {
    let lost = watermarks.totals_of(NODE).lost;
    lost.iter().filter(|lost| lost.reason == reason as i32).map(|lost| lost.count).sum()
}

proptest! {
    #[test]
    fn what_either_settled_is_settled_in_whatever_order_they_are_merged(
        records in prop::collection::vec((any_record(), any::<bool>(), any::<bool>()), 0..30),
    ) {
        let seen = |by: fn(&(LogRecord, bool, bool)) -> bool| {
            applied(records.iter().filter(|entry| by(entry)).map(|(record, ..)| record))
        };
        let (first, second) = (seen(|entry| entry.1), seen(|entry| entry.2));
        let both = seen(|entry| entry.1 || entry.2);
        let merged = |mut into: Watermarks, from: &Watermarks| {
            into.merge(from.queues_of(NODE));
            into
        };
        let one = merged(first.clone(), &second);
        let other = merged(second.clone(), &first);
        prop_assert_eq!(progress(&one), progress(&both));
        prop_assert_eq!(progress(&other), progress(&both));
        prop_assert_eq!(progress(&merged(one.clone(), &one)), progress(&one));
        prop_assert_eq!(progress(&merged(one.clone(), &first)), progress(&one));
        prop_assert_eq!(counted(&one, LossReason::RingFull), counted(&both, LossReason::RingFull));
        prop_assert_eq!(counted(&other, LossReason::RingFull), counted(&both, LossReason::RingFull));
        for (merged, of) in [(&one, &first), (&one, &second), (&other, &first), (&other, &second)] {
            prop_assert!(merged.totals_of(NODE).events >= of.totals_of(NODE).events);
            prop_assert!(merged.totals_of(NODE).events <= both.totals_of(NODE).events);
        }
    }

    #[test]
    fn a_copy_has_each_event_once_and_goes_on_where_it_was_cut_off(
        // What the other log holds, in its order: any of it any number of times.
        records in prop::collection::vec(any_record(), 1..30),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..4),
    ) {
        let mut copy = Watermarks::new(Limits::default());
        let mut log: Vec<LogRecord> = Vec::new();
        let mut snapshots = vec![(0, copy.snapshot())];
        let mut cuts: Vec<(usize, _)> = cuts.iter().map(|(at, to)| (at.index(records.len()), to)).collect();
        cuts.sort_by_key(|(at, _)| *at);
        let mut at = 0;
        while at < records.len() {
            let position = Some(Position { partition: 0, next: at as u64 + 1 });
            log.extend(copy.fresh(LogRecord { position, ..records[at].clone() }));
            if let Some(place) = cuts.iter().position(|(cut, _)| *cut == at) {
                // All behind a record of the copy is gone; the state is rebuilt from a snapshot and what is left.
                let (_, to) = cuts.remove(place);
                log.truncate(to.index(log.len() + 1));
                let (from, state) = snapshots.iter().rev().find(|(from, _)| *from <= log.len()).unwrap().clone();
                copy = Watermarks::restore(state, Limits::default());
                log[from..].iter().for_each(|record| copy.apply(record));
                snapshots.retain(|(from, _)| *from <= log.len());
                at = copy.positions().get(&0).map_or(0, |next| *next as usize);
                continue;
            }
            at += 1;
            if at.is_multiple_of(5) {
                snapshots.push((log.len(), copy.snapshot()));
            }
        }
        let mut copied = BTreeMap::new();
        for record in &log {
            for (seq, event) in (record.first_seq..).zip(&record.events) {
                prop_assert!(copied.insert((record.epoch, seq), event.clone()).is_none(), "{seq} is there twice");
            }
        }
        let expected: BTreeMap<_, _> = records
            .iter()
            .flat_map(|record| (record.first_seq..).zip(&record.events).map(|(seq, event)| ((record.epoch, seq), event.clone())))
            .collect();
        prop_assert_eq!(copied, expected);
        prop_assert_eq!(progress(&copy), progress(&applied(&records)));
        prop_assert_eq!(counted(&copy, LossReason::BufferFull), counted(&applied(&records), LossReason::BufferFull));
        prop_assert_eq!(counted(&copy, LossReason::RingFull), counted(&applied(&records), LossReason::RingFull));
    }
}

#[test]
fn what_an_agent_was_acknowledged_by_another_replica_is_no_loss() {
    let mut watermarks = Watermarks::default();
    let queue = Queue { epoch: 7, first_unacked: 101, next_seq: 120, account: None };
    watermarks.believe(NODE, &[queue], 1);
    assert_eq!(watermarks.progress(NODE, 7).unwrap().upto, 100);
    assert_eq!((watermarks.totals_of(NODE).events, watermarks.totals_of(NODE).lost), (100, vec![]));
}

#[test]
fn a_log_that_begins_anew_is_followed_to_where_it_is() {
    let mut copy = Watermarks::default();
    let at =
        |first, next| LogRecord { position: Some(Position { partition: 0, next }), ..record(7, first, 1, None, 0) };
    let records: Vec<_> = [at(1, 100), at(2, 1)].into_iter().flat_map(|record| copy.fresh(record)).collect();
    for copy in [copy, applied(&records)] {
        assert_eq!(copy.positions().get(&0), Some(&1));
    }
}

#[test]
fn what_was_put_aside_may_still_come_once() {
    let mut copy = Watermarks::default();
    let range = Some(Range { first: 2, last: 3 });
    let aside = Loss { range, reason: LossReason::Quarantined as i32, ..Loss::default() };
    copy.fresh(LogRecord { lost: vec![aside], ..record(7, 1, 1, None, 0) });
    copy.fresh(record(7, 4, 2, None, 0));
    assert_eq!((copy.totals_of(NODE).events, counted(&copy, LossReason::Quarantined)), (3, 2));
    let mut copy = Watermarks::restore(copy.snapshot(), Limits::default());
    for expected in [1, 0] {
        let fresh = copy.fresh(record(7, 1, 2, None, 0));
        assert_eq!(
            fresh.iter().map(|record| (record.first_seq, record.events.len())).collect::<Vec<_>>(),
            vec![(2, 1); expected]
        );
        assert_eq!((copy.totals_of(NODE).events, counted(&copy, LossReason::Quarantined)), (4, 1));
    }
    assert_eq!(copy.progress(NODE, 7).unwrap().upto, 5);
}

#[test]
fn a_node_that_begins_anew_again_and_again_is_bounded_and_its_totals_stay() {
    let mut copy = Watermarks::default();
    for epoch in 1..=200 {
        copy.fresh(LogRecord { received_unix_nanos: epoch as i64, ..record(epoch, 1, 10, None, 1) });
    }
    assert!(copy.queues_of(NODE).len() < 100, "{}", copy.queues_of(NODE).len());
    assert!(copy.progress(NODE, 1).is_none() && copy.progress(NODE, 200).is_some());
    assert_eq!(copy.totals_of(NODE).events, 2000);
    assert_eq!(counted(&copy, LossReason::RingFull), 200);
}
