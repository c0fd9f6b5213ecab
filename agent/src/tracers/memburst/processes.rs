//! Who holds the memory: the processes with the most resident memory, and how fast each grows.
//!
//! `/proc` is walked only when a burst was seen, twice a second apart. Processes that vanish meanwhile are left out.

use std::collections::HashMap;

use procfs::process::{Process, all_processes};
use serde::Serialize;

/// A process as it was at the walk.
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
    /// Bytes more (or less) than a second before; `null` if it was not there then.
    pub growth_bytes: Option<i64>,
    /// Path of its cgroup in the hierarchy that accounts memory; empty if it is gone.
    pub cgroup: String,
}

/// The resident memory of every process.
pub(super) fn walk() -> procfs::ProcResult<Vec<Resident>> {
    let page = procfs::page_size();
    let resident = |process: Process| {
        let stat = process.stat().ok()?;
        Some(Resident { pid: stat.pid, started: stat.starttime, name: stat.comm, bytes: stat.rss * page })
    };
    Ok(all_processes()?.flatten().filter_map(resident).filter(|process| process.bytes > 0).collect())
}

/// The `count` largest of `now`, with their growth since `before`.
pub(super) fn largest(before: &[Resident], mut now: Vec<Resident>, count: usize) -> Vec<Holder> {
    let before: HashMap<(i32, u64), u64> =
        before.iter().map(|process| ((process.pid, process.started), process.bytes)).collect();
    now.sort_unstable_by_key(|process| (std::cmp::Reverse(process.bytes), process.pid));
    now.truncate(count);
    let growth = |process: &Resident| {
        let earlier = before.get(&(process.pid, process.started))?;
        Some(i64::try_from(process.bytes).ok()? - i64::try_from(*earlier).ok()?)
    };
    now.into_iter()
        .map(|process| Holder {
            growth_bytes: growth(&process),
            cgroup: cgroup(process.pid).unwrap_or_default(),
            pid: process.pid,
            name: process.name,
            rss_bytes: process.bytes,
        })
        .collect()
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
    fn the_largest_come_first_with_their_growth() {
        let before = [resident(-1, 10, 100), resident(-2, 10, 500), resident(-3, 10, 50)];
        let now = vec![resident(-1, 10, 300), resident(-2, 10, 400), resident(-3, 99, 250), resident(-4, 10, 1)];
        let told: Vec<_> = largest(&before, now, 3)
            .into_iter()
            .map(|holder| (holder.pid, holder.rss_bytes, holder.growth_bytes))
            .collect();
        // Process -3 is another one that got the same number.
        assert_eq!(told, [(-2, 400, Some(-100)), (-1, 300, Some(200)), (-3, 250, None)]);
    }

    #[test]
    fn this_process_is_found_by_the_walk() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(walk().unwrap().iter().any(|process| process.pid == own && process.bytes > 0));
    }
}
