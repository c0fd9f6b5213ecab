//! The last two windows of one disk's counters.
//!
//! Counters are sampled about once a second; between samples they are taken to rise evenly, so that a window is exactly
//! as long as it is set to, however late a tick came. Nothing is said until both windows are known. A counter that runs
//! back (the kernel prints times in 32 bits) begins anew.

use std::{collections::VecDeque, time::Duration};

use procfs::DiskStat;
use serde::Serialize;

/// Size of the sectors that the kernel counts, whatever the disk's are.
const SECTOR: u64 = 512;
const COUNTERS: usize = 8;

/// What a disk counted since it was there: reads, bytes and milliseconds of them, the same of writes, milliseconds in
/// which it was busy, and milliseconds of all requests.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counters([u64; COUNTERS]);

impl Counters {
    pub(super) fn of(disk: &DiskStat) -> Self {
        Self([
            disk.reads,
            disk.sectors_read.wrapping_mul(SECTOR),
            disk.time_reading,
            disk.writes,
            disk.sectors_written.wrapping_mul(SECTOR),
            disk.time_writing,
            disk.time_in_progress,
            disk.weighted_time_in_progress,
        ])
    }
}

/// What a disk did in a window, by the names of `iostat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct IoStatus {
    /// Bytes and requests a second, milliseconds that one took on average.
    pub read_bps: f64,
    pub read_iops: f64,
    pub read_await: f64,
    pub write_bps: f64,
    pub write_iops: f64,
    pub write_await: f64,
    /// Percent of the time in which there was something to do.
    pub io_util: f64,
    /// Requests on their way, on average.
    pub queue_size: f64,
}

#[derive(Debug)]
pub(super) struct History {
    window: Duration,
    /// Oldest first, by time.
    samples: VecDeque<(Duration, Counters)>,
}

impl History {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, samples: VecDeque::new() }
    }

    /// Takes a sample; `now` is later than that of any before.
    pub(super) fn push(&mut self, now: Duration, counters: Counters) {
        if let Some((last_time, last)) = self.samples.back() {
            if counters.0.iter().zip(last.0).any(|(now, before)| *now < before) {
                self.samples.clear();
            } else if now <= *last_time {
                return;
            }
        }
        self.samples.push_back((now, counters));
        // One sample at or before the start of the older window is needed.
        let start = now.saturating_sub(self.window * 2);
        while self.samples.get(1).is_some_and(|(time, _)| *time <= start) {
            self.samples.pop_front();
        }
    }

    /// The window that ends with the newest sample, and the one before it; `None` until both are known.
    pub(super) fn windows(&self) -> Option<(IoStatus, IoStatus)> {
        let (now, _) = *self.samples.back()?;
        let middle = now.checked_sub(self.window)?;
        let start = middle.checked_sub(self.window)?;
        Some((self.status(middle, now)?, self.status(start, middle)?))
    }

    fn status(&self, from: Duration, to: Duration) -> Option<IoStatus> {
        let (begin, end) = (self.counted_until(from)?, self.counted_until(to)?);
        let seconds = to.checked_sub(from)?.as_secs_f64();
        let [reads, read, reading, writes, written, writing, busy, weighted] =
            std::array::from_fn(|index| end[index] - begin[index]);
        // Between two samples there may be the tenth part of a request.
        let mean = |milliseconds: f64, requests: f64| if requests > 0.0 { milliseconds / requests } else { 0.0 };
        Some(IoStatus {
            read_bps: read / seconds,
            read_iops: reads / seconds,
            read_await: mean(reading, reads),
            write_bps: written / seconds,
            write_iops: writes / seconds,
            write_await: mean(writing, writes),
            io_util: (busy / seconds / 10.0).min(100.0),
            queue_size: weighted / seconds / 1000.0,
        })
    }

    fn counted_until(&self, time: Duration) -> Option<[f64; COUNTERS]> {
        let after = self.samples.iter().position(|(sampled, _)| *sampled >= time)?;
        let (end_time, end) = &self.samples[after];
        if *end_time == time {
            return Some(end.0.map(|counter| counter as f64));
        }
        let (begin_time, begin) = &self.samples[after.checked_sub(1)?];
        let share = (time - *begin_time).as_secs_f64() / (*end_time - *begin_time).as_secs_f64();
        Some(std::array::from_fn(|index| {
            let (begin, end) = (begin.0[index], end.0[index]);
            begin as f64 + (end - begin) as f64 * share
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Busy for `busy` milliseconds up to here, with ten reads of a MiB in each.
    fn counters(busy: u64) -> Counters {
        Counters([busy * 10, (busy * 10) << 20, busy * 50, 0, 0, 0, busy, busy * 50])
    }

    fn history(samples: &[(u64, u64)]) -> History {
        let mut history = History::new(SECOND * 5);
        for (milliseconds, busy) in samples {
            history.push(Duration::from_millis(*milliseconds), counters(*busy));
        }
        history
    }

    #[test]
    fn nothing_is_known_before_two_windows_have_passed() {
        let samples: Vec<_> = (1..=11).map(|second| (second * 1000, second * 1000)).collect();
        assert_eq!(history(&samples[..10]).windows(), None);
        let (now, before) = history(&samples).windows().unwrap();
        assert_eq!((now.io_util, before.io_util), (100.0, 100.0));
        assert_eq!((now.read_iops, now.read_await, now.queue_size), (10_000.0, 5.0, 50.0));
    }

    #[test]
    fn a_busy_time_as_long_as_a_window_is_not_in_both() {
        let samples: Vec<_> = (0..=20).map(|second| (second * 1000, (second.clamp(8, 14) - 8) * 1000)).collect();
        for end in 11..samples.len() {
            let (now, before) = history(&samples[..=end]).windows().unwrap();
            assert!(now.io_util.min(before.io_util) <= 60.0 + 1e-9, "{end}: {now:?} {before:?}");
        }
    }

    #[test]
    fn a_late_tick_changes_no_rate() {
        let (now, before) = history(&[(0, 0), (4000, 2000), (8700, 4350), (11_300, 5650)]).windows().unwrap();
        assert!((now.io_util - 50.0).abs() < 1e-9 && (before.io_util - 50.0).abs() < 1e-9, "{now:?} {before:?}");
    }

    #[test]
    fn a_counter_that_runs_back_begins_anew() {
        let mut samples: Vec<_> = (0..=11).map(|second| (second * 1000, second * 1000)).collect();
        samples.push((12_000, 1));
        assert_eq!(history(&samples).windows(), None);
    }
}
