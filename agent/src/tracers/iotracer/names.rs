//! Whom cgroups belong to, asked once for each that the evidence speaks of.

use std::collections::{HashMap, HashSet};

use galen_bpf::Owner;
use galen_proto::v1::Container;
use serde::Serialize;

use super::evidence::Evidence;
use crate::containers::Containers;

pub(super) struct Names {
    by_owner: HashMap<Owner, Container>,
}

/// Where something runs: both are empty for the machine itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub(super) struct Place {
    /// Name of the container, the service or the cgroup.
    pub container: String,
    pub cgroup: String,
}

impl Names {
    pub(super) async fn resolve(evidence: &Evidence, containers: &Containers) -> Self {
        let mut by_owner = HashMap::new();
        for owner in owners(evidence) {
            let container = match evidence.cgroups.get(&owner) {
                Some(path) => containers.resolve(path).await,
                None => {
                    let name = format!("a cgroup that is gone ({})", owner.cgroup);
                    Container { name: name.clone(), cgroup: name, ..Default::default() }
                }
            };
            by_owner.insert(owner, container);
        }
        Self { by_owner }
    }

    pub(super) fn place(&self, owner: Option<Owner>) -> Place {
        let container = owner.and_then(|owner| self.by_owner.get(&owner));
        container.map_or_else(Place::default, |container| Place {
            container: container.name.clone(),
            cgroup: container.cgroup.clone(),
        })
    }

    pub(super) fn container(&self, cgroup: &str) -> Option<&Container> {
        self.by_owner.values().find(|container| container.cgroup == cgroup)
    }
}

fn owners(evidence: &Evidence) -> HashSet<Owner> {
    let of_requests = evidence.usage.iter().map(|usage| usage.user.owner);
    let of_files = evidence.files.iter().map(|usage| usage.owner);
    let of_waits = evidence.waiters.iter().map(|waiter| waiter.owner);
    let of_stalls = evidence.stalls.iter().chain(&evidence.waiting).map(|stall| stall.owner);
    of_requests.chain(of_files).chain(of_waits).chain(of_stalls).flatten().collect()
}
