//! A group's reader that fell far behind a real broker hands out what is new first, and leaves nothing out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashMap;

use galen_kafka::{FreshFirst, Link, Reader};
use galen_log::{Append, Consumer};
use galen_runtime::Size;
use galen_services::kafka;
use support::{Found, PATIENCE, Replica, event, note, read_until, settings, with_evidence};
use tokio::time::{Instant, timeout};

const OLD: &str = "old";
const NEW: &str = "new";
const LARGE: &str = "large";
/// Far more than is read one by one until a lane is open.
const MISSED: u64 = 30_000;
/// More than one record takes.
const EVIDENCE: usize = 40_000;

/// A reader, and what it has handed out.
struct Index {
    reader: FreshFirst,
    found: Found,
    /// Where each partition, of the group and of the lane, goes on.
    places: HashMap<i32, u64>,
}

impl Index {
    async fn take(&mut self, max_events: usize) {
        let delivery = timeout(PATIENCE, self.reader.next(max_events)).await.expect("a delivery in time").unwrap();
        note(&mut self.found, &delivery.records);
        self.reader.commit(&delivery.place).await.unwrap();
        self.places.extend(delivery.place.0);
    }

    fn count(&self, node: &str) -> u64 {
        self.found.keys().filter(|(of, _)| of == node).count() as u64
    }

    /// Whether the group has come to where the lane was.
    fn is_one(&self) -> bool {
        let mut of_lane = self.places.iter().filter(|(partition, _)| **partition < 0);
        of_lane.all(|(partition, next)| self.places.get(&!partition) >= Some(next))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn far_behind_the_newest_come_first_and_nothing_is_left_out() {
    let kafka = kafka();
    let settings = settings(&kafka, "fresh", |config| {
        // The group must come to what is new behind all that was missed.
        (config.partitions, config.max_record_bytes) = (1, Size::kib(16));
    });
    let mut replica = Replica::open(&settings);
    for node in [OLD, NEW, LARGE] {
        replica.hello(node, 1);
    }
    for first in (1..=MISSED).step_by(1000) {
        replica.append(OLD, first, first + 999).unwrap();
    }
    let reader = FreshFirst::join(&settings, &Link::default(), "index").unwrap().with_near(1000);
    let mut index = Index { reader, found: Found::new(), places: HashMap::new() };
    let deadline = Instant::now() + 2 * PATIENCE;
    // How far behind it is, is known a while after its first commit.
    while index.reader.lag() <= 1000 {
        index.take(1).await;
        assert!(Instant::now() < deadline, "the lag is {}", index.reader.lag());
    }
    // Where the lane begins is known a while after it was opened.
    let mut new = 0;
    while index.count(NEW) == 0 {
        new += 1;
        replica.append(NEW, new, new).unwrap();
        let large = replica.admit(LARGE, new, vec![with_evidence(new, EVIDENCE)]);
        replica.writer.append(&large).unwrap();
        index.take(1).await;
        assert!(Instant::now() < deadline, "{} found, none of them new", index.found.len());
    }
    assert!(index.count(OLD) < MISSED, "all that was missed came before the first of {new} new ones");

    while index.found.len() as u64 != MISSED + 2 * new || !index.is_one() {
        index.take(1000).await;
        assert!(Instant::now() < deadline, "{} found, {:?}", index.found.len(), index.places);
    }
    for ((node, seq), (bytes, times)) in &index.found {
        // An event in parts is not passed over.
        let (expected, most) = if node == LARGE { (with_evidence(*seq, EVIDENCE), 2) } else { (event(*seq), 1) };
        assert!(*bytes == expected && *times <= most, "{node} {seq}: {times} times");
    }
    // The group is at the end: whoever takes over begins with what comes now.
    drop(index);
    replica.append(OLD, MISSED + 1, MISSED + 1).unwrap();
    let (mut next, mut again) = (Reader::join(&settings, &Link::default(), "index").unwrap(), Found::new());
    read_until(&mut next, &mut again, |again| again.contains_key(&(OLD.to_owned(), MISSED + 1))).await;
    assert_eq!(again.len(), 1, "only what is new");
    replica.close();
}
