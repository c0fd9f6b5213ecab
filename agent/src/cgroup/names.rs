//! From the ids that samples carry to the paths of cgroups, as the trees are at one moment.

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt, path::Path};

use galen_profile::Hierarchy;

use super::Hierarchies;

/// Cgroups that are looked at; ids of more have no path.
const LIMIT: usize = 16_384;

/// Paths by hierarchy and id.
#[derive(Debug, Default)]
pub struct Names(HashMap<(Hierarchy, u64), String>);

impl Names {
    /// Walks all trees: about 10 µs a cgroup.
    pub fn read(hierarchies: &Hierarchies) -> Self {
        let cpuacct = hierarchies.cpuacct.as_ref().filter(|root| Some(*root) != hierarchies.cpu.as_ref());
        let roots = [
            (Hierarchy::Unified, hierarchies.unified.as_ref()),
            (Hierarchy::Cpu, hierarchies.cpu.as_ref()),
            (Hierarchy::Cpuacct, cpuacct),
        ];
        let mut names = Self::default();
        for (hierarchy, root) in roots {
            if let Some(root) = root {
                names.walk(hierarchy, root);
            }
        }
        names
    }

    /// The cgroup that says most of a task with these ids, in the order of [`Hierarchy::ALL`]: on a hybrid system one
    /// of version 1, unless the task is in its root.
    pub fn of(&self, ids: &[u64]) -> Option<&str> {
        let paths = Hierarchy::ALL.into_iter().zip(ids).filter_map(|(hierarchy, id)| self.0.get(&(hierarchy, *id)));
        paths.map(String::as_str).max_by_key(|path| *path != "/")
    }

    /// Also those of `later`.
    pub fn extend(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    fn walk(&mut self, hierarchy: Hierarchy, root: &Path) {
        let mut waiting = vec![root.to_path_buf()];
        while let Some(directory) = waiting.pop() {
            let Ok(metadata) = fs::symlink_metadata(&directory) else { continue };
            if self.0.len() >= LIMIT {
                return;
            }
            let below = directory.strip_prefix(root).unwrap_or(&directory);
            self.0.insert((hierarchy, metadata.ino()), format!("/{}", below.display()));
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            waiting.extend(directories.map(|entry| entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_of_this_process_is_found_by_its_ids() {
        let hierarchies = Hierarchies::detect().unwrap();
        let names = Names::read(&hierarchies);
        let (hierarchy, root) = match (&hierarchies.cpu, &hierarchies.unified) {
            (Some(root), _) => (Hierarchy::Cpu, root),
            (None, root) => (Hierarchy::Unified, root.as_ref().unwrap()),
        };
        let mut ids = [0; 3];
        ids[hierarchy as usize] = fs::metadata(root).unwrap().ino();
        assert_eq!(names.of(&ids), Some("/"));
        assert_eq!(names.of(&[0, 0, 0]), None);
    }

    #[test]
    fn a_cgroup_says_more_than_a_root() {
        let names = Names(HashMap::from([
            ((Hierarchy::Unified, 1), "/".to_owned()),
            ((Hierarchy::Cpu, 1), "/docker/x".to_owned()),
            ((Hierarchy::Unified, 7), "/unit".to_owned()),
            ((Hierarchy::Cpu, 2), "/".to_owned()),
        ]));
        assert_eq!(names.of(&[1, 1, 0]), Some("/docker/x"));
        assert_eq!(names.of(&[7, 2, 0]), Some("/unit"));
        assert_eq!(names.of(&[7, 1, 0]), Some("/docker/x"));
    }
}
