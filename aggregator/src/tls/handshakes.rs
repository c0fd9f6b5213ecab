//! Handshakes: how many are underway, and which makes room when there are too many.
//!
//! Whoever opens connections and says nothing must not keep agents out, and a fleet that comes back at once must not be
//! thrown out for its number. A client speaks first, so when there is no place all go that have not done it in a moment.
//! Of those that have spoken, the oldest goes that is slow: the places are few enough that real handshakes are done long
//! before. Until one has to go the next waits, in the kernel's queue with all behind it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{
    LazyConfigAcceptor,
    rustls::{ServerConfig, server::Acceptor},
    server::TlsStream,
};
use tokio_util::sync::CancellationToken;

use super::Failure;

/// Age from which on one gives way that has not said what it wants.
const SILENT: Duration = Duration::from_millis(250);
/// And one that has.
const SLOW: Duration = Duration::from_millis(2500);
/// How long those that are to give way may take for it, before others are to.
const GIVING_WAY: Duration = Duration::from_millis(100);

/// The handshakes of one listener.
pub(crate) struct Handshakes {
    places: Arc<Semaphore>,
    most: usize,
    silent: Queue,
    speaking: Queue,
}

/// Oldest first; some may be done.
type Queue = VecDeque<(Instant, Weak<State>)>;

/// The place of one, until it is dropped.
pub(crate) struct Place {
    state: Arc<State>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Default)]
struct State {
    spoke: AtomicBool,
    /// It is to go if it is silent, and whatever it has said.
    goes_silent: CancellationToken,
    goes: CancellationToken,
}

impl Place {
    /// Makes the handshake, within `patience`, with the settings that are the newest when its first message has come.
    pub(crate) async fn accept(
        self,
        stream: TcpStream,
        newest: impl FnOnce() -> Arc<ServerConfig>,
        patience: Duration,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let State { spoke, goes_silent, goes } = &*self.state;
        let handshake = async {
            let hello = tokio::select! {
                // First, because what it has said may have come while nobody looked.
                biased;
                hello = LazyConfigAcceptor::new(Acceptor::default(), stream) => hello.map_err(Failure::Error)?,
                () = goes_silent.cancelled() => return Err(Failure::CrowdedOut),
            };
            spoke.store(true, Ordering::Relaxed);
            hello.into_stream(newest()).await.map_err(Failure::Error)
        };
        tokio::select! {
            biased;
            done = timeout(patience, handshake) => done.unwrap_or(Err(Failure::Timeout)),
            () = goes.cancelled() => Err(Failure::CrowdedOut),
        }
    }
}

impl Handshakes {
    /// At most so many at a time.
    pub(crate) fn of(most: usize) -> Self {
        let places = Arc::new(Semaphore::new(most));
        Self { places, most, silent: Queue::new(), speaking: Queue::new() }
    }

    /// Waits for a place.
    pub(crate) async fn begin(&mut self) -> Place {
        let mut patient_until = Instant::now();
        let permit = loop {
            self.sort();
            let due = |queue: &Queue, age| queue.front().map(|(begun, _)| *begun + age);
            let due = [due(&self.silent, SILENT), due(&self.speaking, SLOW)].into_iter().flatten().min();
            let until = due.unwrap_or_else(|| Instant::now() + SLOW).max(patient_until);
            match timeout_at(until, Arc::clone(&self.places).acquire_owned()).await {
                Ok(Ok(permit)) => break permit,
                // The permits are never closed.
                Ok(Err(_)) | Err(_) => {
                    self.make_room();
                    patient_until = Instant::now() + GIVING_WAY;
                }
            }
        };
        let state = Arc::new(State::default());
        push(&mut self.silent, (Instant::now(), Arc::downgrade(&state)), self.most);
        Place { state, _permit: permit }
    }

