//! Finds events: matches, order, pages and totals over all indexes, in one pass over the matches.
//!
//! Order is by observed time, then by log offset, so that a page ends at a place that later events cannot move. An
//! index or segment whose times lie outside the range is not looked into. The pass watches a deadline, and keeps as
//! many candidates as the page holds, however many match.

use std::{
    collections::BinaryHeap,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use tantivy::{
    DocAddress, DocSet, Searcher, SegmentReader, TERMINATED,
    query::{EnableScoring, Query},
};

use crate::{
    catalog::Catalog,
    counts::{Counter, Tally},
    error::Error,
    hit::{self, Hit},
    page::{Key, Order},
    partition::Partition,
    query::is_late,
};

/// Longest run of one search.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Events of an answer are at most this many bytes, so that it fits into a message; always one event.
pub const MAX_BYTES: usize = 3 << 20;
/// Most events in an answer.
pub const MAX_LIMIT: usize = 1000;
/// Most fields that are counted at a time.
pub const MAX_COUNTS: usize = 8;

/// What to look for.
#[derive(Debug)]
pub struct Search<'a> {
    /// Which events.
    pub query: &'a crate::Query,
    /// Observed at or after, nanoseconds since 1970-01-01 UTC.
    pub since: Option<i64>,
    /// Observed before, nanoseconds since 1970-01-01 UTC.
    pub until: Option<i64>,
    /// Offsets in the log.
    pub offsets: Range<u64>,
    /// How to order.
    pub order: Order,
    /// Most events of the answer; at most [`MAX_LIMIT`].
    pub limit: usize,
    /// Where the page begins: after this key.
    pub after: Option<Key>,
    /// Fields whose values to count; at most [`MAX_COUNTS`].
    pub count_by: &'a [String],
}

impl<'a> Search<'a> {
    /// The newest events that match.
    #[must_use]
    pub fn newest(query: &'a crate::Query, limit: usize) -> Self {
        Self {
            query,
            since: None,
            until: None,
            offsets: 0..u64::MAX,
            order: Order::NewestFirst,
            limit,
            after: None,
            count_by: &[],
        }
    }
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The page.
    pub hits: Vec<Hit>,
    /// Events that match, on all pages.
    pub total: u64,
    /// Where the next page begins, if there is one.
    pub next: Option<Key>,
    /// In the order asked for.
    pub counts: Vec<Tally>,
}

/// How many events match, by the values of a field, until `end`.
pub(crate) fn count(
    catalog: &Catalog,
    query: &crate::Query,
    field: &str,
    end: Instant,
) -> Result<Vec<(String, u64)>, Error> {
    let search = Search::newest(query, 0);
    let counters = vec![Counter::new(field)?];
    let mut pass = Pass { search: &search, keep: 1, best: BinaryHeap::new(), total: 0, end, counters };
    pass.run(catalog)?;
    Ok(pass.counters.into_iter().flat_map(|counter| counter.finish_whole().values).collect())
}

/// Finds, until `end`.
pub(crate) fn run(catalog: &Catalog, search: &Search<'_>, end: Instant) -> Result<Found, Error> {
    let limit = search.limit.min(MAX_LIMIT);
    let mut pass = Pass {
        search,
        keep: limit + 1,
        best: BinaryHeap::new(),
        total: 0,
        end,
        counters: search.count_by.iter().map(|field| Counter::new(field)).collect::<Result<_, _>>()?,
    };
    let searchers = pass.run(catalog)?;
    let mut best = pass.best.into_sorted_vec();
    let mut more = best.len() > limit;
    best.truncate(limit);

    let mut hits = Vec::with_capacity(best.len());
    let mut bytes = 0;
    for candidate in &best {
        let (partition, searcher) = &searchers[candidate.index];
        let hit = partition.read(|partition| hit::load(partition, searcher, candidate.document))?;
        bytes += hit.bytes;
        if bytes > MAX_BYTES && !hits.is_empty() {
            more = true;
            break;
        }
        hits.push(hit);
    }
    let next = more.then(|| hits.last().map(|hit| Key { time: hit.time, offset: hit.offset })).flatten();
    let counts = pass.counters.into_iter().map(Counter::finish).collect();
    Ok(Found { hits, total: pass.total, next, counts })
}

