//! Who used the time in the kernel, by the samples of a capture: containers, services and plain cgroups, and processes.

use std::{cmp::Reverse, collections::HashMap};

use galen_profile::Summary;
use serde::Serialize;

use crate::{
    cgroup::Names,
    containers::Containers,
    tracer::{percent, round},
};

/// Entries of each list.
const LISTED: usize = 10;
/// Stands for cgroups that were gone before they had a name.
const GONE: &str = "(gone)";

/// Who used the time in the kernel, the most first.
#[derive(Debug, Default, Serialize)]
pub(super) struct Culprits {
    pub containers: Vec<Container>,
    pub processes: Vec<Process>,
}

#[derive(Debug, Serialize)]
pub(super) struct Container {
    pub name: String,
    pub cgroup: String,
    /// Of all time in the kernel that was sampled.
    pub percent: f64,
    pub seconds: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Process {
    pub pid: u32,
    pub name: String,
    pub cgroup: String,
    pub percent: f64,
    pub seconds: f64,
}

impl Culprits {
    /// Of the seconds before and after together: a sample counts for the CPU time that it stands for.
    pub(super) fn of<'a>(summaries: impl Iterator<Item = &'a Summary>, names: &Names, containers: &Containers) -> Self {
        let (mut by_process, mut by_owner, mut all) = (HashMap::new(), HashMap::new(), 0);
        for summary in summaries {
            let period = u64::try_from(summary.period.as_nanos()).unwrap_or(u64::MAX);
            for busy in summary.processes.iter().filter(|busy| busy.kernel_samples > 0) {
                let used = busy.kernel_samples.saturating_mul(period);
                let path = names.of(&busy.cgroups).unwrap_or(GONE);
                *by_process.entry((busy.pid, busy.comm.as_str(), path)).or_insert(0) += used;
                let owner = containers.known(path);
                by_owner.entry(owner.cgroup).or_insert((owner.name, 0)).1 += used;
                all += used;
            }
        }
        let owners = by_owner.into_iter().map(|(cgroup, (name, used))| (used, (cgroup, name)));
        let processes = by_process.into_iter().map(|(process, used)| (used, process));
        let seconds = |used: u64| round(used as f64 / 1e9);
        Self {
            containers: most(owners)
                .map(|(used, (cgroup, name))| Container {
                    name,
                    cgroup,
                    percent: percent(used, all),
                    seconds: seconds(used),
                })
                .collect(),
            processes: most(processes)
                .map(|(used, (pid, name, cgroup))| Process {
                    pid,
                    name: name.into(),
                    cgroup: cgroup.into(),
                    percent: percent(used, all),
                    seconds: seconds(used),
                })
                .collect(),
        }
    }
}

fn most<T: Ord>(all: impl Iterator<Item = (u64, T)>) -> impl Iterator<Item = (u64, T)> {
    let mut all: Vec<_> = all.collect();
    all.sort_unstable_by(|(a, one), (b, other)| (Reverse(a), one).cmp(&(Reverse(b), other)));
    all.truncate(LISTED);
    all.into_iter()
}
