//! The processes of a cgroup and what they hold, asked as soon as a kill is known.

use std::path::Path;

use procfs::process::Process;
use serde::Serialize;

/// Processes that are told, those that hold most.
const TOLD: usize = 10;
/// Most that are looked at, and most cgroups below.
const LOOKED_AT: usize = 4096;

#[derive(Debug, Serialize)]
pub(super) struct Member {
    pid: i32,
    name: String,
    rss_bytes: u64,
}

/// Of the cgroup in `directory` and all below it, the largest first. What vanishes meanwhile is left out.
pub(super) fn of(directory: &Path) -> Vec<Member> {
    let mut folders = vec![directory.to_owned()];
    let mut pids: Vec<i32> = Vec::new();
    let mut index = 0;
    while let Some(folder) = folders.get(index).cloned() {
        let listed = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        pids.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
        let below = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
        folders.extend(below.take(LOOKED_AT.saturating_sub(folders.len())));
        index += 1;
    }
    let page = procfs::page_size();
    let member = |pid: i32| {
        let stat = Process::new(pid).and_then(|process| process.stat()).ok()?;
        Some(Member { pid, name: stat.comm, rss_bytes: stat.rss * page })
    };
    let mut members: Vec<_> = pids.into_iter().take(LOOKED_AT).filter_map(member).collect();
    members.sort_unstable_by_key(|member| (std::cmp::Reverse(member.rss_bytes), member.pid));
    members.truncate(TOLD);
    members
}
