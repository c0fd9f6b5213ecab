//! The embedded store as an archive.
//!
//! Searches block on the disk, so they run on threads for that, a bounded number at a time; one that finds no place in
//! time is refused as busy.
//!
//! A follower keeps an offset, and looks for what matches from there on after each commit of the store: nothing is
//! queued for it, so a slow one costs no memory. One that is too far behind is told how many events it missed, and
//! goes on with the newest.

use std::sync::Arc;

use galen_log::{BoxFuture, Log};
use galen_proto::v1::{Event, EventId, FollowEventsResponse};
use galen_store::{Order, Query, Search, Store};
use tokio::task::spawn_blocking;

use super::{Answer, Archive, Doors, Follow, LAG_PROBLEM, Question, State};
use crate::{indexer::Position, query::Error};

/// A follower that has more matching events before it misses the older ones.
const MAX_BEHIND: u64 = 20_000;
/// Events that are read at a time.
const PAGE: usize = 256;

/// See the module.
pub struct Embedded {
    store: Store,
    log: Arc<dyn Log>,
    indexed: Position,
    doors: Doors,
}

impl Embedded {
    /// `indexed`: how far the log is in the store.
    pub fn new(store: Store, log: Arc<dyn Log>, indexed: Position) -> Self {
        Self { store, log, indexed, doors: Doors::new() }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Store) -> Result<T, galen_store::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let place = self.doors.search().await?;
        let store = self.store.clone();
        let answer = spawn_blocking(move || ask(&store)).await;
        drop(place);
        Ok(answer??)
    }
}

impl Archive for Embedded {
    fn search(&self, question: Question) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(async move {
            let after = question.page.as_deref().map(str::parse).transpose()?;
            let found = self.blocking(move |store| {
                store.search(&Search {
                    query: &question.query,
                    since: question.since,
                    until: question.until,
                    offsets: 0..u64::MAX,
                    order: if question.ascending { Order::OldestFirst } else { Order::NewestFirst },
                    limit: question.limit,
                    after,
                    count_by: &question.count_by,
                })
            });
            let found = found.await?;
            Ok(Answer {
                events: found.hits.into_iter().map(|hit| hit.event).collect(),
                total: found.total,
                next: found.next.map(|key| key.to_string()),
                counts: found.counts,
            })
        })
    }

    fn get(&self, id: EventId) -> BoxFuture<'_, Result<Option<Event>, Error>> {
        Box::pin(self.blocking(move |store| store.get(&id)))
    }

    fn follow(&self, query: Query) -> Result<Follow, Error> {
        let place = self.doors.follower()?;
        let store = self.store.clone();
        let query = Arc::new(query);
        let mut committed = store.committed();
        let mut cursor = *committed.borrow_and_update();
        Ok(Box::pin(async_stream::try_stream! {
            let _place = place;
            while committed.changed().await.is_ok() {
                let next = *committed.borrow_and_update();
                // The offsets have begun anew.
                cursor = cursor.min(next);
                while cursor < next {
                    let (store, query) = (store.clone(), Arc::clone(&query));
                    let page = spawn_blocking(move || read(&store, &query, cursor, next)).await??;
                    cursor = page.cursor;
                    let mut missed = page.missed;
                    for event in page.events {
                        yield FollowEventsResponse { event: Some(event), missed: std::mem::take(&mut missed) };
                    }
                }
            }
        }))
    }

    fn state(&self) -> BoxFuture<'_, Result<State, Error>> {
        Box::pin(async {
            let stats = self.blocking(|store| Ok(store.stats())).await?;
            let mut problems = self.behind();
            if stats.suspect > 0 {
                let suspect = stats.suspect;
                problems.push(format!("{suspect} indexes of the store failed a search and are left out for now"));
            }
            if stats.damaged > 0 {
                problems.push(format!("{} damaged indexes of the store were put aside", stats.damaged));
            }
            if stats.unreadable > 0 {
                problems.push(format!("{} events could not be decoded: query `_exists_:defect`", stats.unreadable));
            }
            Ok(State {
                next_offset: stats.next_offset,
                events: stats.events,
                bytes: stats.bytes,
                stored: stats.indexed + stats.partly + stats.unreadable,
                quarantined: stats.unreadable,
                problems,
            })
        })
    }

    fn behind(&self) -> Vec<String> {
        let lag = self.log.bounds().next.saturating_sub(self.indexed.get());
        let behind = (lag > LAG_PROBLEM).then(|| format!("the store is {lag} events behind the log"));
        behind.into_iter().collect()
    }
}

struct Page {
    /// As they were logged.
    events: Vec<Event>,
    /// Matching events before these that were left out.
    missed: u64,
    /// Where to go on.
    cursor: u64,
}

fn read(store: &Store, query: &Query, cursor: u64, next: u64) -> Result<Page, Error> {
    let search = Search { offsets: cursor..next, order: Order::Logged, ..Search::newest(query, PAGE) };
    let found = store.search(&search)?;
    if found.total <= MAX_BEHIND {
        let cursor = found.next.map_or(next, |key| key.offset + 1);
        let events = found.hits.into_iter().map(|hit| hit.event).collect();
        return Ok(Page { events, missed: 0, cursor });
    }
    let newest = store.search(&Search { order: Order::LastLogged, ..search })?;
    let missed = newest.total.saturating_sub(newest.hits.len() as u64);
    let events = newest.hits.into_iter().rev().map(|hit| hit.event).collect();
    Ok(Page { events, missed, cursor: next })
}
