//! The cgroups of one hierarchy that are somebody's workload: containers, units, and plain cgroups.

use std::{io, path::Path, time::Duration};

use super::Containers;
use crate::cgroup::{self, Tree};

/// Follows a hierarchy. What is below a container or unit belongs to it and is not told.
pub struct Workloads {
    tree: Tree,
    limit: usize,
    containers: Containers,
    /// Workloads that the caller could not watch.
    unwatched: u64,
    told_left_out: bool,
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
        let tree = Tree::new(root, limit, descend);
        Self { tree, limit, containers, unwatched: 0, told_left_out: false }
    }

    /// What changed since the last poll; at first, all that there is. New containers are described in the background.
    pub fn poll(&mut self, now: Duration) -> Vec<Change> {
        let changes = self.tree.poll(now).into_iter().filter_map(|change| match change {
            cgroup::Change::Removed { path, .. } => Some(Change::Went { path }),
            cgroup::Change::Added { path, id, absent_at } => {
                if !self.containers.is_workload(&path) {
                    return None;
                }
                self.containers.prefetch(&path);
                Some(Change::Came { path, id, absent_at })
            }
        });
        changes.collect()
    }

    /// Tells that a workload came and cannot be watched.
    pub fn not_watched(&mut self, path: &str, error: &io::Error) {
        self.unwatched += 1;
        tracing::debug!(%error, path, "cgroup is not watched");
    }

    /// Once, and in one line, if not every workload is watched: a machine with more cgroups than the limit stays one.
    pub fn newly_left_out(&mut self) -> Option<String> {
        let (over, unwatched) = (self.tree.skipped(), self.unwatched);
        if over + unwatched == 0 || std::mem::replace(&mut self.told_left_out, true) {
            return None;
        }
        let limit = self.limit;
        Some(format!(
            "not every cgroup is watched: {over} or more are over the limit of {limit} (`max_cgroups`), {unwatched} or more \
             cannot be read"
        ))
    }
}
