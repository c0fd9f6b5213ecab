//! Which processes grew: walks of `/proc`, a few in a window, and one when it matters.
//!
//! A walk costs about 15 µs a process, so they are seldom, and the more seldom the longer they take: never more than a
//! thousandth of the time. Processes that began since the oldest walk grew from nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use procfs::process::{Process, all_processes};
use serde::Serialize;

/// Walks that are kept of a window.
const WALKS: u32 = 10;
/// Share of the time that walking may take, as its inverse.
const RARITY: u32 = 1000;
/// Most processes that are remembered of a walk, the largest first.
const REMEMBERED: usize = 4096;

/// A process and when it began: pids are used again.
type Key = (i32, u64);

/// A process as it was at a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resident {
    pub pid: i32,
    pub started: u64,
    pub name: String,
    pub bytes: u64,
}

/// A process as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Holder {
    pub pid: i32,
    pub name: String,
    pub rss_bytes: u64,
    /// Bytes more (or less) than at the begin of the time that `growth_seconds` tells.
    pub growth_bytes: i64,
    /// Path of its cgroup in the hierarchy that accounts memory; empty if it is gone.
    pub cgroup: String,
}

/// What processes held at a walk.
#[derive(Debug, Clone, Default)]
pub(super) struct Walk {
    pub at: Duration,
    held: HashMap<Key, u64>,
}

/// The walks of a window.
#[derive(Debug)]
pub(super) struct Past {
    window: Duration,
    /// Oldest first; many may burst at once, each with the oldest.
    walks: VecDeque<Arc<Walk>>,
    next: Duration,
}

impl Past {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, walks: VecDeque::new(), next: Duration::ZERO }
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.next
    }

    /// Remembers a walk that took `took`.
    pub(super) fn remember(&mut self, now: Duration, took: Duration, mut residents: Vec<Resident>) {
        self.next = now + (self.window / WALKS).max(took * RARITY);
        residents.sort_unstable_by_key(|process| std::cmp::Reverse(process.bytes));
        residents.truncate(REMEMBERED);
        let held = residents.into_iter().map(|process| ((process.pid, process.started), process.bytes)).collect();
        self.walks.push_back(Arc::new(Walk { at: now, held }));
        // The youngest that is a window old stays.
        while self.walks.get(1).is_some_and(|walk| now.saturating_sub(walk.at) >= self.window) {
            self.walks.pop_front();
        }
    }

    pub(super) fn oldest(&self) -> Option<Arc<Walk>> {
        self.walks.front().cloned()
    }
}

/// The resident memory of every process, and how long it took to ask.
pub(super) fn walk() -> procfs::ProcResult<(Vec<Resident>, Duration)> {
    let begin = Instant::now();
    let page = procfs::page_size();
    let resident = |process: Process| {
        let stat = process.stat().ok()?;
        Some(Resident { pid: stat.pid, started: stat.starttime, name: stat.comm, bytes: stat.rss * page })
    };
    let all = all_processes()?.flatten().filter_map(resident).filter(|process| process.bytes > 0).collect();
    Ok((all, begin.elapsed()))
}

/// The `count` that grew most since `before`, among those whose cgroup `concerns`.
pub(super) fn grown(before: &Walk, now: Vec<Resident>, count: usize, concerns: impl Fn(&str) -> bool) -> Vec<Holder> {
    let growth = |process: &Resident| {
        let earlier = before.held.get(&(process.pid, process.started)).copied().unwrap_or(0);
        i64::try_from(process.bytes).unwrap_or(i64::MAX).saturating_sub_unsigned(earlier)
    };
    let mut grown: Vec<_> = now.into_iter().map(|process| (growth(&process), process)).collect();
    grown.sort_unstable_by_key(|(growth, process)| (std::cmp::Reverse((*growth, process.bytes)), process.pid));
    let holder = |(growth_bytes, process): (i64, Resident)| {
        let cgroup = cgroup(process.pid).unwrap_or_default();
        let Resident { pid, name, bytes: rss_bytes, .. } = process;
        concerns(&cgroup).then_some(Holder { pid, name, rss_bytes, growth_bytes, cgroup })
    };
    grown.into_iter().filter_map(holder).take(count).collect()
}

fn cgroup(pid: i32) -> Option<String> {
    let cgroups = Process::new(pid).ok()?.cgroups().ok()?;
    let memory = cgroups.0.iter().find(|cgroup| cgroup.controllers.iter().any(|name| name == "memory"));
    let unified = || cgroups.0.iter().find(|cgroup| cgroup.hierarchy == 0);
    Some(memory.or_else(unified)?.pathname.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident(pid: i32, started: u64, bytes: u64) -> Resident {
        Resident { pid, started, name: "x".into(), bytes }
    }

    #[test]
    fn those_that_grew_most_come_first_and_new_ones_grew_from_nothing() {
        let mut past = Past::new(Duration::from_secs(600));
        let before = vec![resident(-1, 10, 100), resident(-2, 10, 500), resident(-3, 10, 50)];
        past.remember(Duration::from_secs(1), Duration::ZERO, before);
        let now = vec![resident(-1, 10, 300), resident(-2, 10, 400), resident(-3, 99, 250), resident(-4, 10, 1)];
        let before = past.oldest().unwrap();
        let told: Vec<_> = grown(&before, now, 3, |_| true)
            .into_iter()
            .map(|holder| (holder.pid, holder.rss_bytes, holder.growth_bytes))
            .collect();
        // Process -3 is another one that got the same number.
        assert_eq!(told, [(-3, 250, 250), (-1, 300, 200), (-4, 1, 1)]);
    }

    #[test]
    fn walks_are_few_and_rarer_the_longer_they_take() {
        let mut past = Past::new(Duration::from_secs(600));
        for second in 0..5000 {
            let now = Duration::from_secs(second);
            if past.is_due(now) {
                past.remember(now, Duration::from_millis(1), vec![resident(1, 1, 1)]);
            }
        }
        assert_eq!(past.walks.len(), 11);
        past.remember(Duration::from_secs(5000), Duration::from_secs(1), Vec::new());
        assert!(!past.is_due(Duration::from_secs(5999)) && past.is_due(Duration::from_secs(6000)));
    }

    #[test]
    fn this_process_is_found_by_the_walk() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(walk().unwrap().0.iter().any(|process| process.pid == own && process.bytes > 0));
    }
}
