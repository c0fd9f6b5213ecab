//! From what the programs know of a cgroup to its path, also when it is gone before the capture ends.
//!
//! Cgroups are followed only while a capture runs: the trees are walked when it begins and kept current by inotify.

use std::{collections::HashMap, time::Duration};

use galen_bpf::{Hierarchy, Owner};

use crate::{
    cgroup::{Change, Tree},
    host::Environment,
};

/// Cgroups of each hierarchy that are known at one time.
const LIMIT: usize = 16_384;
/// Cgroups that are remembered, those that are gone included; what comes later has no name.
const REMEMBERED: usize = 4 * LIMIT;

pub(super) struct Owners {
    trees: Vec<(Hierarchy, Tree)>,
    paths: HashMap<Owner, String>,
}

impl Owners {
    pub(super) fn new(environment: &Environment) -> Self {
        let roots = &environment.hierarchies;
        let trees = [
            (Hierarchy::Unified, &roots.unified),
            (Hierarchy::Blkio, &roots.blkio),
            (Hierarchy::Memory, &roots.memory),
        ];
        let tree = |(hierarchy, root): (Hierarchy, &Option<std::path::PathBuf>)| {
            Some((hierarchy, Tree::new(root.as_ref()?, LIMIT, |_| true)))
        };
        Self { trees: trees.into_iter().filter_map(tree).collect(), paths: HashMap::new() }
    }

    /// Takes in what came. `now` by a clock that only rises.
    pub(super) fn follow(&mut self, now: Duration) {
        for (hierarchy, tree) in &mut self.trees {
            for change in tree.poll(now) {
                if let Change::Added { path, id, .. } = change
                    && self.paths.len() < REMEMBERED
                {
                    self.paths.insert(Owner { hierarchy: *hierarchy, cgroup: id }, path);
                }
            }
        }
    }

    /// The path of every cgroup that was there meanwhile.
    pub(super) fn paths(self) -> HashMap<Owner, String> {
        self.paths
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cgroup::{Hierarchies, id};

    #[test]
    fn a_cgroup_is_known_by_its_id_in_its_hierarchy_after_it_is_gone() {
        let (blkio, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let hierarchies =
            Hierarchies { blkio: Some(blkio.path().into()), memory: Some(memory.path().into()), ..Default::default() };
        let mut owners = Owners::new(&Environment { hierarchies, ..Default::default() });
        fs::create_dir(blkio.path().join("job")).unwrap();
        let cgroup = id(&blkio.path().join("job")).unwrap();
        owners.follow(Duration::from_secs(1));
        fs::remove_dir(blkio.path().join("job")).unwrap();
        owners.follow(Duration::from_secs(2));
        let paths = owners.paths();
        assert_eq!(paths.get(&Owner { hierarchy: Hierarchy::Blkio, cgroup }).map(String::as_str), Some("/job"));
        assert_eq!(paths.get(&Owner { hierarchy: Hierarchy::Memory, cgroup }), None);
    }
}
