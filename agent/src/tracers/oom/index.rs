//! From the id of a memory cgroup to its path, also when the cgroup is gone: a container whose only process was killed
//! is often removed before the kill is read.

use std::{collections::VecDeque, path::PathBuf, time::Duration};

use crate::{
    cgroup::{Change, Tree, Version, directory},
    host::Environment,
};

/// Cgroups that are known at most.
const LIMIT: usize = 16_384;
/// Removed cgroups that are remembered.
const GONE: usize = 256;

pub(super) struct Index {
    version: Version,
    root: PathBuf,
    tree: Tree,
    gone: VecDeque<(u64, String)>,
}

impl Index {
    /// `None` if no hierarchy accounts memory.
    pub(super) fn new(environment: &Environment) -> Option<Self> {
        let (version, root) = environment.hierarchies.memory_tree()?;
        Some(Self { version, root: root.into(), tree: Tree::new(root, LIMIT, |_| true), gone: VecDeque::new() })
    }

    /// What came and went since the last time.
    pub(super) fn follow(&mut self, now: Duration) -> Vec<Change> {
        let changes = self.tree.poll(now);
        for change in &changes {
            if let Change::Removed { path, id } = change {
                self.gone.push_back((*id, path.clone()));
            }
        }
        while self.gone.len() > GONE {
            self.gone.pop_front();
        }
        changes
    }

    pub(super) fn path_of(&self, id: u64) -> Option<&str> {
        let gone = || self.gone.iter().rev().find(|(gone, _)| *gone == id).map(|(_, path)| path.as_str());
        self.tree.path_of(id).or_else(gone)
    }

    pub(super) fn directory(&self, path: &str) -> PathBuf {
        directory(&self.root, path)
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cgroup::{Hierarchies, id};

    #[test]
    fn a_removed_cgroup_is_still_known_by_its_id() {
        let root = tempfile::tempdir().unwrap();
        let hierarchies = Hierarchies { memory: Some(root.path().into()), ..Default::default() };
        let mut index = Index::new(&Environment { hierarchies, ..Default::default() }).unwrap();
        index.follow(Duration::from_secs(1));
        fs::create_dir(root.path().join("job")).unwrap();
        let id = id(&root.path().join("job")).unwrap();
        index.follow(Duration::from_secs(2));
        fs::remove_dir(root.path().join("job")).unwrap();
        index.follow(Duration::from_secs(3));
        assert_eq!(index.path_of(id), Some("/job"));
        assert_eq!(index.path_of(id + 1_000_000), None);
    }
}
