//! When memory bursts: what cannot be given back has grown by so much within the window, and it is so much of what may
//! be used.
//!
//! Compared is the newest sample with the oldest of the window; until the window is full, with the least seen so far,
//! so that a burst soon after the start is seen too. Both conditions hold from their threshold on. What cannot be given
//! back is anonymous and shared memory: the page cache may grow as it likes.

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;

use crate::cgroup::MemoryUse;

/// Samples that a window is kept in: closer ones are judged and not kept.
const KEPT: u32 = 60;

/// In percent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thresholds {
    pub growth: f64,
    pub share: f64,
}

/// What is judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// What cannot be given back.
    pub held: u64,
    pub used: MemoryUse,
}

/// The samples of a window.
#[derive(Debug)]
pub(super) struct Ring {
    window: Duration,
    /// Oldest first.
    samples: VecDeque<(Duration, Sample)>,
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
    pub now: Sample,
    pub before: Sample,
    pub against: Against,
    /// How long ago `before` was.
    pub within: Duration,
    /// What may be used, in bytes.
    pub capacity: u64,
    pub growth_percent: f64,
    pub share_percent: f64,
}

impl Ring {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, samples: VecDeque::new() }
    }

    /// Takes a sample; a burst if it meets the rule against those before it. `capacity` is what may be used, in bytes.
    pub(super) fn push(
        &mut self,
        now: Duration,
        sample: Sample,
        capacity: u64,
        thresholds: &Thresholds,
    ) -> Option<Burst> {
        // None in the first window after boot.
        let start = now.checked_sub(self.window);
        let a_window_old = |sample: Option<&(Duration, Sample)>| sample.is_some_and(|(time, _)| Some(*time) <= start);
        // The youngest sample that is a window old stays: it is the oldest to compare with.
        while a_window_old(self.samples.get(1)) {
            self.samples.pop_front();
        }
        let before = if a_window_old(self.samples.front()) {
            self.samples.front().map(|sample| (Against::Oldest, *sample))
        } else {
            self.samples.iter().min_by_key(|(_, sample)| sample.held).map(|sample| (Against::Least, *sample))
        };
        if self.samples.back().is_none_or(|(last, _)| now.saturating_sub(*last) >= self.window / KEPT) {
            self.samples.push_back((now, sample));
        }
        let (against, (time, before)) = before?;
        let growth = sample.held as f64 - before.held as f64;
        let growth_percent = 100.0 * growth / (before.held as f64).max(1.0);
        let share_percent = share(sample.held, capacity);
        (growth_percent >= thresholds.growth && share_percent >= thresholds.share).then_some(Burst {
            now: sample,
            before,
            against,
            within: now.saturating_sub(time),
            capacity,
            growth_percent,
            share_percent,
        })
    }
}

/// In percent.
pub(super) fn share(held: u64, capacity: u64) -> f64 {
    100.0 * held as f64 / (capacity as f64).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds { growth: 100.0, share: 70.0 };
    const TOTAL: u64 = 1000;

    fn held(held: u64) -> Sample {
        Sample { held, ..Sample::default() }
    }

    /// Pushes a sample a second; the seconds at which the rule was met.
    fn met(window: u64, samples: &[u64]) -> Vec<(usize, Against)> {
        let mut ring = Ring::new(Duration::from_secs(window));
        let push = |(second, sample): (usize, &u64)| {
            let burst = ring.push(Duration::from_secs(second as u64), held(*sample), TOTAL, &THRESHOLDS)?;
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
        assert_eq!(met(60, &[100, 800]), [(1, Against::Least)]);
        assert_eq!(met(60, &[500, 100, 400, 750]), [(3, Against::Least)]);
        assert_eq!(met(60, &[800]), []);
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        // Second 0 is the oldest up to second 3; at second 4 it is second 1.
        assert_eq!(
            met(3, &[100, 750, 750, 750, 750]),
            [(1, Against::Least), (2, Against::Least), (3, Against::Oldest)]
        );
    }

    #[test]
    fn a_long_window_is_kept_in_few_samples_and_every_sample_is_judged() {
        let mut ring = Ring::new(Duration::from_secs(600));
        for second in 0..2000 {
            assert_eq!(ring.push(Duration::from_secs(second), held(100), TOTAL, &THRESHOLDS), None);
        }
        assert!(ring.samples.len() <= KEPT as usize + 2);
        let burst = ring.push(Duration::from_secs(2001), held(800), TOTAL, &THRESHOLDS).unwrap();
        assert_eq!((burst.against, burst.within), (Against::Oldest, Duration::from_secs(601)));
    }
}
