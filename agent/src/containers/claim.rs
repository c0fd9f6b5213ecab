//! What the path of a cgroup says of its owner.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::cgroup::ancestry;

/// Hex digits of a container's id.
const ID_LENGTH: usize = 64;
/// How the names of containers begin, and whose they are; a bare id may be anybody's.
const PREFIXES: [(&str, &str); 5] =
    [("", ""), ("docker", "docker"), ("libpod", "podman"), ("cri-containerd", "containerd"), ("crio", "cri-o")];

/// A runtime's word on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    /// Cgroup of the owner: the path, or an ancestor of it.
    pub cgroup: &'a str,
    /// The runtime's id, or empty.
    pub id: &'a str,
    /// A name that needs no asking, or empty.
    pub name: &'a str,
    /// The runtime, where the path says more than who claims it, or empty.
    pub runtime: &'static str,
    /// Of the pod, as the path has it, or empty.
    pub pod_uid: &'a str,
    pub qos: Option<Qos>,
    /// It groups others: it has a name, and is nobody's workload.
    pub group: bool,
}

/// Quality of service of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(inline)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl<'a> Claim<'a> {
    /// That nothing but the cgroup is known.
    pub fn of(cgroup: &'a str) -> Self {
        Self { cgroup, id: "", name: "", runtime: "", pod_uid: "", qos: None, group: false }
    }

    /// What it is asked for and cached by; empty if there is nothing to ask.
    pub(super) fn key(&self) -> &'a str {
        if self.id.is_empty() { self.pod_uid } else { self.id }
    }

    /// The pod's uid as Kubernetes has it.
    pub fn uid(&self) -> Cow<'a, str> {
        if self.pod_uid.contains('_') { self.pod_uid.replace('_', "-").into() } else { self.pod_uid.into() }
    }
}

impl Qos {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The outermost container of `path`, if its name begins with one of `prefixes` (`docker` for `docker-<id>.scope`,
/// nothing for a bare id).
pub(super) fn outermost<'a>(path: &'a str, prefixes: &[&str]) -> Option<Claim<'a>> {
    let containers = ancestry(path).filter_map(|cgroup| {
        let (parent, name) = cgroup.rsplit_once('/')?;
        let (prefix, id) = container_id(name)?;
        // Podman's pods have ids of the same form.
        (!prefix.is_empty() || !parent.ends_with("/libpod_parent")).then_some((cgroup, prefix, id))
    });
    let (cgroup, prefix, id) = containers.last()?;
    prefixes.contains(&prefix).then(|| Claim { id, runtime: runtime_of(prefix), ..Claim::of(cgroup) })
}

/// The prefix and the id in the name of a container's cgroup.
pub(super) fn container_id(name: &str) -> Option<(&str, &str)> {
    let (prefix, id) = match name.strip_suffix(".scope") {
        Some(scope) => scope.rsplit_once('-')?,
        None => name.rsplit_once('-').unwrap_or(("", name)),
    };
    (is_id(id) && PREFIXES.iter().any(|(known, _)| *known == prefix)).then_some((prefix, id))
}

pub(super) fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The runtime that begins the names of its cgroups so; empty if that does not say.
pub(super) fn runtime_of(prefix: &str) -> &'static str {
    PREFIXES.iter().find(|(known, _)| *known == prefix).map(|(_, runtime)| *runtime).unwrap_or_default()
}
