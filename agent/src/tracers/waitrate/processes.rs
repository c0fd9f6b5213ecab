//! Which processes the interferer `host` is: those of the root cgroup, by the CPU time that they use between two looks.
//!
//! Looked at only once the host is told to hold the CPU. A process that ended before, or lives for a moment, is missed.

use std::{cmp::Reverse, collections::HashMap, path::PathBuf, time::Duration};

use procfs::process::Process;
use serde::Serialize;

use crate::tracer::round;

/// Between the two looks; the kernel tells CPU time in steps of 10 ms.
const APART: Duration = Duration::from_millis(300);
/// Processes that are looked at.
const LOOKED_AT: usize = 4096;
/// Processes that are told.
const TOLD: usize = 5;

/// A process as it is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Busy {
    pub pid: i32,
    pub name: String,
    /// Of one CPU.
    pub cpu_percent: f64,
}

/// CPU time, in ticks, by pid and begin: pids are used again.
type Look = HashMap<(i32, u64), (String, u64)>;

/// The busiest in the cgroup at `root` itself, the busiest first.
pub(super) async fn busiest(root: PathBuf) -> Vec<Busy> {
    let looking = || {
        let root = root.clone();
        tokio::task::spawn_blocking(move || look(root))
    };
    let Ok(before) = looking().await else { return Vec::new() };
    tokio::time::sleep(APART).await;
    let Ok(now) = looking().await else { return Vec::new() };
    rank(&before, now)
}

fn look(root: PathBuf) -> Look {
    let listed = std::fs::read_to_string(root.join("cgroup.procs")).unwrap_or_default();
    let pids = listed.lines().filter_map(|line| line.parse().ok()).take(LOOKED_AT);
    let stats = pids.filter_map(|pid| Process::new(pid).and_then(|process| process.stat()).ok());
    stats.map(|stat| ((stat.pid, stat.starttime), (stat.comm, stat.utime + stat.stime))).collect()
}

fn rank(before: &Look, now: Look) -> Vec<Busy> {
    let used = |(process, (name, ticks)): ((i32, u64), (String, u64))| {
        let earlier = before.get(&process).map_or(0, |(_, ticks)| *ticks);
        (ticks.saturating_sub(earlier), process.0, name)
    };
    let mut used: Vec<_> = now.into_iter().map(used).filter(|(ticks, ..)| *ticks > 0).collect();
    used.sort_unstable_by_key(|(ticks, pid, _)| (Reverse(*ticks), *pid));
    used.truncate(TOLD);
    let elapsed = APART.as_secs_f64() * procfs::ticks_per_second() as f64;
    let busy = |(ticks, pid, name)| Busy { pid, name, cpu_percent: round(100.0 * ticks as f64 / elapsed) };
    used.into_iter().map(busy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_between_two_looks_come_first_and_idle_ones_not_at_all() {
        let look = |processes: &[(i32, u64, u64)]| -> Look {
            processes.iter().map(|(pid, started, ticks)| ((*pid, *started), (format!("p{pid}"), *ticks))).collect()
        };
        let before = look(&[(1, 1, 900), (2, 1, 10), (3, 1, 50)]);
        let told = rank(&before, look(&[(1, 1, 900), (2, 1, 13), (3, 2, 15)]));
        let told: Vec<_> = told.iter().map(|busy| (busy.name.as_str(), busy.cpu_percent.round())).collect();
        // The third is another process that got the same number.
        assert_eq!(told, [("p3", 50.0), ("p2", 10.0)]);
    }
}
