//! A rate, spent one by one: the generic cell rate algorithm (ITU-T I.371), which keeps one time and no count.
//!
//! The rate and the burst come with each question, so they may change at any moment. A clock that jumps ahead gives one
//! burst at most; one that jumps back, or a rate that was very low, holds nothing up.

use std::time::Duration;

/// When the last one was due, were all evenly spread. So the next is due by the rate of its own question, and not by one
/// that was higher or lower before.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gcra {
    last: Option<Duration>,
    /// By the rate of then.
    fresh: Duration,
}

/// So many a second, and what `burst` gathers of that at once, and one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    pub(crate) rate: f64,
    pub(crate) burst: Duration,
}

impl Gcra {
    /// Whether one more conforms.
    pub(crate) fn conforms(&self, now: Duration, pace: Pace) -> bool {
        pace.rate > 0.0 && self.due(now, pace) <= now.saturating_add(pace.burst)
    }

    /// Counts one.
    pub(crate) fn spend(&mut self, now: Duration, pace: Pace) {
        let last = self.due(now, pace).max(now);
        (self.last, self.fresh) = (Some(last), last.saturating_add(pace.interval()));
    }

    /// Whether it is as a new one.
    pub(crate) fn is_fresh(&self, now: Duration) -> bool {
        self.fresh <= now
    }

    fn due(&self, now: Duration, pace: Pace) -> Duration {
        let full = now.saturating_add(pace.burst);
        match self.last {
            None => Duration::ZERO,
            // That cannot be by itself.
            Some(last) if last > full => full,
            Some(last) => last.saturating_add(pace.interval()),
        }
    }
}

impl Pace {
    fn interval(self) -> Duration {
        Duration::try_from_secs_f64(1.0 / self.rate).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { rate: 10.0, burst: Duration::from_millis(500) };

    fn spent(gcra: &mut Gcra, now: Duration, pace: Pace) -> u32 {
        (0..1000).map_while(|_| gcra.conforms(now, pace).then(|| gcra.spend(now, pace))).count() as u32
    }

    #[test]
    fn it_passes_the_burst_and_then_the_rate() {
        let mut gcra = Gcra::default();
        let start = Duration::from_secs(100);
        assert_eq!(spent(&mut gcra, start, PACE), 6);
        assert_eq!(spent(&mut gcra, start + Duration::from_millis(99), PACE), 0);
        let later: u32 = (1..=30).map(|tenth| spent(&mut gcra, start + tenth * Duration::from_millis(100), PACE)).sum();
        assert_eq!(later, 30);
    }

    #[test]
    fn a_clock_that_jumps_gives_a_burst_and_holds_nothing_up() {
        let mut gcra = Gcra::default();
        let start = Duration::from_secs(10_000);
        spent(&mut gcra, start, PACE);
        assert_eq!(spent(&mut gcra, start * 2, PACE), 6);
        let back = Duration::from_secs(5);
        assert_eq!(spent(&mut gcra, back, PACE), 1);
        let second: u32 = (1..=10).map(|tenth| spent(&mut gcra, back + tenth * Duration::from_millis(100), PACE)).sum();
        assert!((9..=10).contains(&second), "{second}");
    }

    #[test]
    fn a_rate_that_rises_a_little_frees_nothing_at_once_and_one_that_was_low_holds_nothing_up() {
        let pace = |rate| Pace { rate, burst: Duration::from_secs(1) };
        let start = Duration::from_secs(10_000);
        let mut gcra = Gcra::default();
        assert_eq!(spent(&mut gcra, start, pace(0.01)), 1);
        assert_eq!(spent(&mut gcra, start + Duration::from_secs(1), pace(0.0105)), 0);
        assert_eq!(spent(&mut gcra, start + Duration::from_secs(2), pace(1.0)), 2);
    }

    #[test]
    fn a_rate_of_nothing_passes_nothing_and_a_small_one_passes_the_first() {
        let none = Pace { rate: 0.0, ..PACE };
        assert_eq!(spent(&mut Gcra::default(), Duration::from_secs(9), none), 0);
        let rare = Pace { rate: 1e-12, ..PACE };
        assert_eq!(spent(&mut Gcra::default(), Duration::from_secs(9), rare), 1);
    }
}
