//! The store as its users see it: open it, search it, read an event. The one writer is opened apart.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use galen_proto::v1::{Event, EventId};
use prost::Message;
use tantivy::{
    DocAddress, DocSet, Searcher, TERMINATED,
    query::{BooleanQuery, EnableScoring, Query as _},
};
use tokio::sync::watch;

use crate::{
    catalog::{Catalog, Settings},
    error::Error,
    hit,
    partition::Partition,
    query::{Query, compile::by_id},
    search::{self, Found, Search},
    writer::Writer,
};

/// A handle; clones share the store.
#[derive(Clone)]
pub struct Store(Arc<Catalog>);

/// How the store is. Counters are cumulative since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events below this offset can be found: the cursor.
    pub next_offset: u64,
    /// Events in the store now.
    pub events: u64,
    /// Bytes on disk now.
    pub bytes: u64,
    /// Indexes now.
    pub indexes: u64,
    /// Indexes that failed a search, and are left out until they were read in full.
    pub suspect: u64,
    /// Events that were indexed in full.
    pub indexed: u64,
    /// Events that could not be decoded: kept with the reason.
    pub unreadable: u64,
    /// Events whose data could not be indexed, or not all of it.
    pub partly: u64,
    /// Indexes that were put aside because they were damaged.
    pub damaged: u64,
    /// Indexes that were dropped by retention.
    pub dropped: u64,
}

impl Store {
    /// Opens the store, or creates it. Reads all of the newest indexes if the last stop was not clean.
    ///
    /// # Errors
    /// If the directory cannot be used, or another process uses it. A damaged index is no error.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        Ok(Self(Arc::new(Catalog::open(settings)?)))
    }

    /// The only writer. `log_next` is the offset that the log's next event will have.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn writer(&self, log_next: u64) -> Result<Writer, Error> {
        Writer::open(Arc::clone(&self.0), log_next)
    }

    /// Offset that no event in the store reaches: a log that begins anew must begin there.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.0.highest()
    }

    /// Moves when more can be found: every event below it.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.0.committed.subscribe()
    }

    /// Finds events. Blocks for as long as it takes, up to its deadline.
    ///
    /// # Errors
    /// If the request is wrong, takes too long, or an index fails.
    pub fn search(&self, search: &Search<'_>) -> Result<Found, Error> {
        self.search_until(search, Instant::now() + search::DEADLINE)
    }

    pub(crate) fn search_until(&self, search: &Search<'_>, end: Instant) -> Result<Found, Error> {
        search::run(&self.0, search, end)
    }

    /// How many events of each node could not be decoded, of those that are in the store. Blocks.
    ///
    /// # Errors
    /// If it takes too long, or an index fails.
    pub fn unreadable(&self) -> Result<Vec<(String, u64)>, Error> {
        // Only what was decoded has a moment at which it was recorded.
        let query = Query::parse("_exists_:defect AND NOT _exists_:recorded", 0)?;
        search::count(&self.0, &query, "node", Instant::now() + search::DEADLINE)
    }

    /// One event, with its attachments and its identity. Blocks.
    ///
    /// # Errors
    /// If an index fails.
    pub fn get(&self, id: &EventId) -> Result<Option<Event>, Error> {
        let Some((partition, searcher, address)) = self.find(id)? else { return Ok(None) };
        let raw = partition.read(|partition| hit::raw(partition, &searcher, address))?;
        let mut event = match Event::decode(raw) {
            Ok(event) => event,
            Err(_) => partition.read(|partition| hit::load(partition, &searcher, address))?.event,
        };
        event.id = Some(id.clone());
        Ok(Some(event))
    }

    /// The bytes of an event, as they were received. Blocks.
    ///
    /// # Errors
    /// If an index fails.
    pub fn raw(&self, id: &EventId) -> Result<Option<Bytes>, Error> {
        let Some((partition, searcher, address)) = self.find(id)? else { return Ok(None) };
        partition.read(|partition| hit::raw(partition, &searcher, address)).map(Some)
    }

    /// How the store is. Looks at every file: not for every request.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let partitions = self.0.snapshot();
        let counters = &self.0.counters;
        Stats {
            next_offset: *self.0.committed.borrow(),
            events: partitions.iter().map(|partition| partition.searcher().num_docs()).sum(),
            bytes: partitions.iter().map(|partition| partition.bytes()).sum(),
            indexes: partitions.len() as u64,
            suspect: partitions.iter().filter(|partition| partition.is_suspect()).count() as u64,
            indexed: counters.indexed.load(Ordering::Relaxed),
            unreadable: counters.unreadable.load(Ordering::Relaxed),
            partly: counters.partly.load(Ordering::Relaxed),
            damaged: counters.damaged.load(Ordering::Relaxed),
            dropped: counters.dropped.load(Ordering::Relaxed),
        }
    }

    fn find(&self, id: &EventId) -> Result<Option<(Arc<Partition>, Searcher, DocAddress)>, Error> {
        let query = by_id(id);
        for partition in self.0.readable().into_iter().rev() {
            let searcher = partition.searcher();
            if let Some(address) = partition.read(|partition| first(&query, partition, &searcher))? {
                return Ok(Some((partition, searcher, address)));
            }
        }
        Ok(None)
    }
}

/// The first document that matches.
fn first(query: &BooleanQuery, partition: &Partition, searcher: &Searcher) -> Result<Option<DocAddress>, Error> {
    let failed = || Error::index("search", partition.name);
    let weight = query.weight(EnableScoring::disabled_from_searcher(searcher)).map_err(failed())?;
    for (ord, segment) in (0..).zip(searcher.segment_readers()) {
        let document = weight.scorer(segment, 1.0).map_err(failed())?.doc();
        if document != TERMINATED {
            return Ok(Some(DocAddress::new(ord, document)));
        }
    }
    Ok(None)
}
