//! How much is sent at a time: what OpenSearch takes is found out, not set.
//!
//! Additive increase, multiplicative decrease: each request that is taken allows a little more, in requests at a time
//! and in events a request, up to what the settings allow; one that is put off halves both. Several of one moment count
//! as one, or a single hiccup would end at the least.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Fewest events that are asked for.
const FEW: f64 = 32.0;
/// What a request that was taken adds to the events of the next one.
const MORE: f64 = 32.0;
/// Cuts are at least this far apart.
const MOMENT: Duration = Duration::from_millis(500);

/// Shared by all requests.
#[derive(Debug)]
pub(crate) struct Pace {
    most_requests: f64,
    most_events: f64,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    /// That may be underway.
    requests: f64,
    events: f64,
    underway: usize,
    cut: Option<Instant>,
}

/// Leave for one request, while it lasts.
#[derive(Debug)]
pub(crate) struct Leave<'a>(&'a Pace);

impl Pace {
    pub(crate) fn new(requests: usize, events: usize) -> Self {
        let (most_requests, most_events) = (requests.max(1) as f64, events.max(1) as f64);
        let state = State { requests: 1.0, events: most_events, underway: 0, cut: None };
        Self { most_requests, most_events, state: Mutex::new(state), freed: Notify::new() }
    }

    /// Waits for its turn.
    pub(crate) async fn leave(&self) -> Leave<'_> {
        loop {
            let freed = self.freed.notified();
            {
                let mut state = self.state.lock();
                if state.underway < state.requests as usize {
                    state.underway += 1;
                    return Leave(self);
                }
            }
            freed.await;
        }
    }

    /// Events that the next request should have.
    pub(crate) fn events(&self) -> usize {
        self.state.lock().events as usize
    }

    /// Requests that may be underway now.
    pub(crate) fn requests(&self) -> usize {
        self.state.lock().requests as usize
    }

    pub(crate) fn taken(&self) {
        let mut state = self.state.lock();
        // One more for each round of them.
        state.requests = (state.requests + 1.0 / state.requests).min(self.most_requests);
        state.events = (state.events + MORE).min(self.most_events);
        drop(state);
        self.freed.notify_one();
    }

    pub(crate) fn put_off(&self) {
        let mut state = self.state.lock();
        if state.cut.is_some_and(|cut| cut.elapsed() < MOMENT) {
            return;
        }
        state.cut = Some(Instant::now());
        state.requests = (state.requests / 2.0).max(1.0);
        state.events = (state.events / 2.0).max(FEW.min(self.most_events));
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.state.lock().underway -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_allows_more_and_what_is_put_off_halves_it() {
        let pace = Pace::new(4, 1000);
        assert_eq!((pace.requests(), pace.events()), (1, 1000));
        (0..20).for_each(|_| pace.taken());
        assert_eq!((pace.requests(), pace.events()), (4, 1000));
        // Two of one moment are one.
        pace.put_off();
        pace.put_off();
        assert_eq!((pace.requests(), pace.events()), (2, 500));
        pace.taken();
        assert_eq!((pace.requests(), pace.events()), (2, 532));
    }

    #[test]
    fn the_least_is_one_request_of_a_few_events() {
        let pace = Pace::new(8, 100);
        for _ in 0..20 {
            pace.state.lock().cut = None;
            pace.put_off();
        }
        assert_eq!((pace.requests(), pace.events()), (1, 32));
    }

    #[tokio::test]
    async fn no_more_are_underway_than_may_be() {
        let pace = Pace::new(2, 100);
        let first = pace.leave().await;
        {
            let second = pace.leave();
            tokio::pin!(second);
            assert!(futures_util::poll!(&mut second).is_pending());
            drop(first);
            assert!(futures_util::poll!(&mut second).is_ready());
        }
        assert_eq!(pace.state.lock().underway, 0);
    }
}
