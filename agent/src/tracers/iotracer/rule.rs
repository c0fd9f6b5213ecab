//! When a disk is told: it is saturated, or its requests take too long, in two windows in a row.
//!
//! A disk that always has something to do is saturated, unless it serves many requests at one time, as NVMe disks do:
//! of those it takes bandwidth too, or that nothing comes back at all. It is the same rule that both windows meet. All
//! comparisons are strict.

use std::time::Duration;

use serde::Serialize;

use super::window::IoStatus;

/// Requests of a kind count as slow only if together they took this share of the time: one slow request of an idle disk
/// is no anomaly.
const LEAST_SHARE: f64 = 0.1;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Thresholds {
    /// Percent.
    pub utilisation: f64,
    /// Bytes a second.
    pub read: f64,
    pub written: f64,
    /// Mean time of a request.
    pub wait: Duration,
}

/// The rules by the names that events have for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Rule {
    #[serde(rename = "ioutil")]
    Utilisation,
    ReadBps,
    WriteBps,
    ReadAwait,
    WriteAwait,
}

impl Thresholds {
    pub(super) fn wait_milliseconds(&self) -> f64 {
        self.wait.as_secs_f64() * 1000.0
    }
}

/// The first rule that is met in both windows.
pub(super) fn judge(thresholds: &Thresholds, nvme: bool, now: &IoStatus, before: &IoStatus) -> Option<Rule> {
    let all = [Rule::Utilisation, Rule::ReadBps, Rule::WriteBps, Rule::ReadAwait, Rule::WriteAwait];
    let mut both =
        all.into_iter().filter(|rule| [now, before].iter().all(|status| rule.is_met(thresholds, nvme, status)));
    both.next()
}

impl Rule {
    fn is_met(self, thresholds: &Thresholds, nvme: bool, status: &IoStatus) -> bool {
        let busy = status.io_util > thresholds.utilisation;
        let stuck = status.read_iops + status.write_iops == 0.0;
        let slow = |mean: f64, iops: f64| mean > thresholds.wait_milliseconds() && mean / 1000.0 * iops >= LEAST_SHARE;
        match self {
            Self::Utilisation => busy && (!nvme || stuck),
            Self::ReadBps => busy && nvme && status.read_bps > thresholds.read,
            Self::WriteBps => busy && nvme && status.write_bps > thresholds.written,
            Self::ReadAwait => slow(status.read_await, status.read_iops),
            Self::WriteAwait => slow(status.write_await, status.write_iops),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds =
        Thresholds { utilisation: 90.0, read: 2000.0, written: 1500.0, wait: Duration::from_millis(100) };
    const QUIET: IoStatus = IoStatus {
        read_bps: 1.0,
        read_iops: 100.0,
        read_await: 1.0,
        write_bps: 1.0,
        write_iops: 100.0,
        write_await: 1.0,
        io_util: 10.0,
        queue_size: 0.1,
    };

    fn twice(nvme: bool, status: IoStatus) -> Option<Rule> {
        judge(&THRESHOLDS, nvme, &status, &status)
    }

    #[test]
    fn a_busy_disk_is_told_and_a_busy_nvme_disk_only_with_its_bandwidth() {
        let busy = IoStatus { io_util: 90.1, ..QUIET };
        assert_eq!(twice(false, busy), Some(Rule::Utilisation));
        assert_eq!(twice(false, IoStatus { io_util: 90.0, ..QUIET }), None);
        assert_eq!(twice(true, busy), None);
        assert_eq!(twice(true, IoStatus { read_bps: 2000.1, ..busy }), Some(Rule::ReadBps));
        assert_eq!(twice(true, IoStatus { write_bps: 1500.1, ..busy }), Some(Rule::WriteBps));
        assert_eq!(twice(true, IoStatus { write_bps: 1500.1, ..QUIET }), None);
    }

    #[test]
    fn a_disk_of_any_kind_from_which_nothing_comes_back_is_told() {
        let stuck = IoStatus { io_util: 100.0, ..IoStatus::default() };
        assert_eq!(twice(true, stuck), Some(Rule::Utilisation));
        assert_eq!(twice(false, stuck), Some(Rule::Utilisation));
    }

    #[test]
    fn slow_requests_are_told_below_full_use_too() {
        assert_eq!(twice(false, IoStatus { read_await: 100.1, ..QUIET }), Some(Rule::ReadAwait));
        assert_eq!(twice(true, IoStatus { write_await: 100.1, ..QUIET }), Some(Rule::WriteAwait));
        assert_eq!(twice(true, IoStatus { write_await: 100.0, ..QUIET }), None);
        let busy_and_slow = IoStatus { io_util: 95.0, write_await: 200.0, ..QUIET };
        assert_eq!(twice(true, busy_and_slow), Some(Rule::WriteAwait));
    }

    #[test]
    fn one_slow_request_of_an_idle_disk_is_not_told() {
        assert_eq!(twice(false, IoStatus { write_await: 300.0, write_iops: 0.2, ..QUIET }), None);
        assert_eq!(twice(false, IoStatus { write_await: 3000.0, write_iops: 0.2, ..QUIET }), Some(Rule::WriteAwait));
    }

    #[test]
    fn one_window_is_not_enough() {
        let busy = IoStatus { io_util: 100.0, ..QUIET };
        assert_eq!(judge(&THRESHOLDS, false, &busy, &QUIET), None);
        assert_eq!(judge(&THRESHOLDS, false, &QUIET, &busy), None);
    }

    #[test]
    fn both_windows_meet_the_rule_that_is_told() {
        let busy = IoStatus { io_util: 100.0, ..QUIET };
        let slow = IoStatus { read_await: 500.0, ..QUIET };
        let both = IoStatus { read_await: 500.0, ..busy };
        assert_eq!(judge(&THRESHOLDS, false, &busy, &slow), None);
        assert_eq!(judge(&THRESHOLDS, false, &both, &slow), Some(Rule::ReadAwait));
        assert_eq!(judge(&THRESHOLDS, false, &both, &both), Some(Rule::Utilisation));
    }
}
