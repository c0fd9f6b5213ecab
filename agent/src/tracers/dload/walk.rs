//! The same look without BPF: `/proc/*/task/*/stat`, and for those in state D their stack.
//!
//! It costs some 15 µs a thread. How long a task has been waiting has to be found out by looking again: it is the time
//! since the first look that saw it wait with as many voluntary context switches as now.

use std::{collections::HashMap, io::Read, time::Duration};

use procfs::{
    FromRead, ProcResult,
    process::{Task, all_processes},
};

use super::{
    crowd::{Blocked, Crowd, Stack},
    owners::Owners,
};

/// Flags of tasks that older kernels keep in state D while they are frozen.
const FROZEN: u32 = 0x0001_0000;
const KERNEL_THREAD: u32 = 0x0020_0000;

#[derive(Debug, Default)]
pub(super) struct Walker {
    /// Since when each task that waited at the last walk is known to wait.
    since: HashMap<Wait, Duration>,
}

/// One wait of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Wait {
    tid: i32,
    started: u64,
    switches: u64,
}

/// `/proc/*/task/*/stack`: lines such as `[<0>] io_schedule+0x46/0x80`.
struct Frames(Vec<String>);

impl FromRead for Frames {
    fn from_read<R: Read>(mut file: R) -> ProcResult<Self> {
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let name = |line: &str| {
            let (_, place) = line.split_once("] ")?;
            let (name, rest) = place.split_once('+').unwrap_or((place, ""));
            // What is in a module says so at the end.
            Some(match rest.split_once(' ') {
                Some((_, module)) => format!("{name} {module}"),
                None => name.to_owned(),
            })
        };
        Ok(Self(text.lines().filter_map(name).collect()))
    }
}

impl Walker {
    /// Tasks that vanish while they are looked at are left out.
    pub(super) fn walk(&mut self, now: Duration, owners: &Owners) -> ProcResult<Crowd> {
        let mut crowd = Crowd::default();
        let mut since = HashMap::new();
        for process in all_processes()?.flatten() {
            for task in process.tasks().into_iter().flatten().flatten() {
                let Ok(stat) = task.stat() else { continue };
                if stat.state != 'D' || stat.flags & (FROZEN | KERNEL_THREAD) == FROZEN || !crowd.has_room() {
                    continue;
                }
                let switches = task.status().ok().and_then(|status| status.voluntary_ctxt_switches).unwrap_or(0);
                let wait = Wait { tid: task.tid, started: stat.starttime, switches };
                let first = self.since.get(&wait).copied().unwrap_or(now);
                since.insert(wait, first);
                crowd.push(&task, stat.comm, now.saturating_sub(first), owners);
            }
        }
        self.since = since;
        Ok(crowd)
    }
}

impl Crowd {
    fn push(&mut self, task: &Task, name: String, waiting: Duration, owners: &Owners) {
        let frames = task.read("stack").map_or_else(|_| Vec::new(), |Frames(names)| names);
        let iowait = frames.iter().any(|name| name.starts_with("io_schedule"));
        let stack = self.stack(Stack::Names(frames));
        self.tasks.push(Blocked {
            pid: task.pid.cast_unsigned(),
            tid: task.tid.cast_unsigned(),
            name,
            owner: owners.of_task(task),
            waiting: Some(waiting),
            iowait,
            stack,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_frames_are_taken_out_of_the_lines() {
        let text = b"[<0>] io_schedule+0x46/0x80\n[<0>] jbd2_thing+0x1/0x2 [jbd2]\nnonsense\n";
        assert_eq!(Frames::from_read(&text[..]).unwrap().0, ["io_schedule", "jbd2_thing [jbd2]"]);
    }
}
