//! Whose a cgroup is, by the id that the programs tell: what is nested in a container or unit belongs to it.
//!
//! A cgroup that is gone is known for a while still, because its last waits are read after it went.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::Arc,
    time::Duration,
};

use crate::{
    cgroup::{Change, Tree},
    containers::{Class, Containers},
    host::Environment,
};

/// Cgroups that are known at most.
const LIMIT: usize = 16_384;
/// Removed cgroups that are remembered.
const GONE: usize = 1024;

/// Path of the cgroup of an owner; the root is the host.
pub(super) type Owner = Arc<str>;

pub(super) struct Owners {
    containers: Containers,
    tree: Option<Tree>,
    by_id: HashMap<u64, Owner>,
    /// When each owner did not exist yet; `None` if it was there first.
    absent: HashMap<Owner, Option<Duration>>,
    gone: VecDeque<u64>,
}

/// The root of the hierarchy whose cgroups share out CPU time.
pub(super) fn tree(environment: &Environment) -> Option<&Path> {
    environment.hierarchies.cpu.as_deref().or(environment.hierarchies.unified.as_deref())
}

impl Owners {
    pub(super) fn new(environment: &Environment, containers: Containers) -> Self {
        let tree = tree(environment).map(|root| Tree::new(root, LIMIT, |_| true));
        Self { containers, tree, by_id: HashMap::new(), absent: HashMap::new(), gone: VecDeque::new() }
    }

    /// Takes in what came. The owners that went.
    pub(super) fn follow(&mut self, now: Duration) -> Vec<Owner> {
        let mut removed = Vec::new();
        for change in self.tree.as_mut().map(|tree| tree.poll(now)).unwrap_or_default() {
            match change {
                Change::Added { path, id, absent_at } => {
                    let owner: Owner = match self.containers.classify(&path) {
                        Class::Owned { cgroup } => cgroup.into(),
                        Class::Plain | Class::Group => path.as_str().into(),
                    };
                    if *owner == *path {
                        self.containers.prefetch(&path);
                        self.absent.insert(Arc::clone(&owner), absent_at);
                    }
                    self.by_id.insert(id, owner);
                }
                Change::Removed { path, id } => {
                    self.gone.push_back(id);
                    if let Some((owner, _)) = self.absent.remove_entry(path.as_str()) {
                        removed.push(owner);
                    }
                }
            }
        }
        while self.gone.len() > GONE {
            self.gone.pop_front().and_then(|id| self.by_id.remove(&id));
        }
        removed
    }

    /// Of a cgroup that came and went between two looks only the id is known.
    pub(super) fn of(&self, id: u64) -> Owner {
        self.by_id.get(&id).cloned().unwrap_or_else(|| format!("cgroup {id}").into())
    }

    /// Whether a workload can be told by it: the host and what only groups others cannot.
    pub(super) fn is_workload(&self, owner: &Owner) -> bool {
        self.absent.contains_key(owner) && !matches!(self.containers.classify(owner), Class::Group)
    }

    /// The last time at which the owner did not exist; `None` if it was there before anybody looked.
    pub(super) fn absent_at(&self, owner: &Owner) -> Option<Duration> {
        self.absent.get(owner).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        cgroup::{Hierarchies, id},
        containers,
    };

    #[test]
    fn what_is_nested_in_a_unit_is_the_units_also_when_it_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let hierarchies = Hierarchies { cpu: Some(root.path().into()), ..Default::default() };
        let settings = containers::Settings::try_from(containers::Raw::default()).unwrap();
        let metrics = containers::Metrics::new().unwrap();
        let (containers, _task) = Containers::shipped(&settings, &hierarchies, metrics);
        let mut owners = Owners::new(&Environment { hierarchies, ..Default::default() }, containers);
        owners.follow(Duration::from_secs(1));
        let unit = root.path().join("system.slice/web.service");
        fs::create_dir_all(unit.join("inner")).unwrap();
        let inner = id(&unit.join("inner")).unwrap();
        owners.follow(Duration::from_secs(2));
        let owner = owners.of(inner);
        assert_eq!(&*owner, "/system.slice/web.service");
        assert_eq!((owners.absent_at(&owner), owners.is_workload(&owner)), (Some(Duration::from_secs(1)), true));
        assert!(!owners.is_workload(&owners.of(id(root.path()).unwrap())));
        fs::remove_dir_all(&unit).unwrap();
        assert_eq!(owners.follow(Duration::from_secs(3)), [Arc::clone(&owner)]);
        assert_eq!(owners.of(inner), owner);
        assert_eq!(&*owners.of(u64::MAX), "cgroup 18446744073709551615");
    }
}
