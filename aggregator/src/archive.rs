//! Where events are found: one interface to the embedded store and to OpenSearch, which answer the same questions in the
//! same words.

mod embedded;
mod kept;
mod opensearch;

use std::{pin::Pin, sync::Arc, time::Duration};

use galen_log::BoxFuture;
use galen_proto::v1::{Event, EventId, FollowEventsResponse};
use galen_store::{Query, Tally};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::timeout,
};
use tokio_stream::Stream;

pub use embedded::Embedded;
pub use kept::Kept;
pub use opensearch::OpenSearch;

use crate::query::Error;

/// Searches that run at a time.
const MAX_SEARCHES: usize = 4;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most followers at a time.
const MAX_FOLLOWERS: usize = 64;
/// How far behind the log its readers may be before it is called a problem, in events.
pub(crate) const LAG_PROBLEM: u64 = 100_000;

/// What answers questions about events.
pub trait Archive: Send + Sync {
    /// Events that match, a page at a time.
    ///
    /// # Errors
    /// If the question is wrong, or cannot be answered now.
    fn search(&self, question: Question) -> BoxFuture<'_, Result<Answer, Error>>;

    /// One event with its attachments, if it is there.
    ///
    /// # Errors
    /// If it cannot be looked for now.
    fn get(&self, id: EventId) -> BoxFuture<'_, Result<Option<Event>, Error>>;

    /// Events that match, from now on. Ends with an error, or when it is dropped.
    ///
    /// # Errors
    /// If there are too many followers.
    fn follow(&self, query: Query) -> Result<Follow, Error>;

    /// How it is.
    ///
    /// # Errors
    /// If it cannot be looked at.
    fn state(&self) -> BoxFuture<'_, Result<State, Error>>;

    /// Why it does not have what is new, one line each. Asks nobody, so it answers at once.
    fn behind(&self) -> Vec<String>;
}

/// What comes to a follower.
pub type Follow = Pin<Box<dyn Stream<Item = Result<FollowEventsResponse, Error>> + Send>>;

/// What to look for.
#[derive(Debug)]
pub struct Question {
    pub query: Query,
    /// Observed at or after, nanoseconds since 1970-01-01 UTC.
    pub since: Option<i64>,
    /// Observed before, nanoseconds since 1970-01-01 UTC.
    pub until: Option<i64>,
    /// Oldest first instead of newest first.
    pub ascending: bool,
    pub limit: usize,
    /// Where the page begins: `next` of the one before.
    pub page: Option<String>,
    /// Fields whose values to count.
    pub count_by: Vec<String>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Answer {
    /// Their attachments carry no content.
    pub events: Vec<Event>,
    /// Events that match, on all pages.
    pub total: u64,
    pub next: Option<String>,
    /// In the order asked for.
    pub counts: Vec<Tally>,
}

/// How an archive is.
#[derive(Debug, Default)]
pub struct State {
    /// Offset in the log of what is not in it yet.
    pub next_offset: u64,
    pub events: u64,
    pub bytes: u64,
    /// Events that were taken since the start, those put aside included.
    pub stored: u64,
    /// Events that could not be read, or were put aside, since the start.
    pub quarantined: u64,
    /// What is wrong, one line each.
    pub problems: Vec<String>,
}

/// Bounds what is asked at a time.
#[derive(Debug)]
struct Doors {
    searches: Semaphore,
    followers: Arc<Semaphore>,
}

impl Doors {
    fn new() -> Self {
        Self { searches: Semaphore::new(MAX_SEARCHES), followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)) }
    }

    /// A place for a search; refused as busy if none is to be had in time.
    async fn search(&self) -> Result<SemaphorePermit<'_>, Error> {
        let place = timeout(PATIENCE, self.searches.acquire()).await;
        place.ok().and_then(Result::ok).ok_or(Error::Busy("searches"))
    }

    fn follower(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.followers).try_acquire_owned().map_err(|_| Error::Busy("followers"))
    }
}
