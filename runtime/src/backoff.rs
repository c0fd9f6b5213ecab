//! Exponential back-off with full jitter: each wait is uniform between zero and a bound that doubles up to a cap.
//!
//! Full jitter spreads a fleet that lost its aggregator at the same moment evenly over the bound, where equal waits
//! would bring it back as one herd. Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

/// The waits of one retried thing.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    bound: Duration,
}

impl Backoff {
    /// The first wait is at most `base`, any wait at most `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        let base = base.min(cap);
        Self { base, cap, bound: base }
    }

    /// How long to wait now.
    #[allow(clippy::should_implement_trait, reason = "an endless series that is also reset is no iterator")]
    pub fn next(&mut self) -> Duration {
        let wait = self.bound.mul_f64(fastrand::f64());
        self.bound = self.bound.saturating_mul(2).min(self.cap);
        wait
    }

    /// After a success: the next wait is at most `base` again.
    pub fn reset(&mut self) {
        self.bound = self.base;
    }

    /// The longest wait there can be.
    pub fn cap(&self) -> Duration {
        self.cap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(5);

    #[test]
    fn waits_stay_below_a_bound_that_doubles_up_to_the_cap() {
        for _ in 0..100 {
            let mut backoff = Backoff::new(BASE, CAP);
            let mut bound = BASE;
            for _ in 0..20 {
                assert!(backoff.next() <= bound);
                bound = (bound * 2).min(CAP);
            }
        }
    }

    #[test]
    fn waits_use_the_whole_range_up_to_the_cap() {
        let mut backoff = Backoff::new(BASE, CAP);
        let waits: Vec<_> = (0..1000).map(|_| backoff.next()).skip(10).collect();
        assert!(waits.iter().any(|wait| *wait < CAP / 4));
        assert!(waits.iter().any(|wait| *wait > CAP * 3 / 4));
    }

    #[test]
    fn reset_begins_at_the_base_again() {
        let mut backoff = Backoff::new(BASE, CAP);
        for _ in 0..10 {
            backoff.next();
        }
        backoff.reset();
        assert!(backoff.next() <= BASE);
    }

    #[test]
    fn a_base_above_the_cap_is_the_cap() {
        assert!(Backoff::new(CAP * 2, CAP).next() <= CAP);
    }

    #[test]
    fn endless_doubling_does_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::MAX);
        for _ in 0..200 {
            let _ = backoff.bound.saturating_mul(2);
            backoff.bound = backoff.bound.saturating_mul(2).min(backoff.cap);
        }
        assert_eq!(backoff.bound, Duration::MAX);
    }
}
