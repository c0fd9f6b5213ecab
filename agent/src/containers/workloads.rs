//! The cgroups of one hierarchy that are somebody's workload: containers, units, and plain cgroups.

use std::{path::Path, time::Duration};

use super::{Class, Containers};
use crate::cgroup::{self, Tree};

/// Follows a hierarchy. What is below a container or unit belongs to it and is not told.
pub struct Workloads {
    tree: Tree,
    containers: Containers,
}

/// What became of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `absent_at`: the last time at which it did not exist; `None` if it was there at the first poll.
    Came {
        path: String,
        id: u64,
        absent_at: Option<Duration>,
    },
    Went {
        path: String,
    },
}

impl Workloads {
    /// `limit`: cgroups that are followed at most.
    pub fn new(root: &Path, limit: usize, containers: Containers) -> Self {
        let descends = containers.clone();
        let descend = move |path: &str| descends.has_candidates_below(path);
        Self { tree: Tree::new(root, limit, descend), containers }
    }

    /// What changed since the last poll; at first, all that there is. New containers are described in the background.
    pub fn poll(&mut self, now: Duration) -> Vec<Change> {
        let changes = self.tree.poll(now).into_iter().filter_map(|change| match change {
            cgroup::Change::Removed { path, .. } => Some(Change::Went { path }),
            cgroup::Change::Added { path, id, absent_at } => {
                let is_workload = match self.containers.classify(&path) {
                    Class::Group => false,
                    Class::Owned { cgroup } => cgroup == path,
                    Class::Plain => true,
                };
                if !is_workload {
                    return None;
                }
                self.containers.prefetch(&path);
                Some(Change::Came { path, id, absent_at })
            }
        });
        changes.collect()
    }

    /// Cgroups that did not fit under the limit.
    pub fn skipped(&self) -> u64 {
        self.tree.skipped()
    }
}
