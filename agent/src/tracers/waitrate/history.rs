//! What one owner waited: each second of the last ones, and a rate for each interval of a long time.
//!
//! An interval joins the long window only once it lies before the short one, so that what is judged is not among what
//! it is judged by. Time in which nothing was counted, because nothing on the machine waited, has a rate of zero and
//! costs nothing.

use std::{collections::VecDeque, time::Duration};

use super::tally::{Kind, Time};
use crate::ticker::TICK;

/// Seconds are kept for this long at least: a trigger tells them.
const BEFORE: Duration = Duration::from_secs(20);

/// What the two windows are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    /// Length of the short window.
    pub short: Duration,
    /// Length of an interval of the long window.
    pub interval: Duration,
    /// Intervals of the long window.
    pub samples: usize,
    /// Lost CPU time in a short window that is as good as none.
    pub least_wait: Duration,
    pub count_internal: bool,
    pub count_throttled: bool,
}

impl Windows {
    /// Share of the CPU time that the owner wanted in `time`, a stretch of this length, and did not get, in percent.
    /// Tasks that wait at the same time for one CPU want no more than that CPU.
    pub(super) fn rate(&self, time: &Time, length: Duration) -> f64 {
        let lost = self.lost(time).as_secs_f64();
        let least = self.least_wait.as_secs_f64() * length.as_secs_f64() / self.short.as_secs_f64();
        if lost == 0.0 || lost < least { 0.0 } else { 100.0 * lost / (lost + time.run.as_secs_f64()) }
    }

    fn lost(&self, time: &Time) -> Duration {
        self.counted(time).map(|(_, lost)| lost).sum()
    }

    /// What was waited for most, of what counts.
    fn kind(&self, time: &Time) -> Kind {
        self.counted(time).max_by_key(|(_, lost)| *lost).map_or(Kind::External, |(kind, _)| kind)
    }

    /// While a task waits for another of its owner, that one runs: no CPU time is lost, so that it counts for what was
    /// run at the most.
    fn counted(&self, time: &Time) -> impl Iterator<Item = (Kind, Duration)> {
        let parts = [
            (self.count_internal, Kind::Internal, time.internal.min(time.run)),
            (self.count_throttled, Kind::Throttled, time.throttled_cpu),
            (true, Kind::External, time.external_cpu),
        ];
        parts.into_iter().filter(|(counts, ..)| *counts).map(|(_, kind, lost)| (kind, lost))
    }
}

/// A short window, against the one before it and the long one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    pub time: Time,
    /// Most of what counts in the rate.
    pub kind: Kind,
    /// Percent.
    pub rate: f64,
    /// Rise of the rate since the window before, in points.
    pub slope: f64,
    /// Of the rates in the long window; `samples` of them are known.
    pub mean: f64,
    pub std: f64,
    pub samples: usize,
}

#[derive(Debug)]
pub(super) struct History {
    /// Each with its end.
    seconds: VecDeque<(Duration, Time)>,
    samples: VecDeque<f32>,
    /// End of the next interval.
    next: Duration,
}

impl History {
    /// Of an owner that is seen for the first time and has not waited since `quiet_since`; `None` if it is new.
    pub(super) fn new(now: Duration, quiet_since: Option<Duration>, windows: &Windows) -> Self {
        let quiet = quiet_since.map_or(0.0, |since| now.saturating_sub(since).div_duration_f64(windows.interval));
        let samples = std::iter::repeat_n(0.0, (quiet as usize).min(windows.samples)).collect();
        Self { seconds: VecDeque::new(), samples, next: now + windows.interval }
    }

    /// Takes what was counted up to `now`.
    pub(super) fn push(&mut self, now: Duration, time: Time, windows: &Windows) {
        self.seconds.push_back((now, time));
        // After a long time without waiting, more than all is zero.
        let all = windows.interval * u32::try_from(windows.samples).unwrap_or(u32::MAX);
        self.next = self.next.max(now.saturating_sub(all + windows.short));
        while self.next + windows.short <= now {
            let interval = self.between(self.next.saturating_sub(windows.interval), self.next);
            if self.samples.len() >= windows.samples {
                self.samples.pop_front();
            }
            self.samples.push_back(windows.rate(&interval, windows.interval) as f32);
            self.next += windows.interval;
        }
        let kept = BEFORE.max(windows.short * 2).max(windows.short + windows.interval);
        while self.seconds.front().is_some_and(|(end, _)| *end + kept < now) {
            self.seconds.pop_front();
        }
    }

    /// Of the short window that ends now, in percent; zero if only a moment of it, such as the start of many threads,
    /// was waited in.
    pub(super) fn rate(&self, now: Duration, windows: &Windows) -> f64 {
        let begin = now.saturating_sub(windows.short);
        let least = windows.least_wait.div_duration_f64(windows.short);
        let waits = |time: &Time| windows.lost(time).div_duration_f64(TICK) >= least;
        let waited = self.seconds.iter().filter(|(at, time)| *at > begin && *at <= now && waits(time)).count();
        if waited as f64 * 2.0 < windows.short.div_duration_f64(TICK) {
            return 0.0;
        }
        windows.rate(&self.between(now.saturating_sub(windows.short), now), windows.short)
    }

