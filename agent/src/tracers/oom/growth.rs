//! How much memory each workload used in the seconds before: one small read a second and workload.

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
};

use crate::{
    cgroup::{Change, MemoryCurrent, Version, ancestry, directory},
    containers::Containers,
    host::Environment,
};

/// Samples that are kept, one a tick.
const SAMPLES: usize = 30;
/// Workloads that are sampled at most.
const LIMIT: usize = 4096;
/// Workloads that are gone and remembered: the kill of the last process often ends them before it is read.
const GONE: usize = 64;

pub(super) struct Growth {
    version: Version,
    root: PathBuf,
    containers: Containers,
    sampled: HashMap<String, Sampled>,
    limit: usize,
    /// Workloads that found no room, since they were taken.
    left_out: u64,
    gone: VecDeque<(String, VecDeque<u64>)>,
}

struct Sampled {
    current: MemoryCurrent,
    bytes: VecDeque<u64>,
}

impl Growth {
    /// `None` if no hierarchy accounts memory.
    pub(super) fn new(environment: &Environment, containers: Containers) -> Option<Self> {
        let (version, root) = environment.hierarchies.memory_tree()?;
        let (sampled, gone) = (HashMap::new(), VecDeque::new());
        Some(Self { version, root: root.into(), containers, sampled, limit: LIMIT, left_out: 0, gone })
    }

    /// Takes in what came and lets go of what went, of all cgroups.
    pub(super) fn follow(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Added { path, .. } if self.containers.is_workload(&path) => {
                    if self.sampled.len() >= self.limit {
                        self.left_out += 1;
                        continue;
                    }
                    self.containers.prefetch(&path);
                    if let Ok(current) = MemoryCurrent::open(&directory(&self.root, &path), self.version) {
                        self.sampled.insert(path, Sampled { current, bytes: VecDeque::with_capacity(SAMPLES) });
                    }
                }
                Change::Added { .. } => {}
                Change::Removed { path, .. } => {
                    if let Some(sampled) = self.sampled.remove(&path) {
                        self.gone.push_back((path, sampled.bytes));
                    }
                }
            }
        }
        while self.gone.len() > GONE {
            self.gone.pop_front();
        }
    }

    /// Workloads that found no room since the last time.
    pub(super) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    pub(super) fn sample(&mut self) {
        for sampled in self.sampled.values_mut() {
            // One that cannot be read is going.
            let Ok(bytes) = sampled.current.read() else { continue };
            if sampled.bytes.len() == SAMPLES {
                sampled.bytes.pop_front();
            }
            sampled.bytes.push_back(bytes);
        }
    }

    /// Bytes in use by the workload that `cgroup` is, or is in, at each of the last ticks, the oldest first.
    pub(super) fn of(&self, cgroup: &str) -> Vec<u64> {
        let known = |path: &str| {
            let gone = || self.gone.iter().rev().find(|(gone, _)| gone == path).map(|(_, bytes)| bytes);
            self.sampled.get(path).map(|sampled| &sampled.bytes).or_else(gone)
        };
        ancestry(cgroup).find_map(known).map(|bytes| bytes.iter().copied().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        cgroup::Hierarchies,
        containers::{Metrics, Raw, Settings},
    };

    #[test]
    fn workloads_that_find_no_room_are_counted() {
        let root = tempfile::tempdir().unwrap();
        let hierarchies = Hierarchies { memory: Some(root.path().into()), ..Default::default() };
        let settings = Settings::try_from(Raw::default()).unwrap();
        let (containers, _task) = Containers::shipped(&settings, &hierarchies, Metrics::new().unwrap());
        let environment = Environment { hierarchies, ..Default::default() };
        let mut growth = Growth { limit: 2, ..Growth::new(&environment, containers).unwrap() };
        for name in ["one", "two", "three", "four"] {
            let job = root.path().join(name);
            fs::create_dir(&job).unwrap();
            fs::write(job.join("memory.usage_in_bytes"), "4096\n").unwrap();
            growth.follow(vec![Change::Added { path: format!("/{name}"), id: 1, absent_at: None }]);
        }
        growth.sample();
        assert_eq!((growth.of("/two"), growth.of("/three")), (vec![4096], vec![]));
        assert_eq!([growth.take_left_out(), growth.take_left_out()], [2, 0]);
    }
}
