//! In the background, every [`PERIOD`]: asks for the next lease, and computes whose events it is for.
//!
//! Without an answer of Redis it goes on with the safe share: capacity / the most replicas that were known in the last
//! [`FORGET`], or that the table says there may be. Nobody waits for it: the hot path has what was installed last, and
//! when that has ended, nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    FORGET, LIFETIME, Lease, Limiter, PERIOD, Redis, Table,
    limiter::{Question, parts},
    redis::{Answer, Error, Request},
    refill::Refill,
    shares,
};

/// A limiter, shared by who asks and who keeps it going. Clones are the same.
#[derive(Clone)]
pub struct Shared {
    limiter: Arc<Mutex<Limiter>>,
    clock: Clock,
}

/// Time since some moment; must not stand still while the process is stopped.
type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Keeps a limiter in leases.
pub struct Keeper {
    shared: Shared,
    /// `None`: this is the only replica.
    redis: Option<Redis>,
    refill: Refill,
    /// Of a token that it should have a lease for.
    owed: f64,
    /// Events a second that it should have a lease for; at first unknown.
    wanted: Option<f64>,
    known: Known,
    /// Redis did not answer the last question.
    is_safe: bool,
}

/// The most replicas that there were lately.
#[derive(Debug, Default)]
struct Known {
    replicas: u32,
    seen: Duration,
}

impl Shared {
    pub fn new(table: Table) -> Self {
        let start = Instant::now();
        Self::with_clock(table, Arc::new(move || start.elapsed()))
    }

    pub fn with_clock(table: Table, clock: Clock) -> Self {
        Self { limiter: Arc::new(Mutex::new(Limiter::new(table))), clock }
    }

    /// For as many questions as come at once.
    pub fn lock(&self) -> MutexGuard<'_, Limiter> {
        self.limiter.lock()
    }

    pub fn now(&self) -> Duration {
        (self.clock)()
    }
}

impl Keeper {
    pub fn new(shared: Shared, redis: Option<Redis>) -> Self {
        let (refill, known) = (Refill::default(), Known::default());
        Self { shared, redis, refill, owed: 0.0, wanted: None, known, is_safe: false }
    }

    /// Does not end by itself. May be dropped at any moment; then [`Keeper::leave`] says so.
    pub async fn run(&mut self) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.turn().await;
        }
    }

    /// Gives back what was kept for this replica.
    pub async fn leave(&mut self) {
        if let Some(redis) = &mut self.redis {
            redis.leave().await;
        }
    }

    /// One lease.
    pub async fn turn(&mut self) {
        // Before it is asked for: a lease ends for us no later than for who gave it.
        let asked = self.shared.now();
        let question = self.shared.lock().question(asked);
        let table = &question.table;
        let answer = self.ask(&question).await;
        let now = self.shared.now();
        let (capacity, answer) = match answer {
            Some(answer) => {
                let all = answer.alive + answer.silent;
                self.known.hear(all, now);
                (table.capacity * f64::from(answer.alive) / f64::from(all), answer)
            }
            None => {
                let capacity = table.capacity / f64::from(self.known.replicas.max(table.replicas));
                (capacity, Answer { tokens: self.refill.take(now, capacity, u64::MAX), ..Answer::default() })
            }
        };
        let shares = shares::compute(table, capacity, &question.demands, &answer.others);
        self.wanted = Some(shares.wanted);
        let parts = parts(&shares, &question.nodes);
        let lease = Lease { tokens: answer.tokens, epoch: question.epoch, expires: asked + LIFETIME };
        self.shared.lock().install(now, lease, parts);
    }

    /// `None`: the safe share, or all of it if there is no other replica.
    async fn ask(&mut self, question: &Question) -> Option<Answer> {
        let table = &question.table;
        let Some(redis) = &mut self.redis else {
            let tokens = self.refill.take(self.shared.now(), table.capacity, u64::MAX);
            return Some(Answer { tokens, alive: 1, ..Answer::default() });
        };
        // What was not yet asked for: a part of what everybody may have.
        let wanted = self.wanted.unwrap_or(table.capacity / f64::from(table.replicas));
        let tokens = wanted * PERIOD.as_secs_f64() + self.owed;
        self.owed = tokens.fract();
        let request = Request { demands: &question.demands, tokens: tokens as u64, capacity: table.capacity };
        let answer = redis.ask(request).await;
        self.note(answer.as_ref().err());
        answer.ok()
    }

    fn note(&mut self, error: Option<&Error>) {
        if error.is_some() != self.is_safe {
            match error {
                Some(error) => tracing::warn!(
                    error = %galen_runtime::Chain(error),
                    "no lease from Redis: the safe share holds until it answers"
                ),
                None => tracing::info!("Redis answers: leases are from there again"),
            }
        }
        self.is_safe = error.is_some();
        self.shared.lock().set_safe(self.is_safe);
    }
}

impl Known {
    fn hear(&mut self, replicas: u32, now: Duration) {
        if replicas >= self.replicas || now.saturating_sub(self.seen) > FORGET {
            *self = Self { replicas, seen: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_that_forgot_does_not_make_a_replica_believe_that_it_is_alone() {
        let mut known = Known::default();
        let second = Duration::from_secs(1);
        known.hear(3, second);
        known.hear(1, second * 2);
        assert_eq!(known.replicas, 3);
        known.hear(1, second * 2 + FORGET);
        assert_eq!(known.replicas, 1);
    }

    #[tokio::test]
    async fn one_replica_spends_all_of_it() {
        let clock = Arc::new(Mutex::new(PERIOD));
        let read = Arc::clone(&clock);
        let shared = Shared::with_clock(Table::new(1000.0, 1), Arc::new(move || *read.lock()));
        let mut keeper = Keeper::new(shared.clone(), None);
        let mut passed = 0;
        for _ in 0..40 {
            keeper.turn().await;
            let now = shared.now();
            passed += (0..1000).filter(|_| shared.lock().ask(now, "t", "", "n") == crate::Verdict::Pass).count();
            *clock.lock() += PERIOD;
        }
        assert!((8_500..=10_250).contains(&passed), "{passed} in ten seconds");
    }
}