    /// Looks which are done, and which have spoken.
    fn sort(&mut self) {
        while let Some((begun, state)) = self.silent.front() {
            match state.upgrade() {
                Some(state) if !state.spoke.load(Ordering::Relaxed) => break,
                Some(state) => push(&mut self.speaking, (*begun, Arc::downgrade(&state)), self.most),
                None => {}
            }
            self.silent.pop_front();
        }
        while self.speaking.front().is_some_and(|(_, state)| state.strong_count() == 0) {
            self.speaking.pop_front();
        }
    }

    fn make_room(&mut self) {
        self.sort();
        let now = Instant::now();
        let is_due = |queue: &Queue, age| queue.front().is_some_and(|(begun, _)| *begun + age <= now);
        if !is_due(&self.silent, SILENT) {
            let slow = is_due(&self.speaking, SLOW).then(|| self.speaking.pop_front()).flatten();
            if let Some(slow) = slow.and_then(|(_, state)| state.upgrade()) {
                slow.goes.cancel();
            }
            return;
        }
        while is_due(&self.silent, SILENT)
            && let Some((begun, state)) = self.silent.pop_front()
        {
            if let Some(silent) = state.upgrade() {
                silent.goes_silent.cancel();
            }
            // It stays if it turns out to have spoken.
            push(&mut self.speaking, (begun, state), self.most);
        }
    }
}

/// Adds to a queue, of which at most `most` are not done.
fn push(queue: &mut Queue, handshake: (Instant, Weak<State>), most: usize) {
    if queue.len() >= 2 * most {
        queue.retain(|(_, state)| state.strong_count() > 0);
    }
    queue.push_back(handshake);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits until it is to go, and goes.
    async fn goes(place: Place) {
        place.state.goes.cancelled().await;
    }

    async fn goes_silent(place: Place) {
        place.state.goes_silent.cancelled().await;
    }

    fn stays(place: &Place) -> bool {
        !place.state.goes.is_cancelled() && !place.state.goes_silent.is_cancelled()
    }

    fn speaks(place: &Place) {
        place.state.spoke.store(true, Ordering::Relaxed);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_say_nothing_make_room_before_one_that_has_spoken() {
        let mut handshakes = Handshakes::of(4);
        let speaking = handshakes.begin().await;
        speaks(&speaking);
        let (one, other) = (handshakes.begin().await, handshakes.begin().await);
        let began = Instant::now();
        tokio::time::advance(SILENT / 2).await;
        let later = handshakes.begin().await;
        let (next, (), ()) = tokio::join!(handshakes.begin(), goes_silent(one), goes_silent(other));
        assert_eq!(began.elapsed(), SILENT);
        assert!([&speaking, &later, &next].into_iter().all(stays));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_turns_out_to_have_spoken_stays_until_it_is_slow() {
        let mut handshakes = Handshakes::of(1);
        let (began, unseen) = (Instant::now(), handshakes.begin().await);
        let seen_late = async {
            unseen.state.goes_silent.cancelled().await;
            speaks(&unseen);
            goes(unseen).await;
        };
        tokio::join!(handshakes.begin(), seen_late);
        assert_eq!(began.elapsed(), SLOW);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_that_is_slow_makes_room_and_none_that_is_not() {
        let mut handshakes = Handshakes::of(2);
        let (began, first) = (Instant::now(), handshakes.begin().await);
        speaks(&first);
        tokio::time::advance(SLOW / 2).await;
        let second = handshakes.begin().await;
        speaks(&second);
        let (third, ()) = tokio::join!(handshakes.begin(), goes(first));
        assert_eq!(began.elapsed(), SLOW);
        assert!(stays(&second) && stays(&third));
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_done_leave_their_places_at_once_and_are_forgotten() {
        let mut handshakes = Handshakes::of(2);
        let (began, _silent) = (Instant::now(), handshakes.begin().await);
        for _ in 0..20 {
            speaks(&handshakes.begin().await);
        }
        assert_eq!(began, Instant::now());
        assert!(handshakes.silent.len() + handshakes.speaking.len() <= 8);
    }
}
