//! What the event of a kill says.

use galen_bpf::oom::{Memory as VictimMemory, Record};
use serde::Serialize;

use super::{index::Index, processes::Member};
use crate::{
    cgroup::{MemoryCounters, ancestry},
    meminfo::Memory,
};

/// `data` of a kill.
#[derive(Debug, Serialize)]
pub(super) struct Kill {
    victim: Victim,
    /// The task that needed memory and so called the killer.
    trigger: Task,
    /// Counters of the nearest cgroup above the victim that has a limit, else of its own; `null` if it is gone.
    cgroup_memory: Option<Counters>,
    /// Processes that are left in that cgroup, those that hold most first; empty if the kill was for the machine.
    processes: Vec<Member>,
    /// Bytes that the workload used in the seconds before, one a second, the oldest first; empty if it is not known.
    recent_bytes: Vec<u64>,
    /// Of these the last less the first.
    growth_bytes: i64,
    /// Memory of the machine; `null` if it could not be read.
    host_memory: Option<Memory>,
}

#[derive(Debug, Serialize)]
struct Victim {
    #[serde(flatten)]
    task: Task,
    uid: Option<u32>,
    oom_score_adj: Option<i32>,
    /// What it held when it was picked; `null` if the kernel did not tell.
    memory: Option<Held>,
}

#[derive(Debug, Serialize)]
struct Task {
    pid: u32,
    name: String,
    /// Path of its memory cgroup; `null` if it is not known.
    cgroup: Option<String>,
}

#[derive(Debug, Serialize)]
struct Held {
    anon_bytes: u64,
    file_bytes: u64,
    shmem_bytes: u64,
    swap_bytes: u64,
    page_tables_bytes: u64,
    virtual_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Counters {
    cgroup: String,
    #[serde(flatten)]
    counters: MemoryCounters,
}

impl Kill {
    /// `growth`: bytes that the workload of a cgroup used in the seconds before.
    pub(super) fn new(
        record: &Record,
        index: Option<&Index>,
        growth: impl Fn(&str) -> Vec<u64>,
        host_memory: Option<Memory>,
    ) -> Self {
        let path = |memcg: u64| index?.path_of(memcg).map(str::to_owned);
        let victim = record.victim.as_ref();
        let cgroup = victim.and_then(|victim| path(victim.memcg));
        let recent_bytes = cgroup.as_deref().map(growth).unwrap_or_default();
        let at = |place: Option<&u64>| place.map_or(0, |bytes| i64::try_from(*bytes).unwrap_or(i64::MAX));
        Self {
            cgroup_memory: index.zip(cgroup.as_deref()).and_then(|(index, cgroup)| counters(index, cgroup)),
            victim: Victim {
                task: Task {
                    pid: record.pid,
                    name: victim.map_or_else(|| comm(record.pid), |victim| victim.comm.text().into_owned()),
                    cgroup,
                },
                uid: victim.map(|victim| victim.uid),
                oom_score_adj: victim.map(|victim| victim.oom_score_adj),
                memory: victim.and_then(|victim| victim.memory).map(Held::from),
            },
            trigger: Task {
                pid: record.trigger.pid,
                name: record.trigger.comm.text().into_owned(),
                cgroup: path(record.trigger.memcg),
            },
            processes: Vec::new(),
            growth_bytes: at(recent_bytes.last()) - at(recent_bytes.first()),
            recent_bytes,
            host_memory,
        }
    }

    pub(super) fn with_processes(self, processes: Vec<Member>) -> Self {
        Self { processes, ..self }
    }

    /// Path of the cgroup whose memory was exhausted; `None` if it was the machine's, or is not known.
    pub(super) fn exhausted(&self) -> Option<&str> {
        let counters = self.cgroup_memory.as_ref().filter(|memory| memory.counters.max_bytes.is_some());
        counters.map(|counters| counters.cgroup.as_str())
    }

    /// Path of the victim's memory cgroup.
    pub(super) fn cgroup(&self) -> Option<&str> {
        self.victim.task.cgroup.as_deref()
    }

    /// What happened, to whom, by how much.
    pub(super) fn summary(&self, container: Option<&str>) -> String {
        let Task { pid, name, .. } = &self.victim.task;
        let place = container.map(|name| format!(" in {name}")).unwrap_or_default();
        let held = self.victim.memory.as_ref().map(|held| {
            let bytes = held.anon_bytes + held.file_bytes + held.shmem_bytes;
            format!(", which held {:.0} MiB", bytes as f64 / f64::from(1 << 20))
        });
        let limit = self.cgroup_memory.as_ref().and_then(|memory| memory.counters.max_bytes);
        let limit = limit.map(|limit| format!(", limit {:.0} MiB", limit as f64 / f64::from(1 << 20)));
        format!("OOM kill of {name} ({pid}){place}{}{}", held.unwrap_or_default(), limit.unwrap_or_default())
    }

    /// Why the kernel killed.
    pub(super) fn explanation(&self) -> String {
        let Task { pid, name, .. } = &self.trigger;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let limited = self.cgroup_memory.as_ref().and_then(|memory| {
            let Counters { cgroup, counters } = memory;
            let limit = counters.max_bytes?;
            Some(format!("`{cgroup}` was at its limit of {:.0} MiB", mib(limit)))
        });
        let why = limited.unwrap_or_else(|| "the memory that it may use was exhausted".into());
        format!("{name} ({pid}) needed memory and {why}; the kernel chose {}.", self.victim.task.name)
    }
}

impl From<VictimMemory> for Held {
    fn from(memory: VictimMemory) -> Self {
        Self {
            anon_bytes: memory.anon_kb * 1024,
            file_bytes: memory.file_kb * 1024,
            shmem_bytes: memory.shmem_kb * 1024,
            swap_bytes: memory.swap_kb * 1024,
            page_tables_bytes: memory.page_tables_kb * 1024,
            virtual_bytes: memory.virtual_kb * 1024,
        }
    }
}

fn counters(index: &Index, cgroup: &str) -> Option<Counters> {
    let read = |path: &str| {
        let counters = MemoryCounters::read(&index.directory(path), index.version())?;
        Some(Counters { cgroup: path.into(), counters })
    };
    let limited = ancestry(cgroup).filter_map(read).find(|counters| counters.counters.max_bytes.is_some());
    limited.or_else(|| read(cgroup))
}

/// A victim is there for a while after it was picked.
fn comm(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}
