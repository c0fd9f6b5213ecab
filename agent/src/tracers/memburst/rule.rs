//! When anonymous memory bursts: it has grown by so much within the window, and it is so much of the machine.
//!
//! Compared is the newest sample with the oldest of the window; until the window is full, with the least seen so far,
//! so that a burst soon after the start is seen too. Both conditions hold from their threshold on.

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;

/// In percent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thresholds {
    pub growth: f64,
    pub share: f64,
}

/// The samples of a window.
#[derive(Debug)]
pub(super) struct Ring {
    window: Duration,
    /// Oldest first: time, and bytes of anonymous memory.
    samples: VecDeque<(Duration, u64)>,
}

/// What the newest sample is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Against {
    /// The oldest sample of the full window.
    Oldest,
    /// The least seen since the start, which was less than a window ago.
    Least,
}

/// The rule was met.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Burst {
    pub anon: u64,
    pub before: u64,
    pub against: Against,
    /// How long ago `before` was.
    pub within: Duration,
    pub growth_percent: f64,
    pub share_percent: f64,
}

impl Ring {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, samples: VecDeque::new() }
    }

    /// Takes a sample; a burst if it meets the rule against those before it.
    pub(super) fn push(&mut self, now: Duration, anon: u64, total: u64, thresholds: &Thresholds) -> Option<Burst> {
        // None in the first window after boot.
        let start = now.checked_sub(self.window);
        let a_window_old = |sample: Option<&(Duration, u64)>| sample.is_some_and(|(time, _)| Some(*time) <= start);
        // The youngest sample that is a window old stays: it is the oldest to compare with.
        while a_window_old(self.samples.get(1)) {
            self.samples.pop_front();
        }
        let before = if a_window_old(self.samples.front()) {
            self.samples.front().map(|sample| (Against::Oldest, *sample))
        } else {
            self.samples.iter().min_by_key(|(_, anon)| *anon).map(|sample| (Against::Least, *sample))
        };
        self.samples.push_back((now, anon));
        let (against, (time, before)) = before?;
        let growth_percent = 100.0 * (anon as f64 - before as f64) / (before as f64).max(1.0);
        let share_percent = 100.0 * anon as f64 / (total as f64).max(1.0);
        (growth_percent >= thresholds.growth && share_percent >= thresholds.share).then_some(Burst {
            anon,
            before,
            against,
            within: now.saturating_sub(time),
            growth_percent,
            share_percent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds { growth: 100.0, share: 70.0 };
    const TOTAL: u64 = 1000;

    /// Pushes a sample a second; the seconds at which the rule was met.
    fn met(window: u64, samples: &[u64]) -> Vec<(usize, Against)> {
        let mut ring = Ring::new(Duration::from_secs(window));
        let push = |(second, anon): (usize, &u64)| {
            let burst = ring.push(Duration::from_secs(second as u64), *anon, TOTAL, &THRESHOLDS)?;
            Some((second, burst.against))
        };
        samples.iter().enumerate().filter_map(push).collect()
    }

    #[test]
    fn the_rule_needs_growth_and_share_from_their_thresholds_on() {
        assert_eq!(met(3, &[350, 350, 350, 350, 700]), [(4, Against::Oldest)]);
        assert_eq!(met(3, &[350, 350, 350, 350, 699]), []);
        assert_eq!(met(3, &[351, 351, 351, 351, 701]), []);
        assert_eq!(met(3, &[100, 100, 100, 100, 690]), []);
        assert_eq!(met(3, &[900, 900, 900, 900, 900]), []);
    }

    #[test]
    fn before_the_window_is_full_the_least_seen_counts() {
        assert_eq!(met(600, &[100, 800]), [(1, Against::Least)]);
        assert_eq!(met(600, &[500, 100, 400, 750]), [(3, Against::Least)]);
        assert_eq!(met(600, &[800]), []);
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        // Second 0 is the oldest up to second 3; at second 4 it is second 1.
        assert_eq!(
            met(3, &[100, 750, 750, 750, 750]),
            [(1, Against::Least), (2, Against::Least), (3, Against::Oldest)]
        );
        let mut ring = Ring::new(Duration::from_secs(3));
        for second in 0..100 {
            ring.push(Duration::from_secs(second), 1, TOTAL, &THRESHOLDS);
        }
        assert!(ring.samples.len() <= 5);
    }
}
