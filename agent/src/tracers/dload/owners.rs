//! Whom a task belongs to.
//!
//! A task of a container, also in a cgroup nested in it, belongs to the container; any other to its plain cgroup, if it
//! is in one; and every task to the plain cgroups above it and to the host. On a hybrid system a task is in a cgroup of
//! either version: the one that says more decides (an owner, then a plain cgroup), version 1 first.
//!
//! The kernel hands out ids of cgroups. The path of an id is asked for once, of the first task that has it: an id is not
//! given twice, as its upper half counts how often the number was used.

use std::{collections::HashMap, path::Path, sync::Arc};

use procfs::{FromRead, ProcessCGroups, process::Task};

use super::load::HOST;
use crate::{
    cgroup::{ancestry, is_below},
    containers::{Class, Containers, Filter},
};

/// Pairs of ids that are remembered; once they are so many, all are asked for anew.
const LIMIT: usize = 8192;

/// The ids of a task's cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ids {
    pub unified: u64,
    /// In the version 1 hierarchy of the `cpu` controller.
    pub cpu: Option<u64>,
}

/// Whom tasks of one cgroup belong to.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    /// Path of the cgroup.
    pub cgroup: Arc<str>,
    /// Cgroups that count its tasks, the innermost first, the host last.
    pub entities: Arc<[Arc<str>]>,
}

impl Owner {
    pub(super) fn is_or_is_in(&self, entity: &str) -> bool {
        &*self.cgroup == entity || is_below(&self.cgroup, entity)
    }
}

pub(super) struct Owners {
    containers: Containers,
    known: HashMap<Ids, Owner>,
}

impl Owners {
    pub(super) fn new(containers: Containers) -> Self {
        Self { containers, known: HashMap::new() }
    }

    /// By the ids, and if they are new by the task. A task that has gone meanwhile is the host's.
    pub(super) fn of_ids(&mut self, ids: Ids, pid: u32, tid: u32) -> Owner {
        if let Some(owner) = self.known.get(&ids) {
            return owner.clone();
        }
        let Ok(cgroups) = ProcessCGroups::from_file(Path::new(&format!("/proc/{pid}/task/{tid}/cgroup"))) else {
            return self.of_path(HOST);
        };
        let owner = self.of_cgroups(&cgroups);
        self.containers.prefetch(&owner.cgroup);
        if self.known.len() >= LIMIT {
            self.known.clear();
        }
        self.known.insert(ids, owner.clone());
        owner
    }

    pub(super) fn of_task(&self, task: &Task) -> Owner {
        match task.read::<_, ProcessCGroups>("cgroup") {
            Ok(cgroups) => self.of_cgroups(&cgroups),
            Err(_) => self.of_path(HOST),
        }
    }

    /// Whether events about this entity are wanted.
    pub(super) fn selects(&self, entity: &str, filter: &Filter) -> bool {
        self.containers.selects(entity, filter)
    }

    fn of_cgroups(&self, cgroups: &ProcessCGroups) -> Owner {
        let cpu = cgroups.0.iter().find(|cgroup| cgroup.controllers.iter().any(|name| name == "cpu"));
        let unified = cgroups.0.iter().find(|cgroup| cgroup.hierarchy == 0);
        let path = cpu.into_iter().chain(unified).map(|cgroup| cgroup.pathname.as_str());
        // The first of the lowest rank.
        self.of_path(path.min_by_key(|path| self.rank(path)).unwrap_or(HOST))
    }

    fn rank(&self, path: &str) -> u8 {
        match self.containers.classify(path) {
            Class::Owned { .. } => 0,
            Class::Plain => 1,
            Class::Group => 2,
        }
    }

    fn of_path(&self, path: &str) -> Owner {
        let mut entities: Vec<Arc<str>> = Vec::new();
        for path in ancestry(path) {
            let entity = match self.containers.classify(path) {
                Class::Owned { cgroup } => cgroup,
                Class::Plain => path,
                Class::Group => continue,
            };
            if entities.last().is_none_or(|last| &**last != entity) {
                entities.push(entity.into());
            }
        }
        entities.push(HOST.into());
        Owner { cgroup: path.into(), entities: entities.into() }
    }
}

#[cfg(test)]
mod tests {
    use procfs::FromBufRead;

    use super::*;
    use crate::{
        cgroup::Hierarchies,
        containers::{Metrics, Raw, Settings},
    };

    const ID: &str = "4f1c0a3b5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708";

    fn entities(cgroups: &str) -> Vec<String> {
        let (settings, metrics) = (Settings::try_from(Raw::default()).unwrap(), Metrics::new().unwrap());
        let owners = Owners::new(Containers::shipped(&settings, &Hierarchies::default(), metrics).0);
        let owner = owners.of_cgroups(&ProcessCGroups::from_buf_read(cgroups.as_bytes()).unwrap());
        owner.entities.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nested_cgroups_belong_to_their_container_and_it_to_the_host() {
        let container = format!("/docker/{ID}");
        assert_eq!(entities(&format!("0::{container}/init/deep\n")), [container.as_str(), "/"]);
        assert_eq!(entities(&format!("0::/ci/job/{ID}/deep\n")), [&format!("/ci/job/{ID}"), "/ci/job", "/ci", "/"]);
    }

    #[test]
    fn plain_cgroups_count_for_those_above_and_groups_are_nobody() {
        assert_eq!(entities("0::/batch/job\n"), ["/batch/job", "/batch", "/"]);
        assert_eq!(entities("0::/system.slice\n"), ["/"]);
        assert_eq!(entities("0::/\n"), ["/"]);
    }

    #[test]
    fn of_two_versions_the_one_that_says_more_decides() {
        let container = format!("/docker/{ID}");
        assert_eq!(entities(&format!("2:cpu,cpuacct:/batch\n0::{container}\n"))[0], container);
        assert_eq!(entities("2:cpu:/batch\n1:memory:/other\n0::/job\n")[0], "/batch");
        assert_eq!(entities("2:cpu:/\n0::/system.slice/web.service\n")[0], "/system.slice/web.service");
        assert_eq!(entities("1:memory:/other\n"), ["/"]);
    }
}
