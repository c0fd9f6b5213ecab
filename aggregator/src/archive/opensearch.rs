//! OpenSearch as an archive.
//!
//! Followers read the log itself, from its end on, and look through what comes in memory: so an event comes once, in its
//! order and without delay, whatever OpenSearch does. It may come a moment before a search finds it.

use std::sync::Arc;

use galen_log::{BoxFuture, Log};
use galen_opensearch::{Counters, Search};
use galen_proto::v1::{Event, EventId, FollowEventsResponse};
use galen_store::{Query, Sample};
use tokio::task::spawn_blocking;

use super::{Answer, Archive, Doors, Follow, LAG_PROBLEM, Question, State};
use crate::query::Error;

/// Events that are looked through at a time.
const CHUNK: usize = 256;

/// See the module.
pub struct OpenSearch {
    archive: galen_opensearch::Archive,
    counters: Arc<Counters>,
    log: Arc<dyn Log>,
    doors: Doors,
}

impl OpenSearch {
    /// `counters`: of what feeds it from `log`.
    pub fn new(archive: galen_opensearch::Archive, counters: Arc<Counters>, log: Arc<dyn Log>) -> Self {
        Self { archive, counters, log, doors: Doors::new() }
    }
}

impl Archive for OpenSearch {
    fn search(&self, question: Question) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(async move {
            let _place = self.doors.search().await?;
            let search = Search {
                query: &question.query,
                since: question.since,
                until: question.until,
                ascending: question.ascending,
                limit: question.limit,
                page: question.page.as_deref(),
                count_by: &question.count_by,
            };
            let found = self.archive.search(&search).await?;
            Ok(Answer { events: found.events, total: found.total, next: found.next, counts: found.counts })
        })
    }

    fn get(&self, id: EventId) -> BoxFuture<'_, Result<Option<Event>, Error>> {
        Box::pin(async move {
            let _place = self.doors.search().await?;
            Ok(self.archive.get(&id).await?)
        })
    }

    fn follow(&self, query: Query) -> Result<Follow, Error> {
        let place = self.doors.follower()?;
        let query = Arc::new(query);
        let mut reader = self.log.reader(self.log.bounds().next);
        Ok(Box::pin(async_stream::try_stream! {
            let _place = place;
            let mut missed = 0;
            loop {
                let chunk = reader.next(CHUNK).await?;
                missed += chunk.skipped.iter().map(|skipped| skipped.next - skipped.first).sum::<u64>();
                let records: Vec<_> = chunk.entries.into_iter().map(|entry| entry.record).collect();
                let query = Arc::clone(&query);
                for event in spawn_blocking(move || Sample::new(&records)?.matching(&query)).await?? {
                    yield FollowEventsResponse { event: Some(event), missed: std::mem::take(&mut missed) };
                }
            }
        }))
    }

    fn state(&self) -> BoxFuture<'_, Result<State, Error>> {
        Box::pin(async {
            let stats = self.counters.stats();
            let mut problems = self.behind();
            let aside: u64 = stats.poisoned.values().sum();
            if aside > 0 {
                problems.push(format!("{aside} events that OpenSearch refused went to its dead letters"));
            }
            if stats.unreadable > 0 {
                problems.push(format!("{} events could not be decoded: query `_exists_:defect`", stats.unreadable));
            }
            let size = match self.archive.size().await {
                Ok(size) => size,
                Err(error) => {
                    problems
                        .push(format!("OpenSearch does not tell how much it has: {}", galen_runtime::Chain(&error)));
                    galen_opensearch::Size::default()
                }
            };
            Ok(State {
                next_offset: self.log.bounds().next.saturating_sub(stats.lag),
                events: size.events,
                bytes: size.bytes,
                stored: stats.events + stats.partly + stats.unreadable + aside,
                quarantined: stats.unreadable + aside,
                problems,
            })
        })
    }

    fn behind(&self) -> Vec<String> {
        let stats = self.counters.stats();
        let lag = (stats.lag > LAG_PROBLEM).then(|| format!("OpenSearch is {} events behind the log", stats.lag));
        stats.problem.into_iter().chain(lag).collect()
    }
}
