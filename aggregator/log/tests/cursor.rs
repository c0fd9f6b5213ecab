//! A consumer of the embedded log goes on behind what had its effect, and what is new comes first.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use galen_log::{Consumer, Cursor, Delivery, EmbeddedLog};
use support::{open, settings};
use tempfile::tempdir;

fn cursor(log: &EmbeddedLog, dir: &Path, near: u64) -> Cursor {
    Cursor::open(Arc::new(log.clone()), dir.join("cursor")).unwrap().with_near(near)
}

async fn next(cursor: &mut Cursor) -> Delivery {
    tokio::time::timeout(Duration::from_secs(20), cursor.next(10)).await.expect("a delivery in time").unwrap()
}

fn seqs(delivery: &Delivery) -> Vec<u64> {
    let numbered =
        |record: &galen_proto::v1::LogRecord| record.first_seq..record.first_seq + record.events.len() as u64;
    delivery.records.iter().flat_map(numbered).collect()
}

#[tokio::test]
async fn what_is_not_committed_comes_again() {
    let dir = tempdir().unwrap();
    let mut opened = open(settings(&dir.path().join("log")));
    for batch in 0..3 {
        opened.append(batch * 10 + 1, 10);
    }
    let mut first = cursor(&opened.log, dir.path(), u64::MAX);
    let delivery = next(&mut first).await;
    next(&mut first).await;
    first.commit(&delivery.place).await.unwrap();
    assert_eq!(first.lag(), 20);
    drop(first);
    assert_eq!(Cursor::reach(&dir.path().join("cursor")).unwrap(), 10);
    let mut second = cursor(&opened.log, dir.path(), u64::MAX);
    assert_eq!(seqs(&next(&mut second).await), (11..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn far_behind_the_newest_come_first_and_nothing_is_left_out() {
    let dir = tempdir().unwrap();
    let mut opened = open(settings(&dir.path().join("log")));
    for batch in 0..30 {
        opened.append(batch * 10 + 1, 10);
    }
    let mut seen = BTreeSet::new();
    let mut late = cursor(&opened.log, dir.path(), 100);
    // Nothing is new at the end of the log yet, so the oldest are next.
    let delivery = next(&mut late).await;
    assert_eq!(seqs(&delivery), (1..=10).collect::<Vec<_>>());
    late.commit(&delivery.place).await.unwrap();
    seen.extend(seqs(&delivery));
    opened.append(301, 10);
    let turns = [seqs(&next(&mut late).await), seqs(&next(&mut late).await)];
    assert!(turns.contains(&(301..=310).collect()), "{turns:?}");
    drop(late);

    // Neither of these two was committed: both stretches go on, also after another restart in between.
    for _ in 0..2 {
        let mut again = cursor(&opened.log, dir.path(), 100);
        assert_eq!(again.lag(), 300);
        next(&mut again).await;
    }
    let mut again = cursor(&opened.log, dir.path(), 100);
    while again.lag() > 0 {
        let delivery = next(&mut again).await;
        for seq in seqs(&delivery) {
            assert!(seen.insert(seq), "{seq} came twice");
        }
        again.commit(&delivery.place).await.unwrap();
    }
    assert_eq!(seen, (1..=310).collect());
    drop(again);
    assert_eq!(std::fs::read_to_string(dir.path().join("cursor")).unwrap(), "310\n");
}
