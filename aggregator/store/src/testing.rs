//! Stores for the tests of this crate.

use std::time::Duration;

use galen_proto::v1::Event;
use galen_specimen::{NOW, SECOND, record};
use tempfile::TempDir;

use crate::{Order, Query, Search, Settings, Store, Writer};

pub(crate) const DAY: i64 = 86_400 * SECOND;

pub(crate) fn settings(dir: &TempDir) -> Settings {
    Settings { dir: dir.path().join("store"), retention: Duration::from_secs(7 * 86_400), max_bytes: 1 << 30 }
}

/// A store with these events, committed, at the offsets from 0.
pub(crate) fn filled(events: &[Event]) -> (TempDir, Store, Writer) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(settings(&dir)).unwrap();
    let mut writer = store.writer(events.len() as u64).unwrap();
    writer.add(0, &record(1, events)).unwrap();
    writer.commit().unwrap();
    (dir, store, writer)
}

/// Sequence numbers of what a query finds, as they were logged.
pub(crate) fn found(store: &Store, query: &str) -> Vec<u64> {
    let query = Query::parse(query, NOW).unwrap();
    let search = Search { order: Order::Logged, ..Search::newest(&query, 1000) };
    let found = store.search(&search).unwrap();
    assert_eq!(found.total, found.hits.len() as u64);
    found.hits.iter().map(|hit| hit.event.id.as_ref().unwrap().seq).collect()
}
