//! Events as they are stored, for those who follow them.
//!
//! A follower keeps an offset, and looks for what matches from there on after each commit of the store: nothing is
//! queued for it, so a slow one costs no memory. One that is too far behind is told how many events it missed, and
//! goes on with the newest. Followers are bounded; one too many is refused.

use std::sync::Arc;

use galen_proto::v1::{Event, FollowEventsResponse};
use galen_store::{Order, Query, Search, Store};
use tokio::{sync::Semaphore, task::spawn_blocking};
use tokio_stream::Stream;

use crate::query::Error;

/// Most followers at a time.
const MAX_FOLLOWERS: usize = 64;
/// A follower that has more matching events before it misses the older ones.
const MAX_BEHIND: u64 = 20_000;
/// Events that are read at a time.
const PAGE: usize = 256;

/// Lets callers follow.
#[derive(Clone)]
pub struct Live {
    store: Store,
    places: Arc<Semaphore>,
}

impl Live {
    pub fn new(store: Store) -> Self {
        Self { store, places: Arc::new(Semaphore::new(MAX_FOLLOWERS)) }
    }

    /// Events that match, from now on. Ends with an error, or when it is dropped.
    ///
    /// # Errors
    /// If there are too many followers.
    pub fn follow(
        &self,
        query: Query,
    ) -> Result<impl Stream<Item = Result<FollowEventsResponse, Error>> + Send + use<>, Error> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Error::Busy("followers"))?;
        let store = self.store.clone();
        let query = Arc::new(query);
        let mut committed = store.committed();
        let mut cursor = *committed.borrow_and_update();
        Ok(async_stream::try_stream! {
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
        })
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