/// A match that may be in the page. Ordered by its rank alone.
struct Candidate {
    rank: (u64, u64),
    index: usize,
    document: DocAddress,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

enum Failure {
    Engine(tantivy::TantivyError),
    Store(Error),
}

impl Failure {
    fn name<F: FnOnce(tantivy::TantivyError) -> Error>(self, name: impl FnOnce() -> F) -> Error {
        match self {
            Self::Engine(error) => name()(error),
            Self::Store(error) => error,
        }
    }
}

impl From<tantivy::TantivyError> for Failure {
    fn from(error: tantivy::TantivyError) -> Self {
        if is_late(&error) { Self::Store(late()) } else { Self::Engine(error) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

pub(crate) fn late() -> Error {
    Error::Deadline(DEADLINE.as_secs())
}

struct Pass<'a> {
    search: &'a Search<'a>,
    /// Candidates to keep: one more than the page holds, to know whether there is a next one.
    keep: usize,
    best: BinaryHeap<Candidate>,
    total: u64,
    end: Instant,
    counters: Vec<Counter>,
}

impl Pass<'_> {
    /// Looks into all indexes. Returns them, in the order of the candidates' places.
    fn run(&mut self, catalog: &Catalog) -> Result<Vec<(Arc<Partition>, Searcher)>, Error> {
        let compiled = self.search.query.compile(self.end)?;
        let mut searchers = Vec::new();
        for partition in catalog.readable() {
            let searcher = partition.read(|partition| {
                let searcher = partition.searcher();
                self.index(searchers.len(), &searcher, &*compiled)
                    .map_err(|failure| failure.name(|| Error::index("search", partition.name)))?;
                Ok(searcher)
            })?;
            searchers.push((partition, searcher));
        }
        Ok(searchers)
    }

    fn index(&mut self, index: usize, searcher: &Searcher, compiled: &dyn Query) -> Result<(), Failure> {
        let weight = compiled.weight(EnableScoring::disabled_from_searcher(searcher))?;
        for (ord, segment) in (0..).zip(searcher.segment_readers()) {
            self.segment(index, ord, segment, &*weight)?;
        }
        Ok(())
    }

    fn segment(
        &mut self,
        index: usize,
        ord: u32,
        segment: &SegmentReader,
        weight: &dyn tantivy::query::Weight,
    ) -> Result<(), Failure> {
        let search = self.search;
        let since = search.since.unwrap_or(i64::MIN);
        let until = search.until.unwrap_or(i64::MAX);
        let times = segment.fast_fields().i64("time")?;
        let offsets = segment.fast_fields().u64("offset")?;
        let apart = times.max_value() < since
            || (times.min_value() >= until && search.until.is_some())
            || offsets.max_value() < search.offsets.start
            || offsets.min_value() >= search.offsets.end;
        if apart {
            return Ok(());
        }
        for counter in &mut self.counters {
            counter.enter(segment)?;
        }
        if Instant::now() >= self.end {
            return Err(late().into());
        }
        let after = search.after.map(|key| search.order.rank(key));
        let mut scorer = weight.scorer(segment, 1.0)?;
        let mut document = scorer.doc();
        let mut seen = 0_u32;
        while document != TERMINATED {
            seen = seen.wrapping_add(1);
            if seen.is_multiple_of(4096) && Instant::now() > self.end {
                return Err(late().into());
            }
            let key = Key {
                time: times.first(document).unwrap_or_default(),
                offset: offsets.first(document).unwrap_or_default(),
            };
            let inside = since <= key.time
                && (key.time < until || search.until.is_none())
                && search.offsets.contains(&key.offset);
            if inside {
                self.total += 1;
                for counter in &mut self.counters {
                    counter.count(document)?;
                }
                let rank = search.order.rank(key);
                if after.is_none_or(|after| rank > after) {
                    self.offer(Candidate { rank, index, document: DocAddress::new(ord, document) });
                }
            }
            document = scorer.advance();
        }
        for counter in &mut self.counters {
            counter.leave()?;
        }
        Ok(())
    }

    fn offer(&mut self, candidate: Candidate) {
        if self.best.len() < self.keep {
            self.best.push(candidate);
        } else if self.best.peek().is_some_and(|worst| candidate.rank < worst.rank) {
            self.best.pop();
            self.best.push(candidate);
        }
    }
}