    pub(super) fn reading(&self, now: Duration, windows: &Windows) -> Reading {
        let begin = now.saturating_sub(windows.short);
        let time = self.between(begin, now);
        let before = self.between(begin.saturating_sub(windows.short), begin);
        let rate = windows.rate(&time, windows.short);
        let count = self.samples.len().max(1) as f64;
        let sum = |of: &dyn Fn(f64) -> f64| self.samples.iter().fold(0.0, |sum, rate| sum + of(f64::from(*rate)));
        let mean = sum(&|rate| rate) / count;
        let variance = sum(&|rate| (rate - mean).powi(2)) / count;
        Reading {
            slope: rate - windows.rate(&before, windows.short),
            kind: windows.kind(&time),
            time,
            rate,
            mean,
            std: variance.sqrt(),
            samples: self.samples.len(),
        }
    }

    /// The seconds that are kept, each with its end.
    pub(super) fn seconds(&self) -> Vec<(Duration, Time)> {
        self.seconds.iter().cloned().collect()
    }

    fn between(&self, begin: Duration, end: Duration) -> Time {
        let mut sum = Time::default();
        self.seconds.iter().filter(|(at, _)| *at > begin && *at <= end).for_each(|(_, time)| sum += time);
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const WINDOWS: Windows = Windows {
        short: Duration::from_secs(5),
        interval: Duration::from_secs(5),
        samples: 4,
        least_wait: Duration::from_millis(500),
        count_internal: false,
        count_throttled: true,
    };

    /// A second in which one task waited for others this much of it, and ran the rest.
    fn second(percent: u64) -> Time {
        let external = Duration::from_millis(10 * percent);
        Time { run: SECOND - external, external, external_cpu: external, ..Time::default() }
    }

    /// A history of seconds, one after another.
    fn history(percents: &[u64]) -> (History, Duration) {
        let mut now = SECOND * 100;
        let mut history = History::new(now, None, &WINDOWS);
        for percent in percents {
            now += SECOND;
            history.push(now, second(*percent), &WINDOWS);
        }
        (history, now)
    }

    #[test]
    fn what_is_judged_is_not_among_what_it_is_judged_by() {
        let quiet = [0; 20];
        let (history, now) = history(&[&quiet[..], &[50; 5]].concat());
        let reading = history.reading(now, &WINDOWS);
        assert_eq!((reading.rate, reading.slope, reading.mean, reading.std), (50.0, 50.0, 0.0, 0.0));
        assert_eq!(reading.samples, 4);
    }

    #[test]
    fn a_steady_rate_becomes_the_mean() {
        let (history, now) = history(&[50; 60]);
        let reading = history.reading(now, &WINDOWS);
        assert_eq!((reading.rate, reading.slope, reading.mean, reading.std), (50.0, 0.0, 50.0, 0.0));
    }

    #[test]
    fn time_in_which_nothing_was_counted_was_quiet() {
        let (mut history, mut now) = history(&[50; 60]);
        for (hours, mean) in [(0, 0.0), (10_000, 0.0)] {
            now += SECOND * 25 + SECOND * 3600 * hours;
            history.push(now, second(50), &WINDOWS);
            let reading = history.reading(now, &WINDOWS);
            assert_eq!((reading.rate, reading.slope, reading.mean, reading.samples), (50.0, 50.0, mean, 4));
        }
        let known = History::new(SECOND * 100, Some(SECOND * 88), &WINDOWS);
        assert_eq!(known.reading(SECOND * 100, &WINDOWS).samples, 2);
    }

    #[test]
    fn a_little_waiting_of_one_that_does_little_is_none() {
        let mut now = SECOND * 100;
        let mut history = History::new(now, None, &WINDOWS);
        let little =
            Time { run: Duration::from_millis(10), external_cpu: Duration::from_millis(90), ..Time::default() };
        for _ in 0..30 {
            now += SECOND;
            history.push(now, little.clone(), &WINDOWS);
        }
        let reading = history.reading(now, &WINDOWS);
        assert_eq!((reading.rate, reading.mean), (0.0, 0.0));
    }

    #[test]
    fn what_is_waited_in_a_moment_only_has_no_rate_yet() {
        for (percents, rate) in [(&[0, 0, 99][..], 0.0), (&[0, 99, 99], 0.0), (&[99, 99, 99], 59.4)] {
            let (history, now) = history(&[&[0; 9], percents].concat());
            assert_eq!((history.rate(now, &WINDOWS) * 10.0).round() / 10.0, rate, "{percents:?}");
        }
    }

    #[test]
    fn waiting_within_the_owner_and_for_its_quota_counts_only_if_it_is_to() {
        let time = Time { run: SECOND, internal: SECOND * 2, throttled_cpu: SECOND * 2, ..Time::default() };
        let rate = |windows: Windows| (windows.rate(&time, windows.short).round(), windows.kind(&time));
        assert_eq!(rate(WINDOWS), (67.0, Kind::Throttled));
        assert_eq!(rate(Windows { count_internal: true, ..WINDOWS }), (75.0, Kind::Throttled));
        assert_eq!(rate(Windows { count_throttled: false, ..WINDOWS }), (0.0, Kind::External));
    }

    #[test]
    fn however_many_wait_at_a_time_the_rate_is_of_the_cpu_time() {
        let external_cpu = Duration::from_millis(60);
        let crowd = Time { run: SECOND, external: SECOND * 1000, external_cpu, ..Time::default() };
        assert_eq!(Windows { least_wait: external_cpu, ..WINDOWS }.rate(&crowd, WINDOWS.short).round(), 6.0);
        assert_eq!(WINDOWS.rate(&crowd, WINDOWS.short), 0.0);
    }
}
